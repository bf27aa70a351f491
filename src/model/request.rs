//! What a model is asked, in one vocabulary for all providers.

use std::time::Duration;

use crate::base::json::Json;
use crate::base::json::Object;
use crate::model::lawful::is_plain;

/// A call of a model.
#[derive(Clone, Debug)]
pub struct ModelRequest {
    /// Whose conversation it is; providers that keep state of their own keep it apart by workspace.
    pub workspace: String,
    /// The session, for providers that keep one of their own.
    pub session: String,
    /// The model, as the provider calls it.
    pub model: String,
    /// What the model is told about its task.
    pub system: Option<String>,
    /// The conversation, oldest first.
    pub messages: Vec<ModelMessage>,
    /// What it may call.
    pub tools: Vec<ToolSpec>,
    /// What the provider gave with [`ModelEvent::Resume`](super::ModelEvent::Resume) at the last answer.
    pub resume: Option<String>,
    /// Bounds of this call.
    pub bounds: Bounds,
}

/// How long and large an answer may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Until a connection stands.
    pub connect: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// The whole answer.
    pub total: Duration,
    /// Bytes that an answer says. What it takes on the wire is bounded by a multiple of it.
    pub bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            total: Duration::from_mins(10),
            bytes: 8 << 20,
        }
    }
}

/// Who says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// A person; results of tools as well.
    User,
    /// The model.
    Assistant,
    /// The application.
    System,
}

/// What one side said in its turn.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelMessage {
    /// Who.
    pub speaker: Speaker,
    /// What, in order.
    pub content: Vec<Content>,
}

/// A piece of a message.
///
/// In an assistant message: reasoning, text and tool calls. The results of its calls are in the user messages that follow it.
/// What providers demand beyond that is made sure of where their requests are written.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Text.
    Text(String),
    /// A thought.
    Reasoning {
        /// The thought.
        text: String,
        /// What the provider that is asked gave with it, to be sent back unchanged; `None` if somebody else thought it, or it
        /// came without.
        seal: Option<Object>,
    },
    /// A file.
    File {
        /// Its type, as `image/png`.
        media_type: String,
        /// A `data:` URL, or one that the provider can read.
        url: String,
        /// What the user calls it.
        name: Option<String>,
    },
    /// The model calls a tool.
    ToolCall {
        /// As its provider called it; the result has the same.
        id: String,
        /// The tool.
        name: String,
        /// Its input; an object.
        input: Json,
        /// What the provider that is asked gave with it, to be sent back unchanged; empty if somebody else made the call.
        seal: Object,
    },
    /// What came of a call.
    ToolResult {
        /// The call.
        id: String,
        /// The tool.
        name: String,
        /// What came out.
        output: Json,
        /// Whether it failed.
        is_error: bool,
    },
}

/// A tool as the model sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its input; an object.
    pub schema: Json,
}

impl ToolSpec {
    /// Most tools that providers take.
    pub const COUNT_MAX: usize = 128;
    /// Longest name of a tool that they take.
    pub const NAME_CHARS_MAX: usize = 64;

    /// Whether every provider takes `name` as that of a tool: letters, digits, `_` and `-`.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        is_plain(name, Self::NAME_CHARS_MAX)
    }

    /// What is closest to `name` of what every provider takes: models and MCP servers make names up.
    #[must_use]
    pub fn plain_name(name: &str) -> String {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let plain = name.chars().map(|c| if allowed(c) { c } else { '_' });
        let plain: String = plain.take(Self::NAME_CHARS_MAX).collect();
        if plain.is_empty() { "_".to_owned() } else { plain }
    }

    /// The tool that a client says it runs, as `{name, description?, inputSchema?}`; `None` without a name.
    #[must_use]
    pub fn of_client(tool: &Object) -> Option<Self> {
        let schema = tool.get("inputSchema").or_else(|| tool.get("parameters")).cloned();
        Some(Self {
            name: tool.text("name")?,
            description: tool.text("description").unwrap_or_default(),
            schema: schema.unwrap_or_default(),
        })
    }
}
