//! What clients were promised before a moment of a recording, in the terms of the ledger's checker.

use std::collections::BTreeSet;

use serde_json::Value;

use super::workload::Recording;
use crate::support::fault::conversation::Exchange;
use crate::support::ledger::Entry;
use crate::support::ledger::Heard;
use crate::support::ledger::Logs;
use crate::support::ledger::Outcome;
use crate::support::ledger::Seen;
use crate::support::ledger::Violation;
use crate::support::ledger::check;

/// All that was promised before a cut.
pub struct Facts {
    pub entries: Vec<Entry>,
    pub seen: Vec<Seen>,
    /// All sessions of the recording, those too that come after the cut.
    pub sessions: Vec<String>,
    /// Acked replacements of parts: session, message, version, parts.
    replaced: Vec<(String, String, Value)>,
    /// Sessions whose deletion was acked.
    deleted: BTreeSet<String>,
    /// Sessions whose deletion was asked for: they may be there or not.
    perhaps_deleted: BTreeSet<String>,
}

impl Facts {
    /// What was promised in the first `cut` operations of `recording`.
    pub fn before(recording: &Recording, cut: usize) -> Self {
        let mut facts = Self {
            entries: Vec::new(),
            seen: Vec::new(),
            sessions: recording.sessions(),
            replaced: Vec::new(),
            deleted: BTreeSet::new(),
            perhaps_deleted: BTreeSet::new(),
        };
        for exchange in recording.exchanges.iter().filter(|exchange| exchange.asked < cut) {
            facts.add(exchange, cut);
        }
        facts
    }

    /// How many messages were acked.
    pub fn acked(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.outcome, Outcome::Acked { .. })).count()
    }

    /// The broken promises in the recovered `logs`.
    pub fn check(&self, logs: &Logs) -> Vec<Violation> {
        let gone = |session: &String| {
            self.perhaps_deleted.contains(session) && !logs.contains_key(session)
        };
        let kept: Vec<Entry> =
            self.entries.iter().filter(|entry| !gone(&entry.session)).cloned().collect();
        let seen: Vec<Seen> =
            self.seen.iter().filter(|seen| !gone(&seen.session)).cloned().collect();
        check(&kept, &seen, logs)
    }

    /// Acked replacements and deletions that the recovered `logs` do not know of.
    pub fn check_changes(&self, logs: &Logs) -> Vec<String> {
        let mut broken = Vec::new();
        for session in self.deleted.iter().filter(|session| logs.contains_key(*session)) {
            broken.push(format!("{session} is there again after its deletion was acked"));
        }
        for (session, message, reply) in &self.replaced {
            let known = |frame: &Value| {
                frame["type"] == "message-parts"
                    && frame["messageId"] == message.as_str()
                    && frame["version"] == reply["version"]
                    && frame["parts"] == reply["parts"]
            };
            if !logs.get(session).is_some_and(|log| log.iter().any(known)) {
                broken.push(format!(
                    "the parts of {message} in {session} are not those that were acked: {reply}"
                ));
            }
        }
        broken
    }

    fn add(&mut self, exchange: &Exchange, cut: usize) {
        let Some(session) = exchange.session().map(str::to_owned) else { return };
        let answered = exchange.answered.is_some_and(|answered| answered < cut);
        let status = if answered { exchange.status } else { 0 };
        match (exchange.method.as_str(), exchange.leaf()) {
            ("POST", "messages") => {
                let id = exchange.body["id"].as_str().map(str::to_owned);
                let seq = exchange.body["seq"].as_u64();
                self.add_entry(exchange, session, outcome(status, Outcome::Acked { id, seq }));
            }
            ("POST", _) if exchange.path.starts_with("/chat/") => {
                let stored = |(time, frame): &(usize, Value)| *time < cut && frame["type"] == "ack";
                let status =
                    if exchange.frames.iter().any(stored) || status >= 400 { status } else { 0 };
                self.add_entry(
                    exchange,
                    session,
                    outcome(status, Outcome::Acked { id: None, seq: None }),
                );
            }
            ("PUT", "parts") if status == 200 => {
                let message = exchange.path.rsplit('/').nth(1).unwrap().to_owned();
                self.replaced.push((session, message, exchange.body.clone()));
            }
            ("DELETE", _) => {
                if matches!(status, 200 | 202 | 204) {
                    self.deleted.insert(session.clone());
                }
                self.perhaps_deleted.insert(session);
            }
            ("GET", "websocket" | "events") => {
                let heard = exchange.frames.iter().filter(|(time, _)| *time < cut);
                let heard = heard.map(|(_, frame)| Heard::Frame(frame.clone()));
                let heard = std::iter::once(Heard::From(exchange.after())).chain(heard).collect();
                for (time, frame) in exchange
                    .said
                    .iter()
                    .filter(|(time, frame)| *time < cut && frame["type"] == "send")
                {
                    self.add_said(exchange, (*time, frame), cut);
                }
                self.seen.push(Seen { who: exchange.path.clone(), session, heard });
            }
            _ => {}
        }
    }

    /// A message that was sent over a socket.
    fn add_said(&mut self, exchange: &Exchange, (time, said): (usize, &Value), cut: usize) {
        let is_ack =
            |frame: &Value| frame["type"] == "ack" && frame["clientId"] == said["clientId"];
        let ack = exchange.frames.iter().find(|(time, frame)| *time < cut && is_ack(frame));
        let outcome = ack.map_or(Outcome::Unknown, |(_, ack)| Outcome::Acked {
            id: ack["result"]["id"].as_str().map(str::to_owned),
            seq: ack["result"]["seq"].as_u64().or_else(|| ack["seq"].as_u64()),
        });
        self.entries.push(Entry {
            session: exchange.session().unwrap().to_owned(),
            key: said["clientId"].as_str().unwrap().to_owned(),
            content: said["content"].as_str().unwrap().to_owned(),
            invoked: u64::try_from(time).unwrap(),
            answered: ack.map_or(0, |(time, _)| u64::try_from(*time).unwrap()),
            outcome,
        });
    }

    fn add_entry(&mut self, exchange: &Exchange, session: String, outcome: Outcome) {
        // A request that had not quite arrived has no body yet: nobody knows its text.
        let Some(content) = exchange.sent["content"].as_str() else { return };
        self.entries.push(Entry {
            session,
            key: exchange.key.clone().unwrap_or_default(),
            content: content.to_owned(),
            invoked: u64::try_from(exchange.asked).unwrap(),
            answered: exchange.answered.map_or(0, |answered| u64::try_from(answered).unwrap()),
            outcome,
        });
    }
}

fn outcome(status: u16, acked: Outcome) -> Outcome {
    match status {
        200 | 201 => acked,
        400..=499 => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}
