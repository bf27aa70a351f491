//! The log once the words of old answers are gone from it: whoever comes back misses nothing, on any route.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::Event;
use crate::support::client::seq;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::server::Options;
use crate::support::socket::Socket;
use serde_json::Value;
use serde_json::json;

/// A server that compacts as soon as it can.
fn server() -> (Server, Client) {
    let server = options().start();
    let client = Client::new(&server);
    (server, client)
}

fn options() -> Options {
    Options::default()
        .set("SESSILE__STORAGE__DELTAS_KEPT_MS", 0)
        .set("SESSILE__STORAGE__COMMIT_DELAY_MS", 20)
}

/// The log, once nothing of it grows any more.
async fn compacted(client: &Client, id: &str) -> Vec<Value> {
    eventually(SOON, "the log is compacted", async || {
        let log = client.log(id, 0).await;
        let grows = log.iter().any(|frame| frame["type"] == "part-delta");
        (!grows && log.iter().any(|frame| frame.get("from").is_some())).then_some(log)
    })
    .await
}

/// What a reader keeps: `(frame.from ?? frame.seq) <= last + 1`, and parts as the frames say.
#[derive(Default)]
struct Reader {
    last: u64,
    parts: std::collections::BTreeMap<String, Vec<Value>>,
}

impl Reader {
    fn take(&mut self, frame: &Value) {
        let from = frame["from"].as_u64().unwrap_or_else(|| seq(frame));
        assert!(from <= self.last + 1 && self.last < seq(frame), "after {}: {frame}", self.last);
        self.last = seq(frame);
        let parts = self.parts.entry(frame["messageId"].as_str().unwrap_or("").to_owned());
        let at = usize::try_from(frame["part"].as_u64().unwrap_or(0)).unwrap();
        match frame["type"].as_str().unwrap() {
            "message" => {
                let message = &frame["message"];
                let parts = message["parts"].as_array().unwrap().clone();
                self.parts.insert(message["id"].as_str().unwrap().to_owned(), parts);
            }
            "message-parts" => parts.or_default().clone_from(frame["parts"].as_array().unwrap()),
            "part-update" => {
                let parts = parts.or_default();
                if parts.len() == at {
                    parts.push(json!({}));
                }
                for (key, value) in frame["fields"].as_object().unwrap() {
                    parts[at][key] = value.clone();
                }
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_reader_who_was_away_gets_every_event_that_is_still_there() {
    let (server, client) = server();
    client.chat("s", "one two three four five six").await;
    client.say("s", "between").await;
    client.chat("s", "seven eight nine ten").await;
    let log = compacted(&client, "s").await;
    let history = client.history("s").await;
    let (mut frames, last) = (log.iter(), seq(log.last().unwrap()));
    assert!(frames.any(|frame| frame["from"].as_u64().is_some_and(|from| from < seq(frame))));
    for frame in log.iter().filter(|frame| frame.get("from").is_some()) {
        let message = history.iter().find(|m| m["id"] == frame["messageId"]).unwrap();
        assert_eq!(frame["parts"], message["parts"], "the parts as they are");
    }
    for after in 0..last {
        let expected: Vec<&Value> = log.iter().filter(|frame| seq(frame) > after).collect();
        let path = format!("{}/events?after={after}", session("s"));
        let page = client.get(&path).await.expect(200);
        assert_eq!(page["events"].as_array().unwrap().iter().collect::<Vec<_>>(), expected);
        let polled = client.get(&format!("{path}&wait=9")).await.expect(200);
        assert_eq!(polled["events"], page["events"]);
        let mut stream = client.get(&path).stream().await;
        let (mut socket, _) = Socket::after(&server, "s", after).await;
        let mut reader = Reader::default();
        log.iter().filter(|frame| seq(frame) <= after).for_each(|frame| reader.take(frame));
        reader.last = after;
        for frame in expected {
            assert_eq!((&stream.frame().await, &socket.frame().await), (frame, frame));
            reader.take(frame);
        }
        for message in &history {
            let id = message["id"].as_str().unwrap();
            let parts = reader.parts.get(id).map(|parts| json!(parts));
            assert!(parts.is_none_or(|parts| parts == message["parts"]), "after {after}");
        }
    }
}

#[tokio::test]
async fn a_restart_and_a_crash_leave_the_log_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = options().start_in(dir.path());
    let client = Client::new(&server);
    client.chat("s", "one two three four").await;
    let log = compacted(&client, "s").await;
    for signal in ["KILL", "TERM"] {
        server.signal(signal);
        server.wait();
        server = options().start_in(dir.path());
        assert_eq!(compacted(&Client::new(&server), "s").await, log);
    }
    let client = Client::new(&server);
    for message in client.history("s").await {
        let path = format!("{}/messages/{}", session("s"), message["id"].as_str().unwrap());
        client.delete(&path).await.text(204);
    }
    let emptied = client.log("s", 0).await;
    assert_eq!(emptied.len(), log.len() + 2);
    assert!(!json!(emptied).to_string().contains("three"), "{emptied:?}");
}

/// The text of a UI message stream, and its chunks but for the text as it grows.
fn told(events: &[Event]) -> (String, Vec<Value>) {
    let mut text = String::new();
    let mut chunks = Vec::new();
    for event in events.iter().filter(|event| event.data != "[DONE]") {
        let chunk = event.json();
        match chunk["type"].as_str().unwrap() {
            "text-delta" => text.push_str(chunk["delta"].as_str().unwrap()),
            "tool-input-delta" => {}
            _ => chunks.push(chunk),
        }
    }
    (text, chunks)
}

#[tokio::test]
async fn a_page_that_comes_back_to_an_answer_that_goes_on_sees_all_of_it() {
    let (_server, client) = server();
    let said = json!({ "id": "u", "role": "user", "parts": [{ "type": "text", "text": "!approve rm {}" }] });
    let body = json!({ "id": "s", "trigger": "submit-message", "messages": [said] });
    let first = client.post("/api/chat", &body).stream().await.rest().await;
    let (_, before) = told(&first);
    let answer = client.get("/api/chat/s/messages").await.expect(200)["messages"][1].clone();
    let approval = answer["parts"][1]["approval"]["id"].as_str().unwrap().to_owned();
    let path = format!("{}/approvals/{approval}", session("s"));
    client.post(&path, &json!({ "approved": true })).await.expect(200);
    let log = compacted(&client, "s").await;
    assert!(log.iter().any(|frame| frame["turn"]["attempt"] == 2));
    // As somebody who repeats the first request would see it: the same as then.
    let turn = log.iter().find(|frame| frame["type"] == "turn").unwrap();
    let path = format!("{}/events?after={}", session("s"), seq(turn) - 1);
    let frames = client.get(&path).await.expect(200)["events"].clone();
    assert!(frames[0]["turn"].is_object(), "{frames}");
    assert!(before.iter().any(|chunk| chunk["type"] == "tool-approval-request"), "{before:?}");
}

#[tokio::test]
async fn a_repeat_of_a_turn_hears_the_first_answer_however_it_asks() {
    let (_server, client) = server();
    let path = format!("{}/turns", session("s"));
    let body = json!({ "message": { "role": "user", "content": "one two three four" } });
    let first = client.post(&path, &body).key("k").await.expect(200);
    let log = compacted(&client, "s").await;
    let again = client.post(&path, &body).key("k").await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(200), first);
    let accepted = client.post(&path, &body).key("k").with("prefer", "respond-async").await;
    assert_eq!(accepted.expect(202)["turnId"], first["turn"]["id"]);
    let frames = client.post(&path, &body).key("k").stream().await.rest().await;
    let frames: Vec<Value> = frames.iter().map(Event::json).collect();
    assert_eq!(frames, log[1..], "from the turn's begin to its end");
    assert_eq!(client.log("s", 0).await, log, "nothing happened");
}
