//! The kind of actor of the tests in the runtime: commands, a query, timers and a subscription, in a hundred lines.

use serde::Deserialize;
use serde::Serialize;

use crate::actor::hosted::Applied;
use crate::actor::hosted::Decision;
use crate::actor::hosted::Due;
use crate::actor::hosted::FileOf;
use crate::actor::hosted::Hosted;
use crate::actor::hosted::Stop;
use crate::actor::rules::Rules;
use crate::actor::tasks::Task;
use crate::base::Classify;
use crate::base::Key;
use crate::base::Kind;
use crate::base::ids::ActorKind;
use crate::base::limits::Limit;
use crate::domain::counter::Event;
use crate::storage;
use crate::storage::counter::CounterTables;
use crate::storage::file::Timer;
use crate::storage::journal::Idempotent;
use crate::wire::ask::AnswerOf;
use crate::wire::ask::Asks;
use crate::wire::ask::Backlog;
use crate::wire::ask::Command as AnyCommand;
use crate::wire::ask::Idempotency;
use crate::wire::ask::Rejects;

/// Counters.
#[derive(Debug)]
pub(super) enum Counter {}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Command {
    /// Grow now.
    Grow(u64),
    /// Grow then.
    Later { timer: String, by: u64, at_ms: i64 },
    /// `timer` is due.
    Fire { timer: String, by: u64 },
    /// Tell another one to grow.
    Tell { to: String, by: u64 },
    /// Tell another one the value.
    Report { to: String },
    /// End.
    End,
}

/// Its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read;

#[derive(Debug)]
pub(super) enum Answer {
    /// The value, and the seq as of which it is that.
    Value { value: u64, seq: u64 },
    /// What a subscriber begins with.
    Subscribed(Backlog<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum No {
    #[error("there is no such counter")]
    Absent,
    #[error("the counter has ended")]
    Ended,
}

impl Classify for No {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }

    fn code(&self) -> &'static str {
        "no_counter"
    }
}

impl Rejects for No {
    fn absent() -> Self {
        Self::Absent
    }

    fn ended() -> Self {
        Self::Ended
    }

    fn limit(&self) -> Option<Limit> {
        None
    }
}

impl AnyCommand for Command {
    fn name(&self) -> &'static str {
        match self {
            Self::Grow(_) => "grow",
            Self::Later { .. } => "later",
            Self::Fire { .. } => "fire",
            Self::Tell { .. } => "tell",
            Self::Report { .. } => "report",
            Self::End => "end",
        }
    }

    fn size(&self) -> usize {
        64
    }

    fn may_create(&self) -> bool {
        !matches!(self, Self::Fire { .. } | Self::End)
    }

    fn frees(&self) -> bool {
        self.ends()
    }

    fn ends(&self) -> bool {
        matches!(self, Self::End)
    }
}

impl Asks for Counter {
    const KIND: ActorKind = ActorKind::Counter;
    type Command = Command;
    type Query = Read;
    type Answer = Answer;
    type Rejection = No;
    type Snapshot = u64;

    fn is_wake(_: &Read) -> bool {
        false
    }

    fn ended() -> Answer {
        Answer::Value { value: 0, seq: 0 }
    }
}

fn value(file: &FileOf<Counter>) -> Answer {
    Answer::Value { value: file.tables().value, seq: file.log().last_seq }
}

impl Hosted for Counter {
    type Event = Event;
    type Tables = CounterTables;
    type Outcome = ();
    type Effect = std::convert::Infallible;
    type Tasks = ();

    fn decide(
        file: &FileOf<Self>,
        command: Command,
        _: &Rules<'_>,
        _: i64,
    ) -> Result<Decision<Self>, Stop<No>> {
        if file.is_ended() {
            return Err(Stop::Rejected(No::Ended));
        }
        if !file.log().exists() && !command.may_create() {
            return Err(Stop::Rejected(No::Absent));
        }
        let events = match command {
            Command::Grow(0) => Vec::new(),
            Command::Grow(by) => vec![Event::Grew { by, timer: None, from: None }],
            Command::Later { timer, by, at_ms } => vec![Event::Set { timer, by, at_ms }],
            // A timer that is there no more was carried out: once is enough.
            Command::Fire { timer, by } => match file.timer(&timer).map_err(Stop::File)? {
                Some(_) => vec![Event::Grew { by, timer: Some(timer), from: None }],
                None => Vec::new(),
            },
            Command::Tell { to, by } => vec![Event::Told { to, by }],
            Command::Report { to } => vec![Event::Reported { to }],
            Command::End => vec![Event::Ended],
        };
        Ok(Decision { events, outcome: () })
    }

    fn told(
        _: &FileOf<Self>,
        from: &Key,
        body: &str,
        _: &Rules<'_>,
        _: i64,
    ) -> Result<Vec<Event>, storage::Error> {
        let from = from.id().to_owned();
        let number = |text: &str| text.parse().unwrap_or(0);
        Ok(vec![match body.strip_prefix('=') {
            Some(value) => Event::Heard { from, value: number(value) },
            None => Event::Grew { by: number(body), timer: None, from: Some(from) },
        }])
    }

    fn unchanged(_: &FileOf<Self>) -> Event {
        Event::Grew { by: 0, timer: None, from: None }
    }

    fn effect(_: &FileOf<Self>, _: &Event) -> Option<Self::Effect> {
        None
    }

    fn answer(file: &FileOf<Self>, (): (), _: &Applied<'_, Event>) -> Answer {
        value(file)
    }

    fn keep(_: &FileOf<Self>, answer: &Answer, idempotency: Idempotency) -> Option<Idempotent> {
        let Answer::Value { value, .. } = answer else { return None };
        let key = idempotency.key.as_str().to_owned();
        let response = Some(value.to_string());
        Some(Idempotent { key, request: idempotency.request, status: 200, response })
    }

    fn replayed(earlier: Idempotent, seq: u64) -> Answer {
        let value = earlier.response.and_then(|value| value.parse().ok()).unwrap_or(0);
        Answer::Value { value, seq }
    }

    fn query(file: &mut FileOf<Self>, _: Read, _: u64) -> Result<AnswerOf<Self>, storage::Error> {
        Ok(Ok(value(file)))
    }

    fn snapshot(file: &FileOf<Self>) -> Result<u64, storage::Error> {
        Ok(file.tables().value)
    }

    fn subscribed(backlog: Backlog<u64>) -> Answer {
        Answer::Subscribed(backlog)
    }

    fn start((): &mut (), effect: Self::Effect) -> Box<dyn Task> {
        match effect {}
    }

    fn attend((): &mut (), _: &FileOf<Self>, _: bool) -> Option<Command> {
        None
    }

    fn works(_: &FileOf<Self>) -> bool {
        false
    }

    fn is_alive((): &()) -> Option<bool> {
        None
    }

    fn interrupt((): &mut ()) -> Option<Command> {
        None
    }

    fn due(_: &mut FileOf<Self>, timer: &Timer) -> Result<Due<Command>, storage::Error> {
        let by = timer.payload.parse().unwrap_or(0);
        Ok(Due::Command(Command::Fire { timer: timer.id.clone(), by }))
    }
}
