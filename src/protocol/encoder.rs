//! What every protocol that streams has in common.

use crate::domain::session::EventKind;

/// Makes the stream that answers one request from the events of a session.
pub trait Encoder {
    /// What an event adds to the stream; empty for what the client is not told.
    fn push(&mut self, kind: EventKind, frame: &str) -> String;

    /// Whether the stream is over.
    fn is_done(&self) -> bool;

    /// What is sent when nothing happens for a while; empty if nothing may be.
    fn keep_alive(&self) -> &'static str;
}
