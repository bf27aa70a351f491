//! What there is of an actor.

use crate::storage::file::AnyFile;

/// What there is of an actor.
pub(super) enum Found {
    /// Nothing ever happened under this id.
    Absent,
    /// It was deleted.
    Gone,
    /// Here it is.
    File(Box<dyn AnyFile>),
}
