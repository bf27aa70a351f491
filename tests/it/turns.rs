//! Turns from outside: two devices, what happens while one runs, branches, approvals, limits.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::contents;
use crate::support::client::session;
use crate::support::client::turns;
use crate::support::server::Options;
use serde_json::Value;
use serde_json::json;

fn server() -> (Server, Client) {
    let server = Server::start();
    let client = Client::new(&server);
    (server, client)
}

fn ask(text: &str, busy: &str) -> Value {
    json!({ "message": { "role": "user", "content": text }, "busy": busy })
}

/// Starts a turn and waits until its first words are stored.
async fn speaking(client: &Client, id: &str, text: &str) -> Value {
    let path = turns(id);
    let started =
        client.post(&path, &ask(text, "reject")).with("prefer", "respond-async").await.expect(202);
    let mut frames = client
        .get(&format!("{}/events?after=0", session(id)))
        .with("accept", "text/event-stream")
        .stream()
        .await;
    loop {
        let frame = frames.frame().await;
        if frame["type"] == "part-delta" && frame["messageId"] == started["messageId"] {
            return started;
        }
    }
}

async fn message(client: &Client, id: &str, message: &Value) -> Value {
    let path = format!("{}/messages/{}", session(id), message.as_str().unwrap());
    client.get(&path).await.expect(200)
}

#[tokio::test]
async fn one_device_starts_another_stops_and_a_new_turn_is_accepted_at_once() {
    let (_server, client) = server();
    for round in 0..20 {
        let started = speaking(&client, "s", "!slow 1000 5").await;
        client.post(&turns("s"), &ask("no", "reject")).await.problem(409, "turn_active");
        let stop = format!("{}/stop", session("s"));
        let (first, second) =
            tokio::join!(client.post(&stop, &json!({})), client.post(&stop, &json!({})));
        for stopped in [first.expect(200), second.expect(200)] {
            assert!(
                stopped["stopped"] == false || stopped["turn"]["state"] == "stopped",
                "{stopped}"
            );
        }
        let kept = message(&client, "s", &started["messageId"]).await;
        assert_eq!(kept["status"], "stopped");
        let text = kept["content"].as_str().unwrap();
        let whole: String = (0..1_000).map(|n| format!("w{n} ")).collect();
        assert!(!text.is_empty() && whole.starts_with(text), "{text}");
        let again =
            client.post(&turns("s"), &ask(&format!("again {round}"), "reject")).await.expect(200);
        assert_eq!(again["message"]["content"], format!("echo: again {round}"));
        assert_eq!(
            message(&client, "s", &started["messageId"]).await,
            kept,
            "nothing grows after a stop"
        );
    }
}

#[tokio::test]
async fn a_turn_may_wait_interrupt_or_take_the_place_of_those_that_wait() {
    let (_server, client) = server();
    speaking(&client, "queue", "!slow 40 5").await;
    let second = client.post(&turns("queue"), &ask("second", "queue")).await.expect(200);
    assert_eq!(second["message"]["content"], "echo: second");
    let whole: String = (0..40).map(|n| format!("w{n} ")).collect();
    let history = client.history("queue").await;
    assert!(contents(&history).contains(&whole.as_str()), "the first was not cut");

    let cut = speaking(&client, "interrupt", "!slow 100000 5").await;
    let second = client.post(&turns("interrupt"), &ask("second", "interrupt")).await.expect(200);
    assert_eq!(second["message"]["content"], "echo: second");
    assert_eq!(message(&client, "interrupt", &cut["messageId"]).await["status"], "stopped");

    // The setting of a session is what holds when a request does not say.
    let settings = json!({ "id": "latest", "settings": { "busy": "latest" } });
    client.post("/v1/sessions", &settings).await.expect(201);
    speaking(&client, "latest", "!slow 60 5").await;
    let later = |text: &str| {
        let body = json!({ "message": { "role": "user", "content": text } });
        client.post(&turns("latest"), &body).with("prefer", "respond-async")
    };
    let given_up = later("b").await.expect(202);
    let last =
        client.post(&turns("latest"), &json!({ "message": { "role": "user", "content": "c" } }));
    assert_eq!(last.await.expect(200)["message"]["content"], "echo: c");
    let log = client.log("latest", 0).await;
    let state = log.iter().rfind(|frame| frame["turn"]["id"] == given_up["turnId"]).unwrap();
    assert_eq!(state["turn"]["state"], "stopped", "{state}");
}

fn ui(id: &str, trigger: &str, messages: &Value) -> Value {
    json!({ "id": id, "trigger": trigger, "messages": messages })
}

fn said(id: &str, text: &str) -> Value {
    json!({ "id": id, "role": "user", "parts": [{ "type": "text", "text": text }] })
}

#[tokio::test]
async fn what_an_edit_or_a_new_answer_replaces_stays_readable() {
    let (_server, client) = server();
    for (id, text) in [("a", "one"), ("b", "two")] {
        let body = ui("s", "submit-message", &json!([said(id, text)]));
        client.post("/api/chat", &body).await.text(200);
    }
    let before = client.history("s").await;
    client
        .post("/api/chat", &ui("s", "submit-message", &json!([said("a", "uno")])))
        .await
        .text(200);
    assert_eq!(contents(&client.history("s").await), ["uno", "echo: uno"]);
    client
        .post("/api/chat", &ui("s", "regenerate-message", &json!([said("a", "uno")])))
        .await
        .text(200);
    assert_eq!(contents(&client.history("s").await), ["uno", "echo: uno"]);
    let branches = client.get(&format!("{}/branches", session("s"))).await.expect(200);
    let branches = branches["items"].as_array().unwrap().clone();
    let counts: Vec<&Value> = branches.iter().map(|branch| &branch["messageCount"]).collect();
    assert_eq!(counts, [&json!(4), &json!(1)]);
    let path = format!("{}/branches/{}", session("s"), branches[0]["id"]);
    let kept = client.get(&path).await.expect(200);
    assert_eq!(kept["items"], json!(before), "every row, as it was");
    let count = client.get(&format!("{}/messages/count", session("s"))).await.expect(200);
    assert_eq!(count["count"], 2);
}

#[tokio::test]
async fn a_call_that_asks_waits_through_a_restart_and_goes_on_in_the_same_message() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Options::default().start_in(folder.path());
    let mut answers = Vec::new();
    for id in ["yes", "no"] {
        let client = Client::new(&server);
        let body = ask("!approve rm {\"path\":\"x\"}", "reject");
        let answer = client.post(&turns(id), &body).await.expect(200);
        assert_eq!(answer["turn"]["state"], "waiting_approval");
        answers.push(answer);
    }
    server.kill();
    let server = Options::default().start_in(folder.path());
    let client = Client::new(&server);
    for (id, answer) in ["yes", "no"].into_iter().zip(&answers) {
        let parts = answer["message"]["parts"].as_array().unwrap();
        let approval = parts[1]["approval"]["id"].as_str().unwrap();
        let path = format!("{}/approvals/{approval}", session(id));
        let mut frames = client
            .get(&format!("{}/events?after=0", session(id)))
            .with("accept", "text/event-stream")
            .stream()
            .await;
        client.post(&path, &json!({ "approved": id == "yes" })).await.expect(200);
        client.post(&path, &json!({ "approved": true })).await.problem(404, "approval_not_found");
        loop {
            let frame = frames.frame().await;
            if frame["type"] == "turn" && frame["turn"]["state"] == "completed" {
                break;
            }
        }
        let done = message(&client, id, &answer["message"]["id"]).await;
        let call = &done["parts"][1];
        if id == "yes" {
            assert_eq!(
                call["toolOutput"],
                json!({ "ok": true, "name": "rm", "input": { "path": "x" } })
            );
        } else {
            assert!(call.get("toolOutput").is_none(), "it was refused: {call}");
            assert_eq!(call["state"], "error");
        }
        assert!(done["content"].as_str().unwrap().starts_with("tool said "), "{done}");
    }
}

#[tokio::test]
async fn a_call_of_the_client_needs_its_result_before_the_answer_goes_on() {
    let (_server, client) = server();
    let first = json!([said("a", "!client-tool pick {\"n\":1}")]);
    client.post("/api/chat", &ui("s", "submit-message", &first)).await.text(200);
    let stored = client.get("/api/chat/s/messages").await.expect(200);
    let answer = stored["messages"][1].clone();
    assert_eq!(answer["parts"][1]["state"], "input-available");
    let go_on =
        |answer: &Value| client.post("/api/chat", &ui("s", "submit-message", &json!([answer])));
    let refused = go_on(&answer).await.expect(409);
    assert_eq!(refused["error"]["code"], "tool_waits");
    let mut done = answer.clone();
    done["parts"][1]["state"] = json!("output-available");
    done["parts"][1]["output"] = json!({ "picked": 7 });
    go_on(&done).await.text(200);
    let stored = client.get("/api/chat/s/messages").await.expect(200);
    assert_eq!(stored["messages"][1]["id"], answer["id"], "the same message");
    let text = &stored["messages"][1]["parts"][3]["text"];
    assert_eq!(text, "tool said {\"picked\":7}");
    let refused = go_on(&done).await.expect(409);
    assert_eq!(refused["error"]["code"], "not_continuable");
}

#[tokio::test]
async fn a_turn_that_takes_too_long_fails_and_keeps_what_it_said() {
    let server = Options::default().set("SESSILE__LIMITS__TURN_MS", 1_000).start();
    let client = Client::new(&server);
    let answer = client.post(&turns("s"), &ask("!slow 100000 5", "reject")).await.expect(200);
    assert_eq!(
        (&answer["turn"]["state"], &answer["message"]["status"]),
        (&json!("failed"), &json!("failed"))
    );
    assert!(answer["message"]["content"].as_str().unwrap().starts_with("w0 w1 "));
    let again = client.post(&turns("s"), &ask("again", "reject")).await.expect(200);
    assert_eq!(again["message"]["content"], "echo: again");
}

#[tokio::test]
async fn deleting_a_session_ends_its_turn() {
    let (_server, client) = server();
    speaking(&client, "s", "!slow 100000 5").await;
    client.delete(&session("s")).await.text(204);
    client.post(&turns("s"), &ask("x", "reject")).await.problem(410, "actor.deleted");
}

#[tokio::test]
async fn tools_that_no_model_can_be_offered_are_refused() {
    let (_server, client) = server();
    let many: Vec<Value> = (0..129).map(|at| json!({ "name": format!("t{at}") })).collect();
    for (tools, words) in [
        (json!({ "name": "add" }), "must be a list"),
        (json!(["add"]), "must be a list"),
        (json!([{}]), "[0].name"),
        (json!([{ "name": "my tool" }]), "[0].name"),
        (json!([{ "name": "a".repeat(65) }]), "[0].name"),
        (json!([{ "name": "a" }, { "name": "a" }]), "`a` twice"),
        (json!([{ "name": "a", "inputSchema": "x" }]), "[0].inputSchema"),
        (json!(many), "at most 128"),
    ] {
        let message = json!({ "role": "user", "content": "x" });
        let body = json!({ "message": message, "tools": tools });
        let problem = client.post(&turns("s"), &body).await.problem(400, "invalid");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
    let message = json!({ "role": "user", "content": "x" });
    let body = json!({ "message": message, "tools": many[..128] });
    client.post(&turns("s"), &body).await.expect(200);
    let metrics = client.get("/metrics").await.text(200);
    let count =
        r#"sessile_commands_total{kind="session",command="start_turn",outcome="accepted"} 1"#;
    assert!(metrics.contains(count), "{metrics}");
}
