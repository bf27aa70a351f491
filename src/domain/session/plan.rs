//! What a turn that begins reads and writes, and whose turn it is.

use crate::domain::session::Context;
use crate::domain::session::Event;
use crate::domain::session::Stop;
use crate::domain::session::Turn;
use crate::domain::session::TurnState;
use crate::domain::session::View;

/// What a turn reads and writes, and what has to happen before and after it begins.
pub(super) struct Plan {
    pub(super) before: Vec<Event>,
    pub(super) after: Vec<Event>,
    pub(super) input_id: String,
    /// The message that goes on; `None`: a new one.
    pub(super) message_id: Option<String>,
    /// The turn that wrote it so far.
    pub(super) earlier: Option<Turn>,
}

impl Plan {
    pub(super) fn answering(input_id: String, before: Vec<Event>) -> Self {
        Self { before, after: Vec::new(), input_id, message_id: None, earlier: None }
    }
}

/// The turn whose place has come.
pub(super) fn next<V: View>(view: &V, ctx: &Context<'_>) -> Result<Option<Event>, Stop<V::Error>> {
    if !ctx.begins_turns {
        return Ok(None);
    }
    let next = view.queued_turns().map_err(Stop::View)?.into_iter().next();
    Ok(next.map(|turn| Event::Turn(Turn { state: TurnState::Running, ..turn })))
}
