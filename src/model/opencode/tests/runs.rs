//! The calls of an answer, with a script in the place of the server: what it hears, and that every answer ends.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use serde_json::json;
use tokio::time::timeout;

use crate::model::Answer;
use crate::model::Bounds;
use crate::model::Content;
use crate::model::FailureKind;
use crate::model::FinishReason;
use crate::model::ModelEvent;
use crate::model::ModelMessage;
use crate::model::ModelRequest;
use crate::model::Provider as _;
use crate::model::Speaker;
use crate::model::opencode::OpenCode;
use crate::model::opencode::OpenCodeSettings;

/// Longest wait for what should come at once, on a busy machine.
const SOON: Duration = Duration::from_secs(15);

/// A server that answers one prompt; its threads end with the tests.
struct Server {
    provider: OpenCode,
    /// Method, path and body of each call.
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(streams: Vec<Vec<Value>>, messages: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let (log, streams) = (Arc::clone(&heard), Arc::new(Mutex::new(streams.into_iter())));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, streams) = (Arc::clone(&log), Arc::clone(&streams));
                let (messages, stream) = (messages.to_string(), stream.unwrap());
                // A client may leave at any time; that ends the thread, not the test.
                std::thread::spawn(move || {
                    let call = hear(&stream)?;
                    log.lock().unwrap().push(call.clone());
                    if call.starts_with("GET /event") {
                        let script = streams.lock().unwrap().next();
                        return events(stream, script, &log);
                    }
                    let (status, body) = match call.split(' ').nth(1).unwrap() {
                        "/session" => (200, r#"{"id":"ses_1"}"#),
                        "/session/ses_1/message?limit=200" => (200, messages.as_str()),
                        "/session/ses_1/prompt_async" => (204, ""),
                        "/session/status" => (200, "{}"),
                        "/permission" => (200, r#"[{"id":"per_9","sessionID":"ses_1"}]"#),
                        "/question" => (200, "[]"),
                        _ => (200, "true"),
                    };
                    reply(stream, status, body)
                });
            }
        });
        let settings = OpenCodeSettings { base_url, ..OpenCodeSettings::default() };
        Self { provider: OpenCode::new(settings, &|_| None).unwrap(), heard }
    }

    fn heard(&self, call: &str) -> usize {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|known| known.starts_with(call)).count()
    }

    async fn hears(&self, call: &str) {
        let heard = async {
            while self.heard(call) == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(SOON, heard).await.unwrap_or_else(|_| panic!("{call}: {:?}", self.heard));
    }

    fn ask(&self, bounds: Bounds) -> Answer {
        let content = vec![Content::Text("hi".to_owned())];
        self.provider.answer(ModelRequest {
            workspace: "w1".to_owned(),
            session: "s1".to_owned(),
            model: "stub/echo".to_owned(),
            system: Some("be kind".to_owned()),
            messages: vec![ModelMessage { speaker: Speaker::User, content }],
            tools: Vec::new(),
            resume: None,
            bounds,
        })
    }
}

fn hear(stream: &TcpStream) -> std::io::Result<String> {
    let mut reader = BufReader::new(stream);
    let (mut call, mut length) = (String::new(), 0);
    reader.read_line(&mut call)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(format!("{} {}", call.trim_end_matches(" HTTP/1.1\r\n"), String::from_utf8_lossy(&body)))
}

fn reply(mut out: TcpStream, status: u16, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(
        out,
        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// Greets, waits for the prompt, and says what the script says; without a script it stays silent.
fn events(
    mut out: TcpStream,
    script: Option<Vec<Value>>,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    out.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")?;
    out.write_all(b"data: {\"type\":\"server.connected\",\"properties\":{}}\n\n")?;
    let Some(script) = script else {
        return out.read(&mut [0; 16]).map(drop);
    };
    while !log.lock().unwrap().iter().any(|call| call.contains("prompt_async")) {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    script.iter().try_for_each(|event| write!(out, "data: {event}\n\n"))
}

fn event(kind: &str, mut properties: Value) -> Value {
    properties["sessionID"] = json!("ses_1");
    json!({ "id": "evt_1", "type": kind, "properties": properties })
}

fn assistant(over: bool) -> Value {
    let time = if over { json!({ "completed": 2 }) } else { json!({}) };
    let finish = over.then_some("stop");
    json!({ "id": "msg_2", "role": "assistant", "parentID": "msg_1", "time": time, "finish": finish })
}

/// The beginning of an answer, and its messages when it is whole.
fn conversation() -> (Vec<Value>, Value) {
    let part = json!({ "id": "prt_1", "messageID": "msg_2", "type": "text", "text": "wo" });
    let whole = json!({ "id": "prt_1", "messageID": "msg_2", "type": "text", "text": "words" });
    let begin = vec![
        event("message.updated", json!({ "info": { "id": "msg_1", "role": "user" } })),
        event("message.updated", json!({ "info": assistant(false) })),
        event("message.part.updated", json!({ "part": part })),
    ];
    (begin, json!([{ "info": assistant(true), "parts": [whole] }]))
}

async fn read(mut answer: Answer) -> (String, Result<FinishReason, FailureKind>) {
    let mut said = String::new();
    loop {
        match timeout(SOON, answer.next()).await.expect("an event in time").expect("an end") {
            Ok(ModelEvent::TextDelta { text, .. }) => said.push_str(&text),
            Ok(ModelEvent::Finish { reason, .. }) => return (said, Ok(reason)),
            Ok(_) => {}
            Err(error) => return (said, Err(error.kind)),
        }
    }
}

#[tokio::test]
async fn the_rest_of_an_answer_is_fetched_when_the_session_rests() {
    let (mut script, messages) = conversation();
    script.push(event("permission.asked", json!({ "id": "per_1" })));
    script.push(event("question.asked", json!({ "id": "que_1" })));
    script.push(event("session.idle", json!({})));
    let server = Server::start(vec![script], messages);
    let said = read(server.ask(Bounds::default())).await;
    assert_eq!(said, ("words".to_owned(), Ok(FinishReason::Stop)));
    assert_eq!(server.heard(r#"POST /permission/per_1/reply {"reply":"reject"}"#), 1);
    assert_eq!(server.heard("POST /question/que_1/reject"), 1);
    let body = json!({
        "parts": [{ "type": "text", "text": "hi" }], "agent": "plan", "system": "be kind",
        "model": { "providerID": "stub", "modelID": "echo" },
    });
    assert_eq!(server.heard(&format!("POST /session/ses_1/prompt_async {body}")), 1);
    assert_eq!(server.heard("POST /session/ses_1/abort"), 0);
}

#[tokio::test]
async fn a_broken_event_stream_is_opened_again_and_loses_nothing() {
    let (script, messages) = conversation();
    let server = Server::start(vec![script], messages);
    let said = read(server.ask(Bounds::default())).await;
    assert_eq!(said, ("words".to_owned(), Ok(FinishReason::Stop)));
    assert_eq!(server.heard("GET /event"), 2);
    // What was asked meanwhile is answered.
    assert_eq!(server.heard("POST /permission/per_9/reply"), 1);
}

#[tokio::test]
async fn answers_that_do_not_end_are_aborted() {
    let (script, _) = conversation();
    let server = Server::start(vec![Vec::new(); 9], json!([]));
    let said = read(server.ask(Bounds::default())).await;
    // It rests, but there is no answer: the stream is opened again a few times.
    assert_eq!(said, (String::new(), Err(FailureKind::Interrupted)));
    server.hears("POST /session/ses_1/abort").await;

    let server = Server::start(Vec::new(), json!([]));
    let bounds = Bounds { total: Duration::from_millis(300), ..Bounds::default() };
    assert_eq!(read(server.ask(bounds)).await.1, Err(FailureKind::Limit));
    server.hears("POST /session/ses_1/abort").await;

    let mut retried = script.clone();
    let status = json!({ "type": "retry", "attempt": 3, "message": "overloaded" });
    retried.push(event("session.status", json!({ "status": status })));
    let server = Server::start(vec![retried], json!([]));
    assert_eq!(read(server.ask(Bounds::default())).await.1, Err(FailureKind::Unavailable));
    server.hears("POST /session/ses_1/abort").await;

    let server = Server::start(vec![script], json!([]));
    let bounds = Bounds { bytes: 1, ..Bounds::default() };
    assert_eq!(read(server.ask(bounds)).await.1, Err(FailureKind::Limit));
    server.hears("POST /session/ses_1/abort").await;
}

#[tokio::test]
async fn a_dropped_answer_is_aborted() {
    let server = Server::start(Vec::new(), json!([]));
    let mut answer = server.ask(Bounds::default());
    let first = timeout(SOON, answer.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(first, ModelEvent::Resume("ses_1".to_owned()));
    drop(answer);
    server.hears("POST /session/ses_1/abort").await;
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable() {
    let settings =
        OpenCodeSettings { base_url: "http://127.0.0.1:1".to_owned(), ..Default::default() };
    let provider = OpenCode::new(settings, &|_| None).unwrap();
    let server = Server { provider, heard: Arc::default() };
    assert_eq!(read(server.ask(Bounds::default())).await.1, Err(FailureKind::Unavailable));
    let settings = OpenCodeSettings { base_url: "ftp://x".to_owned(), ..Default::default() };
    assert!(OpenCode::new(settings, &|_| None).is_err());
    assert_eq!(server.provider.check("opus", "hi").unwrap_err().kind, FailureKind::Request);
}
