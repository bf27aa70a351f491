//! Tools against servers on the loopback and a program: what they are sent, what comes of it, and that all of it ends.

mod receiver;

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::Hmac;
use hmac::KeyInit as _;
use hmac::Mac as _;
use serde_json::Value;
use serde_json::json;
use sha2::Sha256;

use self::receiver::Receiver;
use super::ToolCall;
use super::ToolOutcome;
use super::ToolSettings;
use super::Tools;
use crate::base::clock;
use crate::base::json::Json;

/// Settings from JSON, as they would come from a file.
fn tools(settings: Value) -> Result<Tools, String> {
    let settings: ToolSettings = serde_json::from_value(settings).map_err(|e| e.to_string())?;
    let environment =
        |name: &str| (name == "SECRET").then(|| "a secret of twenty-four bytes".to_owned());
    Tools::new(&settings, &environment)
}

fn request(input: Value) -> ToolCall {
    ToolCall {
        workspace: "w1".to_owned(),
        user: Some("ann".to_owned()),
        session: "s1".to_owned(),
        turn: "t1".to_owned(),
        call_id: "call_1".to_owned(),
        input: Json::of(&input).unwrap(),
    }
}

async fn call(tools: &Tools, name: &str, input: Value) -> ToolOutcome {
    let tool = tools.get(name).unwrap_or_else(|| panic!("no tool {name}"));
    tool.call(request(input)).await
}

/// A tool `t` at `url` with further settings.
fn at(url: &str, more: Value) -> Tools {
    let mut settings = json!({ "url": url, "secret": { "env": "SECRET" }, "description": "d" });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    tools(json!({ "http": { "t": settings } })).unwrap()
}

#[tokio::test]
async fn http_calls_are_signed_and_say_who_calls() {
    let receiver = Receiver::start(|_| (200, "application/json", r#"{ "sum": 3 }"#.to_owned()));
    let tools = at(&receiver.base, json!({ "needs_approval": true }));
    let tool = tools.get("t").unwrap();
    assert_eq!((tool.needs_approval(), tool.spec().description.as_str()), (true, "d"));
    assert_eq!(tool.spec().schema.as_str(), r#"{"type":"object"}"#);
    let output = tool.call(request(json!({ "a": 1, "b": 2 }))).await.unwrap();
    assert_eq!(output.as_str(), r#"{"sum":3}"#);

    let seen = receiver.seen();
    let body: Value = serde_json::from_str(&seen[0].body).unwrap();
    let expected = json!({
        "tool": "t", "toolCallId": "call_1", "sessionId": "s1", "turnId": "t1",
        "workspace": "w1", "user": "ann", "input": { "a": 1, "b": 2 },
    });
    assert_eq!(body, expected);
    assert_eq!(seen[0].header("webhook-id"), "call_1");
    let timestamp = seen[0].header("webhook-timestamp");
    let age = clock::now_ms() / 1_000 - timestamp.parse::<i64>().unwrap();
    assert!((0..60).contains(&age), "{timestamp}");
    let mut mac = Hmac::<Sha256>::new_from_slice(b"a secret of twenty-four bytes").unwrap();
    mac.update(format!("call_1.{timestamp}.{}", seen[0].body).as_bytes());
    let signature = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(seen[0].header("webhook-signature"), signature);
}

#[tokio::test]
async fn http_answers_are_taken_as_they_come_and_errors_are_told() {
    let receiver = Receiver::start(|request| match request.path.as_str() {
        "/text" => (200, "text/plain; charset=utf-8", "3 \"apples\"".to_owned()),
        "/empty" => (204, "text/plain", String::new()),
        "/broken" => (200, "application/json", "{".to_owned()),
        "/deep" => (200, "application/json", "[".repeat(60) + &"]".repeat(60)),
        "/big" => (200, "text/plain", "x".repeat(2_000)),
        "/gone" => (302, "location", "/text".to_owned()),
        _ => (422, "application/json", r#"{"error":"no such city"}"#.to_owned()),
    });
    let check = async |path: &str, then: Result<&str, &str>| {
        let tools = at(&format!("{}{path}", receiver.base), json!({ "answer_bytes": 1_000 }));
        let outcome = call(&tools, "t", json!({})).await;
        match (outcome, then) {
            (Ok(output), Ok(expected)) => assert_eq!(output.as_str(), expected, "{path}"),
            (Err(error), Err(expected)) => assert!(error.starts_with(expected), "{path}: {error}"),
            (outcome, _) => panic!("{path}: {outcome:?}"),
        }
    };
    check("/text", Ok(r#""3 \"apples\"""#)).await;
    check("/empty", Ok("null")).await;
    check("/broken", Err("the tool's answer is not JSON")).await;
    check("/deep", Err("the tool's answer is not JSON")).await;
    check("/big", Err("the tool's answer is larger than 1000 bytes")).await;
    check("/gone", Err("the tool answered with status 302")).await;
    let refused = r#"the tool answered with status 422: {"error":"no such city"}"#;
    check("/other", Err(refused)).await;
}

#[tokio::test]
async fn http_tools_that_are_slow_or_away_end_in_time() {
    let receiver = Receiver::start(|_| {
        std::thread::park_timeout(Duration::from_secs(5));
        (200, "text/plain", "late".to_owned())
    });
    let slow = at(&receiver.base, json!({ "timeout_ms": 100 }));
    let error = call(&slow, "t", json!({})).await.unwrap_err();
    assert_eq!(error, "the tool did not answer within 100 ms");
    let away = at("http://127.0.0.1:1/", json!({}));
    assert_eq!(call(&away, "t", json!({})).await.unwrap_err(), "the tool cannot be reached");
}

#[test]
fn settings_that_cannot_work_are_refused_with_all_their_problems() {
    let secret = json!({ "env": "SECRET" });
    let errors = tools(json!({
        "http": {
            "a b": { "url": "http://x", "secret": secret },
            "file": { "url": "file:///etc/passwd", "secret": secret },
            "unsigned": { "url": "http://x" },
            "unset": { "url": "http://x", "secret": { "env": "OTHER" } },
        },
        "mcp": { "both": { "url": "http://x", "command": ["x"] }, "none": {} },
    }))
    .err()
    .unwrap();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(
        lines,
        [
            "tools.http.a b: a name is 1 to 64 letters, digits, `_` and `-`",
            "tools.http.file: url: must begin with http:// or https://",
            "tools.http.unset: environment variable OTHER is not set",
            "tools.http.unsigned: secret: is missing",
            "tools.mcp.both: needs either `command` or `url`",
            "tools.mcp.none: needs either `command` or `url`",
        ]
    );
    let unknown = tools(json!({ "http": { "t": { "secret": { "value": "plain" } } } }));
    assert!(unknown.err().unwrap().contains("unknown field `value`"));
}

/// Whether the MCP server of the fixtures can be run; says so if it cannot.
fn has_python() -> bool {
    let found = std::process::Command::new("python3").arg("--version").output().is_ok();
    if !found {
        println!("skipped: there is no python3");
    }
    found
}

/// The MCP server of the fixtures as a program, with further settings.
fn program(more: Value) -> Tools {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/mcp_stdio.py");
    let mut settings = json!({
        "command": ["python3", script],
        "secret_environment": { "SECRET": { "env": "SECRET" } },
    });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    tools(json!({ "mcp": { "py": settings } })).unwrap()
}

fn is_running(pid: &str) -> bool {
    // A process that nobody has waited for yet runs no more.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn ends(pid: &str) {
    for _ in 0..500 {
        if !is_running(pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("process {pid} still runs");
}

#[tokio::test]
async fn programs_are_started_listed_called_and_ended() {
    if !has_python() {
        return;
    }
    let tools = program(json!({ "answer_bytes": 1_000 }));
    assert_eq!(tools.specs(), []);
    tools.ready().await;
    let names: Vec<String> = tools.specs().into_iter().map(|spec| spec.name).collect();
    let all = ["echo", "fail", "sleep", "big", "die", "spawn", "odd_name_", "leak", "show"];
    assert_eq!(names, all.map(|name| format!("py_{name}")));

    let output = call(&tools, "py_echo", json!({ "text": "hi" })).await.unwrap();
    let output: Value = serde_json::from_str(output.as_str()).unwrap();
    assert_eq!(output["said"], json!({ "text": "hi" }));
    // It gets what was named for it, and nothing else of the server's environment.
    let secret = json!("a secret of twenty-four bytes");
    assert_eq!((&output["secret"], &output["home"]), (&secret, &Value::Null));
    assert_eq!(call(&tools, "py_fail", json!({})).await.unwrap_err(), "no such\nthing");
    let odd = call(&tools, "py_odd_name_", json!({})).await.unwrap();
    assert_eq!(odd.as_str(), r#""one\ntwo""#);
    let big = call(&tools, "py_big", json!({})).await.unwrap_err();
    assert_eq!(big, "the tool's answer is larger than 1000 bytes");
    let list = call(&tools, "py_echo", json!([1])).await.unwrap_err();
    assert_eq!(list, "the input of this tool must be an object");

    let started = call(&tools, "py_spawn", json!({})).await.unwrap();
    let (child, parent) =
        (started.as_str().trim_matches('"').to_owned(), output["pid"].to_string());
    assert!(is_running(&child) && is_running(&parent));
    tools.close().await;
    ends(&parent).await;
    ends(&child).await;
}

#[tokio::test]
async fn a_list_of_tools_comes_in_pages_and_has_an_end() {
    if !has_python() {
        return;
    }
    let endless = "1000000000";
    for (environment, count) in [
        (json!({ "PAGES": "3" }), 11),
        (json!({ "PAGES": endless }), 0),
        (json!({ "PAGES": endless, "REPEATS": "2" }), 0),
        (json!({ "PAGES": endless, "REPEATS": "3" }), 0),
        (json!({ "PAGES": "60", "BYTES": "1000000" }), 0),
        (json!({ "PAGES": "60", "TOOLS": "100" }), 0),
    ] {
        let tools = program(json!({ "environment": environment, "connect_ms": 30_000 }));
        tools.ready().await;
        assert_eq!(tools.specs().len(), count, "{environment}");
        tools.close().await;
    }
}

#[tokio::test]
async fn blocks_of_any_type_are_results() {
    if !has_python() {
        return;
    }
    let tools = program(json!({}));
    tools.ready().await;
    let output = call(&tools, "py_show", json!({})).await.unwrap();
    let blocks: Value = serde_json::from_str(output.as_str()).unwrap();
    let types: Vec<&str> =
        blocks.as_array().unwrap().iter().flat_map(|b| b["type"].as_str()).collect();
    assert_eq!(types, ["text", "image", "video"]);
    tools.close().await;
}

#[tokio::test]
async fn programs_that_die_fail_one_call_and_are_started_again() {
    if !has_python() {
        return;
    }
    let tools = program(json!({}));
    tools.ready().await;
    let error = call(&tools, "py_die", json!({})).await.unwrap_err();
    assert_eq!(error, "the tool's server ended before it answered");
    assert!(call(&tools, "py_echo", json!({})).await.is_ok());
    tools.close().await;
}

#[tokio::test]
async fn programs_that_are_slow_or_missing_end_in_time() {
    if !has_python() {
        return;
    }
    let tools = program(json!({ "timeout_ms": 200, "connect_ms": 5_000 }));
    tools.ready().await;
    let output = call(&tools, "py_echo", json!({})).await.unwrap();
    let pid = serde_json::from_str::<Value>(output.as_str()).unwrap()["pid"].to_string();
    let error = call(&tools, "py_sleep", json!({})).await.unwrap_err();
    assert_eq!(error, "the tool did not answer within 200 ms");
    drop(tools);
    ends(&pid).await;

    let silent = program(json!({ "command": ["sleep", "60"], "connect_ms": 100 }));
    silent.ready().await;
    assert_eq!(silent.specs(), []);
    let missing = program(json!({ "command": ["no-such-program"] }));
    missing.ready().await;
    assert_eq!(missing.specs(), []);
}

#[tokio::test]
async fn only_wanted_tools_are_offered() {
    if !has_python() {
        return;
    }
    let tools = program(json!({ "tools": ["echo"], "needs_approval": true }));
    tools.ready().await;
    let specs = tools.specs();
    assert_eq!((specs.len(), specs[0].name.as_str()), (1, "py_echo"));
    assert!(tools.get("py_echo").unwrap().needs_approval());
    assert!(tools.get("py_fail").is_none());
    tools.close().await;
}

/// Answers as an MCP server would: JSON for lists, an event stream for calls.
fn mcp(request: &receiver::Request) -> (u16, &'static str, String) {
    let message: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "test", "version": "1" },
        }),
        "tools/list" => {
            json!({ "tools": [{ "name": "add", "inputSchema": { "type": "object" } }] })
        }
        "tools/call" => {
            let content = json!([{ "type": "text", "text": "3" }]);
            let answer =
                json!({ "jsonrpc": "2.0", "id": message["id"], "result": { "content": content } });
            return (200, "text/event-stream", format!("event: message\ndata: {answer}\n\n"));
        }
        _ if request.method == "POST" => return (202, "text/plain", String::new()),
        _ => return (405, "text/plain", String::new()),
    };
    let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
    (200, "application/json", answer.to_string())
}

#[tokio::test]
async fn addresses_are_called_with_their_key() {
    let receiver = Receiver::start(mcp);
    let settings = json!({ "url": receiver.base, "key": { "env": "SECRET" } });
    let tools = tools(json!({ "mcp": { "web": settings } })).unwrap();
    tools.ready().await;
    let output = call(&tools, "web_add", json!({ "a": 1 })).await.unwrap();
    assert_eq!(output.as_str(), "\"3\"");
    let seen = receiver.seen();
    let sent = seen.iter().find(|request| request.body.contains("tools/call")).unwrap();
    assert_eq!(sent.header("authorization"), "Bearer a secret of twenty-four bytes");
    let message: Value = serde_json::from_str(&sent.body).unwrap();
    assert_eq!(message["params"]["name"], "add");
    assert_eq!(message["params"]["arguments"], json!({ "a": 1 }));
    tools.close().await;
}

#[tokio::test]
async fn addresses_that_are_slow_or_wrong_end_in_time() {
    let receiver = Receiver::start(|request| {
        if request.body.contains("tools/call") {
            std::thread::park_timeout(Duration::from_secs(5));
        }
        mcp(request)
    });
    let settings = json!({ "url": receiver.base, "timeout_ms": 200 });
    let slow = tools(json!({ "mcp": { "web": settings } })).unwrap();
    slow.ready().await;
    let error = call(&slow, "web_add", json!({})).await.unwrap_err();
    assert_eq!(error, "the tool did not answer within 200 ms");
    let page = Receiver::start(|_| (200, "text/html", "<html>".to_owned()));
    let wrong = tools(json!({ "mcp": { "web": { "url": page.base } } })).unwrap();
    wrong.ready().await;
    assert_eq!(wrong.specs(), []);
}
