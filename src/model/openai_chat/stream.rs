//! The stream of chat completions as our events.

use serde_json::value::RawValue;
use serde_json::value::to_raw_value;

use crate::base::json::Json;
use crate::base::json::Object;
use crate::model::FailureKind;
use crate::model::FinishReason;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::assembly::Assembly;
use crate::model::assembly::BLOCKS_COUNT_MAX;
use crate::model::assembly::BlockKey;
use crate::model::assembly::Kind;
use crate::model::assembly::interrupted;
use crate::model::assembly::protocol;
use crate::model::dialect::Complaint;
use crate::model::dialect::DONE;
use crate::model::dialect::Dialect;
use crate::model::dialect::is_told;
use crate::model::dialect::no_answer;
use crate::model::dialect::stray_error;
use crate::model::lax::object;
use crate::model::loose::Loose;
use crate::model::openai_chat::chunk::Choice;
use crate::model::openai_chat::chunk::Chunk;
use crate::model::openai_chat::chunk::Delta;
use crate::model::openai_chat::chunk::Piece;
use crate::model::openai_chat::chunk::Said;
use crate::model::openai_chat::chunk::said;
use crate::model::openai_chat::details::Details;
use crate::model::sse;

/// A tool call as the provider tells it.
#[derive(Debug, Default)]
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    /// What came before the name did.
    early: Vec<Loose>,
    /// What must be sent back with it, if it came before the name did.
    extra: Option<Json>,
    is_open: bool,
    /// The chunk that last began or named it.
    chunk: u64,
}

/// Reads one answer.
///
/// This dialect does not say where blocks end: a text or thought ends where something else begins, and a tool call ends with
/// the answer, because its pieces may come in any order. Nor is a `finish_reason` the end: some servers say one behind every
/// call, some with every chunk. The end is `[DONE]`, or the end of the stream behind a `finish_reason`; the last one counts.
#[derive(Debug, Default)]
pub(in crate::model) struct Stream {
    assembly: Assembly,
    answer_id: String,
    calls: Vec<Call>,
    /// The open text or thought.
    current: Option<Kind>,
    details: Details,
    finish_reason: Option<String>,
    failure: Option<ModelError>,
    refused: bool,
    chunks: u64,
    /// Something was said that is an answer.
    answered: bool,
    /// What came before that and has words.
    complaint: Option<ModelError>,
    messages: Messages,
    /// Calls come in lists.
    listed: bool,
}

/// What is read of messages that come in a stream.
#[derive(Debug, Default)]
struct Messages {
    /// One is being read.
    reading: bool,
    /// What they said so far: each may repeat it.
    text: String,
    thought: String,
    /// What deltas said instead.
    pieces: Vec<Kind>,
}

/// What `text` says beyond `before`, which it may repeat.
fn news<'a>(before: &mut String, text: &'a str) -> &'a str {
    let rest = text.strip_prefix(before.as_str()).unwrap_or(text);
    before.push_str(rest);
    rest
}

impl Dialect for Stream {
    fn take(&mut self, event: &sse::Event) -> Result<(), ModelError> {
        if self.assembly.is_finished() {
            return Ok(());
        }
        if event.data.trim() == DONE {
            return self.over(true);
        }
        if event.name == "error" {
            return Err(Complaint::of_event(&event.data).into_error());
        }
        let parsed = object::<Chunk>(&event.data)
            .map_err(|error| protocol(format!("an event cannot be read: {error}")))?;
        let Some(chunk) = parsed else { return Ok(()) };
        if chunk.error.as_deref().is_some_and(is_told) {
            return Err(Complaint::of_event(&event.data).into_error());
        }
        if chunk.choices.is_empty() {
            if let Some(error) = stray_error(&event.data) {
                return Err(error);
            }
            if !self.answered && self.complaint.is_none() {
                let complaint = Complaint::read(&event.data);
                let complaint = complaint.filter(|complaint| complaint.message.is_some());
                self.complaint = complaint.map(Complaint::into_error);
            }
        }
        self.chunk(chunk)
    }

    fn whole(&mut self, body: &str) -> Result<(), ModelError> {
        let chunk = object::<Chunk>(body).ok().flatten();
        let chunk = chunk.filter(|chunk| {
            !chunk.error.as_deref().is_some_and(is_told) && !chunk.choices.is_empty()
        });
        self.chunk(chunk.ok_or_else(|| no_answer(body))?)?;
        self.over(true)
    }

    fn end(&mut self) -> Result<(), ModelError> {
        self.over(false)
    }

    fn may_be_over(&self) -> bool {
        self.finish_reason.is_some()
    }

    fn next(&mut self) -> Option<ModelEvent> {
        self.assembly.next()
    }
}

impl Stream {
    fn chunk(&mut self, chunk: Chunk) -> Result<(), ModelError> {
        if !self.assembly.is_started() {
            self.answer_id = chunk.id.clone().unwrap_or_default();
            self.assembly.start(chunk.id, chunk.model);
        }
        self.chunks += 1;
        for choice in chunk.choices {
            // Only one was asked for.
            if choice.index.unwrap_or(0) == 0 {
                self.choice(choice)?;
            }
        }
        for url in chunk.citations {
            self.assembly.source(Some(url), None);
        }
        if let Some(counts) = chunk.usage {
            self.assembly.usage(counts.tokens());
        }
        Ok(())
    }

    /// The stream ends here; with `said`, because the provider says so: a connection that is cut cannot do that.
    fn over(&mut self, said: bool) -> Result<(), ModelError> {
        if self.assembly.is_finished() {
            return Ok(());
        }
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let raw = self.finish_reason.take();
        let called = self.calls.iter().any(|call| call.is_open);
        let reason = match &raw {
            Some(raw) => finish_reason(raw, self.refused),
            None if !self.answered && self.complaint.is_some() => {
                return Err(self.complaint.take().unwrap_or_else(interrupted));
            }
            None if said && !self.answered && self.assembly.is_started() => {
                return Err(protocol("what came is JSON, but no answer"));
            }
            None if !said || !self.assembly.is_started() => return Err(interrupted()),
            None if called => FinishReason::ToolCalls,
            None if self.refused => FinishReason::ContentFilter,
            None => FinishReason::Stop,
        };
        // What has an id and nothing else keeps a place for nobody.
        if self.calls.iter().any(|call| !call.is_open && !call.early.is_empty()) {
            return Err(protocol("a tool call without a usable name"));
        }
        self.close_current()?;
        if let Some(details) = self.details.take() {
            self.assembly.sealed(Object::default().with("reasoning_details", &details))?;
        }
        self.assembly.finish(reason, raw);
        Ok(())
    }

    fn choice(&mut self, choice: Choice) -> Result<(), ModelError> {
        self.answered = true;
        // Beside a delta, the message repeats all that was said so far.
        match (choice.delta, choice.message) {
            (Some(delta), _) => self.delta(delta)?,
            (None, Some(message)) => self.message(message)?,
            (None, None) => {}
        }
        if let Some(counts) = choice.usage {
            self.assembly.usage(counts.tokens());
        }
        // Some servers say "" until they are done.
        let raw = choice.finish_reason.filter(|raw| !raw.is_empty());
        let failed = matches!(raw.as_deref(), Some("error" | "network_error"));
        let words = Complaint::of_member(choice.error);
        if failed || words.is_some() {
            let failure = words.unwrap_or_default().into_error();
            self.failure.get_or_insert(failure);
        }
        self.finish_reason = raw.or_else(|| self.finish_reason.take());
        Ok(())
    }

    /// A message in place of a delta: what it says and nothing said before.
    fn message(&mut self, mut message: Delta) -> Result<(), ModelError> {
        let messages = &mut self.messages;
        if messages.pieces.contains(&Kind::Text) {
            (message.content, message.refusal, message.images) = (None, None, Vec::new());
        }
        if messages.pieces.contains(&Kind::Reasoning) {
            (message.reasoning_content, message.reasoning) = (None, None);
            message.reasoning_details.clear();
        }
        for thought in [&mut message.reasoning_content, &mut message.reasoning] {
            if let Some(text) = thought.as_ref().and_then(Loose::whole) {
                let rest = news(&mut messages.thought, text).to_owned();
                *thought = Some(rest.into());
                break;
            }
        }
        let content = message.content.as_deref().map(RawValue::get);
        if let Some(text) = content.and_then(|raw| serde_json::from_str::<String>(raw).ok()) {
            message.content = to_raw_value(news(&mut messages.text, &text)).ok();
        }
        for (at, piece) in (0..).zip(&mut message.tool_calls) {
            piece.index.get_or_insert(at);
        }
        messages.reading = true;
        let done = self.delta(message);
        self.messages.reading = false;
        done
    }

    fn delta(&mut self, delta: Delta) -> Result<(), ModelError> {
        let shown: Vec<String> =
            delta.reasoning_details.iter().filter_map(|piece| self.details.add(piece)).collect();
        let thought = |text: Option<Loose>| text.filter(|text| !text.is_empty());
        match (thought(delta.reasoning_content), thought(delta.reasoning)) {
            (Some(text), _) => self.think(text, "reasoning_content")?,
            (None, Some(text)) => self.think(text, "reasoning")?,
            (None, None) if shown.is_empty() => {}
            (None, None) => self.say(Kind::Reasoning, shown.concat().into())?,
        }
        let mut parts = Vec::new();
        if let Some(content) = &delta.content {
            said(content, &mut parts);
        }
        for part in parts {
            match part {
                Said::Text(text) => self.say(Kind::Text, text)?,
                Said::Thought(text) => self.say(Kind::Reasoning, text)?,
                Said::Image(url) => self.image(url)?,
            }
        }
        if let Some(refusal) = delta.refusal.filter(|refusal| !refusal.is_empty()) {
            self.refused = true;
            self.say(Kind::Text, refusal)?;
        }
        for image in &delta.images {
            self.image(image.image())?;
        }
        for annotation in delta.annotations {
            let (url, title) = annotation.address();
            self.assembly.source(url, title);
        }
        let listed = !delta.tool_calls.is_empty();
        for piece in delta.tool_calls {
            self.piece(piece)?;
        }
        self.listed |= listed && !self.calls.is_empty();
        // Beside a list it says the same again.
        match delta.function_call.filter(|_| !self.listed) {
            Some(function) => self.piece(Piece { function: Some(function), ..Piece::default() }),
            None => Ok(()),
        }
    }

    /// Adds to a thought that goes back in the member `field`.
    fn think(&mut self, text: Loose, field: &str) -> Result<(), ModelError> {
        self.say(Kind::Reasoning, text)?;
        self.assembly.seal((0, 0, Kind::Reasoning), "field", Json::string(field))
    }

    /// Adds to the open text or thought; opens it first, and closes the other one.
    fn say(&mut self, kind: Kind, text: Loose) -> Result<(), ModelError> {
        if text.is_empty() {
            return Ok(());
        }
        if !self.messages.reading && !self.messages.pieces.contains(&kind) {
            self.messages.pieces.push(kind);
        }
        if self.current != Some(kind) {
            self.close_current()?;
            self.assembly.open((0, 0, kind))?;
            self.current = Some(kind);
        }
        self.assembly.grow((0, 0, kind), text)
    }

    fn image(&mut self, url: Option<String>) -> Result<(), ModelError> {
        self.close_current()?;
        self.assembly.image(url);
        Ok(())
    }

    fn close_current(&mut self) -> Result<(), ModelError> {
        let Some(kind) = self.current.take() else { return Ok(()) };
        let key = (0, 0, kind);
        if kind == Kind::Reasoning
            && let Some(details) = self.details.take()
        {
            self.assembly.seal(key, "reasoning_details", details)?;
        }
        self.assembly.close(key)
    }

    fn piece(&mut self, piece: Piece) -> Result<(), ModelError> {
        let function = piece.function.unwrap_or_default();
        let id = piece.id.filter(|id| !id.is_empty());
        let name = function.name.filter(|name| !name.is_empty());
        let arguments = function.arguments.map(|arguments| arguments.0);
        let says = arguments.as_ref().is_some_and(|text| !text.is_empty());
        if id.is_none() && name.is_none() && piece.extra_content.is_none() && !says {
            // Some servers keep a place for a call that nobody makes.
            return Ok(());
        }
        if let Some(at) = self.repeated(piece.index, id.as_deref(), arguments.as_ref()) {
            return match piece.extra_content {
                Some(extra) => {
                    self.assembly.seal((at as u64, 0, Kind::Tool), "extra_content", extra)
                }
                None => Ok(()),
            };
        }
        let at = self.call(piece.index, id.as_deref(), name.as_deref())?;
        let call = &mut self.calls[at];
        if call.id.is_empty() {
            call.id = id.unwrap_or_default();
        }
        if name.is_some() {
            call.chunk = self.chunks;
        }
        if call.name.is_empty() {
            call.name = name.unwrap_or_default();
        }
        call.extra = piece.extra_content.or_else(|| call.extra.take());
        call.early.extend(arguments.filter(|text| !text.is_empty()));
        if call.name.is_empty() {
            return Ok(());
        }
        let key: BlockKey = (at as u64, 0, Kind::Tool);
        if !std::mem::replace(&mut call.is_open, true) {
            if call.id.is_empty() {
                // Some servers leave it out. The answer's id makes it unique in the conversation.
                let answer = if self.answer_id.is_empty() { "call" } else { &self.answer_id };
                call.id = format!("{answer}-{at}");
            }
            let (id, name) = (call.id.clone(), call.name.clone());
            self.close_current()?;
            self.assembly.open_tool(key, id, name)?;
        }
        let call = &mut self.calls[at];
        for text in std::mem::take(&mut call.early) {
            self.assembly.grow(key, text)?;
        }
        match call.extra.take() {
            Some(extra) => self.assembly.seal(key, "extra_content", extra),
            None => Ok(()),
        }
    }

    /// The call that a piece says again, if that is whole: some servers end with all calls once more, with their input or
    /// without.
    fn repeated(
        &self,
        index: Option<u64>,
        id: Option<&str>,
        arguments: Option<&Loose>,
    ) -> Option<usize> {
        let calls = &self.calls;
        let at = match id {
            Some(id) => calls.iter().rposition(|call| call.id == id)?,
            // A message has all of a call, and may repeat it.
            None if self.messages.reading => calls.iter().rposition(|call| call.index == index)?,
            None => return None,
        };
        let key = (at as u64, 0, Kind::Tool);
        let again = match arguments.filter(|text| !text.is_empty()) {
            None => self.assembly.is_input_whole(key),
            Some(text) => text.whole().is_some_and(|text| self.assembly.is_input(key, text)),
        };
        again.then_some(at)
    }

    /// Which call a piece is of. Pieces are told apart by `index`. Servers that leave it out, or always say 0, give a new call
    /// a new id and its name, or its name alone once the input of the one before is whole.
    fn call(
        &mut self,
        index: Option<u64>,
        id: Option<&str>,
        name: Option<&str>,
    ) -> Result<usize, ModelError> {
        let last = self.calls.len().checked_sub(1);
        let known = match (index, id) {
            (Some(_), _) => self.calls.iter().rposition(|call| call.index == index),
            (None, Some(id)) => self.calls.iter().rposition(|call| call.id == id),
            (None, None) => last,
        };
        if let Some(at) = known.filter(|at| !self.is_new(*at, id, name)) {
            return Ok(at);
        }
        if id.is_none() && name.is_none() {
            // Some servers count on where they should not.
            let last = last.ok_or_else(|| protocol("a tool call was continued before it began"))?;
            return Ok(last);
        }
        if self.calls.len() >= BLOCKS_COUNT_MAX {
            return Err(ModelError::new(FailureKind::Limit, "the answer has too many tool calls"));
        }
        self.calls.push(Call { index, ..Call::default() });
        Ok(self.calls.len() - 1)
    }

    /// Whether a piece with this id and name begins another call than `at`.
    fn is_new(&self, at: usize, id: Option<&str>, name: Option<&str>) -> bool {
        let call = &self.calls[at];
        let Some(name) = name.filter(|_| !call.name.is_empty()) else { return false };
        let same_id = id.is_some_and(|id| id == call.id);
        if id.is_some() && !call.id.is_empty() && !same_id {
            return true;
        }
        // A server may repeat the name with every piece.
        let twice = call.chunk == self.chunks && !same_id;
        name != call.name || twice || self.assembly.is_input_whole((at as u64, 0, Kind::Tool))
    }
}

/// What the AI SDK calls a `finish_reason`, as its provider for OpenAI maps them.
fn finish_reason(raw: &str, refused: bool) -> FinishReason {
    match raw.to_ascii_lowercase().as_str() {
        "content_filter" | "sensitive" => FinishReason::ContentFilter,
        "stop" | "end_turn" if refused => FinishReason::ContentFilter,
        "stop" | "end_turn" => FinishReason::Stop,
        "tool_calls" | "tool_use" | "function_call" => FinishReason::ToolCalls,
        "length" | "max_tokens" | "model_length" => FinishReason::Length,
        _ => FinishReason::Other,
    }
}
