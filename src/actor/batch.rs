//! One batch of one actor: commands become events, events become rows and a journal record; answers wait for it.

use std::collections::VecDeque;

use crate::actor::hosted::Applied;
use crate::actor::hosted::Decision;
use crate::actor::hosted::FileOf;
use crate::actor::hosted::Hosted;
use crate::actor::hosted::Stop;
use crate::actor::hub::Hub;
use crate::actor::job::Job;
use crate::actor::job::Letters;
use crate::actor::job::Replier;
use crate::actor::job::Work;
use crate::actor::rules::Rules;
use crate::actor::subscribe::subscribe;
use crate::base::limits::BATCH_BYTES_MAX;
use crate::base::limits::BATCH_COMMANDS_MAX;
use crate::base::limits::Limit;
use crate::base::limits::OUTBOX_COUNT_MAX;
use crate::base::metric;
use crate::domain::kind::Consequence;
use crate::domain::kind::Event as _;
use crate::storage;
use crate::storage::journal::Encoded;
use crate::storage::journal::Entry;
use crate::storage::journal::Record;
use crate::wire::ask::AnswerOf;
use crate::wire::ask::Command as _;
use crate::wire::ask::Error;
use crate::wire::ask::Idempotency;
use crate::wire::ask::Refusal;
use crate::wire::ask::Request;
use crate::wire::feed::Frame;
use crate::wire::feed::What;

/// Somebody who waits for the journal.
enum Waits<K: Hosted> {
    /// For this answer.
    Answer(Replier<K>, AnswerOf<K>),
    /// To be told that everything up to this letter was heard.
    Heard(Box<Letters>, u64),
}

/// Answers and effects that wait for the journal.
pub(super) struct Batch<K: Hosted> {
    waiting: Vec<Waits<K>>,
    entries: Vec<Entry>,
    first_seq: u64,
    /// What starts.
    pub effects: Vec<K::Effect>,
    pub flags: Flags,
}

/// What a batch means for the actor's file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    /// The actor has ended.
    pub ends: bool,
    /// Something was taken back that the journal still holds.
    pub redacts: bool,
    /// The actor is new.
    pub creates: bool,
}

/// What came of a batch.
pub(super) enum Made<K: Hosted> {
    /// Nothing has to be durable; everybody was answered.
    Nothing,
    /// This must be durable first.
    Record(Batch<K>, Encoded),
    /// The file failed; everybody waits for what that means.
    Failed(Batch<K>, storage::Error),
}

/// Takes what `jobs` holds, up to the bounds of a batch, and carries it out on `file`.
pub(super) fn make<K: Hosted>(
    file: &mut FileOf<K>,
    hub: &mut Hub,
    jobs: &mut VecDeque<Job>,
    rules: &Rules<'_>,
) -> Made<K> {
    let log = file.log();
    let (first_seq, previous_hash) = (log.last_seq + 1, log.last_hash);
    let flags = Flags { creates: !log.exists(), ..Flags::default() };
    let (waiting, entries, effects) = (Vec::new(), Vec::new(), Vec::new());
    let mut batch = Batch { waiting, entries, first_seq, effects, flags };
    let (mut commands, mut bytes) = (0, 0);
    while !jobs.is_empty() && commands < BATCH_COMMANDS_MAX && bytes < BATCH_BYTES_MAX {
        if batch.flags.ends {
            break;
        }
        // A subscriber gets the log up to a durable end and every frame after it.
        let waits = |job: &Job| job.waiting.subscribes();
        if !batch.entries.is_empty() && jobs.front().is_some_and(waits) {
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

impl<K: Hosted> Batch<K> {
    fn carry_out(
        &mut self,
        file: &mut FileOf<K>,
        hub: &mut Hub,
        job: Job,
        rules: &Rules<'_>,
    ) -> Result<(), storage::Error> {
        let (request, reply) = match job.work::<K>() {
            Work::Asked(asked) => asked.split(),
            Work::Letters(letters) => return self.hear(file, letters, rules),
            Work::Wake(mut wake) => {
                wake.done();
                return Ok(());
            }
        };
        let done = match request {
            Request::Query(_) if !file.log().exists() => Ok(Err(Refusal::Absent.into())),
            Request::Query(_) | Request::Subscribe { .. } if file.is_ended() => {
                Ok(Err(Refusal::Ended.into()))
            }
            Request::Query(query) => K::query(file, query, rules.epoch),
            Request::Subscribe { after, queue, absent_ok } => {
                subscribe::<K>(file, hub, (after, absent_ok), &queue, rules)
            }
            Request::Command(command, _) if file.is_ended() && !command.ends() => {
                Ok(Err(Refusal::Ended.into()))
            }
            Request::Command(command, idempotency) => {
                self.command(file, (command, reply.is_heard()), idempotency, rules)
            }
        };
        match done {
            Ok(answer) if self.entries.is_empty() => {
                reply.send(answer);
                Ok(())
            }
            Ok(answer) => {
                self.waiting.push(Waits::Answer(reply, answer));
                Ok(())
            }
            Err(error) => {
                self.waiting.push(Waits::Answer(reply, Err(Error::Reset)));
                Err(error)
            }
        }
    }

    fn command(
        &mut self,
        file: &mut FileOf<K>,
        (command, has_caller): (K::Command, bool),
        idempotency: Option<Idempotency>,
        rules: &Rules<'_>,
    ) -> Result<AnswerOf<K>, storage::Error> {
        let (kind, name) = (K::KIND.as_str(), command.name());
        let count = |outcome| metric::counters().commands(kind, name, outcome).inc();
        if let Some(idempotency) = &idempotency
            && let Some(earlier) = answered::<K>(file, idempotency)?
        {
            if earlier.is_ok() {
                count("replayed");
            }
            return Ok(earlier);
        }
        let frees = command.frees();
        // What the runtime says itself is never too much.
        if has_caller && file.letters_count() >= OUTBOX_COUNT_MAX && !frees {
            metric::counters().limit_hit(Limit::Outbox);
            return Ok(Err(Error::Overloaded(Limit::Outbox)));
        }
        // What an actor records is in order, also after its clock was ahead.
        let now_ms = rules.now_ms.max(file.log().updated_at_ms);
        let Decision { events, outcome } = match K::decide(file, command, rules, now_ms) {
            Ok(decision) => decision,
            Err(Stop::Rejected(rejection)) => {
                count("rejected");
                return Ok(Err(rejection.into()));
            }
            Err(Stop::Refused(refusal)) => return Ok(Err(refusal.into())),
            Err(Stop::File(error)) => return Err(error),
        };
        if let Some(error) = &rules.refuses
            && (!events.is_empty() || idempotency.is_some())
            && !(frees && matches!(error, Error::FileFull))
        {
            return Ok(Err(Refusal::from(error.clone()).into()));
        }
        count("accepted");
        let first = self.entries.len();
        self.apply(file, &events, now_ms)?;
        if idempotency.is_some() && events.is_empty() && file.log().exists() {
            // Later the same request might do something: that there was nothing to do is remembered with an event, too.
            let unchanged = K::unchanged(file);
            self.apply(file, &[unchanged], now_ms)?;
        }
        let first_seq = self.first_seq + first as u64;
        let applied = Applied { events: &events, entries: &self.entries[first..], first_seq };
        let answer = K::answer(file, outcome, &applied);
        if let (Some(idempotency), Some(entry)) = (idempotency, self.entries.get_mut(first))
            && let Some(kept) = K::keep(file, &answer, idempotency)
        {
            file.remember(first_seq, &kept)?;
            entry.idempotent = Some(kept);
        }
        Ok(Ok(answer))
    }

    /// Hears what of `letters` was not heard before, each once, with what makes that durable.
    fn hear(
        &mut self,
        file: &mut FileOf<K>,
        mut letters: Box<Letters>,
        rules: &Rules<'_>,
    ) -> Result<(), storage::Error> {
        let sender = letters.from.hash();
        let mut through = file.heard_of(sender)?;
        if file.is_ended() {
            letters.answer(Err(Refusal::Ended));
            return Ok(());
        }
        let is_full = file.letters_count() >= OUTBOX_COUNT_MAX;
        let full = is_full.then_some(Error::Overloaded(Limit::Outbox));
        if let Some(error) = rules.refuses.clone().or(full) {
            letters.answer(Err(error.into()));
            return Ok(());
        }
        for letter in &letters.letters {
            if letter.number <= through {
                continue;
            }
            let now_ms = rules.now_ms.max(file.log().updated_at_ms);
            let mut events = K::told(file, &letters.from, &letter.body, rules, now_ms)?;
            if events.is_empty() && file.log().exists() {
                events.push(K::unchanged(file));
            }
            let first = self.entries.len();
            self.apply(file, &events, now_ms)?;
            if let Some(entry) = self.entries.get_mut(first) {
                entry.heard = Some((sender, letter.number));
                file.hear(sender, letter.number)?;
            }
            through = letter.number;
        }
        match self.entries.is_empty() {
            true => letters.answer(Ok(through)),
            false => self.waiting.push(Waits::Heard(letters, through)),
        }
        Ok(())
    }

    fn apply(
        &mut self,
        file: &mut FileOf<K>,
        events: &[K::Event],
        now_ms: i64,
    ) -> Result<(), storage::Error> {
        for event in events {
            let frame = event.encode(file.log().last_seq + 1).into();
            let number = event.number();
            let entry =
                Entry { number, recorded_at_ms: now_ms, frame, idempotent: None, heard: None };
            file.apply(event, &entry)?;
            self.entries.push(entry);
            self.effects.extend(K::effect(file, event));
            match event.consequence() {
                Consequence::Ends => self.flags.ends = true,
                Consequence::Redacts => self.flags.redacts = true,
                Consequence::Nothing => {}
            }
        }
        Ok(())
    }

    /// The gate: what was made is durable. Answers the callers, then gives the frames to the subscribers.
    pub(super) fn release(self, hub: &mut Hub) -> (Vec<K::Effect>, Flags) {
        metric::counters().events_appended.inc_by(self.entries.len() as u64);
        for waits in self.waiting {
            match waits {
                Waits::Answer(reply, answer) => reply.send(answer),
                Waits::Heard(mut letters, through) => letters.answer(Ok(through)),
            }
        }
        if !hub.is_empty() {
            for (seq, entry) in (self.first_seq..).zip(self.entries) {
                let what = What::Event(entry.number);
                hub.publish(&Frame { seq: Some(seq), what, text: entry.frame });
            }
        }
        (self.effects, self.flags)
    }

    /// Tells everybody that it came to nothing, or that nobody knows.
    pub(super) fn refuse(self, refusal: &Refusal) {
        for waits in self.waiting {
            match waits {
                Waits::Answer(reply, Err(own)) if !matches!(own, Error::Reset) => {
                    reply.send(Err(own));
                }
                Waits::Answer(reply, _) => reply.send(Err(refusal.clone().into())),
                Waits::Heard(mut letters, _) => letters.answer(Err(refusal.clone())),
            }
        }
    }
}

/// What a request with this key hears that came before, if one did.
pub(super) fn answered<K: Hosted>(
    file: &FileOf<K>,
    idempotency: &Idempotency,
) -> Result<Option<AnswerOf<K>>, storage::Error> {
    let Some((earlier, seq)) = file.answered(idempotency.key.as_str())? else { return Ok(None) };
    if earlier.request != idempotency.request {
        return Ok(Some(Err(Error::KeyReused)));
    }
    Ok(Some(Ok(K::replayed(earlier, seq))))
}

#[cfg(test)]
mod tests;
