//! The body of a request for a chat completion.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::base::json::Json;
use crate::model::Content;
use crate::model::ModelMessage;
use crate::model::ModelRequest;
use crate::model::Speaker;
use crate::model::ToolSpec;
use crate::model::extra::without;
use crate::model::file::Place;
use crate::model::file::Readable;
use crate::model::file::result;
use crate::model::file::unreadable;
use crate::model::lawful;
use crate::model::lawful::ToolRules;
use crate::model::openai_chat::Settings;
use crate::model::openai_chat::details::joined;

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
pub(in crate::model) struct Body<'a> {
    model: &'a str,
    messages: Vec<Message>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool>,
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
enum Message {
    System {
        content: String,
    },
    User {
        content: UserContent,
    },
    Assistant {
        content: Option<String>,
        /// The thoughts, in the member in which they came.
        #[serde(flatten)]
        thoughts: BTreeMap<String, Json>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Call>,
    },
    Tool {
        tool_call_id: String,
        content: String,
    },
}

/// Plain text where it is enough: not every server takes parts.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum UserContent {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    Text { text: String },
    ImageUrl { image_url: ImageUrl },
    File { file: File },
}

#[derive(Debug, Serialize)]
struct ImageUrl {
    url: String,
}

#[derive(Debug, Serialize)]
struct File {
    filename: String,
    file_data: String,
}

#[derive(Debug, Serialize)]
struct Call {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: CallFunction,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra_content: Option<Json>,
}

#[derive(Debug, Serialize)]
struct CallFunction {
    name: String,
    arguments: String,
}

#[derive(Debug, Serialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: &'static str,
    function: ToolFunction,
}

#[derive(Debug, Serialize)]
struct ToolFunction {
    name: String,
    description: String,
    parameters: Json,
}

/// Between the results of tools and what the user says next stands an answer, even if there was none.
const NO_ANSWER: &str = "(The answer ended here.)";
/// What stands before pictures that came from tools; this dialect takes them from users only.
const PICTURES: &str = "(Pictures from the tools:)";

impl<'a> Body<'a> {
    /// The body for `request`.
    ///
    /// Thoughts go back only while tools are at work: some servers demand them then, and some refuse them later.
    pub(in crate::model) fn new(request: &'a ModelRequest, settings: &'a Settings) -> Self {
        let takes_id = if settings.is_at("mistral.ai") { is_short } else { lawful::is_plain_id };
        let conversation = lawful::messages(request, takes_id, false);
        let asked = lawful::last_question(&conversation);
        // Most servers take what the application says at the beginning only.
        let system = lawful::system(request).map(|content| Message::System { content });
        let mut messages: Vec<Message> = system.into_iter().collect();
        for (at, message) in conversation.into_iter().enumerate() {
            match message.speaker {
                Speaker::Assistant => messages.push(assistant(message, at > asked)),
                Speaker::User | Speaker::System => user(message, settings, &mut messages),
            }
        }
        let legacy = settings.legacy_max_tokens;
        let tool = |tool: ToolSpec| Tool {
            kind: "function",
            function: ToolFunction {
                name: tool.name,
                description: tool.description,
                parameters: tool.schema,
            },
        };
        let vendor = ["openai.com", "openai.azure.com"];
        let is_vendor = vendor.iter().any(|domain| settings.is_at(domain));
        let rules = ToolRules::of_openai(is_vendor, &request.model);
        Self {
            model: &request.model,
            messages,
            tools: lawful::tools(request, rules).into_iter().map(tool).collect(),
            max_completion_tokens: settings.max_tokens_count.filter(|_| !legacy),
            max_tokens: settings.max_tokens_count.filter(|_| legacy),
            stream: true,
            extra: without(&settings.extra, OWN),
            stream_options: settings
                .stream_options
                .then_some(StreamOptions { include_usage: true }),
        }
    }
}

/// What the strangest server takes as the id of a call.
fn is_short(id: &str) -> bool {
    id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A message for every result first, because they must follow the calls at once; then what the user said.
fn user(message: ModelMessage, settings: &Settings, messages: &mut Vec<Message>) {
    let (mut parts, mut pictures, mut results) = (Vec::new(), Vec::new(), false);
    for content in message.content {
        match content {
            Content::ToolResult { id, output, .. } => {
                let (mut text, images) = result(&output);
                if settings.images {
                    pictures.extend(images);
                } else if !images.is_empty() {
                    text.push_str(&unreadable("image", None));
                }
                let content = if text.is_empty() { "(a picture)".to_owned() } else { text };
                messages.push(Message::Tool { tool_call_id: id, content });
                results = true;
            }
            Content::Text(text) => parts.push(Part::Text { text }),
            Content::File { media_type, url, name } => {
                parts.push(file(&media_type, &url, name, settings));
            }
            Content::Reasoning { .. } | Content::ToolCall { .. } => {}
        }
    }
    if results && !parts.is_empty() {
        let (content, thoughts) = (Some(NO_ANSWER.to_owned()), BTreeMap::new());
        messages.push(Message::Assistant { content, thoughts, tool_calls: Vec::new() });
    } else if !pictures.is_empty() {
        parts.push(Part::Text { text: PICTURES.to_owned() });
        parts.extend(pictures.into_iter().map(|(media_type, data)| Part::ImageUrl {
            image_url: ImageUrl { url: Place::Data(data).url(media_type) },
        }));
    }
    let texts: Option<Vec<&str>> = parts
        .iter()
        .map(|part| if let Part::Text { text } = part { Some(text.as_str()) } else { None })
        .collect();
    let content = match texts {
        Some(texts) if texts.is_empty() => return,
        Some(texts) => UserContent::Text(texts.join("\n\n")),
        None => UserContent::Parts(parts),
    };
    messages.push(Message::User { content });
}

fn file(media_type: &str, url: &str, name: Option<String>, settings: &Settings) -> Part {
    let text = |name: Option<&str>| Part::Text { text: unreadable(media_type, name) };
    match Readable::of(media_type, url, name.as_deref()) {
        Readable::Text(text) => Part::Text { text },
        Readable::Image(kind, place) if settings.images => {
            Part::ImageUrl { image_url: ImageUrl { url: place.url(kind) } }
        }
        Readable::Pdf(place @ Place::Data(_)) if settings.takes_files() => Part::File {
            file: File {
                filename: name.unwrap_or_else(|| "file.pdf".to_owned()),
                file_data: place.url("application/pdf"),
            },
        },
        Readable::Image(..) | Readable::Pdf(_) => text(name.as_deref()),
    }
}

/// An answer; with its thoughts if it is `at_work`.
fn assistant(message: ModelMessage, at_work: bool) -> Message {
    let (mut texts, mut tool_calls) = (Vec::new(), Vec::new());
    let (mut plain, mut details) = (BTreeMap::<String, String>::new(), Vec::new());
    for content in message.content {
        match content {
            Content::Text(text) => texts.push(text),
            Content::ToolCall { id, name, input, seal } => tool_calls.push(Call {
                id,
                kind: "function",
                function: CallFunction { name, arguments: input.as_str().to_owned() },
                extra_content: seal.get("extra_content").cloned(),
            }),
            Content::Reasoning { text, seal: Some(seal) } if at_work => {
                details.extend(seal.get("reasoning_details").cloned());
                if let Some(field) = seal.text("field") {
                    plain.entry(field).or_default().push_str(&text);
                }
            }
            _ => {}
        }
    }
    let thoughts = match joined(&details) {
        Some(details) => BTreeMap::from([("reasoning_details".to_owned(), details)]),
        None => plain.into_iter().map(|(field, text)| (field, Json::string(&text))).collect(),
    };
    let content = (!texts.is_empty()).then(|| texts.concat());
    Message::Assistant { content, thoughts, tool_calls }
}
