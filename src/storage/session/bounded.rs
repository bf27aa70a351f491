//! What a page holds at most.

use crate::base::limits::PAGE_BYTES_MAX;

/// What a page takes until it is full: one of a kind at least.
#[derive(Debug)]
pub(super) struct Bounded<T> {
    /// What it took.
    pub taken: Vec<T>,
    /// Whether there was one that it had no room for.
    pub more: bool,
    limit: usize,
    bytes: usize,
}

impl<T> Bounded<T> {
    /// A page of at most `limit` and [`PAGE_BYTES_MAX`].
    pub(super) fn of(limit: usize) -> Self {
        Self { taken: Vec::new(), more: false, limit, bytes: 0 }
    }

    /// Takes `one` if there is room for it.
    pub(super) fn take(&mut self, one: T, bytes: impl FnOnce(&T) -> usize) {
        self.bytes += bytes(&one);
        let too_large = self.bytes > PAGE_BYTES_MAX && !self.taken.is_empty();
        self.more = too_large || self.taken.len() >= self.limit;
        if !self.more {
            self.taken.push(one);
        }
    }
}
