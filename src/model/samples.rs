//! For tests: a conversation that holds one of everything.

use crate::base::json::Json;
use crate::base::json::Object;
use crate::model::Bounds;
use crate::model::Content;
use crate::model::ModelMessage;
use crate::model::ModelRequest;
use crate::model::Speaker;
use crate::model::ToolSpec;

fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

fn file(media_type: &str, url: &str, name: Option<&str>) -> Content {
    let name = name.map(str::to_owned);
    Content::File { media_type: media_type.to_owned(), url: url.to_owned(), name }
}

fn call(id: &str, name: &str, input: &str) -> Content {
    let seal = Object::default();
    Content::ToolCall { id: id.to_owned(), name: name.to_owned(), input: json(input), seal }
}

fn result(id: &str, name: &str, output: &str, is_error: bool) -> Content {
    Content::ToolResult { id: id.to_owned(), name: name.to_owned(), output: json(output), is_error }
}

fn text(text: &str) -> Content {
    Content::Text(text.to_owned())
}

fn thought(text: &str, seal: Option<(&str, &str)>) -> Content {
    let seal = seal.map(|(name, value)| Object::default().with(name, &value));
    Content::Reasoning { text: text.to_owned(), seal }
}

/// A picture of one point.
pub(super) const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// Files, thoughts, tools and the application's words; the results of tools come in two messages.
pub(super) fn conversation() -> ModelRequest {
    let message = |speaker, content| ModelMessage { speaker, content };
    ModelRequest {
        workspace: "w".to_owned(),
        session: "s".to_owned(),
        model: "model-x".to_owned(),
        system: Some("Be kind.".to_owned()),
        messages: vec![
            message(
                Speaker::User,
                vec![
                    text("What is this?"),
                    file("image/png", &format!("data:image/png;base64,{PNG}"), None),
                    file("application/pdf", "https://example.org/a.pdf", Some("a.pdf")),
                    file("application/zip", "https://example.org/b.zip", Some("b.zip")),
                ],
            ),
            message(
                Speaker::Assistant,
                vec![
                    thought("Hm.", Some(("signature", "c2ln"))),
                    thought("", Some(("redactedData", "b3Bh"))),
                    thought("Nobody's.", None),
                    text("Let me see."),
                    call("call_1", "look", r#"{"at":1}"#),
                    call("call_2", "now", "{}"),
                ],
            ),
            message(Speaker::User, vec![result("call_1", "look", r#""a cat""#, false)]),
            message(
                Speaker::User,
                vec![text("Well?"), result("call_2", "now", r#"{"code":7}"#, true)],
            ),
            message(Speaker::Assistant, vec![text("")]),
            message(Speaker::System, vec![text("Be brief.")]),
        ],
        tools: vec![ToolSpec {
            name: "look".to_owned(),
            description: "Looks.".to_owned(),
            schema: json(r#"{"type":"object"}"#),
        }],
        resume: None,
        bounds: Bounds::default(),
    }
}
