//! The blocks of an answer: numbers them anew over all messages, opens, grows and closes them.

use std::collections::BTreeMap;

use super::line::Block;
use super::line::Delta;
use super::parser::value;
use crate::base::json::Object;
use crate::model::ModelEvent;
use crate::model::assembly::input;
use crate::model::loose::Loose;

/// What is known of an open block.
enum Kind {
    Text,
    Reasoning { signature: Option<String> },
    Tool { json: String },
}

/// An open block.
struct Open {
    index: u32,
    kind: Kind,
    /// The half of a character that it ends with.
    half: Option<u16>,
}

/// Blocks of the message that is being told, by the CLI's index.
#[derive(Default)]
pub(super) struct Blocks {
    open: BTreeMap<u64, Open>,
    next: u32,
}

impl Blocks {
    /// An index that no open block has.
    pub(super) fn unused(&self) -> u64 {
        self.open.keys().next_back().map_or(0, |last| last + 1)
    }

    /// Opens a block with what it holds already. In `pieces` the input of a tool follows as text; otherwise it is whole.
    pub(super) fn start(&mut self, at: u64, block: Block, pieces: bool, out: &mut Vec<ModelEvent>) {
        self.end(at, out);
        let (index, mut half) = (self.next, None);
        let kind = match block.kind.as_str() {
            "text" => {
                out.push(ModelEvent::TextStart { index });
                let text = some(block.text, &mut half);
                out.extend(text.map(|text| ModelEvent::TextDelta { index, text }));
                Kind::Text
            }
            "thinking" => {
                out.push(ModelEvent::ReasoningStart { index });
                let thought = some(block.thinking, &mut half);
                out.extend(thought.map(|text| ModelEvent::ReasoningDelta { index, text }));
                Kind::Reasoning { signature: block.signature.filter(|seal| !seal.is_empty()) }
            }
            "redacted_thinking" => {
                let data = block.data.unwrap_or_default();
                out.push(ModelEvent::RedactedReasoning { index, data });
                self.next += 1;
                return;
            }
            "tool_use" | "server_tool_use" | "mcp_tool_use" => {
                let (id, name) = (block.id.unwrap_or_default(), block.name.unwrap_or_default());
                out.push(ModelEvent::ToolStart { index, id, name });
                let mut json = String::new();
                if !pieces {
                    value(block.input.as_deref()).as_str().clone_into(&mut json);
                    out.push(ModelEvent::ToolDelta { index, json: json.clone() });
                }
                Kind::Tool { json }
            }
            _ => return,
        };
        self.next += 1;
        self.open.insert(at, Open { index, kind, half });
    }

    /// Grows an open block; deltas of other blocks and kinds say nothing.
    pub(super) fn grow(&mut self, at: u64, delta: Delta, out: &mut Vec<ModelEvent>) {
        let Some(Open { index, kind, half }) = self.open.get_mut(&at) else { return };
        let index = *index;
        match (kind, delta.kind.as_deref()) {
            (Kind::Text, Some("text_delta")) => {
                let text = some(delta.text, half);
                out.extend(text.map(|text| ModelEvent::TextDelta { index, text }));
            }
            (Kind::Reasoning { .. }, Some("thinking_delta")) => {
                let thought = some(delta.thinking, half);
                out.extend(thought.map(|text| ModelEvent::ReasoningDelta { index, text }));
            }
            (Kind::Reasoning { signature }, Some("signature_delta")) => {
                *signature = delta.signature.filter(|seal| !seal.is_empty());
            }
            (Kind::Tool { json }, Some("input_json_delta")) => {
                if let Some(piece) = some(delta.partial_json.map(|json| json.0), half) {
                    json.push_str(&piece);
                    out.push(ModelEvent::ToolDelta { index, json: piece });
                }
            }
            _ => {}
        }
    }

    /// Closes a block if it is open.
    pub(super) fn end(&mut self, at: u64, out: &mut Vec<ModelEvent>) {
        let Some(Open { index, kind, .. }) = self.open.remove(&at) else { return };
        out.push(match kind {
            Kind::Text => ModelEvent::TextEnd { index },
            Kind::Reasoning { signature } => {
                let seal = signature.map(|seal| Object::default().with("signature", &seal));
                ModelEvent::ReasoningEnd { index, seal: seal.unwrap_or_default() }
            }
            Kind::Tool { json } => {
                ModelEvent::ToolEnd { index, input: input(json, true), seal: Object::default() }
            }
        });
    }

    /// Closes all that is open.
    pub(super) fn close(&mut self, out: &mut Vec<ModelEvent>) {
        for at in self.open.keys().copied().collect::<Vec<_>>() {
            self.end(at, out);
        }
    }

    /// Says `text` in a block of its own.
    pub(super) fn whole_text(&mut self, text: String, out: &mut Vec<ModelEvent>) {
        let index = self.next;
        self.next += 1;
        out.push(ModelEvent::TextStart { index });
        out.push(ModelEvent::TextDelta { index, text });
        out.push(ModelEvent::TextEnd { index });
    }
}

fn some(text: Option<Loose>, half: &mut Option<u16>) -> Option<String> {
    text.map(|text| text.join(half)).filter(|text| !text.is_empty())
}
