//! Messages in the shape of the AI SDK, and back.
//!
//! The same part is stored under the names of the native API: `content` for `text`, a state of four words. Nothing is
//! lost on the way, so what a client assembled is what it reads later.

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::json::Json;
use crate::base::json::Object;
use crate::domain::session::Message;
use crate::domain::session::Part;
use crate::domain::session::Role;

/// A message of the AI SDK, v5 and later.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UiMessage {
    /// Unique in its chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Who says it.
    pub role: Role,
    /// What the application attached to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Json>,
    /// Its parts.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub parts: Vec<Object>,
}

impl From<Message> for UiMessage {
    fn from(message: Message) -> Self {
        let mut parts: Vec<Object> =
            message.parts.iter().map(|part| to_ui(part.members())).collect();
        if parts.is_empty() && !message.content.is_empty() {
            parts.push(Object::default().with("type", &"text").with("text", &message.content));
        }
        Self { id: Some(message.id), role: message.role, metadata: message.metadata, parts }
    }
}

impl UiMessage {
    /// Its text.
    #[must_use]
    pub fn text(&self) -> String {
        let is_text = |part: &&Object| part.text("type").as_deref() == Some("text");
        self.parts.iter().filter(is_text).filter_map(|part| part.text("text")).collect()
    }

    /// Its parts as they are stored; none if there is nothing but one plain text.
    #[must_use]
    pub fn stored_parts(&self) -> Vec<Part> {
        if let [part] = self.parts.as_slice()
            && part.text("type").as_deref() == Some("text")
            && part.iter().count() == 2
        {
            return Vec::new();
        }
        self.parts.iter().cloned().map(from_ui).map(|part| Part::of(&part)).collect()
    }
}

/// The names of a state, there and here.
const TEXT_STATES: [(&str, &str); 2] = [("streaming", "running"), ("done", "complete")];

fn rename(part: Object, names: &[(&str, &str)]) -> Object {
    let mut out = Object::default();
    for (key, value) in part.iter() {
        let name = names.iter().find(|(from, _)| *from == key).map_or(key, |(_, to)| *to);
        out.set(name, value.clone());
    }
    out
}

fn from_ui(part: Object) -> Object {
    match part.text("type").as_deref() {
        Some("text" | "reasoning") => {
            let mut part = rename(part, &[("text", "content")]);
            let state = part.text("state");
            let state = TEXT_STATES.iter().find(|(there, _)| state.as_deref() == Some(there));
            if let Some((_, here)) = state {
                part.set("state", Json::string(here));
            }
            part
        }
        _ => part,
    }
}

fn to_ui(part: Object) -> Object {
    match part.text("type").as_deref() {
        Some("text" | "reasoning") => {
            let mut part = rename(part, &[("content", "text")]);
            let state = part.text("state");
            let state = TEXT_STATES.iter().find(|(_, here)| state.as_deref() == Some(here));
            if let Some((there, _)) = state {
                part.set("state", Json::string(there));
            }
            part
        }
        Some("tool-call") => tool(&part),
        // It keeps tokens, which the SDK has no place for.
        Some(kind @ "step-start") => Object::default().with("type", &kind),
        _ => part,
    }
}

fn tool(part: &Object) -> Object {
    let name = part.text("toolName").unwrap_or_default();
    let approval = part.get("approval").and_then(Object::read);
    let approved =
        approval.as_ref().and_then(|approval| approval.get("approved")).map(Json::as_str);
    let state = part.text("state").unwrap_or_default();
    let state = match (state.as_str(), &approval, approved) {
        ("pending", Some(_), None) => "approval-requested",
        ("pending", ..) => "input-streaming",
        ("running", _, Some(_)) => "approval-responded",
        ("running", ..) => "input-available",
        ("complete", ..) => "output-available",
        ("error", _, Some("false")) => "output-denied",
        _ => "output-error",
    };
    let mut out = Object::default().with("type", &format!("tool-{name}"));
    for (key, value) in part.iter() {
        match key {
            "type" | "toolName" | "inputText" => {}
            "state" => out.set("state", Json::string(state)),
            "toolInput" => out.set("input", value.clone()),
            "toolOutput" => out.set("output", value.clone()),
            _ => out.set(key, value.clone()),
        }
    }
    out
}
