//! What every protocol that streams has in common.

use crate::domain::session::EventKind;
use crate::domain::session::Message;
use crate::domain::session::Turn;

/// Makes the stream that answers one request from the events of a session.
pub trait Encoder {
    /// The turn whose answer it streams.
    fn turn_id(&self) -> &str;

    /// What an event adds to the stream; empty for what the client is not told.
    fn push(&mut self, kind: EventKind, frame: &str) -> String;

    /// What is missing from the stream up to this state of the turn and of the message that it writes. The log does not
    /// reach back to where the stream is, so this takes the place of the events up to `seq`; later ones follow, and some
    /// of them may be in the state already.
    fn reset(&mut self, seq: u64, turn: &Turn, message: Option<&Message>) -> String;

    /// Whether the stream is over.
    fn is_done(&self) -> bool;

    /// What says that the stream ends before the answer does, and why; `None` where nothing can, so that the connection
    /// must break.
    fn broken(&mut self, why: &str) -> Option<String>;

    /// What is sent when nothing happens for a while; empty if nothing may be.
    fn keep_alive(&self) -> &'static str;
}
