//! Every public limit: what is exactly at it works, what is one beyond it is refused and has no effect.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::messages;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::within;
use crate::support::server::Options;
use crate::support::socket::Heard;
use crate::support::socket::Raw;
use crate::support::socket::Socket;
use crate::support::socket::close_code;
use crate::support::socket::frame_head;
use crate::support::socket::server_frames;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

const BODY_BYTES_MAX: usize = 1_048_576;
const CONTENT_BYTES_MAX: usize = 131_072;
const PARTS_MAX: usize = 256;
const METADATA_BYTES_MAX: usize = 16_384;
const JSON_DEPTH_MAX: usize = 32;
const FRAME_BYTES_MAX: usize = 262_144;
const FRAGMENTS_MAX: usize = 64;
const ID_BYTES_MAX: usize = 255;

fn server() -> (Server, Client) {
    let server = Server::start();
    let client = Client::new(&server);
    (server, client)
}

/// A message as text, blanks in front of it, so that it has exactly this many bytes.
fn padded(bytes: usize) -> String {
    let body = r#"{"role":"user","content":"x"}"#;
    format!("{}{body}", " ".repeat(bytes - body.len()))
}

/// Posts `body` and fails unless it is refused with one of these statuses and leaves nothing behind.
async fn check_refused(client: &Client, body: &Value, statuses: &[u16]) -> Value {
    let problem = client.post(&messages("beyond"), body).await.any_problem(statuses);
    client.get(&session("beyond")).await.problem(404, "session_not_found");
    problem
}

#[tokio::test]
async fn a_body_has_a_mebibyte_at_most() {
    let (_server, client) = server();
    for path in [messages("s"), "/chat/s".to_owned()] {
        let request = client.request("POST", &path);
        let reply = request.body("application/json", padded(BODY_BYTES_MAX)).await;
        assert!([200, 201].contains(&reply.status), "{path}: {reply:?}");
        let request = client.request("POST", &path);
        let reply = request.body("application/json", padded(BODY_BYTES_MAX + 1)).await;
        assert_eq!(reply.status, 413, "{path}: {reply:?}");
    }
    let request = client.request("POST", &messages("s"));
    let reply = request.body("application/json", padded(BODY_BYTES_MAX + 1)).await;
    reply.problem(413, "too_large");
    // The native message, and both of the chat route.
    assert_eq!(client.history("s").await.len(), 3);
}

#[tokio::test]
async fn a_message_larger_than_what_may_wait_is_stored_all_the_same() {
    let server = Options::default().set("SESSILE__LIMITS__MAILBOX_BYTES", 1_000).start();
    let client = Client::new(&server);
    for _ in 0..2 {
        let message = json!({"role": "user", "content": "x".repeat(5_000)});
        assert_eq!(client.post(&messages("s"), &message).await.status, 201);
    }
    assert_eq!(client.history("s").await.len(), 2);
}

#[tokio::test]
async fn a_body_of_unknown_length_has_the_same_limit() {
    let (_server, client) = server();
    let chunks = |bytes| {
        let text = padded(bytes).into_bytes();
        let chunks: Vec<Result<Vec<u8>, std::io::Error>> =
            text.chunks(60_000).map(|chunk| Ok(chunk.to_vec())).collect();
        reqwest::Body::wrap_stream(futures_util::stream::iter(chunks))
    };
    let request = client.request("POST", &messages("s"));
    request.body("application/json", chunks(BODY_BYTES_MAX)).await.expect(201);
    let request = client.request("POST", &messages("s"));
    request.body("application/json", chunks(BODY_BYTES_MAX + 1)).await.problem(413, "too_large");
    assert_eq!(client.history("s").await.len(), 1);
}

#[tokio::test]
async fn a_body_that_is_announced_too_large_is_not_waited_for() {
    let (server, _client) = server();
    let request = b"POST /v1/sessions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
        content-type: application/json\r\ncontent-length: 9999999999\r\n\r\n{";
    let (status, answer) = Raw::exchange(&server, request).await;
    assert_eq!(status, 413, "{answer}");
}

#[tokio::test]
async fn a_content_has_128_kib_at_most() {
    let (server, client) = server();
    // Bytes count, not characters.
    for unit in ["x", "é", "🙂"] {
        let most = unit.repeat(CONTENT_BYTES_MAX / unit.len());
        let stored = client.say("s", &most).await;
        assert_eq!(stored["content"], *most);
        let beyond = json!({ "role": "user", "content": format!("{most}x") });
        let problem = check_refused(&client, &beyond, &[413]).await;
        assert_eq!(problem["code"], "too_large", "{problem}");
    }
    let body = json!({ "content": "x".repeat(CONTENT_BYTES_MAX + 1) });
    assert!(client.post("/chat/s", &body).await.expect(413)["error"].is_string());
    let (mut socket, _) = Socket::live(&server, "s").await;
    let frame =
        json!({ "type": "send", "clientId": "c", "role": "user", "content": body["content"] });
    socket.send(&frame).await;
    assert_eq!(socket.until("error").await["error"]["code"], "too_large");
    assert_eq!(client.history("s").await.len(), 3);
}

#[tokio::test]
async fn a_message_has_256_parts_at_most() {
    let (_server, client) = server();
    let parts = |count| vec![json!({ "type": "text", "content": "p" }); count];
    let body = |count| json!({ "role": "user", "content": "x", "parts": parts(count) });
    let stored = client.post(&messages("s"), &body(PARTS_MAX)).await.expect(201);
    check_refused(&client, &body(PARTS_MAX + 1), &[400, 413]).await;
    let path = format!("{}/{}/parts", messages("s"), stored["id"].as_str().unwrap());
    let reply = client.put(&path, &json!({ "parts": parts(PARTS_MAX + 1) })).await;
    reply.any_problem(&[400, 413]);
    client.put(&path, &json!({ "parts": parts(PARTS_MAX) })).await.expect(200);
}

#[tokio::test]
async fn metadata_has_16_kib_at_most() {
    let (_server, client) = server();
    // As compact JSON.
    let metadata = |bytes: usize| json!({ "k": "m".repeat(bytes - r#"{"k":""}"#.len()) });
    let body = |bytes| json!({ "role": "user", "content": "x", "metadata": metadata(bytes) });
    client.post(&messages("s"), &body(METADATA_BYTES_MAX)).await.expect(201);
    check_refused(&client, &body(METADATA_BYTES_MAX + 1), &[400, 413]).await;
    let change = json!({ "metadata": metadata(METADATA_BYTES_MAX + 1) });
    client.patch(&session("s"), &change).await.any_problem(&[400, 413]);
    let change = json!({ "metadata": metadata(METADATA_BYTES_MAX) });
    client.patch(&session("s"), &change).await.expect(200);
}

#[tokio::test]
async fn json_is_32_deep_at_most() {
    let (server, client) = server();
    // The body itself and `metadata` are two levels.
    let nested = |depth: usize| {
        let inner = depth - 2;
        format!(
            r#"{{"role":"user","content":"x","metadata":{{"a":{}1{}}}}}"#,
            "[".repeat(inner),
            "]".repeat(inner)
        )
    };
    let request = client.request("POST", &messages("s"));
    request.body("application/json", nested(JSON_DEPTH_MAX)).await.expect(201);
    let request = client.request("POST", &messages("beyond"));
    let reply = request.body("application/json", nested(JSON_DEPTH_MAX + 1)).await;
    reply.problem(400, "invalid");
    client.get(&session("beyond")).await.problem(404, "session_not_found");
    // Brackets in a text are no depth.
    client.say("s", &"[{".repeat(1_000)).await;
    let (mut socket, _) = Socket::live(&server, "s").await;
    let frame = nested(JSON_DEPTH_MAX + 1).replacen('{', r#"{"type":"send","clientId":"c","#, 1);
    socket.send_text(&frame).await;
    assert_eq!(socket.until("error").await["error"]["code"], "invalid");
}

#[tokio::test]
async fn an_id_has_255_characters_at_most() {
    let (_server, client) = server();
    let (most, beyond) = ("i".repeat(ID_BYTES_MAX), "i".repeat(ID_BYTES_MAX + 1));
    client.say(&most, "x").await;
    client.post("/v1/sessions", &json!({ "id": most })).await.expect(200);
    client.post("/v1/sessions", &json!({ "id": beyond })).await.problem(400, "invalid");
    client.get(&session(&beyond)).await.problem(400, "invalid");
    let body = |id: &str| json!({ "id": id, "role": "user", "content": "x" });
    client.post(&messages("s"), &body(&most)).await.expect(201);
    client.get(&format!("{}/{most}", messages("s"))).await.expect(200);
    client.post(&messages("s"), &body(&beyond)).await.problem(400, "invalid");
    client.post(&messages("s"), &body("")).await.problem(400, "invalid");
}

#[tokio::test]
async fn an_idempotency_key_has_255_characters_at_most() {
    let (server, client) = server();
    let body = json!({ "role": "user", "content": "x" });
    let most = "k".repeat(ID_BYTES_MAX);
    client.post(&messages("s"), &body).key(&most).await.expect(201);
    for bad in [String::new(), "k".repeat(ID_BYTES_MAX + 1)] {
        client.post(&messages("s"), &body).key(&bad).await.problem(400, "invalid");
    }
    let (mut socket, _) = Socket::live(&server, "s").await;
    for (client_id, kind) in [(most, "ack"), ("k".repeat(ID_BYTES_MAX + 1), "error")] {
        let frame =
            json!({ "type": "send", "clientId": client_id, "role": "user", "content": "x" });
        socket.send(&frame).await;
        socket.until(kind).await;
    }
    assert_eq!(client.history("s").await.len(), 1);
}

#[tokio::test]
async fn a_page_has_1_to_200_messages() {
    let (_server, client) = server();
    client.say("s", "x").await;
    for limit in ["1", "200"] {
        client.get(&format!("{}?limit={limit}", messages("s"))).await.expect(200);
    }
    for limit in ["0", "201", "-1", "", "x", "1.5", "1e2", "99999999999999999999", "%00"] {
        let reply = client.get(&format!("{}?limit={limit}", messages("s"))).await;
        let problem = reply.problem(400, "invalid");
        assert!(problem["detail"].as_str().unwrap().contains("limit"), "{problem}");
    }
}

#[tokio::test]
async fn a_head_has_a_bounded_size() {
    let (server, client) = server();
    let huge =
        format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "h".repeat(300_000));
    let many = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(500));
    let long =
        format!("GET /v1/sessions/{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "p".repeat(200_000));
    for request in [huge, many, long] {
        let mut raw = Raw::connect(&server).await;
        raw.offer(request.as_bytes()).await;
        raw.finish().await;
        let (status, answer) = raw.answer().await;
        assert!(status == 0 || (400..500).contains(&status), "{answer}");
    }
    client.say("s", "still well").await;
}

#[tokio::test]
async fn a_frame_has_256_kib_at_most() {
    let (server, client) = server();
    client.say("s", "x").await;
    let frame = |bytes: usize| {
        let send = r#"{"type":"send","clientId":"c","role":"user","content":"x"}"#;
        format!("{}{send}", " ".repeat(bytes - send.len()))
    };
    let (mut socket, _) = Socket::live(&server, "s").await;
    socket.send_text(&frame(FRAME_BYTES_MAX)).await;
    socket.until("ack").await;
    for path in ["/v1/sessions/s/websocket", "/chat/s/websocket"] {
        let mut socket = Socket::open(&server, path).await;
        socket.offer_text(&frame(FRAME_BYTES_MAX + 1)).await;
        assert_eq!(socket.rest().await.1, Some(4009), "{path}");
    }
    assert_eq!(client.history("s").await.len(), 2);
}

#[tokio::test]
async fn a_message_in_fragments_has_256_kib_at_most() {
    let (server, client) = server();
    client.say("s", "x").await;
    let mut raw = Raw::upgrade(&server, "/v1/sessions/s/websocket", None).await;
    let block = vec![b' '; FRAME_BYTES_MAX / 4];
    for number in 0..5 {
        let opcode = u8::from(number == 0);
        raw.offer_frame(false, opcode, &block).await;
    }
    let code = close_code(&server_frames(&raw.drain().await));
    assert!([None, Some(4009), Some(1009)].contains(&code), "{code:?}");
    assert_eq!(client.history("s").await.len(), 1);
}

#[tokio::test]
async fn a_message_has_64_fragments_at_most() {
    let (server, client) = server();
    client.say("s", "x").await;
    for (count, stored) in [(2, 2), (FRAGMENTS_MAX, 3), (FRAGMENTS_MAX + 1, 3), (1_000, 3)] {
        let text = json!({ "type": "send", "clientId": count.to_string(), "role": "user", "content": "x" });
        let text = format!("{:>1000}", text.to_string());
        let mut raw = Raw::upgrade(&server, "/v1/sessions/s/websocket", None).await;
        for (number, piece) in pieces(text.as_bytes(), count).into_iter().enumerate() {
            let opcode = u8::from(number == 0);
            raw.offer_frame(number + 1 == count, opcode, piece).await;
        }
        // Saying goodbye after it: the server answers what came before.
        raw.offer_frame(true, 8, &1000_u16.to_be_bytes()).await;
        let frames = server_frames(&raw.drain().await);
        let text: String = frames.iter().map(|(_, text)| String::from_utf8_lossy(text)).collect();
        if count > FRAGMENTS_MAX {
            let code = close_code(&frames);
            assert!([None, Some(4009), Some(1008), Some(1002)].contains(&code), "{code:?}");
            assert!(!text.contains("\"ack\""), "{count} fragments: {text}");
        }
        assert_eq!(client.history("s").await.len(), stored, "{count} fragments: {text}");
    }
}

/// Cuts `bytes` into `count` pieces, of which the last takes what is left.
fn pieces(bytes: &[u8], count: usize) -> Vec<&[u8]> {
    let each = bytes.len() / count;
    let at = |number| number * each;
    let end = |number| if number + 1 == count { bytes.len() } else { at(number + 1) };
    (0..count).map(|number| &bytes[at(number)..end(number)]).collect()
}

#[tokio::test]
async fn every_socket_ends_with_a_code_at_too_many_pings_or_fragments() {
    let (server, client) = server();
    client.say("s", "x").await;
    for path in ["/v1/sessions/s/websocket", "/chat/s/websocket", "/api/chat/ws"] {
        for (opcode, count, code) in [(9, 200, 4029), (10, 200, 4029), (0, FRAGMENTS_MAX + 1, 4009)]
        {
            let mut raw = Raw::upgrade(&server, path, None).await;
            let mut frames = if opcode == 0 { frame_head(false, 1, 0) } else { Vec::new() };
            frames.extend(frame_head(opcode > 8, opcode, 0).repeat(count));
            raw.stream.write_all(&frames).await.unwrap();
            let ended = close_code(&server_frames(&raw.drain().await));
            assert_eq!(ended, Some(code), "{path}: {count} frames of opcode {opcode}");
        }
    }
    client.say("s", "still well").await;
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[tokio::test]
async fn a_message_that_never_becomes_whole_ends_its_socket() {
    let server = Options::default().set("SESSILE__LIMITS__BODY_TOTAL_MS", 200).start();
    Client::new(&server).say("s", "x").await;
    for path in ["/v1/sessions/s/websocket", "/api/chat/ws"] {
        let mut raw = Raw::upgrade(&server, path, None).await;
        raw.offer_frame(false, 1, b"{").await;
        let mut pongs = tokio::time::interval(Duration::from_millis(150));
        let (mut reader, mut writer) = raw.stream.into_split();
        let mut answer = Vec::new();
        // It shows that it lives, and sends nothing more of it.
        let lives = async {
            loop {
                pongs.tick().await;
                if writer.write_all(&frame_head(true, 10, 0)).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            () = lives => {}
            read = within(SOON, "the end", reader.read_to_end(&mut answer)) => drop(read),
        }
        assert_eq!(close_code(&server_frames(&answer)), Some(4009), "{path}");
    }
}

#[tokio::test]
async fn a_socket_may_send_so_much_a_minute() {
    let (server, client) = server();
    client.say("s", "x").await;
    let (mut socket, _) = Socket::live(&server, "s").await;
    for number in 0..30 {
        let frame = json!({ "type": "send", "clientId": number.to_string(), "role": "user", "content": "x" });
        socket.send(&frame).await;
        assert_eq!(socket.until("ack").await["clientId"], number.to_string());
    }
    // The burst is used up; two a second come back.
    let flood = async {
        for number in 30..100_000 {
            let frame = json!({ "type": "send", "clientId": number.to_string(), "role": "user", "content": "x" });
            if !socket.offer_text(&frame.to_string()).await {
                break;
            }
            match socket.hear().await {
                Heard::Closed(code) => return (code, number),
                Heard::Frame(frame) if frame["type"] == "error" => {
                    assert_eq!(frame["error"]["code"], "rate_limited", "{frame}");
                    assert_eq!(frame["error"]["retryable"], true, "{frame}");
                }
                Heard::Frame(_) => {}
            }
        }
        (socket.rest().await.1, 100_000)
    };
    let (code, sent) = within(SOON, "repeated abuse ends the socket", flood).await;
    assert_eq!(code, Some(4029), "after {sent} frames");
    assert!(sent > 31, "a warning comes first");
    let stored = client.get(&format!("{}/count", messages("s"))).await.expect(200);
    assert!(stored["count"].as_u64() < Some(31 + 45), "what was refused is not stored: {stored}");
}

#[tokio::test]
async fn the_rate_of_a_socket_can_be_set() {
    let options = Options::default().set("SESSILE__LIMITS__SOCKET_MESSAGES_PER_MINUTE", 60_000);
    let server = options.start();
    let client = Client::new(&server);
    client.say("s", "x").await;
    let (mut socket, _) = Socket::live(&server, "s").await;
    for number in 0..200 {
        let frame = json!({ "type": "send", "clientId": number.to_string(), "role": "user", "content": "x" });
        socket.send(&frame).await;
        assert_eq!(socket.until("ack").await["clientId"], number.to_string());
    }
}
