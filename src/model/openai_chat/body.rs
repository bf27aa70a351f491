//! The body of a request for a chat completion.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::base::json::Json;
use crate::model::Content;
use crate::model::ModelMessage;
use crate::model::ModelRequest;
use crate::model::Speaker;
use crate::model::extra::without;
use crate::model::file::result_text;
use crate::model::file::unreadable;
use crate::model::openai_chat::Settings;

/// Fields that are not for the settings to say.
pub(in crate::model) const OWN: &[&str] = &[
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "model",
    "n",
    "stream",
    "stream_options",
    "tools",
];

/// What is sent.
#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(flatten)]
    extra: BTreeMap<&'a str, &'a Value>,
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Debug, Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum Message<'a> {
    System {
        content: String,
    },
    User {
        content: UserContent<'a>,
    },
    Assistant {
        content: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Call<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: String,
    },
}

/// Plain text where it is enough: not every server takes parts.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum UserContent<'a> {
    Text(String),
    Parts(Vec<Part<'a>>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    Text { text: String },
    ImageUrl { image_url: ImageUrl<'a> },
    File { file: File<'a> },
}

#[derive(Debug, Serialize)]
struct ImageUrl<'a> {
    url: &'a str,
}

#[derive(Debug, Serialize)]
struct File<'a> {
    filename: &'a str,
    file_data: &'a str,
}

#[derive(Debug, Serialize)]
struct Call<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    function: CallFunction<'a>,
}

#[derive(Debug, Serialize)]
struct CallFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Debug, Serialize)]
struct Tool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: ToolFunction<'a>,
}

#[derive(Debug, Serialize)]
struct ToolFunction<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Json,
}

impl<'a> Body<'a> {
    /// The body for `request`. Thoughts are left out: nobody takes them back in this dialect.
    pub(super) fn new(request: &'a ModelRequest, settings: &'a Settings) -> Self {
        let mut messages = Vec::new();
        if let Some(system) = request.system.as_ref().filter(|text| !text.trim().is_empty()) {
            messages.push(Message::System { content: system.clone() });
        }
        for message in &request.messages {
            match message.speaker {
                Speaker::User => user(message, &mut messages),
                Speaker::Assistant => messages.extend(assistant(message)),
                Speaker::System => {
                    let content = text(message);
                    messages.extend((!content.is_empty()).then_some(Message::System { content }));
                }
            }
        }
        let legacy = settings.legacy_max_tokens;
        Self {
            model: &request.model,
            messages,
            tools: request
                .tools
                .iter()
                .map(|tool| Tool {
                    kind: "function",
                    function: ToolFunction {
                        name: &tool.name,
                        description: &tool.description,
                        parameters: &tool.schema,
                    },
                })
                .collect(),
            max_completion_tokens: request.max_tokens.filter(|_| !legacy),
            max_tokens: request.max_tokens.filter(|_| legacy),
            stream: true,
            extra: without(&settings.extra, OWN),
            stream_options: settings
                .stream_options
                .then_some(StreamOptions { include_usage: true }),
        }
    }
}

/// All text of a message.
fn text(message: &ModelMessage) -> String {
    let text = |content: &Content| match content {
        Content::Text(text) => Some(text.clone()),
        Content::File { media_type, name, .. } => Some(unreadable(media_type, name.as_deref())),
        _ => None,
    };
    message.content.iter().filter_map(text).collect()
}

/// A message for every result first, because they must follow the calls at once; then what the user said.
fn user<'a>(message: &'a ModelMessage, messages: &mut Vec<Message<'a>>) {
    for content in &message.content {
        if let Content::ToolResult { id, output, .. } = content {
            messages.push(Message::Tool { tool_call_id: id, content: result_text(output) });
        }
    }
    let has_files = message.content.iter().any(|content| matches!(content, Content::File { .. }));
    let content = if has_files {
        UserContent::Parts(message.content.iter().filter_map(part).collect())
    } else {
        UserContent::Text(text(message))
    };
    if !matches!(&content, UserContent::Text(text) if text.is_empty()) {
        messages.push(Message::User { content });
    }
}

fn part(content: &Content) -> Option<Part<'_>> {
    match content {
        Content::Text(text) if text.is_empty() => None,
        Content::Text(text) => Some(Part::Text { text: text.clone() }),
        Content::File { media_type, url, .. } if media_type.starts_with("image/") => {
            Some(Part::ImageUrl { image_url: ImageUrl { url } })
        }
        Content::File { media_type, url, name }
            if media_type == "application/pdf" && url.starts_with("data:") =>
        {
            let filename = name.as_deref().unwrap_or("file.pdf");
            Some(Part::File { file: File { filename, file_data: url } })
        }
        Content::File { media_type, name, .. } => {
            Some(Part::Text { text: unreadable(media_type, name.as_deref()) })
        }
        _ => None,
    }
}

fn assistant(message: &ModelMessage) -> Option<Message<'_>> {
    let tool_calls: Vec<Call<'_>> = message
        .content
        .iter()
        .filter_map(|content| match content {
            Content::ToolCall { id, name, input } => Some(Call {
                id,
                kind: "function",
                function: CallFunction { name, arguments: input.as_str() },
            }),
            _ => None,
        })
        .collect();
    let content = Some(text(message)).filter(|text| !text.is_empty());
    (content.is_some() || !tool_calls.is_empty())
        .then_some(Message::Assistant { content, tool_calls })
}
