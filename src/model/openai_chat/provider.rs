//! The provider that speaks chat completions.

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
use crate::model::endpoint::Endpoint;
use crate::model::extra::Extra;
use crate::model::flow::Manner;
use crate::model::http::Client;
use crate::model::lawful;
use crate::model::openai_chat::body::Body;
use crate::model::openai_chat::stream::Stream;
use crate::model::retry::Patience;

/// The provider that is OpenAI itself, unless the settings say otherwise.
pub(in crate::model) const NAME: &str = "openai-chat";

/// Settings of a provider that speaks chat completions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = OpenAiChatSettings)]
pub struct Settings {
    /// Address, without `/chat/completions`; it mostly ends in `/v1`.
    pub base_url: String,
    /// Environment variable that holds the key; empty if the server wants none. Default: `OPENAI_API_KEY` for
    /// `openai_chat` if `base_url` is OpenAI's own, otherwise none.
    pub key_env: Option<String>,
    /// File that holds the key, in place of `key_env`.
    #[schema(value_type = Option<String>)]
    pub key_file: Option<PathBuf>,
    /// More headers of every request: a text, or `{ env = "NAME" }` or `{ file = "path" }` for a secret. Default none.
    pub headers: Givens,
    /// More parameters behind the address of every request, with values as in `headers`. Default none.
    pub query: Givens,
    /// Ask for the number of tokens. Some servers refuse the question.
    pub stream_options: bool,
    /// Most tokens of an answer. Default: what the provider says.
    pub max_tokens_count: Option<u32>,
    /// Bound answers by `max_tokens`, which older servers know, instead of `max_completion_tokens`.
    pub legacy_max_tokens: bool,
    /// Whether its models take pictures. Where not, a sentence stands in the place of one. Default true.
    pub images: bool,
    /// More fields of every request, as `{"temperature":0.2}`.
    #[schema(value_type = Object)]
    pub extra: Extra,
}

impl Settings {
    /// How it is reached as the provider `name`.
    pub(in crate::model) fn access(&self, name: &str) -> Access<'_> {
        Access {
            base_url: &self.base_url,
            key_env: self.key_env.as_deref(),
            key_file: self.key_file.as_deref(),
            headers: &self.headers,
            query: &self.query,
            vendor: (name == NAME).then_some(("openai.com", "OPENAI_API_KEY")),
        }
    }

    /// Whether it is at `domain`.
    pub(super) fn is_at(&self, domain: &str) -> bool {
        is_at(&self.base_url, domain)
    }

    /// Whether it is somebody who takes files.
    pub(super) fn takes_files(&self) -> bool {
        ["openai.com", "openai.azure.com", "openrouter.ai"].iter().any(|domain| self.is_at(domain))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            base_url: "https://api.openai.com/v1".to_owned(),
            key_env: None,
            key_file: None,
            headers: Givens::new(),
            query: Givens::new(),
            stream_options: true,
            max_tokens_count: None,
            legacy_max_tokens: false,
            images: true,
            extra: Extra::new(),
        }
    }
}

/// OpenAI, or somebody who speaks like its chat completions.
#[derive(Debug)]
pub struct OpenAiChat {
    endpoint: Endpoint,
    settings: Settings,
}

impl OpenAiChat {
    /// The provider `name`. The key is read here, once; without one, every answer is an error.
    pub(in crate::model) fn new(name: &str, settings: &Settings, client: Client) -> Self {
        let (access, key) = (settings.access(name), ("authorization", "Bearer "));
        let endpoint = Endpoint::new(name, "/chat/completions", &access, key, client);
        Self { endpoint, settings: settings.clone() }
    }
}

impl Provider for OpenAiChat {
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
        let manner = Manner { patience: Patience::Always, dialect: || Box::<Stream>::default() };
        self.endpoint.answer(&request.model, (&body, plain.as_ref()), request.bounds, manner)
    }
}
