//! The stream of the Responses API as our events.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::model::FinishReason;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::Usage;
use crate::model::assembly::Assembly;
use crate::model::assembly::BLOCKS_COUNT_MAX;
use crate::model::assembly::BlockKey;
use crate::model::assembly::Kind;
use crate::model::assembly::interrupted;
use crate::model::assembly::protocol;
use crate::model::dialect::Complaint;
use crate::model::dialect::Dialect;
use crate::model::lax::lax;
use crate::model::lax::list;
use crate::model::lax::object;
use crate::model::sse;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    #[serde(rename = "type", deserialize_with = "lax")]
    kind: Option<String>,
    #[serde(deserialize_with = "lax")]
    output_index: Option<u64>,
    #[serde(deserialize_with = "lax")]
    content_index: Option<u64>,
    #[serde(deserialize_with = "lax")]
    summary_index: Option<u64>,
    #[serde(deserialize_with = "lax")]
    delta: Option<String>,
    #[serde(deserialize_with = "lax")]
    text: Option<String>,
    #[serde(deserialize_with = "lax")]
    refusal: Option<String>,
    #[serde(deserialize_with = "lax")]
    arguments: Option<String>,
    #[serde(deserialize_with = "lax")]
    item: Option<Item>,
    #[serde(deserialize_with = "lax")]
    response: Option<Response>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Response {
    #[serde(deserialize_with = "lax")]
    id: Option<String>,
    #[serde(deserialize_with = "lax")]
    model: Option<String>,
    #[serde(deserialize_with = "lax")]
    status: Option<String>,
    #[serde(deserialize_with = "list")]
    output: Vec<Item>,
    #[serde(deserialize_with = "lax")]
    error: Option<Complaint>,
    #[serde(deserialize_with = "lax")]
    incomplete_details: Option<Incomplete>,
    #[serde(deserialize_with = "lax")]
    usage: Option<Counts>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Incomplete {
    #[serde(deserialize_with = "lax")]
    reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Item {
    #[serde(rename = "type", deserialize_with = "lax")]
    kind: Option<String>,
    #[serde(deserialize_with = "list")]
    content: Vec<Part>,
    #[serde(deserialize_with = "list")]
    summary: Vec<Part>,
    #[serde(deserialize_with = "lax")]
    call_id: Option<String>,
    #[serde(deserialize_with = "lax")]
    id: Option<String>,
    #[serde(deserialize_with = "lax")]
    name: Option<String>,
    #[serde(deserialize_with = "lax")]
    arguments: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Part {
    #[serde(deserialize_with = "lax")]
    text: Option<String>,
    #[serde(deserialize_with = "lax")]
    refusal: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counts {
    #[serde(deserialize_with = "lax")]
    input_tokens: Option<u64>,
    #[serde(deserialize_with = "lax")]
    output_tokens: Option<u64>,
    #[serde(deserialize_with = "lax")]
    input_tokens_details: Option<Details>,
    #[serde(deserialize_with = "lax")]
    output_tokens_details: Option<Details>,
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
    fn usage(&self) -> Usage {
        let cached = self.input_tokens_details.as_ref().and_then(|d| d.cached_tokens);
        let reasoning = self.output_tokens_details.as_ref().and_then(|d| d.reasoning_tokens);
        Usage {
            input_tokens: self.input_tokens.unwrap_or(0),
            output_tokens: self.output_tokens.unwrap_or(0),
            cached_input_tokens: cached.unwrap_or(0),
            reasoning_tokens: reasoning.unwrap_or(0),
        }
    }
}

/// Summaries and the thoughts themselves are counted apart; this keeps their blocks apart.
const SUMMARY: u64 = 1 << 32;

/// Reads one answer.
#[derive(Debug, Default)]
pub(in crate::model) struct Stream {
    assembly: Assembly,
    /// Blocks that have been opened, whether or not they are closed.
    seen: BTreeSet<BlockKey>,
    called: bool,
}

impl Dialect for Stream {
    fn take(&mut self, event: &sse::Event) -> Result<(), ModelError> {
        if self.assembly.is_finished() {
            return Ok(());
        }
        let parsed = match object::<Event>(&event.data) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Ok(()),
            Err(error) => return Err(protocol(format!("an event is not JSON: {error}"))),
        };
        let kind = parsed.kind.clone().unwrap_or_else(|| event.name.clone());
        let output = parsed.output_index.unwrap_or(0);
        let content = parsed.content_index.unwrap_or(0);
        let text: BlockKey = (output, content, Kind::Text);
        let thought: BlockKey = (output, content, Kind::Reasoning);
        let summary_index = parsed.summary_index.unwrap_or(0);
        let summary: BlockKey = (output, summary_index.saturating_add(SUMMARY), Kind::Reasoning);
        match kind.as_str() {
            "response.created" | "response.in_progress" | "response.queued" => {
                let response = parsed.response.unwrap_or_default();
                self.assembly.start(response.id, response.model);
                Ok(())
            }
            "response.output_item.added" => self.item_added(output, parsed.item),
            "response.output_item.done" => self.item_done(output, parsed.item.unwrap_or_default()),
            "response.output_text.delta" | "response.refusal.delta" => self.say(text, parsed.delta),
            "response.output_text.done" => self.whole(text, parsed.text),
            "response.refusal.done" => self.whole(text, parsed.refusal),
            "response.reasoning_text.delta" => self.say(thought, parsed.delta),
            "response.reasoning_text.done" => self.whole(thought, parsed.text),
            "response.reasoning_summary_text.delta" => self.say(summary, parsed.delta),
            "response.reasoning_summary_text.done" => self.whole(summary, parsed.text),
            "response.function_call_arguments.delta" => {
                let key = (output, 0, Kind::Tool);
                self.assembly.grow(key, parsed.delta.unwrap_or_default())
            }
            "response.function_call_arguments.done" => self.arguments(output, parsed.arguments),
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.over(&kind, parsed.response.unwrap_or_default())
            }
            "error" => Err(Complaint::read(&event.data)
                .map_or_else(|| Complaint::default().into_error(), Complaint::into_error)),
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), ModelError> {
        if self.assembly.is_finished() { Ok(()) } else { Err(interrupted()) }
    }

    fn next(&mut self) -> Option<ModelEvent> {
        self.assembly.next()
    }
}

impl Stream {
    fn item_added(&mut self, output: u64, item: Option<Item>) -> Result<(), ModelError> {
        let item = item.unwrap_or_default();
        if item.kind.as_deref() == Some("function_call") {
            self.open_call(output, item.call_id.or(item.id), item.name)?;
        }
        Ok(())
    }

    fn open_call(
        &mut self,
        output: u64,
        id: Option<String>,
        name: Option<String>,
    ) -> Result<(), ModelError> {
        let key = (output, 0, Kind::Tool);
        if !self.seen.insert(key) {
            return Err(protocol("a block was opened twice"));
        }
        self.called = true;
        self.assembly.open_tool(key, id.unwrap_or_default(), name.unwrap_or_default())
    }

    /// Adds to a text or thought, and opens it first if it is new.
    fn say(&mut self, key: BlockKey, text: Option<String>) -> Result<(), ModelError> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(()) };
        if !self.assembly.is_open(key) {
            if !self.seen.insert(key) {
                return Err(protocol("a block went on behind its end"));
            }
            self.assembly.open(key)?;
        }
        self.assembly.grow(key, text)
    }

    /// A text or thought is whole. `text` is all of it; it matters only if no pieces came.
    fn whole(&mut self, key: BlockKey, text: Option<String>) -> Result<(), ModelError> {
        if !self.seen.contains(&key) {
            self.say(key, text)?;
        }
        if self.assembly.is_open(key) { self.assembly.close(key) } else { Ok(()) }
    }

    /// The input of a call is whole. As with texts, `arguments` matters only if no pieces came.
    fn arguments(&mut self, output: u64, arguments: Option<String>) -> Result<(), ModelError> {
        let key = (output, 0, Kind::Tool);
        if self.assembly.is_open(key) && !self.assembly.has_input(key) {
            self.assembly.grow(key, arguments.unwrap_or_default())?;
        }
        Ok(())
    }

    /// An item is whole: says what was not said piece by piece, and closes its blocks.
    fn item_done(&mut self, output: u64, item: Item) -> Result<(), ModelError> {
        match item.kind.as_deref() {
            Some("function_call") => {
                let key = (output, 0, Kind::Tool);
                if !self.seen.contains(&key) {
                    self.open_call(output, item.call_id.or(item.id), item.name)?;
                }
                self.arguments(output, item.arguments)?;
                if self.assembly.is_open(key) { self.assembly.close(key) } else { Ok(()) }
            }
            Some("message") => self.parts(output, 0, Kind::Text, item.content),
            Some("reasoning") => {
                self.parts(output, SUMMARY, Kind::Reasoning, item.summary)?;
                self.parts(output, 0, Kind::Reasoning, item.content)
            }
            _ => Ok(()),
        }
    }

    fn parts(
        &mut self,
        output: u64,
        first: u64,
        kind: Kind,
        parts: Vec<Part>,
    ) -> Result<(), ModelError> {
        for (at, part) in (first..).zip(parts) {
            self.whole((output, at, kind), part.text.or(part.refusal))?;
        }
        Ok(())
    }

    fn over(&mut self, kind: &str, response: Response) -> Result<(), ModelError> {
        self.assembly.start(response.id, response.model);
        let counts = response.usage;
        if let Some(counts) = &counts {
            self.assembly.usage(counts.usage());
        }
        if kind == "response.failed" {
            return Err(response.error.unwrap_or_default().into_error());
        }
        debug_assert!(response.output.len() <= BLOCKS_COUNT_MAX);
        for (output, item) in (0..).zip(response.output) {
            // What is cut off is not whole, so an unfinished call is left to the end.
            let cut =
                kind == "response.incomplete" && item.kind.as_deref() == Some("function_call");
            if !cut {
                self.item_done(output, item)?;
            }
        }
        let reason = response.incomplete_details.and_then(|details| details.reason);
        let reason_ours = match (kind, reason.as_deref()) {
            ("response.completed", _) if self.called => FinishReason::ToolCalls,
            ("response.completed", _) => FinishReason::Stop,
            (_, Some("max_output_tokens")) => FinishReason::Length,
            (_, Some("content_filter")) => FinishReason::ContentFilter,
            _ => FinishReason::Other,
        };
        self.assembly.finish(reason_ours, reason.or(response.status));
        Ok(())
    }
}
