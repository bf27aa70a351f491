//! From the events of a session to the chunks of one answer.

use std::collections::HashMap;

use crate::base::json::Json;
use crate::base::json::Object;
use crate::domain::session::Event;
use crate::domain::session::EventKind;
use crate::domain::session::Message;
use crate::domain::session::Turn;
use crate::domain::session::TurnState;
use crate::protocol::Encoder;
use crate::protocol::ui::Chunk;

/// A part that grows. Of text it is known how many bytes were said, so that text which comes again, whole or in other
/// pieces, is said once.
enum Block {
    Text {
        id: String,
        said: usize,
    },
    Reasoning {
        id: String,
        said: usize,
    },
    /// `given`: its input was said; `over`: what came of it as well.
    Tool {
        id: String,
        name: String,
        given: bool,
        over: bool,
    },
}

/// Makes the chunks of one message, from the event with which its first turn begins to the end of the turn that is
/// followed.
///
/// A message that goes on, after tools of the client or approvals, is one stream: what ended and began in between is not
/// seen by who reads it from the start.
pub struct Chunks {
    turn_id: String,
    attempt: u32,
    message_id: String,
    started: bool,
    in_step: bool,
    done: bool,
    blocks: HashMap<usize, Block>,
    /// How many parts the client knows.
    known: usize,
    http_status: Option<u16>,
}

impl Chunks {
    /// The chunks of the message that `turn` writes, up to the end of this attempt of it.
    #[must_use]
    pub fn of(turn: &Turn) -> Self {
        Self {
            turn_id: turn.id.clone(),
            attempt: turn.attempt,
            message_id: turn.message_id.clone(),
            started: false,
            in_step: false,
            done: false,
            blocks: HashMap::new(),
            known: 0,
            http_status: None,
        }
    }

    /// The turn that is followed.
    #[must_use]
    pub fn turn_id(&self) -> &str {
        &self.turn_id
    }

    /// Whether the answer is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// The HTTP status that stands for the error with which the answer ended before it began.
    #[must_use]
    pub fn http_status(&self) -> Option<u16> {
        self.http_status
    }

    /// The chunks that an event leads to.
    #[must_use]
    pub fn push(&mut self, kind: EventKind, frame: &str) -> Vec<Chunk> {
        let mut out = Vec::new();
        if !matches!(
            kind,
            EventKind::PartDelta
                | EventKind::PartUpdate
                | EventKind::MessageParts
                | EventKind::Turn
        ) {
            return out;
        }
        match Event::read(kind, frame) {
            Ok(Event::PartDelta { message_id, part, offset, delta })
                if message_id == self.message_id =>
            {
                out.extend(self.delta(part, offset, delta));
            }
            // In place of the deltas of texts that are open; what else it holds is said by what follows.
            Ok(Event::MessageParts { message_id, parts, from: Some(_), .. })
                if message_id == self.message_id =>
            {
                for (at, part) in parts.iter().enumerate() {
                    let text = part.members().text("content").unwrap_or_default();
                    if !matches!(self.blocks.get(&at), Some(Block::Tool { .. })) {
                        out.extend(self.delta(at, 0, text));
                    }
                }
            }
            Ok(Event::PartUpdate { message_id, part, fields }) if message_id == self.message_id => {
                self.update(part, &fields, &mut out);
            }
            Ok(Event::Turn(turn)) if turn.message_id == self.message_id => {
                self.turn(&turn, &mut out);
            }
            _ => {}
        }
        out
    }

    /// The chunks that lead to this state of the turn and its message, whatever was sent before.
    #[must_use]
    pub fn reset(&mut self, turn: &Turn, message: Option<&Message>) -> Vec<Chunk> {
        let mut out = Vec::new();
        if message.is_some() {
            self.start(turn, &mut out);
        }
        for (at, part) in message.iter().flat_map(|message| message.parts.iter().enumerate()) {
            let mut part = part.members();
            part.remove("inputText");
            if at < self.known {
                let text = part.text("content").unwrap_or_default();
                if !matches!(self.blocks.get(&at), Some(Block::Tool { .. })) {
                    out.extend(self.delta(at, 0, text));
                }
                part.remove("type");
            }
            if let Some(Block::Tool { given: true, over, .. }) = self.blocks.get(&at) {
                if *over {
                    continue;
                }
                part.remove("toolInput");
            }
            self.update(at, &part, &mut out);
            if part.remove("toolInput").is_some() {
                // The input was one chunk; what became of the call is another.
                part.remove("type");
                self.update(at, &part, &mut out);
            }
        }
        self.turn(turn, &mut out);
        out
    }

    /// Text that begins at `offset`, as far as it is new.
    fn delta(&mut self, part: usize, offset: usize, delta: String) -> Option<Chunk> {
        let (said, end) = match self.blocks.get_mut(&part)? {
            Block::Text { said, .. } | Block::Reasoning { said, .. } => {
                (std::mem::replace(said, (*said).max(offset + delta.len())), offset + delta.len())
            }
            Block::Tool { id, .. } => {
                return Some(Chunk::ToolInputDelta { id: id.clone(), delta });
            }
        };
        if end <= said {
            return None;
        }
        let delta = delta.get(said.saturating_sub(offset)..)?.to_owned();
        Some(match self.blocks.get(&part)? {
            Block::Reasoning { id, .. } => Chunk::ReasoningDelta { id: id.clone(), delta },
            Block::Text { id, .. } | Block::Tool { id, .. } => {
                Chunk::TextDelta { id: id.clone(), delta }
            }
        })
    }

    fn update(&mut self, part: usize, fields: &Object, out: &mut Vec<Chunk>) {
        if let Some(kind) = fields.text("type") {
            self.open(part, &kind, fields, out);
        }
        let state = fields.text("state").unwrap_or_default();
        match self.blocks.get(&part) {
            Some(Block::Text { id, .. }) if state == "complete" => {
                out.push(Chunk::TextEnd { id: id.clone() });
                self.blocks.remove(&part);
            }
            Some(Block::Reasoning { id, .. }) if state == "complete" => {
                let metadata = fields.get("providerMetadata").cloned();
                out.push(Chunk::ReasoningEnd { id: id.clone(), metadata });
                self.blocks.remove(&part);
            }
            Some(Block::Text { .. } | Block::Reasoning { .. }) => {}
            Some(Block::Tool { .. }) | None => self.tool(part, fields, &state, out),
        }
    }

    fn open(&mut self, part: usize, kind: &str, fields: &Object, out: &mut Vec<Chunk>) {
        self.known = self.known.max(part + 1);
        let text = fields.text("content").filter(|text| !text.is_empty());
        let said = text.as_ref().map_or(0, String::len);
        match kind {
            "step-start" => {
                self.finish_step(out);
                self.in_step = true;
                out.push(Chunk::StartStep);
            }
            "text" => {
                let id = format!("t{part}");
                out.push(Chunk::TextStart { id: id.clone() });
                out.extend(text.map(|delta| Chunk::TextDelta { id: id.clone(), delta }));
                self.blocks.insert(part, Block::Text { id, said });
            }
            "reasoning" => {
                let id = fields.text("id").unwrap_or_else(|| format!("r{part}"));
                out.push(Chunk::ReasoningStart { id: id.clone() });
                out.extend(text.map(|delta| Chunk::ReasoningDelta { id: id.clone(), delta }));
                self.blocks.insert(part, Block::Reasoning { id, said });
            }
            "tool-call" => {
                let id = fields.text("toolCallId").unwrap_or_default();
                let name = fields.text("toolName").unwrap_or_default();
                out.push(Chunk::ToolInputStart { id: id.clone(), name: name.clone() });
                self.blocks.insert(part, Block::Tool { id, name, given: false, over: false });
            }
            _ => out.push(Chunk::Part(fields.clone())),
        }
    }

    fn tool(&mut self, part: usize, fields: &Object, state: &str, out: &mut Vec<Chunk>) {
        let Some(id) = fields.text("toolCallId") else { return };
        let provider_executed =
            fields.get("providerExecuted").is_some_and(|yes| yes.as_str() == "true");
        let over = matches!(state, "complete" | "error");
        let name = match self.blocks.get_mut(&part) {
            Some(Block::Tool { name, given, over: ended, .. }) => {
                *given |= fields.get("toolInput").is_some();
                *ended |= over && fields.get("toolInput").is_none();
                name.clone()
            }
            _ => fields.text("toolName").unwrap_or_default(),
        };
        let error = fields.text("errorText");
        if let Some(input) = fields.get("toolInput").cloned() {
            let metadata = fields.get("callProviderMetadata").cloned();
            out.push(match error {
                Some(error) => Chunk::ToolInputError { id, name, input, error },
                None => Chunk::ToolInputAvailable { id, name, input, provider_executed, metadata },
            });
            return;
        }
        if let Some(approval) = fields.get("approval").and_then(Object::read) {
            match approval.get("approved").map(Json::as_str) {
                None => out.push(Chunk::ToolApprovalRequest {
                    id,
                    approval_id: approval.text("id").unwrap_or_default(),
                }),
                Some("false") => out.push(Chunk::ToolOutputDenied { id }),
                Some(_) => {}
            }
            return;
        }
        match (state, fields.get("toolOutput"), error) {
            ("complete", Some(output), _) => {
                let output = output.clone();
                out.push(Chunk::ToolOutputAvailable { id, output, provider_executed });
            }
            ("error", _, Some(error)) => {
                out.push(Chunk::ToolOutputError { id, error, provider_executed });
            }
            _ => {}
        }
    }

    fn finish_step(&mut self, out: &mut Vec<Chunk>) {
        if self.in_step {
            self.in_step = false;
            out.push(Chunk::FinishStep);
        }
    }

    fn start(&mut self, turn: &Turn, out: &mut Vec<Chunk>) {
        if !self.started {
            self.started = true;
            let metadata =
                turn.model.as_ref().map(|model| Object::default().with("model", model).to_json());
            out.push(Chunk::Start { message_id: self.message_id.clone(), metadata });
        }
    }

    fn turn(&mut self, turn: &Turn, out: &mut Vec<Chunk>) {
        if turn.state == TurnState::Running {
            return self.start(turn, out);
        }
        let ends = turn.state.is_over() || turn.state == TurnState::WaitingApproval;
        let mine = turn.id == self.turn_id && turn.attempt >= self.attempt;
        if !ends {
            return;
        }
        if !mine {
            return self.finish_step(out);
        }
        let empty = !self.started || self.blocks.is_empty() && !self.in_step;
        self.start(turn, out);
        self.done = true;
        let metadata = ending(turn);
        match turn.state {
            TurnState::Completed | TurnState::WaitingApproval => {
                self.finish_step(out);
                let reason = turn.finish_reason.clone().unwrap_or_else(|| "other".to_owned());
                out.push(Chunk::Finish { reason, metadata: Some(metadata) });
            }
            TurnState::Stopped => {
                out.push(Chunk::Metadata(metadata));
                out.push(Chunk::Abort { reason: "stopped" });
            }
            _ => {
                if empty {
                    self.http_status = turn.error_status;
                }
                out.push(Chunk::Metadata(metadata));
                let text = turn.error.clone().unwrap_or_else(|| {
                    "the answer was cut off by a restart of the server".to_owned()
                });
                out.push(Chunk::Error { text });
            }
        }
    }
}

/// What the client learns at the end, as in the metadata of the message that it reads later.
fn ending(turn: &Turn) -> Json {
    let mut metadata = Object::default();
    if let Some(usage) = &turn.usage {
        metadata = metadata.with("usage", usage);
    }
    if let Some(reason) = &turn.finish_reason {
        metadata = metadata.with("finishReason", reason);
    }
    metadata.with("status", &turn.state.of_message()).to_json()
}

/// The event stream of v5 to v7.
pub struct Sse(pub Chunks);

impl Sse {
    fn lines(&self, chunks: Vec<Chunk>) -> String {
        let mut out = String::new();
        for chunk in chunks {
            out.push_str("data: ");
            out.push_str(chunk.json().as_str());
            out.push_str("\n\n");
        }
        if self.0.is_done() && !out.is_empty() {
            out.push_str("data: [DONE]\n\n");
        }
        out
    }
}

impl Encoder for Sse {
    fn turn_id(&self) -> &str {
        self.0.turn_id()
    }

    fn push(&mut self, kind: EventKind, frame: &str) -> String {
        let chunks = self.0.push(kind, frame);
        self.lines(chunks)
    }

    fn reset(&mut self, _: u64, turn: &Turn, message: Option<&Message>) -> String {
        let chunks = self.0.reset(turn, message);
        self.lines(chunks)
    }

    fn is_done(&self) -> bool {
        self.0.is_done()
    }

    fn broken(&mut self, why: &str) -> Option<String> {
        let error = self.lines(vec![Chunk::Error { text: why.to_owned() }]);
        Some(error + "data: [DONE]\n\n")
    }

    fn keep_alive(&self) -> &'static str {
        ": keep-alive\n\n"
    }
}

/// The text alone, for `TextStreamChatTransport` and `useCompletion`.
pub struct Text(pub Chunks);

fn text_of(chunks: Vec<Chunk>) -> String {
    let text = |chunk| match chunk {
        Chunk::TextDelta { delta, .. } => Some(delta),
        _ => None,
    };
    chunks.into_iter().filter_map(text).collect()
}

impl Encoder for Text {
    fn turn_id(&self) -> &str {
        self.0.turn_id()
    }

    fn push(&mut self, kind: EventKind, frame: &str) -> String {
        text_of(self.0.push(kind, frame))
    }

    fn reset(&mut self, _: u64, turn: &Turn, message: Option<&Message>) -> String {
        text_of(self.0.reset(turn, message))
    }

    fn is_done(&self) -> bool {
        self.0.is_done()
    }

    fn broken(&mut self, _: &str) -> Option<String> {
        None
    }

    fn keep_alive(&self) -> &'static str {
        // Whatever is sent would be part of the answer.
        ""
    }
}
