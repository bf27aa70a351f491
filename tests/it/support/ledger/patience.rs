//! Waiting for what a healthy server does in time; the only place in the torture tests that looks at a clock.

use std::time::Duration;
use std::time::Instant;

/// How long a healthy server may need for anything.
const HEALTHY_WITHIN: Duration = Duration::from_secs(20);

/// How long to wait before asking again.
const ASK_AGAIN: Duration = Duration::from_millis(2);

/// Asks again and again until there is an answer; panics when a healthy server would have had one for long.
#[track_caller]
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    let asked = within(HEALTHY_WITHIN, ask);
    asked.unwrap_or_else(|| panic!("waited too long for {what}"))
}

/// Asks again and again until there is an answer or `time` is over.
pub fn within<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let watch = Watch::start();
    loop {
        let answer = ask();
        if answer.is_some() || watch.read() >= time {
            return answer;
        }
        pause(ASK_AGAIN);
    }
}

/// Lets time pass in which others work. Nothing may depend on what they get done.
#[expect(clippy::disallowed_methods, reason = "the one place where the torture tests wait")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Tells how long something took.
pub struct Watch(Instant);

impl Watch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "the one place that looks at a clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn read(&self) -> Duration {
        self.0.elapsed()
    }
}
