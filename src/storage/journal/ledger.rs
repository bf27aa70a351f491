//! Which records are durable in the journal but not yet in their session's file. What decides when a segment may go.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::base::Key;
use crate::base::ids::KeyHash;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the segment.
    pub segment: u64,
    /// Where its frame begins.
    pub offset: u64,
    /// Seq of its last event.
    pub last_seq: u64,
}

#[derive(Default)]
struct Pending {
    key: Option<Key>,
    places: Vec<Place>,
}

#[derive(Default)]
struct Books {
    pending: HashMap<KeyHash, Pending>,
    /// Segments with the number of pending records in each.
    segments: BTreeMap<u64, u64>,
}

/// The books: shared by the writer, the shards and the keeper.
#[derive(Default)]
pub struct Ledger {
    books: Mutex<Books>,
}

impl Ledger {
    fn books(&self) -> MutexGuard<'_, Books> {
        // A panic while the books were open left them whole: every change is one call.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a segment is in use.
    pub(super) fn open_segment(&self, number: u64) {
        self.books().segments.entry(number).or_default();
    }

    /// Notes records that are durable and not yet in their files.
    pub(super) fn add(&self, records: impl Iterator<Item = (Key, Place)>) {
        let mut books = self.books();
        for (key, place) in records {
            *books.segments.entry(place.segment).or_default() += 1;
            let pending = books.pending.entry(key.hash()).or_default();
            pending.places.push(place);
            pending.key.get_or_insert(key);
        }
    }

    /// Notes that the file of `hash` holds every event up to `seq`.
    pub fn applied(&self, hash: KeyHash, seq: u64) {
        let mut books = self.books();
        let Some(pending) = books.pending.get_mut(&hash) else { return };
        let kept = pending.places.partition_point(|place| place.last_seq <= seq);
        let gone: Vec<_> = pending.places.drain(..kept).collect();
        if pending.places.is_empty() {
            books.pending.remove(&hash);
        }
        for place in gone {
            if let Some(count) = books.segments.get_mut(&place.segment) {
                *count -= 1;
            }
        }
    }

    /// Where the records of `hash` are that its file may not hold, oldest first.
    pub(super) fn places(&self, hash: KeyHash) -> Vec<Place> {
        self.books().pending.get(&hash).map(|pending| pending.places.clone()).unwrap_or_default()
    }

    /// Whether the journal holds events of `hash` that its file may not hold.
    #[must_use]
    pub fn is_pending(&self, hash: KeyHash) -> bool {
        self.books().pending.contains_key(&hash)
    }

    /// Sessions with such records; at most `max`.
    #[must_use]
    pub fn pending_keys(&self, max: usize) -> Vec<Key> {
        self.books().pending.values().filter_map(|p| p.key.clone()).take(max).collect()
    }

    /// Sessions that keep the oldest segment alive.
    #[must_use]
    pub fn holding_oldest(&self) -> Vec<Key> {
        let books = self.books();
        let Some((&oldest, _)) = books.segments.first_key_value() else { return Vec::new() };
        let holds = |pending: &&Pending| pending.places.iter().any(|p| p.segment == oldest);
        books.pending.values().filter(holds).filter_map(|pending| pending.key.clone()).collect()
    }

    /// Segments below `active` that nobody needs any more, oldest first.
    pub(super) fn idle_segments(&self, active: u64) -> Vec<u64> {
        let books = self.books();
        let idle = books.segments.range(..active).take_while(|(_, count)| **count == 0);
        idle.map(|(number, _)| *number).collect()
    }

    /// Forgets segments that are gone.
    pub(super) fn close_segments(&self, numbers: &[u64]) {
        let mut books = self.books();
        for number in numbers {
            books.segments.remove(number);
        }
    }

    /// How many segments there are.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.books().segments.len()
    }
}
