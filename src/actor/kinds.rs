//! The one place that leads from the kind of an actor to its code.

use crate::actor::host::Host;
use crate::actor::host::Hosting;
use crate::base::ids::ActorKind;
use crate::wire::envelope::SessionKind;

/// What a cell of an actor of `kind` holds of it.
pub(super) fn host(kind: ActorKind) -> Box<dyn Host> {
    match kind {
        ActorKind::Session => Box::new(Hosting::<SessionKind>::default()),
        #[cfg(test)]
        ActorKind::Counter => Box::new(Hosting::<crate::actor::counter::Counter>::default()),
    }
}
