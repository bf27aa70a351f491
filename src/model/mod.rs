//! Who answers. Providers turn a conversation into pieces of an answer; what becomes of the pieces is not their business.

mod channel;
pub mod claude_cli;
pub mod echo;
mod event;
mod lines;
mod locks;
pub mod opencode;
mod prompt;
mod refusal;
mod request;

use std::pin::Pin;

use futures_util::Stream;

pub use event::BadInput;
pub use event::FailureKind;
pub use event::FinishReason;
pub use event::ModelError;
pub use event::ModelEvent;
pub use event::Usage;
pub use request::Bounds;
pub use request::Content;
pub use request::ModelMessage;
pub use request::ModelRequest;
pub use request::Speaker;
pub use request::ToolSpec;

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
