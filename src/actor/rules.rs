//! What holds while an actor decides.

use crate::base::limits::Limits;
use crate::wire::ask::Error;
use crate::wire::ask::Never;

/// What holds while a batch is made.
pub(super) struct Rules<'a> {
    pub limits: &'a Limits,
    /// Unix time in milliseconds.
    pub now_ms: i64,
    /// Makes an id that nobody has.
    pub new_id: &'a dyn Fn() -> String,
    /// The life of the owner of the actor.
    pub epoch: u64,
    /// Whether turns may begin; not when the process is about to end.
    pub begins_turns: bool,
    /// Why nothing may be written now, if so.
    pub refuses: Option<Error<Never>>,
}
