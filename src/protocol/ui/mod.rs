//! The protocols of the AI SDK: its messages, its chunks, and how a session's events become those.
//!
//! What a client is sent is made from the log alone, so that whoever comes back gets the same again, whatever the
//! protocol: SSE and WebSocket of v5 to v7, the lines of v4, plain text.

mod chunk;
mod encode;
mod message;
mod request;
mod socket;
mod v4;

pub use chunk::Chunk;
pub use encode::Chunks;
pub use encode::Sse;
pub use encode::Text;
pub use message::UiMessage;
pub use request::Protocol;
pub use request::UiRequest;
pub use socket::SocketFrame;
pub use socket::SocketReply;
pub use v4::Lines;

#[cfg(test)]
mod tests;
