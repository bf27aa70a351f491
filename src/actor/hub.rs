//! Fan-out: each frame is encoded once and shared by all subscribers of a session; the actor waits for none of them.

use std::sync::Arc;

use crate::wire::feed::Close;
use crate::wire::feed::Frame;
use crate::wire::feed::Queue;

/// The subscribers of one session.
#[derive(Default)]
pub(super) struct Hub {
    queues: Vec<Arc<Queue>>,
    /// How many there may be before those that went away are looked for.
    prune_at: usize,
}

/// Fewer subscribers are never looked through.
const PRUNE_AT_MIN: usize = 64;

impl Hub {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queues.len()
    }

    /// Whether `queue` is one of them.
    pub(super) fn has(&self, queue: &Arc<Queue>) -> bool {
        self.queues.iter().any(|known| Arc::ptr_eq(known, queue))
    }

    /// From the next frame on, `queue` gets every one.
    pub(super) fn add(&mut self, queue: &Arc<Queue>) {
        if !self.has(queue) {
            if self.queues.len() >= self.prune_at.max(PRUNE_AT_MIN) {
                self.prune();
                self.prune_at = 2 * self.queues.len();
            }
            self.queues.push(Arc::clone(queue));
        }
        queue.resume();
    }

    /// Gives `frame` to all; forgets those that went away.
    pub(super) fn publish(&mut self, frame: &Frame) {
        self.queues.retain(|queue| queue.push(frame));
    }

    /// Forgets those that went away.
    pub(super) fn prune(&mut self) {
        self.queues.retain(|queue| !queue.is_abandoned());
    }

    /// Tells all that they must subscribe again behind the last frame that they have.
    pub(super) fn lag(&mut self) {
        self.queues.drain(..).for_each(|queue| queue.lag());
    }

    /// Ends all subscriptions.
    pub(super) fn close(&mut self, why: Close) {
        for queue in self.queues.drain(..) {
            queue.close(why);
        }
    }
}
