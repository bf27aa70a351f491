//! The ledger that writers share while they work, and how one message is posted, noted and retried.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use serde_json::Value;
use serde_json::json;

use super::CANARY;
use super::Entry;
use super::Logs;
use super::Outcome;
use super::chance::Chance;
use super::patience::eventually;
use super::plain_http::Answer;
use super::plain_http::Client;
use super::plain_http::Trouble;

/// Every write of a run; shared by its threads.
#[derive(Default)]
pub struct Ledger {
    clock: AtomicU64,
    entries: Mutex<Vec<Entry>>,
}

impl Ledger {
    /// The entries so far.
    pub fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap()
    }

    /// Notes a write that is about to be sent: its number. `before` is put in front of its unique content.
    pub fn invoke(&self, session: &str, before: &str, chance: &mut Chance) -> usize {
        let padding = if chance.percent(5) { chance.between(500, 9_000) } else { chance.below(80) };
        let content = format!("{before}{CANARY}{:016x} {}", chance.word(), "x".repeat(padding));
        let content = content.trim_end().to_owned();
        let mut entries = self.entries();
        let number = entries.len();
        let invoked = self.tick();
        let outcome = Outcome::Unknown;
        let key = format!("key-{number}-{:08x}", chance.word() >> 32);
        entries.push(Entry {
            session: session.to_owned(),
            key,
            content,
            invoked,
            answered: 0,
            outcome,
        });
        number
    }

    /// A copy of one entry.
    pub fn entry(&self, number: usize) -> Entry {
        self.entries()[number].clone()
    }

    /// Notes the outcome of a write.
    pub fn answer(&self, number: usize, outcome: Outcome) {
        let mut entries = self.entries();
        let answered = self.tick();
        let entry = &mut entries[number];
        if let Outcome::Acked { id: Some(before), seq: Some(at) } = &entry.outcome {
            let same = matches!(&outcome, Outcome::Acked { id: Some(id), seq: Some(seq) } if id == before && seq == at);
            assert!(same, "two answers to one key: {entry:?}, then {outcome:?}");
            return;
        }
        entry.answered = answered;
        entry.outcome = outcome;
    }

    /// Posts one new message and notes its outcome; the status, 0 if there was no answer.
    pub fn post(&self, client: &mut Client, session: &str, chance: &mut Chance) -> u16 {
        let number = self.invoke(session, "", chance);
        self.send(client, number)
    }

    /// Sends entry `number`, for the first time or again; the status, 0 if there was no answer.
    pub fn send(&self, client: &mut Client, number: usize) -> u16 {
        let entry = self.entry(number);
        let path = format!("/v1/sessions/{}/messages", entry.session);
        let body = json!({"role": "user", "content": entry.content});
        let answer = client.call("POST", &path, Some(&entry.key), Some(&body));
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        if let (Outcome::Acked { .. }, Ok(Answer { replayed: false, status: 200 | 201, .. })) =
            (&entry.outcome, &answer)
        {
            panic!("a repeat was carried out again: {entry:?}, {answer:?}");
        }
        if let Some(outcome) = outcome_of(&entry, answer) {
            self.answer(number, outcome);
        }
        status
    }

    /// Retries every unknown write of `/v1` with its key until the server says yes.
    #[track_caller]
    pub fn settle(&self, client: &mut Client, may_retry: impl Fn(&Entry) -> bool) -> usize {
        let unknown = |entry: &Entry| matches!(entry.outcome, Outcome::Unknown) && may_retry(entry);
        let numbers: Vec<usize> = self
            .entries()
            .iter()
            .enumerate()
            .filter(|(_, entry)| unknown(entry))
            .map(|(n, _)| n)
            .collect();
        for number in &numbers {
            eventually("a retry to be answered with yes", || {
                matches!(self.send(client, *number), 200 | 201).then_some(())
            });
        }
        numbers.len()
    }

    /// How many messages were acked.
    pub fn acked(&self) -> usize {
        self.entries().iter().filter(|entry| matches!(entry.outcome, Outcome::Acked { .. })).count()
    }

    /// All sessions that somebody wrote to.
    pub fn sessions(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.entries().iter().map(|entry| entry.session.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }
}

/// What an answer to `POST .../messages` says; `None` if it says nothing new.
pub fn outcome_of(entry: &Entry, answer: Result<Answer, Trouble>) -> Option<Outcome> {
    let answer = answer.ok()?;
    match answer.status {
        200 | 201 => {
            assert_eq!(
                answer.body["content"], entry.content,
                "another message was acked: {answer:?}"
            );
            let id = answer.body["id"].as_str().map(str::to_owned);
            Some(Outcome::Acked { id, seq: Some(answer.body["seq"].as_u64().unwrap()) })
        }
        // The first of two requests with one key is still at work, or one was too many: it says nothing of this one.
        409 | 429 => None,
        422 => panic!("a retry with the same body was taken for another one: {entry:?}"),
        400..=499 => Some(Outcome::Refused),
        500 | 503 | 507 => None,
        _ => panic!("an answer that nobody expects: {answer:?}"),
    }
}

/// Reads all frames of a session, page by page; `None` if there is no such session (any more).
pub fn read_log(client: &mut Client, session: &str) -> Option<Vec<Value>> {
    let mut log: Vec<Value> = Vec::new();
    loop {
        let after = log.last().map_or(0, |frame| frame["seq"].as_u64().unwrap());
        let path = format!("/v1/sessions/{session}/events?after={after}");
        let answer = eventually("the events of a session", || {
            client.get(&path).ok().filter(|answer| answer.status != 429 && answer.status < 500)
        });
        match answer.status {
            200 => {}
            404 | 410 => return None,
            _ => panic!("{path} was answered with {answer:?}"),
        }
        let page = answer.body["events"].as_array().unwrap();
        log.extend(page.iter().cloned());
        let last = answer.body["lastSeq"].as_u64().unwrap();
        if page.is_empty() || page.last().unwrap()["seq"].as_u64() >= Some(last) {
            return Some(log);
        }
    }
}

/// Reads the logs of `sessions`; those that do not exist are left out.
pub fn read_logs(client: &mut Client, sessions: &[String]) -> Logs {
    sessions
        .iter()
        .filter_map(|session| Some((session.clone(), read_log(client, session)?)))
        .collect()
}
