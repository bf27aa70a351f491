//! What can be asked of a session, and what it answers.

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;
use serde::Deserialize;
use serde::Serialize;

use crate::base::ids::ActorKind;
use crate::base::ids::IdempotencyKey;
use crate::base::limits::Limit;
use crate::domain::session::Command;
use crate::domain::session::Direction;
use crate::domain::session::Head;
use crate::domain::session::Item;
use crate::domain::session::Message;
use crate::domain::session::Page;
use crate::domain::session::Rejection;
use crate::domain::session::SharedPage;
use crate::domain::session::Turn;
use crate::wire::ask;
use crate::wire::ask::Asks;
use crate::wire::ask::Idempotency;

/// Sessions, as those see them who ask them.
#[derive(Debug)]
pub enum SessionKind {}

impl Asks for SessionKind {
    const KIND: ActorKind = ActorKind::Session;
    type Command = Command;
    type Query = Query;
    type Answer = Answer;
    type Rejection = Rejection;
    type Snapshot = Snapshot;

    fn is_wake(query: &Query) -> bool {
        matches!(query, Query::Wake)
    }

    fn ended() -> Answer {
        Answer::Done { seq: 0 }
    }
}

impl ask::Command for Command {
    fn name(&self) -> &'static str {
        self.name()
    }

    fn size(&self) -> usize {
        self.size()
    }

    fn may_create(&self) -> bool {
        self.may_create()
    }

    fn frees(&self) -> bool {
        matches!(self, Self::Delete | Self::DeleteMessage { .. })
    }

    fn ends(&self) -> bool {
        matches!(self, Self::Delete)
    }
}

impl ask::Rejects for Rejection {
    fn absent() -> Self {
        Self::SessionNotFound
    }

    fn ended() -> Self {
        Self::Deleted
    }

    fn limit(&self) -> Option<Limit> {
        match self {
            Self::Limit { limit, .. } => Some(*limit),
            _ => None,
        }
    }
}

/// What is asked of a session.
pub type Request = ask::Request<SessionKind>;
/// Why a session does not answer.
pub type Error = ask::Error<Rejection>;
/// What a subscriber of a session gets before its queue.
pub type Backlog = ask::Backlog<Snapshot>;

impl Idempotency {
    /// The idempotency of `command` under `key`: what the settings of the server add to it does not count.
    #[must_use]
    pub fn new(key: IdempotencyKey, command: &Command) -> Self {
        Self::of(key, &*command.as_asked())
    }
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

/// A session as it is at a seq.
#[derive(Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// The session.
    pub head: Box<Head>,
    /// Its latest messages.
    pub page: Page,
}

#[cfg(test)]
mod tests;
