//! What models say, whoever made them: one vocabulary that every provider is translated into.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::base::json::Json;
use crate::base::json::Object;

/// A piece of what a model says, in the order in which it says it.
///
/// `index` names a block of one answer. A block is opened by its start, grows by its deltas and is closed by its end; blocks
/// may interleave. A provider closes every block that it opened unless the stream breaks.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelEvent {
    /// The answer begins.
    Start {
        /// The provider's id of the answer.
        id: Option<String>,
        /// The model that answers, as the provider calls it.
        model: Option<String>,
    },
    /// A text begins.
    TextStart {
        /// Which block.
        index: u32,
    },
    /// A text grows.
    TextDelta {
        /// Which block.
        index: u32,
        /// What is added.
        text: String,
    },
    /// A text is whole.
    TextEnd {
        /// Which block.
        index: u32,
    },
    /// The model begins to think aloud.
    ReasoningStart {
        /// Which block.
        index: u32,
    },
    /// It goes on thinking.
    ReasoningDelta {
        /// Which block.
        index: u32,
        /// What is added.
        text: String,
    },
    /// The thought is whole.
    ReasoningEnd {
        /// Which block.
        index: u32,
        /// What only the provider reads, and must be sent back unchanged with the text; empty if there is nothing.
        seal: Object,
    },
    /// A thought that only the provider can read; it must be sent back unchanged.
    RedactedReasoning {
        /// Which block.
        index: u32,
        /// The sealed thought.
        data: String,
    },
    /// A tool call begins.
    ToolStart {
        /// Which block.
        index: u32,
        /// The provider's id of the call; unique in the answer, and as strange as the provider likes.
        id: String,
        /// The tool.
        name: String,
    },
    /// The JSON text of the input grows.
    ToolDelta {
        /// Which block.
        index: u32,
        /// What is added.
        json: String,
    },
    /// The tool call is whole.
    ToolEnd {
        /// Which block.
        index: u32,
        /// The input, or why its text is not JSON: such a call is never executed.
        input: Result<Json, BadInput>,
        /// What only the provider reads, and must be sent back unchanged with the call; empty if there is nothing.
        seal: Object,
    },
    /// The provider ran the tool itself, as a command line agent does.
    ToolResult {
        /// The id of the call.
        id: String,
        /// What came out.
        output: Json,
        /// Whether it failed; `output` says how.
        is_error: bool,
    },
    /// One call of the model inside the provider is over and another follows, as in an agent that runs tools itself.
    StepEnd,
    /// Something for the application.
    Data {
        /// What kind; becomes a part of type `data-<name>`.
        name: String,
        /// A later one of the same name and id replaces it.
        id: Option<String>,
        /// The value.
        data: Json,
    },
    /// Where the model read something.
    Source {
        /// The provider's id of it; empty if it gives none.
        id: String,
        /// Its address.
        url: String,
        /// Its title.
        title: Option<String>,
    },
    /// A file that the model made, as a picture.
    File {
        /// Its type, as `image/png`.
        media_type: String,
        /// A `data:` URL, or an address.
        url: String,
    },
    /// Tokens so far, of the whole answer: replaces what was said before.
    Usage(Usage),
    /// What the provider must be told the next time to go on where this ended, as the session id of a command line agent.
    Resume(String),
    /// The answer is over. Nothing follows.
    Finish {
        /// Why.
        reason: FinishReason,
        /// As the provider put it.
        raw: Option<String>,
    },
    /// Nothing, but the provider lives.
    Ping,
}

impl ModelEvent {
    /// Bytes of what it tells, for [`Bounds::bytes`](super::Bounds::bytes); 0 for events of a fixed size.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::TextDelta { text, .. } | Self::ReasoningDelta { text, .. } => text.len(),
            Self::ToolDelta { json, .. } => json.len(),
            Self::ToolResult { output, .. } => output.as_str().len(),
            Self::RedactedReasoning { data, .. } => data.len(),
            Self::Data { data, .. } => data.as_str().len(),
            Self::File { url, .. } | Self::Source { url, .. } => url.len(),
            Self::ReasoningEnd { seal, .. } | Self::ToolEnd { seal, .. } => {
                seal.iter().map(|(_, value)| value.as_str().len()).sum()
            }
            _ => 0,
        }
    }
}

/// The text of a tool's input is not JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadInput {
    /// The text as it came.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Tokens of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Read by the model, cached ones included.
    pub input_tokens: u64,
    /// Written by the model, its thoughts included.
    pub output_tokens: u64,
    /// Of `input_tokens`: read from a cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_input_tokens: u64,
    /// Of `output_tokens`: thoughts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reasoning_tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Why an answer ended, in the words of the AI SDK's `finishReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinishReason {
    /// The model was done.
    Stop,
    /// There was no room for more.
    Length,
    /// The provider would not let it say more.
    ContentFilter,
    /// It waits for tools.
    ToolCalls,
    /// It broke.
    Error,
    /// Something else.
    Other,
}

/// Why there is no answer, or no more of it. `message` is for people who use the application: no keys, no addresses.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// What kind of failure.
    pub kind: FailureKind,
    /// In words.
    pub message: String,
    /// HTTP status that the provider answered with.
    pub status: Option<u16>,
    /// When the provider may be asked again, if it said so.
    pub retry_after: Option<Duration>,
}

/// Kinds of failure, by what can be done about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The server is not set up for this model: no key, no such provider, no program.
    Configuration,
    /// The provider refuses the key.
    Authentication,
    /// The provider refuses the request as it is.
    Request,
    /// The conversation is longer than the model takes: a shorter one may be answered.
    TooLong,
    /// Too many requests, or no money left.
    RateLimit,
    /// The provider is down or overloaded.
    Unavailable,
    /// The stream broke off before its end.
    Interrupted,
    /// What came is not what the provider promises.
    Protocol,
    /// Too slow, too long or too large.
    Limit,
    /// Whatever the provider said.
    Other,
}

impl ModelError {
    /// An error without further details.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), status: None, retry_after: None }
    }

    /// The same error with the provider's HTTP status.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }
}
