//! What the clients of a turn have on their screens: one that reads the log, one that reads what `useChat` reads.

use crate::support::ledger::log_seq;
use crate::support::ledger::patience::within;
use crate::support::ledger::plain_http::Client;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

#[derive(Default)]
struct Seen {
    turn_id: String,
    frames: Vec<Value>,
    chunks: Vec<Value>,
    calls: usize,
    stopped: bool,
    gone: bool,
}

/// All that was shown of one turn.
pub struct Screen {
    /// The last seq before it.
    pub after: u64,
    /// How many deltas are waited for.
    pub patience: usize,
    seen: Mutex<Seen>,
}

impl Screen {
    pub fn new(after: u64, patience: usize) -> Self {
        Self { after, patience, seen: Mutex::default() }
    }

    pub fn asked_for(&self, turn_id: &str) {
        turn_id.clone_into(&mut self.seen.lock().unwrap().turn_id);
    }

    pub fn called_before(&self, calls: usize) {
        self.seen.lock().unwrap().calls = calls;
    }

    pub fn heard_stop(&self) {
        self.seen.lock().unwrap().stopped = true;
    }

    /// Whether somebody was told that it has stopped.
    pub fn is_stopped(&self) -> bool {
        self.seen.lock().unwrap().stopped
    }

    pub fn calls(&self) -> usize {
        self.seen.lock().unwrap().calls
    }

    pub fn turn_id(&self) -> String {
        self.seen.lock().unwrap().turn_id.clone()
    }

    /// The frames of the log, in the order in which they came.
    pub fn frames(&self) -> Vec<Value> {
        self.seen.lock().unwrap().frames.clone()
    }

    pub fn deltas(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.frames.iter().filter(|frame| frame["type"] == "part-delta").count()
    }

    pub fn has_chunks(&self) -> bool {
        let seen = self.seen.lock().unwrap();
        seen.chunks.iter().any(|chunk| chunk["type"].as_str().unwrap().ends_with("-delta"))
    }

    /// The states of all turns that were shown.
    pub fn states(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let states = seen.frames.iter().filter_map(|frame| frame["turn"]["state"].as_str());
        states.map(str::to_owned).collect()
    }

    /// The last state that was shown of it.
    pub fn state(&self) -> Option<String> {
        let seen = self.seen.lock().unwrap();
        let turn = seen.frames.iter().rfind(|frame| frame["turn"]["id"] == *seen.turn_id)?;
        turn["turn"]["state"].as_str().map(str::to_owned)
    }

    pub fn is_over(&self) -> bool {
        let over = ["completed", "stopped", "interrupted", "failed"];
        self.state().is_some_and(|state| over.contains(&state.as_str()))
    }

    /// The approval that is asked for.
    pub fn approval(&self) -> Option<String> {
        let seen = self.seen.lock().unwrap();
        let asked = |frame: &Value| frame["fields"]["approval"]["id"].as_str().map(str::to_owned);
        seen.frames.iter().rev().find_map(asked)
    }

    /// The text of each part of message `id` that the log showed.
    pub fn texts(&self, id: &str) -> BTreeMap<usize, String> {
        let mut texts = BTreeMap::<usize, String>::new();
        for frame in self.frames().iter().filter(|frame| frame["messageId"] == id) {
            let part = usize::try_from(frame["part"].as_u64().unwrap_or(0)).unwrap();
            if let Some(content) = frame["fields"]["content"].as_str() {
                texts.insert(part, content.to_owned());
            }
            // Input of tools grows, too; it is not text.
            if let (Some(delta), Some(text)) = (frame["delta"].as_str(), texts.get_mut(&part)) {
                assert_eq!(frame["offset"], text.len(), "offsets count bytes: {frame}");
                text.push_str(delta);
            }
        }
        texts
    }

    /// The texts and thoughts that `useChat` showed, in the order in which they began.
    pub fn blocks(&self) -> Vec<(&'static str, String)> {
        let mut blocks: Vec<(&'static str, String, String)> = Vec::new();
        for chunk in &self.seen.lock().unwrap().chunks {
            let id = chunk["id"].as_str().unwrap_or_default();
            match chunk["type"].as_str().unwrap() {
                "text-start" => blocks.push(("text", id.to_owned(), String::new())),
                "reasoning-start" => blocks.push(("reasoning", id.to_owned(), String::new())),
                "text-delta" | "reasoning-delta" => {
                    let block = blocks.iter_mut().rfind(|(_, open, _)| open == id);
                    block.unwrap().2.push_str(chunk["delta"].as_str().unwrap());
                }
                _ => {}
            }
        }
        blocks.into_iter().map(|(kind, _, text)| (kind, text)).collect()
    }
}

/// Reads the log of a session until the server is gone.
pub fn follow_log(base: &str, session: &str, screen: &Screen) {
    let path = format!("/v1/sessions/{session}/events?after={}", screen.after);
    let mut events = Client::new(base).stream("GET", &path, None).unwrap();
    assert_eq!(events.status, 200);
    while let Some(frame) = events.next() {
        if log_seq(&frame).is_some() {
            screen.seen.lock().unwrap().frames.push(frame);
        }
    }
    screen.seen.lock().unwrap().gone = true;
}

/// Resumes the turn as `useChat` does once it runs, until it is over or the server is gone.
pub fn follow_chunks(base: &str, session: &str, screen: &Screen) {
    let begun = within(Duration::from_secs(30), || {
        (screen.state().is_some() || screen.seen.lock().unwrap().gone).then_some(())
    });
    let client = Client::new(base);
    let path = format!("/api/chat/{session}/stream");
    // The server may be gone, and the turn may be over or wait: then there is nothing to see.
    let (Some(()), Ok(mut events)) = (begun, client.stream("GET", &path, None)) else { return };
    assert!([200, 204].contains(&events.status), "{}", events.status);
    if events.status == 204 {
        return;
    }
    while let Some(chunk) = events.next() {
        if chunk.is_object() {
            screen.seen.lock().unwrap().chunks.push(chunk);
        }
    }
}
