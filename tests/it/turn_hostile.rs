//! A whole server whose models do everything wrong: every turn ends, no session stalls, memory stays flat.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::session;
use crate::support::hostile_provider::Behaviour;
use crate::support::hostile_provider::CONNECTIONS;
use crate::support::hostile_provider::HostileProvider;
use crate::support::hostile_provider::STREAMS;
use crate::support::hostile_provider::Then;
use crate::support::provider_words::Dialect;
use crate::support::server::Options;
use futures_util::StreamExt;
use futures_util::stream;
use serde_json::Value;
use serde_json::json;

/// Longest turn, in milliseconds: what never ends by itself ends then.
const TURN_MS: u64 = 4_000;
/// Largest answer, in bytes.
const ANSWER_BYTES: u64 = 1 << 20;
/// Turns at one time.
const PARALLEL: usize = 12;
/// What the server may keep of it all, in KiB: an answer of the largest size for each turn at one time, stored and sent, and
/// the sessions that are open at the end.
const KEPT_KIB: u64 = 96 << 10;

async fn ask(client: &Client, id: &str, model: &str, text: &str) -> Value {
    let body = json!({ "message": { "role": "user", "content": text }, "model": model });
    client.post(&format!("{}/turns", session(id)), &body).await.expect(200)
}

async fn check(client: &Client, number: usize, behaviour: &Behaviour) {
    let (id, name) = (format!("s{number}"), behaviour.name);
    let answer = ask(client, &id, &format!("b{number}/m"), "Hello").await;
    let state = answer["turn"]["state"].as_str().unwrap();
    let right = match behaviour.then {
        Then::Finish => state == "completed",
        Then::Fail(_) => state == "failed",
        Then::End => ["completed", "failed"].contains(&state),
    };
    assert!(right, "{name}: {}", answer["turn"]);
    let said = answer["message"]["content"].as_str().unwrap();
    assert!(said.len() as u64 <= ANSWER_BYTES, "{name} said {} bytes", said.len());
    let after = ask(client, &id, "echo", "and now").await;
    assert_eq!(after["message"]["content"], "echo: and now", "{name}: the session goes on");
    let now = client.get(&session(&id)).await.expect(200);
    assert!(now.get("activeTurn").is_none(), "{name}: {now}");
}

#[tokio::test]
async fn a_hostile_provider_stalls_no_session_and_leaks_no_turn() {
    let mut options = Options::default()
        .set("SESSILE__MODELS__PROXY", false)
        .set("SESSILE__LIMITS__TURN_MS", TURN_MS)
        .set("SESSILE__LIMITS__ANSWER_BYTES", ANSWER_BYTES);
    let behaviours: Vec<&'static Behaviour> = CONNECTIONS.iter().chain(STREAMS).collect();
    assert!(behaviours.len() >= 40);
    let mut providers = Vec::new();
    for (number, behaviour) in behaviours.iter().enumerate() {
        let provider = HostileProvider::start(behaviour, Dialect::Chat).await;
        let set = |field: &str| format!("SESSILE__MODELS__COMPATIBLE__B{number}__{field}");
        options = options
            .set(&set("BASE_URL"), format!("{}/v1", provider.base_url()))
            .set(&set("KEY_ENV"), "");
        providers.push(provider);
    }
    let server: Server = options.start();
    let client = Client::new(&server);
    ask(&client, "first", "echo", "hello").await;
    let before = server.rss_kib();
    let turns =
        behaviours.iter().enumerate().map(|(number, behaviour)| check(&client, number, behaviour));
    stream::iter(turns).buffer_unordered(PARALLEL).collect::<Vec<()>>().await;
    for provider in &providers {
        provider.closed().await;
        assert_eq!(provider.trapped(), 0, "nobody is sent elsewhere");
    }
    let kept = server.rss_kib().saturating_sub(before);
    assert!(kept < KEPT_KIB, "{kept} KiB");
}
