//! `Idempotency-Key`: a retry gets the stored answer, whatever happened in between.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::Reply;
use crate::support::client::messages;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::server::Options;
use crate::support::socket::Raw;
use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;

fn server() -> (Server, Client) {
    let server = Server::start();
    let client = Client::new(&server);
    (server, client)
}

fn message(content: &str) -> Value {
    json!({ "role": "user", "content": content })
}

/// Fails unless `second` is the stored answer of `first`.
#[track_caller]
fn check_replayed(first: &Reply, second: &Reply) {
    assert_eq!((second.status, &second.body), (first.status, &first.body));
    assert_eq!(first.header("idempotent-replayed"), None, "{first:?}");
    assert_eq!(second.header("idempotent-replayed"), Some("true"), "{second:?}");
}

#[tokio::test]
async fn a_repeat_gets_the_stored_answer() {
    let (_server, client) = server();
    let first = client.post(&messages("s"), &message("x")).key("k").await;
    first.expect(201);
    let id = first.json()["id"].as_str().unwrap().to_owned();
    let parts = json!({ "parts": [{ "type": "text", "content": "later" }] });
    client.put(&format!("{}/{id}/parts", messages("s")), &parts).await.expect(200);
    for _ in 0..3 {
        let again = client.post(&messages("s"), &message("x")).key("k").await;
        check_replayed(&first, &again);
    }
    assert_eq!(client.history("s").await.len(), 1);
    client.post(&messages("s"), &message("x")).key("k2").await.expect(201);
    assert_eq!(client.history("s").await.len(), 2, "another key is another message");
}

#[tokio::test]
async fn the_same_body_in_other_words_is_the_same_body() {
    let (_server, client) = server();
    let bodies = [
        r#"{"role":"user","content":"x"}"#,
        r#" { "content" : "x" , "role" : "user" } "#,
        r#"{"role":"user","content":"\u0078"}"#,
    ];
    let mut answers = Vec::new();
    for body in bodies {
        let request = client.request("POST", &messages("s")).body("application/json", body);
        let reply = request.key("k").await;
        // Comparing bytes is fine too: then another spelling counts as another body.
        assert!([201, 422].contains(&reply.status), "{reply:?}");
        answers.push(reply.status);
    }
    assert_eq!(answers[0], 201);
    assert_eq!(client.history("s").await.len(), 1);
}

#[tokio::test]
async fn a_key_with_another_body_is_refused() {
    let (_server, client) = server();
    let first = client.post(&messages("s"), &message("x")).key("k").await;
    first.expect(201);
    for other in [message("y"), json!({ "role": "system", "content": "x" })] {
        let reply = client.post(&messages("s"), &other).key("k").await;
        reply.problem(422, "idempotency_key_reused");
    }
    check_replayed(&first, &client.post(&messages("s"), &message("x")).key("k").await);
    assert_eq!(client.history("s").await.len(), 1);
}

#[tokio::test]
async fn duplicates_at_the_same_time_make_one_message() {
    let (_server, client) = server();
    for round in 0..10 {
        let key = format!("k{round}");
        let mut duplicates = JoinSet::new();
        for _ in 0..20 {
            let (client, key) = (client.clone(), key.clone());
            duplicates
                .spawn(async move { client.post(&messages("s"), &message(&key)).key(&key).await });
        }
        let replies = duplicates.join_all().await;
        let (made, waiting): (Vec<_>, Vec<_>) =
            replies.iter().partition(|reply| reply.status == 201);
        for reply in waiting {
            let problem = reply.problem(409, "idempotency_in_progress");
            assert_eq!(problem["retryable"], true, "{problem}");
        }
        assert!(made.iter().all(|reply| reply.body == made[0].body), "{made:?}");
        let fresh = made.iter().filter(|reply| reply.header("idempotent-replayed").is_none());
        assert_eq!(fresh.count(), 1, "one of them did it");
        let last = client.post(&messages("s"), &message(&key)).key(&key).await;
        assert_eq!((last.status, &last.body), (201, &made[0].body));
    }
    assert_eq!(client.history("s").await.len(), 10);
}

#[tokio::test]
async fn racing_bodies_under_one_key_have_one_winner() {
    let (_server, client) = server();
    let mut racers = JoinSet::new();
    for number in 0..20 {
        let client = client.clone();
        racers.spawn(async move {
            client.post(&messages("s"), &message(&number.to_string())).key("k").await
        });
    }
    let replies = racers.join_all().await;
    let winners: Vec<&Reply> = replies.iter().filter(|reply| reply.status == 201).collect();
    assert_eq!(winners.len(), 1);
    for reply in replies.iter().filter(|reply| reply.status != 201) {
        let code = reply.any_problem(&[409, 422])["code"].clone();
        assert!(code == "idempotency_key_reused" || code == "idempotency_in_progress", "{code}");
    }
    assert_eq!(client.history("s").await, [winners[0].json()]);
}

#[tokio::test]
async fn every_native_write_takes_a_key() {
    let (_server, client) = server();
    let made = client.post("/v1/sessions", &json!({ "title": "t" })).key("make").await;
    made.expect(201);
    let again = client.post("/v1/sessions", &json!({ "title": "t" })).key("make").await;
    check_replayed(&made, &again);
    let other = client.post("/v1/sessions", &json!({ "title": "u" })).key("make").await;
    other.problem(422, "idempotency_key_reused");

    let id = made.json()["id"].as_str().unwrap().to_owned();
    let change = || client.patch(&session(&id), &json!({ "title": "b" })).key("change");
    let changed = change().await;
    changed.expect(200);
    let between = client.patch(&session(&id), &json!({ "title": "c" })).await;
    between.expect(200);
    check_replayed(&changed, &change().await);
    assert_eq!(client.get(&session(&id)).await.json()["title"], "c", "a repeat does nothing");

    let stored = client.say(&id, "x").await;
    let path = format!("{}/{}", messages(&id), stored["id"].as_str().unwrap());
    let parts = json!({ "parts": [{ "type": "text", "content": "p" }] });
    let update = || client.put(&format!("{path}/parts"), &parts).key("update");
    let updated = update().await;
    updated.expect(200);
    check_replayed(&updated, &update().await);

    let redact = || client.delete(&path).key("redact");
    let redacted = redact().await;
    assert!([200, 204].contains(&redacted.status), "{redacted:?}");
    check_replayed(&redacted, &redact().await);
    let log = client.log(&id, 0).await;
    let kinds: Vec<&str> = log.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
    let expected = ["session", "session", "session", "message", "message-parts", "message-deleted"];
    assert_eq!(kinds, expected, "each write once");
}

#[tokio::test]
async fn a_key_is_remembered_over_sleep_and_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut server =
        Options::default().set("SESSILE__ACTOR__SLEEP_AFTER_MS", 50).start_in(dir.path());
    let client = Client::new(&server);
    let first = client.post(&messages("s"), &message("x")).key("k").await;
    first.expect(201);
    client.all_asleep().await;
    check_replayed(&first, &client.post(&messages("s"), &message("x")).key("k").await);
    for signal in ["TERM", "KILL"] {
        server.signal(signal);
        server.wait();
        server = Options::default().start_in(dir.path());
        let client = Client::new(&server);
        check_replayed(&first, &client.post(&messages("s"), &message("x")).key("k").await);
        let reused = client.post(&messages("s"), &message("y")).key("k").await;
        reused.problem(422, "idempotency_key_reused");
        assert_eq!(client.history("s").await.len(), 1);
    }
}

#[tokio::test]
async fn a_refused_write_leaves_its_key_free_of_effects() {
    let (_server, client) = server();
    let bad = json!({ "role": "nobody", "content": "x" });
    for _ in 0..2 {
        client.post(&messages("s"), &bad).key("k").await.problem(400, "invalid");
    }
    client.get(&session("s")).await.problem(404, "session_not_found");
}

#[tokio::test]
async fn a_retry_after_a_cut_connection_makes_no_second_message() {
    let (server, client) = server();
    let body = message("cut").to_string();
    for number in 0..50 {
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: localhost\r\nidempotency-key: k{number}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            messages("s"),
            body.len()
        );
        // Send it all and go away without waiting for the answer.
        let mut raw = Raw::connect(&server).await;
        raw.offer(request.as_bytes()).await;
        drop(raw);
        let key = format!("k{number}");
        eventually(SOON, "the retry is answered", async || {
            let reply = client.post(&messages("s"), &message("cut")).key(&key).await;
            (reply.status == 201).then_some(())
        })
        .await;
    }
    let stored = client.get(&format!("{}/count", messages("s"))).await.expect(200);
    assert_eq!(stored["count"], 50);
}
