//! The words of the three dialects of model providers, for servers that pretend to be one.

use serde_json::Value;
use serde_json::json;

/// How a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Anthropic,
    Chat,
    Responses,
}

pub const DIALECTS: [Dialect; 3] = [Dialect::Anthropic, Dialect::Chat, Dialect::Responses];

/// Events without names.
pub fn events(data: &[&str]) -> String {
    data.iter().map(|data| format!("data: {data}\n\n")).collect()
}

/// Nested lists.
pub fn deep(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

fn event(data: &Value) -> String {
    events(&[&data.to_string()])
}

fn chunk(delta: &Value, finish_reason: Option<&str>) -> String {
    event(&json!({"id": "answer-1", "model": "model-x",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}))
}

impl Dialect {
    /// An answer begins.
    pub fn start(self) -> String {
        let about = json!({"id": "answer-1", "model": "model-x"});
        match self {
            Self::Anthropic => event(&json!({"type": "message_start", "message": about})),
            Self::Chat => chunk(&json!({"role": "assistant", "content": ""}), None),
            Self::Responses => event(&json!({"type": "response.created", "response": about})),
        }
    }

    /// A text begins.
    pub fn open_text(self) -> String {
        match self {
            Self::Anthropic => event(&json!({"type": "content_block_start", "index": 0,
                "content_block": {"type": "text", "text": ""}})),
            Self::Chat => String::new(),
            Self::Responses => event(&json!({"type": "response.content_part.added"})),
        }
    }

    /// A text grows.
    pub fn delta(self, text: &str) -> String {
        match self {
            Self::Anthropic => event(&json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": text}})),
            Self::Chat => chunk(&json!({"content": text}), None),
            Self::Responses => event(&json!({"type": "response.output_text.delta", "delta": text})),
        }
    }

    /// A text ends.
    pub fn close_text(self) -> String {
        match self {
            Self::Anthropic => event(&json!({"type": "content_block_stop", "index": 0})),
            Self::Chat => String::new(),
            Self::Responses => event(&json!({"type": "response.output_text.done"})),
        }
    }

    /// A whole text.
    pub fn text(self, text: &str) -> String {
        self.open_text() + &self.delta(text) + &self.close_text()
    }

    /// A whole tool call.
    pub fn tool(self, index: u64, id: &str, name: &str, input: &str) -> String {
        match self {
            Self::Anthropic => {
                let block = json!({"type": "tool_use", "id": id, "name": name});
                let delta = json!({"type": "input_json_delta", "partial_json": input});
                event(
                    &json!({"type": "content_block_start", "index": index, "content_block": block}),
                ) + &event(&json!({"type": "content_block_delta", "index": index, "delta": delta}))
                    + &event(&json!({"type": "content_block_stop", "index": index}))
            }
            Self::Chat => {
                let function = json!({"name": name, "arguments": input});
                let call = json!({"index": index, "id": id, "function": function});
                chunk(&json!({"tool_calls": [call]}), None)
            }
            Self::Responses => {
                let item = json!({"type": "function_call", "call_id": id, "name": name});
                let kind = "response.function_call_arguments.delta";
                let added = "response.output_item.added";
                event(&json!({"type": added, "output_index": index, "item": item}))
                    + &event(&json!({"type": kind, "output_index": index, "delta": input}))
            }
        }
    }

    /// The number of tokens, given as the text of a number.
    pub fn usage(self, tokens: &str) -> String {
        events(&[&match self {
            Self::Anthropic => format!(
                r#"{{"type":"message_delta","usage":{{"input_tokens":{tokens},"output_tokens":{tokens},"cache_read_input_tokens":{tokens}}}}}"#
            ),
            Self::Chat => {
                format!(r#"{{"usage":{{"prompt_tokens":{tokens},"completion_tokens":{tokens}}}}}"#)
            }
            Self::Responses => format!(
                r#"{{"type":"response.completed","response":{{"usage":{{"input_tokens":{tokens},"output_tokens":{tokens}}}}}}}"#
            ),
        }])
    }

    /// The answer ends as it should.
    pub fn finish(self) -> String {
        match self {
            Self::Anthropic => {
                let delta = json!({"stop_reason": "end_turn"});
                event(&json!({"type": "message_delta", "delta": delta}))
                    + &event(&json!({"type": "message_stop"}))
            }
            Self::Chat => chunk(&json!({}), Some("stop")) + "data: [DONE]\n\n",
            Self::Responses => event(&json!({"type": "response.completed", "response": {}})),
        }
    }

    /// What follows the start in a good answer.
    pub fn rest(self) -> String {
        self.text("Hello wörld 👋") + &self.finish()
    }

    /// A good answer.
    pub fn answer(self) -> String {
        self.start() + &self.rest()
    }

    /// An error in a stream: the provider is overloaded.
    pub fn error(self) -> String {
        match self {
            Self::Anthropic => {
                let error = json!({"type": "overloaded_error", "message": "Overloaded"});
                format!("event: error\n{}", event(&json!({"type": "error", "error": error})))
            }
            Self::Chat => event(&json!({"error": {"code": "overloaded", "message": "Overloaded"}})),
            Self::Responses => {
                event(&json!({"type": "error", "code": "server_error", "message": "Overloaded"}))
            }
        }
    }

    /// The body of an error.
    pub fn error_body(self, words: &str) -> String {
        json!({"type": "error", "error": {"type": "some_error", "message": words}}).to_string()
    }
}
