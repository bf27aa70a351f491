//! Foreign and hostile names at every entrance that takes one, then kill -9, SIGTERM and a start: what was taken is there,
//! can be read and can be deleted on every route, and nothing else is touched. What is no name is refused by each route
//! in its own shape.

use crate::support::Server;
use crate::support::server::Options;
use crate::support::socket::Heard;
use crate::support::socket::Raw;
use crate::support::socket::Socket;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

/// Thirty of them; the longest is exactly 255 bytes.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "a b",
        " a",
        "a ",
        " ",
        "\u{e9}",
        "e\u{301}",
        "Z\u{fc}rich \u{df}",
        "\u{1f642}",
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
        "\u{6f22}\u{5b57}",
        "\u{ff0f}",
        ".",
        "..",
        "../..",
        "%",
        "%2F",
        "%252e",
        "%00",
        "/",
        "a/b",
        "?x=1",
        "#x",
        "\"",
        "\"quoted\"",
        "\\",
        "\u{202e}gpj.exe",
        "\u{200b}",
        "\u{feff}a",
        "\u{2028}",
        "'; DROP TABLE message; --",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push("\u{e9}".repeat(127) + "x");
    names
}

fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// One request; gives status and whole answer. Clients' libraries change paths such as `%2E%2E`, so this one is raw.
async fn ask(server: &Server, method: &str, path: &str, body: &str) -> (u16, String) {
    ask_with(server, method, path, body, &[]).await
}

async fn ask_with(
    server: &Server,
    method: &str,
    path: &str,
    body: &str,
    head: &[u8],
) -> (u16, String) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    let request = [request.as_bytes(), head, b"\r\n", body.as_bytes()].concat();
    Raw::exchange(server, &request).await
}

fn body_of(answer: &str) -> Value {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

async fn get(server: &Server, path: &str) -> Value {
    let (status, answer) = ask(server, "GET", path, "").await;
    assert_eq!(status, 200, "GET {path}: {answer}");
    body_of(&answer)
}

/// Uses session `name` through entrance `entrance`; other names are what else needs one.
#[expect(clippy::too_many_lines, reason = "a table: what each entrance takes")]
async fn enter(server: &Server, entrance: usize, name: &str, other: impl Fn(usize) -> String) {
    let at = encoded(name);
    let post = async |path: String, body: Value| {
        let (status, answer) = ask(server, "POST", &path, &body.to_string()).await;
        assert!([200, 201].contains(&status), "{name:?} at POST {path}: {answer}");
        answer
    };
    let said = |id: String| json!({ "id": id, "role": "user", "parts": [{ "type": "text", "text": "x" }] });
    let chat =
        |id: String| json!({ "id": name, "trigger": "submit-message", "messages": [said(id)] });
    match entrance {
        0 => drop(post("/v1/sessions".to_owned(), json!({ "id": name })).await),
        1 => {
            let path = format!("/v1/sessions/{at}/messages");
            let body = json!({ "id": other(1), "role": "user", "content": "x" }).to_string();
            let key = [b"idempotency-key: \"", other(2).as_bytes(), b"\"\r\n"].concat();
            let (status, first) = ask_with(server, "POST", &path, &body, &key).await;
            assert_eq!(status, 201, "{name:?}: {first}");
            let (_, again) = ask_with(server, "POST", &path, &body, &key).await;
            assert!(again.contains("idempotent-replayed: true"), "{:?}: {again}", other(2));
            assert_eq!(body_of(&first)["id"], other(1));
        }
        2 => {
            let answer = post("/api/chat".to_owned(), chat(other(3))).await;
            let header = answer.lines().find_map(|line| line.strip_prefix("x-session-id: "));
            let header = percent_encoding::percent_decode_str(header.unwrap());
            assert_eq!(header.decode_utf8().unwrap(), name);
            assert!(answer.contains("[DONE]"), "{answer}");
        }
        3 => drop(post("/api/builder/chat".to_owned(), chat(other(4))).await),
        4 => {
            // Of v4: its place in the list, far beyond the end, says that it is new.
            let messages = vec![json!({ "role": "user", "content": "x" }); 99];
            drop(post("/api/chat".to_owned(), json!({ "id": name, "messages": messages })).await);
        }
        5 => drop(post(format!("/chat/{at}"), json!({ "content": "x" })).await),
        6 => {
            let body = json!({ "role": "user", "content": "x" });
            drop(post(format!("/chat/{at}/messages"), body).await);
        }
        7 => {
            let call = json!({
                "type": "function_call", "id": other(5), "call_id": other(6), "name": "f", "arguments": "{}",
            });
            drop(post(format!("/v1/sessions/{at}/items"), json!({ "items": [call] })).await);
            let item = json!({ "role": "user", "content": "x", "id": other(7) });
            let change = json!({ "type": "append_items", "items": [item] });
            let change = json!({ "operationId": other(8), "transaction": change });
            for applied in [true, false] {
                let answer =
                    post(format!("/v1/sessions/{at}/items/transactions"), change.clone()).await;
                assert_eq!(body_of(&answer)["applied"], applied, "{:?}", other(8));
            }
        }
        8 => {
            drop(post("/v1/sessions".to_owned(), json!({ "id": name })).await);
            let item = json!({ "type": "message", "role": "user", "content": "x", "id": other(9) });
            drop(post(format!("/v1/conversations/{at}/items"), json!({ "items": [item] })).await);
            let path = format!("/v1/conversations/{at}/items/{}", encoded(&other(9)));
            assert_eq!(get(server, &path).await["id"], other(9));
        }
        9 => {
            drop(
                post("/v1/sessions".to_owned(), json!({ "id": name, "projectId": other(10) }))
                    .await,
            );
            let path = format!("/v1/sessions/{at}/websocket");
            let mut socket = Socket::open(server, &path).await;
            assert_eq!(socket.frame().await["sessionId"], name);
            let send = json!({
                "type": "send", "clientId": other(11), "id": other(12), "role": "user", "content": "x",
            });
            socket.send(&send).await;
            assert_eq!(socket.until("ack").await["clientId"], other(11));
        }
        _ => {
            let mut socket = Socket::open(server, "/api/chat/ws").await;
            let mut send = chat(other(13));
            send["type"] = json!("send");
            send["requestId"] = json!(other(14));
            socket.send(&send).await;
            assert_eq!(socket.until("end").await["requestId"], other(14));
            let resume = json!({ "type": "resume", "requestId": other(15), "id": name });
            socket.send(&resume).await;
            assert_eq!(socket.until("no-active").await["requestId"], other(15));
        }
    }
}

const ENTRANCES: usize = 11;

/// Everything that can be read of every session that is listed, by its name.
async fn all(server: &Server) -> BTreeMap<String, Value> {
    let mut sessions = BTreeMap::new();
    for item in get(server, "/v1/sessions?limit=200").await["items"].as_array().unwrap() {
        let name = item["id"].as_str().unwrap().to_owned();
        let at = encoded(&name);
        let read = json!({
            "session": get(server, &format!("/v1/sessions/{at}")).await,
            "messages": get(server, &format!("/v1/sessions/{at}/messages?limit=200")).await["items"],
            "items": get(server, &format!("/v1/sessions/{at}/items")).await,
            "chat": get(server, &format!("/chat/{at}/messages?limit=200")).await,
            "ui": get(server, &format!("/api/chat/{at}/messages")).await,
            "builder": get(server, &format!("/api/builder/chat/{at}/messages")).await,
            "conversation": get(server, &format!("/v1/conversations/{at}")).await,
            "its items": get(server, &format!("/v1/conversations/{at}/items?limit=100")).await,
        });
        assert_eq!(
            (&read["session"]["id"], &read["conversation"]["id"]),
            (&json!(name), &json!(name))
        );
        for path in [format!("/api/chat/{at}/stream"), format!("/api/chat?chatId={at}")] {
            let (status, answer) = ask(server, "GET", &path, "").await;
            assert!([200, 204].contains(&status), "{name:?}: {answer}");
        }
        sessions.insert(name, read);
    }
    sessions
}

fn start(data: &Path) -> Server {
    Options::default().set("SESSILE__ACTOR__SLEEP_AFTER_MS", 100).start_in(data)
}

#[tokio::test]
async fn every_name_that_an_entrance_takes_lives_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let (mut server, names) = (start(&data), names());
    assert_eq!((names.len(), names.last().map(String::len)), (31, Some(255)));
    enter(&server, 6, "plain", |n| n.to_string()).await;
    for (at, name) in names.iter().enumerate() {
        let other = |n: usize| names[(at + n) % names.len()].clone();
        // Each entrance is the first one for some of them.
        for n in 0..ENTRANCES {
            enter(&server, (at + n) % ENTRANCES, name, other).await;
        }
    }
    let before = all(&server).await;
    let expected: BTreeSet<&str> = names.iter().map(String::as_str).chain(["plain"]).collect();
    assert_eq!(before.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected);
    server.kill();
    let mut server = start(&data);
    assert_eq!(all(&server).await, before, "after kill -9");
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let server = start(&data);
    assert_eq!(all(&server).await, before, "after SIGTERM");

    for (at, (name, read)) in before.iter().enumerate() {
        let session = format!("/v1/sessions/{}", encoded(name));
        let conversation = format!("/v1/conversations/{}", encoded(name));
        // A message and the items that it shows go together, so whatever is asked for first is all there.
        let messages = read["messages"].as_array().unwrap();
        let items = read["its items"]["data"].as_array().unwrap();
        for message in messages {
            let id = message["id"].as_str().unwrap();
            let path = format!("{session}/messages/{}", encoded(id));
            assert_eq!(get(&server, &path).await["id"], id, "{name:?}");
        }
        if at % 2 == 0 {
            for message in messages {
                let path =
                    format!("{session}/messages/{}", encoded(message["id"].as_str().unwrap()));
                let (status, answer) = ask(&server, "DELETE", &path, "").await;
                assert_eq!(status, 204, "{name:?} {message}: {answer}");
            }
        } else {
            for item in items {
                let id = encoded(item["id"].as_str().unwrap());
                let (status, answer) =
                    ask(&server, "DELETE", &format!("{conversation}/items/{id}"), "").await;
                assert_eq!(status, 200, "{name:?} {item}: {answer}");
            }
        }
        if name != "plain" {
            let path = if at % 2 == 0 { &session } else { &conversation };
            assert!(ask(&server, "DELETE", path, "").await.0 < 300, "{name:?}");
            assert_eq!(ask(&server, "GET", &session, "").await.0, 410, "{name:?}");
        }
    }
    assert_eq!(all(&server).await.keys().collect::<Vec<_>>(), ["plain"]);
}

/// How a family of routes says no.
fn check_refusal(path: &str, status: u16, answer: &str) {
    assert_eq!(status, 400, "{path}: {answer}");
    let body = body_of(answer);
    let text = match path.split('/').nth(1) {
        Some("api") => &body["error"]["message"],
        Some("chat") => &body["error"],
        _ if path.contains("conversations") => {
            assert_eq!(body["error"]["type"], "invalid_request_error", "{path}: {answer}");
            &body["error"]["message"]
        }
        _ => {
            assert_eq!(body["code"], "invalid", "{path}: {answer}");
            &body["detail"]
        }
    };
    let text = text.as_str().unwrap_or_else(|| panic!("{path}: {answer}"));
    assert!(
        text.contains("1 to 255 bytes of UTF-8 without control characters"),
        "{path}: {answer}"
    );
}

#[tokio::test]
async fn what_is_no_name_is_refused_in_the_shape_of_the_route() {
    let server = Server::start();
    let long = encoded(&"\u{e9}".repeat(128));
    for bad in ["%00", "a%0Ab", "%7F", "%C2%85", "%FF", "a%C3", "%ED%A0%80", &long] {
        for (method, path) in [
            ("GET", format!("/v1/sessions/{bad}")),
            ("DELETE", format!("/v1/sessions/{bad}")),
            ("GET", format!("/v1/sessions/{bad}/messages")),
            ("GET", format!("/v1/sessions/{bad}/items")),
            ("GET", format!("/v1/sessions/{bad}/events")),
            ("GET", format!("/v1/sessions/s/messages/{bad}")),
            ("DELETE", format!("/v1/sessions/s/messages/{bad}")),
            ("GET", format!("/v1/conversations/{bad}")),
            ("GET", format!("/v1/conversations/{bad}/items")),
            ("GET", format!("/v1/conversations/s/items/{bad}")),
            ("GET", format!("/chat/{bad}/messages")),
            ("GET", format!("/api/chat/{bad}/messages")),
            ("GET", format!("/api/builder/chat/{bad}/stream")),
            ("POST", format!("/api/chat/{bad}/stop")),
        ] {
            let (status, answer) = ask(&server, method, &path, "").await;
            check_refusal(&path, status, &answer);
        }
    }
    let long = "n".repeat(256);
    for bad in ["\n", "a\u{0}", "\u{85}", &long] {
        let user = json!({ "id": bad, "role": "user", "content": "x", "parts": [{ "type": "text", "text": "x" }] });
        let chat = json!({ "id": bad, "messages": [{ "id": "u", "role": "user", "parts": [{ "type": "text", "text": "x" }] }] });
        let named = json!({ "id": "s", "trigger": "submit-message", "messages": [user] });
        for (path, body) in [
            ("/v1/sessions", json!({ "id": bad })),
            ("/v1/sessions", json!({ "id": "s", "projectId": bad })),
            ("/v1/sessions/s/messages", json!({ "id": bad, "role": "user", "content": "x" })),
            ("/api/chat", chat.clone()),
            ("/api/builder/chat", chat),
            ("/api/chat", named),
            (
                "/v1/sessions/s/items/transactions",
                json!({ "operationId": bad, "transaction": { "type": "append_items", "items": [] } }),
            ),
        ] {
            let (status, answer) = ask(&server, "POST", path, &body.to_string()).await;
            check_refusal(path, status, &answer);
        }
    }
    let (_, listed) = ask(&server, "GET", "/v1/sessions", "").await;
    assert_eq!(body_of(&listed)["items"], json!([]), "nothing was made");
    assert_eq!(ask(&server, "POST", "/v1/sessions", r#"{"id":"s"}"#).await.0, 201);
    let (mut socket, _) = Socket::live(&server, "s").await;
    for bad in ["", "\n", &long] {
        let send = json!({ "type": "send", "clientId": bad, "role": "user", "content": "x" });
        socket.send(&send).await;
        match socket.hear().await {
            Heard::Frame(frame) => assert_eq!(frame["error"]["code"], "invalid", "{frame}"),
            Heard::Closed(code) => panic!("closed with {code:?}"),
        }
    }
}
