//! The stream of the Messages API as our events.

use serde::Deserialize;

use crate::base::json::Json;
use crate::model::FinishReason;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::assembly::Assembly;
use crate::model::assembly::BlockKey;
use crate::model::assembly::Kind;
use crate::model::assembly::Tokens;
use crate::model::assembly::interrupted;
use crate::model::assembly::protocol;
use crate::model::dialect::Complaint;
use crate::model::dialect::DONE;
use crate::model::dialect::Dialect;
use crate::model::dialect::no_answer;
use crate::model::dialect::stray_error;
use crate::model::lax::lax;
use crate::model::lax::list;
use crate::model::lax::object;
use crate::model::loose::JsonText;
use crate::model::loose::Loose;
use crate::model::sse;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    #[serde(rename = "type", deserialize_with = "lax")]
    kind: Option<String>,
    #[serde(deserialize_with = "lax")]
    message: Option<Message>,
    #[serde(deserialize_with = "lax")]
    index: Option<u64>,
    #[serde(deserialize_with = "lax")]
    content_block: Option<Block>,
    #[serde(deserialize_with = "lax")]
    delta: Option<Delta>,
    #[serde(deserialize_with = "lax")]
    usage: Option<Counts>,
}

/// A message that begins, or a whole one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    #[serde(rename = "type", deserialize_with = "lax")]
    kind: Option<String>,
    #[serde(deserialize_with = "list")]
    content: Vec<Block>,
    #[serde(deserialize_with = "lax")]
    stop_reason: Option<String>,
    #[serde(deserialize_with = "lax")]
    id: Option<String>,
    #[serde(deserialize_with = "lax")]
    model: Option<String>,
    #[serde(deserialize_with = "lax")]
    usage: Option<Counts>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Block {
    #[serde(rename = "type", deserialize_with = "lax")]
    kind: Option<String>,
    #[serde(deserialize_with = "lax")]
    text: Option<Loose>,
    #[serde(deserialize_with = "lax")]
    thinking: Option<Loose>,
    #[serde(deserialize_with = "lax")]
    signature: Option<String>,
    #[serde(deserialize_with = "lax")]
    data: Option<String>,
    #[serde(deserialize_with = "lax")]
    id: Option<String>,
    #[serde(deserialize_with = "lax")]
    name: Option<String>,
    #[serde(deserialize_with = "lax")]
    input: Option<Json>,
    /// Of a text in a whole message.
    #[serde(deserialize_with = "list")]
    citations: Vec<Citation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta {
    #[serde(rename = "type", deserialize_with = "lax")]
    kind: Option<String>,
    #[serde(deserialize_with = "lax")]
    text: Option<Loose>,
    #[serde(deserialize_with = "lax")]
    thinking: Option<Loose>,
    #[serde(deserialize_with = "lax")]
    signature: Option<String>,
    #[serde(deserialize_with = "lax")]
    partial_json: Option<JsonText>,
    #[serde(deserialize_with = "lax")]
    stop_reason: Option<String>,
    #[serde(deserialize_with = "lax")]
    citation: Option<Citation>,
}

/// Where something was read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Citation {
    #[serde(deserialize_with = "lax")]
    url: Option<String>,
    #[serde(deserialize_with = "lax")]
    title: Option<String>,
}

/// Totals of the whole answer; one that is absent has not changed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counts {
    #[serde(deserialize_with = "lax")]
    input_tokens: Option<u64>,
    #[serde(deserialize_with = "lax")]
    output_tokens: Option<u64>,
    #[serde(deserialize_with = "lax")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(deserialize_with = "lax")]
    cache_read_input_tokens: Option<u64>,
}

impl Counts {
    fn update(&mut self, newer: &Self) {
        // Some servers say 0 at one end of the answer for what they say at the other.
        let newer_of =
            |new: Option<u64>, old: Option<u64>| new.filter(|count| *count > 0).or(old).or(new);
        self.input_tokens = newer_of(newer.input_tokens, self.input_tokens);
        self.output_tokens = newer_of(newer.output_tokens, self.output_tokens);
        self.cache_creation_input_tokens =
            newer_of(newer.cache_creation_input_tokens, self.cache_creation_input_tokens);
        self.cache_read_input_tokens =
            newer_of(newer.cache_read_input_tokens, self.cache_read_input_tokens);
    }

    /// Their `input_tokens` leave out what was read from or written to the cache; ours do not.
    fn tokens(&self) -> Tokens {
        let cached = self.cache_read_input_tokens.unwrap_or(0);
        let input = self.input_tokens.unwrap_or(0);
        let written = self.cache_creation_input_tokens.unwrap_or(0);
        Tokens {
            input: Some(input.saturating_add(cached).saturating_add(written)),
            output: self.output_tokens,
            cached: Some(cached),
            reasoning: None,
        }
    }
}

/// The block that the stream is busy with, as we see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Current {
    Ours(Kind),
    /// A call without a name. Some servers keep a place for a call that nobody makes.
    Nameless,
    /// Of a kind that we do not know or need: its deltas and its end are skipped.
    Skipped,
}

/// Reads one answer.
#[derive(Debug, Default)]
pub(in crate::model) struct Stream {
    assembly: Assembly,
    /// Open blocks by the provider's index. A handful: blocks do not interleave in practice.
    open: Vec<(u64, Current)>,
    /// The input that came with the start of a call, for servers that send no deltas.
    inputs: Vec<(u64, Json)>,
    next_index: u64,
    begun: bool,
    counts: Counts,
    stop_reason: Option<String>,
}

const KNOWN: &[&str] = &[
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "error",
];

/// Open blocks at one time.
const OPEN_COUNT_MAX: usize = 64;

impl Dialect for Stream {
    fn take(&mut self, event: &sse::Event) -> Result<(), ModelError> {
        if self.assembly.is_finished() {
            return Ok(());
        }
        if event.data.trim() == DONE && self.assembly.is_started() {
            // Not of this API, but gateways say it.
            return self.message_stop();
        }
        let parsed = match object::<Event>(&event.data) {
            Ok(Some(parsed)) => parsed,
            _ if event.name == "error" => {
                return Err(Complaint::of_event(&event.data).into_error());
            }
            Ok(None) => return Ok(()),
            Err(_) if !event.name.is_empty() && !KNOWN.contains(&event.name.as_str()) => {
                if event.name == "ping" {
                    self.assembly.ping();
                }
                return Ok(());
            }
            Err(error) => return Err(protocol(format!("an event cannot be read: {error}"))),
        };
        match parsed.kind.as_deref().unwrap_or(&event.name) {
            "message_start" => self.message_start(parsed),
            "content_block_start" => self.block_start(parsed),
            "content_block_delta" => self.block_delta(parsed),
            "content_block_stop" => self.block_stop(parsed.index),
            "message_delta" => {
                self.message_delta(parsed);
                Ok(())
            }
            "message_stop" => self.message_stop(),
            "ping" => {
                self.assembly.ping();
                Ok(())
            }
            "error" => Err(Complaint::of_event(&event.data).into_error()),
            _ => stray_error(&event.data).map_or(Ok(()), Err),
        }
    }

    fn whole(&mut self, body: &str) -> Result<(), ModelError> {
        let message = object::<Message>(body).ok().flatten();
        let message = message.filter(|message| message.kind.as_deref() == Some("message"));
        let mut message = message.ok_or_else(|| no_answer(body))?;
        let content = std::mem::take(&mut message.content);
        self.stop_reason = message.stop_reason.take();
        self.message_start(Event { message: Some(message), ..Event::default() })?;
        for (index, block) in (0..).zip(content) {
            let (index, content_block) = (Some(index), Some(block));
            self.block_start(Event { index, content_block, ..Event::default() })?;
            self.block_stop(index)?;
        }
        self.message_stop()
    }

    fn end(&mut self) -> Result<(), ModelError> {
        match &self.stop_reason {
            _ if self.assembly.is_finished() => Ok(()),
            // Why it stopped is told, so nothing is missing but the last word.
            Some(_) => self.message_stop(),
            None => Err(interrupted()),
        }
    }

    fn may_be_over(&self) -> bool {
        self.stop_reason.is_some()
    }

    fn next(&mut self) -> Option<ModelEvent> {
        self.assembly.next()
    }
}

impl Stream {
    fn message_start(&mut self, event: Event) -> Result<(), ModelError> {
        if self.begun || self.assembly.is_started() {
            return Err(protocol("a second answer began inside the first"));
        }
        self.begun = true;
        let message = event.message.unwrap_or_default();
        self.assembly.start(message.id, message.model);
        self.count(message.usage);
        Ok(())
    }

    fn count(&mut self, counts: Option<Counts>) {
        if let Some(counts) = counts {
            self.counts.update(&counts);
            self.assembly.usage(self.counts.tokens());
        }
    }

    fn block_start(&mut self, event: Event) -> Result<(), ModelError> {
        let block = event.content_block.unwrap_or_default();
        let index = event.index.unwrap_or(self.next_index);
        // Some servers do not say that a block is over.
        self.block_stop(Some(index))?;
        if self.open.len() >= OPEN_COUNT_MAX {
            return Err(protocol("too many blocks are open"));
        }
        self.next_index = index.saturating_add(1);
        let current = match block.kind.as_deref() {
            Some("text") => Current::Ours(Kind::Text),
            Some("thinking") => Current::Ours(Kind::Reasoning),
            Some("tool_use") if block.name.as_ref().is_none_or(String::is_empty) => {
                Current::Nameless
            }
            Some("tool_use") => Current::Ours(Kind::Tool),
            Some("redacted_thinking") => {
                self.assembly.redacted(block.data.unwrap_or_default())?;
                Current::Skipped
            }
            _ => Current::Skipped,
        };
        self.open.push((index, current));
        let Current::Ours(kind) = current else { return Ok(()) };
        let key = (index, 0, kind);
        match kind {
            Kind::Text => {
                for citation in block.citations {
                    self.assembly.source(citation.url, citation.title);
                }
                self.assembly.open(key)?;
                self.assembly.grow(key, block.text.unwrap_or_default())
            }
            Kind::Reasoning => {
                self.assembly.open(key)?;
                self.assembly.grow(key, block.thinking.unwrap_or_default())?;
                self.sign(key, block.signature)
            }
            Kind::Tool => {
                let (id, name) = (block.id.unwrap_or_default(), block.name.unwrap_or_default());
                let input = block.input.filter(|input| input.as_str() != "{}");
                self.inputs.extend(input.map(|input| (index, input)));
                self.assembly.open_tool(key, id, name)
            }
        }
    }

    /// Puts the seal on a thought. That it has none must be known later as well: endpoints that give none want none back.
    fn sign(&mut self, key: BlockKey, signature: Option<String>) -> Result<(), ModelError> {
        self.assembly.seal(key, "signature", Json::string(&signature.unwrap_or_default()))
    }

    /// The block that `index` means: the latest one if it is absent.
    fn current(&self, index: Option<u64>) -> Option<(u64, Current)> {
        let found = match index {
            Some(index) => self.open.iter().find(|(open, _)| *open == index),
            None => self.open.last(),
        };
        found.copied()
    }

    fn block_delta(&mut self, event: Event) -> Result<(), ModelError> {
        let delta = event.delta.unwrap_or_default();
        let (kind, text) = match delta.kind.as_deref() {
            Some("text_delta") => (Kind::Text, delta.text),
            Some("thinking_delta") => (Kind::Reasoning, delta.thinking),
            Some("input_json_delta") => (Kind::Tool, delta.partial_json.map(|json| json.0)),
            Some("signature_delta") => {
                return match self.current(event.index) {
                    Some((index, Current::Ours(Kind::Reasoning))) => {
                        self.sign((index, 0, Kind::Reasoning), delta.signature)
                    }
                    _ => Ok(()),
                };
            }
            Some("citations_delta") => {
                let citation = delta.citation.unwrap_or_default();
                self.assembly.source(citation.url, citation.title);
                return Ok(());
            }
            _ => return Ok(()),
        };
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(()) };
        let index = match self.current(event.index) {
            Some((_, Current::Nameless)) => {
                return Err(protocol("a tool call without a usable name"));
            }
            Some((_, Current::Skipped)) => return Ok(()),
            Some((index, Current::Ours(open))) if open == kind => index,
            // Some servers begin a text or thought without saying so, or inside of the other.
            other
                if kind != Kind::Tool && !matches!(other, Some((_, Current::Ours(Kind::Tool)))) =>
            {
                let index = event.index.or_else(|| other.map(|(index, _)| index));
                let index = index.unwrap_or(self.next_index);
                let name = if kind == Kind::Text { "text" } else { "thinking" };
                let block = Block { kind: Some(name.to_owned()), ..Block::default() };
                let (at, content_block) = (Some(index), Some(block));
                self.block_start(Event { index: at, content_block, ..Event::default() })?;
                index
            }
            _ => return Err(protocol("a block was continued with something of another kind")),
        };
        self.assembly.grow((index, 0, kind), text)
    }

    /// A block is over, if it is open.
    fn block_stop(&mut self, index: Option<u64>) -> Result<(), ModelError> {
        let Some((index, current)) = self.current(index) else { return Ok(()) };
        self.open.retain(|(open, _)| *open != index);
        let Current::Ours(kind) = current else { return Ok(()) };
        self.give_input(index)?;
        self.assembly.close((index, 0, kind))
    }

    /// Says the input that came with the start of the call, unless deltas came as well.
    fn give_input(&mut self, index: u64) -> Result<(), ModelError> {
        let Some(at) = self.inputs.iter().position(|(call, _)| *call == index) else {
            return Ok(());
        };
        let (_, input) = self.inputs.swap_remove(at);
        let key = (index, 0, Kind::Tool);
        if self.assembly.has_input(key) {
            return Ok(());
        }
        self.assembly.grow(key, input.as_str().to_owned())
    }

    fn message_delta(&mut self, event: Event) {
        let reason = event.delta.and_then(|delta| delta.stop_reason);
        self.stop_reason = reason.or_else(|| self.stop_reason.take());
        self.assembly.start(None, None);
        self.count(event.usage);
    }

    fn message_stop(&mut self) -> Result<(), ModelError> {
        while let Some((index, _)) = self.inputs.last() {
            self.give_input(*index)?;
        }
        let raw = self.stop_reason.take();
        if raw.as_deref() == Some("error") {
            return Err(Complaint::default().into_error());
        }
        self.assembly.finish(finish_reason(raw.as_deref()), raw);
        Ok(())
    }
}

/// What the AI SDK calls a `stop_reason`, as its provider for Anthropic maps them.
fn finish_reason(raw: Option<&str>) -> FinishReason {
    match raw {
        Some("end_turn" | "stop_sequence" | "pause_turn") => FinishReason::Stop,
        Some("tool_use") => FinishReason::ToolCalls,
        Some("max_tokens" | "model_context_window_exceeded") => FinishReason::Length,
        Some("refusal") => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    }
}
