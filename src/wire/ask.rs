//! What can be asked of an actor, whatever its kind: the same on this node and between nodes.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::Classify;
use crate::base::Kind;
use crate::base::ids::ActorKind;
use crate::base::ids::IdempotencyKey;
use crate::base::limits::Limit;
use crate::base::metric;
use crate::domain::kind::StoredEvent;
use crate::wire::feed::Queue;

/// A kind of actor, as those see it who ask it. All of it is plain data that survives bytes.
pub trait Asks: Sized + Send + Sync + 'static {
    /// Which kind.
    const KIND: ActorKind;
    /// What can be wanted of it.
    type Command: Command;
    /// What can be read of it.
    type Query: fmt::Debug + Send + 'static;
    /// What it answers.
    type Answer: fmt::Debug + Send + 'static;
    /// Its own "no".
    type Rejection: Rejects;
    /// The actor as it is, for a reader whom its log cannot serve.
    type Snapshot: fmt::Debug + Send + 'static;

    /// Whether `query` only wakes it, so that it may sleep again at once.
    fn is_wake(query: &Self::Query) -> bool;

    /// What is heard by one who ended an actor that could not be read.
    fn ended() -> Self::Answer;
}

/// What an actor of kind `K` answers, or why it does not.
pub type AnswerOf<K> = Result<<K as Asks>::Answer, Error<<K as Asks>::Rejection>>;

/// What somebody wants of an actor.
pub trait Command: Clone + Send + Serialize + DeserializeOwned + 'static {
    /// Its name in metrics.
    fn name(&self) -> &'static str;

    /// About how many bytes it holds, for the bounds of a mailbox.
    fn size(&self) -> usize;

    /// Whether it makes an actor that does not exist.
    fn may_create(&self) -> bool;

    /// Whether it makes room in an actor that has reached its largest size.
    fn frees(&self) -> bool;

    /// Whether it ends the actor, which is possible without reading it.
    fn ends(&self) -> bool;
}

/// An actor's own "no". Nothing changed.
pub trait Rejects: Classify + std::error::Error + Clone + Send + Sync + 'static {
    /// Nothing ever happened under this name.
    fn absent() -> Self;

    /// The actor has ended, its name stays taken.
    fn ended() -> Self;

    /// The bound that was hit, if that is why.
    fn limit(&self) -> Option<Limit>;
}

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
    /// The idempotency of a request for `wanted` under `key`.
    #[must_use]
    pub fn of(key: IdempotencyKey, wanted: &impl Serialize) -> Self {
        let json = serde_json::to_vec(wanted).expect("requests are plain JSON");
        Self { key, request: hash(&json), tried_with: None }
    }

    /// The same, of a request that wants `more` as well.
    #[must_use]
    pub fn and(mut self, more: &impl Serialize) -> Self {
        let json = serde_json::to_vec(&(self.request, more)).expect("requests are plain JSON");
        self.request = hash(&json);
        self
    }

    /// As [`Idempotency::of`], whatever the order of the keys in the JSON that `wanted` holds.
    #[must_use]
    pub fn unordered(key: IdempotencyKey, wanted: &impl Serialize) -> Self {
        let value = serde_json::to_value(wanted).expect("requests are plain JSON");
        Self { key, request: hash(value.to_string().as_bytes()), tried_with: None }
    }
}

fn hash(bytes: &[u8]) -> [u8; 16] {
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    hash
}

/// What is asked of an actor of kind `K`.
pub enum Request<K: Asks> {
    /// Change something.
    Command(K::Command, Option<Idempotency>),
    /// Read something.
    Query(K::Query),
    /// The log from a place on, then everything that happens, into a queue: of this process, so this cannot be sent on.
    Subscribe {
        /// The seq before the first; `None`: only what happens from now on.
        after: Option<u64>,
        /// Where to.
        queue: Arc<Queue>,
        /// Whether an actor that does not exist may be waited for.
        absent_ok: bool,
    },
}

impl<K: Asks> fmt::Debug for Request<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command, _) => f.write_str(command.name()),
            Self::Query(query) => query.fmt(f),
            Self::Subscribe { .. } => f.write_str("subscribe"),
        }
    }
}

impl<K: Asks> Request<K> {
    /// About how many bytes it holds.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Command(command, _) => command.size(),
            Self::Query(_) | Self::Subscribe { .. } => 128,
        }
    }
}

/// What a subscriber gets before its queue.
#[derive(Debug, Serialize, Deserialize)]
pub struct Backlog<S> {
    /// The life of the actor's owner.
    pub epoch: u64,
    /// Where the log ends.
    pub last_seq: u64,
    /// Set if the log does not reach back: everything before `events` as it is, and why.
    pub snapshot: Option<(Reason, S)>,
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

/// Why an actor does not answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum Error<R> {
    /// The rules refuse.
    #[error("{0}")]
    Rejected(Arc<R>),
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
    /// The actor's file is full; reads and deletes go on.
    #[error("the session has reached its largest size, reading and deleting go on")]
    FileFull,
    /// The actor's file cannot be used; an operator must look.
    #[error("the session cannot be opened: {0}")]
    Quarantined(Arc<str>),
    /// The actor had to be dropped from memory; what was acknowledged is safe.
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

/// Why the runtime refuses, whatever the kind of the actor.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// Nothing ever happened under this name.
    Absent,
    /// The actor has ended.
    Ended,
    /// Something else than a rule.
    Failed(Error<Never>),
}

/// What no rule says.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Never {}

impl From<Error<Never>> for Refusal {
    fn from(error: Error<Never>) -> Self {
        Self::Failed(error)
    }
}

impl<R: Rejects> From<R> for Error<R> {
    fn from(rejection: R) -> Self {
        if let Some(limit) = rejection.limit() {
            metric::counters().limit_hit(limit);
        }
        Self::Rejected(Arc::new(rejection))
    }
}

impl<R: Rejects> From<Refusal> for Error<R> {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Absent => R::absent().into(),
            Refusal::Ended => R::ended().into(),
            Refusal::Failed(error) => match error {
                Error::Rejected(never) => match *never {},
                Error::Overloaded(limit) => Self::Overloaded(limit),
                Error::KeyReused => Self::KeyReused,
                Error::OutcomeUnknown => Self::OutcomeUnknown,
                Error::DiskFull => Self::DiskFull,
                Error::FileFull => Self::FileFull,
                Error::Quarantined(why) => Self::Quarantined(why),
                Error::Reset => Self::Reset,
                Error::ShuttingDown => Self::ShuttingDown,
                Error::Starting => Self::Starting,
            },
        }
    }
}

impl<R: Classify> Classify for Error<R> {
    fn kind(&self) -> Kind {
        match self {
            Self::Rejected(rejection) => rejection.kind(),
            Self::Overloaded(_) => Kind::Overloaded,
            Self::KeyReused => Kind::Invalid,
            Self::Quarantined(_) => Kind::Corrupt,
            Self::OutcomeUnknown
            | Self::DiskFull
            | Self::FileFull
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
            Self::FileFull => Limit::Session.code(),
            Self::Quarantined(_) => "quarantined",
            Self::Reset => "actor.reset",
            Self::ShuttingDown => "shutting_down",
            Self::Starting => "starting",
        }
    }
}
