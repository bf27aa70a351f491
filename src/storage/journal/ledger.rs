//! Which records are durable in the journal but not yet in their session's file. What decides when a segment may go.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::ids::KeyHash;
use crate::storage::journal::Flaw;

/// The number that stands for the file that a session's records were set aside in; segments count from 1.
pub(super) const ASIDE: u64 = 0;

/// Where a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the segment, or [`ASIDE`].
    pub segment: u64,
    /// Where its frame begins.
    pub offset: u64,
    /// Seq of its last event.
    pub last_seq: u64,
    /// Unix time of its last event, in milliseconds; 0 if that cannot be read.
    pub at_ms: i64,
    /// What is wrong with it.
    pub flaw: Option<Arc<Flaw>>,
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

/// A record that is durable: whose it is and where.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    /// Whose.
    pub hash: KeyHash,
    /// The same, if the record says it so that it can be read.
    pub key: Option<Key>,
    /// Where.
    pub place: Place,
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

impl Books {
    fn leave(&mut self, places: &[Place]) {
        for place in places {
            if let Some(count) = self.segments.get_mut(&place.segment) {
                *count -= 1;
            }
        }
    }
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
    pub(super) fn add(&self, records: impl Iterator<Item = Noted>) {
        let mut books = self.books();
        for Noted { hash, key, mut place } in records {
            if place.segment != ASIDE {
                *books.segments.entry(place.segment).or_default() += 1;
            }
            let pending = books.pending.entry(hash).or_default();
            if let Some(last) = pending.places.last() {
                place.at_ms = place.at_ms.max(last.at_ms);
            }
            pending.places.push(place);
            if pending.key.is_none() {
                pending.key = key;
            }
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
        books.leave(&gone);
    }

    /// Puts `places` in place of all that are noted of `hash`.
    pub(super) fn move_to(&self, hash: KeyHash, places: Vec<Place>) {
        let mut books = self.books();
        let Some(pending) = books.pending.get_mut(&hash) else { return };
        let gone = std::mem::replace(&mut pending.places, places);
        if pending.places.is_empty() {
            books.pending.remove(&hash);
        }
        books.leave(&gone);
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

    /// Actors of `kind` of `workspace` with such records, by the time of their last event, newest first, and then by hash.
    #[must_use]
    pub fn newest(&self, kind: ActorKind, workspace: &str) -> Vec<Behind> {
        let books = self.books();
        let behind = books.pending.values().filter_map(|pending| {
            let (last, key) = (pending.places.last()?, pending.key.as_ref()?);
            (key.kind() == kind && key.workspace() == workspace).then(|| Behind {
                key: key.clone(),
                last_seq: last.last_seq,
                at_ms: last.at_ms,
            })
        });
        let mut found: Vec<_> = behind.collect();
        // Writers wait for the books.
        drop(books);
        found.sort_unstable_by_key(|behind| (Reverse(behind.at_ms), behind.key.hash()));
        found
    }

    /// How many sessions have such records.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.books().pending.len()
    }

    /// Sessions with such records of which only the hash is known: what else says whose they are is damaged.
    #[must_use]
    pub fn nameless(&self) -> Vec<KeyHash> {
        let books = self.books();
        books.pending.iter().filter(|(_, p)| p.key.is_none()).map(|(hash, _)| *hash).collect()
    }

    /// Says whose records those of its hash are.
    pub fn name(&self, key: &Key) {
        if let Some(pending) = self.books().pending.get_mut(&key.hash()) {
            pending.key = Some(key.clone());
        }
    }

    /// Whose records those of `hash` are, if anything says it.
    pub(super) fn key(&self, hash: KeyHash) -> Option<Key> {
        self.books().pending.get(&hash)?.key.clone()
    }

    /// What is wrong with the records of `hash` behind event `after`: the first that cannot be read.
    pub(super) fn flaw(&self, hash: KeyHash, after: u64) -> Option<Arc<Flaw>> {
        let books = self.books();
        let mut behind =
            books.pending.get(&hash)?.places.iter().filter(|place| place.last_seq > after);
        behind.find_map(|place| place.flaw.clone())
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
