//! What the rules may know of the past. Storage implements it over the session's file.

use crate::base::json::Json;
use crate::domain::session::Message;
use crate::domain::session::Turn;

/// What is known of a session without looking at its messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// Seq of the last event; 0 if nothing ever happened, so the session does not exist.
    pub last_seq: u64,
    /// Checksum of the last event, chained over all before it.
    pub last_hash: [u8; 16],
    /// Shown in lists.
    pub title: String,
    /// The project it belongs to.
    pub project_id: Option<String>,
    /// What the client attached to it.
    pub metadata: Option<Json>,
    /// Messages, deleted ones included.
    pub message_count: u64,
    /// Unix time in milliseconds.
    pub created_at_ms: i64,
    /// Unix time of the last event, in milliseconds.
    pub updated_at_ms: i64,
    /// Events up to this seq were compacted away; the log is whole after it.
    pub log_start: u64,
    /// The turn that is running.
    pub active_turn: Option<Turn>,
    /// Bytes of text that the running turn has written.
    pub active_text_bytes: usize,
    /// Whether the session has ended.
    pub deleted: bool,
}

impl Head {
    /// Whether anything ever happened in it.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.last_seq > 0
    }
}

/// Read access to a session, as of the last event that was applied.
pub trait View {
    /// Why a read can fail.
    type Error;

    /// What is known without looking at the messages.
    fn head(&self) -> &Head;

    /// The message called `id`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    fn message(&self, id: &str) -> Result<Option<Message>, Self::Error>;

    /// Turns that wait, in their order, with the text that they answer.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    fn queued_turns(&self) -> Result<Vec<Turn>, Self::Error>;

    /// The text that the running turn has written so far.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    fn active_text(&self) -> Result<String, Self::Error>;
}
