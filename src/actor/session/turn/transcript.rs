//! From stored messages to what a model is given.

use crate::base::json::Json;
use crate::base::json::Object;
use crate::domain::session::Message;
use crate::domain::session::Role;
use crate::domain::session::Status;
use crate::model::Content;
use crate::model::ModelMessage;
use crate::model::Speaker;

/// What the model hears of a call that was refused.
pub(super) const DENIED: &str = "the user did not allow this call";

/// Who is asked. What another one gave with its thoughts and calls is not for it to read: not even another model of the same
/// provider takes it.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The name of the provider.
    pub provider: &'a str,
    /// `provider/model`.
    pub address: &'a str,
    /// The message that it is writing.
    pub writes: &'a str,
}

impl Asked<'_> {
    fn wrote(&self, message: &Message) -> bool {
        let metadata = message.metadata.as_ref().and_then(Object::read);
        let model = metadata.and_then(|metadata| metadata.text("model"));
        message.id == self.writes || model.is_some_and(|model| model == self.address)
    }
}

/// The conversation as the model that is `asked` is given it. Calls without a result are left out: no provider takes them.
pub(super) fn of(messages: &[Message], asked: Asked<'_>) -> Vec<ModelMessage> {
    let mut out = Vec::new();
    for message in messages {
        if message.status == Status::Deleted {
            continue;
        }
        match message.role {
            Role::User => push(&mut out, Speaker::User, user(message)),
            Role::System => {
                push(&mut out, Speaker::System, vec![Content::Text(message.content.clone())]);
            }
            Role::Assistant => {
                let own = asked.wrote(message).then_some(asked.provider);
                assistant(message, own, &mut out);
            }
        }
    }
    out
}

fn push(out: &mut Vec<ModelMessage>, speaker: Speaker, content: Vec<Content>) {
    if !content.is_empty() {
        out.push(ModelMessage { speaker, content });
    }
}

fn user(message: &Message) -> Vec<Content> {
    let mut content = Vec::new();
    for part in &message.parts {
        let part = part.members();
        let text = |key: &str| part.text(key);
        match text("type").as_deref() {
            Some("text") => {
                content.extend(text("content").or_else(|| text("text")).map(Content::Text))
            }
            Some("file") => {
                if let (Some(media_type), Some(url)) = (text("mediaType"), text("url")) {
                    content.push(Content::File { media_type, url, name: text("filename") });
                }
            }
            _ => {}
        }
    }
    if !content.iter().any(|piece| matches!(piece, Content::Text(_))) && !message.content.is_empty()
    {
        content.push(Content::Text(message.content.clone()));
    }
    content
}

fn assistant(message: &Message, own: Option<&str>, out: &mut Vec<ModelMessage>) {
    if message.parts.is_empty() && !message.content.is_empty() {
        push(out, Speaker::Assistant, vec![Content::Text(message.content.clone())]);
        return;
    }
    let (mut said, mut results) = (Vec::new(), Vec::new());
    for part in &message.parts {
        let part = part.members();
        match part.text("type").as_deref() {
            Some("step-start") => {
                push(out, Speaker::Assistant, std::mem::take(&mut said));
                push(out, Speaker::User, std::mem::take(&mut results));
            }
            Some("text") => {
                said.extend(
                    part.text("content").filter(|text| !text.is_empty()).map(Content::Text),
                );
            }
            Some("reasoning") => said.extend(reasoning(&part, own)),
            Some("tool-call") => {
                if let Some((call, result)) = call(&part, own) {
                    said.push(call);
                    results.push(result);
                }
            }
            _ => {}
        }
    }
    push(out, Speaker::Assistant, said);
    push(out, Speaker::User, results);
}

/// What the provider `own` gave with a part, to be sent back to it.
fn sealed(part: &Object, key: &str, own: Option<&str>) -> Option<Object> {
    let provider = own?;
    let all = part.get(key).and_then(Object::read)?;
    all.get(provider).and_then(Object::read)
}

fn reasoning(part: &Object, own: Option<&str>) -> Option<Content> {
    let text = part.text("content").unwrap_or_default();
    let seal = sealed(part, "providerMetadata", own);
    (seal.is_some() || !text.is_empty()).then_some(Content::Reasoning { text, seal })
}

/// A call and its result; `None` while there is none.
fn call(part: &Object, own: Option<&str>) -> Option<(Content, Content)> {
    let (id, name) = (part.text("toolCallId")?, part.text("toolName")?);
    let input = part.get("toolInput").cloned().filter(Json::is_object).unwrap_or_default();
    let approval = part.get("approval").and_then(Object::read);
    let denied =
        approval.as_ref().and_then(|a| a.get("approved")).is_some_and(|a| a.as_str() == "false");
    let (output, is_error) = match part.text("state")?.as_str() {
        "complete" => (part.get("toolOutput").cloned().unwrap_or_default(), false),
        "error" if denied => {
            let reason = approval.as_ref().and_then(|approval| approval.text("reason"));
            let reason = reason.filter(|reason| !reason.trim().is_empty());
            let told =
                reason.map_or_else(|| DENIED.to_owned(), |reason| format!("{DENIED}: {reason}"));
            (Json::string(&told), true)
        }
        "error" => {
            let text = part.text("errorText").unwrap_or_else(|| "the tool failed".to_owned());
            (Json::string(&text), true)
        }
        _ => return None,
    };
    let seal = sealed(part, "callProviderMetadata", own).unwrap_or_default();
    let call = Content::ToolCall { id: id.clone(), name: name.clone(), input, seal };
    Some((call, Content::ToolResult { id, name, output, is_error }))
}

#[cfg(test)]
mod tests;
