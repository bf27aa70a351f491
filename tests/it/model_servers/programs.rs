//! Programs that the server starts: they die with it, with all that they started, and nobody reads what they are given.

use std::path::Path;

use serde_json::Value;
use serde_json::json;

use super::Models;
use super::ask;
use crate::support::Server;
use crate::support::agents::processes;
use crate::support::client::Client;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::server::Options;
use crate::support::strict::Rules;
use crate::support::strict_server::StrictServer;
use crate::support::strict_server::Told;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// Settings with the MCP server of the fixtures, in `folder`.
pub(super) fn with_python(models: &Models, folder: &Path, more: &str) -> Options {
    let file = folder.join("settings.toml");
    let command = json!(["python3", format!("{FIXTURES}/mcp_stdio.py")]);
    std::fs::write(&file, format!("[tools.mcp.py]\ncommand = {command}\n{more}\n")).unwrap();
    models.known_to(Options::default()).set("SESSILE_CONFIG", file.display())
}

/// Settings of the agent of the fixtures, which keeps its things in `folder`.
fn agent(folder: &Path) -> String {
    let folder = json!(folder.join("agents"));
    let program = json!(format!("{FIXTURES}/agent.sh"));
    format!("[claude_cli]\nprogram = {program}\ndata = {folder}\nkey.env = \"MY_KEY\"\n")
}

/// What a model says that calls these tools.
fn calls(names: &[&str]) -> String {
    let call = |name: &&str| json!({ "id": name, "index": name, "function": { "name": name, "arguments": "{}" } });
    let calls: Vec<Value> = names.iter().map(call).collect();
    let choice = json!({ "delta": { "tool_calls": calls }, "finish_reason": "tool_calls" });
    format!("data: {}\n\n", json!({ "choices": [choice] }))
}

/// Begins a turn; the path of its answer.
async fn begin(client: &Client, id: &str, model: &str, text: &str) -> String {
    let question = json!({ "message": { "role": "user", "content": text }, "model": model });
    let path = format!("{}/turns", session(id));
    let begun = client.post(&path, &question).with("prefer", "respond-async").await.expect(202);
    format!("{}/messages/{}", session(id), begun["messageId"].as_str().unwrap())
}

fn is_running(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn programs_that_the_server_started_die_with_it_and_so_does_what_they_started() {
    let (models, folder) = (Models::start(), tempfile::tempdir().unwrap());
    let options = with_python(&models, folder.path(), &agent(folder.path()));
    let mut server = options.set("MY_KEY", "x").start();
    let client = Client::new(&server);
    models.chat.tell_events(calls(&["py_echo", "py_spawn", "py_sleep"]));
    let path = begin(&client, "tools", "chat/m", "go").await;
    let pids = eventually(SOON, "the programs run", async || {
        let message = client.get(&path).await.expect(200);
        let parts = message["parts"].as_array()?;
        let program = parts.iter().find_map(|part| part["toolOutput"]["pid"].as_u64())?;
        let child = parts.iter().find_map(|part| part["toolOutput"].as_str()?.parse().ok())?;
        Some([program, child])
    })
    .await;
    let path = begin(&client, "agent", "claude-cli", "stubborn").await;
    eventually(SOON, "the agent answers", async || {
        let message = client.get(&path).await.expect(200);
        (message["content"] == "no").then_some(())
    })
    .await;
    let mark = folder.path().join("agents");
    assert!(processes(&mark).len() >= 2 && pids.into_iter().all(is_running));
    // Some sleep now, and some hear no signal: nobody sees that the server is gone.
    server.kill();
    eventually(SOON, "the programs are gone", async || {
        let left = pids.into_iter().any(is_running) || !processes(&mark).is_empty();
        (!left).then_some(())
    })
    .await;
}

/// Every file in `folder`, at any depth.
fn files(folder: &Path, out: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else {
            out.push(std::fs::read(&path).unwrap());
        }
    }
}

#[tokio::test]
async fn what_settings_give_to_programs_and_servers_is_not_told_not_logged_and_not_stored() {
    const KEY: &str = "canary-0123456789-abcdefghij";
    let (models, folder) = (Models::start(), tempfile::tempdir().unwrap());
    let named = StrictServer::start(Rules::Chat);
    let more = format!(
        r#"environment = {{ PLAIN = "canary-1" }}
        secret_environment = {{ SECRET = {{ env = "MY_KEY" }} }}
        [tools.mcp.web]
        url = "http://127.0.0.1:1/mcp?token=canary-2&x=canary%203"
        key.env = "MY_KEY"
        [models.compatible.named]
        base_url = "{}/v1"
        headers = {{ x-key = "canary-4", authorization = "Basic canary-5", x-secret = {{ env = "MY_KEYS" }} }}
        query = {{ token = "canary/6" }}
        {}"#,
        named.base,
        agent(folder.path())
    );
    let options = with_python(&models, folder.path(), &more);
    let options = options.set("MY_KEY", KEY).set("MY_KEYS", format!("Bearer {KEY}"));
    let server: Server = options.set("RUST_LOG", "info").start();
    let client = Client::new(&server);
    let mut told = Vec::new();

    models.chat.tell_events(calls(&["py_leak"]));
    told.push(ask(&client, "tool", "chat/m", "go").await);
    let call = told[0]["message"]["parts"][1].to_string();
    assert!(call.contains("bad key *** of ***"), "{call}");
    for text in ["leak", "leaks"] {
        told.push(ask(&client, text, "claude-cli", text).await);
    }
    let words = format!(
        "no canary-4, Basic canary-5, canary-5, {KEY}, Bearer {KEY}, canary/6, ?token=canary%2F6"
    );
    let body = json!({ "error": { "message": words } }).to_string().into_bytes();
    named.tell(Told { status: 400, content_type: "application/json", body, hangs: false });
    told.push(ask(&client, "named", "named/m", "go").await);
    let asked = named.take();
    assert!(
        asked[0].head.contains("x-key: canary-4\r\nx-secret") || asked[0].head.contains("canary-4")
    );

    for turn in &told[1..] {
        assert_eq!(turn["turn"]["state"], "failed", "{turn}");
    }
    let told = json!(told).to_string();
    assert!(!told.contains("canary"), "{told}");
    let log = server.log();
    assert!(log.contains("an MCP server is not ready") && log.contains("bad key: ***"), "{log}");
    assert!(!log.contains("canary"), "{log}");
    let mut stored = Vec::new();
    files(&server.data, &mut stored);
    assert!(stored.iter().any(|file| file.windows(7).any(|part| part == b"bad key")));
    assert!(!stored.iter().any(|file| file.windows(6).any(|part| part == b"canary")));
}
