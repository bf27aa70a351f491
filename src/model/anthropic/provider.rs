//! The provider that speaks the Messages API.

use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::model::Answer;
use crate::model::ModelError;
use crate::model::ModelRequest;
use crate::model::Provider;
use crate::model::access::Access;
use crate::model::access::Givens;
use crate::model::access::is_at;
use crate::model::anthropic::body::Body;
use crate::model::anthropic::stream::Stream;
use crate::model::endpoint::Endpoint;
use crate::model::extra::Extra;
use crate::model::flow::Manner;
use crate::model::http::Client;
use crate::model::lawful;
use crate::model::retry::Patience;

/// Settings of a provider that speaks the Messages API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = AnthropicSettings)]
pub struct Settings {
    /// Address, without `/v1/messages`.
    pub base_url: String,
    /// Environment variable that holds the key; empty if the server wants none. Default: `ANTHROPIC_API_KEY` if `base_url` is the
    /// vendor's own, otherwise none.
    pub key_env: Option<String>,
    /// File that holds the key, in place of `key_env`.
    #[schema(value_type = Option<String>)]
    pub key_file: Option<PathBuf>,
    /// More headers of every request: a text, or `{ env = "NAME" }` or `{ file = "path" }` for a secret. Default none.
    pub headers: Givens,
    /// More parameters behind the address of every request, with values as in `headers`. Default none.
    pub query: Givens,
    /// Version of the API, the header `anthropic-version`.
    pub version: String,
    /// How the key is sent.
    pub auth: Auth,
    /// Most tokens of an answer; the API wants a number.
    pub max_tokens_count: u32,
    /// More fields of every request, as `{"thinking":{"type":"adaptive"}}`.
    #[schema(value_type = Object)]
    pub extra: Extra,
}

/// How a key is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = AnthropicAuth)]
pub enum Auth {
    /// In the header `x-api-key`.
    #[default]
    XApiKey,
    /// In the header `authorization`, as gateways want it.
    Bearer,
}

impl Settings {
    /// How it is reached.
    pub(in crate::model) fn access(&self) -> Access<'_> {
        Access {
            base_url: &self.base_url,
            key_env: self.key_env.as_deref(),
            key_file: self.key_file.as_deref(),
            headers: &self.headers,
            query: &self.query,
            vendor: Some(("anthropic.com", "ANTHROPIC_API_KEY")),
        }
    }

    /// Whether it is Anthropic itself, who checks the seals of thoughts.
    pub(super) fn is_vendor(&self) -> bool {
        is_at(&self.base_url, "anthropic.com")
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            base_url: "https://api.anthropic.com".to_owned(),
            key_env: None,
            key_file: None,
            headers: Givens::new(),
            query: Givens::new(),
            version: "2026-10-21".to_owned(),
            auth: Auth::default(),
            max_tokens_count: 8_192,
            extra: Extra::new(),
        }
    }
}

/// Anthropic, or somebody who speaks like it.
#[derive(Debug)]
pub struct Anthropic {
    endpoint: Endpoint,
    settings: Settings,
}

impl Anthropic {
    /// The provider `name`. The key is read here, once; without one, every answer is an error.
    pub(in crate::model) fn new(name: &str, settings: &Settings, client: Client) -> Self {
        let key = match settings.auth {
            Auth::XApiKey => ("x-api-key", ""),
            Auth::Bearer => ("authorization", "Bearer "),
        };
        let endpoint = Endpoint::new(name, "/v1/messages", &settings.access(), key, client)
            .with_header("anthropic-version", &settings.version);
        Self { endpoint, settings: settings.clone() }
    }
}

impl Provider for Anthropic {
    fn name(&self) -> &str {
        self.endpoint.name()
    }

    fn check(&self, model: &str, _text: &str) -> Result<(), ModelError> {
        self.endpoint.check(model)
    }

    fn answer(&self, request: ModelRequest) -> Answer {
        let body = Body::new(&request, &self.settings);
        let plain = lawful::without_files(&request);
        let plain = plain.as_ref().map(|plain| Body::new(plain, &self.settings));
        let manner = Manner { patience: Patience::IfTold, dialect: || Box::<Stream>::default() };
        self.endpoint.answer(&request.model, (&body, plain.as_ref()), request.bounds, manner)
    }
}
