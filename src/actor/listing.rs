//! What the list of actors is told.

use crate::actor::shared::Shared;
use crate::storage::catalogue::Card;
use crate::storage::file::AnyFile;

/// Notes in the catalogue what an actor is like, if it exists, and that it is to wake at `tell_at_ms`, or at once, if it has
/// letters to send; when its next timer is due.
pub(super) fn note(shared: &Shared, file: &dyn AnyFile, tell_at_ms: Option<i64>) -> Option<i64> {
    if !file.log().exists() {
        return None;
    }
    let card = file.card();
    let timer_ms = file.next_timer_ms().unwrap_or(None);
    let owes = !file.receivers().is_empty();
    let tell_at_ms = owes.then(|| tell_at_ms.unwrap_or(card.updated_at_ms));
    let next_timer_ms = timer_ms.into_iter().chain(tell_at_ms).min();
    shared.catalogue.note(Card { next_timer_ms, ..card });
    timer_ms
}
