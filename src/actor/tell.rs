//! Letters to other actors: one delivery to each receiver at a time, in their order, again after a pause when it fails.
//!
//! A receiver that cannot hear, be it quarantined, full or far away, stalls nobody else: each has its own delivery. One
//! that has ended hears nothing any more; what it would have been told goes.

use std::sync::atomic::Ordering;

use crate::actor::cell::State;
use crate::actor::core::Core;
use crate::actor::listing::note;
use crate::actor::output::Output;
use crate::base::Key;
use crate::base::ids::KeyHash;
use crate::base::metric;
use crate::wire::ask::Refusal;

impl Core {
    /// Sends the letters of an actor that wait, to everyone to whom none are under way.
    pub(super) fn tell(&mut self, hash: KeyHash) {
        let now = self.now.instant;
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        let State::Awake(file) = &mut cell.state else { return };
        // What is in flight is not durable yet; a process that stops leaves it to the next one.
        if cell.host.is_in_flight() || self.shared.stopping.load(Ordering::Acquire) {
            return;
        }
        let mut failed = None;
        for to in file.receivers() {
            if let Some(through) = cell.deliveries.take_heard(to.hash())
                && let Err(error) = file.heard(&to, through)
            {
                failed = Some(error);
                break;
            }
            if cell.deliveries.are_many() {
                break;
            }
            if !cell.deliveries.begin(to.hash(), now) {
                continue;
            }
            match file.letters(&to) {
                Ok(letters) if letters.is_empty() => cell.deliveries.end(to.hash()),
                Ok(letters) => self.out.push(Output::Tell(cell.key.clone(), to, letters)),
                Err(error) => {
                    cell.deliveries.end(to.hash());
                    failed = Some(error);
                }
            }
        }
        if let Some(error) = failed {
            self.failed(hash, &error);
        }
    }

    /// `to` has heard the letters of an actor up to this one, or has not.
    pub(super) fn heard(&mut self, hash: KeyHash, to: &Key, heard: Result<u64, Refusal>) {
        let now = self.now.instant;
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        let through = match heard {
            Ok(through) => {
                metric::counters().letter("heard");
                through
            }
            Err(Refusal::Ended) => {
                metric::counters().letter("dropped");
                tracing::warn!(
                    "{:?} tells {to:?}, which has ended: it is told nothing any more",
                    cell.key
                );
                u64::MAX
            }
            Err(refusal) => {
                metric::counters().letter("retried");
                tracing::debug!("{:?} is not heard by {to:?}: {refusal:?}", cell.key);
                cell.deliveries.failed(to.hash(), now);
                // If it sleeps by then, the list must say when it wakes.
                if let State::Awake(file) = &cell.state
                    && !cell.host.is_in_flight()
                {
                    let tell_at_ms = cell.deliveries.next_ms(self.now);
                    cell.next_timer_ms = note(&self.shared, &**file, tell_at_ms);
                }
                return;
            }
        };
        cell.note_open(now);
        let State::Awake(file) = &mut cell.state else {
            if !matches!(cell.state, State::Gone) {
                cell.deliveries.heard(to.hash(), through);
                cell.wake_up(now);
            }
            return self.make_ready(hash);
        };
        cell.deliveries.end(to.hash());
        if let Err(error) = file.heard(to, through) {
            return self.failed(hash, &error);
        }
        self.await_commit(hash);
        self.tell(hash);
        self.remove_if_told(hash);
    }
}
