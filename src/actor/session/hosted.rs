//! What a session gives the runtime.

use bytestring::ByteString;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::sync::watch;

use crate::actor::hosted::Applied;
use crate::actor::hosted::Decision;
use crate::actor::hosted::Due;
use crate::actor::hosted::Hosted;
use crate::actor::hosted::Stop;
use crate::actor::rules::Rules;
use crate::actor::session::query;
use crate::actor::session::turn::Run;
use crate::actor::session::turn::Start;
use crate::actor::tasks::Post;
use crate::actor::tasks::Task;
use crate::base::ids::IdempotencyKey;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::base::limits::PAGE_DEFAULT;
use crate::domain::session;
use crate::domain::session::Command;
use crate::domain::session::Context;
use crate::domain::session::Direction;
use crate::domain::session::DueTimer;
use crate::domain::session::Event;
use crate::domain::session::Message;
use crate::domain::session::Outcome;
use crate::domain::session::Rejection;
use crate::domain::session::TimerKind;
use crate::domain::session::Turn;
use crate::domain::session::TurnState;
use crate::domain::session::View;
use crate::domain::session::decide;
use crate::domain::session::message_of;
use crate::storage;
use crate::storage::file::Timer;
use crate::storage::journal::Idempotent;
use crate::storage::session::SessionFile;
use crate::storage::session::SessionTables;
use crate::wire::ask::AnswerOf;
use crate::wire::ask::Error;
use crate::wire::ask::Idempotency;
use crate::wire::ask::Refusal;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Backlog;
use crate::wire::envelope::Query;
use crate::wire::envelope::SessionKind;
use crate::wire::envelope::Snapshot;

/// A turn that a task of this process is writing.
struct Writing {
    turn_id: String,
    attempt: u32,
    /// Tells the task to end; dropping it as well.
    stop: watch::Sender<bool>,
}

/// The task of a session's turn, if there is one.
#[derive(Default)]
pub(in crate::actor) struct Tasks(Option<Writing>);

/// The task of a turn before it runs.
pub(in crate::actor) struct TurnTask {
    pub start: Start,
    pub stopped: watch::Receiver<bool>,
}

impl Task for TurnTask {
    fn run(self: Box<Self>, post: Post) -> LocalBoxFuture<'static, ()> {
        Run::new(post, self.start, self.stopped).run().boxed_local()
    }
}

fn to_json(message: &Message) -> ByteString {
    serde_json::to_string(message).expect("a message is always JSON").into()
}

fn active(file: &SessionFile) -> Option<&Turn> {
    file.head().active_turn.as_ref().filter(|turn| turn.state.is_active())
}

impl Hosted for SessionKind {
    type Event = Event;
    type Tables = SessionTables;
    type Outcome = Outcome;
    type Effect = Start;
    type Tasks = Tasks;

    fn decide(
        file: &SessionFile,
        command: Command,
        rules: &Rules<'_>,
        now_ms: i64,
    ) -> Result<Decision<Self>, Stop<Rejection>> {
        let Rules { limits, new_id, begins_turns, .. } = *rules;
        let context = Context { now_ms, new_id, limits, begins_turns };
        let decision = match decide(file, command, &context) {
            Ok(decision) => decision,
            Err(session::Stop::Rejected(rejection)) => return Err(Stop::Rejected(rejection)),
            Err(session::Stop::View(error)) => return Err(Stop::File(error)),
        };
        let begins = |event: &Event| matches!(event, Event::Turn(turn) if matches!(turn.state, TurnState::Running | TurnState::Queued));
        if !begins_turns && decision.events.iter().any(begins) {
            return Err(Stop::Refused(Refusal::Failed(Error::ShuttingDown)));
        }
        let session::Decision { events, outcome } = decision;
        Ok(Decision { events, outcome })
    }

    fn unchanged(file: &SessionFile) -> Event {
        file.head().unchanged()
    }

    fn effect(file: &SessionFile, event: &Event) -> Option<Start> {
        match event {
            Event::Turn(turn) if turn.state == TurnState::Running => {
                let parts = file.draft().map_or(0, |draft| draft.parts.len());
                let resume = turn.model.as_ref().and_then(|model| file.head().resume.text(model));
                Some(Start { turn: turn.clone(), parts, resume })
            }
            _ => None,
        }
    }

    fn answer(file: &SessionFile, outcome: Outcome, applied: &Applied<'_, Event>) -> Answer {
        let Applied { events, entries, first_seq } = *applied;
        let seq = if events.is_empty() { file.head().last_seq } else { first_seq };
        match outcome {
            Outcome::Added => {
                // The JSON of a message is made once: the answer is a piece of what is journalled.
                let frame = &entries[0].frame;
                let json = frame.slice_ref(message_of(frame));
                Answer::Message { json, seq, created: true, replayed: false }
            }
            Outcome::Message(message) => {
                Answer::Message { json: to_json(&message), seq, created: false, replayed: false }
            }
            Outcome::Session { created } => {
                Answer::Session { head: Box::new(file.head().clone()), created }
            }
            Outcome::Turn(turn) => {
                let of = |event: &Event| matches!(event, Event::Turn(of) if of.id == turn.id);
                let seq = match events.iter().position(of) {
                    Some(at) => first_seq + at as u64,
                    None => file.draft().map_or(seq, |draft| draft.message_seq),
                };
                Answer::Turn { turn, seq }
            }
            Outcome::Items { count, items } => Answer::Items { count, items, more: false },
            Outcome::Popped(item) => Answer::Popped(item),
            Outcome::Done => Answer::Done { seq },
        }
    }

    fn keep(file: &SessionFile, answer: &Answer, idempotency: Idempotency) -> Option<Idempotent> {
        let (status, response) = match answer {
            Answer::Message { created: true, .. } => (201, None),
            Answer::Message { json, .. } => (200, Some(json.to_string())),
            Answer::Session { head, created } => {
                let json = serde_json::to_string(&head.session(file.key().id()));
                let json = json.expect("a session is always JSON");
                (if *created { 201 } else { 200 }, Some(json))
            }
            // With the place from which its answer is streamed.
            Answer::Turn { turn, seq } => {
                let turn = Json::of(turn).ok().as_ref().and_then(Object::read).unwrap_or_default();
                (202, Some(turn.with("seq", seq).to_json().as_str().to_owned()))
            }
            Answer::Items { count, .. } => {
                let tried_with = idempotency.tried_with.as_ref().map(IdempotencyKey::as_str);
                let answer = Object::default().with("count", count);
                let answer = match tried_with {
                    Some(key) => answer.with("triedWith", &key),
                    None => answer,
                };
                (200, Some(answer.to_json().as_str().to_owned()))
            }
            Answer::Popped(item) => {
                let json = item.as_ref().map_or("null", |item| item.body.as_str());
                (200, Some(format!("{{\"item\":{json}}}")))
            }
            Answer::Done { .. } => (204, Some(String::new())),
            _ => return None,
        };
        let key = idempotency.key.as_str().to_owned();
        Some(Idempotent { key, request: idempotency.request, status, response })
    }

    fn replayed(earlier: Idempotent, seq: u64) -> Answer {
        let json = earlier.response.unwrap_or_default().into();
        Answer::Replayed { status: earlier.status, json, seq }
    }

    fn query(
        file: &mut SessionFile,
        query: Query,
        epoch: u64,
    ) -> Result<AnswerOf<Self>, storage::Error> {
        query::query(file, query, epoch)
    }

    fn snapshot(file: &SessionFile) -> Result<Snapshot, storage::Error> {
        let page = file.page(Direction::Before(u64::MAX), PAGE_DEFAULT, false)?;
        Ok(Snapshot { head: Box::new(file.head().clone()), page })
    }

    fn subscribed(backlog: Backlog) -> Answer {
        Answer::Subscribed(Box::new(backlog))
    }

    fn start(tasks: &mut Tasks, effect: Start) -> Box<dyn Task> {
        let (stop, stopped) = watch::channel(false);
        let (turn_id, attempt) = (effect.turn.id.clone(), effect.turn.attempt);
        tasks.0 = Some(Writing { turn_id, attempt, stop });
        Box::new(TurnTask { start: effect, stopped })
    }

    fn attend(tasks: &mut Tasks, file: &SessionFile, woken: bool) -> Option<Command> {
        let Some(turn) = active(file) else {
            tasks.0 = None;
            // Turns wait and none runs: the process ended between them.
            return (woken && file.is_unfinished()).then_some(Command::Reconcile);
        };
        let mine = |writing: &&Writing| {
            writing.turn_id == turn.id
                && writing.attempt == turn.attempt
                && !writing.stop.is_closed()
        };
        match tasks.0.as_ref().filter(mine) {
            Some(writing) if turn.state == TurnState::Stopping => {
                // A task that is gone already has posted the end.
                let _gone = writing.stop.send(true);
                None
            }
            Some(_) => None,
            // Whatever the rows say: only a task of this process can be writing.
            None => Some(Command::Reconcile),
        }
    }

    fn works(file: &SessionFile) -> bool {
        active(file).is_some()
    }

    fn is_alive(tasks: &Tasks) -> Option<bool> {
        tasks.0.as_ref().map(|writing| !writing.stop.is_closed())
    }

    fn interrupt(tasks: &mut Tasks) -> Option<Command> {
        // Its task ends with this.
        tasks.0 = None;
        Some(Command::Reconcile)
    }

    fn due(file: &mut SessionFile, timer: &Timer) -> Result<Due<Command>, storage::Error> {
        let Some(kind) = TimerKind::from_name(&timer.kind) else { return Ok(Due::Unknown) };
        Ok(match session::due(file.head(), kind, &timer.id) {
            DueTimer::Command(command) => Due::Command(command),
            DueTimer::Nothing => Due::Done,
            // It sees to its timer itself: there may be more to do later.
            DueTimer::Compact => {
                file.compact()?;
                Due::Kept
            }
        })
    }
}
