//! Bodies of the native API, beside the messages and sessions themselves.

use std::borrow::Cow;

use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::base::json::Json;
use crate::domain::session::Message;
use crate::domain::session::Part;
use crate::domain::session::Session;
use crate::domain::session::TurnOptions;

/// `POST /v1/sessions`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateSession {
    /// The client's id for it; made by the server if absent.
    pub id: Option<String>,
    /// Shown in lists.
    pub title: Option<String>,
    /// The project it belongs to.
    pub project_id: Option<String>,
    /// Anything the client wants to keep with it; an object.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Json>,
    /// How its turns are run, where they do not say.
    #[serde(default, deserialize_with = "TurnOptions::strict")]
    pub settings: Option<TurnOptions>,
}

/// `PUT /v1/sessions/{id}/messages/{mid}/parts`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplaceParts {
    /// The new parts.
    pub parts: Vec<Part>,
    /// The version that the caller saw; another one is a conflict.
    pub if_version: Option<u32>,
}

/// A page of messages.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessagePage<'a> {
    /// The messages.
    #[schema(value_type = Vec<Message>)]
    pub items: Cow<'a, [Message]>,
    /// Whether there are more in the direction of the walk.
    pub has_more: bool,
    /// Use as `after` for newer messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// Use as `before` for older messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_cursor: Option<String>,
}

/// A page of sessions.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionPage {
    /// The sessions, newest activity first.
    pub items: Vec<Session>,
    /// Use as `cursor` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// Whether there is a next page.
    pub has_more: bool,
}

/// `GET /v1/sessions/{id}/messages/count`
#[derive(Debug, Serialize, ToSchema)]
pub struct Count {
    /// How many messages.
    pub count: u64,
}

/// `GET /v1/sessions/{id}/events` as JSON.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventPage<'a> {
    /// Frames, oldest first.
    #[schema(value_type = Vec<Object>)]
    pub events: Vec<&'a RawValue>,
    /// Where the log ends.
    pub last_seq: u64,
}
