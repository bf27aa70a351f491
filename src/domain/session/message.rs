//! A message and its parts, in the shape that clients see.

use std::borrow::Cow;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de::Error as _;
use utoipa::ToSchema;

use crate::base::json::Json;
use crate::base::json::Object;
use crate::base::told;

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A person.
    User,
    /// The model.
    Assistant,
    /// The application.
    System,
}

impl Role {
    /// Its name in JSON and SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
        }
    }

    /// The role called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::User, Self::Assistant, Self::System].into_iter().find(|role| role.as_str() == name)
    }
}

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The model is writing it.
    Streaming,
    /// It is whole.
    Complete,
    /// Somebody stopped the model; what was written by then is kept.
    Stopped,
    /// The model was cut off by a restart; what was written by then is kept.
    Interrupted,
    /// The model failed; what was written by then is kept.
    Failed,
    /// Its content was removed; its place in the order is kept.
    Deleted,
}

impl Status {
    const ALL: [Self; 6] = [
        Self::Streaming,
        Self::Complete,
        Self::Stopped,
        Self::Interrupted,
        Self::Failed,
        Self::Deleted,
    ];

    /// Its name in JSON and SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Streaming => "streaming",
            Self::Complete => "complete",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Deleted => "deleted",
        }
    }

    /// The status called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// A piece of a message: a JSON object with a `type`. Unknown types and fields come back as they were sent.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
pub struct Part(Json);

impl Part {
    /// A part with these members.
    #[must_use]
    pub fn of(members: &Object) -> Self {
        Self(members.to_json())
    }

    /// Its members.
    #[must_use]
    pub fn members(&self) -> Object {
        Object::read(&self.0).unwrap_or_default()
    }

    /// The JSON object.
    #[must_use]
    pub fn json(&self) -> &Json {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Shape<'a> {
            #[serde(borrow, rename = "type")]
            _type: Cow<'a, str>,
            state: Option<serde_json::Value>,
        }
        let json = Json::deserialize(deserializer)?;
        if !json.is_object() {
            return Err(D::Error::custom("a part is an object with a `type`"));
        }
        let shape: Shape<'_> = serde_json::from_str(json.as_str()).map_err(|error| {
            D::Error::custom(format!("a part needs a string `type`: {}", told::told(&error)))
        })?;
        if let Some(state) = shape.state
            && !state.is_string()
        {
            return Err(D::Error::custom("the `state` of a part is a string"));
        }
        Ok(Self(json))
    }
}

/// A message as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Unique in its session; the client's or made by the server.
    pub id: String,
    /// Its place in the order of the session.
    pub seq: u64,
    /// Grows by one with each change.
    pub version: u32,
    /// Who said it.
    pub role: Role,
    /// Its text.
    pub content: String,
    /// Its pieces; empty when the text is all there is.
    pub parts: Vec<Part>,
    /// What the client attached to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Json>,
    /// The turn that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<String>,
    /// How far it is.
    pub status: Status,
    /// Unix time in seconds.
    pub created_at: i64,
    /// Unix time in milliseconds.
    pub created_at_ms: i64,
    /// Unix time of the last change, in milliseconds.
    pub updated_at_ms: i64,
}

impl Message {
    /// Bytes of what it says: of its text and its parts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let parts = self.parts.iter().map(|part| part.json().as_str().len());
        self.content.len() + parts.sum::<usize>()
    }
}
