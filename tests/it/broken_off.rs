//! Requests of clients that go wrong half-way: aborts that come early, frames that cannot be, streams whose session goes
//! away, places that are not there, repeats after the settings changed.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::Event;
use crate::support::client::contents;
use crate::support::client::messages;
use crate::support::client::session;
use crate::support::client::turns;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::server::Options;
use crate::support::socket::Socket;
use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;

const UI_SOCKET: &str = "/api/chat/ws";

fn server() -> (Server, Client) {
    let server = Server::start();
    let client = Client::new(&server);
    (server, client)
}

fn send(request: &str, chat: &str, text: &str) -> Value {
    json!({ "type": "send", "requestId": request, "id": chat, "trigger": "submit-message",
            "messages": [{ "id": format!("u-{request}"), "role": "user",
                           "parts": [{ "type": "text", "text": text }] }] })
}

/// The states of all turns of a session, as the log has them last.
async fn states(client: &Client, id: &str) -> Vec<String> {
    let mut turns: Vec<(Value, String)> = Vec::new();
    for frame in client.log(id, 0).await.iter().filter(|frame| frame["type"] == "turn") {
        let (id, state) = (&frame["turn"]["id"], frame["turn"]["state"].as_str().unwrap());
        turns.retain(|(known, _)| known != id);
        turns.push((id.clone(), state.to_owned()));
    }
    turns.into_iter().map(|(_, state)| state).collect()
}

#[tokio::test]
async fn a_message_that_comes_alone_is_new_whatever_the_protocol() {
    let (_server, client) = server();
    let alone = |text: &str| json!({ "id": "s", "message": { "role": "user", "content": text } });
    let with = |text: &str, messages: Value| {
        let mut body = alone(text);
        body["messages"] = messages;
        body
    };
    client.post("/api/chat?protocol=v4", &alone("one")).await.text(200);
    client.post("/api/chat?protocol=v4", &alone("two")).await.text(200);
    client.post("/api/chat", &with("three", json!([]))).await.text(200);
    let said = ["one", "echo: one", "two", "echo: two", "three", "echo: three"];
    assert_eq!(contents(&client.history("s").await), said);
    // With a history before it, it is behind that: the answer to it is not replaced.
    let history = json!([{ "role": "user", "content": "one" }, { "role": "assistant", "content": "echo: one" }]);
    client.post("/api/chat", &with("uno", history)).await.text(200);
    assert_eq!(contents(&client.history("s").await), ["one", "echo: one", "uno", "echo: uno"]);
}

#[tokio::test]
async fn a_repeat_hears_its_first_answer_after_the_models_have_changed() {
    let dir = tempfile::tempdir().unwrap();
    let options = |default: &str, name: &str| {
        Options::default()
            .set("SESSILE__MODELS__DEFAULT", default)
            .set(&format!("SESSILE__MODELS__COMPATIBLE__{name}__BASE_URL"), "http://127.0.0.1:9")
    };
    let ask = |model: Option<&str>| json!({ "message": { "role": "user", "content": "hi" }, "model": model });
    let ui = json!({ "id": "ui", "trigger": "submit-message", "messages": [
        { "id": "m", "role": "user", "parts": [{ "type": "text", "text": "hi" }] }] });
    let mut server = options("echo/a", "MINE").start_in(dir.path());
    let client = Client::new(&server);
    let first = client.post(&turns("default"), &ask(None)).key("k").await.expect(200);
    client.post(&turns("named"), &ask(Some("echo/x"))).key("k").await.expect(200);
    let gone = client.post(&turns("gone"), &ask(Some("mine/x"))).key("k").await.expect(200);
    client.post("/api/chat", &ui).key("k").await.text(200);
    client.post("/chat/c", &json!({ "content": "hi" })).key("k").await.text(200);
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));

    let server = options("echo/b", "OTHER").start_in(dir.path());
    let client = Client::new(&server);
    let again = client.post(&turns("default"), &ask(None)).key("k").await.expect(200);
    assert_eq!(again["message"], first["message"]);
    client.post(&turns("named"), &ask(Some("echo/x"))).key("k").await.expect(200);
    let again = client.post(&turns("gone"), &ask(Some("mine/x"))).key("k").await.expect(200);
    assert_eq!(again["turn"]["id"], gone["turn"]["id"]);
    client.post("/api/chat", &ui).key("k").await.text(200);
    client.post("/chat/c", &json!({ "content": "hi" })).key("k").await.text(200);
    for id in ["default", "named", "gone", "ui", "c"] {
        assert_eq!(client.history(id).await.len(), 2, "{id}: one question, one answer");
    }
    // Another request under the key is told so, and a new one that the model is unknown.
    let other = client.post(&turns("gone"), &ask(Some("mine/y"))).key("k").await;
    other.problem(422, "idempotency_key_reused");
    client.post(&turns("gone"), &ask(Some("mine/x"))).key("new").await.problem(400, "invalid");
}

#[tokio::test]
async fn what_was_accepted_as_deep_as_may_be_is_read_on_every_route() {
    let (_server, client) = server();
    let deep = |levels: usize| -> Value {
        let text = format!("{}{}", "{\"a\":".repeat(levels - 1) + "{}", "}".repeat(levels - 1));
        serde_json::from_str(&text).unwrap()
    };
    let body = json!({ "role": "user", "content": "x", "metadata": deep(31) });
    client.post(&messages("s"), &body).await.expect(201);
    client
        .post(&format!("{}/items", session("s")), &json!({ "items": [deep(30)] }))
        .await
        .expect(200);
    let log = client.log("s", 0).await;
    assert_eq!(log.len(), 2);
    assert_eq!(log[0]["message"]["metadata"], body["metadata"]);
    let polled = client.get(&format!("{}/events?after=0&wait=1", session("s"))).await.expect(200);
    assert_eq!(polled["events"], json!(log));
}

#[tokio::test]
async fn an_abort_stops_the_answer_whenever_it_comes() {
    let (server, client) = server();
    let mut socket = Socket::open(&server, UI_SOCKET).await;
    // At once, before anybody knows of a turn.
    socket.send(&send("r1", "early", "!slow 100000 1")).await;
    socket.send(&json!({ "type": "abort", "requestId": "r1" })).await;
    let stopped = async |id: &str, wanted: &[&str]| {
        eventually(SOON, "the turns are over", async || {
            let known = client.get(&session(id)).await.status == 200;
            (known && states(&client, id).await == wanted).then_some(())
        })
        .await;
    };
    stopped("early", &["stopped"]).await;

    // While it waits for its place: the one that runs goes on.
    let settings = json!({ "id": "queued", "settings": { "busy": "queue" } });
    client.post("/v1/sessions", &settings).await.expect(201);
    socket.send(&send("r2", "queued", "!slow 300 10")).await;
    socket.until("chunk").await;
    socket.send(&send("r3", "queued", "never asked")).await;
    eventually(SOON, "it waits", async || {
        states(&client, "queued").await.contains(&"queued".to_owned()).then_some(())
    })
    .await;
    socket.send(&json!({ "type": "abort", "requestId": "r3" })).await;
    stopped("queued", &["stopped", "completed"]).await;
}

#[tokio::test]
async fn a_frame_that_cannot_be_costs_its_own_request_alone() {
    let (server, _client) = server();
    let mut socket = Socket::open(&server, UI_SOCKET).await;
    socket.send(&send("r1", "s", "!slow 200 10")).await;
    socket.until("chunk").await;
    let bad =
        json!({ "type": "send", "requestId": "r2", "id": "z", "messages": [{ "parts": [] }] });
    socket.send(&bad).await;
    let refused = socket.until("error").await;
    assert_eq!(refused["requestId"], "r2", "{refused}");
    assert_eq!(socket.until("end").await["requestId"], "r1", "the other one goes on to its end");
    socket.send(&json!({ "type": "nothing", "requestId": "r3" })).await;
    assert_eq!(socket.rest().await.1, Some(1008), "another protocol");
}

#[tokio::test]
async fn a_socket_of_no_session_is_told_that_the_server_restarts() {
    let (mut server, _client) = server();
    let mut socket = Socket::open(&server, UI_SOCKET).await;
    server.signal("TERM");
    assert_eq!(socket.rest().await.1, Some(1012));
    assert_eq!(server.wait(), Some(0));
}

#[tokio::test]
async fn a_stream_whose_session_is_deleted_does_not_end_as_if_it_were_whole() {
    let (_server, client) = server();
    const LONG: &str = "!slow 100000 1";
    let ui = json!({ "id": "a", "trigger": "submit-message", "messages": [
        { "id": "m", "role": "user", "parts": [{ "type": "text", "text": LONG }] }] });
    let ask = json!({ "message": { "role": "user", "content": LONG } });
    for (id, path, body, sign) in [
        ("a", "/api/chat", ui, "\"type\":\"error\""),
        ("b", "/chat/b", json!({ "content": LONG }), "\"type\":\"error\""),
        ("c", "/v1/sessions/c/turns", ask, ""),
    ] {
        let request = client.post(path, &body).with("accept", "text/event-stream");
        let mut stream = request.stream().await;
        stream.next().await.expect("it has begun");
        client.delete(&session(id)).await.text(204);
        let rest = stream.rest().await;
        let said = |event: &Event| match sign {
            "" => event.name.as_deref() == Some("error"),
            sign => event.data.contains(sign),
        };
        assert!(rest.iter().any(said), "{path}: {:?}", rest.last());
    }
}

#[tokio::test]
async fn half_a_character_costs_no_text() {
    let (_server, client) = server();
    let body = r#"{"id":"s","trigger":"submit-message","messages":[{"id":"m","role":"user","parts":[{"type":"text","text":"hi \ud83d there"}]}]}"#;
    client.request("POST", "/api/chat").body("application/json", body).await.text(200);
    assert_eq!(contents(&client.history("s").await)[0], "hi \u{fffd} there");
    let items = r#"{"items":[{"role":"user","content":"a \ud800 b"}]}"#;
    client.request("POST", "/v1/sessions/i/items").body("application/json", items).await.text(200);
    assert_eq!(contents(&client.history("i").await), ["a \u{fffd} b"]);
}

#[tokio::test]
async fn settings_are_checked_as_turns_are() {
    let (_server, client) = server();
    client.say("s", "x").await;
    for settings in [
        json!({ "maxSteps": 0 }),
        json!({ "maxSteps": 4_294_967_295_u32 }),
        json!({ "tools": "nonsense" }),
        json!({ "tools": [{ "name": "a b" }] }),
    ] {
        let body = json!({ "settings": settings });
        client.patch(&session("s"), &body).await.problem(400, "invalid");
        client.post("/v1/sessions", &body).await.problem(400, "invalid");
    }
}

#[tokio::test]
async fn a_poll_waits_on_while_somebody_types() {
    let (server, client) = server();
    client.say("s", "x").await;
    let (mut socket, _) = Socket::live(&server, "s").await;
    let path = format!("{}/events?after=1&wait=20", session("s"));
    let mut poll = JoinSet::new();
    poll.spawn(client.get(&path).attempt());
    eventually(SOON, "somebody polls", async || {
        let polls = client.metric("sessile_subscribers", &["transport=\"poll\""]).await;
        (polls == Some(1.0)).then_some(())
    })
    .await;
    for _ in 0..3 {
        socket.send(&json!({ "type": "typing", "state": true })).await;
    }
    socket.ping().await;
    client.say("s", "y").await;
    let page = poll.join_next().await.unwrap().unwrap().unwrap().expect(200);
    assert_eq!(page["events"][0]["message"]["content"], "y", "{page}");
}
