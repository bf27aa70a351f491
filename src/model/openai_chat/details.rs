//! `reasoning_details`: thoughts with what only the provider behind a gateway can read. They come in pieces and go back whole.

use serde_json::Map;
use serde_json::Value;

use crate::base::json::Json;

/// Entries of one answer that are kept, and bytes of them.
const ENTRIES_COUNT_MAX: usize = 1_024;
const BYTES_MAX: usize = 4 << 20;
/// Members that grow from piece to piece.
const GROWING: &[&str] = &["data", "summary", "text"];

/// The entries that came since they were last taken, put together from their pieces.
#[derive(Debug, Default)]
pub(super) struct Details {
    entries: Vec<Map<String, Value>>,
    /// Entries and bytes of the whole answer.
    count: usize,
    bytes: usize,
}

impl Details {
    /// Adds a piece; the thought that it shows.
    pub(super) fn add(&mut self, piece: &Json) -> Option<String> {
        let bytes = piece.as_str().len();
        let piece: Map<String, Value> = serde_json::from_str(piece.as_str()).ok()?;
        let shown = ["text", "summary"].iter().find_map(|key| piece.get(*key)?.as_str());
        let shown = shown.map(str::to_owned);
        if self.bytes + bytes > BYTES_MAX {
            return shown;
        }
        let same = |last: &&mut Map<String, Value>| {
            ["type", "index"].iter().all(|key| last.get(*key) == piece.get(*key))
                && piece.get("type").is_some_and(|kind| kind != "reasoning.encrypted")
        };
        match self.entries.last_mut().filter(same) {
            Some(last) => grow(last, piece),
            None if self.count < ENTRIES_COUNT_MAX => {
                self.count += 1;
                self.entries.push(piece);
            }
            None => return shown,
        }
        self.bytes += bytes;
        shown
    }

    /// The entries that came since this was last asked.
    pub(super) fn take(&mut self) -> Option<Json> {
        let entries = std::mem::take(&mut self.entries);
        (!entries.is_empty()).then(|| Json::of(&entries).ok()).flatten()
    }
}

/// The lists of entries that were taken one after the other, as one.
pub(super) fn joined(lists: &[Json]) -> Option<Json> {
    let mut details = Details::default();
    for list in lists {
        let pieces: Vec<Json> = serde_json::from_str(list.as_str()).unwrap_or_default();
        for piece in pieces {
            details.add(&piece);
        }
    }
    details.take()
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
