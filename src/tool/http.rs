//! A tool that is an HTTP call, signed as Standard Webhooks says, so that the receiver knows who calls and calls once.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::future::BoxFuture;
use hmac::Hmac;
use hmac::KeyInit as _;
use hmac::Mac as _;
use reqwest::Url;
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret as _;
use secrecy::SecretSlice;
use serde::Serialize;
use sha2::Sha256;

use super::call::Tool;
use super::call::ToolCall;
use super::call::ToolOutcome;
use super::settings::HttpToolSettings;
use crate::base::clock;
use crate::base::ids;
use crate::base::json::Json;
use crate::base::secret::Environment;
use crate::base::tls;
use crate::model::ToolSpec;

/// Longest time until a connection stands.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Shortest key, in bytes. Source: Standard Webhooks asks for 24 to 64.
const KEY_BYTES_MIN: usize = 24;
/// What is told of an answer that is an error, in characters.
const ERROR_CHARS_MAX: usize = 2_000;
/// How a secret begins that is base64. Source: Standard Webhooks.
const BASE64_PREFIX: &str = "whsec_";

/// One configured tool.
pub(super) struct HttpTool {
    spec: ToolSpec,
    needs_approval: bool,
    caller: Arc<Caller>,
}

struct Caller {
    client: reqwest::Client,
    name: String,
    url: Url,
    key: SecretSlice<u8>,
    timeout: Duration,
    answer_bytes: usize,
}

/// What is posted.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    tool: &'a str,
    tool_call_id: &'a str,
    session_id: &'a str,
    turn_id: &'a str,
    workspace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    input: &'a Json,
}

impl HttpTool {
    /// Sets the tool up; reads its secret.
    ///
    /// # Errors
    ///
    /// What is wrong with the settings, for the operator.
    pub(super) fn new(
        name: &str,
        settings: &HttpToolSettings,
        client: reqwest::Client,
        environment: Environment<'_>,
    ) -> Result<Self, String> {
        let url = Url::parse(&settings.url).map_err(|error| format!("url: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("url: must begin with http:// or https://".to_owned());
        }
        if !settings.schema.is_object() {
            return Err("schema: must be an object".to_owned());
        }
        let secret = settings.secret.read(environment)?.ok_or("secret: is missing")?;
        let key = match secret.expose_secret().strip_prefix(BASE64_PREFIX) {
            Some(text) => BASE64_STANDARD.decode(text).map_err(|_| "secret: is not base64")?,
            None => secret.expose_secret().as_bytes().to_vec(),
        };
        if key.len() < KEY_BYTES_MIN {
            return Err(format!("secret: is shorter than {KEY_BYTES_MIN} bytes"));
        }
        let schema = Json::of(&settings.schema).map_err(|error| format!("schema: {error}"))?;
        let description = settings.description.clone();
        Ok(Self {
            spec: ToolSpec { name: name.to_owned(), description, schema },
            needs_approval: settings.needs_approval,
            caller: Arc::new(Caller {
                client,
                name: name.to_owned(),
                url,
                key: SecretSlice::from(key),
                timeout: Duration::from_millis(settings.timeout_ms),
                answer_bytes: settings.answer_bytes,
            }),
        })
    }

    /// The client that all HTTP tools share: it follows no redirect, so that only the settings say who is called.
    ///
    /// # Errors
    ///
    /// Why it cannot be made.
    pub(super) fn client() -> Result<reqwest::Client, String> {
        tls::client(|| {
            reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIME_MAX)
        })
    }
}

impl Tool for HttpTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn needs_approval(&self) -> bool {
        self.needs_approval
    }

    fn call(&self, call: ToolCall) -> BoxFuture<'static, ToolOutcome> {
        let caller = Arc::clone(&self.caller);
        Box::pin(async move {
            let called = tokio::time::timeout(caller.timeout, caller.call(&call));
            called.await.unwrap_or_else(|_| {
                Err(format!("the tool did not answer within {} ms", caller.timeout.as_millis()))
            })
        })
    }
}

impl Caller {
    async fn call(&self, call: &ToolCall) -> ToolOutcome {
        let body = Body {
            tool: &self.name,
            tool_call_id: &call.call_id,
            session_id: &call.session,
            turn_id: &call.turn,
            workspace: &call.workspace,
            user: call.user.as_deref(),
            input: &call.input,
        };
        let body = serde_json::to_vec(&body).map_err(|error| error.to_string())?;
        let id = webhook_id(call);
        let timestamp = clock::now_ms().div_euclid(1_000).to_string();
        let signature = format!("v1,{}", sign(self.key.expose_secret(), &id, &timestamp, &body));
        let request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("accept", "application/json, text/plain")
            .header("accept-encoding", "identity")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body);
        let mut answer = request.send().await.map_err(|error| self.lost(&error))?;
        let (status, is_json) = (answer.status(), is_json(answer.headers()));
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.lost(&error))? {
            if bytes.len() + chunk.len() > self.answer_bytes {
                return Err(format!(
                    "the tool's answer is larger than {} bytes",
                    self.answer_bytes
                ));
            }
            bytes.extend_from_slice(&chunk);
        }
        let text = String::from_utf8_lossy(&bytes);
        if !status.is_success() {
            let status = status.as_u16();
            return Err(match words(&bytes) {
                Some(words) => format!("the tool answered with status {status}: {words}"),
                None => format!("the tool answered with status {status}"),
            });
        }
        if text.trim().is_empty() {
            return Json::parse("null").map_err(|error| error.to_string());
        }
        if is_json {
            return Json::parse(&text)
                .map_err(|error| format!("the tool's answer is not JSON: {error}"));
        }
        Json::of(&text).map_err(|error| error.to_string())
    }

    /// No address in what the model sees.
    fn lost(&self, error: &reqwest::Error) -> String {
        tracing::warn!(tool = %self.name, "a tool cannot be reached (timeout: {})", error.is_timeout());
        "the tool cannot be reached".to_owned()
    }
}

/// What the body of an error says: nothing if it is no text, or a page.
fn words(body: &[u8]) -> Option<String> {
    let text = str::from_utf8(body).ok()?.trim();
    let printable = |c: &char| !c.is_control() || c.is_whitespace();
    let words: String = text.chars().filter(printable).take(ERROR_CHARS_MAX).collect();
    (!words.is_empty() && !words.starts_with('<')).then_some(words)
}

/// The call's id, which the receiver may use to do the same call once only; derived from it where it cannot be a header.
fn webhook_id(call: &ToolCall) -> String {
    let id = call.call_id.as_str();
    // The dot would make two different calls have one signature.
    if !id.is_empty() && !id.contains('.') && HeaderValue::from_str(id).is_ok() && id.is_ascii() {
        return id.to_owned();
    }
    ids::derived(&[&call.workspace, &call.session, &call.turn, id])
}

/// HMAC-SHA256 over id, timestamp and body, in base64. Source: Standard Webhooks, "Signature scheme".
fn sign(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

fn is_json(headers: &reqwest::header::HeaderMap) -> bool {
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_hold_no_bytes_and_no_pages() {
        assert_eq!(words(b" no\x1b[0m such\nthing "), Some("no[0m such\nthing".to_owned()));
        for nothing in [&b"\x1f\x8b\x08"[..], b"<html>Bad Gateway</html>", b" ", b"\xFF\xFE"] {
            assert_eq!(words(nothing), None);
        }
    }

    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        // The example of the reference libraries' tests.
        let key = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signed = sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body);
        assert_eq!(signed, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
