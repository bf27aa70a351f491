//! An HTTP client of the server under test: JSON calls, problem documents, event streams.

use crate::support::Server;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::clock::within;
use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::Response;
use reqwest::header::HeaderMap;
use serde_json::Value;
use serde_json::json;
use std::fmt::Write as _;
use std::pin::Pin;

/// Talks to one server; clones share the connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// A request that is sent when it is awaited.
pub struct Request(RequestBuilder);

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as text; everything that sessile answers is UTF-8.
    pub body: String,
}

impl Client {
    /// A client of `server`.
    pub fn new(server: &Server) -> Self {
        sessile::base::tls::ready();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        Self { http, base: server.base.clone() }
    }

    /// Any method on `path`.
    pub fn request(&self, method: &str, path: &str) -> Request {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Request(self.http.request(method, format!("{}{path}", self.base)))
    }

    /// `GET path`
    pub fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }

    /// `POST path` with a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> Request {
        Request(self.request("POST", path).0.json(body))
    }

    /// `PUT path` with a JSON body.
    pub fn put(&self, path: &str, body: &Value) -> Request {
        Request(self.request("PUT", path).0.json(body))
    }

    /// `PATCH path` with a JSON body.
    pub fn patch(&self, path: &str, body: &Value) -> Request {
        Request(self.request("PATCH", path).0.json(body))
    }

    /// `DELETE path`
    pub fn delete(&self, path: &str) -> Request {
        self.request("DELETE", path)
    }

    /// Stores a user message and gives it back.
    pub async fn say(&self, session: &str, content: &str) -> Value {
        let body = json!({ "role": "user", "content": content });
        self.post(&messages(session), &body).await.expect(201)
    }

    /// The newest messages (200 at most), oldest first.
    pub async fn history(&self, session: &str) -> Vec<Value> {
        let page = self.get(&format!("{}?limit=200", messages(session))).await.expect(200);
        page["items"].as_array().unwrap().clone()
    }

    /// The event log after `after` to its end, page by page; checks that no seq is missing.
    pub async fn log(&self, session: &str, after: u64) -> Vec<Value> {
        let mut frames: Vec<Value> = Vec::new();
        let mut last = after;
        loop {
            let path = format!("/v1/sessions/{}/events?after={last}", segment(session));
            let page = self.get(&path).await.expect(200);
            let events = page["events"].as_array().unwrap();
            for frame in events {
                let from = frame["from"].as_u64().unwrap_or_else(|| seq(frame));
                assert!(from <= last + 1 && last < seq(frame), "behind {last} comes {frame}");
                assert!(from == last + 1 || last == after, "twice: behind {last} comes {frame}");
                last = seq(frame);
            }
            frames.extend(events.iter().cloned());
            if last == page["lastSeq"].as_u64().unwrap() {
                return frames;
            }
            assert!(!events.is_empty(), "an empty page before lastSeq: {page}");
        }
    }

    /// Runs one turn over the chat route and gives all its events.
    pub async fn chat(&self, session: &str, content: &str) -> Vec<Event> {
        let path = format!("/chat/{}", segment(session));
        let mut stream = self.post(&path, &json!({ "content": content })).stream().await;
        stream.rest().await
    }

    /// The value of a metric by its name and some of its labels, if `/metrics` has it.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let text = self.get("/metrics").await.text(200);
        let line = text.lines().find(|line| {
            let (found, rest) = line.split_at(line.find(['{', ' ']).unwrap_or(line.len()));
            found == name && labels.iter().all(|label| rest.contains(label))
        });
        line.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// How many session actors are in memory; some session must have been used before.
    pub async fn awake(&self) -> f64 {
        let labels = ["kind=\"session\"", "state=\"active\""];
        let count = self.metric("sessile_actors", &labels).await;
        count.unwrap_or_else(|| panic!("no metric sessile_actors with {labels:?}"))
    }

    /// Waits until every session actor has gone to sleep.
    pub async fn all_asleep(&self) {
        eventually(SOON, "all sessions asleep", async || (self.awake().await == 0.0).then_some(()))
            .await;
    }
}

impl Request {
    /// Adds a header.
    pub fn with(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    /// Adds an `Idempotency-Key`.
    pub fn key(self, key: &str) -> Self {
        self.with("idempotency-key", key)
    }

    /// Sends `body` as it is, with this content type.
    pub fn body(self, content_type: &str, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.header("content-type", content_type).body(body))
    }

    /// Sends it and reads the answer as an event stream, which it must be.
    pub async fn stream(self) -> EventStream {
        let sent = self.0.header("accept", "text/event-stream").send();
        let response = within(SOON, "an event stream begins", sent).await.unwrap();
        let status = response.status().as_u16();
        if status != 200 {
            panic!("no event stream but {status}: {}", response.text().await.unwrap());
        }
        let kind = response.headers()["content-type"].to_str().unwrap();
        assert!(kind.starts_with("text/event-stream"), "content type {kind}");
        EventStream { response, buffer: Vec::new(), bytes_read: 0 }
    }

    /// Sends it; an error when the connection fails, as it may while the server ends.
    pub async fn attempt(self) -> Result<Reply, reqwest::Error> {
        let whole = async {
            let response = self.0.send().await?;
            let status = response.status().as_u16();
            let headers = response.headers().clone();
            let body = String::from_utf8(response.bytes().await?.to_vec()).unwrap();
            Ok(Reply { status, headers, body })
        };
        within(2 * SOON, "a whole answer", whole).await
    }
}

impl IntoFuture for Request {
    type Output = Reply;
    type IntoFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.attempt().await.unwrap() })
    }
}

impl Reply {
    /// The body as JSON, which it must be.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// The JSON body of an answer that must have this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.json()
    }

    /// The text of an answer that must have this status.
    #[track_caller]
    pub fn text(self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// The problem document of an answer that must be one, with this status and code.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.any_problem(&[status]);
        assert_eq!(problem["code"], code, "{problem}");
        problem
    }

    /// The problem document of an answer that must be one, with one of these statuses.
    #[track_caller]
    pub fn any_problem(&self, statuses: &[u16]) -> Value {
        assert!(statuses.contains(&self.status), "{}: {}", self.status, self.body);
        let kind = self.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/problem+json"), "{kind}: {}", self.body);
        let problem = self.json();
        check_problem(&problem);
        assert_eq!(problem["status"], self.status, "{problem}");
        problem
    }

    /// One header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Fails unless `problem` has every member that a problem document of sessile has.
#[track_caller]
pub fn check_problem(problem: &Value) {
    for text in ["type", "title", "detail", "code", "correlationId"] {
        assert!(problem[text].is_string(), "`{text}` of {problem}");
    }
    for flag in ["retryable", "overloaded", "remote"] {
        assert!(problem[flag].is_boolean(), "`{flag}` of {problem}");
    }
    assert!(problem["status"].is_u64(), "`status` of {problem}");
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its `id:`, if it has one.
    pub id: Option<String>,
    /// Its `event:`, if it has one.
    pub name: Option<String>,
    /// Its `data:` lines, joined.
    pub data: String,
}

impl Event {
    /// The data as JSON, which it must be.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}

/// An event stream that is being read.
pub struct EventStream {
    response: Response,
    buffer: Vec<u8>,
    /// How much has arrived, comments included.
    pub bytes_read: usize,
}

impl EventStream {
    /// The next event; `None` when the server ended the stream. Comments are passed over.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(event) = parse_event(std::str::from_utf8(&block).unwrap()) {
                    return Some(event);
                }
                continue;
            }
            if !self.more().await {
                // What is left of an event that was cut is no event.
                return None;
            }
        }
    }

    /// Waits for more bytes, comments included; false at the end of the stream.
    pub async fn more(&mut self) -> bool {
        match within(2 * SOON, "more of an event stream", self.response.chunk()).await {
            Ok(Some(chunk)) => {
                self.bytes_read += chunk.len();
                self.buffer.extend_from_slice(&chunk);
                true
            }
            Ok(None) | Err(_) => false,
        }
    }

    /// The next event as a native frame: no name, the seq as id.
    pub async fn frame(&mut self) -> Value {
        let event = self.next().await.unwrap();
        assert_eq!(event.name, None, "a native frame has no event name: {event:?}");
        let frame = event.json();
        assert_eq!(event.id, Some(seq(&frame).to_string()), "the id is the seq: {frame}");
        frame
    }

    /// All events up to the end of the stream.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// Reads one block of an event stream; `None` when it holds comments only.
fn parse_event(block: &str) -> Option<Event> {
    assert!(!block.contains('\r'), "a bare CR ends a line in an event stream: {block:?}");
    let mut event = Event { id: None, name: None, data: String::new() };
    let mut empty = true;
    for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        empty = false;
        match field {
            "id" => event.id = Some(value.to_owned()),
            "event" => event.name = Some(value.to_owned()),
            "data" if event.data.is_empty() => value.clone_into(&mut event.data),
            "data" => event.data = format!("{}\n{value}", event.data),
            "retry" => empty = event.data.is_empty(),
            _ => panic!("unknown field in an event stream: {line:?}"),
        }
    }
    (!empty).then_some(event)
}

/// The `seq` of a frame or message.
#[track_caller]
pub fn seq(frame: &Value) -> u64 {
    frame["seq"].as_u64().unwrap_or_else(|| panic!("no seq: {frame}"))
}

/// Percent-encodes an id as one path segment.
pub fn segment(id: &str) -> String {
    let mut encoded = String::new();
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").unwrap();
        }
    }
    encoded
}

/// The native path of a session.
pub fn session(id: &str) -> String {
    format!("/v1/sessions/{}", segment(id))
}

/// The native path of a session's turns.
pub fn turns(id: &str) -> String {
    format!("{}/turns", session(id))
}

/// The native path of a session's messages.
pub fn messages(id: &str) -> String {
    format!("/v1/sessions/{}/messages", segment(id))
}

/// The `content` of each message.
pub fn contents(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["content"].as_str().unwrap()).collect()
}
