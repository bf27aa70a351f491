//! The body of a request to the Messages API.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::base::json::Json;
use crate::model::Content;
use crate::model::ModelMessage;
use crate::model::ModelRequest;
use crate::model::Speaker;
use crate::model::anthropic::Settings;
use crate::model::extra::without;
use crate::model::file::DataUrl;
use crate::model::file::result_text;
use crate::model::file::unreadable;

/// Fields that are not for the settings to say.
pub(in crate::model) const OWN: &[&str] =
    &["max_tokens", "messages", "model", "stream", "system", "tools"];

/// What is sent.
#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    stream: bool,
    #[serde(flatten)]
    extra: BTreeMap<&'a str, &'a Value>,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: std::borrow::Cow<'a, str>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    Image {
        source: Source<'a>,
    },
    Document {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: &'a Json,
    },
    ToolResult {
        tool_use_id: &'a str,
        content: String,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
}

#[derive(Debug, Serialize)]
struct Tool<'a> {
    name: &'a str,
    description: &'a str,
    input_schema: &'a Json,
}

impl<'a> Body<'a> {
    /// The body for `request`; the settings hold where it does not say.
    ///
    /// What the application says in the middle of a conversation goes to the system text, because only some models take it
    /// where it was said.
    pub(super) fn new(request: &'a ModelRequest, settings: &'a Settings) -> Self {
        let mut system: Vec<&str> = request.system.as_deref().into_iter().collect();
        let mut messages: Vec<Message<'a>> = Vec::new();
        for message in &request.messages {
            let role = match message.speaker {
                Speaker::User => "user",
                Speaker::Assistant => "assistant",
                Speaker::System => {
                    system.extend(message.content.iter().filter_map(text));
                    continue;
                }
            };
            let content = blocks(message);
            match messages.last_mut() {
                _ if content.is_empty() => {}
                Some(last) if last.role == role => last.content.extend(content),
                _ => messages.push(Message { role, content }),
            }
        }
        for message in &mut messages {
            // Stable: the results of tools come first, in their order.
            message.content.sort_by_key(|block| {
                message.role == "user" && !matches!(block, Block::ToolResult { .. })
            });
        }
        system.retain(|text| !text.trim().is_empty());
        Self {
            model: &request.model,
            max_tokens: request.max_tokens.unwrap_or(settings.max_tokens_count),
            system: (!system.is_empty()).then(|| system.join("\n\n")),
            messages,
            tools: request
                .tools
                .iter()
                .map(|tool| Tool {
                    name: &tool.name,
                    description: &tool.description,
                    input_schema: &tool.schema,
                })
                .collect(),
            stream: true,
            extra: without(&settings.extra, OWN),
        }
    }
}

fn text(content: &Content) -> Option<&str> {
    if let Content::Text(text) = content { Some(text) } else { None }
}

fn blocks(message: &ModelMessage) -> Vec<Block<'_>> {
    let user = message.speaker == Speaker::User;
    message.content.iter().filter_map(|content| block(content, user)).collect()
}

/// `content` as a block; `None` for what the API would refuse, as empty texts and thoughts without a seal.
fn block(content: &Content, user: bool) -> Option<Block<'_>> {
    match content {
        Content::Text(text) if text.trim().is_empty() => None,
        Content::Text(text) => Some(Block::Text { text: text.into() }),
        Content::Reasoning { text, signature } if !user => {
            Some(Block::Thinking { thinking: text, signature: signature.as_deref()? })
        }
        Content::RedactedReasoning { data } if !user => Some(Block::RedactedThinking { data }),
        Content::Reasoning { .. } | Content::RedactedReasoning { .. } => None,
        Content::File { media_type, url, name } => {
            Some(file(media_type, url, name.as_deref(), user))
        }
        Content::ToolCall { id, name, input } => Some(Block::ToolUse { id, name, input }),
        Content::ToolResult { id, output, is_error, .. } => Some(Block::ToolResult {
            tool_use_id: id,
            content: result_text(output),
            is_error: *is_error,
        }),
    }
}

/// A file, if the user sent it and the API can read it; otherwise a text that names it.
fn file<'a>(media_type: &'a str, url: &'a str, name: Option<&'a str>, user: bool) -> Block<'a> {
    let source = match DataUrl::parse(url) {
        Some(DataUrl { media_type: inner, base64 }) => {
            let media_type = if media_type.is_empty() { inner } else { media_type };
            Some(Source::Base64 { media_type, data: base64 })
        }
        None if url.starts_with("https://") => Some(Source::Url { url }),
        None => None,
    };
    match source {
        Some(source) if user && media_type.starts_with("image/") => Block::Image { source },
        Some(source) if user && media_type == "application/pdf" => {
            Block::Document { source, title: name }
        }
        _ => Block::Text { text: unreadable(media_type, name).into() },
    }
}
