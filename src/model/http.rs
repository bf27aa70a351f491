//! One request to a provider over HTTP: the shared client, how errors are read, and that nothing takes too long or too much
//! memory. What a stream means, and whether a request is sent again, is decided elsewhere.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use reqwest::Url;
use reqwest::header::ACCEPT;
use reqwest::header::ACCEPT_ENCODING;
use reqwest::header::CONTENT_ENCODING;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::HeaderMap;
use tokio::time::Instant;
use tokio::time::timeout_at;

use crate::base::clock;
use crate::model::Bounds;
use crate::model::FailureKind;
use crate::model::ModelError;
use crate::model::dialect::Complaint;
use crate::model::dialect::kind_of_status;
use crate::model::key::Key;
use crate::model::key::hide;
use crate::model::retry;
use crate::model::retry::Refusal;

/// Longest time until a connection stands; a request may ask for less.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Bytes of an error's body that are read.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// Characters of a provider's words that are kept.
const WORDS_MAX: usize = 500;
/// What we call ourselves.
const USER_AGENT: &str = concat!("sessile/", env!("CARGO_PKG_VERSION"));

/// The client that all providers share. It follows no redirects, so keys stay where they were sent, and it does not unpack.
/// What is asked on this machine is asked directly, whatever the environment says about proxies: without TLS a proxy would read
/// the key.
///
/// It speaks HTTP/1.1 only. Over HTTP/2 it would put all answers on one connection: the provider bounds their number there,
/// and one that nobody reads would hold up the others.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// `None` if not even the client without certificates can be made.
    client: Option<reqwest::Client>,
    /// The same without a proxy.
    direct: Option<reqwest::Client>,
    /// Whether it can check who answers over TLS.
    has_roots: bool,
}

/// A request that is ready to be sent, as often as needed.
#[derive(Clone)]
pub(super) struct Call {
    /// Who is asked, for messages.
    pub(super) provider: String,
    /// Where.
    pub(super) url: String,
    /// The key, and what the dialect adds.
    pub(super) headers: HeaderMap,
    /// JSON.
    pub(super) body: Bytes,
    /// The same without files, if there are any.
    pub(super) plain: Option<Bytes>,
    /// To take them out of messages.
    pub(super) keys: Vec<Key>,
    /// How long and large the answer may be.
    pub(super) bounds: Bounds,
}

/// Why there is no stream.
#[derive(Debug)]
pub(super) enum Failure {
    /// The provider said no.
    Refused(Refusal),
    /// There is no connection, or it broke before the provider said anything.
    Unreached(ModelError),
    /// Sending it again would not help.
    Final(ModelError),
}

impl Client {
    /// A client that trusts the certificates that the system trusts. `proxy`: whether `HTTPS_PROXY` and its like in the
    /// environment are obeyed.
    pub(super) fn new(proxy: bool) -> Self {
        let builder = |proxy: bool| {
            let builder = reqwest::Client::builder()
                .user_agent(USER_AGENT)
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .connect_timeout(CONNECT_MAX);
            if proxy { builder } else { builder.no_proxy() }
        };
        // An error says that there is one already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        match (builder(proxy).build(), builder(false).build()) {
            (Ok(client), Ok(direct)) => {
                Self { client: Some(client), direct: Some(direct), has_roots: true }
            }
            (Err(error), _) | (_, Err(error)) => {
                // A minimal container. Providers on this machine can do without.
                tracing::warn!("the system's certificates cannot be used: {error}");
                let client = |proxy| builder(proxy).tls_certs_only([]).build().ok();
                Self { client: client(proxy), direct: client(false), has_roots: false }
            }
        }
    }

    fn get(&self, url: &str) -> Result<&reqwest::Client, ModelError> {
        let configuration = |problem: &str| ModelError::new(FailureKind::Configuration, problem);
        let is_local = Url::parse(url).is_ok_and(|url| is_local(&url));
        let client = if is_local { self.direct.as_ref() } else { self.client.as_ref() };
        let client = client.ok_or_else(|| configuration("there is no HTTP client"))?;
        if !self.has_roots && !url.starts_with("http://") {
            return Err(configuration("the server has no root certificates to check providers by"));
        }
        Ok(client)
    }

    /// Sends `call` once. `Ok` is a stream of events, or claims to be; nothing of it has been read.
    ///
    /// # Errors
    ///
    /// [`Failure`], with the provider's words in it but without keys.
    pub(super) async fn ask(&self, call: &Call, deadline: Instant) -> Result<Response, Failure> {
        let client = self.get(&call.url).map_err(Failure::Final)?;
        let request = client
            .post(&call.url)
            .headers(call.headers.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "text/event-stream")
            // What is packed cannot be read as it comes.
            .header(ACCEPT_ENCODING, "identity")
            .body(call.body.clone())
            .send();
        let patience = Instant::now() + call.bounds.connect + call.bounds.idle;
        let response = match timeout_at(patience.min(deadline), request).await {
            Err(_) => return Err(Failure::Final(too_slow(call))),
            Ok(Err(error)) => return Err(unreached(call, &error)),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        if !status.is_success() {
            return Err(Failure::Refused(refusal(call, response, deadline).await));
        }
        match not_a_stream(response.headers()) {
            None => Ok(response),
            Some(problem) => {
                let text = excerpt(call, response, deadline).await;
                let words = describe(call, &text).map(|words| format!(": {words}"));
                let message = format!(
                    "{} answered with {problem}{}",
                    call.provider,
                    words.unwrap_or_default()
                );
                let error = ModelError::new(FailureKind::Protocol, message);
                Err(Failure::Final(error.with_status(status.as_u16())))
            }
        }
    }
}

/// Whether keys can be sent to `base_url`.
///
/// # Errors
///
/// Why not: it is not a URL, holds a password, or sends the key through the network in plain text.
pub(super) fn check_base_url(base_url: &str, has_key: bool) -> Result<(), String> {
    let url = Url::parse(base_url).map_err(|error| format!("is not a URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not hold a query or fragment".to_owned());
    }
    let local = is_local(&url);
    match url.scheme() {
        "https" => Ok(()),
        "http" if local || !has_key => Ok(()),
        "http" => Err("must be https, because a key is sent there".to_owned()),
        _ => Err("must be http or https".to_owned()),
    }
}

/// Whether `url` is on this machine.
fn is_local(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    })
}

/// The answer took longer than it may.
pub(super) fn too_slow(call: &Call) -> ModelError {
    ModelError::new(FailureKind::Limit, format!("{} took too long", call.provider))
}

/// Why headers do not announce a stream of events; `None` if they may.
fn not_a_stream(headers: &HeaderMap) -> Option<&'static str> {
    if is_packed(headers) {
        return Some("a packed body that nobody asked for");
    }
    let value = headers.get(CONTENT_TYPE)?.to_str().unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        // Some compatible servers do not say what they send.
        "text/event-stream" | "text/plain" | "application/octet-stream" | "" => None,
        // Others ignore that a stream was asked for.
        "application/json" | "text/json" => None,
        _ => Some("something that is not a stream of events"),
    }
}

fn is_packed(headers: &HeaderMap) -> bool {
    let encoding = headers.get(CONTENT_ENCODING).map(|value| value.as_bytes().to_ascii_lowercase());
    encoding.is_some_and(|encoding| encoding != b"identity")
}

fn unreached(call: &Call, error: &reqwest::Error) -> Failure {
    let connect = error.is_connect();
    // The causes alone: the error itself repeats the address.
    let (mut causes, mut next) = (String::new(), error.source());
    while let Some(cause) = next {
        causes = format!("{causes}: {cause}");
        next = cause.source();
    }
    let causes = clean(&call.keys, &causes);
    tracing::warn!(model.provider = %call.provider, "a request to {} failed{causes}", call.provider);
    if error.is_builder() {
        let message = format!("the address of {} cannot be used", call.provider);
        return Failure::Final(ModelError::new(FailureKind::Configuration, message));
    }
    let what = if connect { "cannot be reached" } else { "broke the connection off" };
    let message = format!("{} {what}", call.provider);
    Failure::Unreached(ModelError::new(FailureKind::Unavailable, message))
}

async fn refusal(call: &Call, response: Response, deadline: Instant) -> Refusal {
    let status = response.status().as_u16();
    let should_retry = retry::should_retry(response.headers());
    let retry_after = retry::retry_after(response.headers(), clock::now_ms());
    let text = excerpt(call, response, deadline).await;
    let complaint = Complaint::read(&text);
    let is_spend_limit = complaint.as_ref().is_some_and(Complaint::is_spend_limit);
    let kind = match kind_of_status(status) {
        // Some say so with a status that means something else.
        kind if kind == FailureKind::Authentication => kind,
        _ if complaint.is_some_and(|complaint| complaint.is_too_long()) => FailureKind::TooLong,
        kind => kind,
    };
    let words = describe(call, &text).map(|words| format!(": {words}")).unwrap_or_default();
    let message = format!("{} answered with HTTP status {status}{words}", call.provider);
    let error = ModelError { retry_after, ..ModelError::new(kind, message) }.with_status(status);
    Refusal { status, should_retry, is_spend_limit, error }
}

/// The beginning of a body, however it ends; nothing if it is no text.
async fn excerpt(call: &Call, response: Response, deadline: Instant) -> String {
    if is_packed(response.headers()) {
        return String::new();
    }
    let (mut response, mut body) = (response, Vec::new());
    while body.len() < ERROR_BYTES_MAX && Instant::now() < deadline {
        let patience = Instant::now() + call.bounds.idle;
        match timeout_at(patience.min(deadline), response.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                body.extend_from_slice(&chunk[..chunk.len().min(ERROR_BYTES_MAX - body.len())]);
            }
            Ok(Ok(None) | Err(_)) | Err(_) => break,
        }
    }
    let text = str::from_utf8(&body).or_else(|error| match error.error_len() {
        // Cut off inside of a character.
        None => str::from_utf8(&body[..error.valid_up_to()]),
        Some(_) => Err(error),
    });
    text.unwrap_or_default().to_owned()
}

/// What the body of an error says to people, if it says anything.
fn describe(call: &Call, body: &str) -> Option<String> {
    let words = match Complaint::read(body) {
        Some(complaint) => complaint.words().to_owned(),
        None => body.to_owned(),
    };
    // A page, alone or inside of JSON, says nothing to people.
    let start: String = words.trim_start().chars().take(15).collect();
    if start.starts_with('<') || words.to_ascii_lowercase().contains("<html") {
        return None;
    }
    Some(clean(&call.keys, &words)).filter(|words| !words.is_empty())
}

/// A provider's words without keys and control characters, on one line of at most [`WORDS_MAX`] characters.
pub(super) fn clean(keys: &[Key], words: &str) -> String {
    let words = hide(keys, words);
    let printable = |c: &char| !c.is_control() && *c != '\u{FFFD}';
    let words: String =
        words.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(printable).collect();
    let mut line = String::new();
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    match line.char_indices().nth(WORDS_MAX) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_url(url: &str, with_key: bool, without: bool) {
        let seen = [true, false].map(|has_key| check_base_url(url, has_key).is_ok());
        assert_eq!(seen, [with_key, without], "{url}");
    }

    #[test]
    fn keys_go_only_where_they_are_safe() {
        check_url("https://api.example.org/v1", true, true);
        check_url("http://127.0.0.1:8000", true, true);
        check_url("http://[::1]:8000/v1/", true, true);
        check_url("http://localhost", true, true);
        check_url("http://10.0.0.1/v1", false, true);
        check_url("http://127.0.0.1.example.org", false, true);
        check_url("https://me:word@example.org", false, false);
        check_url("https://example.org/?x=1", false, false);
        check_url("ftp://example.org", false, false);
        check_url("example.org", false, false);
    }

    #[test]
    fn words_are_short_and_clean() {
        let key = Key::new("s3cret").unwrap();
        assert_eq!(clean(&[key], " a\n\tb\u{0}\u{1b}[31m s3cret "), "a b[31m ***");
        let long = clean(&[], &"é".repeat(10_000));
        assert_eq!(long.chars().count(), WORDS_MAX + 1);
    }

    #[test]
    fn only_streams_are_streams() {
        let check = |name: &'static str, value: &str, then: bool| {
            let headers: HeaderMap =
                [(name.parse().unwrap(), value.parse().unwrap())].into_iter().collect();
            assert_eq!(not_a_stream(&headers).is_none(), then, "{name}: {value}");
        };
        check("content-type", "text/event-stream; charset=utf-8", true);
        check("content-type", "Text/Event-Stream", true);
        check("content-type", "application/json", true);
        check("content-type", "text/html", false);
        check("content-encoding", "gzip", false);
        check("content-encoding", "identity", true);
        assert!(not_a_stream(&HeaderMap::new()).is_none());
    }
}
