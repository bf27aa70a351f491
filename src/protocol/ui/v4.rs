//! The data stream protocol of AI SDK 4: lines of a code and a JSON value.

use serde::Serialize;

use crate::base::json::Object;
use crate::domain::session::EventKind;
use crate::domain::session::Message;
use crate::domain::session::Turn;
use crate::protocol::Encoder;
use crate::protocol::ui::Chunk;
use crate::protocol::ui::Chunks;

/// The lines of one answer.
pub struct Lines {
    chunks: Chunks,
    message_id: String,
    /// Whether the step called tools.
    calls: bool,
}

fn line(code: char, value: &impl Serialize) -> String {
    let value = serde_json::to_string(value).expect("plain values are JSON");
    format!("{code}:{value}\n")
}

impl Lines {
    /// The lines that `chunks` become, of message `message_id`.
    #[must_use]
    pub fn new(chunks: Chunks, message_id: String) -> Self {
        Self { chunks, message_id, calls: false }
    }

    #[expect(clippy::too_many_lines, reason = "an arm for each chunk")]
    fn lines(&mut self, chunk: Chunk) -> String {
        let object = Object::default;
        match chunk {
            Chunk::StartStep => {
                self.calls = false;
                line('f', &object().with("messageId", &self.message_id))
            }
            Chunk::TextDelta { delta, .. } => line('0', &delta),
            Chunk::ReasoningDelta { delta, .. } => line('g', &delta),
            Chunk::ReasoningEnd { metadata, .. } => {
                let sealed = metadata.as_ref().and_then(Object::read).unwrap_or_default();
                let sealed =
                    sealed.iter().find_map(|(_, seal)| Object::read(seal)).unwrap_or_default();
                match (sealed.text("signature"), sealed.text("redactedData")) {
                    (Some(signature), _) => line('j', &object().with("signature", &signature)),
                    (None, Some(data)) => line('i', &object().with("data", &data)),
                    (None, None) => String::new(),
                }
            }
            Chunk::ToolInputStart { id, name } => {
                line('b', &object().with("toolCallId", &id).with("toolName", &name))
            }
            Chunk::ToolInputDelta { id, delta } => {
                line('c', &object().with("toolCallId", &id).with("argsTextDelta", &delta))
            }
            Chunk::ToolInputAvailable { id, name, input, .. } => {
                self.calls = true;
                let call = object().with("toolCallId", &id).with("toolName", &name);
                line('9', &call.with("args", &input))
            }
            Chunk::ToolInputError { id, name, error, .. } => {
                // A result needs its call, and arguments are an object.
                let call = object().with("toolCallId", &id).with("toolName", &name);
                let call = line('9', &call.with("args", &object()));
                call + &failed(&id, &error)
            }
            Chunk::ToolOutputAvailable { id, output, .. } => {
                line('a', &object().with("toolCallId", &id).with("result", &output))
            }
            Chunk::ToolOutputError { id, error, .. } => failed(&id, &error),
            Chunk::ToolOutputDenied { id } => failed(&id, "the call was not allowed"),
            Chunk::Part(part) => match part.text("type") {
                Some(kind) if kind.starts_with("data-") => {
                    let data = part.get("data").cloned().unwrap_or_default();
                    line('2', &[object().with("type", &kind).with("data", &data)])
                }
                Some(kind) if kind == "source-url" => {
                    let mut source = object().with("sourceType", &"url");
                    for (from, to) in [("sourceId", "id"), ("url", "url"), ("title", "title")] {
                        if let Some(value) = part.get(from) {
                            source.set(to, value.clone());
                        }
                    }
                    line('h', &source)
                }
                _ => String::new(),
            },
            Chunk::FinishStep => {
                let reason = if self.calls { "tool-calls" } else { "stop" };
                line('e', &object().with("finishReason", &reason).with("isContinued", &false))
            }
            Chunk::Finish { reason, metadata } => {
                line('d', &finish(&reason, metadata.as_ref().and_then(Object::read)))
            }
            Chunk::Error { text } => {
                line('3', &text)
                    + &line(
                        'e',
                        &object().with("finishReason", &"error").with("isContinued", &false),
                    )
                    + &line('d', &object().with("finishReason", &"error"))
            }
            Chunk::Abort { .. } => {
                line('e', &object().with("finishReason", &"other").with("isContinued", &false))
                    + &line('d', &object().with("finishReason", &"other"))
            }
            Chunk::Start { .. }
            | Chunk::TextStart { .. }
            | Chunk::TextEnd { .. }
            | Chunk::ReasoningStart { .. }
            | Chunk::ToolApprovalRequest { .. }
            | Chunk::Metadata(_) => String::new(),
        }
    }
}

fn failed(id: &str, error: &str) -> String {
    let result = Object::default().with("error", &error);
    line('a', &Object::default().with("toolCallId", &id).with("result", &result))
}

fn finish(reason: &str, metadata: Option<Object>) -> Object {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Counted {
        input_tokens: u64,
        output_tokens: u64,
    }
    let usage = metadata.as_ref().and_then(|metadata| metadata.get("usage"));
    let usage = usage.and_then(|usage| serde_json::from_str::<Counted>(usage.as_str()).ok());
    let finish = Object::default().with("finishReason", &reason);
    match usage {
        Some(usage) => {
            let counted = Object::default()
                .with("promptTokens", &usage.input_tokens)
                .with("completionTokens", &usage.output_tokens);
            finish.with("usage", &counted)
        }
        None => finish,
    }
}

impl Encoder for Lines {
    fn turn_id(&self) -> &str {
        self.chunks.turn_id()
    }

    fn push(&mut self, kind: EventKind, frame: &str) -> String {
        let chunks = self.chunks.push(kind, frame);
        chunks.into_iter().map(|chunk| self.lines(chunk)).collect()
    }

    fn reset(&mut self, _: u64, turn: &Turn, message: Option<&Message>) -> String {
        let chunks = self.chunks.reset(turn, message);
        chunks.into_iter().map(|chunk| self.lines(chunk)).collect()
    }

    fn is_done(&self) -> bool {
        self.chunks.is_done()
    }

    fn broken(&mut self, why: &str) -> Option<String> {
        Some(self.lines(Chunk::Error { text: why.to_owned() }))
    }

    fn keep_alive(&self) -> &'static str {
        // The only line that no client minds.
        "\n"
    }
}
