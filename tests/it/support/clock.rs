//! Waiting with a deadline: for one future, or for a condition that is polled. Nothing here just sleeps.

use std::panic::Location;
use std::time::Duration;
use tokio::time::Instant;
use tokio::time::interval;
use tokio::time::timeout;

/// Longest wait for something that a healthy server does at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(15);

/// Waits for `future`; fails the test, naming `what` and the caller, when it takes longer than `limit`.
#[track_caller]
pub fn within<F: Future>(
    limit: Duration,
    what: &str,
    future: F,
) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        match timeout(limit, future).await {
            Ok(output) => output,
            Err(_) => panic!("{caller}: {what}: not within {limit:?}"),
        }
    }
}

/// Polls until `poll` gives something; fails the test when that takes longer than `limit`.
#[track_caller]
pub fn eventually<T, P: AsyncFnMut() -> Option<T>>(
    limit: Duration,
    what: &str,
    mut poll: P,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let end = Instant::now() + limit;
        let mut pace = interval(Duration::from_millis(10));
        loop {
            if let Some(found) = poll().await {
                return found;
            }
            assert!(Instant::now() < end, "{caller}: {what}: not within {limit:?}");
            pace.tick().await;
        }
    }
}
