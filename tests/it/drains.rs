//! How a server ends while answers are being written: they may end, no other begins, everything else goes on.

use std::path::Path;
use std::time::Duration;

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::Request;
use crate::support::client::contents;
use crate::support::client::messages;
use crate::support::client::session;
use crate::support::client::turns;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::fault::files::session_files;
use crate::support::server::Options;
use crate::support::socket::Socket;
use rusqlite::Connection;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

const DRAIN: &str = "SESSILE__SHUTDOWN__DRAIN_MS";
/// Longer than any test waits.
const LONG: u32 = 60_000;
/// An answer without an end.
const ENDLESS: &str = "!slow 100000 10";

fn ask(text: &str, busy: &str) -> Value {
    json!({ "message": { "role": "user", "content": text }, "busy": busy })
}

/// Starts a turn and waits until it speaks to a socket that listens.
async fn speaking(server: &Server, id: &str, text: &str) -> Socket {
    let client = Client::new(server);
    client.post("/v1/sessions", &json!({ "id": id })).await.expect(201);
    let (mut socket, _) = Socket::live(server, id).await;
    let started = client.post(&turns(id), &ask(text, "reject")).with("prefer", "respond-async");
    started.await.expect(202);
    socket.until("part-delta").await;
    socket
}

/// Asks it to end, and waits until it says that it is not ready.
async fn begin_to_stop(server: &Server) {
    server.signal("TERM");
    eventually(SOON, "it is not ready", async || {
        let reply = Client::new(server).get("/readyz").await;
        (reply.status == 503).then_some(())
    })
    .await;
}

/// The states of the turns of session `id`, as its file has them.
fn states(data: &Path, id: &str) -> Vec<String> {
    for path in session_files(data) {
        let file = Connection::open(path).unwrap();
        let mine = "SELECT count(*) FROM meta WHERE name = ?1";
        if file.query_row(mine, [id], |row| row.get::<_, i64>(0)).unwrap() == 1 {
            let mut states = file.prepare("SELECT state FROM turn ORDER BY seq").unwrap();
            let states = states.query_map([], |row| row.get(0)).unwrap();
            return states.map(Result::unwrap).collect();
        }
    }
    panic!("session {id} has no file");
}

#[tokio::test]
async fn an_answer_that_ends_in_time_is_whole_and_its_readers_see_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Options::default().set(DRAIN, LONG).start_in(dir.path());
    let client = Client::new(&server);
    let mut socket = speaking(&server, "s", "!slow 100 10").await;
    let body = json!({ "content": "!slow 100 10" });
    let mut chat = client.post("/chat/other", &body).stream().await;
    begin_to_stop(&server).await;
    let (frames, code) = socket.rest().await;
    assert_eq!(code, Some(1012), "told at the end");
    let last = frames.iter().rfind(|frame| frame["type"] == "turn").unwrap();
    assert_eq!(last["turn"]["state"], "completed", "it was seen to end");
    assert!(chat.rest().await.iter().any(|event| event.data.contains("w99")), "on every route");
    assert_eq!(server.wait(), Some(0));
    assert_eq!(states(dir.path(), "s"), ["completed"]);
    let server = Options::default().start_in(dir.path());
    let answer = Client::new(&server).history("s").await.pop().unwrap();
    assert_eq!(answer["status"], "complete");
    assert!(answer["content"].as_str().unwrap().contains("w99"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_interrupted_for_its_readers_and_on_the_disk() {
    // The text that a reader saw, the state, and the end of the stream: at once, after a while, and by a second signal.
    for (drain, again) in [(0, None), (300, None), (LONG, Some("TERM")), (LONG, Some("INT"))] {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Options::default().set(DRAIN, drain).start_in(dir.path());
        let mut socket = speaking(&server, "s", ENDLESS).await;
        let waiting = Client::new(&server).post(&turns("s"), &ask("next", "queue"));
        waiting.with("prefer", "respond-async").await.expect(202);
        let begun = Instant::now();
        if let Some(again) = again {
            begin_to_stop(&server).await;
            server.signal(again);
        } else {
            server.signal("TERM");
        }
        let (frames, code) = socket.rest().await;
        assert_eq!(code, Some(1012));
        assert_eq!(server.wait(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
        let last = frames.iter().rfind(|frame| frame["type"] == "turn").unwrap();
        assert_eq!(last["turn"]["state"], "interrupted", "readers see it: {drain} {again:?}");
        assert_eq!(states(dir.path(), "s"), ["interrupted", "queued"], "{drain} {again:?}");
        let shown = frames.iter().rfind(|frame| frame["type"] == "message").unwrap();

        let server = Options::default().start_in(dir.path());
        let client = Client::new(&server);
        let history = eventually(SOON, "the turn that waited is begun by itself", async || {
            let history = client.history("s").await;
            (history.len() == 4 && history[3]["status"] == "complete").then_some(history)
        })
        .await;
        let cut = history.iter().find(|message| message["status"] == "interrupted").unwrap();
        assert_eq!(cut["content"], shown["message"]["content"], "with the text it had");
    }
}

#[tokio::test]
async fn while_answers_end_no_other_begins_on_any_route_and_the_rest_goes_on() {
    let mut server = Options::default().set(DRAIN, LONG).start();
    let client = Client::new(&server);
    let approval = client.post(&turns("asks"), &ask("!approve rm {}", "reject")).await.expect(200);
    let approval = approval["message"]["parts"][1]["approval"]["id"].as_str().unwrap().to_owned();
    let path = "/api/chat/ws";
    let mut ui = Socket::open(&server, path).await;
    let (mut native, _) = {
        client.say("plain", "x").await;
        Socket::live(&server, "plain").await
    };
    let mut running = speaking(&server, "runs", ENDLESS).await;
    begin_to_stop(&server).await;

    let refused = |request: Request| async move {
        let reply = request.await;
        assert_eq!(reply.status, 503, "{}", reply.body);
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        reply
    };
    refused(client.post(&turns("new"), &ask("x", "reject"))).await.problem(503, "shutting_down");
    for busy in ["queue", "interrupt", "latest"] {
        let reply = refused(client.post(&turns("runs"), &ask("x", busy))).await;
        reply.problem(503, "shutting_down");
    }
    let path = format!("{}/approvals/{approval}", session("asks"));
    let reply = refused(client.post(&path, &json!({ "approved": true }))).await;
    reply.problem(503, "shutting_down");
    let reply = refused(client.post("/chat/new", &json!({ "content": "x" }))).await;
    assert!(reply.json()["error"].is_string(), "{reply:?}");
    let said = json!({ "id": "u1", "role": "user", "parts": [{ "type": "text", "text": "x" }] });
    let body = json!({ "id": "new", "messages": [said], "trigger": "submit-message" });
    for path in ["/api/chat", "/api/builder/chat"] {
        let reply = refused(client.post(path, &body)).await;
        assert_eq!(reply.json()["error"]["code"], "shutting_down", "{path}: {reply:?}");
    }
    let reply = refused(client.post("/api/completion", &json!({ "prompt": "x" }))).await;
    assert_eq!(reply.json()["error"]["code"], "shutting_down");
    let mut turn = ask("x", "reject");
    turn["type"] = json!("turn");
    turn["clientId"] = json!("c");
    native.send(&turn).await;
    assert_eq!(native.until("error").await["error"]["code"], "shutting_down");
    let mut send = body.clone();
    send["type"] = json!("send");
    send["requestId"] = json!("r");
    ui.send(&send).await;
    let heard = ui.until("error").await;
    assert!(heard["errorText"].as_str().unwrap().contains("shutting down"), "{heard}");
    client.get(&session("new")).await.problem(404, "session_not_found");

    client.say("plain", "goes on").await;
    assert_eq!(native.until("message").await["message"]["content"], "goes on");
    assert_eq!(client.history("plain").await.len(), 2);
    client.get("/v1/sessions").await.expect(200);
    let stop = format!("{}/stop", session("runs"));
    client.post(&stop, &json!({})).await.expect(200);
    assert_eq!(running.rest().await.1, Some(1012), "nothing is waited for any more");
    assert_eq!(server.wait(), Some(0));
}

#[tokio::test]
async fn nothing_is_waited_for_when_no_answer_is_written() {
    let mut server = Options::default().set(DRAIN, LONG).start();
    let client = Client::new(&server);
    let waits = client.post(&turns("asks"), &ask("!approve rm {}", "reject")).await.expect(200);
    assert_eq!(waits["turn"]["state"], "waiting_approval");
    let begun = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn every_signal_that_ends_a_program_in_good_order_does() {
    for name in ["TERM", "INT", "QUIT", "HUP"] {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Options::default().start_in(dir.path());
        Client::new(&server).say("s", "x").await;
        server.signal(name);
        assert_eq!(server.wait(), Some(0), "{name}");
        assert_eq!(session_files(dir.path()).count(), 1, "{name}: its file is written");
    }
}

#[tokio::test]
async fn a_server_whose_journal_cannot_go_on_is_not_ready_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, away) = (dir.path().join("journal"), dir.path().join("journal-away"));
    let mut server = Options::default().start_in(dir.path());
    let client = Client::new(&server);
    client.say("s", "one").await;
    std::fs::rename(&journal, &away).unwrap();
    // A deletion ends the segment, so that another one is needed.
    let stored = client.say("s", "gone").await;
    client.delete(&format!("{}/{}", messages("s"), stored["id"].as_str().unwrap())).await;
    let ready = async |wanted: u16| {
        eventually(SOON, "it says whether it is ready", async || {
            (client.get("/readyz").await.status == wanted).then_some(())
        })
        .await;
    };
    ready(503).await;
    std::fs::rename(&away, &journal).unwrap();
    ready(200).await;
    client.say("s", "two").await;
    server.kill();
    let server = Options::default().start_in(dir.path());
    assert_eq!(contents(&Client::new(&server).history("s").await), ["one", "", "two"]);
}
