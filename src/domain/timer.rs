//! When a timer that failed is tried again. The numbers are those of Durable Objects' alarms.

/// Pause before the second try, in milliseconds; doubled with each.
const FIRST_PAUSE_MS: u64 = 2_000;
/// Longest pause, in milliseconds.
const PAUSE_MS_MAX: u64 = 1_024_000;
/// Tries after which a timer is dead.
pub const TRIES_MAX: u32 = 6;

/// Pause after try number `attempt` (from 1) failed, in milliseconds.
#[must_use]
pub fn pause_ms(attempt: u32) -> u64 {
    FIRST_PAUSE_MS.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(PAUSE_MS_MAX)
}

/// When a timer is due again whose try number `attempt` (from 1) failed at `now_ms`; `None` after the last try.
///
/// `jitter` is from -1 to 1 and moves the pause by up to a quarter, so that timers that failed together do not come
/// back together.
#[must_use]
pub fn next_try_ms(attempt: u32, now_ms: i64, jitter: f64) -> Option<i64> {
    if attempt >= TRIES_MAX {
        return None;
    }
    let pause = pause_ms(attempt);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "seconds, not money"
    )]
    let moved = (pause as f64 * (1.0 + 0.25 * jitter.clamp(-1.0, 1.0))) as i64;
    Some(now_ms.saturating_add(moved))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_two_seconds_and_end_after_six_tries() {
        let pauses: Vec<_> = (1..8).map(|attempt| next_try_ms(attempt, 0, 0.0)).collect();
        let seconds = |s: i64| Some(s * 1_000);
        assert_eq!(
            pauses,
            [seconds(2), seconds(4), seconds(8), seconds(16), seconds(32), None, None]
        );
    }

    #[test]
    fn the_jitter_is_a_quarter() {
        assert_eq!(next_try_ms(1, 100, -1.0), Some(1_600));
        assert_eq!(next_try_ms(1, 100, 9.0), Some(2_600));
    }
}
