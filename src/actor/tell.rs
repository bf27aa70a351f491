//! Letters to other actors: one delivery to each receiver at a time, in their order, again after a pause when it fails.
//!
//! A receiver that cannot hear, be it quarantined, full or far away, stalls nobody else: each has its own delivery. One
//! that has ended hears nothing any more; what it would have been told goes.

use std::collections::HashMap;
use std::time::Duration;
use std::time::Instant;

use crate::actor::cell::State;
use crate::actor::core::Core;
use crate::actor::core::Now;
use crate::actor::core::Output;
use crate::actor::job::Wake;
use crate::base::Key;
use crate::base::ids::KeyHash;
use crate::base::metric;
use crate::domain::timer;
use crate::wire::ask::Refusal;

/// How far a delivery is.
#[derive(Clone, Copy, Debug)]
enum Delivery {
    /// Letters are on their way.
    UnderWay {
        /// Tries that failed before.
        attempt: u32,
    },
    /// It failed, and is tried again then.
    Waits {
        /// Tries that failed.
        attempt: u32,
        until: Instant,
    },
    /// They were heard up to this one, while the file was closed.
    Heard { through: u64 },
}

/// The deliveries of one actor, by receiver.
#[derive(Debug, Default)]
pub(super) struct Deliveries(HashMap<KeyHash, Delivery>);

impl Deliveries {
    /// When the next one is tried again.
    pub(super) fn next(&self) -> Option<Instant> {
        let waits = self.0.values().filter_map(|delivery| match delivery {
            Delivery::Waits { until, .. } => Some(*until),
            Delivery::UnderWay { .. } | Delivery::Heard { .. } => None,
        });
        waits.min()
    }

    /// When the actor must be awake for them, in Unix time, in milliseconds. It may sleep while letters are under way, so that
    /// their receiver can wake.
    pub(super) fn next_ms(&self, now: Now) -> Option<i64> {
        let pause_ms = |delivery: &Delivery| match delivery {
            Delivery::UnderWay { attempt } => timer::pause_ms(attempt + 1),
            Delivery::Waits { until, .. } => {
                let pause = until.saturating_duration_since(now.instant).as_millis();
                u64::try_from(pause).unwrap_or(u64::MAX)
            }
            Delivery::Heard { .. } => 0,
        };
        let pause_ms = self.0.values().map(pause_ms).min()?;
        Some(now.unix_ms.saturating_add(i64::try_from(pause_ms).unwrap_or(i64::MAX)))
    }

    /// Begins a delivery to `to`, if there is none and none waits: then the tries before it.
    fn begin(&mut self, to: KeyHash, now: Instant) -> bool {
        let attempt = match self.0.get(&to) {
            None => 0,
            Some(Delivery::Waits { attempt, until }) if *until <= now => *attempt,
            Some(_) => return false,
        };
        self.0.insert(to, Delivery::UnderWay { attempt });
        true
    }

    /// Whether nothing would be forgotten with them but a pause.
    pub(super) fn is_settled(&self) -> bool {
        self.0.values().all(|delivery| matches!(delivery, Delivery::Waits { .. }))
    }

    /// What was heard by `to` while the file was closed.
    fn take_heard(&mut self, to: KeyHash) -> Option<u64> {
        match self.0.get(&to) {
            Some(Delivery::Heard { through }) => {
                let through = *through;
                self.0.remove(&to);
                Some(through)
            }
            _ => None,
        }
    }

    fn end(&mut self, to: KeyHash) {
        self.0.remove(&to);
    }

    fn failed(&mut self, to: KeyHash, now: Instant) {
        let attempt = match self.0.get(&to) {
            Some(Delivery::UnderWay { attempt } | Delivery::Waits { attempt, .. }) => attempt + 1,
            Some(Delivery::Heard { .. }) | None => 1,
        };
        // As timers, but without an end: it is nobody's fault, and nothing may be lost.
        let pause_ms = timer::pause_ms(attempt);
        let until = now + Duration::from_millis(pause_ms);
        self.0.insert(to, Delivery::Waits { attempt, until });
    }
}

impl Core {
    /// Sends the letters of an actor that wait, to everyone to whom none are under way.
    pub(super) fn tell(&mut self, hash: KeyHash) {
        let now = self.now.instant;
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        let State::Awake(file) = &mut cell.state else { return };
        // What is in flight is not durable yet.
        if cell.host.is_in_flight() {
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
                // Its file says when it wakes for that.
                return self.forget_if_empty(hash);
            }
        };
        cell.note_open(now);
        let State::Awake(file) = &mut cell.state else {
            cell.deliveries.0.insert(to.hash(), Delivery::Heard { through });
            cell.push_last(Wake::untold(), now);
            return self.make_ready(hash);
        };
        cell.deliveries.end(to.hash());
        if let Err(error) = file.heard(to, through) {
            return self.failed(hash, &error);
        }
        self.tell(hash);
        self.remove_if_told(hash);
    }
}
