//! What happens to timers that are due, and to those that cannot be carried out.

use crate::actor::hosted::Due;
use crate::actor::hosted::FileOf;
use crate::actor::hosted::Hosted;
use crate::base::metric;
use crate::domain::timer;
use crate::storage::Error;

/// Carries out every timer of `file` that is due at `now_ms`; a crash in the middle fires it again. What must become events
/// is returned.
///
/// # Errors
///
/// When the file fails. Nothing is counted against the timer then.
pub(super) fn fire<K: Hosted>(file: &mut FileOf<K>, now_ms: i64) -> Result<Vec<K::Command>, Error> {
    let mut commands = Vec::new();
    for timer in file.due_timers(now_ms)? {
        match K::due(file, &timer)? {
            Due::Command(command) => {
                commands.push(command);
                continue;
            }
            Due::Unknown => {
                put_off::<K>(file, &timer.id, timer.attempt + 1, now_ms)?;
                continue;
            }
            Due::Done => file.remove_timer(&timer.id)?,
            Due::Kept => {}
        }
        metric::counters().timer("done");
    }
    Ok(commands)
}

fn put_off<K: Hosted>(
    file: &mut FileOf<K>,
    id: &str,
    attempt: u32,
    now_ms: i64,
) -> Result<(), Error> {
    let key = file.key().clone();
    // Spread by name, so that no randomness is needed and a replay comes to the same.
    let spread = key.hash().spread().wrapping_mul(u64::from(attempt) | 1) % 2_001;
    let jitter = f64::from(u16::try_from(spread).unwrap_or(0)) / 1_000.0 - 1.0;
    match timer::next_try_ms(attempt, now_ms, jitter) {
        Some(at_ms) => {
            metric::counters().timer("retried");
            file.retry_timer(id, attempt, at_ms)
        }
        None => {
            tracing::error!("timer {id} of {key:?} is dead after {attempt} tries");
            metric::counters().timer("dead");
            file.remove_timer(id)
        }
    }
}
