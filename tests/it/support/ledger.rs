//! What the clients know, and the checker that compares it with what the server says afterwards.
//!
//! A [`Ledger`] notes every write before it is sent and its outcome after; [`check`] is a pure function of the ledger,
//! of what subscribers heard and of the recovered logs. It knows nothing of kills, disks or HTTP. Invariants I1-I5,
//! I13-I16 of the reliability plan.

pub mod chance;
pub mod patience;
pub mod plain_http;
pub mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

/// Starts every content, so that it can be found in raw bytes; 16 hexadecimal digits follow.
pub const CANARY: &str = "canary-";

/// One write, as its sender saw it. Times are ticks: only their order means something.
#[derive(Clone, Debug)]
pub struct Entry {
    pub session: String,
    pub key: String,
    pub content: String,
    /// When it was first sent.
    pub invoked: u64,
    /// When its last answer came.
    pub answered: u64,
    pub outcome: Outcome,
}

/// What became of a write.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// No answer, or a 5xx: there may be none or one.
    Unknown,
    /// A 4xx: there is none.
    Refused,
    /// There is one, for ever; the id and the seq are known unless the route does not tell.
    Acked { id: Option<String>, seq: Option<u64> },
}

/// What one subscriber heard, in order.
#[derive(Clone, Debug)]
pub struct Seen {
    pub who: String,
    pub session: String,
    pub heard: Vec<Heard>,
}

/// One thing that a subscriber did or heard.
#[derive(Clone, Debug)]
pub enum Heard {
    /// It connected with `after=`.
    From(u64),
    /// It got this frame.
    Frame(Value),
}

/// The frames of each session, as read after the recovery.
pub type Logs = BTreeMap<String, Vec<Value>>;

/// What kind of promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An acked message is not there.
    Lost,
    /// A message is there twice.
    Doubled,
    /// A message has another seq than was acked.
    Renumbered,
    /// A message has another id than was acked.
    Renamed,
    /// A refused message is there.
    Ghost,
    /// There is a message that nobody sent.
    Foreign,
    /// The seqs are not 1, 2, 3, ..., where a frame that stands for several has theirs.
    Hole,
    /// A was acked before B was sent, and B comes before A.
    Overtaken,
    /// A frame that somebody heard is not in the log.
    Vanished,
    /// A frame that somebody heard is another one in the log.
    Rewritten,
    /// A subscriber missed a frame or heard one again.
    Gap,
}

/// A broken promise.
#[derive(Debug)]
pub struct Violation {
    pub kind: Kind,
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}: {}", self.kind, self.detail)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session, key, invoked, answered, outcome, .. } = self;
        let text = short(&self.content[self.content.find(CANARY).unwrap_or(0)..]);
        write!(
            out,
            "{text:?} in {session} ({key}, sent at {invoked}, answered at {answered}: {outcome:?})"
        )
    }
}

/// As much of a text as one wants to see in a report.
fn short(text: &str) -> String {
    text.chars().take(200).collect()
}

/// One user message in a log.
struct Found<'a> {
    seq: u64,
    id: &'a str,
}

/// All broken promises; none for a correct server.
pub fn check(entries: &[Entry], seen: &[Seen], logs: &Logs) -> Vec<Violation> {
    let mut broken = Vec::new();
    let mut written: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        written.entry(&entry.session).or_default().push(entry);
    }
    let empty = Vec::new();
    for (session, log) in logs {
        check_dense(session, log, &mut broken);
        let entries = written.remove(session.as_str()).unwrap_or_default();
        check_session(&entries, log, &mut broken);
    }
    for entries in written.values() {
        check_session(entries, &empty, &mut broken);
    }
    for subscriber in seen {
        check_seen(subscriber, logs.get(&subscriber.session).unwrap_or(&empty), &mut broken);
    }
    broken
}

/// Panics with the first violations and `context`, if there are any.
#[track_caller]
pub fn assert_none(broken: &[Violation], context: &str) {
    let first: Vec<String> = broken.iter().take(12).map(Violation::to_string).collect();
    assert!(broken.is_empty(), "{} violations ({context})\n{}", broken.len(), first.join("\n"));
}

/// The seq of a frame that is in the log of its session; `None` for those that only pass by.
pub fn log_seq(frame: &Value) -> Option<u64> {
    match frame["type"].as_str()? {
        "ready" | "reset" | "ack" | "error" | "typing" | "presence" | "pong" => None,
        _ => frame["seq"].as_u64(),
    }
}

fn check_dense(session: &str, log: &[Value], broken: &mut Vec<Violation>) {
    let mut want = 1;
    for frame in log {
        // What takes the place of deltas says which was the first.
        let first = frame["from"].as_u64().or_else(|| frame["seq"].as_u64());
        if first != Some(want) {
            let detail = format!("{session}: {} where {want} should be", frame["seq"]);
            broken.push(Violation { kind: Kind::Hole, detail });
            return;
        }
        want = frame["seq"].as_u64().unwrap_or(0) + 1;
    }
}

fn check_session(entries: &[&Entry], log: &[Value], broken: &mut Vec<Violation>) {
    let mut found: HashMap<&str, Vec<Found<'_>>> = HashMap::new();
    for message in
        log.iter().filter(|frame| frame["type"] == "message").map(|frame| &frame["message"])
    {
        if message["role"] == "user" {
            let seq = message["seq"].as_u64().unwrap_or(0);
            let id = message["id"].as_str().unwrap_or("");
            found
                .entry(message["content"].as_str().unwrap_or(""))
                .or_default()
                .push(Found { seq, id });
        }
    }
    let mut placed = Vec::new();
    for entry in entries {
        let copies = found.remove(entry.content.as_str()).unwrap_or_default();
        if let Some(kind) = judge(entry, &copies) {
            let seqs: Vec<u64> = copies.iter().map(|copy| copy.seq).collect();
            broken.push(Violation { kind, detail: format!("{entry} is at {seqs:?}") });
        }
        if let (Outcome::Acked { .. }, [copy]) = (&entry.outcome, copies.as_slice()) {
            placed.push((*entry, copy.seq));
        }
    }
    for content in found.keys() {
        broken.push(Violation {
            kind: Kind::Foreign,
            detail: format!("nobody sent {}", short(content)),
        });
    }
    check_real_time(&mut placed, broken);
}

fn judge(entry: &Entry, copies: &[Found<'_>]) -> Option<Kind> {
    match (&entry.outcome, copies) {
        (Outcome::Unknown | Outcome::Refused, []) => None,
        (Outcome::Acked { .. }, []) => Some(Kind::Lost),
        (_, [_, _, ..]) => Some(Kind::Doubled),
        (Outcome::Refused, [_]) => Some(Kind::Ghost),
        (Outcome::Unknown, [_]) => None,
        (Outcome::Acked { id, seq }, [copy]) => {
            if seq.is_some_and(|seq| seq != copy.seq) {
                Some(Kind::Renumbered)
            } else if id.as_ref().is_some_and(|id| id != copy.id) {
                Some(Kind::Renamed)
            } else {
                None
            }
        }
    }
}

/// Whoever was answered before another was sent has the lower seq.
fn check_real_time(placed: &mut [(&Entry, u64)], broken: &mut Vec<Violation>) {
    let mut by_answer: Vec<(u64, u64)> = placed.iter().map(|(e, seq)| (e.answered, *seq)).collect();
    by_answer.sort_unstable();
    placed.sort_by_key(|(entry, _)| entry.invoked);
    let mut answered = by_answer.iter().peekable();
    let mut highest = 0;
    for (entry, seq) in placed {
        while let Some((_, earlier)) = answered.next_if(|(at, _)| *at < entry.invoked) {
            highest = highest.max(*earlier);
        }
        if *seq <= highest {
            let detail = format!("{entry} is at {seq}, though {highest} was acked before");
            broken.push(Violation { kind: Kind::Overtaken, detail });
        }
    }
}

fn check_seen(subscriber: &Seen, log: &[Value], broken: &mut Vec<Violation>) {
    let mut next = None;
    for heard in &subscriber.heard {
        let frame = match heard {
            Heard::From(after) => {
                next = Some(after + 1);
                continue;
            }
            Heard::Frame(frame) => frame,
        };
        if frame["type"] == "reset" {
            next = frame["seq"].as_u64().map(|seq| seq + 1);
        }
        let Some(seq) = log_seq(frame) else { continue };
        let mut report = |kind, detail: String| {
            let detail = format!("{} on {}: {detail}", subscriber.who, subscriber.session);
            broken.push(Violation { kind, detail });
        };
        if next.is_some_and(|next| next != seq) {
            report(Kind::Gap, format!("heard {seq} where {next:?} comes next"));
        }
        next = Some(seq + 1);
        match log.get(usize::try_from(seq).unwrap().wrapping_sub(1)) {
            None => report(Kind::Vanished, format!("heard {}", short(&frame.to_string()))),
            Some(stored) if stored != frame => report(
                Kind::Rewritten,
                format!("heard {}, is {}", short(&frame.to_string()), short(&stored.to_string())),
            ),
            Some(_) => {}
        }
    }
}
