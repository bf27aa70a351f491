//! The provider that speaks chat completions.

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
use crate::model::openai_chat::body::Body;
use crate::model::openai_chat::stream::Stream;
use crate::model::retry::Patience;

/// Settings of a provider that speaks chat completions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = OpenAiChatSettings)]
pub struct Settings {
    /// Address, without `/chat/completions`; it mostly ends in `/v1`.
    pub base_url: String,
    /// Environment variable that holds the key; empty if the server wants none.
    pub key_env: String,
    /// File that holds the key, in place of `key_env`.
    #[schema(value_type = Option<String>)]
    pub key_file: Option<PathBuf>,
    /// Ask for the number of tokens. Some servers refuse the question.
    pub stream_options: bool,
    /// Bound answers by `max_tokens`, which older servers know, instead of `max_completion_tokens`.
    pub legacy_max_tokens: bool,
    /// More fields of every request, as `{"temperature":0.2}`.
    #[schema(value_type = Object)]
    pub extra: Extra,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            base_url: "https://api.openai.com/v1".to_owned(),
            key_env: "OPENAI_API_KEY".to_owned(),
            key_file: None,
            stream_options: true,
            legacy_max_tokens: false,
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
        let url = format!("{}/chat/completions", settings.base_url.trim_end_matches('/'));
        let key_file = settings.key_file.as_deref();
        let endpoint = Endpoint::new(name, url, client).with_key(
            &settings.key_env,
            key_file,
            ("authorization", "Bearer "),
        );
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
        let manner = Manner { patience: Patience::Always, dialect: || Box::<Stream>::default() };
        self.endpoint.answer(&request.model, &body, request.bounds, manner)
    }
}
