//! What reading a session's history gives.

use crate::domain::session::EventKind;
use crate::domain::session::Message;

/// Where a page lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Messages with a lower seq, the nearest first.
    Before(u64),
    /// Messages with a higher seq, the nearest first.
    After(u64),
}

/// A page of history.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Its messages, oldest first.
    pub messages: Vec<Message>,
    /// Whether there are more in the same direction.
    pub more: bool,
}

/// An event as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// Its place.
    pub seq: u64,
    /// Its kind.
    pub kind: EventKind,
    /// Its frame.
    pub frame: String,
}
