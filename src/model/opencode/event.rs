//! What an OpenCode server sends, as far as it is used: a field of another type than expected counts as absent. What it leads
//! to is decided in `mapper.rs`.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::lax::lax;
use crate::model::loose::Loose;

/// An event of the bus; unknown types are many and harmless.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "lax")]
    pub(super) properties: Option<Box<RawValue>>,
}

/// What is common to the properties of all events.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Head {
    #[serde(rename = "sessionID", default, deserialize_with = "lax")]
    pub(super) session: Option<String>,
    /// Of a permission or a question.
    #[serde(default, deserialize_with = "lax")]
    pub(super) id: Option<String>,
}

/// `session.created`.
#[derive(Debug, Deserialize)]
pub(super) struct Created {
    pub(super) info: Session,
}

/// A session.
#[derive(Debug, Deserialize)]
pub(super) struct Session {
    pub(super) id: String,
    #[serde(rename = "parentID", default, deserialize_with = "lax")]
    pub(super) parent: Option<String>,
}

/// `session.status`.
#[derive(Debug, Deserialize)]
pub(super) struct StatusChanged {
    pub(super) status: Status,
}

/// What a session does.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "lax")]
    pub(super) attempt: Option<u32>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) message: Option<String>,
}

/// `session.error`.
#[derive(Debug, Deserialize)]
pub(super) struct Broken {
    #[serde(default, deserialize_with = "lax")]
    pub(super) error: Option<Failure>,
}

/// Why a session or a message failed.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Failure {
    pub(super) name: String,
    #[serde(default, deserialize_with = "lax")]
    pub(super) data: Option<FailureData>,
}

/// The details.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct FailureData {
    #[serde(default, deserialize_with = "lax")]
    pub(super) message: Option<String>,
    #[serde(rename = "statusCode", default, deserialize_with = "lax")]
    pub(super) status: Option<u16>,
}

/// `message.updated`.
#[derive(Debug, Deserialize)]
pub(super) struct MessageUpdated {
    pub(super) info: Info,
}

/// A message without its parts.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pub(super) id: String,
    pub(super) role: String,
    #[serde(rename = "parentID", default, deserialize_with = "lax")]
    pub(super) parent: Option<String>,
    #[serde(rename = "modelID", default, deserialize_with = "lax")]
    pub(super) model: Option<String>,
    /// `true` on a summary that OpenCode makes for itself; an object on user messages.
    #[serde(default, deserialize_with = "lax")]
    pub(super) summary: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) tokens: Option<Tokens>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) time: Option<Time>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) finish: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) error: Option<Failure>,
}

/// Counts of tokens; `input` is without the cached ones and `output` without thoughts.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Tokens {
    #[serde(default, deserialize_with = "lax")]
    pub(super) input: Option<f64>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) output: Option<f64>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) reasoning: Option<f64>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) cache: Option<Cache>,
}

/// Of the input.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Cache {
    #[serde(default, deserialize_with = "lax")]
    pub(super) read: Option<f64>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) write: Option<f64>,
}

/// When something was over, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Time {
    #[serde(default, deserialize_with = "lax")]
    pub(super) completed: Option<f64>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) end: Option<f64>,
}

/// `message.part.updated`.
#[derive(Debug, Deserialize)]
pub(super) struct PartUpdated {
    pub(super) part: Part,
}

/// A part of a message, any type.
#[derive(Debug, Deserialize)]
pub(super) struct Part {
    pub(super) id: String,
    #[serde(rename = "messageID")]
    pub(super) message: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "lax")]
    pub(super) text: Option<Loose>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) time: Option<Time>,
    #[serde(rename = "callID", default, deserialize_with = "lax")]
    pub(super) call: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) tool: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) state: Option<ToolState>,
}

/// How far a tool is.
#[derive(Debug, Deserialize)]
pub(super) struct ToolState {
    pub(super) status: String,
    #[serde(default, deserialize_with = "lax")]
    pub(super) input: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) output: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) error: Option<Box<RawValue>>,
}

/// `message.part.delta`.
#[derive(Debug, Deserialize)]
pub(super) struct PartDelta {
    #[serde(rename = "partID")]
    pub(super) part: String,
    pub(super) field: String,
    pub(super) delta: Loose,
}

/// An item of a session's list of messages.
#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    pub(super) info: Info,
    #[serde(default, deserialize_with = "lax")]
    pub(super) parts: Option<Vec<Box<RawValue>>>,
}
