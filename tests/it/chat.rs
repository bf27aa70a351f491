//! The chat route, in its own shapes. Its pages are in `pages.rs`.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::Event;
use crate::support::client::messages;
use crate::support::client::session;
use crate::support::server::Options;
use crate::support::socket::Raw;
use crate::support::socket::Socket;
use serde_json::Value;
use serde_json::json;
use std::time::UNIX_EPOCH;
use tokio::task::JoinSet;

fn server() -> (Server, Client) {
    let server = Server::start();
    let client = Client::new(&server);
    (server, client)
}

/// The compat list of a session.
async fn list(client: &Client, id: &str) -> Vec<Value> {
    let list = client.get(&format!("/chat/{id}/messages")).await.expect(200);
    list.as_array().unwrap().clone()
}

/// Fails unless `message` has the fields of this route and no others.
#[track_caller]
fn check_shape(message: &Value) {
    let fields: Vec<&str> = message.as_object().unwrap().keys().map(String::as_str).collect();
    let known = ["id", "role", "content", "parts", "createdAt"];
    assert!(fields.iter().all(|field| known.contains(field)), "{message}");
    assert!(message["id"].as_str().is_some_and(|id| id.len() == 36), "a UUID: {message}");
    assert!(message["role"].is_string() && message["content"].is_string(), "{message}");
    if let Some(parts) = message.get("parts") {
        let parts: Value = serde_json::from_str(parts.as_str().unwrap()).unwrap();
        assert!(parts.is_array(), "a JSON string of an array: {message}");
    }
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let age = now.abs_diff(message["createdAt"].as_u64().unwrap());
    assert!(age < 60, "unix seconds: {message}");
}

/// Fails unless these are the events of a whole turn; gives the reply.
#[track_caller]
fn check_turn(events: &[Event]) -> String {
    let (first, rest) = events.split_first().unwrap();
    let ack = json!({ "type": "ack", "content": "Message received" });
    assert_eq!((first.name.as_deref(), first.json()), (Some("message"), ack));
    let (done, rest) = rest.split_last().unwrap();
    assert_eq!((done.name.as_deref(), done.json()), (Some("done"), json!({ "type": "done" })));
    let (last, deltas) = rest.split_last().unwrap();
    let mut reply = String::new();
    for event in deltas {
        assert_eq!(event.name.as_deref(), Some("message"), "{event:?}");
        let chunk = event.json();
        assert_eq!(chunk["type"], "delta", "{chunk}");
        reply.push_str(chunk["content"].as_str().unwrap());
    }
    let expected = json!({ "type": "assistant", "role": "assistant", "content": reply });
    assert_eq!((last.name.as_deref(), last.json()), (Some("message"), expected));
    reply
}

#[tokio::test]
async fn a_post_streams_ack_reply_and_done() {
    let (_server, client) = server();
    let events = client.chat("s", "Hello there, world").await;
    assert_eq!(check_turn(&events), "echo: Hello there, world");
    assert!(events.len() > 4, "the reply comes in pieces: {events:?}");

    let stored = list(&client, "s").await;
    assert_eq!(stored.len(), 2);
    stored.iter().for_each(check_shape);
    assert_eq!(
        (&stored[0]["role"], &stored[0]["content"]),
        (&json!("user"), &json!("Hello there, world"))
    );
    assert_eq!(
        (&stored[1]["role"], &stored[1]["content"]),
        (&json!("assistant"), &json!("echo: Hello there, world"))
    );
}

#[tokio::test]
async fn the_exact_lines_come_over_the_wire() {
    let (server, _client) = server();
    // `curl -d` says that its JSON is a form.
    let request = b"POST /chat/test-session HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
        content-type: application/x-www-form-urlencoded\r\ncontent-length: 19\r\n\r\n{\"content\":\"Hello\"}";
    let (status, answer) = Raw::exchange(&server, request).await;
    assert_eq!(status, 200, "{answer}");
    let first = "event: message\ndata: {\"type\":\"ack\",\"content\":\"Message received\"}\n\n";
    let last = "event: done\ndata: {\"type\":\"done\"}\n\n";
    let reply =
        "data: {\"type\":\"assistant\",\"role\":\"assistant\",\"content\":\"echo: Hello\"}\n\n";
    for line in [first, reply, last] {
        assert!(answer.contains(line), "{line:?} in {answer:?}");
    }
    assert!(answer.to_lowercase().contains("content-type: text/event-stream"), "{answer}");
}

#[tokio::test]
async fn a_new_session_is_an_empty_list() {
    let (_server, client) = server();
    let reply = client.get("/chat/test-session/messages").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "[]"));
    client.get(&session("test-session")).await.problem(404, "session_not_found");
}

#[tokio::test]
async fn blank_content_is_refused_in_the_words_of_the_route() {
    let (_server, client) = server();
    for body in [
        json!({}),
        json!({ "content": "" }),
        json!({ "content": " \t\r\n\u{3000}" }),
        json!({ "content": null }),
    ] {
        let reply = client.post("/chat/s", &body).await;
        assert_eq!(reply.expect(400), json!({ "error": "Message content required" }), "{body}");
    }
    assert_eq!(list(&client, "s").await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_broken_body_is_a_client_error() {
    let (_server, client) = server();
    for path in ["/chat/s", "/chat/s/messages"] {
        for body in
            ["", "{", "[]", "null", "hello", "{\"content\":5}", "{\"content\":\"x\"", "\"x\""]
        {
            let reply = client.request("POST", path).body("application/json", body).await;
            assert!(reply.expect(400)["error"].is_string(), "{path} {body}: {reply:?}");
        }
    }
    assert_eq!(list(&client, "s").await, [] as [Value; 0]);
}

#[tokio::test]
async fn the_user_message_is_stored_before_the_stream_begins() {
    let (_server, client) = server();
    let body = json!({ "content": "!slow 30 20" });
    let mut stream = client.post("/chat/s", &body).stream().await;
    let ack = stream.next().await.unwrap();
    assert_eq!(ack.json()["type"], "ack");
    let stored = list(&client, "s").await;
    assert_eq!(
        (stored.len(), &stored[0]["content"]),
        (1, &json!("!slow 30 20")),
        "the reply is not there yet"
    );

    let delta = stream.next().await.unwrap();
    assert_eq!(delta.json()["type"], "delta", "chunks come while the reply is made");
    loop {
        let event = stream.next().await.unwrap();
        if event.json()["type"] == "assistant" {
            let stored = list(&client, "s").await;
            assert_eq!(stored[1]["content"], event.json()["content"], "stored before it is final");
            break;
        }
    }
    assert_eq!(stream.rest().await.len(), 1, "and then done");
}

#[tokio::test]
async fn the_reader_may_leave_and_the_turn_goes_on() {
    let (server, client) = server();
    let mut stream = client.post("/chat/s", &json!({ "content": "!slow 20 10" })).stream().await;
    stream.next().await.unwrap();
    let (mut socket, _) = Socket::live(&server, "s").await;
    drop(stream);
    let reply = socket.until("message").await;
    assert_eq!(reply["message"]["role"], "assistant");
    let stored = list(&client, "s").await;
    assert_eq!(stored[1]["content"], reply["message"]["content"]);
}

#[tokio::test]
async fn both_broadcasts_reach_every_socket() {
    let (server, client) = server();
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(Socket::open(&server, "/chat/s/websocket").await);
    }
    client.chat("s", "hi").await;
    let stored = list(&client, "s").await;
    for socket in &mut sockets {
        for expected in &stored {
            let frame = socket.until("message").await;
            // A frame of this route: no seq, no other field.
            assert_eq!(frame["message"]["id"], expected["id"]);
            assert_eq!(frame["message"]["content"], expected["content"]);
            check_shape(&frame["message"]);
            assert_eq!(frame.as_object().unwrap().len(), 2, "{frame}");
        }
    }
}

#[tokio::test]
async fn the_socket_hears_messages_and_parts_only() {
    let (server, client) = server();
    let mut socket = Socket::open(&server, "/chat/s/websocket").await;
    let body = json!({ "role": "assistant", "content": "plan" });
    let stored = client.post("/chat/s/messages", &body).await.json();
    assert_eq!(
        socket.frame().await,
        json!({ "type": "message", "message": stored }),
        "no ready frame"
    );

    client.patch(&session("s"), &json!({ "title": "not told" })).await.expect(200);
    let id = stored["id"].as_str().unwrap();
    for state in ["pending", "running", "complete", "error"] {
        let parts =
            json!([{ "type": "tool-call", "toolName": "t", "toolInput": {}, "state": state }]);
        let path = format!("{}/{id}/parts", messages("s"));
        client.put(&path, &json!({ "parts": parts })).await.expect(200);
        let expected = json!({ "type": "message-parts", "messageId": id, "parts": parts });
        assert_eq!(socket.frame().await, expected);
    }
    let stored = list(&client, "s").await;
    let parts: Value = serde_json::from_str(stored[0]["parts"].as_str().unwrap()).unwrap();
    assert_eq!(parts[0]["state"], "error");
}

#[tokio::test]
async fn a_message_can_be_saved_without_a_turn() {
    let (_server, client) = server();
    let parts =
        json!([{ "type": "text", "content": "p" }, { "type": "tool-result", "toolOutput": 1 }]);
    let body = json!({ "role": "assistant", "content": "x", "parts": parts.to_string() });
    let reply = client.post("/chat/s/messages", &body).await;
    assert!([200, 201].contains(&reply.status), "{reply:?}");
    let saved = reply.json();
    check_shape(&saved);
    let read: Value = serde_json::from_str(saved["parts"].as_str().unwrap()).unwrap();
    assert_eq!(read, parts);
    assert_eq!(list(&client, "s").await, std::slice::from_ref(&saved));
    assert_eq!(client.history("s").await[0]["parts"], parts, "parts in the native form");

    let plain = client.post("/chat/s/messages", &json!({ "role": "system", "content": "y" })).await;
    assert!(plain.json().get("parts").is_none(), "absent when there are none: {plain:?}");
    assert!(list(&client, "s").await[1].get("parts").is_none());
}

#[tokio::test]
async fn a_bad_message_is_not_saved() {
    let (_server, client) = server();
    for body in [
        json!({ "role": "tool", "content": "x" }),
        json!({ "role": "", "content": "x" }),
        json!({ "content": "x" }),
        json!({ "role": "user" }),
        json!({ "role": "user", "content": 1 }),
        json!({ "role": "user", "content": "x", "parts": "{" }),
        json!({ "role": "user", "content": "x", "parts": "5" }),
        json!({ "role": "user", "content": "x", "parts": 5 }),
    ] {
        let reply = client.post("/chat/s/messages", &body).await;
        assert!(reply.expect(400)["error"].is_string(), "{body}: {reply:?}");
    }
    assert_eq!(list(&client, "s").await, [] as [Value; 0]);
}

#[tokio::test]
async fn anything_else_is_not_found() {
    let (_server, client) = server();
    for path in ["/chat/s/nothing", "/chat/s/messages/m", "/chat/s/websocket/x", "/chat/s/"] {
        let reply = client.get(path).await;
        assert_eq!((reply.status, reply.body.as_str()), (404, "Not found"), "{path}");
    }
    let reply = client.post("/chat/s/else", &json!({})).await;
    assert_eq!((reply.status, reply.body.as_str()), (404, "Not found"));
}

#[tokio::test]
async fn a_socket_route_without_upgrade_headers_is_told_so() {
    let (_server, client) = server();
    let reply = client.get("/chat/s/websocket").await;
    assert_eq!(reply.status, 426, "{reply:?}");
    assert!(reply.header("upgrade").is_some_and(|value| value.contains("websocket")), "{reply:?}");
    let half = client.get("/chat/s/websocket").with("connection", "upgrade");
    assert_eq!(half.with("upgrade", "websocket").await.status / 100, 4);
}

#[tokio::test]
async fn posts_at_the_same_time_are_answered_one_after_the_other() {
    let (_server, client) = server();
    let mut posts = JoinSet::new();
    for number in 0..6 {
        let client = client.clone();
        posts.spawn(async move {
            let text = format!("question {number}\n!slow 10 3");
            let reply = check_turn(&client.chat("s", &text).await);
            assert!(reply.starts_with(&format!("echo: question {number}")), "{reply}");
        });
    }
    posts.join_all().await;
    let mut running = None;
    for frame in client.log("s", 0).await {
        let turn = &frame["turn"];
        match turn["state"].as_str() {
            Some("running") => {
                assert_eq!(running.replace(turn["id"].clone()), None, "one at a time")
            }
            Some("completed") => assert_eq!(running.take().as_ref(), Some(&turn["id"])),
            _ => {}
        }
        if frame["type"] == "part-delta" {
            assert!(running.is_some(), "a delta without a running turn: {frame}");
        }
    }
    let stored = list(&client, "s").await;
    assert_eq!(stored.iter().filter(|message| message["role"] == "assistant").count(), 6);
    assert_eq!(stored.len(), 12);
}

#[tokio::test]
async fn the_placeholder_can_be_had() {
    let server = Options::default().set("SESSILE__CHAT__PLACEHOLDER", true).start();
    let client = Client::new(&server);
    let literal = "I received your message. Agent integration coming in Phase 2 Plan 06.";
    assert_eq!(check_turn(&client.chat("s", "Hello").await), literal);
    assert_eq!(list(&client, "s").await[1]["content"], literal);
}

#[tokio::test]
async fn a_failed_reply_ends_the_stream_and_keeps_what_was_said() {
    let (_server, client) = server();
    let events = client.chat("s", "!error on purpose").await;
    assert_eq!(events[0].json()["type"], "ack");
    assert!(events.iter().all(|event| event.json()["type"] != "assistant"), "{events:?}");
    let stored = list(&client, "s").await;
    assert_eq!(stored[1]["content"], "partial ", "whatever was seen is stored: {stored:?}");
    let native = client.history("s").await;
    assert_eq!(
        (native.len(), &native[1]["content"]),
        (2, &json!("partial ")),
        "the partial text is kept"
    );
    assert_ne!(native[1]["status"], native[0]["status"]);
    assert_eq!(check_turn(&client.chat("s", "hello").await), "echo: hello");
}

#[tokio::test]
async fn session_names_of_the_chat_route_follow_the_same_rules() {
    let (_server, client) = server();
    for bad in ["%0A", "%00", "%C2%85", &"x".repeat(256)] {
        let reply = client.post(&format!("/chat/{bad}"), &json!({ "content": "x" })).await;
        assert!(reply.expect(400)["error"].is_string(), "{bad}: {reply:?}");
        let reply = client.get(&format!("/chat/{bad}/messages")).await;
        assert!(reply.expect(400)["error"].is_string(), "{bad}: {reply:?}");
    }
    let long = "x".repeat(255);
    check_turn(&client.chat(&long, "x").await);
    check_turn(&client.chat("a/b?c", "x").await);
    assert_eq!(client.history("a/b?c").await.len(), 2);
    client.delete(&session("a/b?c")).await;
    let reply = client.post("/chat/a%2Fb%3Fc", &json!({ "content": "x" })).await;
    assert!(reply.expect(410)["error"].is_string(), "{reply:?}");
}

#[tokio::test]
async fn long_and_many_lined_content_is_echoed_exactly() {
    let (_server, client) = server();
    let lines: Vec<String> = (0..200).map(|number| format!("{number} ünï 漢字 🙂")).collect();
    let reply = check_turn(&client.chat("s", &lines.join("\n")).await);
    for line in &lines {
        assert!(reply.contains(&format!("echo: {line}")), "{line}");
    }
    assert_eq!(list(&client, "s").await[1]["content"], reply);
}
