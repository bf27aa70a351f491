//! Pure encoders between a session's events and what a client speaks. Adding a protocol touches one file here.

pub mod chat;
pub mod conversations;
mod encoder;
pub mod native;
pub mod ui;

pub use encoder::Encoder;
