//! Who answers. Providers turn a conversation into pieces of an answer; what becomes of the pieces is not their business.

pub mod echo;
mod event;
mod provider;
mod request;

mod assembly;
mod dialect;
mod endpoint;
mod file;
mod flow;
mod http;
mod key;
mod lax;
mod retry;
mod sse;

#[cfg(test)]
mod chaos;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod samples;

pub mod anthropic;
pub mod openai_chat;
pub mod openai_responses;
mod providers;

pub use event::BadInput;
pub use event::FailureKind;
pub use event::FinishReason;
pub use event::ModelError;
pub use event::ModelEvent;
pub use event::Usage;
pub use provider::Answer;
pub use provider::Provider;
pub use providers::Providers;
pub use providers::Settings;
pub use request::Bounds;
pub use request::Content;
pub use request::ModelMessage;
pub use request::ModelRequest;
pub use request::Speaker;
pub use request::ToolSpec;
