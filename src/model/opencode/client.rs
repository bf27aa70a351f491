//! Calls of an OpenCode server: bounded in time and size, no redirects, no proxies.

use std::time::Duration;

use reqwest::Method;
use reqwest::Response;
use reqwest::Url;
use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use serde::Serialize;

use super::settings::OpenCodeSettings;
use crate::base::secret::Environment;
use crate::base::secret::Hidden;
use crate::base::tls;
use crate::model::FailureKind;
use crate::model::ModelError;
use crate::model::lines::Lines;
use crate::model::refusal;

/// Longest time for a call that is no stream.
const CALL_TIME_MAX: Duration = Duration::from_secs(30);
/// Longest time until a connection stands.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// Speaks to one server.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    user: String,
    password: Option<SecretString>,
    directory: Option<String>,
    answer_bytes: usize,
}

/// The answer to a call: its text, or that what it was about is not there.
pub(super) enum Reply {
    /// 2xx.
    Text(String),
    /// 404.
    Missing,
}

impl Client {
    /// Sets the client up.
    ///
    /// # Errors
    ///
    /// What is wrong with the settings, for the operator.
    pub(super) fn new(
        settings: &OpenCodeSettings,
        environment: Environment<'_>,
    ) -> Result<Self, String> {
        let base = Url::parse(&settings.base_url).map_err(|error| format!("opencode: {error}"))?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err("opencode: the address must begin with http:// or https://".to_owned());
        }
        let http = tls::client(|| {
            reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIME_MAX)
        })
        .map_err(|error| format!("opencode: {error}"))?;
        Ok(Self {
            http,
            base,
            user: settings.user.clone(),
            password: settings.password.read(environment)?,
            directory: settings.directory.clone(),
            answer_bytes: settings.answer_bytes,
        })
    }

    /// `GET`, with parameters behind the path.
    pub(super) async fn get(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Reply, ModelError> {
        let url = self.url(path, query)?;
        self.read(self.http.request(Method::GET, url).timeout(CALL_TIME_MAX)).await
    }

    /// `POST` of `body`.
    pub(super) async fn post(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<Reply, ModelError> {
        let url = self.url(path, &[])?;
        self.read(self.http.request(Method::POST, url).timeout(CALL_TIME_MAX).json(body)).await
    }

    /// Opens the event stream.
    pub(super) async fn events(&self) -> Result<Events, ModelError> {
        let url = self.url(&["event"], &[])?;
        let request = self.signed(self.http.get(url)).header("accept", "text/event-stream");
        let answer = tokio::time::timeout(CALL_TIME_MAX, request.send()).await;
        let answer = answer.map_err(|_| unreachable())?.map_err(|error| lost(&error))?;
        if !answer.status().is_success() {
            return Err(refused(answer.status().as_u16(), ""));
        }
        Ok(Events { answer, lines: Lines::new(self.answer_bytes), data: String::new() })
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Url, ModelError> {
        let mut url = self.base.clone();
        url.path_segments_mut().map_err(|()| unreachable())?.pop_if_empty().extend(path);
        let directory = self.directory.as_deref().map(|directory| ("directory", directory));
        let pairs: Vec<_> = directory.into_iter().chain(query.iter().copied()).collect();
        if !pairs.is_empty() {
            url.query_pairs_mut().extend_pairs(pairs);
        }
        Ok(url)
    }

    fn signed(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.password {
            Some(password) => request.basic_auth(&self.user, Some(password.expose_secret())),
            None => request,
        }
    }

    async fn read(&self, request: reqwest::RequestBuilder) -> Result<Reply, ModelError> {
        let mut answer = self.signed(request).send().await.map_err(|error| lost(&error))?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| lost(&error))? {
            if body.len() + chunk.len() > self.answer_bytes {
                let message = "an answer of the agent's server is too large";
                return Err(ModelError::new(FailureKind::Limit, message));
            }
            body.extend_from_slice(&chunk);
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        match answer.status().as_u16() {
            200..300 => Ok(Reply::Text(text)),
            404 => Ok(Reply::Missing),
            status => {
                let password = self.password.as_ref().map(|password| password.expose_secret());
                let hidden: Vec<Hidden> =
                    password.into_iter().flat_map(Hidden::of_secret).collect();
                Err(refused(status, &Hidden::hide(&hidden, &text)))
            }
        }
    }
}

/// The event stream: gives the data of one event after the other.
pub(super) struct Events {
    answer: Response,
    lines: Lines,
    data: String,
}

impl Events {
    /// The next event; `None` when the stream ended. Forgets nothing when it is dropped while it waits.
    ///
    /// # Errors
    ///
    /// The stream broke, or an event is too large.
    pub(super) async fn next(&mut self) -> Result<Option<String>, ModelError> {
        loop {
            while let Some(line) = self.lines.line().map_err(|_| {
                ModelError::new(FailureKind::Limit, "an event of the agent is too large")
            })? {
                if let Some(data) = line.strip_prefix("data:") {
                    self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
                } else if line.is_empty() && !self.data.is_empty() {
                    return Ok(Some(std::mem::take(&mut self.data)));
                }
            }
            match self.answer.chunk().await.map_err(|error| lost(&error))? {
                Some(chunk) => self.lines.push(&chunk),
                None => return Ok(None),
            }
        }
    }
}

fn unreachable() -> ModelError {
    ModelError::new(FailureKind::Unavailable, "the agent's server cannot be reached")
}

fn lost(error: &reqwest::Error) -> ModelError {
    tracing::debug!("opencode cannot be reached (timeout: {})", error.is_timeout());
    unreachable()
}

fn refused(status: u16, text: &str) -> ModelError {
    if let 401 | 403 = status {
        let message = "the agent's server refuses the password";
        return ModelError::new(FailureKind::Configuration, message).with_status(status);
    }
    tracing::warn!("opencode answered with {status}: {}", refusal::plain(text));
    let kind = if status >= 500 { FailureKind::Unavailable } else { FailureKind::Protocol };
    ModelError::new(kind, "the agent's server failed").with_status(status)
}
