//! What somebody may want of a session.

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::json::Json;
use crate::domain::session::Part;
use crate::domain::session::Role;

/// A message to add.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewMessage {
    /// The client's id for it; made by the server if absent. Sending the same id again adds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Who says it.
    pub role: Role,
    /// Its text.
    pub content: String,
    /// Its pieces, if the text is not all.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// Anything the client wants to keep with it; an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Json>,
}

/// What to change of a session; what is absent stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionChanges {
    /// Shown in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Anything the client wants to keep with it; an object that replaces the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Json>,
}

/// What somebody wants of a session. Serialisable, since it may have to reach another node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Make the session, or find it.
    Create {
        /// Title and metadata of a new one.
        changes: SessionChanges,
        /// The project it belongs to.
        project_id: Option<String>,
    },
    /// Change title or metadata.
    Change(SessionChanges),
    /// End it: its file goes, its id stays taken.
    Delete,
    /// Add a message.
    AddMessage(NewMessage),
    /// Replace the parts of a message.
    ReplaceParts {
        /// Which message.
        message_id: String,
        /// The new parts.
        parts: Vec<Part>,
        /// The version that the caller saw, if it matters.
        if_version: Option<u32>,
    },
    /// Remove the content of a message, keeping its place.
    DeleteMessage {
        /// Which message.
        message_id: String,
    },
    /// Add a user message and let the model answer it.
    StartTurn(NewMessage),
    /// The model wrote `text`.
    AppendText {
        /// The turn that it belongs to.
        turn_id: String,
        /// What comes next.
        text: String,
    },
    /// The model is done, or failed.
    EndTurn {
        /// Which turn.
        turn_id: String,
        /// Why it failed.
        error: Option<String>,
    },
    /// Sent by the runtime on wake: no task of this process is writing, whatever the rows say.
    Reconcile,
}

impl Command {
    /// Its name in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Change(_) => "change",
            Self::Delete => "delete",
            Self::AddMessage(_) => "add_message",
            Self::ReplaceParts { .. } => "replace_parts",
            Self::DeleteMessage { .. } => "delete_message",
            Self::StartTurn(_) => "start_turn",
            Self::AppendText { .. } => "append_text",
            Self::EndTurn { .. } => "end_turn",
            Self::Reconcile => "reconcile",
        }
    }

    /// About how many bytes it holds, for the bounds of a mailbox.
    #[must_use]
    pub fn size(&self) -> usize {
        let metadata = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.as_str().len());
        let parts =
            |parts: &[Part]| -> usize { parts.iter().map(|p| p.json().as_str().len()).sum() };
        let text = match self {
            Self::Create { changes, .. } | Self::Change(changes) => {
                changes.title.as_ref().map_or(0, String::len) + metadata(&changes.metadata)
            }
            Self::AddMessage(message) | Self::StartTurn(message) => {
                message.content.len() + parts(&message.parts) + metadata(&message.metadata)
            }
            Self::ReplaceParts { parts: new, .. } => parts(new),
            Self::AppendText { text, .. } => text.len(),
            Self::Delete | Self::DeleteMessage { .. } | Self::EndTurn { .. } | Self::Reconcile => 0,
        };
        text + 128
    }
}
