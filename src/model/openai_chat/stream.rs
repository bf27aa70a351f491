//! The stream of chat completions as our events.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::FailureKind;
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
struct Chunk {
    #[serde(deserialize_with = "lax")]
    id: Option<String>,
    #[serde(deserialize_with = "lax")]
    model: Option<String>,
    #[serde(deserialize_with = "list")]
    choices: Vec<Choice>,
    #[serde(deserialize_with = "lax")]
    usage: Option<Counts>,
    #[serde(deserialize_with = "lax")]
    error: Option<Box<RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice {
    #[serde(deserialize_with = "lax")]
    index: Option<u64>,
    #[serde(deserialize_with = "lax")]
    delta: Option<Delta>,
    #[serde(deserialize_with = "lax")]
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta {
    #[serde(deserialize_with = "lax")]
    content: Option<String>,
    #[serde(deserialize_with = "lax")]
    refusal: Option<String>,
    #[serde(deserialize_with = "lax")]
    reasoning_content: Option<String>,
    #[serde(deserialize_with = "lax")]
    reasoning: Option<String>,
    #[serde(deserialize_with = "list")]
    tool_calls: Vec<Piece>,
}

/// A piece of a tool call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Piece {
    #[serde(deserialize_with = "lax")]
    index: Option<u64>,
    #[serde(deserialize_with = "lax")]
    id: Option<String>,
    #[serde(deserialize_with = "lax")]
    function: Option<Function>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Function {
    #[serde(deserialize_with = "lax")]
    name: Option<String>,
    #[serde(deserialize_with = "lax")]
    arguments: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counts {
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
    fn usage(&self) -> Usage {
        let cached = self.prompt_tokens_details.as_ref().and_then(|d| d.cached_tokens);
        let reasoning = self.completion_tokens_details.as_ref().and_then(|d| d.reasoning_tokens);
        Usage {
            input_tokens: self.prompt_tokens.unwrap_or(0),
            output_tokens: self.completion_tokens.unwrap_or(0),
            cached_input_tokens: cached.unwrap_or(0),
            reasoning_tokens: reasoning.unwrap_or(0),
        }
    }
}

/// A tool call as the provider tells it.
#[derive(Debug, Default)]
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    /// What came before the name did.
    early: String,
    is_open: bool,
}

/// Reads one answer.
///
/// This dialect does not say where blocks end: a text or thought ends where something else begins, and a tool call ends with
/// the answer, because its pieces may come in any order.
#[derive(Debug, Default)]
pub(in crate::model) struct Stream {
    assembly: Assembly,
    answer_id: String,
    calls: Vec<Call>,
    /// The open text or thought.
    current: Option<Kind>,
    finish_reason: Option<String>,
    refused: bool,
}

const DONE: &str = "[DONE]";

impl Dialect for Stream {
    fn take(&mut self, event: &sse::Event) -> Result<(), ModelError> {
        if self.assembly.is_finished() {
            return Ok(());
        }
        if event.data.trim() == DONE {
            return self.end();
        }
        if event.name == "error" {
            return Err(Complaint::read(&event.data).unwrap_or_default().into_error());
        }
        let parsed = object::<Chunk>(&event.data)
            .map_err(|error| protocol(format!("an event is not JSON: {error}")))?;
        let Some(chunk) = parsed else { return Ok(()) };
        if chunk.error.is_some() {
            return Err(Complaint::read(&event.data).unwrap_or_default().into_error());
        }
        if !self.assembly.is_started() {
            self.answer_id = chunk.id.clone().unwrap_or_default();
            self.assembly.start(chunk.id, chunk.model);
        }
        for choice in chunk.choices {
            // Only one was asked for.
            if choice.index.unwrap_or(0) == 0 && self.finish_reason.is_none() {
                self.choice(choice)?;
            }
        }
        if let Some(counts) = chunk.usage {
            self.assembly.usage(counts.usage());
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), ModelError> {
        let Some(raw) = self.finish_reason.take() else {
            return if self.assembly.is_finished() { Ok(()) } else { Err(interrupted()) };
        };
        self.assembly.finish(finish_reason(&raw, self.refused), Some(raw));
        Ok(())
    }

    fn next(&mut self) -> Option<ModelEvent> {
        self.assembly.next()
    }
}

impl Stream {
    fn choice(&mut self, choice: Choice) -> Result<(), ModelError> {
        let delta = choice.delta.unwrap_or_default();
        self.say(Kind::Reasoning, delta.reasoning_content.or(delta.reasoning))?;
        self.say(Kind::Text, delta.content)?;
        self.refused |= delta.refusal.as_ref().is_some_and(|refusal| !refusal.is_empty());
        self.say(Kind::Text, delta.refusal)?;
        for piece in delta.tool_calls {
            self.piece(piece)?;
        }
        // Some servers say "" until they are done.
        if let Some(raw) = choice.finish_reason.filter(|raw| !raw.is_empty()) {
            let reason = finish_reason(&raw, self.refused);
            if self.calls.iter().any(|call| !call.is_open) {
                return Err(protocol("a tool call without a usable name"));
            }
            self.assembly.close_all(matches!(reason, FinishReason::Stop | FinishReason::ToolCalls));
            self.finish_reason = Some(raw);
        }
        Ok(())
    }

    /// Adds to the open text or thought; opens it first, and closes the other one.
    fn say(&mut self, kind: Kind, text: Option<String>) -> Result<(), ModelError> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(()) };
        if self.current != Some(kind) {
            self.close_current()?;
            self.assembly.open((0, 0, kind))?;
            self.current = Some(kind);
        }
        self.assembly.grow((0, 0, kind), text)
    }

    fn close_current(&mut self) -> Result<(), ModelError> {
        match self.current.take() {
            Some(kind) => self.assembly.close((0, 0, kind)),
            None => Ok(()),
        }
    }

    fn piece(&mut self, piece: Piece) -> Result<(), ModelError> {
        let function = piece.function.unwrap_or_default();
        let id = piece.id.filter(|id| !id.is_empty());
        let name = function.name.filter(|name| !name.is_empty());
        let at = self.call(piece.index, id.as_deref(), name.is_some())?;
        let call = &mut self.calls[at];
        if call.id.is_empty() {
            call.id = id.unwrap_or_default();
        }
        if call.name.is_empty() {
            call.name = name.unwrap_or_default();
        }
        let arguments = function.arguments.unwrap_or_default();
        let key: BlockKey = (at as u64, 0, Kind::Tool);
        if call.is_open {
            return self.assembly.grow(key, arguments);
        }
        call.early.push_str(&arguments);
        if call.name.is_empty() {
            return Ok(());
        }
        call.is_open = true;
        if call.id.is_empty() && !self.answer_id.is_empty() {
            // Some servers leave it out. The answer's id makes it unique in the conversation.
            call.id = format!("{}-{at}", self.answer_id);
        }
        let (id, name) = (call.id.clone(), call.name.clone());
        let early = std::mem::take(&mut call.early);
        self.close_current()?;
        self.assembly.open_tool(key, id, name)?;
        self.assembly.grow(key, early)
    }

    /// Which call a piece is of. Pieces are told apart by `index`; servers that leave it out, or always say 0, give a new
    /// call a new id and its name.
    fn call(
        &mut self,
        index: Option<u64>,
        id: Option<&str>,
        named: bool,
    ) -> Result<usize, ModelError> {
        let known = match (index, id) {
            (Some(_), _) => self.calls.iter().rposition(|call| call.index == index),
            (None, Some(id)) => self.calls.iter().rposition(|call| call.id == id),
            (None, None) => self.calls.len().checked_sub(1).filter(|_| !named),
        };
        let is_new = |call: &Call| {
            let other_id = id.is_some_and(|id| !call.id.is_empty() && call.id != id);
            other_id && named && !call.name.is_empty()
        };
        if let Some(at) = known.filter(|at| !is_new(&self.calls[*at])) {
            return Ok(at);
        }
        if id.is_none() && !named {
            return Err(protocol("a tool call was continued before it began"));
        }
        if self.calls.len() >= BLOCKS_COUNT_MAX {
            return Err(ModelError::new(FailureKind::Limit, "the answer has too many tool calls"));
        }
        self.calls.push(Call { index, ..Call::default() });
        Ok(self.calls.len() - 1)
    }
}

/// What the AI SDK calls a `finish_reason`, as its provider for OpenAI maps them.
fn finish_reason(raw: &str, refused: bool) -> FinishReason {
    match raw {
        "content_filter" => FinishReason::ContentFilter,
        "stop" if refused => FinishReason::ContentFilter,
        "stop" => FinishReason::Stop,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "length" => FinishReason::Length,
        _ => FinishReason::Other,
    }
}
