//! What an event of the Responses API holds, as servers really write it: every field may be missing or of another kind.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::assembly::Tokens;
use crate::model::lax::lax;
use crate::model::lax::list;
use crate::model::loose::JsonText;
use crate::model::loose::Loose;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    #[serde(rename = "type", deserialize_with = "lax")]
    pub(super) kind: Option<String>,
    #[serde(deserialize_with = "lax")]
    pub(super) output_index: Option<u64>,
    #[serde(deserialize_with = "lax")]
    pub(super) item_id: Option<String>,
    #[serde(deserialize_with = "lax")]
    pub(super) content_index: Option<u64>,
    #[serde(deserialize_with = "lax")]
    pub(super) summary_index: Option<u64>,
    #[serde(deserialize_with = "lax")]
    pub(super) delta: Option<JsonText>,
    #[serde(deserialize_with = "lax")]
    pub(super) text: Option<Loose>,
    #[serde(deserialize_with = "lax")]
    pub(super) refusal: Option<Loose>,
    #[serde(deserialize_with = "lax")]
    pub(super) arguments: Option<JsonText>,
    #[serde(deserialize_with = "lax")]
    pub(super) annotation: Option<Annotation>,
    #[serde(deserialize_with = "lax")]
    pub(super) item: Option<Item>,
    #[serde(deserialize_with = "lax")]
    pub(super) response: Option<Response>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Response {
    #[serde(deserialize_with = "lax")]
    pub(super) id: Option<String>,
    #[serde(deserialize_with = "lax")]
    pub(super) model: Option<String>,
    #[serde(deserialize_with = "lax")]
    pub(super) status: Option<String>,
    #[serde(deserialize_with = "list")]
    pub(super) output: Vec<Item>,
    #[serde(deserialize_with = "lax")]
    pub(super) error: Option<Box<RawValue>>,
    #[serde(deserialize_with = "lax")]
    pub(super) incomplete_details: Option<Incomplete>,
    #[serde(deserialize_with = "lax")]
    pub(super) usage: Option<Counts>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Incomplete {
    #[serde(deserialize_with = "lax")]
    pub(super) reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Item {
    #[serde(rename = "type", deserialize_with = "lax")]
    pub(super) kind: Option<String>,
    #[serde(deserialize_with = "list")]
    pub(super) content: Vec<Part>,
    #[serde(deserialize_with = "list")]
    pub(super) summary: Vec<Part>,
    #[serde(deserialize_with = "lax")]
    pub(super) call_id: Option<String>,
    #[serde(deserialize_with = "lax")]
    pub(super) id: Option<String>,
    #[serde(deserialize_with = "lax")]
    pub(super) name: Option<String>,
    #[serde(deserialize_with = "lax")]
    pub(super) arguments: Option<JsonText>,
    /// Of a thought: what only the provider can read.
    #[serde(deserialize_with = "lax")]
    pub(super) encrypted_content: Option<String>,
    /// Of a picture: base64.
    #[serde(deserialize_with = "lax")]
    pub(super) result: Option<String>,
    #[serde(deserialize_with = "lax")]
    pub(super) output_format: Option<String>,
}

/// Where something was read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Annotation {
    #[serde(deserialize_with = "lax")]
    pub(super) url: Option<String>,
    #[serde(deserialize_with = "lax")]
    pub(super) title: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Part {
    #[serde(deserialize_with = "lax")]
    pub(super) text: Option<Loose>,
    #[serde(deserialize_with = "lax")]
    pub(super) refusal: Option<Loose>,
    #[serde(deserialize_with = "list")]
    pub(super) annotations: Vec<Annotation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    #[serde(deserialize_with = "lax")]
    pub(super) input_tokens: Option<u64>,
    #[serde(deserialize_with = "lax")]
    pub(super) output_tokens: Option<u64>,
    #[serde(deserialize_with = "lax")]
    pub(super) input_tokens_details: Option<Details>,
    #[serde(deserialize_with = "lax")]
    pub(super) output_tokens_details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Details {
    #[serde(deserialize_with = "lax")]
    pub(super) cached_tokens: Option<u64>,
    #[serde(deserialize_with = "lax")]
    pub(super) reasoning_tokens: Option<u64>,
}

impl Counts {
    pub(super) fn tokens(&self) -> Tokens {
        Tokens {
            input: self.input_tokens,
            output: self.output_tokens,
            cached: self.input_tokens_details.as_ref().and_then(|d| d.cached_tokens),
            reasoning: self.output_tokens_details.as_ref().and_then(|d| d.reasoning_tokens),
        }
    }
}
