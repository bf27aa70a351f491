//! One batch of one session: commands become events, events become rows and a journal record; answers wait for it.

use std::collections::VecDeque;

use bytestring::ByteString;

use crate::actor::hub::Hub;
use crate::actor::job::Job;
use crate::actor::job::Reply;
use crate::actor::query::answered;
use crate::actor::query::query_file;
use crate::actor::query::subscribe;
use crate::base::clock;
use crate::base::ids;
use crate::base::ids::IdempotencyKey;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::base::limits::BATCH_BYTES_MAX;
use crate::base::limits::BATCH_COMMANDS_MAX;
use crate::base::limits::Limits;
use crate::base::metric;
use crate::domain::session::Command;
use crate::domain::session::Context;
use crate::domain::session::Event;
use crate::domain::session::Message;
use crate::domain::session::Outcome;
use crate::domain::session::Stop;
use crate::domain::session::Turn;
use crate::domain::session::TurnState;
use crate::domain::session::View;
use crate::domain::session::decide;
use crate::domain::session::message_of;
use crate::storage;
use crate::storage::journal::Encoded;
use crate::storage::journal::Entry;
use crate::storage::journal::Idempotent;
use crate::storage::journal::Record;
use crate::storage::session::SessionFile;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Idempotency;
use crate::wire::envelope::Request;
use crate::wire::feed::Frame;
use crate::wire::feed::What;

/// What holds while a batch is made.
pub(super) struct Rules<'a> {
    pub limits: &'a Limits,
    pub epoch: u64,
    /// Whether turns may begin; not when the process is about to end.
    pub begins_turns: bool,
    /// Why nothing may be written now, if so.
    pub refuses: Option<Error>,
}

/// A turn that begins: the model is asked once this is durable.
pub(super) struct Start {
    pub turn: Turn,
    /// Parts that its message has already.
    pub parts: usize,
    /// What the provider must be told to go on where it was.
    pub resume: Option<String>,
}

enum Waiting {
    /// The answer.
    Ready(Result<Answer, Error>),
    /// The message of this event of the batch.
    Added(usize),
}

/// Answers and effects that wait for the journal.
#[derive(Default)]
pub(super) struct Batch {
    waiting: Vec<(Reply, Waiting)>,
    entries: Vec<Entry>,
    first_seq: u64,
    /// Turns that begin.
    pub starts: Vec<Start>,
    /// The session ended.
    pub deletes: bool,
    /// Something was removed that the journal still holds.
    pub redacts: bool,
    /// The session is new.
    pub creates: bool,
}

/// What came of a batch.
pub(super) enum Made {
    /// Nothing has to be durable; everybody was answered.
    Nothing,
    /// This must be durable first.
    Record(Batch, Encoded),
    /// The file failed; everybody waits for what that means.
    Failed(Batch, storage::Error),
}

/// Takes what `jobs` holds, up to the bounds of a batch, and carries it out on `file`.
pub(super) fn make(
    file: &mut SessionFile,
    hub: &mut Hub,
    jobs: &mut VecDeque<Job>,
    rules: &Rules<'_>,
) -> Made {
    let head = file.head();
    let (first_seq, previous_hash) = (head.last_seq + 1, head.last_hash);
    let mut batch = Batch { first_seq, creates: !head.exists(), ..Batch::default() };
    let (mut commands, mut bytes) = (0, 0);
    while let Some(job) = jobs.front() {
        let subscribes = matches!(job.request, Request::Subscribe { .. });
        if commands >= BATCH_COMMANDS_MAX || bytes >= BATCH_BYTES_MAX {
            break;
        }
        // A subscriber gets the log up to a durable end and every frame after it.
        if (subscribes && !batch.entries.is_empty()) || batch.deletes {
            break;
        }
        let Some(job) = jobs.pop_front() else { break };
        commands += 1;
        bytes += job.bytes;
        if let Err(error) = batch.carry_out(file, hub, job, rules) {
            return Made::Failed(batch, error);
        }
    }
    if batch.entries.is_empty() {
        return Made::Nothing;
    }
    let entries = std::mem::take(&mut batch.entries);
    let record =
        Record { key: file.key().clone(), epoch: rules.epoch, first_seq, previous_hash, entries };
    let encoded = record.encode();
    batch.entries = record.entries;
    Made::Record(batch, encoded)
}

impl Batch {
    fn carry_out(
        &mut self,
        file: &mut SessionFile,
        hub: &mut Hub,
        job: Job,
        rules: &Rules<'_>,
    ) -> Result<(), storage::Error> {
        let Job { request, reply, .. } = job;
        let done = match request {
            Request::Query(query) => query_file(file, query).map(Waiting::Ready),
            Request::Subscribe { after, queue, absent_ok } => {
                subscribe(file, hub, (after, absent_ok), &queue, rules).map(Waiting::Ready)
            }
            Request::Command(command, idempotency) => {
                self.command(file, command, idempotency, rules)
            }
        };
        match done {
            Ok(Waiting::Ready(answer)) if self.entries.is_empty() => {
                drop(reply.send(answer));
                Ok(())
            }
            Ok(waiting) => {
                self.waiting.push((reply, waiting));
                Ok(())
            }
            Err(error) => {
                self.waiting.push((reply, Waiting::Ready(Err(Error::Reset))));
                Err(error)
            }
        }
    }

    fn command(
        &mut self,
        file: &mut SessionFile,
        command: Command,
        idempotency: Option<Idempotency>,
        rules: &Rules<'_>,
    ) -> Result<Waiting, storage::Error> {
        let ready = |answer| Ok(Waiting::Ready(answer));
        let name = command.name();
        let count = |outcome| metric::counters().commands(name, outcome).inc();
        if let Some(idempotency) = &idempotency
            && let Some(earlier) = answered(file, idempotency)?
        {
            if earlier.is_ok() {
                count("replayed");
            }
            return ready(earlier);
        }
        let frees = matches!(command, Command::Delete | Command::DeleteMessage { .. });
        let context = Context {
            // What a session records is in order, also after its clock was ahead.
            now_ms: clock::now_ms().max(file.head().updated_at_ms),
            new_id: &ids::fresh,
            limits: rules.limits,
            begins_turns: rules.begins_turns,
        };
        let decision = match decide(file, command, &context) {
            Ok(decision) => decision,
            Err(Stop::Rejected(rejection)) => {
                count("rejected");
                return ready(Err(rejection.into()));
            }
            Err(Stop::View(error)) => return Err(error),
        };
        let begins = |event: &Event| matches!(event, Event::Turn(turn) if matches!(turn.state, TurnState::Running | TurnState::Queued));
        if !rules.begins_turns && decision.events.iter().any(begins) {
            return ready(Err(Error::ShuttingDown));
        }
        if let Some(error) = &rules.refuses
            && (!decision.events.is_empty() || idempotency.is_some())
            && !(frees && matches!(error, Error::SessionFull))
        {
            return ready(Err(error.clone()));
        }
        count("accepted");
        let first = self.entries.len();
        self.apply(file, &decision.events, context.now_ms)?;
        if idempotency.is_some() && decision.events.is_empty() && file.head().exists() {
            // Later the same request might do something: that there was nothing to do is remembered with an event, too.
            self.apply(file, &[file.head().unchanged()], context.now_ms)?;
        }
        let answer = self.answer(file, decision.outcome, first, &decision.events)?;
        if let (Some(idempotency), Some(entry)) = (idempotency, self.entries.get_mut(first))
            && let Some(kept) = answer_to_keep(idempotency, &answer, file)
        {
            file.remember(self.first_seq + first as u64, &kept)?;
            entry.idempotent = Some(kept);
        }
        Ok(answer)
    }

    fn apply(
        &mut self,
        file: &mut SessionFile,
        events: &[Event],
        now_ms: i64,
    ) -> Result<(), storage::Error> {
        for event in events {
            let frame = event.encode(file.head().last_seq + 1);
            let entry = Entry {
                number: event.kind() as u8,
                recorded_at_ms: now_ms,
                frame,
                idempotent: None,
            };
            file.apply(event, &entry)?;
            self.entries.push(entry);
            match event {
                Event::Turn(turn) if turn.state == TurnState::Running => {
                    let parts = file.draft().map_or(0, |draft| draft.parts.len());
                    let resume =
                        turn.model.as_ref().and_then(|model| file.head().resume.text(model));
                    self.starts.push(Start { turn: turn.clone(), parts, resume });
                }
                Event::Session { deleted: true, .. } => self.deletes = true,
                Event::MessageDeleted { .. } => self.redacts = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn answer(
        &self,
        file: &SessionFile,
        outcome: Outcome,
        first: usize,
        events: &[Event],
    ) -> Result<Waiting, storage::Error> {
        let seq = match events.is_empty() {
            true => file.head().last_seq,
            false => self.first_seq + first as u64,
        };
        let answer = match outcome {
            Outcome::Added => return Ok(Waiting::Added(first)),
            Outcome::Message(message) => {
                Answer::Message { json: to_json(&message), seq, created: false, replayed: false }
            }
            Outcome::Session { created } => {
                Answer::Session { head: Box::new(file.head().clone()), created }
            }
            Outcome::Turn(turn) => {
                let of = |event: &Event| matches!(event, Event::Turn(of) if of.id == turn.id);
                let seq = match events.iter().position(of) {
                    Some(at) => self.first_seq + (first + at) as u64,
                    None => file.draft().map_or(seq, |draft| draft.message_seq),
                };
                Answer::Turn { turn, seq }
            }
            Outcome::Items { count, items } => Answer::Items { count, items, more: false },
            Outcome::Popped(item) => Answer::Popped(item),
            Outcome::Done => Answer::Done { seq },
        };
        Ok(Waiting::Ready(Ok(answer)))
    }

    /// The gate: what was made is durable. Answers the callers, then gives the frames to the subscribers.
    pub(super) fn release(self, hub: &mut Hub) -> Vec<Start> {
        metric::counters().events_appended.inc_by(self.entries.len() as u64);
        let frames: Vec<Frame> = (self.first_seq..)
            .zip(self.entries)
            .map(|(seq, entry)| Frame {
                seq: Some(seq),
                what: What::Event(entry.number),
                text: entry.frame.into(),
            })
            .collect();
        for (reply, waiting) in self.waiting {
            let answer = match waiting {
                Waiting::Ready(answer) => answer,
                Waiting::Added(at) => {
                    let frame = &frames[at];
                    let json = frame.text.slice_ref(message_of(&frame.text));
                    let seq = self.first_seq + at as u64;
                    Ok(Answer::Message { json, seq, created: true, replayed: false })
                }
            };
            // A caller that went away does not care.
            drop(reply.send(answer));
        }
        if !hub.is_empty() {
            for frame in &frames {
                hub.publish(frame);
            }
        }
        self.starts
    }

    /// Tells everybody that it came to nothing, or that nobody knows.
    pub(super) fn refuse(self, error: &Error) {
        for (reply, waiting) in self.waiting {
            let answer = match waiting {
                Waiting::Ready(Err(own)) if !matches!(own, Error::Reset) => Err(own),
                Waiting::Ready(_) | Waiting::Added(_) => Err(error.clone()),
            };
            drop(reply.send(answer));
        }
    }
}

/// What a repeat of the request that is answered with `answer` will hear.
fn answer_to_keep(
    idempotency: Idempotency,
    answer: &Waiting,
    file: &SessionFile,
) -> Option<Idempotent> {
    let (status, response) = match answer {
        Waiting::Added(_) => (201, None),
        Waiting::Ready(Ok(answer)) => match answer {
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
        },
        Waiting::Ready(Err(_)) => return None,
    };
    let key = idempotency.key.as_str().to_owned();
    Some(Idempotent { key, request: idempotency.request, status, response })
}

fn to_json(message: &Message) -> ByteString {
    serde_json::to_string(message).expect("a message is always JSON").into()
}

#[cfg(test)]
mod tests;
