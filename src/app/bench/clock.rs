//! The bench's clock. Nothing else here asks for the time.

use std::time::Instant;

/// The time, for measuring how long something took.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Microseconds since `start`; what does not fit in 32 bits (over an hour) is cut.
pub(super) fn micros_since(start: Instant) -> u32 {
    u32::try_from(now().duration_since(start).as_micros()).unwrap_or(u32::MAX)
}
