//! The lines that the CLI prints, as far as they are used. What they lead to is decided in `parser.rs`.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::loose::JsonText;
use crate::model::loose::Loose;

/// What every line may say about itself; unknown types and fields are many and harmless.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) subtype: Option<String>,
    pub(super) session_id: Option<String>,
    pub(super) parent_tool_use_id: Option<String>,
}

/// `system` with subtype `init`.
#[derive(Debug, Deserialize)]
pub(super) struct Init {
    pub(super) model: Option<String>,
}

/// `system` with subtype `api_retry`.
#[derive(Debug, Deserialize)]
pub(super) struct Retry {
    pub(super) error_status: Option<u16>,
}

/// `assistant` and `user`.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    pub(super) message: Message,
    #[serde(default)]
    pub(super) is_api_error_message: bool,
}

/// A message of either side.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    #[serde(default)]
    pub(super) content: Option<Box<RawValue>>,
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
    pub(super) index: Option<u64>,
    pub(super) message: Option<Message>,
    pub(super) content_block: Option<Block>,
    pub(super) delta: Option<Delta>,
    pub(super) usage: Option<Tokens>,
}

/// A block of content, any type.
#[derive(Debug, Deserialize)]
pub(super) struct Block {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) text: Option<Loose>,
    pub(super) thinking: Option<Loose>,
    pub(super) signature: Option<String>,
    pub(super) data: Option<String>,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) input: Option<Box<RawValue>>,
    pub(super) tool_use_id: Option<String>,
    pub(super) content: Option<Box<RawValue>>,
    #[serde(default)]
    pub(super) is_error: Option<bool>,
}

/// A change of a block, any type.
#[derive(Debug, Deserialize)]
pub(super) struct Delta {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) text: Option<Loose>,
    pub(super) thinking: Option<Loose>,
    pub(super) signature: Option<String>,
    pub(super) partial_json: Option<JsonText>,
}

/// Counts of tokens.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Tokens {
    pub(super) input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    pub(super) cache_creation_input_tokens: Option<u64>,
    pub(super) cache_read_input_tokens: Option<u64>,
    pub(super) output_tokens_details: Option<OutputTokens>,
}

/// What the written tokens were for.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct OutputTokens {
    pub(super) thinking_tokens: Option<u64>,
}

/// `result`.
#[derive(Debug, Deserialize)]
pub(super) struct Outcome {
    pub(super) subtype: Option<String>,
    #[serde(default)]
    pub(super) is_error: bool,
    pub(super) result: Option<String>,
    pub(super) stop_reason: Option<String>,
    pub(super) terminal_reason: Option<String>,
    pub(super) api_error_status: Option<u16>,
    pub(super) usage: Option<Tokens>,
    #[serde(default)]
    pub(super) errors: Vec<String>,
}
