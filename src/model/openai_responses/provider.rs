//! The provider that speaks the Responses API.

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
use crate::model::endpoint::Endpoint;
use crate::model::extra::Extra;
use crate::model::flow::Manner;
use crate::model::http::Client;
use crate::model::lawful;
use crate::model::openai_responses::body::Body;
use crate::model::openai_responses::stream::Stream;
use crate::model::retry::Patience;

/// Settings of a provider that speaks the Responses API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = OpenAiResponsesSettings)]
pub struct Settings {
    /// Address, without `/responses`; it mostly ends in `/v1`.
    pub base_url: String,
    /// Environment variable that holds the key; empty if the server wants none. Default: `OPENAI_API_KEY` if `base_url` is the
    /// vendor's own, otherwise none.
    pub key_env: Option<String>,
    /// File that holds the key, in place of `key_env`.
    #[schema(value_type = Option<String>)]
    pub key_file: Option<PathBuf>,
    /// More headers of every request: a text, or `{ env = "NAME" }` or `{ file = "path" }` for a secret. Default none.
    pub headers: Givens,
    /// More parameters behind the address of every request, with values as in `headers`. Default none.
    pub query: Givens,
    /// Let the provider keep the answers. The conversation is sent whole every time, so nothing needs them.
    pub store: bool,
    /// Most tokens of an answer. Default: what the provider says.
    pub max_tokens_count: Option<u32>,
    /// More fields of every request, as `{"reasoning":{"effort":"low"}}`.
    #[schema(value_type = Object)]
    pub extra: Extra,
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
            vendor: Some(("openai.com", "OPENAI_API_KEY")),
        }
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
            store: false,
            max_tokens_count: None,
            extra: Extra::new(),
        }
    }
}

/// OpenAI, or somebody who speaks like its Responses API.
#[derive(Debug)]
pub struct OpenAiResponses {
    endpoint: Endpoint,
    settings: Settings,
}

impl OpenAiResponses {
    /// The provider `name`. The key is read here, once; without one, every answer is an error.
    pub(in crate::model) fn new(name: &str, settings: &Settings, client: Client) -> Self {
        let key = ("authorization", "Bearer ");
        let endpoint = Endpoint::new(name, "/responses", &settings.access(), key, client);
        Self { endpoint, settings: settings.clone() }
    }
}

impl Provider for OpenAiResponses {
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
