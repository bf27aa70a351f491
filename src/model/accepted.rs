//! For tests: whether the strictest provider of each dialect accepts what would be sent for a conversation.

use serde_json::Value;

use crate::base::json::Json;
use crate::model::Bounds;
use crate::model::ModelMessage;
use crate::model::ModelRequest;
use crate::model::ToolSpec;
use crate::model::anthropic;
use crate::model::lawful;
use crate::model::openai_chat;
use crate::model::openai_responses;

#[path = "../../tests/it/support/strict.rs"]
mod strict;

/// What the provider is called whose own the thoughts and ids are.
pub(crate) const OWN: &str = "own";

/// A request with `messages` and these tools: name and schema.
pub(crate) fn request(
    system: Option<&str>,
    messages: Vec<ModelMessage>,
    tools: &[(&str, &str)],
) -> ModelRequest {
    let tool = |(name, schema): &(&str, &str)| ToolSpec {
        name: (*name).to_owned(),
        description: String::new(),
        schema: Json::parse(schema).unwrap(),
    };
    ModelRequest {
        workspace: "w".to_owned(),
        session: "s".to_owned(),
        model: "model-x".to_owned(),
        system: system.map(str::to_owned),
        messages,
        tools: tools.iter().map(tool).collect(),
        resume: None,
        bounds: Bounds::default(),
    }
}

fn each(request: &ModelRequest) -> [(strict::Rules, Value); 4] {
    let mut settings = anthropic::Settings::default();
    let messages = serde_json::to_value(anthropic::Body::new(request, &settings));
    settings.base_url = "https://example.org".to_owned();
    let alike = serde_json::to_value(anthropic::Body::new(request, &settings));
    let settings = openai_chat::Settings::default();
    let chat = serde_json::to_value(openai_chat::Body::new(request, &settings));
    let settings = openai_responses::Settings::default();
    let responses = serde_json::to_value(openai_responses::Body::new(request, &settings));
    [
        (strict::Rules::Anthropic, messages.unwrap()),
        (strict::Rules::AnthropicLike, alike.unwrap()),
        (strict::Rules::Chat, chat.unwrap()),
        (strict::Rules::Responses, responses.unwrap()),
    ]
}

/// What would be sent to each.
pub(crate) fn bodies(request: &ModelRequest) -> [String; 4] {
    each(request).map(|(_, body)| body.to_string())
}

/// What the providers would refuse about `request`.
pub(crate) fn problems(request: &ModelRequest) -> Vec<String> {
    let told = |(rules, body): (strict::Rules, Value)| {
        let problems = strict::problems(rules, &body, &|id| id.starts_with("own"));
        problems.into_iter().map(move |problem| format!("{rules:?}: {problem}"))
    };
    let plain = lawful::without_files(request);
    let all = [Some(request), plain.as_ref()].into_iter().flatten();
    all.flat_map(each).flat_map(told).collect()
}
