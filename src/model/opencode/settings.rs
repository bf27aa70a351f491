//! The settings of the provider `opencode`.

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::secret::SecretSource;

/// Where the OpenCode server is and how the agent behaves there.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OpenCodeSettings {
    /// Address of the server. Default `http://127.0.0.1:4096`.
    pub base_url: String,
    /// Its password, as in its own `OPENCODE_SERVER_PASSWORD`.
    pub password: SecretSource,
    /// Its user. Default `opencode`.
    pub user: String,
    /// The project folder, as the server sees it; absent: the folder that it was started in.
    pub directory: Option<String>,
    /// The agent. Default `plan`, which reads and changes nothing; `build` has all tools.
    pub agent: String,
    /// What the agent hears when it asks for permission; nobody is there to be asked. Default `reject`.
    pub permission_reply: PermissionReply,
    /// Rules that new sessions begin with.
    pub permission_rules: Vec<PermissionRule>,
    /// How often the server may ask a model again that fails. Default 2.
    pub retries_count: u32,
    /// Longest line of the event stream and largest list of messages, in bytes. Default 16 MiB.
    pub answer_bytes: usize,
    /// Answers at once; further ones wait. Default 64.
    pub answers_count: usize,
}

impl Default for OpenCodeSettings {
    fn default() -> Self {
        Self {
            base_url: "http://127.0.0.1:4096".to_owned(),
            password: SecretSource::default(),
            user: "opencode".to_owned(),
            directory: None,
            agent: "plan".to_owned(),
            permission_reply: PermissionReply::Reject,
            permission_rules: Vec::new(),
            retries_count: 2,
            answer_bytes: 16 << 20,
            answers_count: 64,
        }
    }
}

/// What the agent hears when it asks for permission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PermissionReply {
    /// No.
    #[default]
    Reject,
    /// Yes, this time.
    Once,
    /// Yes, now and later.
    Always,
}

/// A rule of a session: what happens to a kind of action whose object matches a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PermissionRule {
    /// The kind of action, as `read`, `edit` or `bash`; `*` for all.
    pub permission: String,
    /// The object, as a path or a command; `*` stands for any text.
    pub pattern: String,
    /// What happens.
    pub action: RuleAction,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleAction {
    /// Do it.
    Allow,
    /// Ask; the answer is [`OpenCodeSettings::permission_reply`].
    Ask,
    /// Do not do it.
    Deny,
}
