//! Which records are durable in the journal but not yet in their session's file. What decides when a segment may go.

use std::cmp::Reverse;
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
    /// Unix time of its last event, in milliseconds.
    pub at_ms: i64,
}

/// A session with records that its file may lack, as far as the journal alone tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Which.
    pub key: Key,
    /// Seq of its last event.
    pub last_seq: u64,
    /// Unix time of its last event, in milliseconds: its place in lists by activity.
    pub at_ms: i64,
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

    /// Seq of the last event of `hash` that its file may not hold; `None` if the file holds all.
    #[must_use]
    pub fn last_seq(&self, hash: KeyHash) -> Option<u64> {
        Some(self.books().pending.get(&hash)?.places.last()?.last_seq)
    }

    /// Sessions with such records, those first that keep the oldest segments.
    #[must_use]
    pub fn oldest(&self) -> Vec<Key> {
        let books = self.books();
        let place = |pending: &Pending| {
            let first = pending.places.first()?;
            Some((first.segment, first.offset, pending.key.clone()?))
        };
        let mut found: Vec<_> = books.pending.values().filter_map(place).collect();
        drop(books);
        found.sort_unstable_by_key(|(segment, offset, _)| (*segment, *offset));
        found.into_iter().map(|(_, _, key)| key).collect()
    }

    /// Sessions of `workspace` with such records, by the time of their last event, newest first, and then by hash:
    /// those behind the place `after`, at most `max`.
    #[must_use]
    pub fn newest(&self, workspace: &str, after: (i64, KeyHash), max: usize) -> Vec<Behind> {
        let order = |at_ms: i64, hash: KeyHash| (Reverse(at_ms), hash);
        let after = order(after.0, after.1);
        let books = self.books();
        let mut found: Vec<(i64, KeyHash, u64, &Key)> = books
            .pending
            .iter()
            .filter_map(|(hash, pending)| {
                let (last, key) = (pending.places.last()?, pending.key.as_ref()?);
                let behind = order(last.at_ms, *hash) > after;
                (behind && key.workspace() == workspace).then_some((
                    last.at_ms,
                    *hash,
                    last.last_seq,
                    key,
                ))
            })
            .collect();
        let place = |(at_ms, hash, ..): &(i64, KeyHash, u64, &Key)| order(*at_ms, *hash);
        if found.len() > max {
            found.select_nth_unstable_by_key(max, place);
            found.truncate(max);
        }
        found.sort_unstable_by_key(place);
        let behind = |(at_ms, _, last_seq, key): (i64, KeyHash, u64, &Key)| Behind {
            key: key.clone(),
            last_seq,
            at_ms,
        };
        found.into_iter().map(behind).collect()
    }

    /// How many sessions have such records.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.books().pending.len()
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
