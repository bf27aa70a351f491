//! The trait that all tools share.

use futures_util::future::BoxFuture;

use crate::base::json::Json;
use crate::model::ToolSpec;

/// Something that a model can call and the server executes.
pub trait Tool: Send + Sync {
    /// What the model is told about it.
    fn spec(&self) -> &ToolSpec;

    /// Whether a person must agree before it is called.
    fn needs_approval(&self) -> bool;

    /// Calls it. The future ends within the tool's own time, on a Tokio runtime; dropping it gives the call up, but what
    /// it has done by then stays done.
    fn call(&self, call: ToolCall) -> BoxFuture<'static, ToolOutcome>;
}

/// One call of a tool.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// The workspace of the session.
    pub workspace: String,
    /// Who spoke to the model, if it is known.
    pub user: Option<String>,
    /// The session.
    pub session: String,
    /// The turn.
    pub turn: String,
    /// The call; the same again when the same call is tried again.
    pub call_id: String,
    /// What the model gave; not checked against the tool's schema.
    pub input: Json,
}

/// What came of a call; the text of an error is what the model sees.
pub type ToolOutcome = Result<Json, String>;
