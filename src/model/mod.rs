//! Who answers. Providers turn a conversation into pieces of an answer; what becomes of the pieces is not their business.

mod channel;
pub mod claude_cli;
pub mod echo;
mod event;
mod lines;
mod locks;
pub mod opencode;
mod prompt;
mod provider;
mod refusal;
mod request;

pub use event::BadInput;
pub use event::FailureKind;
pub use event::FinishReason;
pub use event::ModelError;
pub use event::ModelEvent;
pub use event::Usage;
pub use provider::Answer;
pub use provider::Provider;
pub use request::Bounds;
pub use request::Content;
pub use request::ModelMessage;
pub use request::ModelRequest;
pub use request::Speaker;
pub use request::ToolSpec;
