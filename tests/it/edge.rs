//! What every route does alike: heads, old clients, packed bodies, the name of a request, and what the log says of it.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::server::Options;
use reqwest::header::HeaderMap;
use serde_json::Value;
use serde_json::json;
use sessile::http::endpoints;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;

/// A path of the pattern, for the session `s`, its first message and things that there are not.
fn path_of(pattern: &str) -> String {
    pattern
        .replace("{id}", "s")
        .replace("{mid}", "m1")
        .replace("{code}", "invalid")
        .replace("{branch}", "1")
        .replace("{item}", "i")
        .replace("{approval}", "a")
}

async fn with_a_message() -> (Server, Client) {
    let server = Options::default().set("SESSILE__LOG__FILTER", "debug").start();
    let client = Client::new(&server);
    let message = json!({ "id": "m1", "role": "user", "content": "x" });
    client.post("/v1/sessions/s/messages", &message).await.expect(201);
    (server, client)
}

/// Sends `head` and gives all that comes until the server closes.
fn raw(server: &Server, head: &str) -> String {
    let mut wire = TcpStream::connect(server.base.strip_prefix("http://").unwrap()).unwrap();
    wire.set_read_timeout(Some(SOON)).unwrap();
    wire.write_all(head.as_bytes()).unwrap();
    let mut all = Vec::new();
    wire.read_to_end(&mut all).unwrap();
    String::from_utf8(all).unwrap()
}

/// The error of an answer, in the shape that the clients of `path` read.
#[track_caller]
fn message_of(path: &str, body: &str) -> String {
    let json: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{path}: {body}"));
    let text = if path.starts_with("/v1/conversations") || path.starts_with("/api") {
        &json["error"]["message"]
    } else if path.starts_with("/chat") {
        &json["error"]
    } else {
        &json["detail"]
    };
    text.as_str().unwrap_or_else(|| panic!("{path}: {body}")).to_owned()
}

#[tokio::test]
async fn whatever_can_be_read_answers_head_like_get_without_its_body() {
    let (server, client) = with_a_message().await;
    let shown = |headers: &HeaderMap| {
        let names = ["content-type", "content-length", "cache-control", "allow", "upgrade"];
        names.map(|name| headers.get(name).cloned())
    };
    for (_, pattern) in endpoints().into_iter().filter(|(method, _)| *method == "GET") {
        let path = path_of(pattern);
        let (get, head) = (client.get(&path).await, client.request("HEAD", &path).await);
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.body, "", "{path}");
        // What counts or tells the time differs from one moment to the next.
        if pattern != "/metrics" && get.status < 400 {
            assert_eq!(shown(&head.headers), shown(&get.headers), "{path}");
        }
    }
    // A stream would never end; neither would a poll. The head of both is there at once, and nobody stays subscribed.
    for extra in ["?after=0 HTTP/1.1\r\nAccept: text/event-stream", "?after=1&wait=60 HTTP/1.1"] {
        let request = format!(
            "HEAD /v1/sessions/s/events{extra}\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        let answer = raw(&server, &request);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
    }
    for transport in ["transport=\"sse\"", "transport=\"poll\""] {
        let open = client.metric("sessile_subscribers", &[transport]).await;
        assert_eq!(open.unwrap_or(0.0), 0.0, "{transport}");
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_streams_that_end_with_the_connection() {
    let (server, _client) = with_a_message().await;
    let ui = r#"{"id":"u","messages":[{"id":"1","role":"user","parts":[{"type":"text","text":"hello"}]}],"trigger":"submit-message"}"#;
    let turn = r#"{"message":{"role":"user","content":"hello"}}"#;
    let sse = "Accept: text/event-stream\r\n";
    for (path, body, extra) in [
        ("/chat/x", r#"{"content":"hello"}"#, ""),
        ("/api/chat", ui, ""),
        ("/api/chat?protocol=v4", &ui.replace("\"u\"", "\"v\""), ""),
        ("/api/builder/chat?protocol=text", &ui.replace("\"u\"", "\"w\""), ""),
        ("/api/completion", r#"{"prompt":"hello"}"#, ""),
        ("/v1/sessions/t/turns", turn, sse),
        ("/v1/sessions/t2/turns", turn, ""),
    ] {
        for keep in ["", "Connection: keep-alive\r\n"] {
            let length = body.len();
            let answer = raw(
                &server,
                &format!(
                    "POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n{extra}{}\r\n{body}",
                    if path == "/v1/sessions/t2/turns" { "" } else { keep }
                ),
            );
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.0 200"), "{path}: {head}");
            assert!(!head.to_lowercase().contains("transfer-encoding"), "{path}: {head}");
            assert!(!head.to_lowercase().contains("keep-alive"), "{path}: {head}");
            assert!(body.contains("hello"), "{path}: {body}");
            let first = body.lines().next().unwrap();
            assert!(u32::from_str_radix(first, 16).is_err(), "{path}: not a chunk: {first}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_packed_or_a_form_is_refused_in_the_shape_of_its_route() {
    let (_server, client) = with_a_message().await;
    for (method, pattern) in endpoints() {
        if !matches!(method, "POST" | "PUT" | "PATCH") {
            continue;
        }
        let path = path_of(pattern);
        for (name, value) in [
            ("content-encoding", "gzip"),
            ("content-encoding", "br"),
            ("content-type", "multipart/form-data; boundary=x"),
        ] {
            let reply =
                client.request(method, &path).body("application/json", "{}").with(name, value);
            let reply = match name {
                "content-type" => client.request(method, &path).body(value, "--x--").await,
                _ => reply.await,
            };
            assert_eq!(reply.status, 415, "{method} {path} {value}: {}", reply.body);
            let message = message_of(&path, &reply.body);
            assert!(message.contains("send"), "what to do: {message}");
        }
        // That it is not packed may be said.
        let plain = client.request(method, &path).with("content-encoding", "identity");
        let plain = plain.body("application/json", "{").await;
        assert_ne!(plain.status, 415, "{method} {path}");
    }
    let reply = client.request("POST", "/v1/sessions").body("application/yaml", "id: x").await;
    let detail = reply.problem(400, "invalid")["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("JSON") && detail.contains("application/yaml"), "{detail}");
    // The example of the README sends what curl sends by itself.
    let form = "application/x-www-form-urlencoded";
    let reply = client.request("POST", "/v1/sessions").body(form, r#"{"id":"curl"}"#).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
}

#[tokio::test]
async fn errors_of_extractors_have_the_shape_of_the_route() {
    let (_server, client) = with_a_message().await;
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(9 << 20));
    for (path, text) in [
        ("/v1/conversations/s/items?limit=x", "`limit`"),
        ("/api/chat/s/stream?protocol=v9", "`v4`"),
        ("/v1/sessions/s/events?after=x", "`after` must be a whole number"),
        ("/v1/sessions/s/branches/x", "branches"),
        ("/v1/nothing", "/openapi.json"),
        ("/api/nothing", "/openapi.json"),
    ] {
        let reply = client.get(path).await;
        assert!((400..500).contains(&reply.status), "{path}: {reply:?}");
        let message = message_of(path, &reply.body);
        assert!(message.contains(text), "{path}: {message}");
        for word in ["deserialize", "variant", "serde", "digit found"] {
            assert!(!message.contains(word), "a word of a library: {message}");
        }
    }
    for path in ["/chat/s", "/api/completion", "/v1/conversations", "/v1/sessions"] {
        let reply = client.request("POST", path).body("application/json", large.clone()).await;
        assert_eq!(reply.status, 413, "{path}");
        message_of(path, &reply.body);
        let empty = client.request("POST", path).body("application/json", "{\"").await;
        assert_eq!(empty.status, 400, "{path}");
        message_of(path, &empty.body);
    }
    let reply = client.request("PUT", "/api/chat").await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("POST, GET, HEAD")), "{reply:?}");
    message_of("/api/chat", &reply.body);
}

#[tokio::test]
async fn every_answer_names_its_request_and_the_log_can_be_searched_for_it() {
    let (server, client) = with_a_message().await;
    for (number, (method, pattern)) in endpoints().into_iter().enumerate() {
        let (path, id) = (path_of(pattern), format!("req-{number}:a/b"));
        let reply = client.request(method, &path).with("x-request-id", &id).await;
        assert_eq!(reply.header("x-request-id"), Some(id.as_str()), "{method} {path}");
        // A name that cannot be shown, or that would fill the log, is replaced.
        for bad in ["a b", "", &"x".repeat(129), "a\"b"] {
            let reply = client.request(method, &path).with("x-request-id", bad).await;
            let given = reply.header("x-request-id").unwrap();
            assert!(given != bad && !given.is_empty(), "{method} {path}: {given}");
        }
    }
    let path = "/v1/sessions/s/messages?limit=secret";
    let reply = client.get(path).with("x-request-id", "find-me").await;
    assert_eq!(reply.problem(400, "invalid")["correlationId"], "find-me");
    let evil = client.get("/livez").with("origin", "http://evil.example").await;
    assert_eq!(
        evil.header("x-request-id"),
        evil.problem(403, "forbidden_origin")["correlationId"].as_str()
    );
    let log = eventually(SOON, "the log names the request twice", async || {
        let log = server.log();
        (log.matches("find-me").count() >= 2).then_some(log)
    })
    .await;
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("find-me")).collect();
    assert!(lines[0].contains("`limit` must be a number"), "{lines:?}");
    assert!(lines[1].contains("GET /v1/sessions/{id}/messages 400"), "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("DEBUG")), "{lines:?}");
    assert!(!log.contains("secret"), "queries are not in the log");
}

#[tokio::test]
async fn the_log_has_colours_on_a_terminal_only_and_no_lines_of_the_framework() {
    for format in ["text", "json"] {
        let server = Options::default().set("SESSILE__LOG__FORMAT", format).start();
        Client::new(&server).say("s", "x").await;
        let log = server.log();
        assert!(!log.contains('\u{1b}'), "{log}");
        assert!(!log.contains("actix") && !log.contains("worker"), "{log}");
        assert!(!log.contains(".cargo") && !log.contains("/src/"), "{log}");
        assert!(log.lines().count() <= 6, "{log}");
        if format == "json" {
            for line in log.lines() {
                let line: Value = serde_json::from_str(line).unwrap();
                assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
            }
        }
    }
}
