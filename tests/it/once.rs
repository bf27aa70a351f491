//! One idempotency key, on every route that writes: one effect, one call of the model, one answer, however often it is sent.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::Reply;
use crate::support::client::messages;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::server::Options;
use crate::support::socket::Heard;
use crate::support::socket::Socket;
use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;

fn options() -> Options {
    Options::default()
        .set("SESSILE__STORAGE__DELTAS_KEPT_MS", 0)
        .set("SESSILE__STORAGE__COMMIT_DELAY_MS", 20)
}

/// A request to a session: what is there before, and what is sent.
struct Case {
    path: String,
    body: Value,
    /// Another body that the same key must not take; `None` where there is nothing to say.
    other: Option<Value>,
    /// The session that it is about; `None`: one that it makes.
    session: Option<String>,
}

fn said(text: &str) -> Value {
    let part = json!({ "type": "text", "text": text });
    json!({ "id": "u1", "role": "user", "parts": [part] })
}

fn ui(id: Option<&str>, text: &str) -> Value {
    let mut body = json!({ "trigger": "submit-message", "messages": [said(text)] });
    if let Some(id) = id {
        body["id"] = json!(id);
    }
    body
}

fn item(text: &str) -> Value {
    json!({ "id": format!("item-{text}"), "type": "message", "role": "user", "content": text })
}

/// Starts an answer in session `id` that does not end by itself.
async fn speaking(client: &Client, id: &str) {
    let body = json!({ "message": { "role": "user", "content": "!slow 100000 5" } });
    let path = format!("{}/turns", session(id));
    client.post(&path, &body).with("prefer", "respond-async").await.expect(202);
}

/// Makes session `id` ready for `method` on the route `pattern`, and what is sent there.
#[expect(clippy::too_many_lines, reason = "an arm for each route")]
async fn prepare(client: &Client, method: &str, pattern: &str, id: &str) -> Case {
    let of = |path: String, body: Value, other: Option<Value>| Case {
        path,
        body,
        other,
        session: Some(id.to_owned()),
    };
    let making = |path: &str, body: Value, other: Value| Case {
        path: path.to_owned(),
        body,
        other: Some(other),
        session: None,
    };
    let native = session(id);
    let in_place = pattern.replace("{}", id);
    match (method, pattern) {
        ("post", "/v1/sessions") => {
            making(pattern, json!({ "title": "t" }), json!({ "title": "u" }))
        }
        ("patch", "/v1/sessions/{}") => {
            client.say(id, "x").await;
            of(native, json!({ "title": "new" }), Some(json!({ "title": "other" })))
        }
        ("delete", "/v1/sessions/{}") => {
            client.say(id, "x").await;
            of(native, json!({}), None)
        }
        ("post", "/v1/sessions/{}/messages") => {
            let body = |text: &str| json!({ "role": "user", "content": text });
            of(messages(id), body("x"), Some(body("y")))
        }
        ("put", "/v1/sessions/{}/messages/{}/parts") => {
            let message = client.say(id, "x").await;
            let path = format!("{}/{}/parts", messages(id), message["id"].as_str().unwrap());
            let body = |text: &str| json!({ "parts": [{ "type": "text", "content": text }] });
            of(path, body("p"), Some(body("q")))
        }
        ("delete", "/v1/sessions/{}/messages/{}") => {
            let message = client.say(id, "x").await;
            let path = format!("{}/{}", messages(id), message["id"].as_str().unwrap());
            of(path, json!({}), None)
        }
        ("post", "/v1/sessions/{}/turns") => {
            let body = |text: &str| json!({ "message": { "role": "user", "content": text } });
            of(format!("{native}/turns"), body("one two three"), Some(body("four")))
        }
        ("post", "/v1/sessions/{}/stop") => {
            speaking(client, id).await;
            of(format!("{native}/stop"), json!({}), None)
        }
        ("post", "/v1/sessions/{}/approvals/{}") => {
            let body = json!({ "message": { "role": "user", "content": "!approve rm {}" } });
            let answer = client.post(&format!("{native}/turns"), &body).await.expect(200);
            let approval = answer["message"]["parts"][1]["approval"]["id"].as_str().unwrap();
            let path = format!("{native}/approvals/{approval}");
            of(path, json!({ "approved": true }), Some(json!({ "approved": false })))
        }
        ("post" | "put", "/v1/sessions/{}/items") => {
            client.post(&in_place, &json!({ "items": [item("a"), item("b")] })).await.expect(200);
            let (body, other) = (json!({ "items": [item("c")] }), json!({ "items": [item("d")] }));
            of(in_place, body, Some(other))
        }
        ("delete", "/v1/sessions/{}/items") | ("post", "/v1/sessions/{}/items/pop") => {
            let items = json!({ "items": [item("a"), item("b")] });
            client.post(&format!("{native}/items"), &items).await.expect(200);
            of(in_place, json!({}), None)
        }
        ("post", "/v1/sessions/{}/items/transactions") => {
            let body = |text: &str| {
                let transaction = json!({ "type": "append_items", "items": [item(text)] });
                json!({ "operationId": "op", "transaction": transaction })
            };
            of(in_place, body("a"), Some(body("b")))
        }
        ("post", "/v1/conversations") => {
            making(pattern, json!({ "items": [item("a")] }), json!({ "items": [item("b")] }))
        }
        ("post", "/v1/conversations/{}") => {
            client.say(id, "x").await;
            let body = |text: &str| json!({ "metadata": { "k": text } });
            of(in_place, body("v"), Some(body("w")))
        }
        ("delete", "/v1/conversations/{}") => {
            client.say(id, "x").await;
            of(in_place, json!({}), None)
        }
        ("post", "/v1/conversations/{}/items") => {
            client.say(id, "x").await;
            of(in_place, json!({ "items": [item("a")] }), Some(json!({ "items": [item("b")] })))
        }
        ("delete", "/v1/conversations/{}/items/{}") => {
            let path = format!("/v1/conversations/{id}/items");
            client.say(id, "x").await;
            client.post(&path, &json!({ "items": [item("a"), item("b")] })).await.expect(200);
            of(format!("{path}/item-a"), json!({}), None)
        }
        ("post", "/chat/{}") => {
            of(in_place, json!({ "content": "one two" }), Some(json!({ "content": "three" })))
        }
        ("post", "/chat/{}/messages") => {
            let body = |text: &str| json!({ "role": "user", "content": text });
            of(in_place, body("x"), Some(body("y")))
        }
        ("post", "/api/chat" | "/api/builder/chat") => {
            of(in_place, ui(Some(id), "one two three"), Some(ui(Some(id), "four")))
        }
        ("post", "/api/chat/{}/stop" | "/api/builder/chat/{}/stop") => {
            speaking(client, id).await;
            of(in_place, json!({}), None)
        }
        ("post", "/api/completion") => {
            making(pattern, json!({ "prompt": "one two" }), json!({ "prompt": "three" }))
        }
        _ => panic!("{method} {pattern} writes: say here how it is sent twice"),
    }
}

/// `/a/{name}/b` as `/a/{}/b`.
fn without_names(path: &str) -> String {
    let piece =
        |piece: &str| if piece.starts_with('{') { "{}".to_owned() } else { piece.to_owned() };
    path.split('/').map(piece).collect::<Vec<_>>().join("/")
}

/// Every route of the router that writes.
fn writing() -> Vec<(String, String)> {
    let writes = |method: &str| !["GET", "HEAD", "OPTIONS"].contains(&method);
    let all = sessile::http::endpoints().into_iter().filter(|(method, _)| writes(method));
    all.map(|(method, path)| (method.to_lowercase(), without_names(path))).collect()
}

/// What an answer says: text that is streamed as one, whatever its pieces.
fn gist(reply: &Reply) -> Value {
    let kind = reply.header("content-type").unwrap_or_default();
    if !kind.starts_with("text/event-stream") {
        return serde_json::from_str(&reply.body).unwrap_or_else(|_| json!(reply.body));
    }
    let (mut text, mut rest) = (String::new(), Vec::new());
    for line in reply.body.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let chunk: Value = serde_json::from_str(line).unwrap_or_else(|_| json!({ "line": line }));
        match chunk["type"].as_str() {
            Some("text-delta") => text.push_str(chunk["delta"].as_str().unwrap()),
            Some("delta") => text.push_str(chunk["content"].as_str().unwrap()),
            _ => rest.push(chunk),
        }
    }
    json!({ "text": text, "rest": rest })
}

/// What became of a session: how often its model was asked, and how much is in it.
async fn effect(client: &Client, id: &str) -> Value {
    let state = client.get(&session(id)).await;
    if state.status != 200 {
        return json!(state.status);
    }
    let log = client.log(id, 0).await;
    let count = |kind: &str| log.iter().filter(|frame| frame["type"] == kind).count();
    let begun = log.iter().filter(|frame| frame["turn"]["state"] == "running").count();
    let state = state.json();
    json!({
        "messages": state["messageCount"], "items": state["itemCount"], "turns": begun,
        "changes": [count("session"), count("message"), count("items"), count("message-deleted")],
    })
}

async fn sessions(client: &Client) -> i64 {
    let page = client.get("/v1/sessions?limit=200").await.expect(200);
    i64::try_from(page["items"].as_array().unwrap().len()).unwrap()
}

/// Waits until nothing of session `id` is left as it grew.
async fn settled(client: &Client, id: &str) {
    eventually(SOON, "the session rests", async || {
        if client.get(&session(id)).await.status != 200 {
            return Some(());
        }
        let log = client.log(id, 0).await;
        let grows = log.iter().any(|frame| frame["type"] == "part-delta");
        let state = client.get(&session(id)).await.json();
        (!grows && state.get("activeTurn").is_none()).then_some(())
    })
    .await;
}

struct Kept {
    method: String,
    pattern: String,
    case: Case,
    status: u16,
    gist: Value,
    effect: Value,
}

#[tokio::test]
async fn a_key_has_one_effect_and_one_answer_on_every_route_that_writes() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = options().start_in(dir.path());
    let client = Client::new(&server);
    let send = |client: &Client, method: &str, case: &Case| {
        let request = client.request(&method.to_uppercase(), &case.path).key("key");
        request.body("application/json", case.body.to_string())
    };
    let mut kept = Vec::new();
    for (at, (method, pattern)) in writing().into_iter().enumerate() {
        let context = format!("{method} {pattern}");
        // Once, without a key, to see what it does; then five times at once with one.
        let alone = prepare(&client, &method, &pattern, &format!("alone-{at}")).await;
        let made = sessions(&client).await;
        let once = client.request(&method.to_uppercase(), &alone.path);
        let once = once.body("application/json", alone.body.to_string()).await;
        assert!(once.status < 300, "{context}: {once:?}");
        let made = sessions(&client).await - made;
        let case = prepare(&client, &method, &pattern, &format!("many-{at}")).await;
        let before = sessions(&client).await;
        let mut five = JoinSet::new();
        for _ in 0..5 {
            five.spawn(send(&client, &method, &case).into_future());
        }
        let replies = five.join_all().await;
        for reply in &replies {
            assert_eq!(reply.status, once.status, "{context}: {reply:?}");
            assert_eq!(gist(reply), gist(&replies[0]), "{context}");
        }
        let first = replies.iter().filter(|r| r.header("idempotent-replayed").is_none()).count();
        assert_eq!(first, 1, "{context}: one of them did it: {replies:?}");
        assert_eq!(sessions(&client).await - before, made, "{context}: as many sessions as alone");
        let mut result = Value::Null;
        if let (Some(id), Some(alone)) = (&case.session, &alone.session) {
            settled(&client, id).await;
            settled(&client, alone).await;
            result = effect(&client, id).await;
            assert_eq!(result, effect(&client, alone).await, "{context}: as much as alone");
        }
        let (status, gist) = (once.status, gist(&replies[0]));
        kept.push(Kept { method, pattern, case, status, gist, effect: result });
    }
    for round in ["later", "after a crash", "after a stop"] {
        if round != "later" {
            server.signal(if round == "after a crash" { "KILL" } else { "TERM" });
            server.wait();
            server = options().start_in(dir.path());
        }
        let client = Client::new(&server);
        let before = sessions(&client).await;
        for Kept { method, pattern, case, status, gist: first, effect: result } in &kept {
            let context = format!("{method} {pattern}, {round}");
            let again = send(&client, method, case).await;
            assert_eq!((again.status, &gist(&again)), (*status, first), "{context}");
            assert_eq!(again.header("idempotent-replayed"), Some("true"), "{context}");
            if let Some(id) = &case.session {
                assert_eq!(&effect(&client, id).await, result, "{context}: nothing happened");
            }
            if let Some(other) = &case.other {
                let reused = client.request(&method.to_uppercase(), &case.path).key("key");
                let reused = reused.body("application/json", other.to_string()).await;
                assert!([409, 422].contains(&reused.status), "{context}: {reused:?}");
            }
        }
        assert_eq!(sessions(&client).await, before, "{round}");
    }
}

#[tokio::test]
async fn a_request_that_had_nothing_to_do_has_nothing_to_do_later_either() {
    let server = Server::start();
    let client = Client::new(&server);
    client.say("s", "x").await;
    client.patch(&session("s"), &json!({ "title": "a" })).await.expect(200);
    let same = || client.patch(&session("s"), &json!({ "title": "a" })).key("same");
    let first = same().await.expect(200);
    client.patch(&session("s"), &json!({ "title": "b" })).await.expect(200);
    assert_eq!(same().await.expect(200), first);
    assert_eq!(client.get(&session("s")).await.expect(200)["title"], "b");
    let stop = || client.post(&format!("{}/stop", session("s")), &json!({})).key("stop");
    assert_eq!(stop().await.expect(200)["stopped"], false);
    speaking(&client, "s").await;
    assert_eq!(stop().await.expect(200)["stopped"], false, "it was about a turn before this one");
    assert!(client.get(&session("s")).await.expect(200)["activeTurn"].is_string());
}

#[tokio::test]
async fn the_frames_of_sockets_are_carried_out_once_too() {
    let server = options().start();
    let client = Client::new(&server);
    let mut acks = Vec::new();
    client.say("s", "there it is").await;
    for _ in 0..3 {
        let (mut socket, _) = Socket::live(&server, "s").await;
        let frames = [
            json!({ "type": "send", "clientId": "a", "role": "user", "content": "hello" }),
            json!({ "type": "turn", "clientId": "b", "message": { "role": "user", "content": "one two" } }),
        ];
        let mut answers = Vec::new();
        for frame in &frames {
            socket.send(frame).await;
            answers.push(socket.until("ack").await);
        }
        acks.push(answers);
        settled(&client, "s").await;
    }
    assert_eq!((&acks[1], &acks[2]), (&acks[0], &acks[0]));
    assert_eq!(client.history("s").await.len(), 4);

    let mut told = Vec::new();
    for request in ["r1", "r2", "r3"] {
        let mut socket = Socket::open(&server, "/api/chat/ws").await;
        let mut frame = ui(Some("u"), "one two three");
        frame["type"] = json!("send");
        frame["requestId"] = json!(request);
        frame["headers"] = json!({ "idempotency-key": "k" });
        socket.send(&frame).await;
        let (mut text, mut rest) = (String::new(), Vec::new());
        loop {
            let Heard::Frame(frame) = socket.hear().await else { panic!("closed") };
            match (frame["type"].as_str().unwrap(), &frame["chunk"]) {
                ("end", _) => break,
                ("chunk", chunk) if chunk["type"] == "text-delta" => {
                    text.push_str(chunk["delta"].as_str().unwrap());
                }
                ("chunk", chunk) => rest.push(chunk.clone()),
                other => panic!("{other:?}"),
            }
        }
        told.push((text, rest));
        settled(&client, "u").await;
    }
    assert_eq!((&told[1], &told[2]), (&told[0], &told[0]));
    assert_eq!(client.history("u").await.len(), 2);
}
