//! The settings of the tools. Secrets are named, never written down here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use utoipa::ToSchema;

use crate::base::secret::SecretSource;

/// All tools of the server.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ToolSettings {
    /// Tools that are HTTP calls, by name: letters, digits, `_` and `-`, at most 64.
    pub http: BTreeMap<String, HttpToolSettings>,
    /// MCP servers, by name; their tools are called `<server>_<tool>`.
    pub mcp: BTreeMap<String, McpServerSettings>,
}

/// A tool that is a signed HTTP call.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpToolSettings {
    /// What the model is told about it.
    pub description: String,
    /// JSON Schema of its input. Default: any object.
    #[schema(value_type = Object)]
    pub schema: Value,
    /// Where it is called; `http` or `https`.
    pub url: String,
    /// What calls are signed with: a text that begins with `whsec_` is base64, any other is the key itself.
    pub secret: SecretSource,
    /// Whether a person must agree before each call. Default no.
    pub needs_approval: bool,
    /// Longest time for a call, in milliseconds. Default 30 s.
    pub timeout_ms: u64,
    /// Largest answer, in bytes. Default 1 MiB.
    pub answer_bytes: usize,
}

impl Default for HttpToolSettings {
    fn default() -> Self {
        Self {
            description: String::new(),
            schema: json!({ "type": "object" }),
            url: String::new(),
            secret: SecretSource::default(),
            needs_approval: false,
            timeout_ms: 30_000,
            answer_bytes: 1 << 20,
        }
    }
}

/// An MCP server: a program that is started (`command`), or an address (`url`).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct McpServerSettings {
    /// The program and its arguments; it speaks on its standard input and output.
    pub command: Vec<String>,
    /// Environment variables of the program; it gets no others but `PATH`.
    pub environment: BTreeMap<String, String>,
    /// Environment variables of the program that are secret.
    pub secret_environment: BTreeMap<String, SecretSource>,
    /// The address; streamable HTTP.
    pub url: Option<String>,
    /// The bearer token for the address.
    pub key: SecretSource,
    /// The only tools that are offered, by the server's own names; absent: all.
    pub tools: Option<Vec<String>>,
    /// Whether a person must agree before each call. Default no.
    pub needs_approval: bool,
    /// Longest time for connecting and listing the tools, in milliseconds. Default 10 s.
    pub connect_ms: u64,
    /// Longest time for a call, in milliseconds. Default 60 s.
    pub timeout_ms: u64,
    /// Largest answer, in bytes. Default 1 MiB.
    pub answer_bytes: usize,
    /// Calls at once; further ones wait, within their time. Default 16.
    pub calls_count: usize,
}

impl Default for McpServerSettings {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            environment: BTreeMap::new(),
            secret_environment: BTreeMap::new(),
            url: None,
            key: SecretSource::default(),
            tools: None,
            needs_approval: false,
            connect_ms: 10_000,
            timeout_ms: 60_000,
            answer_bytes: 1 << 20,
            calls_count: 16,
        }
    }
}
