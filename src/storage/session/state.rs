//! What is kept of a session in memory while its file is open: its head, the message that a turn writes, the latest page.

use std::sync::Arc;

use crate::domain::session::Draft;
use crate::domain::session::Head;
use crate::domain::session::Message;
use crate::domain::session::SharedPage;
use crate::storage::file::ActorFile;

/// The file of a session.
pub type SessionFile = ActorFile<SessionTables>;

/// The tables of a session.
#[derive(Debug)]
pub struct SessionTables {
    pub(super) head: Head,
    pub(super) tail: Option<Tail>,
    /// The message that the running turn writes.
    pub(super) draft: Option<Draft>,
    pub(super) deltas_kept_ms: i64,
}

/// What is needed to write the rows of an event later.
#[derive(Debug)]
pub enum Later {
    /// It has none but its own.
    Nothing,
    /// This message at the end of the history, at this place counted from 0.
    Message(Message, u64),
}

/// The latest page, as long as nothing happens.
#[derive(Debug)]
pub(super) struct Tail {
    pub last_seq: u64,
    pub limit: usize,
    pub page: Arc<SharedPage>,
}
