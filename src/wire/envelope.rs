//! What can be asked of an actor, and what it answers: the same on this node and between nodes.

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;
use serde::Deserialize;
use serde::Serialize;

use crate::base::Classify;
use crate::base::Kind;
use crate::base::ids::IdempotencyKey;
use crate::base::limits::Limit;
use crate::base::metric;
use crate::domain::kind::StoredEvent;
use crate::domain::session::Command;
use crate::domain::session::Direction;
use crate::domain::session::Head;
use crate::domain::session::Item;
use crate::domain::session::Message;
use crate::domain::session::Page;
use crate::domain::session::Rejection;
use crate::domain::session::SharedPage;
use crate::domain::session::Turn;
use crate::wire::feed::Queue;

/// The idempotency key of a command and a hash of the command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Idempotency {
    /// As the client sent it.
    pub key: IdempotencyKey,
    /// Of what is wanted, however it was written and over whatever transport it came.
    pub request: [u8; 16],
    /// The key of the try, where `key` names an operation that several requests may ask for.
    pub tried_with: Option<IdempotencyKey>,
}

impl Idempotency {
    /// The idempotency of `command` under `key`.
    #[must_use]
    pub fn new(key: IdempotencyKey, command: &Command) -> Self {
        let json = serde_json::to_vec(&*command.as_asked()).expect("commands are plain JSON");
        Self { key, request: hash(&json), tried_with: None }
    }

    /// The same, of a request that wants `more` as well.
    #[must_use]
    pub fn and(mut self, more: &impl Serialize) -> Self {
        let json = serde_json::to_vec(&(self.request, more)).expect("requests are plain JSON");
        self.request = hash(&json);
        self
    }

    /// As [`Idempotency::new`], whatever the order of the keys in the JSON that `command` holds.
    #[must_use]
    pub fn unordered(key: IdempotencyKey, command: &Command) -> Self {
        let value = serde_json::to_value(command).expect("commands are plain JSON");
        Self { key, request: hash(value.to_string().as_bytes()), tried_with: None }
    }
}

fn hash(bytes: &[u8]) -> [u8; 16] {
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    hash
}

/// What is asked of an actor.
pub enum Request {
    /// Change something.
    Command(Command, Option<Idempotency>),
    /// Read something.
    Query(Query),
    /// The log from a place on, then everything that happens, into a queue: of this process, so this cannot be sent on.
    Subscribe {
        /// The seq before the first; `None`: only what happens from now on.
        after: Option<u64>,
        /// Where to.
        queue: Arc<Queue>,
        /// Whether a session that does not exist may be waited for.
        absent_ok: bool,
    },
}

/// What can be read. A query sees everything that was acknowledged before it came.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub enum Query {
    /// The session itself.
    Session,
    /// How many messages.
    Count,
    /// One message.
    Message(String),
    /// A page from a place on.
    Page {
        /// Where.
        direction: Direction,
        /// How many at most.
        limit: usize,
        /// Without messages that are being written or were deleted.
        settled: bool,
    },
    /// A page from a message on.
    PageFrom {
        /// The message.
        id: String,
        /// Towards newer messages.
        newer: bool,
        /// How many at most.
        limit: usize,
        /// Without messages that are being written or were deleted.
        settled: bool,
    },
    /// A turn, and the message that it wrote.
    Turn(String),
    /// A page of the log.
    Events {
        /// The seq before the first.
        after: u64,
    },
    /// The newest messages up to `until`, as a model is given them.
    Transcript {
        /// The message that is answered; those behind it are not given.
        until: String,
        /// The message that is written, given as far as it is.
        draft: String,
        /// Bytes of the messages, about; the newest come first.
        bytes: usize,
    },
    /// A page of the messages of a branch, oldest first.
    Branch {
        /// Its name.
        branch: u64,
        /// The seq before the first.
        after: u64,
        /// How many at most.
        limit: usize,
    },
    /// The names of the branches, oldest first, each with the seq of its first message and how many it has.
    Branches,
    /// The last items of an agent, oldest first: of those a page; the rest is read with [`Query::ItemsFrom`].
    Items {
        /// How many at most.
        limit: usize,
    },
    /// The item of an agent with this id.
    Item(String),
    /// A page of an agent's items, in the order of the walk.
    ItemsFrom {
        /// The id of the item before the first; `None`: from the end where the walk begins.
        after: Option<String>,
        /// Towards newer items.
        newer: bool,
        /// How many at most.
        limit: usize,
    },
    /// What was answered to an earlier request with this key: [`Answer::Replayed`], or [`Answer::Done`] if nothing was.
    Repeat(Idempotency),
    /// Only wake.
    Wake,
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "session",
            Self::Count => "count",
            Self::Message(_) => "message",
            Self::Page { .. } | Self::PageFrom { .. } => "page",
            Self::Turn(_) => "turn",
            Self::Events { .. } => "events",
            Self::Transcript { .. } => "transcript",
            Self::Branch { .. } | Self::Branches => "branch",
            Self::Items { .. } | Self::Item(_) | Self::ItemsFrom { .. } => "items",
            Self::Repeat(_) => "repeat",
            Self::Wake => "wake",
        })
    }
}

/// What an actor answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// A message, as JSON.
    Message {
        /// The JSON.
        json: ByteString,
        /// Seq of the event that stored it.
        seq: u64,
        /// Whether this request made it.
        created: bool,
        /// Whether this is the stored answer to an earlier request with the same key.
        replayed: bool,
    },
    /// The stored answer to an earlier request with the same key.
    Replayed {
        /// HTTP status.
        status: u16,
        /// The body.
        json: ByteString,
        /// Seq of the first event that the request led to.
        seq: u64,
    },
    /// A turn as it is, and the message that it wrote, in whatever branch.
    Answered {
        /// The turn.
        turn: Box<Turn>,
        /// Seq of the event that announced it.
        seq: u64,
        /// The message; `None` if the turn was given up before it began.
        message: Option<Box<Message>>,
    },
    /// The session.
    Session {
        /// As it is.
        head: Box<Head>,
        /// Whether this request made it.
        created: bool,
    },
    /// A turn that was accepted, goes on or ends.
    Turn {
        /// As it is.
        turn: Box<Turn>,
        /// Seq of the event that says so; of a turn that was accepted before, of the event that began its answer.
        seq: u64,
    },
    /// Items were added or taken back.
    Items {
        /// How many there are.
        count: u64,
        /// Those that were asked for or added.
        items: Vec<Item>,
        /// Whether more were asked for than a page holds.
        more: bool,
    },
    /// The item that was taken back.
    Popped(Option<Item>),
    /// What a model is given of the conversation, oldest first.
    Transcript(Vec<Message>),
    /// Messages.
    Page(Arc<SharedPage>),
    /// One message.
    Found(Box<Message>),
    /// How many.
    Count(u64),
    /// Branches: name, seq of the first message, number of messages.
    Branches(Vec<(u64, u64, u64)>),
    /// A page of the log; what a subscriber gets before its queue.
    Subscribed(Box<Backlog>),
    /// Done, at this seq.
    Done {
        /// Seq of the event, or of the last one if nothing had to be done.
        seq: u64,
    },
}

/// What a subscriber gets before its queue.
#[derive(Debug, Serialize, Deserialize)]
pub struct Backlog {
    /// Where the log ends.
    pub last_seq: u64,
    /// Set if the log does not reach back: everything before `events` as it is.
    pub snapshot: Option<Snapshot>,
    /// Events, oldest first.
    pub events: Vec<StoredEvent>,
    /// Whether there is more in the log: subscribe again after the last of `events`.
    pub more: bool,
}

/// Why the log cannot serve a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Events behind the reader are gone without a frame that stands for them.
    LogTrimmed,
    /// The reader is beyond the end: it was connected to something else.
    AheadOfLog,
}

/// A session as it is at a seq.
#[derive(Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// Why the log could not serve.
    pub reason: Reason,
    /// The session.
    pub head: Box<Head>,
    /// Its latest messages.
    pub page: Page,
}

/// Why an actor does not answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// The rules refuse.
    #[error("{0}")]
    Rejected(Arc<Rejection>),
    /// A bound was hit.
    #[error("too much waits for this session")]
    Overloaded(Limit),
    /// The key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The disk failed in the middle of the write.
    #[error(
        "the disk failed while the change was written, whether it was kept is not known yet: retry with the same key"
    )]
    OutcomeUnknown,
    /// The disk is full; reads go on.
    #[error("the disk is full: nothing is stored until there is space again, reading goes on")]
    DiskFull,
    /// The session's file is full; reads and deletes go on.
    #[error("the session has reached its largest size, reading and deleting go on")]
    SessionFull,
    /// The session's file cannot be used; an operator must look.
    #[error("the session cannot be opened: {0}")]
    Quarantined(Arc<str>),
    /// The session had to be dropped from memory; what was acknowledged is safe.
    #[error(
        "the session was reset, whether the change was kept is not known: retry with the same key"
    )]
    Reset,
    /// The process ends.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The process began a short while ago.
    #[error("the server has just started and is still looking through its sessions: try again")]
    Starting,
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        if let Rejection::Limit { limit, .. } = rejection {
            metric::counters().limit_hit(limit);
        }
        Self::Rejected(Arc::new(rejection))
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Rejected(rejection) => rejection.kind(),
            Self::Overloaded(_) => Kind::Overloaded,
            Self::KeyReused => Kind::Invalid,
            Self::Quarantined(_) => Kind::Corrupt,
            Self::OutcomeUnknown
            | Self::DiskFull
            | Self::SessionFull
            | Self::Reset
            | Self::ShuttingDown
            | Self::Starting => Kind::Unavailable,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.code(),
            Self::Overloaded(limit) => limit.code(),
            Self::KeyReused => "idempotency_key_reused",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::DiskFull => Limit::Disk.code(),
            Self::SessionFull => Limit::Session.code(),
            Self::Quarantined(_) => "quarantined",
            Self::Reset => "actor.reset",
            Self::ShuttingDown => "shutting_down",
            Self::Starting => "starting",
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command, _) => f.write_str(command.name()),
            Self::Query(query) => query.fmt(f),
            Self::Subscribe { .. } => f.write_str("subscribe"),
        }
    }
}

impl Request {
    /// About how many bytes it holds.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Command(command, _) => command.size(),
            Self::Query(_) | Self::Subscribe { .. } => 128,
        }
    }
}

#[cfg(test)]
mod tests;
