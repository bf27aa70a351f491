//! The native WebSocket: its first frame, resuming, sending, errors that keep it open, ways it ends.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::check_problem;
use crate::support::client::contents;
use crate::support::client::messages;
use crate::support::client::seq;
use crate::support::client::session;
use crate::support::socket::Heard;
use crate::support::socket::Socket;
use serde_json::Value;
use serde_json::json;

fn server() -> (Server, Client) {
    let server = Server::start();
    let client = Client::new(&server);
    (server, client)
}

fn send(client_id: &str, content: &str) -> Value {
    json!({ "type": "send", "clientId": client_id, "role": "user", "content": content })
}

#[tokio::test]
async fn the_first_frame_says_where_the_session_is() {
    let (server, client) = server();
    for _ in 0..3 {
        client.say("s", "x").await;
    }
    let (_socket, ready) = Socket::live(&server, "s").await;
    assert_eq!((&ready["sessionId"], &ready["lastSeq"]), (&json!("s"), &json!(3)));
    assert_eq!(ready["after"], 3, "without `after` it starts live");
    assert!(!ready["epoch"].is_null(), "{ready}");
    assert!(ready.get("seq").is_none(), "not part of the log: {ready}");
}

#[tokio::test]
async fn without_after_the_stream_starts_live() {
    let (server, client) = server();
    client.say("s", "old").await;
    let (mut socket, _) = Socket::live(&server, "s").await;
    assert!(socket.ping().await.is_empty());
    client.say("s", "new").await;
    let frame = socket.frame().await;
    assert_eq!((seq(&frame), &frame["message"]["content"]), (2, &json!("new")));
}

#[tokio::test]
async fn with_after_the_stream_continues_from_there() {
    let (server, client) = server();
    for number in 0..20 {
        client.say("s", &number.to_string()).await;
    }
    let log = client.log("s", 0).await;
    for after in [0, 1, 7, 19, 20] {
        let (mut socket, ready) = Socket::after(&server, "s", after).await;
        assert_eq!(ready["after"], after);
        for expected in &log[usize::try_from(after).unwrap()..] {
            assert_eq!(&socket.frame().await, expected, "the same frame as in the log");
        }
        assert!(socket.ping().await.is_empty(), "and nothing twice");
    }
}

#[tokio::test]
async fn a_seq_from_the_future_gets_a_reset() {
    let (server, client) = server();
    client.say("s", "x").await;
    let (mut socket, _) = Socket::after(&server, "s", 1000).await;
    let reset = socket.frame().await;
    assert_eq!((&reset["type"], &reset["seq"]), (&json!("reset"), &json!(1)));
    assert!(reset["reason"].is_string(), "{reset}");
    let snapshot = &reset["snapshot"];
    assert_eq!(snapshot["session"]["id"], "s");
    assert_eq!(contents(snapshot["messages"].as_array().unwrap()), ["x"]);
    client.say("s", "y").await;
    assert_eq!(seq(&socket.frame().await), 2, "contiguous from there");
}

#[tokio::test]
async fn a_bad_after_is_refused_before_the_upgrade() {
    let (server, client) = server();
    client.say("s", "x").await;
    for after in ["-1", "x", "1.5", "99999999999999999999", "%00"] {
        let path = format!("/v1/sessions/s/websocket?after={after}");
        let refused = Socket::try_open(&server, &path, &[]).await.err();
        assert_eq!(refused.unwrap().status, 400, "{after}");
    }
}

#[tokio::test]
async fn the_offered_sub_protocol_is_taken() {
    let (server, client) = server();
    client.say("s", "x").await;
    let path = "/v1/sessions/s/websocket";
    let offer = |value| [("sec-websocket-protocol", value)];
    let socket = Socket::try_open(&server, path, &offer("other, sessile.v1")).await.unwrap();
    assert_eq!(socket.protocol.as_deref(), Some("sessile.v1"));
    assert_eq!(Socket::open(&server, path).await.protocol, None);
}

#[tokio::test]
async fn a_request_without_upgrade_headers_is_told_so() {
    let (_server, client) = server();
    client.say("s", "x").await;
    client.get("/v1/sessions/s/websocket").await.problem(426, "upgrade_required");
}

#[tokio::test]
async fn a_sent_message_is_stored_broadcast_and_acknowledged() {
    let (server, client) = server();
    client.say("s", "first").await;
    let (mut sender, _) = Socket::live(&server, "s").await;
    let (mut other, _) = Socket::live(&server, "s").await;
    let mut frame = send("c1", "hello");
    frame["parts"] = json!([{ "type": "text", "content": "p" }]);
    frame["metadata"] = json!({ "m": 1 });
    sender.send(&frame).await;

    let (mut heard, mut ack) = (Value::Null, Value::Null);
    while heard.is_null() || ack.is_null() {
        let frame = sender.frame().await;
        match frame["type"].as_str().unwrap() {
            "message" => heard = frame,
            "ack" => ack = frame,
            _ => panic!("unexpected: {frame}"),
        }
    }
    assert_eq!((&ack["clientId"], seq(&ack)), (&json!("c1"), 2));
    assert_eq!((&ack["result"], seq(&heard)), (&heard["message"], 2));
    assert_eq!(other.frame().await, heard, "the same frame for everyone");
    assert!(other.ping().await.is_empty(), "the ack is for the sender alone");
    let stored = client.history("s").await;
    assert_eq!(stored[1], ack["result"]);
    assert_eq!(
        (&stored[1]["metadata"], &stored[1]["parts"]),
        (&frame["metadata"], &frame["parts"])
    );
}

#[tokio::test]
async fn a_repeated_client_id_gets_the_same_ack_and_no_second_message() {
    let (server, client) = server();
    client.say("s", "first").await;
    let (mut socket, _) = Socket::live(&server, "s").await;
    socket.send(&send("c1", "hello")).await;
    let first = socket.until("ack").await;
    socket.send(&send("c1", "hello")).await;
    let again = socket.until("ack").await;
    assert_eq!((&again["result"], seq(&again)), (&first["result"], seq(&first)));

    drop(socket);
    let (mut socket, _) = Socket::live(&server, "s").await;
    socket.send(&send("c1", "hello")).await;
    assert_eq!(socket.until("ack").await["result"], first["result"], "after a reconnect too");
    socket.send(&send("c1", "other")).await;
    let error = socket.until("error").await;
    assert_eq!(error["clientId"], "c1");
    assert_eq!(error["error"]["code"], "idempotency_key_reused", "{error}");
    assert_eq!(client.history("s").await.len(), 2);
}

#[tokio::test]
async fn a_client_id_is_the_idempotency_key_of_http() {
    let (server, client) = server();
    let body = json!({ "role": "user", "content": "hello" });
    let stored = client.post(&messages("s"), &body).key("k").await.expect(201);
    let (mut socket, _) = Socket::live(&server, "s").await;
    socket.send(&send("k", "hello")).await;
    assert_eq!(socket.until("ack").await["result"], stored);
    assert_eq!(client.history("s").await.len(), 1);
}

#[tokio::test]
async fn parts_can_be_replaced_over_the_socket() {
    let (server, client) = server();
    let stored = client.say("s", "x").await;
    let (mut socket, _) = Socket::live(&server, "s").await;
    let parts = json!([{ "type": "text", "content": "p", "state": "complete" }]);
    let frame =
        json!({ "type": "parts", "clientId": "c1", "messageId": stored["id"], "parts": parts });
    socket.send(&frame).await;
    let ack = socket.until("ack").await;
    assert_eq!((&ack["clientId"], &ack["result"]["parts"]), (&json!("c1"), &parts));

    for (frame, code) in [
        (json!({ "messageId": "none", "parts": parts }), "message_not_found"),
        (
            json!({ "messageId": stored["id"], "parts": [], "ifVersion": stored["version"] }),
            "version_conflict",
        ),
    ] {
        let mut frame = frame;
        frame["type"] = json!("parts");
        frame["clientId"] = json!(code);
        socket.send(&frame).await;
        let error = socket.until("error").await;
        assert_eq!((&error["clientId"], &error["error"]["code"]), (&json!(code), &json!(code)));
    }
    assert_eq!(client.history("s").await[0]["parts"], parts);
}

#[tokio::test]
async fn a_bad_frame_gets_an_error_and_the_socket_stays_open() {
    let (server, client) = server();
    client.say("s", "x").await;
    let (mut socket, _) = Socket::live(&server, "s").await;
    let bad = [
        ("", None),
        ("{", None),
        ("null", None),
        ("[]", None),
        (r#"{"type":"nothing"}"#, None),
        (r#"{"type":"send","role":"user","content":"no clientId"}"#, None),
        (r#"{"type":"send","clientId":"a","role":"user"}"#, Some("a")),
        (r#"{"type":"send","clientId":"b","role":"tool","content":"x"}"#, Some("b")),
        (r#"{"type":"send","clientId":"c","role":"user","content":"x","colour":1}"#, Some("c")),
        (r#"{"type":"send","clientId":"","role":"user","content":"x"}"#, None),
        (r#"{"clientId":"d","role":"user","content":"x"}"#, None),
    ];
    for (text, client_id) in bad {
        socket.send_text(text).await;
        let error = socket.frame().await;
        assert_eq!(error["type"], "error", "{text}: {error}");
        check_problem(&error["error"]);
        assert_eq!(error["error"]["code"], "invalid", "{text}: {error}");
        if client_id.is_some() {
            assert_eq!(error["clientId"].as_str(), client_id, "{text}");
        }
    }
    assert!(socket.ping().await.is_empty());
    assert_eq!(client.history("s").await.len(), 1);
}

#[tokio::test]
async fn a_binary_frame_is_refused_without_harm() {
    let (server, client) = server();
    client.say("s", "x").await;
    let (mut socket, _) = Socket::live(&server, "s").await;
    socket.send_binary(send("c", "binary").to_string().into_bytes()).await;
    match socket.hear().await {
        Heard::Frame(frame) => assert_eq!(frame["type"], "error", "{frame}"),
        Heard::Closed(code) => assert_eq!(code, Some(1003)),
    }
    assert_eq!(client.history("s").await.len(), 1);
}

#[tokio::test]
async fn typing_is_told_to_the_others_and_not_stored() {
    let (server, client) = server();
    client.say("s", "x").await;
    let (mut typist, ready) = Socket::live(&server, "s").await;
    let (mut other, _) = Socket::live(&server, "s").await;
    typist.send(&json!({ "type": "typing", "state": true })).await;
    let frame = other.until("typing").await;
    assert!(frame.get("seq").is_none(), "{frame}");
    typist.ping().await;
    assert_eq!(client.get(&session("s")).await.expect(200)["lastSeq"], ready["lastSeq"]);
}

#[tokio::test]
async fn only_the_deleted_sessions_sockets_are_closed() {
    let (server, client) = server();
    client.say("s", "x").await;
    client.say("other", "x").await;
    let (mut first, _) = Socket::live(&server, "s").await;
    let (mut second, _) = Socket::live(&server, "s").await;
    let (mut other, _) = Socket::live(&server, "other").await;
    client.delete(&session("s")).await;
    for socket in [&mut first, &mut second] {
        assert_eq!(socket.rest().await.1, Some(4404));
    }
    assert!(other.ping().await.is_empty());
}

#[tokio::test]
async fn a_page_from_another_origin_is_refused() {
    let (server, client) = server();
    client.say("s", "x").await;
    let path = "/v1/sessions/s/websocket";
    let evil = [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "http://evil.example/localhost",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1@evil.example",
        "http://evil.example:80",
        "http://192.168.0.1",
        "file://",
        "localhost",
        "http://",
    ];
    for origin in evil {
        let refused = Socket::try_open(&server, path, &[("origin", origin)]).await.err();
        assert_eq!(refused.map(|refused| refused.status), Some(403), "{origin}");
        let refused = Socket::try_open(&server, "/chat/s/websocket", &[("origin", origin)]).await;
        assert_eq!(refused.err().map(|refused| refused.status), Some(403), "{origin}");
        let body = json!({ "role": "user", "content": "forged" });
        let reply = client.post(&messages("s"), &body).with("origin", origin).await;
        reply.problem(403, "forbidden_origin");
    }
    for origin in
        ["http://localhost", "http://localhost:5173", "http://127.0.0.1:8080", "http://[::1]:3000"]
    {
        Socket::try_open(&server, path, &[("origin", origin)]).await.unwrap();
        client.get(&messages("s")).with("origin", origin).await.expect(200);
    }
    assert_eq!(client.history("s").await.len(), 1);
}
