//! The trait of everybody who answers. Who there is, is in `providers.rs`.

use std::pin::Pin;

use futures_util::Stream;

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
}
