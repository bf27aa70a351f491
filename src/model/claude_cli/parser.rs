//! From the lines of the CLI to events: no process, no clock. The facts are those of the recordings in
//! `tests/fixtures/claude-cli`.

use std::collections::HashMap;
use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::blocks::Blocks;
use super::line::Block;
use super::line::Event;
use super::line::Head;
use super::line::Init;
use super::line::Outcome;
use super::line::Retry;
use super::line::Streamed;
use super::line::Tokens;
use super::line::Told;
use crate::base::json::Json;
use crate::model::FailureKind;
use crate::model::FinishReason;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::Usage;
use crate::model::refusal;

/// How the CLI names answers that it made up itself.
const SYNTHETIC: &str = "<synthetic>";

/// Where the turn stands after a line.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It goes on.
    More,
    /// It is over; the last event is [`ModelEvent::Finish`].
    Over,
    /// It failed.
    Failed(ModelError),
    /// The CLI does not know the session that was to be resumed; nothing was said.
    UnknownSession,
}

/// Reads one turn.
#[derive(Default)]
pub(super) struct Parser {
    blocks: Blocks,
    /// The model that `init` named.
    model: Option<String>,
    /// What was last given as [`ModelEvent::Resume`].
    resume: Option<String>,
    /// The message that is being told.
    message: Option<String>,
    /// Messages that came in pieces.
    pieces: HashSet<String>,
    /// Lines that were read, by what the CLI calls them.
    lines: HashSet<String>,
    started: bool,
    /// Calls of tools, and whether their results came.
    calls: HashMap<String, bool>,
    /// Tokens of the messages before this one, and of this one.
    usage: (Usage, Usage),
    /// What was last given as [`ModelEvent::Usage`].
    said: Usage,
}

impl Parser {
    /// Reads a line and appends what it says to `out`.
    ///
    /// Lines that are not understood say nothing: the CLI prints many kinds, and more with each version.
    pub(super) fn line(&mut self, line: &str, out: &mut Vec<ModelEvent>) -> Verdict {
        let line = line.trim_start_matches('\u{FEFF}');
        let Some(head) = read::<Head>(line) else { return Verdict::More };
        let again = head.uuid.is_some_and(|uuid| !self.lines.insert(uuid));
        if again || head.parent_tool_use_id.is_some() {
            return Verdict::More;
        }
        match (head.kind.as_str(), head.subtype.as_deref()) {
            ("system", Some("init")) => {
                self.model =
                    read::<Init>(line).and_then(|init| init.model).or_else(|| self.model.take());
                self.remember(head.session_id, out);
            }
            ("system", Some("api_retry")) => {
                let status = read::<Retry>(line).and_then(|retry| retry.error_status);
                if let Some(status @ (401 | 403)) = status {
                    return Verdict::Failed(refusal::of_status(status, ""));
                }
                out.push(ModelEvent::Ping);
            }
            ("stream_event", _) => {
                if let Some(streamed) = read::<Streamed>(line) {
                    self.stream(streamed.event, out);
                }
            }
            ("assistant", _) => self.assistant(read(line), out),
            ("user", _) => {
                let blocks = read::<Told>(line).and_then(|told| told.message.content);
                for block in contents(blocks.as_deref()) {
                    self.result(block, out);
                }
            }
            ("result", _) => {
                let Some(outcome) = read::<Outcome>(line) else {
                    let message = "the agent's result cannot be read";
                    return Verdict::Failed(ModelError::new(FailureKind::Protocol, message));
                };
                return self.end(outcome, head.session_id, out);
            }
            _ => {}
        }
        Verdict::More
    }

    /// Whether a tool of the CLI is at work, so that silence means nothing.
    pub(super) fn waits_for_tool(&self) -> bool {
        self.calls.values().any(|answered| !answered)
    }

    /// What it means that the process ended without a result.
    pub(super) fn cut(&self) -> ModelError {
        ModelError::new(FailureKind::Interrupted, "the agent ended before its answer did")
    }

    fn remember(&mut self, session: Option<String>, out: &mut Vec<ModelEvent>) {
        if let Some(id) = session.filter(|id| !id.is_empty())
            && self.resume.as_ref() != Some(&id)
        {
            out.push(ModelEvent::Resume(id.clone()));
            self.resume = Some(id);
        }
    }

    /// Message `id` is told from here on. Tools are done by then, whether their results were seen or not.
    fn turn_to(&mut self, id: &str, model: Option<String>, out: &mut Vec<ModelEvent>) {
        if self.message.as_deref() == Some(id) {
            return;
        }
        self.blocks.close(out);
        self.calls.clear();
        if self.started {
            out.push(ModelEvent::StepEnd);
        } else {
            let model = model.or_else(|| self.model.clone());
            let id = Some(id.to_owned()).filter(|id| !id.is_empty());
            out.push(ModelEvent::Start { id, model });
            self.started = true;
        }
        self.message = Some(id.to_owned());
        self.usage = (sum(self.usage.0, self.usage.1), Usage::default());
    }

    fn stream(&mut self, event: Event, out: &mut Vec<ModelEvent>) {
        let index = event.index.unwrap_or_default();
        match event.kind.as_str() {
            "message_start" => {
                if let Some(message) = event.message {
                    let id = message.id.unwrap_or_default();
                    self.turn_to(&id, message.model, out);
                    self.pieces.insert(id);
                    self.usage.1 = usage(message.usage.unwrap_or_default());
                    self.count(out);
                }
            }
            "content_block_start" => {
                if let Some(block) = event.content_block {
                    self.block(index, block, true, out);
                }
            }
            "content_block_delta" => {
                if let Some(delta) = event.delta {
                    self.blocks.grow(index, delta, out);
                }
            }
            "content_block_stop" => self.blocks.end(index, out),
            "message_delta" => {
                let counts = event.usage.unwrap_or_default();
                let written = counts.output_tokens.filter(|count| *count > 0);
                self.usage.1.output_tokens = written.unwrap_or(self.usage.1.output_tokens);
                self.count(out);
            }
            _ => {}
        }
    }

    /// Says what was counted by now: the end may never come.
    fn count(&mut self, out: &mut Vec<ModelEvent>) {
        self.say(sum(self.usage.0, self.usage.1), out);
    }

    /// Says the tokens so far, unless they were said, or none were counted.
    fn say(&mut self, usage: Usage, out: &mut Vec<ModelEvent>) {
        if usage != Usage::default() && usage != self.said {
            self.said = usage;
            out.push(ModelEvent::Usage(usage));
        }
    }

    fn assistant(&mut self, told: Option<Told>, out: &mut Vec<ModelEvent>) {
        let Some(Told { message, is_api_error_message }) = told else { return };
        if is_api_error_message == Some(true) || message.model.as_deref() == Some(SYNTHETIC) {
            return;
        }
        let id = message.id.unwrap_or_default();
        // Whole blocks repeat what came in pieces.
        if self.pieces.contains(&id) {
            return;
        }
        self.turn_to(&id, message.model, out);
        self.usage.1 = usage(message.usage.unwrap_or_default());
        self.count(out);
        let text = message.content.as_deref().and_then(|content| read::<String>(content.get()));
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.blocks.whole_text(text, out);
        }
        for block in contents(message.content.as_deref()) {
            let index = self.blocks.unused();
            self.block(index, block, false, out);
            self.blocks.end(index, out);
        }
    }

    fn block(&mut self, index: u64, block: Block, pieces: bool, out: &mut Vec<ModelEvent>) {
        if block.kind.ends_with("_tool_result") {
            return self.result(block, out);
        }
        if let "tool_use" | "server_tool_use" | "mcp_tool_use" = block.kind.as_str()
            && let Some(id) = &block.id
        {
            self.calls.insert(id.clone(), false);
        }
        self.blocks.start(index, block, pieces, out);
    }

    /// The result of a tool that the CLI ran; results of unknown calls and second ones say nothing.
    fn result(&mut self, block: Block, out: &mut Vec<ModelEvent>) {
        let Some(id) = block.tool_use_id else { return };
        let Some(answered @ false) = self.calls.get_mut(&id) else { return };
        *answered = true;
        let output = value(block.content.as_deref());
        out.push(ModelEvent::ToolResult { id, output, is_error: block.is_error == Some(true) });
    }

    fn end(
        &mut self,
        outcome: Outcome,
        session: Option<String>,
        out: &mut Vec<ModelEvent>,
    ) -> Verdict {
        let unknown = |error: &String| error.contains("No conversation found");
        if !self.started && self.resume.is_none() && outcome.errors.iter().any(unknown) {
            return Verdict::UnknownSession;
        }
        self.remember(session, out);
        let total = usage(outcome.usage.unwrap_or_default());
        // An interrupted run counts nothing; then the counts of its messages stand.
        self.say(total, out);
        if outcome.is_error == Some(true) || outcome.subtype.as_deref() != Some("success") {
            return Verdict::Failed(failure(&outcome));
        }
        let text = outcome.result.unwrap_or_default();
        if !self.started && !text.is_empty() {
            // A command of the CLI answers without a model.
            self.turn_to("", None, out);
            self.blocks.whole_text(text, out);
        }
        self.blocks.close(out);
        let reason = finish(outcome.stop_reason.as_deref());
        out.push(ModelEvent::Finish { reason, raw: outcome.stop_reason });
        Verdict::Over
    }
}

fn read<'a, T: Deserialize<'a>>(line: &'a str) -> Option<T> {
    serde_json::from_str(line).ok()
}

/// The blocks of a message; a text alone holds none that are of use.
fn contents(content: Option<&RawValue>) -> Vec<Block> {
    let raw = content.map(RawValue::get).unwrap_or_default();
    let blocks: Vec<&RawValue> = serde_json::from_str(raw).unwrap_or_default();
    blocks.into_iter().filter_map(|block| serde_json::from_str(block.get()).ok()).collect()
}

/// Any value as JSON; one that is nested too deep becomes its text.
pub(super) fn value(raw: Option<&RawValue>) -> Json {
    let text = raw.map_or("null", RawValue::get);
    Json::parse(text).or_else(|_| Json::of(&text)).unwrap_or_default()
}

fn usage(tokens: Tokens) -> Usage {
    let cached = tokens.cache_read_input_tokens.unwrap_or_default();
    let thoughts = tokens.output_tokens_details.and_then(|details| details.thinking_tokens);
    let fresh = tokens.input_tokens.unwrap_or_default();
    let written = tokens.cache_creation_input_tokens.unwrap_or_default();
    Usage {
        input_tokens: fresh.saturating_add(written).saturating_add(cached),
        output_tokens: tokens.output_tokens.unwrap_or_default(),
        cached_input_tokens: cached,
        reasoning_tokens: thoughts.unwrap_or_default(),
    }
}

fn sum(a: Usage, b: Usage) -> Usage {
    Usage {
        input_tokens: a.input_tokens.saturating_add(b.input_tokens),
        output_tokens: a.output_tokens.saturating_add(b.output_tokens),
        cached_input_tokens: a.cached_input_tokens.saturating_add(b.cached_input_tokens),
        reasoning_tokens: a.reasoning_tokens.saturating_add(b.reasoning_tokens),
    }
}

fn finish(stop: Option<&str>) -> FinishReason {
    match stop {
        None | Some("end_turn" | "stop_sequence" | "pause_turn") => FinishReason::Stop,
        Some("max_tokens" | "model_context_window_exceeded") => FinishReason::Length,
        Some("refusal") => FinishReason::ContentFilter,
        Some("tool_use") => FinishReason::ToolCalls,
        Some(_) => FinishReason::Other,
    }
}

fn failure(outcome: &Outcome) -> ModelError {
    let text = outcome.result.as_deref().or_else(|| outcome.errors.first().map(String::as_str));
    let text = text.unwrap_or_default();
    if let Some(status) = outcome.api_error_status {
        return refusal::of_status(status, text);
    }
    let subtype = outcome.subtype.as_deref().unwrap_or_default();
    let reason = outcome.terminal_reason.as_deref().unwrap_or_default();
    if subtype.starts_with("error_max_") {
        let message = format!("the agent reached its limit ({})", refusal::plain(subtype));
        return ModelError::new(FailureKind::Limit, message);
    }
    if reason.starts_with("aborted") {
        return ModelError::new(FailureKind::Interrupted, "the agent was interrupted");
    }
    if reason == "api_error" {
        return ModelError::new(FailureKind::Unavailable, "the agent cannot reach its model");
    }
    ModelError::new(FailureKind::Other, format!("the agent failed: {}", refusal::plain(text)))
}
