//! The stream of the Responses API as our events.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::base::json::Json;
use crate::base::json::Object;
use crate::model::FinishReason;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::assembly::Assembly;
use crate::model::assembly::BLOCKS_COUNT_MAX;
use crate::model::assembly::BlockKey;
use crate::model::assembly::Kind;
use crate::model::assembly::Tokens;
use crate::model::assembly::interrupted;
use crate::model::assembly::protocol;
use crate::model::dialect::Complaint;
use crate::model::dialect::DONE;
use crate::model::dialect::Dialect;
use crate::model::dialect::no_answer;
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
    output_index: Option<u64>,
    #[serde(deserialize_with = "lax")]
    content_index: Option<u64>,
    #[serde(deserialize_with = "lax")]
    summary_index: Option<u64>,
    #[serde(deserialize_with = "lax")]
    delta: Option<JsonText>,
    #[serde(deserialize_with = "lax")]
    text: Option<Loose>,
    #[serde(deserialize_with = "lax")]
    refusal: Option<Loose>,
    #[serde(deserialize_with = "lax")]
    arguments: Option<JsonText>,
    #[serde(deserialize_with = "lax")]
    annotation: Option<Annotation>,
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
    arguments: Option<JsonText>,
    /// Of a thought: what only the provider can read.
    #[serde(deserialize_with = "lax")]
    encrypted_content: Option<String>,
    /// Of a picture: base64.
    #[serde(deserialize_with = "lax")]
    result: Option<String>,
    #[serde(deserialize_with = "lax")]
    output_format: Option<String>,
}

/// Where something was read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Annotation {
    #[serde(deserialize_with = "lax")]
    url: Option<String>,
    #[serde(deserialize_with = "lax")]
    title: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Part {
    #[serde(deserialize_with = "lax")]
    text: Option<Loose>,
    #[serde(deserialize_with = "lax")]
    refusal: Option<Loose>,
    #[serde(deserialize_with = "list")]
    annotations: Vec<Annotation>,
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
    fn tokens(&self) -> Tokens {
        Tokens {
            input: self.input_tokens,
            output: self.output_tokens,
            cached: self.input_tokens_details.as_ref().and_then(|d| d.cached_tokens),
            reasoning: self.output_tokens_details.as_ref().and_then(|d| d.reasoning_tokens),
        }
    }
}

/// Summaries and the thoughts themselves are counted apart; this keeps their blocks apart.
const SUMMARY: u64 = 1 << 32;

/// Where calls are that come under the number of another one.
const CALLS: u64 = 1 << 40;

/// A call, and under which number its pieces come.
#[derive(Debug)]
struct Call {
    output: u64,
    id: String,
    key: BlockKey,
}

/// Reads one answer.
#[derive(Debug, Default)]
pub(in crate::model) struct Stream {
    assembly: Assembly,
    /// Blocks that have been opened, whether or not they are closed.
    seen: BTreeSet<BlockKey>,
    calls: Vec<Call>,
    /// Items that were whole already: the last event repeats them.
    whole: BTreeSet<u64>,
}

impl Dialect for Stream {
    fn take(&mut self, event: &sse::Event) -> Result<(), ModelError> {
        if self.assembly.is_finished() {
            return Ok(());
        }
        if event.data.trim() == DONE && self.assembly.is_started() {
            // Not of this API, but gateways say it.
            return self.over("response.completed", Response::default());
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
        let delta = parsed.delta.map(|delta| delta.0);
        match kind.as_str() {
            "response.created" | "response.in_progress" | "response.queued" => {
                let response = parsed.response.unwrap_or_default();
                self.assembly.start(response.id, response.model);
                Ok(())
            }
            "response.output_item.added" => self.item_added(output, parsed.item),
            "response.output_item.done" => self.item_done(output, parsed.item.unwrap_or_default()),
            "response.output_text.delta" | "response.refusal.delta" => self.say(text, delta),
            "response.output_text.done" => self.whole(text, parsed.text),
            "response.refusal.done" => self.whole(text, parsed.refusal),
            "response.reasoning_text.delta" => self.say(thought, delta),
            "response.reasoning_text.done" => self.told(thought, parsed.text),
            "response.reasoning_summary_text.delta" => self.say(summary, delta),
            "response.reasoning_summary_text.done" => self.told(summary, parsed.text),
            "response.output_text.annotation.added" => {
                let annotation = parsed.annotation.unwrap_or_default();
                self.assembly.source(annotation.url, annotation.title);
                Ok(())
            }
            "response.function_call_arguments.delta" => {
                let key = self.call(output, None).unwrap_or((output, 0, Kind::Tool));
                self.assembly.grow(key, delta.unwrap_or_default())
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

    fn whole(&mut self, body: &str) -> Result<(), ModelError> {
        let response = object::<Response>(body).ok().flatten();
        let response = response.filter(|response| {
            response.error.is_some() || response.status.is_some() || !response.output.is_empty()
        });
        let response = response.ok_or_else(|| no_answer(body))?;
        let kind = match response.status.as_deref() {
            Some("incomplete") => "response.incomplete",
            _ => "response.completed",
        };
        self.over(kind, response)
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

    /// The block of the latest call with this number and, if it is known, this id.
    fn call(&self, output: u64, id: Option<&str>) -> Option<BlockKey> {
        let mut calls = self.calls.iter().rev();
        let found = calls.find(|call| {
            call.output == output && id.is_none_or(|id| call.id.is_empty() || call.id == id)
        });
        found.map(|call| call.key)
    }

    /// Opens a call. Some servers count all calls as the same output; then the id tells them apart.
    fn open_call(
        &mut self,
        output: u64,
        id: Option<String>,
        name: Option<String>,
    ) -> Result<BlockKey, ModelError> {
        if self.call(output, Some(id.as_deref().unwrap_or_default())).is_some() {
            return Err(protocol("a block was opened twice"));
        }
        let taken = self.calls.iter().any(|call| call.output == output);
        let key = if taken { CALLS + self.calls.len() as u64 } else { output };
        let key = (key, 0, Kind::Tool);
        let told = id.clone().unwrap_or_default();
        // Some servers leave the id out.
        let id = id.unwrap_or_else(|| format!("call-{output}"));
        self.assembly.open_tool(key, id, name.unwrap_or_default())?;
        self.calls.push(Call { output, id: told, key });
        Ok(key)
    }

    /// Adds to a text or thought, and opens it first if it is new.
    fn say(&mut self, key: BlockKey, text: Option<Loose>) -> Result<(), ModelError> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(()) };
        if !self.assembly.is_open(key) {
            if !self.seen.insert(key) {
                return Err(protocol("a block went on behind its end"));
            }
            self.assembly.open(key)?;
        }
        self.assembly.grow(key, text)
    }

    /// A text is whole. `text` is all of it; it matters only if no pieces came.
    fn whole(&mut self, key: BlockKey, text: Option<Loose>) -> Result<(), ModelError> {
        self.told(key, text)?;
        if self.assembly.is_open(key) { self.assembly.close(key) } else { Ok(()) }
    }

    /// All of a text or thought is told. A thought stays open until its item is whole, because the seal comes with it.
    fn told(&mut self, key: BlockKey, text: Option<Loose>) -> Result<(), ModelError> {
        if self.seen.contains(&key) { Ok(()) } else { self.say(key, text) }
    }

    /// The input of a call is whole. As with texts, `arguments` matters only if no pieces came.
    fn arguments(&mut self, output: u64, arguments: Option<JsonText>) -> Result<(), ModelError> {
        match self.call(output, None) {
            Some(key) => self.give(key, arguments),
            None => Ok(()),
        }
    }

    fn give(&mut self, key: BlockKey, arguments: Option<JsonText>) -> Result<(), ModelError> {
        if self.assembly.is_open(key) && !self.assembly.has_input(key) {
            self.assembly.grow(key, arguments.unwrap_or_default().0)?;
        }
        Ok(())
    }

    /// An item is whole: says what was not said piece by piece, and closes its blocks.
    fn item_done(&mut self, output: u64, item: Item) -> Result<(), ModelError> {
        match item.kind.as_deref() {
            Some("function_call") => {
                let id = item.call_id.or(item.id);
                let key = match self.call(output, id.as_deref()) {
                    Some(key) => key,
                    None => self.open_call(output, id, item.name)?,
                };
                self.give(key, item.arguments)?;
                if self.assembly.is_open(key) { self.assembly.close(key) } else { Ok(()) }
            }
            Some("message") => {
                for (at, part) in (0..).zip(item.content) {
                    for annotation in part.annotations {
                        self.assembly.source(annotation.url, annotation.title);
                    }
                    self.whole((output, at, Kind::Text), part.text.or(part.refusal))?;
                }
                Ok(())
            }
            Some("reasoning") => self.thought(output, item),
            Some("image_generation_call") if self.whole.insert(output) => {
                let format = item.output_format.unwrap_or_else(|| "png".to_owned());
                let url = item.result.map(|data| format!("data:image/{format};base64,{data}"));
                self.assembly.image(url);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A thought is whole: its summaries, its texts, and the seal, which goes with the first of them.
    fn thought(&mut self, output: u64, item: Item) -> Result<(), ModelError> {
        if !self.whole.insert(output) {
            return Ok(());
        }
        let summaries = (SUMMARY..).zip(item.summary);
        for (at, part) in summaries.chain((0..).zip(item.content)) {
            self.told((output, at, Kind::Reasoning), part.text)?;
        }
        let blocks: Vec<BlockKey> = self
            .seen
            .iter()
            .filter(|key| key.0 == output && key.2 == Kind::Reasoning)
            .filter(|key| self.assembly.is_open(**key))
            .copied()
            .collect();
        let mut seal = Object::default();
        if let Some(id) = item.id.filter(|_| item.encrypted_content.is_some()) {
            seal.set("itemId", Json::string(&id));
        }
        if let Some(data) = item.encrypted_content {
            seal.set("reasoningEncryptedContent", Json::string(&data));
        }
        match blocks.first() {
            None if seal.is_empty() => {}
            None => self.assembly.sealed(seal)?,
            Some(first) => {
                for (name, value) in seal.iter() {
                    self.assembly.seal(*first, name, value.clone())?;
                }
            }
        }
        blocks.into_iter().try_for_each(|key| self.assembly.close(key))
    }

    fn over(&mut self, kind: &str, response: Response) -> Result<(), ModelError> {
        self.assembly.start(response.id, response.model);
        let counts = response.usage;
        if let Some(counts) = &counts {
            self.assembly.usage(counts.tokens());
        }
        let failed = response.status.as_deref() == Some("failed") || response.error.is_some();
        if kind == "response.failed" || failed {
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
            ("response.completed", _) if !self.calls.is_empty() => FinishReason::ToolCalls,
            ("response.completed", _) => FinishReason::Stop,
            (_, Some("max_output_tokens")) => FinishReason::Length,
            (_, Some("content_filter")) => FinishReason::ContentFilter,
            _ => FinishReason::Other,
        };
        self.assembly.finish(reason_ours, reason.or(response.status));
        Ok(())
    }
}
