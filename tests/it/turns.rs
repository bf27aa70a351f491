//! Native turns with the echo model: the three ways to wait for one, and stopping it.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::session;
use crate::support::socket::Socket;
use serde_json::Value;
use serde_json::json;

fn server() -> (Server, Client) {
    let server = Server::start();
    let client = Client::new(&server);
    (server, client)
}

fn turns(id: &str) -> String {
    format!("{}/turns", session(id))
}

fn ask(content: &str) -> Value {
    json!({ "message": { "role": "user", "content": content } })
}

/// Passes over frames until the turn reaches a state that it does not leave.
async fn ended(socket: &mut Socket) -> Value {
    loop {
        let frame = socket.until("turn").await;
        let state = frame["turn"]["state"].as_str().unwrap();
        if !["queued", "running", "stopping"].contains(&state) {
            return frame["turn"].clone();
        }
    }
}

#[tokio::test]
async fn a_turn_can_be_waited_for() {
    let (_server, client) = server();
    let reply = client.post(&turns("s"), &ask("hello")).await;
    assert!([200, 201].contains(&reply.status), "{reply:?}");
    assert!(reply.body.contains("echo: hello"), "{reply:?}");
    let stored = client.history("s").await;
    assert_eq!(
        (&stored[0]["content"], &stored[1]["content"]),
        (&json!("hello"), &json!("echo: hello"))
    );
    assert!(client.get(&session("s")).await.expect(200)["activeTurn"].is_null());
}

#[tokio::test]
async fn a_turn_can_be_left_to_itself() {
    let (server, client) = server();
    client.post("/v1/sessions", &json!({ "id": "s" })).await.expect(201);
    let (mut socket, _) = Socket::live(&server, "s").await;
    let reply = client.post(&turns("s"), &ask("hello")).with("prefer", "respond-async").await;
    let id = reply.expect(202)["turnId"].clone();
    let turn = ended(&mut socket).await;
    assert_eq!((&turn["id"], &turn["state"]), (&id, &json!("completed")));
}

#[tokio::test]
async fn a_turn_can_be_streamed() {
    let (_server, client) = server();
    let mut stream = client.post(&turns("s"), &ask("hello")).stream().await;
    let frames: Vec<Value> = stream.rest().await.iter().map(|event| event.json()).collect();
    let text: String = frames
        .iter()
        .filter(|frame| frame["type"] == "part-delta")
        .map(|frame| frame["delta"].as_str().unwrap())
        .collect();
    assert_eq!(text, "echo: hello");
    let last = frames.iter().rfind(|frame| frame["type"] == "turn").unwrap();
    assert_eq!(last["turn"]["state"], "completed", "{frames:?}");
}

#[tokio::test]
async fn a_stopped_turn_keeps_what_it_said() {
    let (server, client) = server();
    client.post("/v1/sessions", &json!({ "id": "s" })).await.expect(201);
    let (mut socket, _) = Socket::live(&server, "s").await;
    let request = client.post(&turns("s"), &ask("!slow 10000 10")).with("prefer", "respond-async");
    request.await.expect(202);
    let first = socket.until("part-delta").await;
    let active = client.get(&session("s")).await.expect(200)["activeTurn"].clone();
    assert!(!active.is_null(), "a running turn is shown");
    let reply = client.post(&format!("{}/stop", session("s")), &json!({})).await;
    assert!([200, 202, 204].contains(&reply.status), "{reply:?}");

    // Once it answers, the partial reply is stored and a new turn is accepted.
    let partial = client.history("s").await[1].clone();
    assert_eq!(partial["id"], first["messageId"]);
    assert!(partial["content"].as_str().unwrap().starts_with("w0 "), "{partial}");
    assert_ne!(partial["status"], client.history("s").await[0]["status"], "not complete");
    let turn = ended(&mut socket).await;
    assert_eq!(turn["state"], "stopped", "{turn}");
    let reply = client.post(&turns("s"), &ask("next")).await;
    assert!(reply.body.contains("echo: next"), "{reply:?}");
    assert_eq!(client.history("s").await[1], partial, "no delta after the stop");
}

#[tokio::test]
async fn stopping_when_nothing_runs_is_no_error() {
    let (_server, client) = server();
    client.say("s", "x").await;
    let reply = client.post(&format!("{}/stop", session("s")), &json!({})).await;
    assert!([200, 204].contains(&reply.status), "{reply:?}");
    assert_eq!(client.log("s", 0).await.len(), 1);
}

#[tokio::test]
async fn a_turn_can_be_started_and_stopped_over_the_socket() {
    let (server, client) = server();
    client.post("/v1/sessions", &json!({ "id": "s" })).await.expect(201);
    let (mut socket, _) = Socket::live(&server, "s").await;
    let message = json!({ "role": "user", "content": "!slow 10000 10" });
    socket.send(&json!({ "type": "turn", "clientId": "c1", "message": message })).await;
    socket.until("part-delta").await;
    socket.send(&json!({ "type": "stop", "clientId": "c2" })).await;
    assert_eq!(ended(&mut socket).await["state"], "stopped");
    // Repeating the frame that started it starts nothing.
    socket.send(&json!({ "type": "turn", "clientId": "c1", "message": message })).await;
    assert_eq!(socket.until("ack").await["clientId"], "c1");
    let turns = client.log("s", 0).await;
    let started = turns.iter().filter(|frame| frame["turn"]["state"] == "running").count();
    assert_eq!(started, 1);
}

#[tokio::test]
async fn the_reader_of_a_turn_may_leave_without_ending_it() {
    let (server, client) = server();
    client.post("/v1/sessions", &json!({ "id": "s" })).await.expect(201);
    let (mut socket, _) = Socket::live(&server, "s").await;
    let mut stream = client.post(&turns("s"), &ask("!slow 20 10")).stream().await;
    stream.next().await.unwrap();
    drop(stream);
    assert_eq!(ended(&mut socket).await["state"], "completed");
    let expected: String = (0..20).map(|number| format!("w{number} ")).collect();
    let stored = client.history("s").await[1]["content"].as_str().unwrap().to_owned();
    assert_eq!(stored.trim_end(), expected.trim_end());
}

#[tokio::test]
async fn a_failed_turn_says_why_and_keeps_what_it_said() {
    let (server, client) = server();
    client.post("/v1/sessions", &json!({ "id": "s" })).await.expect(201);
    let (mut socket, _) = Socket::live(&server, "s").await;
    client.post(&turns("s"), &ask("!error on purpose")).with("prefer", "respond-async").await;
    let turn = ended(&mut socket).await;
    assert_eq!(turn["state"], "failed", "{turn}");
    assert!(turn.to_string().contains("on purpose"), "{turn}");
    let stored = client.history("s").await;
    assert_eq!(stored[1]["content"], "partial ");
    assert_ne!(stored[1]["status"], stored[0]["status"]);
    client.post(&turns("s"), &ask("hello")).await;
    assert_eq!(client.history("s").await[3]["content"], "echo: hello");
}
