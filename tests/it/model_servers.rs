//! Whole servers against model servers as they are: what they send is shown, what they demand is sent, and no conversation is
//! ever refused for what happened in it earlier.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::server::Options;
use crate::support::strict;
use crate::support::strict::Rules;
use crate::support::strict_server::Asked;
use crate::support::strict_server::StrictServer;
use crate::support::strict_server::Told;
use serde_json::Value;
use serde_json::json;
use std::path::Path;

mod programs;
mod refusals;
mod usage;

/// A server of each dialect, and the name of the provider at it.
struct Models {
    anthropic: StrictServer,
    chat: StrictServer,
    responses: StrictServer,
}

impl Models {
    fn start() -> Self {
        Self {
            anthropic: StrictServer::start(Rules::AnthropicLike),
            chat: StrictServer::start(Rules::Chat),
            responses: StrictServer::start(Rules::Responses),
        }
    }

    fn known_to(&self, options: Options) -> Options {
        options
            .set("SESSILE__MODELS__PROXY", false)
            .set("SESSILE__MODELS__ANTHROPIC__BASE_URL", &self.anthropic.base)
            .set("SESSILE__MODELS__OPENAI__BASE_URL", format!("{}/v1", self.responses.base))
            .set("SESSILE__MODELS__COMPATIBLE__CHAT__BASE_URL", format!("{}/v1", self.chat.base))
    }

    /// The server of a dialect, and a model of it.
    fn of(&self, dialect: &str) -> (&StrictServer, &'static str) {
        match dialect {
            "anthropic" => (&self.anthropic, "anthropic/m"),
            "chat" => (&self.chat, "chat/m"),
            _ => (&self.responses, "openai/m"),
        }
    }
}

async fn ask(client: &Client, id: &str, model: &str, text: &str) -> Value {
    let body = json!({ "message": { "role": "user", "content": text }, "model": model });
    client.post(&format!("{}/turns", session(id)), &body).await.expect(200)
}

fn refused(asked: &[Asked]) -> Vec<&String> {
    asked.iter().flat_map(|asked| &asked.refused).collect()
}

/// Every text in a value.
fn texts(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) => out.push(text.clone()),
        Value::Array(all) => all.iter().for_each(|value| texts(value, out)),
        Value::Object(all) => all.values().for_each(|value| texts(value, out)),
        _ => {}
    }
}

#[test]
fn the_strict_are_strict() {
    for rules in [Rules::Anthropic, Rules::AnthropicLike, Rules::Chat, Rules::Responses] {
        assert!(!strict::problems(rules, &json!({}), &|_| false).is_empty());
    }
}

#[tokio::test]
async fn after_every_quirk_the_next_turns_are_accepted_everywhere() {
    let models = Models::start();
    let server = models.known_to(Options::default()).start();
    let client = Client::new(&server);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quirks");
    let table = std::fs::read(folder.join("table.json")).unwrap();
    let table: Vec<Value> = serde_json::from_slice(&table).unwrap();
    for row in &table {
        let file = row["file"].as_str().unwrap();
        let (own, model) = models.of(row["dialect"].as_str().unwrap());
        let body = std::fs::read(folder.join(file)).unwrap();
        let whole = file.ends_with(".json");
        let content_type = if whole { "application/json" } else { "text/event-stream" };
        own.tell(Told { status: 200, content_type, body, hangs: false });
        let turn = ask(&client, file, model, "hello").await;
        let then = if row["error"].is_null() { "completed" } else { "failed" };
        assert_eq!(turn["turn"]["state"], then, "{file}: {turn}");
        let asked = own.take();
        assert!(refused(&asked).is_empty(), "{file}: {:?}", refused(&asked));
        if let (false, Some(again)) = (row["seal"].is_null(), asked.get(1)) {
            // What the provider gave is in the request that brings the result of its call.
            let (mut wanted, body) = (Vec::new(), again.body.to_string());
            match row["seal"]["field"].as_str() {
                Some(field) if row["seal"]["reasoning_details"].is_null() => {
                    let field = json!({ field: row["reasoning"] }).to_string();
                    wanted.push(field.trim_matches(['{', '}']).to_owned());
                }
                _ => texts(&row["seal"], &mut wanted),
            }
            wanted.retain(|text| text != "reasoning");
            if row["dialect"] == "anthropic" {
                wanted.push(format!("\"thinking\":{}", row["reasoning"]));
            }
            assert!(
                wanted.iter().all(|text| body.contains(text.as_str())),
                "{file}: {wanted:?} {body}"
            );
        }
        for dialect in [row["dialect"].as_str().unwrap(), "anthropic", "chat", "responses"] {
            let (other, model) = models.of(dialect);
            let turn = ask(&client, file, model, "and now?").await;
            let asked = other.take();
            assert!(refused(&asked).is_empty(), "{file} at {dialect}: {:?}", refused(&asked));
            assert_eq!(turn["turn"]["state"], "completed", "{file} at {dialect}: {turn}");
            assert_eq!(turn["message"]["content"], "fine", "{file} at {dialect}");
        }
    }
}

#[tokio::test]
async fn what_users_attach_and_what_fails_keeps_no_provider_away() {
    let models = Models::start();
    let server = models.known_to(Options::default()).start();
    let client = Client::new(&server);
    let file = |kind: &str, url: &str| json!({ "type": "file", "mediaType": kind, "url": url, "filename": "f" });
    for (number, part) in [
        file("image/heic", "data:image/heic;base64,AAAAGGZ0eXBoZWlj"),
        file("image/png", "data:image/png;base64,AAAA"),
        file("image/svg+xml", "data:image/svg+xml,%3Csvg/%3E"),
        file("text/csv", "data:text/csv;base64,YSxiCjEsMg=="),
        file("application/zip", "https://example.org/a.zip"),
        json!({ "type": "unheard-of", "x": 1 }),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("files-{number}");
        for dialect in ["anthropic", "chat", "responses"] {
            let (own, model) = models.of(dialect);
            // The first answer fails, so that the next question follows the last one.
            let error = json!({ "error": { "message": "no", "type": "x" }, "type": "error" });
            own.tell_events(format!("event: error\ndata: {error}\n\n"));
            let text = json!({ "type": "text", "content": "see" });
            let message = json!({ "role": "user", "content": "see", "parts": [text, part] });
            let body = json!({ "message": message, "model": model });
            let turn = client.post(&format!("{}/turns", session(&id)), &body).await.expect(200);
            assert_eq!(turn["turn"]["state"], "failed", "{turn}");
            let turn = ask(&client, &id, model, "and now?").await;
            let asked = own.take();
            assert!(refused(&asked).is_empty(), "{part} at {dialect}: {:?}", refused(&asked));
            assert_eq!(turn["turn"]["state"], "completed", "{turn}");
            if part["mediaType"] == "text/csv" {
                assert!(asked[1].body.to_string().contains("a,b\\n1,2"), "{:?}", asked[1].body);
            }
        }
    }
}

#[tokio::test]
async fn a_picture_that_is_refused_all_the_same_ends_no_conversation() {
    let models = Models::start();
    let server = models.known_to(Options::default()).start();
    let client = Client::new(&server);
    // Right at the beginning, and wrong behind it: only the provider finds out.
    let url = "data:image/png;base64,iVBORw0KGgoAAAAA";
    let picture = json!({ "type": "file", "mediaType": "image/png", "url": url });
    for dialect in ["anthropic", "chat", "responses"] {
        let (own, model) = models.of(dialect);
        let body = json!({ "error": { "message": "Could not process image" } }).to_string();
        let refusal = || Told {
            status: 400,
            content_type: "application/json",
            body: body.clone().into(),
            hangs: false,
        };
        let text = json!({ "type": "text", "content": "see" });
        let message = json!({ "role": "user", "content": "see", "parts": [text, picture] });
        let question = json!({ "message": message, "model": model });
        for _ in 0..2 {
            own.tell(refusal());
            let path = format!("{}/turns", session(dialect));
            let turn = client.post(&path, &question).await.expect(200);
            assert_eq!(turn["turn"]["state"], "completed", "{turn}");
            let asked = own.take();
            assert_eq!(asked.len(), 2);
            assert!(asked[0].body.to_string().contains("iVBORw0KGgo"));
            let plain = asked[1].body.to_string();
            assert!(!plain.contains("iVBORw0KGgo") && plain.contains("cannot be shown"), "{plain}");
        }
        // Without files a refusal is one.
        own.tell(refusal());
        let turn = ask(&client, &format!("{dialect}-plain"), model, "hello").await;
        assert_eq!(turn["turn"]["state"], "failed", "{turn}");
        assert!(turn["turn"]["error"].to_string().contains("Could not process image"), "{turn}");
        assert_eq!(own.take().len(), 1);
    }
}

/// A key that nobody may see.
const CANARY: &str = "canary-0123456789-abcdefghij";

#[tokio::test]
async fn keys_go_only_where_the_settings_say() {
    let (models, tool) = (Models::start(), StrictServer::of_anything());
    let mut options = models.known_to(Options::default());
    for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "MY_KEY"] {
        options = options.set(name, CANARY);
    }
    let set = |field: &str| format!("SESSILE__TOOLS__HTTP__ADD__{field}");
    options = options
        .set(&set("URL"), format!("{}/tool", tool.base))
        .set(&set("SECRET__ENV"), "TOOL_KEY")
        .set("TOOL_KEY", "a key of the tests, long enough");
    let named = StrictServer::start(Rules::Chat);
    let set = |field: &str| format!("SESSILE__MODELS__COMPATIBLE__NAMED__{field}");
    options = options
        .set(&set("BASE_URL"), format!("{}/v1", named.base))
        .set(&set("HEADERS__API_KEY__ENV"), "MY_KEY")
        .set(&set("HEADERS__X_PLAIN"), "plain")
        .set(&set("QUERY__VERSION"), "2024-10-21")
        .set(&set("QUERY__TOKEN__ENV"), "MY_KEY");
    let server: Server = options.start();
    let client = Client::new(&server);
    let call =
        json!([{ "id": "c1", "index": 0, "function": { "name": "add", "arguments": "{}" } }]);
    let chunk =
        json!({ "choices": [{ "delta": { "tool_calls": call }, "finish_reason": "tool_calls" }] });
    models.chat.tell_events(format!("data: {chunk}\n\n"));
    for dialect in ["anthropic", "chat", "responses"] {
        let (own, model) = models.of(dialect);
        let turn = ask(&client, dialect, model, "hello").await;
        assert_eq!(turn["turn"]["state"], "completed", "{turn}");
        let asked = own.take();
        assert!(!asked.is_empty());
        for asked in asked {
            let all = format!("{}{}", asked.head, asked.body);
            assert!(!all.contains("canary"), "{all}");
            assert!(!asked.head.contains("authorization") && !asked.head.contains("x-api-key"));
            assert!(asked.head.contains("accept-encoding: identity\r\n"), "{}", asked.head);
        }
    }
    let called = tool.take();
    assert_eq!(called.len(), 1);
    assert!(!format!("{called:?}").contains("canary"));
    ask(&client, "named", "named/m", "hello").await;
    let asked = named.take();
    let head = &asked[0].head;
    assert!(head.contains(&format!("\r\napi_key: {CANARY}\r\n")), "{head}");
    assert!(head.contains("\r\nx_plain: plain\r\n"), "{head}");
    let query = format!("/v1/chat/completions?token={CANARY}&version=2024-10-21 ");
    assert!(head.contains(&query), "{head}");
    assert!(!server.log().contains("canary"), "{}", server.log());
}

#[tokio::test]
async fn what_must_go_back_survives_a_crash_and_an_approval() {
    let (models, tool) = (Models::start(), StrictServer::of_anything());
    let options = || {
        let set = |field: &str| format!("SESSILE__TOOLS__HTTP__ADD__{field}");
        models
            .known_to(Options::default())
            .set(&set("URL"), format!("{}/tool", tool.base))
            .set(&set("NEEDS_APPROVAL"), true)
            .set(&set("SECRET__ENV"), "TOOL_KEY")
            .set("TOOL_KEY", "a key of the tests, long enough")
    };
    let folder = tempfile::tempdir().unwrap();
    let mut server = options().start_in(folder.path());
    let client = Client::new(&server);
    let call = json!([{ "id": "functions.add:0", "index": 0, "extra_content": { "google": { "thought_signature": "c2ln" } },
        "function": { "name": "add", "arguments": "{\"a\":1}" } }]);
    let delta = json!({ "reasoning_content": "think hard", "tool_calls": call });
    let chunk = json!({ "choices": [{ "delta": delta, "finish_reason": "tool_calls" }] });
    models.chat.tell_events(format!("data: {chunk}\n\n"));
    let turn = ask(&client, "s", "chat/m", "hello").await;
    assert_eq!(turn["turn"]["state"], "waiting_approval", "{turn}");
    models.chat.take();
    server.kill();
    let server = options().start_in(folder.path());
    let client = Client::new(&server);
    let parts = turn["message"]["parts"].as_array().unwrap();
    let approval = parts.iter().find_map(|part| part["approval"]["id"].as_str()).unwrap();
    let path = format!("{}/approvals/{approval}", session("s"));
    client.post(&path, &json!({ "approved": true })).await.expect(200);
    let asked = eventually(SOON, "the turn goes on", async || {
        Some(models.chat.take()).filter(|asked| !asked.is_empty())
    })
    .await;
    assert!(refused(&asked).is_empty(), "{asked:?}");
    let answer = &asked[0].body["messages"][1];
    assert_eq!(answer["reasoning_content"], "think hard");
    assert_eq!(answer["tool_calls"][0]["extra_content"]["google"]["thought_signature"], "c2ln");
    assert_eq!(answer["tool_calls"][0]["id"], "functions.add:0");
    assert_eq!(asked[0].body["messages"][2]["tool_call_id"], "functions.add:0");
}

#[tokio::test]
async fn a_model_that_cannot_be_is_a_400_on_every_route() {
    let server = Server::start();
    let client = Client::new(&server);
    let message = json!({ "role": "user", "content": "x", "parts": [{ "type": "text", "text": "x" }], "id": "m1" });
    for model in ["gpt-4o", "nobody/gpt-4o", "anthropic/", "/x"] {
        let turn = json!({ "message": { "role": "user", "content": "x" }, "model": model });
        client.post(&format!("{}/turns", session("s")), &turn).await.problem(400, "invalid");
        let chat = json!({ "id": "c", "messages": [message], "trigger": "submit-message", "model": model });
        let reply = client.post("/api/chat", &chat).await;
        assert_eq!(reply.status, 400, "{model}: {}", reply.body);
        let settings = json!({ "settings": { "model": model } });
        client.post("/v1/sessions", &settings).await.problem(400, "invalid");
        let reply = client.post("/api/completion", &json!({ "prompt": "x", "model": model })).await;
        assert_eq!(reply.status, 400, "{model}: {}", reply.body);
    }
}

#[test]
fn a_default_that_cannot_answer_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let start = |model: &str| {
        let options = Options::default().set("SESSILE__MODELS__DEFAULT", model);
        options
            .set("SESSILE__MODELS__OPENAI__KEY_ENV", "NO_SUCH_KEY_IN_TESTS")
            .try_start_in(folder.path())
    };
    let server = start("openai/gpt-5").unwrap_or_else(|log| panic!("{log}"));
    let log = server.log();
    let told = log.lines().find(|line| line.contains("WARN") && line.contains("models.default"));
    assert!(told.is_some_and(|line| line.contains("NO_SUCH_KEY_IN_TESTS")), "{log}");
    drop(server);
    for model in ["nobody/x", "openai", "openai/"] {
        let log = start(model).err().unwrap();
        assert!(log.contains("models.default"), "{log}");
    }
}

#[tokio::test]
async fn a_message_that_another_model_goes_on_with_holds_nothing_for_it_of_the_first() {
    let models = Models::start();
    let server = models.known_to(Options::default()).start();
    let client = Client::new(&server);
    let own = &models.anthropic;
    let start = |index: u32, block: Value| json!({ "type": "content_block_start", "index": index, "content_block": block });
    let delta = |index: u32, delta: Value| json!({ "type": "content_block_delta", "index": index, "delta": delta });
    let stop = |index: u32| json!({ "type": "content_block_stop", "index": index });
    let call = [
        json!({ "type": "message_start", "message": { "id": "m" } }),
        start(0, json!({ "type": "thinking", "thinking": "", "signature": "" })),
        delta(0, json!({ "type": "thinking_delta", "thinking": "hm" })),
        delta(0, json!({ "type": "signature_delta", "signature": "SEAL" })),
        stop(0),
        start(1, json!({ "type": "redacted_thinking", "data": "SEAL" })),
        stop(1),
        start(2, json!({ "type": "tool_use", "id": "toolu_1", "name": "mine", "input": {} })),
        stop(2),
        json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" } }),
        json!({ "type": "message_stop" }),
    ];
    let call = call.map(|event| format!("data: {event}\n\n")).concat();
    for (model, seals) in [("anthropic/m", 2), ("anthropic/other", 0)] {
        own.tell_events(call.clone());
        let tools = json!([{ "name": "mine" }]);
        let message = json!({ "role": "user", "content": "go" });
        let question = json!({ "message": message, "model": "anthropic/m", "tools": tools });
        let turn = client.post(&format!("{}/turns", session(model)), &question).await.expect(200);
        let part = json!({ "type": "tool-mine", "toolCallId": "toolu_1", "state": "output-available", "input": {}, "output": "x" });
        let message = json!({ "id": turn["message"]["id"], "role": "assistant", "parts": [part] });
        let on = json!({ "id": model, "messages": [message], "trigger": "submit-message", "model": model });
        client.post("/api/chat", &on).await.text(200);
        let turn = ask(&client, model, model, "and now?").await;
        assert_eq!(turn["turn"]["state"], "completed", "{turn}");
        let asked = own.take();
        assert_eq!(asked.len(), 3);
        assert!(refused(&asked).is_empty(), "{:?}", refused(&asked));
        for asked in &asked[1..] {
            assert_eq!(asked.body["model"], model.split_once('/').unwrap().1);
            let body = asked.body.to_string();
            assert_eq!(body.matches("SEAL").count(), seals, "{body}");
            assert!(body.contains("toolu_1"), "{body}");
        }
    }
}
