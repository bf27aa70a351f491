//! The settings of the provider `claude-cli`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::secret::SecretSource;

/// How the CLI is run. Nothing of the server's own environment reaches it but what is named here.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClaudeCliSettings {
    /// The program: the native binary of the npm package, or a name that is searched for in `path`. Default `claude`.
    #[schema(value_type = String)]
    pub program: PathBuf,
    /// Where each workspace gets a home folder of its own, named by a hash. Default `data/claude-cli`.
    #[schema(value_type = String)]
    pub data: PathBuf,
    /// The project that all sessions work in; absent: an empty folder per session inside the workspace's home.
    #[schema(value_type = Option<String>)]
    pub directory: Option<PathBuf>,
    /// The API key.
    pub key: SecretSource,
    /// Where the model is; absent: the CLI's own default.
    pub base_url: Option<String>,
    /// What the agent may do. Default `plan`: it reads and changes nothing.
    pub permission_mode: PermissionMode,
    /// The only tools that the agent is offered, separated by commas; an empty text offers none; absent: all.
    pub tools: Option<String>,
    /// Obey the settings, hooks and MCP servers that a project folder holds. Default no: they run programs.
    pub project_settings: bool,
    /// How often the CLI asks a model again that fails. Default 2.
    pub retries_count: u32,
    /// Time between the polite signal to end and the last one, in milliseconds. Default 3 s.
    pub stop_ms: u64,
    /// Longest line that the CLI may print, in bytes. Default 8 MiB.
    pub line_bytes: usize,
    /// All that it may print in one turn, in bytes, its own repetitions included. Default 128 MiB.
    pub output_bytes: usize,
    /// Processes at once; further answers wait. Default 16.
    pub processes_count: usize,
    /// The `PATH` of the process. Default `/usr/local/bin:/usr/bin:/bin`.
    pub path: String,
    /// Further environment variables of the process; no secrets. Where bubblewrap is installed,
    /// `CLAUDE_CODE_SUBPROCESS_ENV_SCRUB = "1"` hides the key from the commands that the agent runs.
    pub environment: BTreeMap<String, String>,
}

impl Default for ClaudeCliSettings {
    fn default() -> Self {
        Self {
            program: PathBuf::from("claude"),
            data: PathBuf::from("data/claude-cli"),
            directory: None,
            key: SecretSource::default(),
            base_url: None,
            permission_mode: PermissionMode::Plan,
            tools: None,
            project_settings: false,
            retries_count: 2,
            stop_ms: 3_000,
            line_bytes: 8 << 20,
            output_bytes: 128 << 20,
            processes_count: 16,
            path: "/usr/local/bin:/usr/bin:/bin".to_owned(),
            environment: BTreeMap::new(),
        }
    }
}

/// What the agent may do without asking; nobody is there to be asked. Source: the CLI's `--permission-mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum PermissionMode {
    /// Read only.
    #[default]
    Plan,
    /// Read; what would need a question is refused.
    Default,
    /// Change files.
    AcceptEdits,
    /// Everything, commands included.
    BypassPermissions,
}

impl PermissionMode {
    /// As the CLI calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Default => "default",
            Self::AcceptEdits => "acceptEdits",
            Self::BypassPermissions => "bypassPermissions",
        }
    }
}
