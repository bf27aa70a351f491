//! The provider that speaks the Responses API.

use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::model::Answer;
use crate::model::ModelError;
use crate::model::ModelRequest;
use crate::model::Provider;
use crate::model::endpoint::Endpoint;
use crate::model::extra::Extra;
use crate::model::flow::Manner;
use crate::model::http::Client;
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
    /// Environment variable that holds the key; empty if the server wants none.
    pub key_env: String,
    /// File that holds the key, in place of `key_env`.
    #[schema(value_type = Option<String>)]
    pub key_file: Option<PathBuf>,
    /// Let the provider keep the answers. The conversation is sent whole every time, so nothing needs them.
    pub store: bool,
    /// More fields of every request, as `{"reasoning":{"effort":"low"}}`.
    #[schema(value_type = Object)]
    pub extra: Extra,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            base_url: "https://api.openai.com/v1".to_owned(),
            key_env: "OPENAI_API_KEY".to_owned(),
            key_file: None,
            store: false,
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
        let url = format!("{}/responses", settings.base_url.trim_end_matches('/'));
        let key_file = settings.key_file.as_deref();
        let endpoint = Endpoint::new(name, url, client).with_key(
            &settings.key_env,
            key_file,
            ("authorization", "Bearer "),
        );
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
        let manner = Manner { patience: Patience::Always, dialect: || Box::<Stream>::default() };
        self.endpoint.answer(&request.model, &body, request.bounds, manner)
    }
}
