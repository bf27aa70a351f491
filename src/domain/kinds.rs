//! The kinds of actors: from the number of a kind to its rules.

use crate::base::ids::ActorKind;
use crate::domain::kind::Event;
use crate::domain::session;

/// Whether actors of `kind` have events with this number.
#[must_use]
pub fn knows(kind: ActorKind, number: u8) -> bool {
    match kind {
        ActorKind::Session => session::Event::name_of(number).is_some(),
        #[cfg(test)]
        ActorKind::Counter => crate::domain::counter::Event::name_of(number).is_some(),
    }
}
