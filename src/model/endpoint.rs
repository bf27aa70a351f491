//! Where a provider is asked: its address, its key and its headers, the same for all dialects.

use std::fmt;

use reqwest::Url;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use serde::Serialize;

use crate::base::secret::Hidden;
use crate::model::Answer;
use crate::model::Bounds;
use crate::model::FailureKind;
use crate::model::ModelError;
use crate::model::access::Access;
use crate::model::access::Given;
use crate::model::flow;
use crate::model::flow::Manner;
use crate::model::http::Call;
use crate::model::http::Client;
use crate::model::http::check_base_url;
use crate::model::key;
use crate::model::key::Key;
use crate::model::sealed;

/// Where and as whom a provider is asked. `Debug` shows no key and no address, which may hold one.
pub(super) struct Endpoint {
    name: String,
    url: String,
    headers: HeaderMap,
    keys: Vec<Key>,
    /// Why it cannot be asked at all.
    problem: Option<ModelError>,
    client: Client,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// The provider `name` at `path` of the address in `access`. Keys are read here, once; the key is sent in a header with a
    /// prefix.
    pub(super) fn new(
        name: &str,
        path: &str,
        access: &Access<'_>,
        (header, prefix): (&'static str, &str),
        client: Client,
    ) -> Self {
        let mut endpoint = Self {
            name: name.to_owned(),
            url: format!("{}{path}", access.base_url.trim_end_matches('/')),
            headers: HeaderMap::new(),
            keys: Vec::new(),
            problem: None,
            client,
        };
        if let Err(problem) = endpoint.open(access, (header, prefix)) {
            endpoint.problem = Some(problem);
        }
        if let Err(problem) = check_base_url(access.base_url, access.is_secret()) {
            endpoint.fail(&format!("the base_url of `{name}` {problem}"));
        }
        endpoint
    }

    fn open(
        &mut self,
        access: &Access<'_>,
        (header, prefix): (&'static str, &str),
    ) -> Result<(), ModelError> {
        let env = access.key_env().unwrap_or_default();
        if let Some(key) = key::find(&self.name, env, access.key_file)? {
            let value = key.header(prefix);
            self.headers.extend(value.map(|value| (HeaderName::from_static(header), value)));
            self.keys.push(key);
        }
        for (name, given) in access.headers {
            let value = self.read(&format!("headers.{name}"), given)?;
            let header = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes());
            let value = HeaderValue::from_str(value.expose_secret());
            let (Ok(header), Ok(mut value)) = (header, value) else {
                return Err(self.unusable(&format!("headers.{name}")));
            };
            value.set_sensitive(true);
            self.headers.insert(header, value);
        }
        if !access.query.is_empty() {
            let unusable = self.unusable("base_url");
            let mut url = Url::parse(&self.url).map_err(|_| unusable)?;
            for (name, given) in access.query {
                let value = self.read(&format!("query.{name}"), given)?;
                url.query_pairs_mut().append_pair(name, value.expose_secret());
            }
            self.url = url.into();
        }
        Ok(())
    }

    /// The value that the setting `what` gives or names; it is taken out of all that is said.
    fn read(&mut self, what: &str, given: &Given) -> Result<SecretString, ModelError> {
        let place = match given {
            Given::Text(text) => {
                self.keys.extend(Hidden::of_setting(text).into_iter().map(Key::from));
                return Ok(SecretString::from(text.as_str()));
            }
            Given::Secret(place) => place,
        };
        let value = place.read(&key::environment).map_err(|problem| {
            let message = format!("{what} of `{}` has no value: {problem}", self.name);
            ModelError::new(FailureKind::Configuration, message)
        })?;
        let value = value.ok_or_else(|| self.unusable(what))?;
        self.keys.extend(Hidden::of_secret(value.expose_secret()).into_iter().map(Key::from));
        Ok(value)
    }

    fn unusable(&self, what: &str) -> ModelError {
        let message = format!("{what} of `{}` cannot be used", self.name);
        ModelError::new(FailureKind::Configuration, message)
    }

    fn fail(&mut self, message: &str) {
        self.problem = Some(ModelError::new(FailureKind::Configuration, message));
    }

    /// The same with one more header in every request, unless the settings give it.
    pub(super) fn with_header(mut self, header: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.entry(HeaderName::from_static(header)).or_insert(value);
        } else {
            self.fail(&format!("{header} of `{}` holds what no header holds", self.name));
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

    /// The answer to `body`; or to `plain`, the same without files, if the provider refuses the first: one file that it cannot
    /// read must not end a conversation.
    pub(super) fn answer(
        &self,
        model: &str,
        (body, plain): (&impl Serialize, Option<&impl Serialize>),
        bounds: Bounds,
        manner: Manner,
    ) -> Answer {
        if let Err(error) = self.check(model) {
            return flow::failed(error);
        }
        let plain = plain.map(serde_json::to_vec).transpose();
        let (body, plain) = match (serde_json::to_vec(body), plain) {
            (Ok(body), Ok(plain)) => (body.into(), plain.map(Into::into)),
            (Err(error), _) | (_, Err(error)) => {
                let message = format!("the request cannot be written: {error}");
                return flow::failed(ModelError::new(FailureKind::Request, message));
            }
        };
        let call = Call {
            provider: self.name.clone(),
            url: self.url.clone(),
            headers: self.headers.clone(),
            body,
            plain,
            keys: self.keys.clone(),
            bounds,
        };
        sealed::named(flow::answer(self.client.clone(), call, manner), model)
    }
}
