//! What the AI SDK posts, and what of it is believed: the history is the server's.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::base::ids::Name;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::domain::session::Input;
use crate::domain::session::NewMessage;
use crate::domain::session::Part;
use crate::domain::session::Role;
use crate::domain::session::ToolAnswer;
use crate::domain::session::TurnOptions;
use crate::protocol::ui::UiMessage;

/// Which protocol the answer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
pub enum Protocol {
    /// The UI message stream of v5 to v7.
    #[serde(rename = "ui", alias = "v5", alias = "v6", alias = "v7")]
    Ui,
    /// The data stream of v4.
    #[serde(rename = "v4")]
    V4,
    /// Plain text.
    #[serde(rename = "text")]
    Text,
}

/// `POST /api/chat`. Whatever else an application puts into the body is ignored.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UiRequest {
    /// The chat.
    pub id: Option<String>,
    /// The chat, as some applications call it.
    pub session_id: Option<String>,
    /// The history as the client has it.
    #[schema(value_type = Option<Vec<Object>>)]
    pub messages: Option<Vec<Option<Posted>>>,
    /// Its last message alone, as many applications send it.
    #[schema(value_type = Option<Object>)]
    pub message: Option<Posted>,
    /// `submit-message` or `regenerate-message`; absent in v4.
    pub trigger: Option<String>,
    /// The message that is edited, made anew or goes on.
    pub message_id: Option<String>,
    /// Who is to answer: `provider/model`.
    pub model: Option<String>,
    /// What the model is told about its task; anything but a text is ignored.
    #[schema(value_type = Option<String>)]
    pub system: Option<Json>,
    /// Tools that the client runs: `{name: {description?, parameters?}}`, or a list with a `name` in each.
    #[schema(value_type = Option<Object>)]
    pub tools: Option<Json>,
}

/// A message as it is posted: of v5 and later, or of v4.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Posted {
    id: Option<String>,
    role: String,
    metadata: Option<Json>,
    parts: Option<Vec<Object>>,
    content: Option<Json>,
    tool_invocations: Option<Vec<Object>>,
    #[serde(rename = "experimental_attachments")]
    attachments: Option<Vec<Object>>,
}

/// What is wrong with a request.
type Problem = &'static str;

impl UiRequest {
    /// The protocol that the client speaks, as far as its request tells.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        // Messages of v5 and later are parts alone. A client that makes its body itself may leave the trigger out.
        let is_v4 = self.last().is_some_and(|last| last.content.is_some());
        match (&self.trigger, &self.messages) {
            (None, Some(_)) if is_v4 => Protocol::V4,
            _ => Protocol::Ui,
        }
    }

    /// The text that would be answered, if the request brings any.
    #[must_use]
    pub fn text(&self) -> String {
        self.last().filter(|last| last.role == "user").map(Posted::text).unwrap_or_default()
    }

    fn last(&self) -> Option<&Posted> {
        self.message.as_ref().or_else(|| self.messages.as_ref()?.last()?.as_ref())
    }

    /// How the turn is to be run.
    #[must_use]
    pub fn options(&self) -> TurnOptions {
        TurnOptions {
            model: self.model.clone(),
            system: self.system.as_ref().and_then(Json::as_string).filter(|text| !text.is_empty()),
            tools: self.tools.as_ref().and_then(tools),
            ..TurnOptions::default()
        }
    }

    /// What the turn is to answer.
    ///
    /// # Errors
    ///
    /// What is wrong with the request.
    pub fn into_input(mut self, protocol: Protocol) -> Result<Input, Problem> {
        let alone = self.message.take();
        let mut history = self.messages.take().filter(|list| !list.is_empty());
        let last = alone.or_else(|| history.as_mut()?.pop()?).ok_or("`messages` is empty")?;
        if self.trigger.as_deref() == Some("regenerate-message") {
            return Ok(Input::Again { after: last.id.filter(|_| last.role == "user") });
        }
        if last.role == "assistant" {
            let results = last.results();
            let message_id = last.id.or(self.message_id);
            let message_id = if protocol == Protocol::V4 { None } else { message_id };
            return Ok(Input::Results { message_id, results });
        }
        if last.role != "user" {
            return Err("the last message must be of a user, or go on with an answer");
        }
        // v4 sends no ids: the place in the list is all that tells what is new.
        let v4 = protocol == Protocol::V4 && self.trigger.is_none();
        let message = last.into_message(v4)?;
        if message.content.trim().is_empty() && message.parts.is_empty() {
            return Err("the last message says nothing");
        }
        Ok(match history {
            Some(before) if v4 => Input::At { position: before.len(), message },
            // Nothing tells what is before it: it is new.
            None if v4 => Input::Message { message, edit: false },
            _ => Input::Message { message, edit: true },
        })
    }
}

/// The tools of a body as the native API takes them; `None` if it holds no such thing, since applications have their
/// own use for the word.
fn tools(json: &Json) -> Option<Json> {
    let named = |name: Option<String>, tool: &Json| {
        let tool = Object::read(tool)?;
        let name = name.or_else(|| tool.text("name")).filter(|name| !name.is_empty())?;
        let mut out = Object::default().with("name", &name);
        if let Some(text) = tool.text("description") {
            out.set("description", Json::string(&text));
        }
        let schema = tool.get("inputSchema").or_else(|| tool.get("parameters"));
        if let Some(schema) = schema.filter(|schema| schema.is_object()) {
            out.set("inputSchema", schema.clone());
        }
        Some(out)
    };
    let tools: Vec<Object> = match Object::read(json) {
        Some(map) => {
            map.iter().filter_map(|(name, tool)| named(Some(name.to_owned()), tool)).collect()
        }
        None => {
            let list: Vec<Json> = serde_json::from_str(json.as_str()).ok()?;
            list.iter().filter_map(|tool| named(None, tool)).collect()
        }
    };
    (!tools.is_empty()).then(|| Json::of(&tools).expect("objects are JSON"))
}

impl Posted {
    fn text(&self) -> String {
        let parts = self.parts.iter().flatten();
        let text: String = parts
            .filter(|part| part.text("type").as_deref() == Some("text"))
            .filter_map(|part| part.text("text"))
            .collect();
        if text.is_empty() {
            self.content.as_ref().and_then(Json::as_string).unwrap_or_default()
        } else {
            text
        }
    }

    fn into_message(self, v4: bool) -> Result<NewMessage, Problem> {
        let content = self.text();
        let mut message = UiMessage {
            id: None,
            role: Role::User,
            metadata: None,
            parts: self.parts.unwrap_or_default(),
        };
        for attachment in self.attachments.into_iter().flatten() {
            if let Some(url) = attachment.text("url") {
                let kind = attachment.text("contentType").unwrap_or_else(|| "*/*".to_owned());
                let mut file = Object::default()
                    .with("type", &"file")
                    .with("mediaType", &kind)
                    .with("url", &url);
                if let Some(name) = attachment.text("name") {
                    file = file.with("filename", &name);
                }
                message.parts.push(file);
            }
        }
        let parts: Vec<Part> = message.stored_parts();
        let (id, metadata) = if v4 { (None, None) } else { (self.id, self.metadata) };
        let id = id.map(Name::new).transpose();
        let id = id.map_err(|_| "the id of the last message must be 1 to 255 bytes of UTF-8 without control characters")?;
        Ok(NewMessage { id, role: Role::User, content, parts, metadata })
    }

    /// What the client says to tool calls.
    fn results(&self) -> Vec<ToolAnswer> {
        let answer = |id: String| ToolAnswer {
            tool_call_id: id,
            output: None,
            error: None,
            approved: None,
            reason: None,
        };
        let mut results = Vec::new();
        for part in self.parts.iter().flatten() {
            let Some(id) = part.text("toolCallId") else { continue };
            match part.text("state").as_deref() {
                Some("output-available") => {
                    results.push(ToolAnswer { output: part.get("output").cloned(), ..answer(id) })
                }
                Some("output-error") => {
                    results.push(ToolAnswer { error: part.text("errorText"), ..answer(id) });
                }
                Some("approval-responded") => {
                    let approval = part.get("approval").and_then(Object::read).unwrap_or_default();
                    let approved = approval.get("approved").map(|yes| yes.as_str() == "true");
                    let reason = approval.text("reason");
                    results.push(ToolAnswer { approved, reason, ..answer(id) });
                }
                _ => {}
            }
        }
        let of_parts = self
            .parts
            .iter()
            .flatten()
            .filter_map(|part| part.get("toolInvocation").and_then(Object::read));
        for call in self.tool_invocations.iter().flatten().cloned().chain(of_parts) {
            if let (Some(id), Some("result"), Some(result)) =
                (call.text("toolCallId"), call.text("state").as_deref(), call.get("result"))
            {
                results.push(ToolAnswer { output: Some(result.clone()), ..answer(id) });
            }
        }
        results
    }
}
