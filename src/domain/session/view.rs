//! What the rules may know of the past. Storage implements it over the session's file.

use crate::base::json::Json;
use crate::base::json::Object;
use crate::domain::kind::LogHead;
use crate::domain::session::Draft;
use crate::domain::session::Event;
use crate::domain::session::Item;
use crate::domain::session::Message;
use crate::domain::session::Turn;
use crate::domain::session::TurnOptions;

/// What is known of a session without looking at its messages.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
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
    pub metadata: Json,
    /// Messages, deleted ones included.
    pub message_count: u64,
    /// Unix time in milliseconds.
    pub created_at_ms: i64,
    /// Unix time of the last event, in milliseconds.
    pub updated_at_ms: i64,
    /// Events up to this seq may be gone without a frame that stands for them; the log is whole after it.
    pub log_start: u64,
    /// The turn that is running or stopping, or that waits for an approval.
    pub active_turn: Option<Turn>,
    /// Items that an agent keeps.
    pub item_count: u64,
    /// How its turns are run, where they do not say.
    pub settings: TurnOptions,
    /// What each provider must be told to go on where it was.
    pub resume: Object,
    /// Whether the session has ended.
    pub deleted: bool,
}

impl Head {
    /// How far its log goes.
    #[must_use]
    pub fn log(&self) -> LogHead {
        let Self { last_seq, last_hash, log_start, updated_at_ms, .. } = *self;
        LogHead { last_seq, last_hash, log_start, updated_at_ms }
    }

    /// Notes that its log goes on to `to`.
    pub fn advance(&mut self, to: LogHead) {
        let LogHead { last_seq, last_hash, log_start, updated_at_ms } = to;
        (self.last_seq, self.last_hash) = (last_seq, last_hash);
        (self.log_start, self.updated_at_ms) = (log_start, updated_at_ms);
    }

    /// Notes a message at the end of the history, which begins at `at_ms`; its place there, counted from 0.
    pub fn begin_message(&mut self, at_ms: i64) -> u64 {
        if !self.exists() {
            self.created_at_ms = at_ms;
        }
        let position = self.message_count;
        self.message_count += 1;
        position
    }

    /// Whether anything ever happened in it.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.last_seq > 0
    }

    /// The session as it is, as an event: it changes nothing.
    #[must_use]
    pub fn unchanged(&self) -> Event {
        Event::Session {
            title: self.title.clone(),
            project_id: self.project_id.clone(),
            metadata: self.metadata.clone(),
            settings: self.settings.clone(),
            deleted: self.deleted,
        }
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

    /// The turn called `id`, as it is.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    fn turn(&self, id: &str) -> Result<Option<Turn>, Self::Error>;

    /// The message that the running turn writes.
    fn draft(&self) -> Option<&Draft>;

    /// The last message of the history before `seq`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    fn message_before(&self, seq: u64) -> Result<Option<Message>, Self::Error>;

    /// Seq of the message at `position` of the history, counted from 0.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    fn seq_at(&self, position: usize) -> Result<Option<u64>, Self::Error>;

    /// Seq of the first message of the history behind `seq`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    fn seq_behind(&self, seq: u64) -> Result<Option<u64>, Self::Error>;

    /// The last `limit` items of an agent, oldest first.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    fn items(&self, limit: usize) -> Result<Vec<Item>, Self::Error>;

    /// The item called `id`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    fn item(&self, id: &str) -> Result<Option<Item>, Self::Error>;
}

/// A session as clients see it.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The client's id for it, or made by the server.
    pub id: String,
    /// Shown in lists; empty if nobody gave one.
    pub title: String,
    /// The project it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// What the client attached to it; an object.
    #[schema(value_type = Object)]
    pub metadata: Json,
    /// Messages, deleted ones included.
    pub message_count: u64,
    /// Items that an agent keeps.
    pub item_count: u64,
    /// How its turns are run, where they do not say.
    #[serde(skip_serializing_if = "TurnOptions::is_empty")]
    pub settings: TurnOptions,
    /// Seq of the last event.
    pub last_seq: u64,
    /// The turn that is running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_turn: Option<String>,
    /// Unix time in seconds.
    pub created_at: i64,
    /// Unix time of the last event, in seconds.
    pub updated_at: i64,
}

/// What the list of sessions shows of one, beside its name, its place in the log and its times.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Shown in lists.
    pub title: String,
    /// The project it belongs to.
    pub project_id: Option<String>,
    /// What the client attached to it.
    pub metadata: Json,
    /// Messages, deleted ones included.
    pub message_count: u64,
    /// Items that an agent keeps.
    pub item_count: u64,
    /// The turn that is running.
    pub active_turn: Option<String>,
}

impl Head {
    /// What lists show of it.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            title: self.title.clone(),
            project_id: self.project_id.clone(),
            metadata: self.metadata.clone(),
            message_count: self.message_count,
            item_count: self.item_count,
            active_turn: self.active_turn.as_ref().map(|turn| turn.id.clone()),
        }
    }

    /// As clients see it.
    #[must_use]
    pub fn session(&self, id: &str) -> Session {
        Session {
            id: id.to_owned(),
            title: self.title.clone(),
            project_id: self.project_id.clone(),
            metadata: self.metadata.clone(),
            settings: self.settings.clone(),
            message_count: self.message_count,
            item_count: self.item_count,
            last_seq: self.last_seq,
            active_turn: self.active_turn.as_ref().map(|turn| turn.id.clone()),
            created_at: self.created_at_ms.div_euclid(1_000),
            updated_at: self.updated_at_ms.div_euclid(1_000),
        }
    }
}
