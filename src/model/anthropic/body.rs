//! The body of a request to the Messages API.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::base::json::Json;
use crate::model::Content;
use crate::model::ModelMessage;
use crate::model::ModelRequest;
use crate::model::Speaker;
use crate::model::ToolSpec;
use crate::model::anthropic::Settings;
use crate::model::extra::without;
use crate::model::file::Place;
use crate::model::file::Readable;
use crate::model::file::result;
use crate::model::file::unreadable;
use crate::model::lawful;
use crate::model::lawful::ToolRules;

/// Fields that are not for the settings to say.
pub(in crate::model) const OWN: &[&str] =
    &["max_tokens", "messages", "model", "stream", "system", "tools"];

/// What it demands of tools.
const RULES: ToolRules = ToolRules { description_chars: usize::MAX, plain_fields: true };

/// What is sent.
#[derive(Debug, Serialize)]
pub(in crate::model) struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    messages: Vec<Message>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool>,
    stream: bool,
    #[serde(flatten)]
    extra: BTreeMap<&'a str, &'a Value>,
}

#[derive(Debug, Serialize)]
struct Message {
    role: &'static str,
    content: Vec<Block>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        text: String,
    },
    Thinking {
        thinking: String,
        signature: String,
    },
    RedactedThinking {
        data: String,
    },
    Image {
        source: Source,
    },
    Document {
        source: Source,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<String>,
    },
    ToolUse {
        id: String,
        name: String,
        input: Json,
    },
    ToolResult {
        tool_use_id: String,
        content: ResultContent,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
}

/// A text alone where there are no pictures.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ResultContent {
    Text(String),
    Blocks(Vec<Block>),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source {
    Base64 { media_type: &'static str, data: String },
    Url { url: String },
}

#[derive(Debug, Serialize)]
struct Tool {
    name: String,
    description: String,
    input_schema: Json,
}

impl<'a> Body<'a> {
    /// The body for `request`; the settings hold where it does not say.
    ///
    /// What the application says in the middle of a conversation goes to the system text, because only some models take it
    /// where it was said.
    pub(in crate::model) fn new(request: &'a ModelRequest, settings: &'a Settings) -> Self {
        let messages = lawful::messages(request, |id| lawful::is_plain(id, 64), false);
        let own = settings.is_vendor();
        let message = |message: ModelMessage| {
            let role = match message.speaker {
                Speaker::Assistant => "assistant",
                Speaker::User | Speaker::System => "user",
            };
            let content = message.content.into_iter().filter_map(|content| block(content, own));
            Message { role, content: content.collect() }
        };
        let tool = |tool: ToolSpec| Tool {
            name: tool.name,
            description: tool.description,
            input_schema: tool.schema,
        };
        Self {
            model: &request.model,
            max_tokens: settings.max_tokens_count,
            system: lawful::system(request),
            messages: messages.into_iter().map(message).collect(),
            tools: lawful::tools(request, RULES).into_iter().map(tool).collect(),
            stream: true,
            extra: without(&settings.extra, OWN),
        }
    }
}

/// `content` as a block; `None` for a thought that this endpoint would refuse.
///
/// The vendor checks the seals of thoughts. Others that speak its language give none, and want the thoughts back all the same.
fn block(content: Content, vendor: bool) -> Option<Block> {
    Some(match content {
        Content::Text(text) => Block::Text { text },
        Content::Reasoning { text, seal } => {
            let seal = seal?;
            if let Some(data) = seal.text("redactedData") {
                return Some(Block::RedactedThinking { data });
            }
            let signature = seal.text("signature")?;
            if signature.is_empty() && vendor {
                return None;
            }
            Block::Thinking { thinking: text, signature }
        }
        Content::File { media_type, url, name } => file(&media_type, &url, name),
        Content::ToolCall { id, name, input, .. } => Block::ToolUse { id, name, input },
        Content::ToolResult { id, output, is_error, .. } => {
            let (text, images) = result(&output);
            let mut blocks: Vec<Block> = images
                .into_iter()
                .map(|(media_type, data)| Block::Image {
                    source: Source::Base64 { media_type, data },
                })
                .collect();
            let content = if blocks.is_empty() {
                ResultContent::Text(text)
            } else {
                if !text.trim().is_empty() {
                    blocks.insert(0, Block::Text { text });
                }
                ResultContent::Blocks(blocks)
            };
            Block::ToolResult { tool_use_id: id, content, is_error }
        }
    })
}

/// A file, if the API can read it; otherwise a text that names it.
fn file(media_type: &str, url: &str, name: Option<String>) -> Block {
    let source = |media_type, place| match place {
        Place::Data(data) => Some(Source::Base64 { media_type, data }),
        Place::Url(url) => url.starts_with("https://").then_some(Source::Url { url }),
    };
    let block = match Readable::of(media_type, url, name.as_deref()) {
        Readable::Text(text) => return Block::Text { text },
        Readable::Image(kind, place) => source(kind, place).map(|source| Block::Image { source }),
        Readable::Pdf(place) => source("application/pdf", place)
            .map(|source| Block::Document { source, title: name.clone() }),
    };
    block.unwrap_or_else(|| Block::Text { text: unreadable(media_type, name.as_deref()) })
}
