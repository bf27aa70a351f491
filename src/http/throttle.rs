//! How much a socket may send: a bucket that fills with time.

use std::time::Duration;
use std::time::Instant;

/// A bucket of permits.
pub(super) struct Throttle {
    permits: f64,
    burst: f64,
    per_second: f64,
    at: Instant,
}

impl Throttle {
    /// `per_minute` permits in the long run, a quarter of them at once.
    pub(super) fn new(per_minute: u32, now: Instant) -> Self {
        let burst = f64::from((per_minute / 4).max(1));
        Self { permits: burst, burst, per_second: f64::from(per_minute) / 60.0, at: now }
    }

    /// Takes a permit, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at);
        self.at = now;
        self.permits = (self.permits + passed.as_secs_f64() * self.per_second).min(self.burst);
        let ok = self.permits >= 1.0;
        if ok {
            self.permits -= 1.0;
        }
        ok
    }

    /// When there will be a permit again.
    pub(super) fn wait(&self) -> Duration {
        Duration::from_secs_f64(((1.0 - self.permits) / self.per_second.max(0.001)).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = clock::instant();
        let mut throttle = Throttle::new(60, start);
        let passed = (0..20).filter(|_| throttle.take(start)).count();
        assert_eq!(passed, 15);
        assert_eq!(throttle.wait(), Duration::from_secs(1));
        assert!(throttle.take(start + Duration::from_millis(1_001)));
        assert!(!throttle.take(start + Duration::from_millis(1_002)));
    }
}
