//! The lines that the CLI prints, as far as they are used: a field of another type than expected counts as absent. What they
//! lead to is decided in `parser.rs`.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::lax::lax;
use crate::model::lax::list;
use crate::model::loose::JsonText;
use crate::model::loose::Loose;

/// What every line may say about itself; unknown types and fields are many and harmless.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "lax")]
    pub(super) subtype: Option<String>,
    /// Which line it is.
    #[serde(default, deserialize_with = "lax")]
    pub(super) uuid: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) session_id: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) parent_tool_use_id: Option<String>,
}

/// `system` with subtype `init`.
#[derive(Debug, Deserialize)]
pub(super) struct Init {
    #[serde(default, deserialize_with = "lax")]
    pub(super) model: Option<String>,
}

/// `system` with subtype `api_retry`.
#[derive(Debug, Deserialize)]
pub(super) struct Retry {
    #[serde(default, deserialize_with = "lax")]
    pub(super) error_status: Option<u16>,
}

/// `assistant` and `user`.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    pub(super) message: Message,
    #[serde(default, deserialize_with = "lax")]
    pub(super) is_api_error_message: Option<bool>,
}

/// A message of either side.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    #[serde(default, deserialize_with = "lax")]
    pub(super) id: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) model: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) content: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) usage: Option<Tokens>,
}

/// `stream_event`.
#[derive(Debug, Deserialize)]
pub(super) struct Streamed {
    pub(super) event: Event,
}

/// An event of the Messages API, any type.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "lax")]
    pub(super) index: Option<u64>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) message: Option<Message>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) content_block: Option<Block>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) delta: Option<Delta>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) usage: Option<Tokens>,
}

/// A block of content, any type.
#[derive(Debug, Deserialize)]
pub(super) struct Block {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "lax")]
    pub(super) text: Option<Loose>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) thinking: Option<Loose>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) signature: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) data: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) id: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) name: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) input: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) tool_use_id: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) content: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) is_error: Option<bool>,
}

/// A change of a block, any type.
#[derive(Debug, Deserialize)]
pub(super) struct Delta {
    #[serde(rename = "type", default, deserialize_with = "lax")]
    pub(super) kind: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) text: Option<Loose>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) thinking: Option<Loose>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) signature: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) partial_json: Option<JsonText>,
}

/// Counts of tokens.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Tokens {
    #[serde(default, deserialize_with = "lax")]
    pub(super) input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) cache_creation_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) cache_read_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) output_tokens_details: Option<OutputTokens>,
}

/// What the written tokens were for.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct OutputTokens {
    #[serde(default, deserialize_with = "lax")]
    pub(super) thinking_tokens: Option<u64>,
}

/// `result`.
#[derive(Debug, Deserialize)]
pub(super) struct Outcome {
    #[serde(default, deserialize_with = "lax")]
    pub(super) subtype: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) is_error: Option<bool>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) result: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) stop_reason: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) terminal_reason: Option<String>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) api_error_status: Option<u16>,
    #[serde(default, deserialize_with = "lax")]
    pub(super) usage: Option<Tokens>,
    #[serde(default, deserialize_with = "list")]
    pub(super) errors: Vec<String>,
}
