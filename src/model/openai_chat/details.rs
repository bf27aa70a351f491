//! `reasoning_details`: thoughts with what only the provider behind a gateway can read. They come in pieces and go back whole.

use serde_json::Map;
use serde_json::Value;

use crate::base::json::Json;

/// Entries that are kept.
const ENTRIES_COUNT_MAX: usize = 1_024;
/// Members that grow from piece to piece.
const GROWING: &[&str] = &["data", "summary", "text"];

/// The entries so far, put together from their pieces.
#[derive(Debug, Default)]
pub(super) struct Details {
    entries: Vec<Map<String, Value>>,
    /// Whether something came since they were last taken.
    fresh: bool,
}

impl Details {
    /// Adds a piece; the thought that it shows.
    pub(super) fn add(&mut self, piece: &Json) -> Option<String> {
        let piece: Map<String, Value> = serde_json::from_str(piece.as_str()).ok()?;
        let shown = ["text", "summary"].iter().find_map(|key| piece.get(*key)?.as_str());
        let shown = shown.map(str::to_owned);
        self.fresh = true;
        let same = |last: &&mut Map<String, Value>| {
            ["type", "index"].iter().all(|key| last.get(*key) == piece.get(*key))
                && piece.get("type").is_some_and(|kind| kind != "reasoning.encrypted")
        };
        let room = self.entries.len() < ENTRIES_COUNT_MAX;
        match self.entries.last_mut().filter(same) {
            Some(last) => grow(last, piece),
            None if room => self.entries.push(piece),
            None => {}
        }
        shown
    }

    /// All entries, if something came since they were last taken.
    pub(super) fn take(&mut self) -> Option<Json> {
        std::mem::take(&mut self.fresh).then(|| Json::of(&self.entries).ok()).flatten()
    }
}

fn grow(entry: &mut Map<String, Value>, piece: Map<String, Value>) {
    for (key, value) in piece {
        match (entry.get_mut(&key), value) {
            (Some(Value::String(text)), Value::String(more)) if GROWING.contains(&key.as_str()) => {
                text.push_str(&more);
            }
            (_, Value::Null) => {}
            (_, value) => {
                entry.insert(key, value);
            }
        }
    }
}
