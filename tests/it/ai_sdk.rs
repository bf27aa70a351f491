//! The routes of the AI SDK from outside: what of a body is read, what is told of answers that broke off, pages, errors.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::messages;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::scripted::Scripted;
use crate::support::server::Options;
use crate::support::socket::Heard;
use crate::support::socket::Socket;
use serde_json::Value;
use serde_json::json;

fn server() -> (Server, Client) {
    let server = Server::start();
    let client = Client::new(&server);
    (server, client)
}

fn said(id: &str, text: &str) -> Value {
    json!({ "id": id, "role": "user", "parts": [{ "type": "text", "text": text }] })
}

fn picture(id: &str, bytes: usize) -> Value {
    let url = format!("data:image/png;base64,{}", "A".repeat(bytes));
    let file = json!({ "type": "file", "mediaType": "image/png", "url": url });
    json!({ "id": id, "role": "user", "parts": [file, { "type": "text", "text": id }] })
}

fn submit(id: &str, messages: &[Value]) -> Value {
    json!({ "id": id, "trigger": "submit-message", "messages": messages })
}

async fn chat(client: &Client, id: &str) -> Vec<Value> {
    let page = client.get(&format!("/api/chat/{id}/messages")).await.expect(200);
    page["messages"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_history_full_of_pictures_is_no_reason_to_refuse_the_next_question() {
    let (server, client) = server();
    let mut history = Vec::new();
    for name in ["a", "b", "c"] {
        history.push(picture(name, 3_900_000));
        client.post("/api/chat", &submit("s", &history)).await.text(200);
    }
    history.push(said("d", "and now?"));
    client.post("/api/chat", &submit("s", &history)).await.text(200);
    client.post("/api/builder/chat", &submit("b", &history)).await.text(200);
    let mut frame = submit("w", &history);
    frame["type"] = json!("send");
    frame["requestId"] = json!("r");
    let mut socket = Socket::open(&server, "/api/chat/ws").await;
    socket.send(&frame).await;
    socket.until("end").await;
    for id in ["s", "b", "w"] {
        let all = client.history(id).await;
        let last = &all[all.len() - 2..];
        assert_eq!([&last[0]["content"], &last[1]["content"]], ["and now?", "echo: and now?"]);
    }
    let count = async |id: &str| {
        client.get(&format!("{}/count", messages(id))).await.expect(200)["count"].clone()
    };
    assert_eq!(count("s").await, 8);
    assert_eq!(count("b").await, 2, "of the history only the last is believed");

    // The last message is bounded, in the shape of the route and on a socket by its name.
    let large = submit("l", &[said("x", "x"), picture("y", 9_000_000)]);
    let refused = client.post("/api/chat", &large).await.expect(413);
    assert_eq!(refused["error"]["code"], "too_large", "{refused}");
    let mut frame = large.clone();
    frame["type"] = json!("send");
    frame["requestId"] = json!("q");
    socket.send(&frame).await;
    let refused = socket.until("error").await;
    assert_eq!(refused["requestId"], "q", "{refused}");
    assert_eq!(client.get(&session("l")).await.status, 404);
    let small = Options::default().set("SESSILE__LIMITS__HISTORY_BODY_BYTES", 100_000).start();
    let refused = Client::new(&small).post("/api/chat", &submit("s", &[picture("a", 120_000)]));
    assert_eq!(refused.await.expect(413)["error"]["code"], "too_large");
}

#[tokio::test]
async fn errors_have_the_shape_of_the_route_whoever_finds_them() {
    let (_server, client) = server();
    client.say("s", "x").await;
    let large = "x".repeat(9_000_000);
    let long_key = "k".repeat(300);
    let cases = [
        ("POST", "/api/chat", "{", ""),
        ("POST", "/api/chat", "{\"messages\":3}", ""),
        ("POST", "/api/chat?protocol=v9", "{}", ""),
        ("POST", "/api/chat", "{}", long_key.as_str()),
        ("POST", "/api/builder/chat", large.as_str(), ""),
        ("POST", "/api/completion", large.as_str(), ""),
        ("POST", "/api/chat/s/stop", "[", ""),
        ("GET", "/api/chat/s/stream?protocol=v9", "", ""),
        ("GET", "/api/chat", "", ""),
        ("GET", "/api/chat/s/messages?limit=0", "", ""),
        ("GET", "/api/chat/s/messages?before=nobody", "", ""),
        ("GET", "/api/chat/s/nothing", "", ""),
        ("POST", "/chat/s", "{", ""),
        ("POST", "/chat/s", large.as_str(), ""),
        ("POST", "/chat/s/messages", "{\"role\":\"nobody\"}", ""),
        ("POST", "/chat/s/messages", "{\"role\":\"user\",\"content\":\"x\"}", long_key.as_str()),
        ("POST", "/v1/conversations", "{", ""),
        ("POST", "/v1/conversations/s/items", large.as_str(), ""),
        ("POST", "/v1/conversations/s", "{\"metadata\":{}}", long_key.as_str()),
        ("GET", "/v1/conversations/s/items?order=up", "", ""),
    ];
    for (method, path, body, key) in cases {
        let mut request = client.request(method, path);
        if !key.is_empty() {
            request = request.key(key);
        }
        let reply = request.body("application/json", body.to_owned()).await;
        assert!((400..500).contains(&reply.status), "{method} {path}: {}", reply.status);
        let error = reply.json()["error"].clone();
        let context = format!("{method} {path}: {}", reply.body);
        if path.starts_with("/api") {
            assert!(error["code"].is_string() && error["message"].is_string(), "{context}");
        } else if path.starts_with("/chat") {
            assert!(error.is_string(), "{context}");
        } else {
            assert!(error["message"].is_string() && error["type"].is_string(), "{context}");
        }
    }
}

#[tokio::test]
async fn the_first_sub_protocol_that_is_offered_is_taken() {
    let (server, client) = server();
    client.say("s", "x").await;
    let native = format!("{}/websocket", session("s"));
    let cases = [
        ("/api/chat/ws", "foo", Some("foo")),
        ("/api/chat/ws", "foo, bar", Some("foo")),
        ("/api/builder/chat/ws", "b.1, a", Some("b.1")),
        ("/chat/s/websocket", "foo", Some("foo")),
        (native.as_str(), "foo", Some("foo")),
        (native.as_str(), "foo, sessile.v1", Some("sessile.v1")),
    ];
    for (path, offered, taken) in cases {
        let headers = [("sec-websocket-protocol", offered)];
        let socket = Socket::try_open(&server, path, &headers).await.unwrap();
        assert_eq!(socket.protocol.as_deref(), taken, "{path} {offered}");
    }
    for path in ["/api/chat/ws", "/chat/s/websocket", native.as_str()] {
        assert_eq!(Socket::open(&server, path).await.protocol, None);
    }
}

#[tokio::test]
async fn tools_and_system_of_a_body_hold_until_the_answer_is_whole() {
    let model = Scripted::start();
    let server = model.known_to(Options::default()).start();
    let client = Client::new(&server);
    let schema = json!({ "type": "object", "properties": { "n": { "type": "number" } } });
    let map = json!({ "pick": { "description": "picks", "parameters": schema } });
    let list = json!([{ "name": "pick", "description": "picks", "inputSchema": schema }]);
    for (id, path, tools) in [("m", "/api/chat", &map), ("l", "/api/builder/chat", &list)] {
        let mut body = submit(id, &[said("u", "call pick {\"n\":1}")]);
        body["model"] = json!("stub/m");
        body["system"] = json!("be brief");
        body["tools"] = tools.clone();
        client.post(path, &body).await.text(200);
        let asked = model.last_request();
        assert_eq!(asked["messages"][0]["content"], "be brief", "{asked}");
        let names: Vec<&Value> =
            asked["tools"].as_array().unwrap().iter().map(|t| &t["function"]["name"]).collect();
        assert!(names.contains(&&json!("pick")), "{asked}");
        let mut answer = chat(&client, id).await.pop().unwrap();
        let at = answer["parts"].as_array().unwrap().len() - 1;
        assert_eq!(answer["parts"][at]["state"], "input-available", "{answer}");
        answer["parts"][at]["state"] = json!("output-available");
        answer["parts"][at]["output"] = json!({ "picked": 1 });
        // What goes on says nothing of tools, system or model.
        client.post(path, &submit(id, &[answer])).await.text(200);
        let again = model.last_request();
        assert_eq!(again["messages"][0]["content"], "be brief", "{again}");
        assert_eq!((&again["tools"], &again["model"]), (&asked["tools"], &asked["model"]));
        assert_ne!(again["messages"], asked["messages"]);
    }
    // What an application means by these words otherwise is none of our business.
    let mut body = submit("x", &[said("u", "hello")]);
    body["model"] = json!("stub/m");
    body["system"] = json!({ "theme": "dark" });
    body["tools"] = json!(["search", 7]);
    client.post("/api/chat", &body).await.text(200);
    assert_eq!(model.last_request()["messages"][0]["role"], "user");
}

#[tokio::test]
async fn the_history_of_a_chat_comes_in_pages() {
    let (_server, client) = server();
    for at in 0..230 {
        let body = json!({ "id": format!("m{at}"), "role": "user", "content": at.to_string() });
        client.post(&messages("s"), &body).await.expect(201);
    }
    let latest = client.get("/api/chat/s/messages").await.expect(200);
    let found = latest["messages"].as_array().unwrap();
    assert_eq!((found.len(), &latest["hasMore"]), (200, &json!(true)));
    let (mut all, mut before) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/chat/s/messages?limit=70{before}");
        let page = client.get(&path).await.expect(200);
        let found = page["messages"].as_array().unwrap().clone();
        assert!(found.len() <= 70);
        before = format!("&before={}", found[0]["id"].as_str().unwrap());
        all.splice(0..0, found);
        if page["hasMore"] == false {
            break;
        }
    }
    let ids: Vec<String> = all.iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, (0..230).map(|at| format!("m{at}")).collect::<Vec<_>>());
    let old = client.get("/chat/s/messages?limit=100").await;
    assert_eq!(old.header("x-has-more"), Some("true"));
    assert_eq!(old.expect(200).as_array().unwrap().len(), 100);

    // A page of pictures ends early.
    let pictures: Vec<Value> = (0..4).map(|at| picture(&format!("p{at}"), 3_000_000)).collect();
    for at in 0..4 {
        client.post("/api/chat", &submit("p", &pictures[..=at])).await.text(200);
    }
    let page = client.get("/api/chat/p/messages").await;
    assert!(page.body.len() < 9_000_000, "{} bytes", page.body.len());
    assert_eq!(page.expect(200)["hasMore"], true);
}

#[tokio::test]
async fn a_frame_beyond_the_rate_is_refused_by_its_name() {
    let server = Options::default().set("SESSILE__LIMITS__SOCKET_MESSAGES_PER_MINUTE", 4).start();
    let client = Client::new(&server);
    client.say("s", "x").await;
    let (mut socket, _) = Socket::live(&server, "s").await;
    for name in ["a", "b"] {
        let frame = json!({ "type": "send", "clientId": name, "role": "user", "content": name });
        socket.send(&frame).await;
    }
    let refused = socket.until("error").await;
    assert_eq!(
        (&refused["clientId"], &refused["error"]["code"]),
        (&json!("b"), &json!("rate_limited"))
    );
    let mut socket = Socket::open(&server, "/api/chat/ws").await;
    for name in ["a", "b"] {
        let mut frame = submit("w", &[said("u", "!slow 5 1")]);
        frame["type"] = json!("send");
        frame["requestId"] = json!(name);
        socket.send(&frame).await;
    }
    let refused = socket.until("error").await;
    assert_eq!(refused["requestId"], "b", "{refused}");
    let Heard::Frame(frame) = socket.hear().await else { panic!("the socket ended") };
    assert_eq!(frame["requestId"], "a", "the other request goes on");
}

#[tokio::test]
async fn an_answer_that_broke_off_says_so_and_its_calls_are_over() {
    let dir = tempfile::tempdir().unwrap();
    let model = Scripted::start();
    let mut server = model.known_to(Options::default()).start_in(dir.path());
    let client = Client::new(&server);
    let ask = |id: &str, text: &str| {
        let mut body = submit(id, &[said("u", text)]);
        body["model"] = json!("stub/m");
        client.post("/api/chat", &body)
    };
    // A tool of the server that never answers, stopped by somebody and cut off by a crash.
    for id in ["stopped", "interrupted"] {
        let mut stream = ask(id, "call hold {}").stream().await;
        while stream.next().await.unwrap().json()["type"] != "tool-input-available" {}
        eventually(SOON, "the tool runs", async || (model.called(id) == 1).then_some(())).await;
        if id == "stopped" {
            client.post("/api/chat/stopped/stop", &json!({})).await.expect(200);
            let rest: Vec<String> = stream.rest().await.into_iter().map(|e| e.data).collect();
            let rest = rest.join("\n");
            assert!(rest.contains("tool-output-error"), "{rest}");
            assert!(rest.contains(r#""status":"stopped""#), "{rest}");
        }
    }
    client.post("/api/chat", &submit("failed", &[said("u", "!error no luck")])).await;
    client.post("/api/chat", &submit("complete", &[said("u", "hello")])).await.text(200);
    server.kill();
    server = model.known_to(Options::default()).start_in(dir.path());
    let client = Client::new(&server);
    for id in ["stopped", "interrupted", "failed", "complete"] {
        let shown = chat(&client, id).await.pop().unwrap();
        assert_eq!(shown["metadata"]["status"], id, "{shown}");
        assert!(shown["metadata"]["finishReason"].is_string(), "{shown}");
        let open = ["input-available", "input-streaming", "approval-requested"];
        for part in shown["parts"].as_array().unwrap() {
            let state = part["state"].as_str().unwrap_or_default();
            assert!(!open.contains(&state), "{shown}");
            assert!(state != "output-error" || part["errorText"].is_string(), "{shown}");
        }
    }
    // The model is told what became of the call.
    let mut body = submit("stopped", &[said("v", "and now?")]);
    body["model"] = json!("stub/m");
    client.post("/api/chat", &body).await.text(200);
    let asked = model.last_request();
    assert!(asked["messages"].to_string().contains("was stopped before"), "{asked}");
}

#[tokio::test]
async fn a_call_that_nobody_answered_is_over_once_the_conversation_goes_on() {
    let (_server, client) = server();
    for (id, script) in [("client", "!client-tool pick {}"), ("approval", "!approve rm {}")] {
        let first = said("u", script);
        client.post("/api/chat", &submit(id, std::slice::from_ref(&first))).await.text(200);
        let waiting = chat(&client, id).await.pop().unwrap();
        client.post("/api/chat", &submit(id, &[first, said("v", "never mind")])).await.text(200);
        let shown = chat(&client, id).await[1].clone();
        let call = &shown["parts"][1];
        assert_eq!(call["state"], "output-error", "{shown}");
        assert!(call["errorText"].as_str().unwrap().contains("went on"), "{shown}");
        assert!(call.get("approval").is_none(), "nobody was heard: {shown}");
        let mut late = waiting.clone();
        late["parts"][1]["state"] = json!("output-available");
        late["parts"][1]["output"] = json!(1);
        let refused = client.post("/api/chat", &submit(id, &[late])).await;
        assert_eq!(refused.expect(409)["error"]["code"], "not_continuable");
    }
    // One that is stopped while it waits.
    client.post("/api/chat", &submit("s", &[said("u", "!approve rm {}")])).await.text(200);
    client.post("/api/chat/s/stop", &json!({})).await.expect(200);
    let shown = chat(&client, "s").await.pop().unwrap();
    assert_eq!(
        (&shown["metadata"]["status"], &shown["parts"][1]["state"]),
        (&json!("stopped"), &json!("output-error"))
    );
}
