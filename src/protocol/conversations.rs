//! The shapes of OpenAI's Conversations API, over a session and its items.
//!
//! Items are stored as they were sent, so that the items API gives them back unchanged; what OpenAI would add or write
//! otherwise is added when one is answered ([`shown`]). That is simpler than to store what OpenAI would answer: items that
//! came over the items API, in the dialect of the agents' TypeScript library too, need the same translation.
//! Only a request with an idempotency key has ids written into its items, so that a repeat of it finds them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::ids;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::domain::session::Head;
use crate::domain::session::Item;
use crate::domain::session::made_id;

/// Most items in one request. Source: OpenAI's reference, as the other limits here.
pub const ITEMS_MAX: usize = 20;
/// Items on a page, if nobody says how many.
pub const PAGE_DEFAULT: usize = 20;
/// Most items on a page.
pub const PAGE_MAX: usize = 100;
const METADATA_MAX: usize = 16;
const METADATA_KEY_CHARS: usize = 64;
const METADATA_VALUE_CHARS: usize = 512;

/// `POST /v1/conversations`
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct CreateConversation {
    /// Its first items, oldest first; 20 at most.
    #[schema(value_type = Option<Vec<Object>>)]
    pub items: Option<Vec<Json>>,
    /// Up to 16 texts by name.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Json>,
}

/// `POST /v1/conversations/{id}`
#[derive(Debug, Deserialize, ToSchema)]
pub struct UpdateConversation {
    /// Up to 16 texts by name, in place of those before; `null` for none.
    #[schema(value_type = Object)]
    pub metadata: Json,
}

/// `POST /v1/conversations/{id}/items`
#[derive(Debug, Deserialize, ToSchema)]
pub struct CreateItems {
    /// To be added at the end, oldest first; 20 at most.
    #[schema(value_type = Vec<Object>)]
    pub items: Vec<Json>,
}

/// A conversation: the session of the same id.
#[derive(Debug, Serialize, ToSchema)]
pub struct Conversation {
    /// `conv_` and more, if it was made here.
    pub id: String,
    /// `conversation`
    pub object: &'static str,
    /// Unix time in seconds.
    pub created_at: i64,
    /// The session's metadata.
    #[schema(value_type = Object)]
    pub metadata: Json,
}

impl Conversation {
    /// The conversation `id`, of whose session `head` is known.
    #[must_use]
    pub fn of(id: &str, head: &Head) -> Self {
        Self {
            id: id.to_owned(),
            object: "conversation",
            created_at: head.created_at_ms.div_euclid(1_000),
            metadata: head.metadata.clone(),
        }
    }

    /// The conversation `id` as it was when the answer was given that `session` is of.
    ///
    /// # Errors
    ///
    /// When that is no session.
    pub fn replayed(id: &str, session: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Was {
            created_at: i64,
            metadata: Json,
        }
        let Was { created_at, metadata } = serde_json::from_str(session)?;
        Ok(Self { id: id.to_owned(), object: "conversation", created_at, metadata })
    }
}

/// That a conversation was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedConversation {
    /// Which.
    pub id: String,
    /// `conversation.deleted`
    pub object: &'static str,
    /// `true`
    pub deleted: bool,
}

impl DeletedConversation {
    /// That `id` was deleted.
    #[must_use]
    pub fn of(id: &str) -> Self {
        Self { id: id.to_owned(), object: "conversation.deleted", deleted: true }
    }
}

/// A page of items, or those that were added.
#[derive(Debug, Serialize, ToSchema)]
pub struct ItemList {
    /// `list`
    pub object: &'static str,
    /// The items, in the order that was asked for.
    #[schema(value_type = Vec<Object>)]
    pub data: Vec<Json>,
    /// Id of the first of them.
    pub first_id: Option<String>,
    /// Id of the last of them: `after` of the next page.
    pub last_id: Option<String>,
    /// Whether there are more behind the last.
    pub has_more: bool,
}

impl ItemList {
    /// The list of `items`.
    #[must_use]
    pub fn of(items: &[Item], has_more: bool) -> Self {
        Self {
            object: "list",
            data: items.iter().map(shown).collect(),
            first_id: items.first().map(|item| item.id.clone()),
            last_id: items.last().map(|item| item.id.clone()),
            has_more,
        }
    }
}

/// `item` as OpenAI would answer it: with an id, a type and a status, its content as a list.
#[must_use]
pub fn shown(item: &Item) -> Json {
    let Some(mut object) = Object::read(&item.body) else { return item.body.clone() };
    let kind = object.text("type").unwrap_or_else(|| "message".to_owned());
    let kind = if kind == "function_call_result" { "function_call_output" } else { &kind };
    object.set("id", Json::string(&item.id));
    object.set("type", Json::string(kind));
    match kind {
        "message" => {
            let role = object.text("role").unwrap_or_default();
            let content = object.get("content").map(|content| parts(&role, content));
            if let Some(content) = content {
                object.set("content", content);
            }
        }
        "function_call" | "function_call_output" => {
            if let Some(call_id) = object.remove("callId") {
                object.set("call_id", call_id);
            }
            if let Some(text) = object.get("output").and_then(only_text) {
                object.set("output", text);
            }
        }
        _ => return object.to_json(),
    }
    if object.get("status").is_none() {
        object.set("status", Json::string("completed"));
    }
    object.to_json()
}

/// The content of a message by `role`: a text becomes a list of one part.
fn parts(role: &str, content: &Json) -> Json {
    let kind = if role == "assistant" { "output_text" } else { "input_text" };
    let mut parts = match content.as_string() {
        Some(text) => vec![Object::default().with("type", &kind).with("text", &text)],
        None => match serde_json::from_str::<Vec<Object>>(content.as_str()) {
            Ok(parts) => parts,
            Err(_) => return content.clone(),
        },
    };
    for part in &mut parts {
        let is_output = part.text("type").as_deref() == Some("output_text");
        if is_output && part.get("annotations").is_none() {
            *part = std::mem::take(part).with("annotations", &[(); 0]);
        }
    }
    Json::of(&parts).expect("parts are JSON")
}

/// The text of an output that the agents' TypeScript library writes as `{type: text, text}`.
fn only_text(output: &Json) -> Option<Json> {
    let object = Object::read(output)?;
    if object.text("type")? == "text" { object.get("text").cloned() } else { None }
}

/// Says what is wrong with `items` that are to be added, if anything.
///
/// # Errors
///
/// What is wrong.
pub fn check_items(items: &[Json]) -> Result<(), String> {
    if items.len() > ITEMS_MAX {
        return Err(format!("`items` has {} items, {ITEMS_MAX} are allowed", items.len()));
    }
    for (at, item) in items.iter().enumerate() {
        let Some(object) = Object::read(item) else {
            return Err(format!("`items[{at}]` must be an object"));
        };
        match object.get("type").map(Json::as_string) {
            None if object.text("role").is_some() => {}
            None => return Err(format!("`items[{at}].type` is missing")),
            Some(None) => return Err(format!("`items[{at}].type` must be a text")),
            Some(Some(kind)) if kind == "item_reference" => {
                return Err(format!("`items[{at}]` is a reference: send the item itself"));
            }
            Some(Some(_)) => {}
        }
    }
    Ok(())
}

/// The metadata to store for `metadata`: none for `null`.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_metadata(metadata: Json) -> Result<Json, String> {
    if metadata.as_str() == "null" {
        return Ok(Json::default());
    }
    let texts: BTreeMap<String, String> = serde_json::from_str(metadata.as_str())
        .map_err(|_| "`metadata` must be an object whose values are texts".to_owned())?;
    if texts.len() > METADATA_MAX {
        return Err(format!("`metadata` has {} keys, {METADATA_MAX} are allowed", texts.len()));
    }
    for (key, value) in &texts {
        if key.chars().count() > METADATA_KEY_CHARS {
            return Err(format!("a key of `metadata` has more than {METADATA_KEY_CHARS} letters"));
        }
        if value.chars().count() > METADATA_VALUE_CHARS {
            let problem = format!("`metadata.{key}` has more than {METADATA_VALUE_CHARS} letters");
            return Err(problem);
        }
    }
    Ok(metadata)
}

/// `item` with the id that it has or one made of `seed`, and that id.
#[must_use]
pub fn with_id(item: &Json, seed: &str) -> (Json, String) {
    let mut object = Object::read(item).unwrap_or_default();
    if let Some(id) = object.text("id").filter(|id| !id.is_empty()) {
        return (item.clone(), id);
    }
    let id = made_id(item, seed);
    object.set("id", Json::string(&id));
    (object.to_json(), id)
}

/// An id for a conversation: from `seed`, or one that nobody has.
#[must_use]
pub fn new_id(seed: Option<&[&str]>) -> String {
    let id = seed.map_or_else(ids::fresh, ids::derived);
    format!("conv_{}", id.replace('-', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, then: &str) {
        let body = Json::parse(body).expect("JSON");
        let item = Item { sequence: 1, id: "x_1".to_owned(), body, message_id: None };
        assert_eq!(shown(&item).as_str(), then);
    }

    #[test]
    fn messages_are_completed() {
        check(
            r#"{"role":"user","content":"hi"}"#,
            r#"{"role":"user","content":[{"type":"input_text","text":"hi"}],"id":"x_1","type":"message","status":"completed"}"#,
        );
        check(
            r#"{"type":"message","role":"assistant","status":"incomplete","content":[{"type":"output_text","text":"a"},{"type":"refusal","refusal":"no"}]}"#,
            r#"{"type":"message","role":"assistant","status":"incomplete","content":[{"type":"output_text","text":"a","annotations":[]},{"type":"refusal","refusal":"no"}],"id":"x_1"}"#,
        );
        check(
            r#"{"role":"assistant","content":"a","id":"taken"}"#,
            r#"{"role":"assistant","content":[{"type":"output_text","text":"a","annotations":[]}],"id":"x_1","type":"message","status":"completed"}"#,
        );
    }

    #[test]
    fn calls_are_shown_in_one_dialect_and_other_items_as_they_are() {
        check(
            r#"{"type":"function_call_result","callId":"c","name":"f","output":{"type":"text","text":"42"}}"#,
            r#"{"type":"function_call_output","name":"f","output":"42","id":"x_1","call_id":"c","status":"completed"}"#,
        );
        check(
            r#"{"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"42"}]}"#,
            r#"{"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"42"}],"id":"x_1","status":"completed"}"#,
        );
        check(
            r#"{"type":"reasoning","summary":[],"n":1.50}"#,
            r#"{"type":"reasoning","summary":[],"n":1.50,"id":"x_1"}"#,
        );
    }
}
