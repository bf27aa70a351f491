//! What a chunk of a chat completion holds, as servers really write it: every field may be missing or of another kind.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::json::Json;
use crate::model::assembly::Tokens;
use crate::model::lax::lax;
use crate::model::lax::list;
use crate::model::loose::JsonText;
use crate::model::loose::Loose;

/// A chunk, or a whole answer: that one has messages where chunks have deltas.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chunk {
    #[serde(deserialize_with = "lax")]
    pub(super) id: Option<String>,
    #[serde(deserialize_with = "lax")]
    pub(super) model: Option<String>,
    #[serde(deserialize_with = "list")]
    pub(super) choices: Vec<Choice>,
    #[serde(deserialize_with = "lax")]
    pub(super) usage: Option<Counts>,
    #[serde(deserialize_with = "lax")]
    pub(super) error: Option<Box<RawValue>>,
    /// Addresses of what was read, as some servers with a search of their own give them.
    #[serde(deserialize_with = "list")]
    pub(super) citations: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Choice {
    #[serde(deserialize_with = "lax")]
    pub(super) index: Option<u64>,
    #[serde(deserialize_with = "lax")]
    pub(super) delta: Option<Delta>,
    #[serde(deserialize_with = "lax")]
    pub(super) message: Option<Delta>,
    #[serde(deserialize_with = "lax")]
    pub(super) finish_reason: Option<String>,
    /// Some servers count here.
    #[serde(deserialize_with = "lax")]
    pub(super) usage: Option<Counts>,
    #[serde(deserialize_with = "lax")]
    pub(super) error: Option<Box<RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Delta {
    #[serde(deserialize_with = "lax")]
    pub(super) content: Option<Box<RawValue>>,
    #[serde(deserialize_with = "lax")]
    pub(super) refusal: Option<Loose>,
    #[serde(deserialize_with = "lax")]
    pub(super) reasoning_content: Option<Loose>,
    #[serde(deserialize_with = "lax")]
    pub(super) reasoning: Option<Loose>,
    #[serde(deserialize_with = "list")]
    pub(super) reasoning_details: Vec<Json>,
    #[serde(deserialize_with = "list")]
    pub(super) tool_calls: Vec<Piece>,
    /// The only call, as it was said before there were several.
    #[serde(deserialize_with = "lax")]
    pub(super) function_call: Option<Function>,
    #[serde(deserialize_with = "list")]
    pub(super) annotations: Vec<Annotation>,
    #[serde(deserialize_with = "list")]
    pub(super) images: Vec<Part>,
}

/// A piece of a tool call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Piece {
    #[serde(deserialize_with = "lax")]
    pub(super) index: Option<u64>,
    #[serde(deserialize_with = "lax")]
    pub(super) id: Option<String>,
    #[serde(deserialize_with = "lax")]
    pub(super) function: Option<Function>,
    /// What the server wants back with the call.
    #[serde(deserialize_with = "lax")]
    pub(super) extra_content: Option<Json>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Function {
    #[serde(deserialize_with = "lax")]
    pub(super) name: Option<String>,
    #[serde(deserialize_with = "lax")]
    pub(super) arguments: Option<JsonText>,
}

/// Where something was read: `url_citation` holds the address, or the annotation itself does.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Annotation {
    #[serde(deserialize_with = "lax")]
    pub(super) url_citation: Option<Box<Annotation>>,
    #[serde(deserialize_with = "lax")]
    pub(super) url: Option<String>,
    #[serde(deserialize_with = "lax")]
    pub(super) title: Option<String>,
}

impl Annotation {
    /// Its address and title.
    pub(super) fn address(self) -> (Option<String>, Option<String>) {
        match self.url_citation {
            Some(inner) => (inner.url, inner.title),
            None => (self.url, self.title),
        }
    }
}

/// A part of a content that is a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Part {
    #[serde(rename = "type", deserialize_with = "lax")]
    kind: Option<String>,
    #[serde(deserialize_with = "lax")]
    text: Option<Loose>,
    /// A text, or a list of parts.
    #[serde(deserialize_with = "lax")]
    thinking: Option<Box<RawValue>>,
    #[serde(deserialize_with = "lax")]
    image_url: Option<Box<RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Address {
    #[serde(deserialize_with = "lax")]
    url: Option<String>,
}

/// What a part says.
#[derive(Debug)]
pub(super) enum Said {
    Text(Loose),
    Thought(Loose),
    Image(Option<String>),
}

impl Part {
    /// The address of its picture.
    pub(super) fn image(&self) -> Option<String> {
        let raw = self.image_url.as_ref()?.get();
        serde_json::from_str::<String>(raw)
            .or_else(|_| serde_json::from_str::<Address>(raw).map(|a| a.url.unwrap_or_default()))
            .ok()
    }
}

/// What a content says: a text, or a list of parts.
pub(super) fn said(content: &RawValue, out: &mut Vec<Said>) {
    if let Ok(text) = serde_json::from_str(content.get()) {
        return out.push(Said::Text(text));
    }
    let many = || serde_json::from_str::<Parts>(content.get()).map(|parts| parts.0);
    let one = || serde_json::from_str::<Part>(content.get()).map(|part| vec![part]);
    for part in many().or_else(|_| one()).unwrap_or_default() {
        if part.image_url.is_some() {
            out.push(Said::Image(part.image()));
        }
        if let Some(thinking) = &part.thinking {
            thought(thinking, out);
        }
        let is_thought = matches!(part.kind.as_deref(), Some("thinking" | "reasoning"));
        out.extend(part.text.map(if is_thought { Said::Thought } else { Said::Text }));
    }
}

#[derive(Deserialize)]
struct Parts(#[serde(deserialize_with = "list")] Vec<Part>);

fn thought(content: &RawValue, out: &mut Vec<Said>) {
    if let Ok(text) = serde_json::from_str(content.get()) {
        return out.push(Said::Thought(text));
    }
    let parts = serde_json::from_str::<Parts>(content.get()).map(|parts| parts.0);
    let texts = parts.unwrap_or_default().into_iter().filter_map(|part| part.text);
    out.extend(texts.map(Said::Thought));
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counts {
    #[serde(deserialize_with = "lax")]
    prompt_tokens: Option<u64>,
    #[serde(deserialize_with = "lax")]
    completion_tokens: Option<u64>,
    #[serde(deserialize_with = "lax")]
    prompt_tokens_details: Option<Details>,
    #[serde(deserialize_with = "lax")]
    completion_tokens_details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    #[serde(deserialize_with = "lax")]
    cached_tokens: Option<u64>,
    #[serde(deserialize_with = "lax")]
    reasoning_tokens: Option<u64>,
}

impl Counts {
    pub(super) fn tokens(&self) -> Tokens {
        Tokens {
            input: self.prompt_tokens,
            output: self.completion_tokens,
            cached: self.prompt_tokens_details.as_ref().and_then(|d| d.cached_tokens),
            reasoning: self.completion_tokens_details.as_ref().and_then(|d| d.reasoning_tokens),
        }
    }
}
