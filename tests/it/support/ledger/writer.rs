//! The ledger that writers share while they work, and how one message is posted, noted and retried.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::CANARY;
use super::Entry;
use super::Logs;
use super::Outcome;
use super::chance::Chance;
use super::patience::eventually;
use super::patience::within;
use super::plain_http::Answer;
use super::plain_http::Client;

/// How long a session may be unreadable when the disk is healthy.
const READABLE_WITHIN: Duration = Duration::from_secs(10);

/// How long the list of sessions may be behind.
const LISTED_WITHIN: Duration = Duration::from_secs(5);

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
        let big = chance.percent(5);
        let padding = if big { chance.between(500, 9_000) } else { chance.below(80) };
        self.invoke_padded(session, before, padding, chance)
    }

    /// The same with `padding` bytes behind the content, as for records of one size.
    pub fn invoke_padded(
        &self,
        session: &str,
        before: &str,
        padding: usize,
        chance: &mut Chance,
    ) -> usize {
        let content = format!("{before}{CANARY}{:016x} {}", chance.word(), "x".repeat(padding));
        let content = content.trim_end().to_owned();
        let mut entries = self.entries();
        let number = entries.len();
        let invoked = self.tick();
        let outcome = Outcome::Unknown;
        let key = format!("key-{number:07}-{:08x}", chance.word() >> 32);
        let session = session.to_owned();
        entries.push(Entry { session, key, content, invoked, answered: 0, outcome });
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
        self.deliver(client, number).map_or(0, |(status, _)| status)
    }

    /// The status of the answer and whether it was stored before; `None` if there was no answer.
    fn deliver(&self, client: &mut Client, number: usize) -> Option<(u16, bool)> {
        let entry = self.entry(number);
        let path = format!("/v1/sessions/{}/messages", entry.session);
        let body = json!({"role": "user", "content": entry.content});
        let answer = client.call("POST", &path, Some(&entry.key), Some(&body)).ok()?;
        let (status, replayed) = (answer.status, answer.replayed);
        let acked = matches!(entry.outcome, Outcome::Acked { .. });
        assert!(
            !acked || replayed || status >= 400,
            "a repeat was carried out again: {entry}, {answer:?}"
        );
        if let Some(outcome) = outcome_of(&entry, &answer) {
            self.answer(number, outcome);
        }
        Some((status, replayed))
    }

    /// Retries every unknown write of `/v1` with its key until the server says yes: how many, and how many of them it
    /// had carried out before.
    #[track_caller]
    pub fn settle(
        &self,
        client: &mut Client,
        may_retry: impl Fn(&Entry) -> bool,
    ) -> (usize, usize) {
        let unknown = |entry: &Entry| matches!(entry.outcome, Outcome::Unknown) && may_retry(entry);
        let numbers: Vec<usize> = self
            .entries()
            .iter()
            .enumerate()
            .filter(|(_, entry)| unknown(entry))
            .map(|(n, _)| n)
            .collect();
        let mut known = 0;
        for number in &numbers {
            known += eventually("a retry to be answered with yes", || {
                self.deliver(client, *number)
                    .filter(|(status, _)| matches!(status, 200 | 201))
                    .map(|(_, again)| usize::from(again))
            });
        }
        (numbers.len(), known)
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
fn outcome_of(entry: &Entry, answer: &Answer) -> Option<Outcome> {
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
#[track_caller]
pub fn read_log(client: &mut Client, session: &str) -> Option<Vec<Value>> {
    try_read_log(client, session)
        .unwrap_or_else(|answer| panic!("{session} is unreadable: {answer}"))
}

/// Reads as [`read_log`] does; the last answer if the session cannot be read.
pub fn try_read_log(client: &mut Client, session: &str) -> Result<Option<Vec<Value>>, String> {
    let mut log: Vec<Value> = Vec::new();
    loop {
        let after = log.last().map_or(0, |frame| frame["seq"].as_u64().unwrap());
        let path = format!("/v1/sessions/{session}/events?after={after}");
        let mut last = Err("no answer".to_owned());
        within(READABLE_WITHIN, || {
            let answer = client.get(&path).map_err(|trouble| format!("{trouble:?}"));
            last = answer.and_then(|answer| match answer.status {
                200 | 404 | 410 => Ok(answer),
                _ => Err(format!("{answer:?}")),
            });
            last.is_ok().then_some(())
        });
        let answer = last?;
        if answer.status != 200 {
            return Ok(None);
        }
        let page = answer.body["events"].as_array().unwrap();
        log.extend(page.iter().cloned());
        let head = answer.body["lastSeq"].as_u64().unwrap();
        if page.is_empty() || page.last().unwrap()["seq"].as_u64() >= Some(head) {
            return Ok(Some(log));
        }
    }
}

/// The last seq of a log.
pub fn head_of(log: &[Value]) -> u64 {
    log.last().map_or(0, |frame| frame["seq"].as_u64().unwrap())
}

/// What is wrong with the list of sessions, when it has had time to catch up: it is to have those of `logs`, each once
/// with its head, and no others.
pub fn mislisted(client: &mut Client, logs: &Logs) -> Option<String> {
    // A frame may stand for several seqs, so their number is not the last of them.
    let want: Vec<(String, u64)> =
        logs.iter().map(|(name, log)| (name.clone(), head_of(log))).collect();
    let mut wrong = None;
    within(LISTED_WITHIN, || {
        let listed = list(client)?;
        let missing: Vec<_> =
            want.iter().filter(|session| !listed.contains(session)).take(5).collect();
        let foreign: Vec<_> =
            listed.iter().filter(|session| !want.contains(session)).take(5).collect();
        let right = listed.len() == want.len() && missing.is_empty();
        wrong = (!right).then(|| format!("the list lacks {missing:?}, has {foreign:?} instead"));
        right.then_some(())
    });
    wrong
}

/// All sessions that the server lists, with their heads, in the order of their names.
pub fn list(client: &mut Client) -> Option<Vec<(String, u64)>> {
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/v1/sessions?limit=200{cursor}")).ok()?;
        for session in page.body["items"].as_array()? {
            listed.push((session["id"].as_str()?.to_owned(), session["lastSeq"].as_u64()?));
        }
        if page.body["hasMore"] != true {
            listed.sort_unstable();
            return Some(listed);
        }
        cursor = format!("&cursor={}", page.body["nextCursor"].as_str()?);
    }
}

/// Reads the logs of `sessions`; those that do not exist are left out.
pub fn read_logs(client: &mut Client, sessions: &[String]) -> Logs {
    sessions
        .iter()
        .filter_map(|session| Some((session.clone(), read_log(client, session)?)))
        .collect()
}
