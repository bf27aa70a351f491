//! The trait of everybody who answers. Who there is, is in `providers.rs`.

use std::pin::Pin;

use futures_util::Stream;

use crate::base::json::Json;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::ModelRequest;

/// An answer as it comes. Ends behind [`ModelEvent::Finish`] or an error; dropping it gives the answer up at once.
pub type Answer = Pin<Box<dyn Stream<Item = Result<ModelEvent, ModelError>> + Send>>;

/// Somebody who answers.
///
/// Every answer is bounded in time and size by [`ModelRequest::bounds`], whatever the other side does, and an error that
/// came before anything was said was tried again as often as makes sense.
pub trait Provider: Send + Sync {
    /// What it is called in `provider/model`.
    fn name(&self) -> &str;

    /// Says no before anything is stored, if it can be known: a key is missing, or the text asks for it.
    ///
    /// # Errors
    ///
    /// Why not.
    fn check(&self, model: &str, text: &str) -> Result<(), ModelError>;

    /// Asks `request.model`.
    fn answer(&self, request: ModelRequest) -> Answer;

    /// Who runs the call `call_id`, of a provider that brings tools of its own.
    fn own_tool(&self, _call_id: &str) -> Option<OwnTool> {
        None
    }

    /// Runs one of its own tools.
    ///
    /// # Errors
    ///
    /// What the model is told.
    fn run_tool(&self, name: &str, _input: &Json) -> Result<Json, String> {
        Err(format!("there is no tool `{name}`"))
    }
}

/// Who runs a tool that a provider brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnTool {
    /// The server, at once.
    Server,
    /// The client.
    Client,
    /// The server, once somebody allows it.
    Asks,
}
