//! What a kind of actor gives the runtime, beside its rules and its tables.

use crate::actor::rules::Rules;
use crate::actor::tasks::Task;
use crate::base::Key;
use crate::domain::kind::Event;
use crate::storage;
use crate::storage::file::ActorFile;
use crate::storage::file::Tables;
use crate::storage::file::Timer;
use crate::storage::journal::Entry;
use crate::storage::journal::Idempotent;
use crate::wire::ask::AnswerOf;
use crate::wire::ask::Asks;
use crate::wire::ask::Backlog;
use crate::wire::ask::Idempotency;
use crate::wire::ask::Refusal;

/// The file of an actor of kind `K`.
pub(super) type FileOf<K> = ActorFile<<K as Hosted>::Tables>;

/// What a command leads to.
pub(super) struct Decision<K: Hosted> {
    /// What happens; empty if the command was carried out before.
    pub events: Vec<K::Event>,
    /// What the caller hears once the events are durable.
    pub outcome: K::Outcome,
}

/// Why there is no decision.
pub(super) enum Stop<R> {
    /// The rules refuse.
    Rejected(R),
    /// Something else refuses.
    Refused(Refusal),
    /// The past could not be read.
    File(storage::Error),
}

/// What a command was turned into.
pub(super) struct Applied<'a, E> {
    /// What happened.
    pub events: &'a [E],
    /// How the journal will hold that.
    pub entries: &'a [Entry],
    /// Seq of the first of them.
    pub first_seq: u64,
}

/// What is to be done about a timer that is due.
pub(super) enum Due<C> {
    /// This; the event that it leads to takes the timer away, so that neither a crash nor a full disk loses it.
    Command(C),
    /// Nothing more: it goes.
    Done,
    /// Nothing more: it was seen to, and set again if there is more to do later.
    Kept,
    /// It was set by a newer program, perhaps, which may be back before the last try.
    Unknown,
}

/// What a kind of actor gives the runtime.
pub(super) trait Hosted: Asks {
    /// What happens in it.
    type Event: Event;
    /// What it keeps in its file.
    type Tables: Tables<Event = Self::Event>;
    /// What a caller will hear, before it is known where it stands in the log.
    type Outcome;
    /// What an event starts once it is durable.
    type Effect: Send + 'static;
    /// What of this process works for it, as the task of a turn; it outlives the file in memory.
    type Tasks: Default + Send + 'static;

    /// What `command` does, or why not.
    fn decide(
        file: &FileOf<Self>,
        command: Self::Command,
        rules: &Rules<'_>,
        now_ms: i64,
    ) -> Result<Decision<Self>, Stop<Self::Rejection>>;

    /// What the actor `from` tells it leads to; nothing, in a kind that is told nothing. It is heard whatever that is.
    fn told(
        file: &FileOf<Self>,
        from: &Key,
        body: &str,
        rules: &Rules<'_>,
        now_ms: i64,
    ) -> Result<Vec<Self::Event>, storage::Error> {
        let _ = (file, body, rules, now_ms);
        tracing::warn!("{from:?} tells something to an actor that is told nothing");
        Ok(Vec::new())
    }

    /// The actor as it is, as an event: it changes nothing.
    fn unchanged(file: &FileOf<Self>) -> Self::Event;

    /// What `event`, which was just applied, starts.
    fn effect(file: &FileOf<Self>, event: &Self::Event) -> Option<Self::Effect>;

    /// What the caller hears.
    fn answer(
        file: &FileOf<Self>,
        outcome: Self::Outcome,
        applied: &Applied<'_, Self::Event>,
    ) -> Self::Answer;

    /// What a repeat of the request that is answered with `answer` will hear.
    fn keep(
        file: &FileOf<Self>,
        answer: &Self::Answer,
        idempotency: Idempotency,
    ) -> Option<Idempotent>;

    /// What a repeat hears, whose request led to event `seq`.
    fn replayed(earlier: Idempotent, seq: u64) -> Self::Answer;

    /// What `query` asks. Nothing of it may be told before everything in the file is durable.
    fn query(
        file: &mut FileOf<Self>,
        query: Self::Query,
        epoch: u64,
    ) -> Result<AnswerOf<Self>, storage::Error>;

    /// The actor as it is, for a reader whom the log cannot serve.
    fn snapshot(file: &FileOf<Self>) -> Result<Self::Snapshot, storage::Error>;

    /// What a subscriber hears.
    fn subscribed(backlog: Backlog<Self::Snapshot>) -> Self::Answer;

    /// Notes that `effect` starts, and makes the task of it.
    fn start(tasks: &mut Self::Tasks, effect: Self::Effect) -> Box<dyn Task>;

    /// Tells the tasks what became of the actor. If the rows say that one works and none does, the command that makes
    /// them true. `woken`: the file was just opened.
    fn attend(tasks: &mut Self::Tasks, file: &FileOf<Self>, woken: bool) -> Option<Self::Command>;

    /// Whether the rows say that a task works.
    fn works(file: &FileOf<Self>) -> bool;

    /// Whether a task works; `None` if there is none to ask.
    fn is_alive(tasks: &Self::Tasks) -> Option<bool>;

    /// Cuts off what works, since the process ends: the command that says so in the rows, if there is something to say.
    fn interrupt(tasks: &mut Self::Tasks) -> Option<Self::Command>;

    /// What is to be done about `timer`, which is due.
    fn due(file: &mut FileOf<Self>, timer: &Timer) -> Result<Due<Self::Command>, storage::Error>;
}
