//! A turn: one answer of the model, from the request to its last character.

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::json::Json;
use crate::domain::session::Message;
use crate::domain::session::Role;
use crate::domain::session::Status;

/// How far a turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TurnState {
    /// It waits for the turn before it.
    Queued,
    /// The model is writing, or a tool of the server works.
    Running,
    /// Somebody must allow or refuse a tool call.
    WaitingApproval,
    /// Somebody asked it to end; it ends within moments.
    Stopping,
    /// It ended well.
    Completed,
    /// It ended because somebody asked; the partial answer is kept.
    Stopped,
    /// A restart cut it off; the partial answer is kept.
    Interrupted,
    /// The model failed; the partial answer is kept.
    Failed,
}

impl TurnState {
    const ALL: [Self; 8] = [
        Self::Queued,
        Self::Running,
        Self::WaitingApproval,
        Self::Stopping,
        Self::Completed,
        Self::Stopped,
        Self::Interrupted,
        Self::Failed,
    ];

    /// Its name in JSON and SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::WaitingApproval => "waiting_approval",
            Self::Stopping => "stopping",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }

    /// The state called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether a task writes the answer now, so that no other turn may begin.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Stopping)
    }

    /// The status of the message that a turn in this state has written.
    #[must_use]
    pub fn of_message(self) -> Status {
        match self {
            Self::Queued | Self::Running | Self::Stopping => Status::Streaming,
            Self::Completed | Self::WaitingApproval => Status::Complete,
            Self::Stopped => Status::Stopped,
            Self::Interrupted => Status::Interrupted,
            Self::Failed => Status::Failed,
        }
    }

    /// Whether nothing more happens in it.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Stopped | Self::Interrupted | Self::Failed)
    }
}

/// What happens to a turn that is asked for while another one runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Busy {
    /// It is refused.
    #[default]
    Reject,
    /// It waits for its place.
    Queue,
    /// The one that runs is stopped, then this one begins.
    Interrupt,
    /// It waits, and those that waited before it are given up.
    Latest,
}

/// Tokens of a turn, over all its calls of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Read by the model.
    pub input_tokens: u64,
    /// Written by the model.
    pub output_tokens: u64,
}

/// Tokens of one call of a model, kept with the part that it began with: what is known if the process ends before it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counted {
    /// The turn.
    pub turn_id: String,
    /// The attempt of it.
    pub attempt: u32,
    /// Read by the model.
    pub input_tokens: u64,
    /// Written by the model.
    pub output_tokens: u64,
}

/// How a turn is to be run; what is absent is as the session or the server says.
///
/// They are stored, so members of a later version are passed over. What a client says is read by [`TurnOptions::strict`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TurnOptions {
    /// Who answers: `provider/model`, or `provider` for its default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the model is told about its task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Tools that the client runs: `[{name, description?, inputSchema?}]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub tools: Option<Json>,
    /// Most calls of the model in this turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u32>,
    /// What to do if another turn runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<Busy>,
}

/// Reads [`TurnOptions`], and refuses what they do not have.
#[derive(Deserialize)]
#[serde(remote = "TurnOptions", rename_all = "camelCase", deny_unknown_fields)]
struct Strict {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    system: Option<String>,
    #[serde(default)]
    tools: Option<Json>,
    #[serde(default)]
    max_steps: Option<u32>,
    #[serde(default)]
    busy: Option<Busy>,
}

impl TurnOptions {
    /// For `#[serde(deserialize_with)]`: those that a client says, if it says any.
    ///
    /// # Errors
    ///
    /// What is wrong with them; a member that they do not have is an error.
    pub fn strict<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        #[derive(Deserialize)]
        struct Said(#[serde(with = "Strict")] TurnOptions);

        Ok(Option::<Said>::deserialize(deserializer)?.map(|said| said.0))
    }

    /// These, with what they do not say taken from `defaults`.
    #[must_use]
    pub fn or(self, defaults: &Self) -> Self {
        Self {
            model: self.model.or_else(|| defaults.model.clone()),
            system: self.system.or_else(|| defaults.system.clone()),
            tools: self.tools.or_else(|| defaults.tools.clone()),
            max_steps: self.max_steps.or(defaults.max_steps),
            busy: self.busy.or(defaults.busy),
        }
    }

    /// Whether they say nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A turn as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// How often it was begun; commands of an earlier attempt are refused.
    #[serde(default = "one")]
    pub attempt: u32,
    /// How it is run.
    #[serde(default, skip_serializing_if = "TurnOptions::is_empty")]
    pub options: TurnOptions,
    /// Who answers, as clients see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Why the answer ended: `stop`, `length`, `content-filter`, `tool-calls`, `error` or `other`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// When nobody need answer its approvals any more, in milliseconds since the Unix epoch; only while it waits for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
    /// Tokens of it, known when it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// HTTP status that stands for `error`, if nothing of the answer had come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_status: Option<u16>,
    /// What the provider must be told to go on from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
}

fn one() -> u32 {
    1
}

/// How a turn ended, as its task says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// `Completed`, `WaitingApproval`, `Stopped` or `Failed`.
    pub state: TurnState,
    /// Why the answer ended.
    pub finish_reason: String,
    /// Tokens.
    pub usage: Option<Usage>,
    /// Why it failed.
    pub error: Option<String>,
    /// HTTP status that stands for `error`.
    pub error_status: Option<u16>,
    /// What the provider must be told to go on from here.
    pub resume: Option<String>,
}

#[cfg(test)]
impl Ending {
    /// One of a turn that ended in `state`, as tests tell it.
    pub(crate) fn sample(state: TurnState) -> Self {
        Self {
            state,
            finish_reason: "stop".to_owned(),
            usage: Some(Usage { input_tokens: 1, output_tokens: 2 }),
            error: (state == TurnState::Failed).then(|| "no luck".to_owned()),
            error_status: None,
            resume: None,
        }
    }
}

impl Turn {
    /// Its answer as it begins with event `seq` at `at_ms`: nothing is said yet.
    #[must_use]
    pub fn answer(&self, seq: u64, at_ms: i64) -> Message {
        Message {
            id: self.message_id.clone(),
            seq,
            version: 1,
            role: Role::Assistant,
            content: String::new(),
            parts: Vec::new(),
            metadata: None,
            turn_id: Some(self.id.clone()),
            status: Status::Streaming,
            created_at: at_ms.div_euclid(1_000),
            created_at_ms: at_ms,
            updated_at_ms: at_ms,
        }
    }
}
