//! Bytes that no client should send: frame bombs, floods, drips, deep JSON. Hostile names are in `hostile_names.rs`.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::messages;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::within;
use crate::support::server::Options;
use crate::support::socket::Raw;
use crate::support::socket::Socket;
use crate::support::socket::close_code;
use crate::support::socket::frame_head;
use crate::support::socket::server_frames;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::strategy::Strategy;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::interval;
use tokio::time::timeout;

/// What the memory of the server may grow by under an attack.
const GROWTH_KIB: u64 = 8 * 1_024;

const SOCKET: &str = "/v1/sessions/s/websocket";

/// A server that has served some requests already, so that what grows later grows for a reason.
async fn warm_server(options: Options) -> (Server, Client) {
    let server = options.start();
    let client = Client::new(&server);
    for _ in 0..50 {
        client.say("s", &"x".repeat(10_000)).await;
        Socket::live(&server, "s").await;
    }
    // Each worker keeps the buffers that its first large body took, and then no more.
    for _ in 0..16 {
        let request = client.request("POST", &messages("s"));
        request.body("application/json", "x".repeat(2 << 20)).await;
    }
    client.history("s").await;
    (server, client)
}

/// Fails unless the server is well and has not grown by more than [`GROWTH_KIB`].
#[track_caller]
fn check_flat(server: &Server, before: u64) {
    let grown = server.rss_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB, "memory grew by {grown} KiB");
}

#[tokio::test]
async fn an_announced_gigabyte_is_refused_at_once() {
    let (server, client) = warm_server(Options::default()).await;
    let before = server.rss_kib();
    for path in [SOCKET, "/chat/s/websocket", "/api/chat/ws"] {
        let mut raw = Raw::upgrade(&server, path, None).await;
        raw.stream.write_all(&frame_head(true, 1, 1 << 30)).await.unwrap();
        let answer = read_until_close(&mut raw).await;
        assert_eq!(close_code(&server_frames(&answer)), Some(4009), "{path}: before it has come");
        push(&mut raw, &server, before).await;
    }
    check_flat(&server, before);
    client.say("s", "still well").await;
}

#[tokio::test]
async fn a_gigabyte_that_is_pushed_blindly_costs_no_memory() {
    let (server, client) = warm_server(Options::default()).await;
    let before = server.rss_kib();
    for path in [SOCKET, "/chat/s/websocket"] {
        for opcode in [1, 2, 0, 9] {
            let mut raw = Raw::upgrade(&server, path, None).await;
            raw.stream.write_all(&frame_head(true, opcode, 1 << 30)).await.unwrap();
            push(&mut raw, &server, before).await;
        }
        let mut raw = Raw::upgrade(&server, path, None).await;
        raw.stream.write_all(&frame_head(true, 1, u64::MAX)).await.unwrap();
        push(&mut raw, &server, before).await;
    }
    client.say("s", "still well").await;
}

/// Pushes 64 MiB, or as much as the server takes, while its memory is watched.
async fn push(raw: &mut Raw, server: &Server, before: u64) {
    let block = vec![b'x'; 1_048_576];
    for _ in 0..64 {
        // Refused, or not read any more: both are fine.
        let pushed = timeout(Duration::from_secs(1), raw.stream.write_all(&block)).await;
        check_flat(server, before);
        if !matches!(pushed, Ok(Ok(()))) {
            return;
        }
    }
}

/// Reads until there is a close frame or the end.
async fn read_until_close(raw: &mut Raw) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4_096];
    loop {
        match within(SOON, "a close frame", raw.stream.read(&mut chunk)).await {
            Ok(0) | Err(_) => return bytes,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
        if close_code(&server_frames(&bytes)).is_some() {
            return bytes;
        }
    }
}

#[tokio::test]
async fn three_hundred_thousand_empty_fragments_end_the_socket() {
    let (server, client) = warm_server(Options::default()).await;
    let before = server.rss_kib();
    for path in [SOCKET, "/chat/s/websocket"] {
        let raw = Raw::upgrade(&server, path, None).await;
        let (mut reader, mut writer) = raw.stream.into_split();
        let mut flood = frame_head(false, 1, 0);
        for _ in 1..300_000 {
            flood.extend_from_slice(&frame_head(false, 0, 0));
        }
        let (_, answer) = tokio::join!(writer.write_all(&flood), async {
            let mut answer = Vec::new();
            // An error is an end too, and what came before it stays in `answer`.
            within(SOON, "the end", reader.read_to_end(&mut answer)).await.ok();
            answer
        });
        let code = close_code(&server_frames(&answer));
        assert!([None, Some(4009), Some(1008), Some(1002)].contains(&code), "{code:?}");
        check_flat(&server, before);
    }
    client.say("s", "still well").await;
}

#[tokio::test]
async fn a_flood_of_pings_costs_no_memory() {
    let (server, client) = warm_server(Options::default()).await;
    let before = server.rss_kib();
    let mut raw = Raw::upgrade(&server, SOCKET, Some(4_096)).await;
    let mut block = Vec::new();
    for _ in 0..1_000 {
        block.extend_from_slice(&frame_head(true, 9, 100));
        block.extend_from_slice(&[b'p'; 100]);
    }
    for _ in 0..200 {
        // The pongs are never read: the server stops reading, or ends it.
        let pushed = timeout(Duration::from_secs(2), raw.stream.write_all(&block)).await;
        check_flat(&server, before);
        if !matches!(pushed, Ok(Ok(()))) {
            break;
        }
    }
    client.say("s", "still well").await;
}

#[tokio::test]
async fn random_bytes_on_a_socket_hurt_only_that_socket() {
    let (server, client) = warm_server(Options::default()).await;
    let (mut witness, _) = Socket::live(&server, "s").await;
    let mut runner = TestRunner::deterministic();
    for round in 0..200 {
        let path = if round % 2 == 0 { SOCKET } else { "/chat/s/websocket" };
        let mut raw = Raw::upgrade(&server, path, None).await;
        let noise = vec(any::<u8>(), 1..2_000).new_tree(&mut runner).unwrap().current();
        raw.offer(&noise).await;
        raw.finish().await;
        raw.drain().await;
    }
    assert!(witness.ping().await.is_empty(), "nothing of it became an event");
    client.say("s", "still well").await;
}

/// Sends the head of a request and then its body, a byte per tick; gives the status and how long it took.
async fn drip(server: &Server, path: &str, every: Duration, count: usize) -> (u16, Duration) {
    let mut raw = Raw::connect(server).await;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {count}\r\n\r\n"
    );
    raw.stream.write_all(head.as_bytes()).await.unwrap();
    let begun = Instant::now();
    let (mut reader, mut writer) = raw.stream.into_split();
    let mut pace = interval(every);
    let mut answer = Vec::new();
    let exchange = async {
        loop {
            tokio::select! {
                read = reader.read_buf(&mut answer) => {
                    if matches!(read, Ok(0) | Err(_)) || answer.ends_with(b"}") {
                        break;
                    }
                }
                // After the answer nobody reads it.
                _ = pace.tick() => { writer.write_all(b" ").await.ok(); }
            }
        }
    };
    within(2 * SOON, "an answer", exchange).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    (status, begun.elapsed())
}

#[tokio::test]
async fn a_body_that_drips_is_cut() {
    let options = Options::default()
        .set("SESSILE__LIMITS__BODY_IDLE_MS", 1_000)
        .set("SESSILE__LIMITS__BODY_TOTAL_MS", 2_000);
    let (server, client) = warm_server(options).await;
    for path in ["/v1/sessions/s/messages", "/chat/s", "/v1/sessions"] {
        let (status, took) = drip(&server, path, Duration::from_millis(100), 100_000).await;
        assert_eq!(status, 408, "{path}");
        assert!(took < Duration::from_secs(7), "{path}: {took:?}");
        assert!(took > Duration::from_millis(1_500), "a drip is not idle: {path}: {took:?}");
    }
    assert_eq!(client.history("s").await.len(), 50);
}

#[tokio::test]
async fn a_body_that_never_comes_is_cut() {
    let options = Options::default()
        .set("SESSILE__LIMITS__BODY_IDLE_MS", 500)
        .set("SESSILE__LIMITS__BODY_TOTAL_MS", 20_000);
    let (server, _client) = warm_server(options).await;
    for path in ["/v1/sessions/s/messages", "/chat/s"] {
        let (status, took) = drip(&server, path, Duration::from_secs(60), 100_000).await;
        assert_eq!(status, 408, "{path}");
        assert!(took < Duration::from_secs(5), "{path}: {took:?}");
    }
}

#[tokio::test]
async fn a_slow_body_within_the_deadlines_is_served() {
    let options = Options::default()
        .set("SESSILE__LIMITS__BODY_IDLE_MS", 2_000)
        .set("SESSILE__LIMITS__BODY_TOTAL_MS", 20_000);
    let (server, _client) = warm_server(options).await;
    // A body of blanks is no JSON, but it was waited for.
    let (status, took) = drip(&server, "/v1/sessions", Duration::from_millis(100), 10).await;
    assert_eq!(status, 400);
    assert!(took > Duration::from_millis(800), "{took:?}");
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut() {
    let (server, client) = warm_server(Options::default()).await;
    let mut raw = Raw::connect(&server).await;
    raw.stream.write_all(b"GET /livez HTTP/1.1\r\nhost: local").await.unwrap();
    let (status, answer) = raw.answer().await;
    assert!([0, 408].contains(&status), "{answer}");
    client.say("s", "still well").await;
}

#[tokio::test]
async fn json_nested_ten_thousand_deep_is_refused() {
    let (server, client) = warm_server(Options::default()).await;
    let before = server.rss_kib();
    let (mut socket, _) = Socket::live(&server, "s").await;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        let bodies = [
            deep.clone(),
            format!(r#"{{"role":"user","content":"x","metadata":{{"a":{deep}}}}}"#),
            format!(r#"{{"role":"user","content":"x","parts":[{{"type":"x","y":{deep}}}]}}"#),
            format!(r#"{{"role":"user","content":{deep}}}"#),
            format!(r#"{{"unknown":{deep}}}"#),
        ];
        for body in bodies {
            let request = client.request("POST", &messages("s"));
            request.body("application/json", body.clone()).await.problem(400, "invalid");
            let request = client.request("POST", "/chat/s").body("application/json", body);
            request.await.expect(400);
        }
        let frame = format!(
            r#"{{"type":"send","clientId":"c","role":"user","content":"x","metadata":{deep}}}"#
        );
        socket.send_text(&frame).await;
        assert_eq!(socket.until("error").await["error"]["code"], "invalid");
        let body = json!({ "role": "user", "content": "x", "parts": deep });
        client.post("/chat/s/messages", &body).await.expect(400);
    }
    check_flat(&server, before);
    assert_eq!(client.history("s").await.len(), 50);
}

#[tokio::test]
async fn an_encoded_body_is_not_unpacked() {
    let (_server, client) = warm_server(Options::default()).await;
    for encoding in ["gzip", "br", "zstd", "deflate", "gzip, gzip", "x-unknown"] {
        let body: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03";
        let request = client.request("POST", &messages("s")).body("application/json", body);
        let reply = request.with("content-encoding", encoding).await;
        assert!([400, 415].contains(&reply.status), "{encoding}: {reply:?}");
    }
}

#[tokio::test]
async fn an_ambiguous_request_smuggles_nothing() {
    let (server, client) = warm_server(Options::default()).await;
    let inner_body = r#"{"role":"user","content":"smuggled"}"#;
    let inner = format!(
        "POST /v1/sessions/smuggled/messages HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{inner_body}",
        inner_body.len()
    );
    let length = inner.len();
    let heads = [
        format!("content-length: 0\r\ncontent-length: {length}\r\n"),
        format!("content-length: {length}\r\ncontent-length: 0\r\n"),
        format!("content-length: 0, {length}\r\n"),
        format!("content-length: +{length}\r\n"),
        "content-length: -1\r\n".to_owned(),
        "content-length: 99999999999999999999\r\n".to_owned(),
        "content-length: 0x0\r\n".to_owned(),
        format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n".to_owned(),
        "transfer-encoding: xchunked\r\n".to_owned(),
        "transfer-encoding : chunked\r\n".to_owned(),
        "transfer-encoding: chunked, gzip\r\n".to_owned(),
        "transfer-encoding:\u{b}chunked\r\n".to_owned(),
        " content-length: 0\r\n".to_owned(),
    ];
    for head in heads {
        let request = format!(
            "POST /v1/sessions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-type: application/json\r\n{head}\r\n{inner}"
        );
        let mut raw = Raw::connect(&server).await;
        raw.offer(request.as_bytes()).await;
        raw.finish().await;
        let (status, answer) = raw.answer().await;
        assert!(status < 500 && answer.matches("HTTP/1.1 ").count() <= 1, "{head:?}: {answer}");
        client.get(&session("smuggled")).await.problem(404, "session_not_found");
    }
}

#[tokio::test]
async fn readers_who_take_nothing_of_a_large_page_cost_next_to_nothing() {
    let (server, client) = warm_server(Options::default()).await;
    let part = json!({ "type": "text", "content": "x".repeat(250_000) });
    let body = json!({ "role": "user", "content": "x", "parts": [part, part, part, part] });
    for _ in 0..8 {
        client.post(&messages("large"), &body).await.expect(201);
    }
    let path = format!("{}?limit=200", messages("large"));
    assert!(client.get(&path).await.body.len() > 7_000_000);
    let before = server.rss_kib();
    let address = server.base.strip_prefix("http://").unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut readers = Vec::new();
    for _ in 0..40 {
        let mut reader = TcpStream::connect(address).await.unwrap();
        reader.write_all(request.as_bytes()).await.unwrap();
        // It has begun: what it can be given is on its way.
        reader.read_u8().await.unwrap();
        readers.push(reader);
    }
    check_flat(&server, before);
    client.say("s", "still well").await;
    // Those who do read get all of it.
    let mut reader = readers.pop().unwrap();
    let mut rest = Vec::new();
    while rest.len() < 8_000_000 {
        assert_ne!(within(SOON, "the rest", reader.read_buf(&mut rest)).await.unwrap(), 0);
    }
}
