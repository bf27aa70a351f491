//! What somebody may want of a session.

use std::borrow::Cow;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::ids::Name;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::domain::session::Ending;
use crate::domain::session::Part;
use crate::domain::session::Role;
use crate::domain::session::TurnOptions;

/// A message to add.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewMessage {
    /// The client's id for it; made by the server if absent. Sending the same id again adds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 255)]
    pub id: Option<Name>,
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
    /// How its turns are run, where they do not say; replaces what was said before.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "TurnOptions::strict"
    )]
    pub settings: Option<TurnOptions>,
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
    /// Let the model answer.
    StartTurn(Box<NewTurn>),
    /// The answer grew.
    Write {
        /// The turn that it belongs to.
        turn_id: String,
        /// Its attempt.
        attempt: u32,
        /// What comes next.
        pieces: Vec<Piece>,
    },
    /// The answer is over.
    EndTurn {
        /// Which turn.
        turn_id: String,
        /// Its attempt.
        attempt: u32,
        /// How.
        ending: Box<Ending>,
    },
    /// End the running turn early, keeping what it wrote.
    StopTurn {
        /// Only if this one runs.
        turn_id: Option<String>,
    },
    /// Allow or refuse a tool call that waits for it, then go on.
    Approve {
        /// Which approval.
        approval_id: String,
        /// The answer.
        approved: bool,
        /// Why.
        reason: Option<String>,
    },
    /// Nobody answered an approval in time.
    ExpireApprovals {
        /// The turn that waits.
        turn_id: String,
    },
    /// Change the items of an agent.
    ChangeItems(ItemsCommand),
    /// Sent by the runtime on wake: no task of this process is writing, whatever the rows say.
    Reconcile,
}

/// What a turn is to answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Input {
    /// This message, added at the end; of a message that exists, everything from it on is replaced.
    Message {
        /// The message.
        message: NewMessage,
        /// Whether a message with the same id may be replaced; otherwise the id must be new.
        edit: bool,
    },
    /// This message at this place of the history, replacing what is there and behind it.
    At {
        /// Counted from 0; the end, if it is beyond.
        position: usize,
        /// The message.
        message: NewMessage,
    },
    /// What is there already, without the messages behind this one; `None`: without the last answer.
    Again {
        /// The last message that stays.
        after: Option<String>,
    },
    /// What the client answered to tool calls of the last message, which then goes on.
    Results {
        /// The message; `None`: whichever is the last.
        message_id: Option<String>,
        /// The answers.
        results: Vec<ToolAnswer>,
    },
}

/// What a client says to a tool call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ToolAnswer {
    /// The call.
    pub tool_call_id: String,
    /// What came out, of a call that the client ran; `null` is something, too.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "something")]
    pub output: Option<Json>,
    /// Why it failed, of a call that the client ran.
    pub error: Option<String>,
    /// Whether the call is allowed, of one that asks.
    pub approved: Option<bool>,
    /// Why it is allowed or not.
    pub reason: Option<String>,
}

/// Whatever is there, be it `null`.
fn something<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// A turn to begin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewTurn {
    /// What it answers.
    pub input: Input,
    /// How it is run.
    pub options: TurnOptions,
    /// Who answers, as clients see it.
    pub model: String,
    /// Whether a session without a title gets the beginning of this message as its title.
    pub titled: bool,
}

/// A piece of an answer on its way to the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Piece {
    /// Members of a part; a new part if there is none at `part` yet.
    Update {
        /// Which part.
        part: usize,
        /// The members.
        fields: Object,
    },
    /// Text.
    Delta {
        /// Which part.
        part: usize,
        /// What is added.
        text: String,
    },
}

/// A change of an agent's items.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ItemsCommand {
    /// Add items at the end.
    Append(Vec<Json>),
    /// Take the last one back.
    Pop,
    /// Take all back.
    Clear,
    /// Replace all.
    Replace(Vec<Json>),
    /// Replace the last ones, if they are these.
    ReplaceSuffix {
        /// What must be there.
        expected: Vec<Json>,
        /// What is there then.
        replacement: Vec<Json>,
    },
    /// Take one out by its id.
    Remove(String),
}

impl Command {
    /// The same without what the settings of the server add to what a client asked: a repeat asks the same after they
    /// have changed.
    #[must_use]
    pub fn as_asked(&self) -> Cow<'_, Self> {
        match self {
            Self::StartTurn(turn) if turn.options.model.as_ref() != Some(&turn.model) => {
                let model = turn.options.model.clone().unwrap_or_default();
                Cow::Owned(Self::StartTurn(Box::new(NewTurn { model, ..NewTurn::clone(turn) })))
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// Whether it makes a session that does not exist.
    #[must_use]
    pub fn may_create(&self) -> bool {
        let turn = |turn: &NewTurn| matches!(turn.input, Input::Message { .. } | Input::At { .. });
        match self {
            Self::Create { .. } | Self::AddMessage(_) => true,
            Self::StartTurn(new) => turn(new),
            Self::ChangeItems(change) => {
                matches!(change, ItemsCommand::Append(_) | ItemsCommand::Replace(_))
            }
            _ => false,
        }
    }

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
            Self::Write { .. } => "write",
            Self::EndTurn { .. } => "end_turn",
            Self::StopTurn { .. } => "stop_turn",
            Self::Approve { .. } => "approve",
            Self::ExpireApprovals { .. } => "expire_approvals",
            Self::ChangeItems(_) => "change_items",
            Self::Reconcile => "reconcile",
        }
    }

    /// About how many bytes it holds, for the bounds of a mailbox.
    #[must_use]
    pub fn size(&self) -> usize {
        let metadata = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.as_str().len());
        let parts =
            |parts: &[Part]| -> usize { parts.iter().map(|p| p.json().as_str().len()).sum() };
        let message = |message: &NewMessage| {
            message.content.len() + parts(&message.parts) + metadata(&message.metadata)
        };
        let items =
            |items: &[Json]| -> usize { items.iter().map(|item| item.as_str().len()).sum() };
        let text = match self {
            Self::Create { changes, .. } | Self::Change(changes) => {
                changes.title.as_ref().map_or(0, String::len) + metadata(&changes.metadata)
            }
            Self::AddMessage(new) => message(new),
            Self::StartTurn(turn) => match &turn.input {
                Input::Message { message: new, .. } | Input::At { message: new, .. } => {
                    message(new)
                }
                Input::Results { results, .. } => {
                    results.iter().map(|r| r.output.as_ref().map_or(64, |o| o.as_str().len())).sum()
                }
                Input::Again { .. } => 0,
            },
            Self::ReplaceParts { parts: new, .. } => parts(new),
            Self::Write { pieces, .. } => pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Delta { text, .. } => text.len(),
                    Piece::Update { fields, .. } => {
                        fields.iter().map(|(_, value)| value.as_str().len() + 16).sum()
                    }
                })
                .sum(),
            Self::ChangeItems(change) => match change {
                ItemsCommand::Append(new) | ItemsCommand::Replace(new) => items(new),
                ItemsCommand::ReplaceSuffix { expected, replacement } => {
                    items(expected) + items(replacement)
                }
                ItemsCommand::Pop | ItemsCommand::Clear | ItemsCommand::Remove(_) => 0,
            },
            Self::Delete
            | Self::DeleteMessage { .. }
            | Self::EndTurn { .. }
            | Self::StopTurn { .. }
            | Self::Approve { .. }
            | Self::ExpireApprovals { .. }
            | Self::Reconcile => 0,
        };
        text + 128
    }
}
