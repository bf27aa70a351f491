//! The body of a request to the Responses API.

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
use crate::model::openai_responses::Settings;

/// Fields that are not for the settings to say.
pub(in crate::model) const OWN: &[&str] = &[
    "background",
    "input",
    "instructions",
    "max_output_tokens",
    "model",
    "store",
    "stream",
    "tools",
];

/// What is sent.
#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<&'a str>,
    input: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    store: bool,
    stream: bool,
    #[serde(flatten)]
    extra: BTreeMap<&'a str, &'a Value>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Item<'a> {
    Message { role: &'static str, content: Vec<Part<'a>> },
    FunctionCall { call_id: &'a str, name: &'a str, arguments: &'a str },
    FunctionCallOutput { call_id: &'a str, output: String },
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    InputText {
        text: String,
    },
    OutputText {
        text: &'a str,
    },
    InputImage {
        image_url: &'a str,
    },
    InputFile {
        filename: &'a str,
        file_data: &'a str,
    },
    #[serde(rename = "input_file")]
    InputFileUrl {
        file_url: &'a str,
    },
}

#[derive(Debug, Serialize)]
struct Tool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    description: &'a str,
    parameters: &'a Json,
    strict: bool,
}

impl<'a> Body<'a> {
    /// The body for `request`. Thoughts are left out: this provider's own are not kept, and others' are not its.
    pub(super) fn new(request: &'a ModelRequest, settings: &'a Settings) -> Self {
        let mut input = Vec::new();
        for message in &request.messages {
            items(message, &mut input);
        }
        Self {
            model: &request.model,
            instructions: request.system.as_deref().filter(|text| !text.trim().is_empty()),
            input,
            tools: request
                .tools
                .iter()
                .map(|tool| Tool {
                    kind: "function",
                    name: &tool.name,
                    description: &tool.description,
                    parameters: &tool.schema,
                    strict: false,
                })
                .collect(),
            max_output_tokens: request.max_tokens,
            store: settings.store,
            stream: true,
            extra: without(&settings.extra, OWN),
        }
    }
}

fn items<'a>(message: &'a ModelMessage, items: &mut Vec<Item<'a>>) {
    let role = match message.speaker {
        Speaker::User => "user",
        Speaker::Assistant => "assistant",
        Speaker::System => "system",
    };
    // Parts that belong to one message, as long as nothing else comes between them.
    let mut parts = Vec::new();
    for content in &message.content {
        let item = match content {
            Content::ToolCall { id, name, input } => {
                Item::FunctionCall { call_id: id, name, arguments: input.as_str() }
            }
            Content::ToolResult { id, output, .. } => {
                Item::FunctionCallOutput { call_id: id, output: result_text(output) }
            }
            content => {
                parts.extend(part(content, message.speaker));
                continue;
            }
        };
        if !parts.is_empty() {
            items.push(Item::Message { role, content: std::mem::take(&mut parts) });
        }
        items.push(item);
    }
    if !parts.is_empty() {
        items.push(Item::Message { role, content: parts });
    }
}

fn part(content: &Content, speaker: Speaker) -> Option<Part<'_>> {
    match content {
        Content::Text(text) if text.is_empty() => None,
        Content::Text(text) if speaker == Speaker::Assistant => Some(Part::OutputText { text }),
        Content::Text(text) => Some(Part::InputText { text: text.clone() }),
        Content::File { media_type, url, name } if speaker == Speaker::User => {
            Some(file(media_type, url, name.as_deref()))
        }
        _ => None,
    }
}

fn file<'a>(media_type: &str, url: &'a str, name: Option<&'a str>) -> Part<'a> {
    let is_data = url.starts_with("data:");
    match media_type {
        image if image.starts_with("image/") => Part::InputImage { image_url: url },
        "application/pdf" if is_data => {
            Part::InputFile { filename: name.unwrap_or("file.pdf"), file_data: url }
        }
        "application/pdf" => Part::InputFileUrl { file_url: url },
        other => Part::InputText { text: unreadable(other, name) },
    }
}
