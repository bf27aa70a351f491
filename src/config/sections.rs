//! The settings of each component, with what they do and what they are if nobody says anything.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::limits::Limits;
use crate::model::claude_cli::ClaudeCliSettings;
use crate::model::opencode::OpenCodeSettings;
use crate::tool::ToolSettings;

/// All settings.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How clients reach the server.
    pub http: Http,
    /// Where and how sessions are stored.
    pub storage: Storage,
    /// The log that makes writes durable.
    pub journal: Journal,
    /// The life of a session in memory.
    pub actor: Actor,
    /// The chat route.
    pub chat: Chat,
    /// Who can be asked; keys come from the environment or from files.
    pub models: crate::model::Settings,
    /// The Claude Code command line as a model; absent: it is not offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claude_cli: Option<ClaudeCliSettings>,
    /// An OpenCode server as a model; absent: it is not offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opencode: Option<OpenCodeSettings>,
    /// What models may call.
    pub tools: ToolSettings,
    /// What is bounded.
    pub limits: Limits,
    /// How the server ends.
    pub shutdown: Shutdown,
    /// What the server says about itself.
    pub log: Log,
}

/// How clients reach the server.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address to accept on; port 0 takes a free one. Without credentials only a loopback address is allowed.
    #[schema(value_type = String, format = "socket-address")]
    pub listen: SocketAddr,
    /// Threads that speak HTTP; 0: one per core.
    pub workers_count: usize,
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080), workers_count: 0 }
    }
}

/// Where and how sessions are stored.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// The data folder; made if it is new.
    #[schema(value_type = String)]
    pub data: PathBuf,
    /// How long what was stored may take to appear in the session's file, in milliseconds. It is durable before.
    pub commit_delay_ms: u64,
    /// How long a new session may be without a file, in milliseconds.
    pub file_delay_ms: u64,
    /// How long the text of an answer stays in the log as it grew, token by token, after its end, in milliseconds. Then
    /// one frame with the whole takes the place of the deltas.
    pub deltas_kept_ms: u64,
    /// Bytes of events after which the write-ahead log of a session in use is moved into its file.
    pub checkpoint_bytes: usize,
    /// Session files that are open at most.
    pub open_files_count: usize,
    /// Free disk space below which nothing is stored, in bytes; absent: 512 MiB or 3 % of the disk, whichever is less.
    pub min_free_bytes: Option<u64>,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            data: PathBuf::from("data"),
            commit_delay_ms: 1_000,
            file_delay_ms: 3_000,
            deltas_kept_ms: 300_000,
            checkpoint_bytes: 64 << 20,
            open_files_count: 2_000,
            min_free_bytes: None,
        }
    }
}

/// The log that makes writes durable.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// Size of one segment file, in bytes.
    pub segment_bytes: u64,
    /// Size of all segments at which writers wait, in bytes; four segments at least.
    pub max_bytes: u64,
    /// Start although durable records are missing from it.
    pub accept_damage: bool,
}

impl Default for Journal {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, max_bytes: 1 << 30, accept_damage: false }
    }
}

/// The life of a session in memory.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Actor {
    /// Time without requests after which a session leaves memory and closes its file, in milliseconds.
    pub sleep_after_ms: u64,
    /// Threads that sessions run on; 0: one per core.
    pub shards_count: usize,
}

impl Default for Actor {
    fn default() -> Self {
        Self { sleep_after_ms: 10_000, shards_count: 0 }
    }
}

/// How the server ends, when SIGTERM or SIGINT says so.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long answers that are being written may go on, in milliseconds; 0: they are cut off at once. No turn begins
    /// meanwhile, everything else goes on, and `/readyz` says 503. A second signal ends it. The files are written after
    /// that, for some seconds: together it must be less than the supervisor waits before it kills.
    pub drain_ms: u64,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { drain_ms: 10_000 }
    }
}

/// The chat route.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Chat {
    /// Answer with the fixed sentence of the first version of the chat route instead of asking a model.
    pub placeholder: bool,
}

/// What the server says about itself, on standard error.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// What to show: `error`, `warn`, `info`, `debug`, `trace`, or levels of parts, as `info,sessile::http=debug`. A level
    /// alone is that of the program; libraries only warn, unless they are named, as in `actix_server=info`; the one for MCP
    /// writes whole addresses and says nothing.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

impl Log {
    /// The filter as directives for whoever writes the log.
    #[must_use]
    pub fn directives(&self) -> String {
        let one = |part: &str| match part.trim() {
            level if LEVELS.contains(&level.to_ascii_lowercase().as_str()) => {
                format!("sessile={level}")
            }
            other => other.to_owned(),
        };
        let parts: Vec<String> = self.filter.split(',').map(one).collect();
        // That one says addresses with all that is in them; what it says is said here as well, without secrets. This one
        // takes what any client does wrong in a socket for an error of the server.
        format!("warn,rmcp=off,actix_http::ws=off,{}", parts.join(","))
    }
}

/// Levels of the log.
pub(super) const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object per line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}
