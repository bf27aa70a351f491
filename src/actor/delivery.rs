//! How far the letters of one actor are on their way.

use std::collections::HashMap;
use std::time::Duration;
use std::time::Instant;

use crate::actor::input::Now;
use crate::base::ids::KeyHash;
use crate::domain::timer;

/// Receivers to whom letters of one actor are under way at once.
const UNDER_WAY_MAX: usize = 64;

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
    pub(super) fn begin(&mut self, to: KeyHash, now: Instant) -> bool {
        let attempt = match self.0.get(&to) {
            None => 0,
            Some(Delivery::Waits { attempt, until }) if *until <= now => *attempt,
            Some(_) => return false,
        };
        self.0.insert(to, Delivery::UnderWay { attempt });
        true
    }

    /// Whether nothing would be forgotten with them.
    pub(super) fn is_settled(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether no more may begin before others have ended.
    pub(super) fn are_many(&self) -> bool {
        let under_way = |delivery: &&Delivery| matches!(delivery, Delivery::UnderWay { .. });
        self.0.values().filter(under_way).count() >= UNDER_WAY_MAX
    }

    /// What was heard by `to` while the file was closed.
    pub(super) fn take_heard(&mut self, to: KeyHash) -> Option<u64> {
        match self.0.get(&to) {
            Some(Delivery::Heard { through }) => {
                let through = *through;
                self.0.remove(&to);
                Some(through)
            }
            _ => None,
        }
    }

    pub(super) fn end(&mut self, to: KeyHash) {
        self.0.remove(&to);
    }

    pub(super) fn failed(&mut self, to: KeyHash, now: Instant) {
        let attempt = match self.0.get(&to) {
            Some(Delivery::UnderWay { attempt } | Delivery::Waits { attempt, .. }) => attempt + 1,
            Some(Delivery::Heard { .. }) | None => 1,
        };
        // As timers, but without an end: it is nobody's fault, and nothing may be lost.
        let pause_ms = timer::pause_ms(attempt);
        let until = now + Duration::from_millis(pause_ms);
        self.0.insert(to, Delivery::Waits { attempt, until });
    }

    /// Notes that letters were heard up to this one, while the file was closed.
    pub(super) fn heard(&mut self, to: KeyHash, through: u64) {
        self.0.insert(to, Delivery::Heard { through });
    }
}
