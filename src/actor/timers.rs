//! What the timers of a session do when they are due, and what happens to those that cannot.

use crate::base::metric;
use crate::domain::session::Command;
use crate::domain::session::Turn;
use crate::domain::session::TurnState;
use crate::domain::timer;
use crate::storage::Error;
use crate::storage::file::Timer;
use crate::storage::session::SessionFile;

/// Carries out every timer of `file` that is due at `now_ms`; a crash in the middle fires it again. What must become events
/// is returned.
///
/// # Errors
///
/// When the file fails. Nothing is counted against the timer then.
pub(super) fn fire(file: &mut SessionFile, now_ms: i64) -> Result<Vec<Command>, Error> {
    let mut commands = Vec::new();
    for Timer { id, kind, attempt, .. } in file.due_timers(now_ms)? {
        match kind.as_str() {
            // It sees to its timer itself: there may be more to do later.
            "compact" => {
                file.compact()?;
                metric::counters().timer("done");
                continue;
            }
            "approval" => {
                let waits = |turn: &Turn| turn.id == id && turn.state == TurnState::WaitingApproval;
                if file.head().active_turn.as_ref().is_some_and(waits) {
                    // The event that ends the wait removes it, so that neither a crash nor a full disk loses it.
                    commands.push(Command::ExpireApprovals { turn_id: id });
                    continue;
                }
            }
            // Set by a newer program, perhaps: it may be back before the last try.
            _ => {
                put_off(file, &id, attempt + 1, now_ms)?;
                continue;
            }
        }
        metric::counters().timer("done");
        file.remove_timer(&id)?;
    }
    Ok(commands)
}

fn put_off(file: &mut SessionFile, id: &str, attempt: u32, now_ms: i64) -> Result<(), Error> {
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
            tracing::error!(session.id = %key.id(), "timer {id} of session {key:?} is dead after {attempt} tries");
            metric::counters().timer("dead");
            file.remove_timer(id)
        }
    }
}
