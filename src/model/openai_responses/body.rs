//! The body of a request to the Responses API.

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
use crate::model::lawful;
use crate::model::lawful::ToolRules;
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
pub(in crate::model) struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<&'a str>,
    input: Vec<Item>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    include: Vec<&'a str>,
    store: bool,
    stream: bool,
    #[serde(flatten)]
    extra: BTreeMap<&'a str, &'a Value>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Item {
    Message {
        role: &'static str,
        content: Vec<Part>,
    },
    Reasoning {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        summary: Vec<Summary>,
        encrypted_content: String,
    },
    FunctionCall {
        call_id: String,
        name: String,
        arguments: String,
    },
    FunctionCallOutput {
        call_id: String,
        output: Output,
    },
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Summary {
    SummaryText { text: String },
}

/// A text alone where there are no pictures.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Output {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    InputText {
        text: String,
    },
    OutputText {
        text: String,
    },
    InputImage {
        image_url: String,
    },
    InputFile {
        filename: String,
        file_data: String,
    },
    #[serde(rename = "input_file")]
    InputFileUrl {
        file_url: String,
    },
}

#[derive(Debug, Serialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    description: String,
    parameters: Json,
    strict: bool,
}

/// What asks for the thoughts of an answer in a form that can be sent back.
const ENCRYPTED: &str = "reasoning.encrypted_content";
/// How models begin that do not think, and refuse to be asked for thoughts.
const THOUGHTLESS: &[&str] = &["chatgpt-", "gpt-3.5", "gpt-4", "gpt-5-chat"];

impl<'a> Body<'a> {
    /// The body for `request`.
    ///
    /// Thoughts that the provider keeps for us in sealed form go back while tools are at work, as it wants; a later turn does
    /// without.
    pub(in crate::model) fn new(request: &'a ModelRequest, settings: &'a Settings) -> Self {
        let messages = lawful::messages(request, |id| lawful::is_plain(id, 64), true);
        let asked = lawful::last_question(&messages);
        let mut input = Vec::new();
        for (at, message) in messages.into_iter().enumerate() {
            items(message, at > asked, &mut input);
        }
        let mut extra = without(&settings.extra, OWN);
        let mut include: Vec<&str> = match extra.remove("include") {
            Some(Value::Array(given)) => given.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let thinks = !THOUGHTLESS.iter().any(|start| request.model.starts_with(start));
        if !settings.store && thinks && !include.contains(&ENCRYPTED) {
            include.push(ENCRYPTED);
        }
        let tool = |tool: ToolSpec| Tool {
            kind: "function",
            name: tool.name,
            description: tool.description,
            parameters: tool.schema,
            strict: false,
        };
        Self {
            model: &request.model,
            instructions: request.system.as_deref().filter(|text| !text.trim().is_empty()),
            input,
            tools: lawful::tools(request, ToolRules::of_openai(true, &request.model))
                .into_iter()
                .map(tool)
                .collect(),
            max_output_tokens: settings.max_tokens_count,
            include,
            store: settings.store,
            stream: true,
            extra,
        }
    }
}

/// Adds what a message is in items. `thoughts`: whether the provider's own go back.
fn items(message: ModelMessage, thoughts: bool, items: &mut Vec<Item>) {
    let speaker = message.speaker;
    let role = match speaker {
        Speaker::User => "user",
        Speaker::Assistant => "assistant",
        Speaker::System => "system",
    };
    // Parts that belong to one message, as long as nothing else comes between them.
    let mut parts = Vec::new();
    // Summaries behind a sealed thought are of the same one, unless something comes between.
    let mut thinks = false;
    for content in message.content {
        let was_thinking = std::mem::take(&mut thinks);
        let item = match content {
            Content::Reasoning { text, seal } if thoughts => {
                let seal = seal.unwrap_or_default();
                let summary = || Summary::SummaryText { text: text.clone() };
                let encrypted = seal.text("reasoningEncryptedContent");
                if let Some(encrypted_content) = encrypted.filter(|data| !data.is_empty()) {
                    thinks = true;
                    let summary = (!text.is_empty()).then(summary).into_iter().collect();
                    Item::Reasoning { id: seal.text("itemId"), summary, encrypted_content }
                } else {
                    if let (true, Some(Item::Reasoning { summary: all, .. })) =
                        (was_thinking, items.last_mut())
                    {
                        all.push(summary());
                        thinks = true;
                    }
                    continue;
                }
            }
            Content::Reasoning { .. } => continue,
            Content::ToolCall { id, name, input, .. } => {
                Item::FunctionCall { call_id: id, name, arguments: input.as_str().to_owned() }
            }
            Content::ToolResult { id, output, .. } => {
                Item::FunctionCallOutput { call_id: id, output: output_of(&output) }
            }
            Content::Text(text) if speaker == Speaker::Assistant => {
                parts.push(Part::OutputText { text });
                continue;
            }
            Content::Text(text) => {
                parts.push(Part::InputText { text });
                continue;
            }
            Content::File { media_type, url, name } => {
                parts.push(file(&media_type, &url, name));
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

fn output_of(output: &Json) -> Output {
    let (text, images) = result(output);
    if images.is_empty() {
        return Output::Text(text);
    }
    let text = (!text.trim().is_empty()).then_some(Part::InputText { text });
    let images = images.into_iter().map(|(media_type, data)| Part::InputImage {
        image_url: Place::Data(data).url(media_type),
    });
    Output::Parts(text.into_iter().chain(images).collect())
}

fn file(media_type: &str, url: &str, name: Option<String>) -> Part {
    match Readable::of(media_type, url, name.as_deref()) {
        Readable::Text(text) => Part::InputText { text },
        Readable::Image(kind, place) => Part::InputImage { image_url: place.url(kind) },
        Readable::Pdf(Place::Url(file_url)) => Part::InputFileUrl { file_url },
        Readable::Pdf(place) => Part::InputFile {
            filename: name.unwrap_or_else(|| "file.pdf".to_owned()),
            file_data: place.url("application/pdf"),
        },
    }
}
