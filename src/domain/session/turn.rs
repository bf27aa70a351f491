//! A turn: one answer of the model, from the request to its last character.

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

/// How far a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TurnState {
    /// It waits for the turn before it.
    Queued,
    /// The model is writing.
    Running,
    /// It ended well.
    Completed,
    /// A restart cut it off; the partial answer is kept.
    Interrupted,
    /// The model failed; the partial answer is kept.
    Failed,
}

impl TurnState {
    const ALL: [Self; 5] =
        [Self::Queued, Self::Running, Self::Completed, Self::Interrupted, Self::Failed];

    /// Its name in JSON and SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }

    /// The state called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// A turn as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Turn {
    /// Made by the server.
    pub id: String,
    /// How far it is.
    pub state: TurnState,
    /// The message that it answers.
    pub input_id: String,
    /// The message that it writes.
    pub message_id: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
