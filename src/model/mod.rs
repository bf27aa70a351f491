//! Who answers. Providers turn a conversation into pieces of an answer; what becomes of the pieces is not their business.
//!
//! A provider over HTTP is made of two halves. The pure one is its dialect: `body` writes the request, `stream` reads the
//! events of the answer into an `assembly`, which keeps the promises of [`ModelEvent`] whatever comes. `lax` reads JSON that
//! is not what was promised. The other half is the same for all: `endpoint` knows the address and the key, `flow` asks, asks
//! again where `retry` says so, and reads the stream within its [`Bounds`] with `http` and `sse`.
//!
//! Two rules hold everywhere. What a model wants to do is never guessed: the input of a tool is JSON as it came, or
//! [`BadInput`]. And what comes from a provider is as trusted as what comes from a client: not at all.

mod access;
mod assembly;
mod channel;
mod dialect;
mod endpoint;
mod event;
mod extra;
mod file;
mod flow;
mod http;
mod key;
mod lawful;
mod lax;
mod lines;
mod locks;
mod loose;
mod placeholder;
mod prompt;
mod provider;
mod providers;
mod refusal;
mod request;
mod retry;
mod schema;
mod sealed;
mod sse;

pub mod anthropic;
pub mod claude_cli;
pub mod echo;
pub mod openai_chat;
pub mod openai_responses;
pub mod opencode;

#[cfg(test)]
pub(crate) mod accepted;
#[cfg(test)]
mod chaos;
#[cfg(test)]
mod quirks;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod samples;

pub use access::Given;
pub use access::Givens;
pub use event::BadInput;
pub use event::FailureKind;
pub use event::FinishReason;
pub use event::ModelError;
pub use event::ModelEvent;
pub use event::Usage;
pub use extra::Extra;
pub use lawful::is_plain_id;
pub use provider::Answer;
pub use provider::OwnTool;
pub use provider::Provider;
pub use providers::Providers;
pub use providers::Settings;
pub use request::Bounds;
pub use request::Content;
pub use request::ModelMessage;
pub use request::ModelRequest;
pub use request::Speaker;
pub use request::ToolSpec;
