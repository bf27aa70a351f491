//! Model servers that refuse, and answers that are not whole: a conversation goes on all the same.

use super::Models;
use super::ask;
use super::programs::with_python;
use super::refused;
use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::server::Options;
use crate::support::strict_server::Asked;
use crate::support::strict_server::Told;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

fn refusal(status: u16, error: &Value) -> Told {
    let body = json!({ "error": error }).to_string().into();
    Told { status, content_type: "application/json", body, hangs: false }
}

fn server(models: &Models) -> (Server, Client) {
    let server = models.known_to(Options::default()).start();
    let client = Client::new(&server);
    (server, client)
}

#[tokio::test]
async fn a_picture_is_left_out_where_nobody_can_see_it() {
    let models = Models::start();
    let (_server, client) = server(&models);
    let url = "data:image/png;base64,iVBORw0KGgoAAAAA";
    let parts = json!([
        { "type": "text", "content": "see" },
        { "type": "file", "mediaType": "image/png", "url": url },
    ]);
    let message = json!({ "role": "user", "content": "see", "parts": parts });
    // A router whose providers all lack eyes, and two servers that run one model on the machine of their user.
    for (number, (status, words)) in [
        (404, "No endpoints found that support image input"),
        (500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"),
        (501, "this model does not support multimodal requests"),
    ]
    .into_iter()
    .enumerate()
    {
        for dialect in ["anthropic", "chat", "responses"] {
            let (own, model) = models.of(dialect);
            let id = format!("{dialect}-{number}");
            own.tell(refusal(status, &json!({ "message": words, "code": status })));
            let question = json!({ "message": message, "model": model });
            let turn =
                client.post(&format!("{}/turns", session(&id)), &question).await.expect(200);
            assert_eq!(turn["turn"]["state"], "completed", "{words} at {dialect}: {turn}");
            assert_eq!(own.take().len(), 2, "{words} at {dialect}");
        }
    }
    // A fault that passes is asked again with the picture.
    let (own, model) = models.of("chat");
    own.tell(refusal(500, &json!({ "message": "out of luck" })));
    let question = json!({ "message": message, "model": model });
    let turn = client.post(&format!("{}/turns", session("again")), &question).await.expect(200);
    assert_eq!(turn["turn"]["state"], "completed", "{turn}");
    let asked = own.take();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|asked| asked.body.to_string().contains("iVBORw0KGgo")));
}

#[tokio::test]
async fn a_conversation_that_grew_too_long_is_asked_with_its_newest_messages() {
    let models = Models::start();
    let (_server, client) = server(&models);
    for (dialect, status, error) in [
        (
            "anthropic",
            400,
            json!({ "type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum" }),
        ),
        (
            "chat",
            400,
            json!({ "code": "context_length_exceeded", "message": "maximum context length is 8 tokens" }),
        ),
        (
            "chat",
            500,
            json!({ "type": "exceed_context_size_error", "message": "the request exceeds the available context size" }),
        ),
        (
            "responses",
            429,
            json!({ "message": "Request too large for model `m`", "type": "tokens", "code": "rate_limit_exceeded" }),
        ),
    ] {
        let (own, model) = models.of(dialect);
        let id = format!("{dialect}-{status}");
        for number in 0..6 {
            ask(&client, &id, model, &format!("question {number}")).await;
        }
        own.take();
        for _ in 0..2 {
            own.tell(refusal(status, &error));
        }
        let turn = ask(&client, &id, model, "the last question").await;
        assert_eq!(turn["turn"]["state"], "completed", "{dialect} {status}: {turn}");
        let asked = own.take();
        assert!(refused(&asked).is_empty(), "{:?}", refused(&asked));
        let sizes: Vec<usize> = asked.iter().map(|asked| asked.body.to_string().len()).collect();
        assert!(sizes.len() == 3 && sizes.is_sorted_by(|a, b| a > b), "{dialect}: {sizes:?}");
        assert!(asked[2].body.to_string().contains("the last question"));
        assert!(!asked[1].body.to_string().contains("question 0"));
        // What cannot be shorter fails, once, with the words of the provider.
        let id = format!("{id}-alone");
        own.tell(refusal(status, &error));
        let turn = ask(&client, &id, model, "hello").await;
        assert_eq!(turn["turn"]["state"], "failed", "{turn}");
        assert!(
            turn["turn"]["error"].as_str().unwrap().contains(error["message"].as_str().unwrap())
        );
        assert_eq!(own.take().len(), 1, "{dialect} {status}");
    }
}

#[tokio::test]
async fn a_call_of_an_answer_that_broke_off_has_failed() {
    let models = Models::start();
    let (_server, client) = server(&models);
    let tools = json!([{ "name": "mine", "inputSchema": { "type": "object" } }]);
    for (number, reason) in ["length", "content_filter"].into_iter().enumerate() {
        let call =
            json!([{ "id": "c1", "index": 0, "function": { "name": "mine", "arguments": "{}" } }]);
        let choice = json!({ "delta": { "tool_calls": call }, "finish_reason": reason });
        let chunk = json!({ "choices": [choice] });
        models.chat.tell_events(format!("data: {chunk}\n\n"));
        let id = format!("s{number}");
        let message = json!({ "role": "user", "content": "go" });
        let question = json!({ "message": message, "model": "chat/m", "tools": tools });
        let path = format!("{}/turns", session(&id));
        let turn = client.post(&path, &question).await.expect(200);
        assert_eq!(turn["turn"]["state"], "completed", "{turn}");
        let parts = turn["message"]["parts"].as_array().unwrap();
        let call = parts.iter().find(|part| part["type"] == "tool-call").unwrap();
        assert_eq!(call["state"], "error", "{call}");
        assert!(call["errorText"].as_str().unwrap().contains("broke off"), "{call}");
        // Nobody can bring a result of it any more.
        let part = json!({ "type": "tool-mine", "toolCallId": "c1", "state": "output-available", "input": {}, "output": "forged" });
        let message = json!({ "id": turn["message"]["id"], "role": "assistant", "parts": [part] });
        let forged = json!({ "id": id, "messages": [message], "trigger": "submit-message" });
        let reply = client.post("/api/chat", &forged).await;
        assert_eq!(reply.status, 409, "{}", reply.body);
        models.chat.take();
        let turn = ask(&client, &id, "chat/m", "and now?").await;
        assert_eq!(turn["turn"]["state"], "completed", "{turn}");
        let asked = models.chat.take();
        assert!(refused(&asked).is_empty(), "{:?}", refused(&asked));
        assert!(asked[0].body.to_string().contains("broke off"), "{:?}", asked[0].body);
    }
}

#[tokio::test]
async fn the_envelope_of_words_does_not_count_as_their_length() {
    let models = Models::start();
    let server =
        models.known_to(Options::default()).set("SESSILE__LIMITS__ANSWER_BYTES", 1_000).start();
    let client = Client::new(&server);
    let envelope = "e".repeat(400);
    let chunk = |text: &str| {
        let choice = json!({ "delta": { "content": text } });
        format!("data: {}\n\n", json!({ "choices": [choice], "id": envelope }))
    };
    let done =
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let words = chunk("word ").repeat(150);
    models.chat.tell_events(format!("{words}{done}"));
    let turn = ask(&client, "s", "chat/m", "go").await;
    assert_eq!(turn["turn"]["state"], "completed", "{turn}");
    assert_eq!(turn["message"]["content"].as_str().unwrap().len(), 750);
    let words = chunk("word ").repeat(201);
    models.chat.tell_events(format!("{words}{done}"));
    let turn = ask(&client, "s", "chat/m", "go").await;
    assert_eq!(turn["turn"]["state"], "failed", "{turn}");
    // Without a word as well it ends some time.
    models.chat.tell_events(chunk("").repeat(300));
    let turn = ask(&client, "s", "chat/m", "go").await;
    assert_eq!(turn["turn"]["state"], "failed", "{turn}");
    assert!(turn["turn"]["error"].as_str().unwrap().contains("too large"), "{turn}");
}

#[tokio::test]
async fn a_server_that_never_says_that_it_is_done_holds_no_turn() {
    let models = Models::start();
    let (_server, client) = server(&models);
    let choice = json!({ "delta": { "content": "all" }, "finish_reason": "stop" });
    let chat = format!("data: {}\n\n", json!({ "choices": [choice] }));
    let delta = json!({ "type": "text_delta", "text": "all" });
    let anthropic = [
        json!({ "type": "message_start", "message": { "id": "m" } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": delta }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" } }),
    ];
    let anthropic = anthropic.map(|event| format!("data: {event}\n\n")).concat();
    let asked = [("chat", chat), ("anthropic", anthropic)].map(|(dialect, body)| {
        let (own, model) = models.of(dialect);
        let content_type = "text/event-stream";
        own.tell(Told { status: 200, content_type, body: body.into(), hangs: true });
        ask(&client, dialect, model, "go")
    });
    for turn in futures_util::future::join_all(asked).await {
        assert_eq!(turn["turn"]["state"], "completed", "{turn}");
        assert_eq!(turn["message"]["content"], "all");
    }
}

#[tokio::test]
async fn comments_alone_keep_no_answer_open() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let choice = json!({ "delta": { "content": "all" }, "finish_reason": "stop" });
    let chunk = json!({ "choices": [choice] });
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"}") {
            stream.read_buf(&mut asked).await.unwrap();
        }
        let head = "HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\n\r\n";
        let mut written = stream.write_all(format!("{head}data: {chunk}\n\n").as_bytes()).await;
        while written.is_ok() {
            // The pace of a server that wants its connection kept.
            tokio::time::sleep(Duration::from_millis(200)).await;
            written = stream.write_all(b": still here\n\n").await;
        }
    });
    let server = Options::default()
        .set("SESSILE__MODELS__PROXY", false)
        .set("SESSILE__MODELS__COMPATIBLE__CHAT__BASE_URL", base)
        .start();
    let client = Client::new(&server);
    let turn = tokio::time::timeout(SOON, ask(&client, "s", "chat/m", "go")).await;
    let turn = turn.expect("the answer is over");
    assert_eq!(turn["turn"]["state"], "completed", "{turn}");
    assert_eq!(turn["message"]["content"], "all");
}

#[tokio::test]
async fn a_turn_whose_tools_cannot_be_reached_yet_can_be_stopped() {
    let (models, mute) = (Models::start(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let set = |field: &str| format!("SESSILE__TOOLS__MCP__MUTE__{field}");
    let server = models
        .known_to(Options::default())
        .set(&set("URL"), format!("http://{}/mcp", mute.local_addr().unwrap()))
        .set(&set("CONNECT_MS"), 600_000)
        .start();
    let client = Client::new(&server);
    let message = json!({ "role": "user", "content": "go" });
    let question = json!({ "message": message, "model": "chat/m" });
    let path = format!("{}/turns", session("s"));
    client.post(&path, &question).with("prefer", "respond-async").await.expect(202);
    // Its server is asked for its tools, and says nothing.
    let _held = tokio::task::spawn_blocking(move || mute.accept()).await.unwrap().unwrap();
    let stop = format!("{}/stop", session("s"));
    let stopping = async { client.post(&stop, &json!({})).await.expect(200) };
    let stopped = tokio::time::timeout(SOON, stopping).await.expect("it stops when it is asked to");
    assert_eq!(stopped["turn"]["state"], "stopped", "{stopped}");
    assert!(models.chat.take().is_empty());
}

#[tokio::test]
async fn what_was_allowed_before_a_restart_is_run_by_servers_that_connect_behind_it() {
    let (models, folder) = (Models::start(), tempfile::tempdir().unwrap());
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let options = || with_python(&models, folder.path(), "needs_approval = true");
    let mut server = options().start_in(&folder.path().join("data"));
    let client = Client::new(&server);
    let call = json!([{ "id": "c1", "index": 0, "function": { "name": "py_echo", "arguments": "{\"text\":\"hi\"}" } }]);
    let choice = json!({ "delta": { "tool_calls": call }, "finish_reason": "tool_calls" });
    models.chat.tell_events(format!("data: {}\n\n", json!({ "choices": [choice] })));
    let turn = ask(&client, "s", "chat/m", "go").await;
    assert_eq!(turn["turn"]["state"], "waiting_approval", "{turn}");
    server.kill();
    let server = options().start_in(&folder.path().join("data"));
    let client = Client::new(&server);
    let parts = turn["message"]["parts"].as_array().unwrap();
    let approval = parts.iter().find_map(|part| part["approval"]["id"].as_str()).unwrap();
    let path = format!("{}/approvals/{approval}", session("s"));
    client.post(&path, &json!({ "approved": true })).await.expect(200);
    let id = turn["message"]["id"].as_str().unwrap();
    let path = format!("{}/messages/{id}", session("s"));
    let message = eventually(SOON, "the turn goes on", async || {
        Some(client.get(&path).await.expect(200)).filter(|message| message["status"] == "complete")
    })
    .await;
    let call = message["parts"].as_array().unwrap().iter().find(|part| part["type"] == "tool-call");
    assert_eq!(call.unwrap()["toolOutput"]["said"]["text"], "hi", "{message}");
    assert_eq!(message["content"], "fine");
}

#[tokio::test]
async fn a_queued_question_knows_the_answers_that_came_while_it_waited() {
    let models = Models::start();
    let (_server, client) = server(&models);
    let path = format!("{}/turns", session("s"));
    let queued = |text: &str, model: &str| {
        let message = json!({ "role": "user", "content": text });
        let body = json!({ "message": message, "model": model, "busy": "queue" });
        client.post(&path, &body).with("prefer", "respond-async")
    };
    queued("!slow 100 5", "echo").await.expect(202);
    for question in ["second", "third", "fourth"] {
        let choice = json!({ "delta": { "content": format!("answer to the {question}") }, "finish_reason": "stop" });
        models.chat.tell_events(format!("data: {}\n\n", json!({ "choices": [choice] })));
        queued(question, "chat/m").await.expect(202);
    }
    let read = eventually(SOON, "all are answered", async || {
        let messages = client.history("s").await;
        let whole = messages.iter().filter(|message| message["status"] == "complete").count();
        (whole == 8).then_some(messages)
    })
    .await;
    assert_eq!(read.len(), 8);
    let asked = models.chat.take();
    let said = |asked: &Asked| {
        let messages = asked.body["messages"].as_array().unwrap();
        let text = |message: &Value| message["content"].as_str().unwrap().to_owned();
        messages[2..].iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(said(&asked[0]), ["second"]);
    assert_eq!(said(&asked[1]), ["second", "answer to the second", "third"]);
    let all = ["second", "answer to the second", "third", "answer to the third", "fourth"];
    assert_eq!(said(&asked[2]), all);
    // And so it stays for who asks later.
    ask(&client, "s", "chat/m", "fifth").await;
    let all = all.into_iter().chain(["answer to the fourth", "fifth"]).collect::<Vec<_>>();
    assert_eq!(said(&models.chat.take()[0]), all);
}
