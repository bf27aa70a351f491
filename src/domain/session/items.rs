//! The items of an agent: kept as they were sent, and shown as messages so that a browser sees the agent work.
//!
//! Two dialects exist: camel case and snake case. Both are read here; nothing is translated between them.

use serde::Deserialize;
use serde::Serialize;

use crate::base::ids::Name;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::domain::session::Part;
use crate::domain::session::Role;

/// An item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Its place; gaps where items were taken back.
    pub sequence: u64,
    /// Its own id, or one that was made for it; no other item of the session has it.
    pub id: String,
    /// The JSON as it was sent.
    pub body: Json,
    /// The message that shows it.
    pub message_id: Option<String>,
}

/// What happened to the items: some were taken out, then some were added at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemsChange {
    /// Sequence of the first item that was taken back with all behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_from: Option<u64>,
    /// Sequence of an item that was taken out alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<u64>,
    /// Items that were added, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Item>,
}

/// The id that an item brings along, if it can serve as one.
pub(super) fn own_id(item: &Json) -> Option<String> {
    Object::read(item)?.text("id").filter(|id| Name::new(id.as_str()).is_ok())
}

/// An id for an item without one, from `fresh`, with the prefix that tells clients of OpenAI what it names.
#[must_use]
pub fn made_id(item: &Json, fresh: &str) -> String {
    let kind = Object::read(item).and_then(|item| item.text("type"));
    let prefix = match kind.as_deref() {
        Some("message") | None => "msg",
        Some("function_call") => "fc",
        Some("function_call_output" | "function_call_result") => "fco",
        Some("reasoning") => "rs",
        Some(_) => "item",
    };
    format!("{prefix}_{}", fresh.replace('-', ""))
}

/// What an item shows.
#[derive(Debug, PartialEq)]
pub(super) enum Shown {
    /// A message of its own.
    Message { role: Role, text: String },
    /// A part of what the agent says or does.
    Part(Object),
    /// The result of a call.
    Result { call_id: String, output: Json, failed: bool },
}

/// What `item` shows; `None` for what is of no interest to a reader.
pub(super) fn shown(item: &Json) -> Option<Shown> {
    let object = Object::read(item)?;
    let kind = object.text("type").unwrap_or_else(|| "message".to_owned());
    let call_id = || object.text("callId").or_else(|| object.text("call_id"));
    match kind.as_str() {
        "message" => {
            let text = object.get("content").map(text_of).unwrap_or_default();
            match object.text("role")?.as_str() {
                "user" => Some(Shown::Message { role: Role::User, text }),
                "system" | "developer" => Some(Shown::Message { role: Role::System, text }),
                "assistant" => Some(Shown::Part(
                    Object::default()
                        .with("type", &"text")
                        .with("content", &text)
                        .with("state", &"complete"),
                )),
                _ => None,
            }
        }
        "function_call" => {
            let arguments = object.text("arguments").unwrap_or_default();
            let input = Json::parse(&arguments).unwrap_or_else(|_| Json::string(&arguments));
            Some(Shown::Part(
                Object::default()
                    .with("type", &"tool-call")
                    .with("toolCallId", &call_id()?)
                    .with("toolName", &object.text("name").unwrap_or_default())
                    .with("state", &"running")
                    .with("toolInput", &input),
            ))
        }
        "function_call_result" | "function_call_output" => {
            let output = object.get("output").cloned().unwrap_or_default();
            let failed = object.text("status").is_some_and(|status| status == "incomplete");
            Some(Shown::Result { call_id: call_id()?, output, failed })
        }
        "reasoning" => {
            let text = ["content", "summary"].into_iter().find_map(|key| object.get(key));
            let text = text.map(text_of).filter(|text| !text.is_empty())?;
            Some(Shown::Part(
                Object::default()
                    .with("type", &"reasoning")
                    .with("content", &text)
                    .with("state", &"complete"),
            ))
        }
        _ => None,
    }
}

/// The text of a `content`: a string, or the `text` of its parts.
fn text_of(content: &Json) -> String {
    #[derive(Deserialize)]
    struct Piece {
        text: Option<String>,
        refusal: Option<String>,
    }
    if let Some(text) = content.as_string() {
        return text;
    }
    let pieces = |json: &Json| serde_json::from_str::<Vec<Piece>>(json.as_str()).ok();
    let pieces = pieces(content).or_else(|| pieces(&content.mended()?)).unwrap_or_default();
    pieces.into_iter().filter_map(|piece| piece.text.or(piece.refusal)).collect()
}

/// The parts of a message that shows `items`, and its text.
pub(super) fn parts_of<'a>(items: impl Iterator<Item = &'a Json>) -> (Vec<Part>, String) {
    let (mut parts, mut text): (Vec<Object>, String) = (Vec::new(), String::new());
    for item in items {
        match shown(item) {
            Some(Shown::Part(part)) => {
                if part.text("type").as_deref() == Some("text") {
                    text.push_str(&part.text("content").unwrap_or_default());
                }
                parts.push(part);
            }
            Some(Shown::Result { call_id, output, failed }) => {
                let of = |part: &&mut Object| part.text("toolCallId").as_deref() == Some(&call_id);
                if let Some(call) = parts.iter_mut().rev().find(of) {
                    call.set("toolOutput", output);
                    call.set("state", Json::string(if failed { "error" } else { "complete" }));
                }
            }
            Some(Shown::Message { .. }) | None => {}
        }
    }
    (parts.iter().map(Part::of).collect(), text)
}

/// Whether two lists of items say the same, whatever the order of their keys.
#[must_use]
pub fn same_items<'a>(
    a: impl Iterator<Item = &'a Json>,
    b: impl Iterator<Item = &'a Json>,
) -> bool {
    let read = |json: &Json| serde_json::from_str::<serde_json::Value>(json.as_str()).ok();
    a.map(read).eq(b.map(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(items: &[&str], parts: &str, text: &str) {
        let items: Vec<Json> = items.iter().map(|item| Json::parse(item).expect("JSON")).collect();
        let (made, said) = parts_of(items.iter());
        assert_eq!(serde_json::to_string(&made).expect("parts"), parts);
        assert_eq!(said, text);
    }

    #[test]
    fn both_dialects_are_shown_alike() {
        let want = r#"[{"type":"tool-call","toolCallId":"c","toolName":"add","state":"complete","toolInput":{"a":1},"toolOutput":"2"},{"type":"text","content":"two","state":"complete"}]"#;
        check(
            &[
                r#"{"type":"function_call","callId":"c","name":"add","arguments":"{\"a\":1}"}"#,
                r#"{"type":"function_call_result","callId":"c","status":"completed","output":"2"}"#,
                r#"{"type":"message","role":"assistant","content":[{"type":"output_text","text":"two"}]}"#,
            ],
            want,
            "two",
        );
        check(
            &[
                r#"{"type":"function_call","call_id":"c","name":"add","arguments":"{\"a\":1}"}"#,
                r#"{"type":"function_call_output","call_id":"c","output":"2"}"#,
                r#"{"role":"assistant","content":"two"}"#,
            ],
            want,
            "two",
        );
    }

    #[test]
    fn the_order_of_keys_does_not_matter() {
        let a = [Json::parse(r#"{"a":1,"b":[1.0]}"#).expect("JSON")];
        let b = [Json::parse(r#"{"b":[1.0],"a":1}"#).expect("JSON")];
        let c = [Json::parse(r#"{"b":[2.0],"a":1}"#).expect("JSON")];
        assert!(same_items(a.iter(), b.iter()));
        assert!(!same_items(a.iter(), c.iter()));
    }
}
