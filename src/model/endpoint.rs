//! Where a provider is asked: its address, its key and its headers, the same for all dialects.

use std::path::Path;

use reqwest::header::HeaderMap;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;
use serde::Serialize;

use crate::model::Answer;
use crate::model::Bounds;
use crate::model::FailureKind;
use crate::model::ModelError;
use crate::model::flow;
use crate::model::flow::Manner;
use crate::model::http::Call;
use crate::model::http::Client;
use crate::model::http::check_base_url;
use crate::model::key;
use crate::model::key::Key;

/// Where and as whom a provider is asked. `Debug` shows no key.
#[derive(Debug)]
pub(super) struct Endpoint {
    name: String,
    url: String,
    headers: HeaderMap,
    key: Option<Key>,
    /// Why it cannot be asked at all.
    problem: Option<ModelError>,
    client: Client,
}

impl Endpoint {
    /// The provider `name` at `url`, without a key.
    pub(super) fn new(name: &str, url: String, client: Client) -> Self {
        let (name, headers) = (name.to_owned(), HeaderMap::new());
        Self { name, url, headers, key: None, problem: None, client }
    }

    /// The same with one more header in every request.
    pub(super) fn with_header(mut self, header: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(header), value);
        } else {
            let message = format!("{header} of `{}` holds what no header holds", self.name);
            self.problem = Some(ModelError::new(FailureKind::Configuration, message));
        }
        self
    }

    /// The same with the key that `env` or `file` name, which is sent in a header with a prefix.
    pub(super) fn with_key(
        mut self,
        env: &str,
        file: Option<&Path>,
        (header, prefix): (&'static str, &str),
    ) -> Self {
        match key::find(&self.name, env, file) {
            Ok(key) => self.key = key,
            Err(problem) => self.problem = Some(problem),
        }
        if let Some(value) = self.key.as_ref().and_then(|key| key.header(prefix)) {
            self.headers.insert(HeaderName::from_static(header), value);
        }
        if let Err(problem) = check_base_url(&self.url, self.key.is_some()) {
            let message = format!("the base_url of `{}` {problem}", self.name);
            self.problem = Some(ModelError::new(FailureKind::Configuration, message));
        }
        self
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Says no to what cannot succeed.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Configuration`] without a key, [`FailureKind::Request`] without a model.
    pub(super) fn check(&self, model: &str) -> Result<(), ModelError> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        if model.trim().is_empty() {
            let message = format!("`{}` needs the name of a model", self.name);
            return Err(ModelError::new(FailureKind::Request, message));
        }
        Ok(())
    }

    /// The answer to `body`.
    pub(super) fn answer(
        &self,
        model: &str,
        body: &impl Serialize,
        bounds: Bounds,
        manner: Manner,
    ) -> Answer {
        if let Err(error) = self.check(model) {
            return flow::failed(error);
        }
        let body = match serde_json::to_vec(body) {
            Ok(body) => body.into(),
            Err(error) => {
                let message = format!("the request cannot be written: {error}");
                return flow::failed(ModelError::new(FailureKind::Request, message));
            }
        };
        let call = Call {
            provider: self.name.clone(),
            url: self.url.clone(),
            headers: self.headers.clone(),
            body,
            key: self.key.clone(),
            bounds,
        };
        flow::answer(self.client.clone(), call, manner)
    }
}
