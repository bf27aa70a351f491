//! What is sent to the Messages API, and what its streams mean.

use serde_json::Value;
use serde_json::json;

use super::Settings;
use super::body::Body;
use super::stream::Stream;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::model::BadInput;
use crate::model::Content;
use crate::model::FailureKind;
use crate::model::FinishReason;
use crate::model::ModelError;
use crate::model::replay::Block;
use crate::model::replay::Message;
use crate::model::replay::fixtures;
use crate::model::replay::replay_anyhow;
use crate::model::replay::stream_of;
use crate::model::replay::value;
use crate::model::samples;

/// Where the library repairs the input of a call that was cut off, and what the input really was. We report it as it is.
const REPAIRED: &[(&str, &str)] = &[("anthropic-max-tokens-in-tool", r#"{"a": 1, "b": "unfin"#)];

/// Our message in the library's words; usage apart.
fn as_library(name: &str, message: &Message, library: &Value) -> Value {
    let block = |(at, block): (usize, &Block)| match block {
        Block::Text(text) => json!({"type": "text", "text": text}),
        Block::Reasoning(text, signature) => {
            json!({"type": "thinking", "thinking": text, "signature": signature})
        }
        Block::Redacted(data) => json!({"type": "redacted_thinking", "data": data}),
        Block::Tool { id, name: tool, text, input } => {
            let repaired = REPAIRED.iter().find(|(fixture, _)| *fixture == name);
            let input = if let Some((_, raw)) = repaired {
                assert_eq!(text, raw);
                assert_eq!(input.as_ref().unwrap().as_ref().unwrap_err().text, *raw);
                library["content"][at]["input"].clone()
            } else {
                value(input.as_ref())
            };
            json!({"type": "tool_use", "id": id, "name": tool, "input": input})
        }
    };
    let content: Vec<Value> = message.blocks.iter().enumerate().map(block).collect();
    let (_, stop_reason) = message.finish.clone().unwrap();
    json!({
        "id": message.id,
        "model": message.model,
        "content": content,
        "stop_reason": stop_reason,
    })
}

#[test]
fn recordings_mean_what_the_library_says() {
    for fixture in fixtures("anthropic-") {
        let name = &fixture.name;
        let (events, error) = replay_anyhow::<Stream>(&fixture.stream);
        let message = Message::new(events);
        let library = &fixture.expected["ok"];
        if library.is_null() {
            let said = fixture.expected["error"]["message"].as_str().unwrap();
            let error = error.unwrap();
            match fixture.expected["error"]["type"].as_str() {
                Some("overloaded_error") => {
                    assert_eq!(error.kind, FailureKind::Unavailable);
                    assert!(said.contains(&error.message), "{name}");
                }
                _ => assert_eq!(error.kind, FailureKind::Interrupted, "{name}"),
            }
            // What was said stays said.
            assert_eq!(message.text(), "par", "{name}");
            continue;
        }
        assert_eq!(error, None, "{name}");
        let ours = as_library(name, &message, library);
        for (field, value) in ours.as_object().unwrap() {
            assert_eq!(value, &library[field], "{name}: {field}");
        }
        let (usage, counts) = (message.usage.unwrap(), &library["usage"]);
        let count = |field: &str| counts[field].as_u64().unwrap();
        let cached = count("cache_read_input_tokens");
        let written = count("cache_creation_input_tokens");
        assert_eq!(usage.input_tokens, count("input_tokens") + cached + written, "{name}");
        assert_eq!(usage.cached_input_tokens, cached, "{name}");
        assert_eq!(usage.output_tokens, count("output_tokens"), "{name}");
    }
}

#[track_caller]
fn read(events: &[&str]) -> (Message, Option<ModelError>) {
    let (events, error) = replay_anyhow::<Stream>(&stream_of(events));
    (Message::new(events), error)
}

#[test]
fn every_stop_reason_has_a_meaning() {
    let check = |raw: &str, then: FinishReason| {
        let delta = json!({"type": "message_delta", "delta": {"stop_reason": raw}}).to_string();
        let (message, _) = read(&[&delta, r#"{"type":"message_stop"}"#]);
        assert_eq!(message.finish, Some((then, Some(raw.to_owned()))));
    };
    for raw in ["end_turn", "stop_sequence", "pause_turn"] {
        check(raw, FinishReason::Stop);
    }
    check("tool_use", FinishReason::ToolCalls);
    check("max_tokens", FinishReason::Length);
    check("model_context_window_exceeded", FinishReason::Length);
    check("refusal", FinishReason::ContentFilter);
    check("reason_from_the_future", FinishReason::Other);
}

const TEXT: &str = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text"}}"#;
const TOOL: &str = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"n"}}"#;
const STOP: &str = r#"{"type":"content_block_stop","index":0}"#;
const END: &str = r#"{"type":"message_stop"}"#;

#[test]
fn illegal_order_is_an_error() {
    let delta =
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}"#;
    let input = r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#;
    let start = r#"{"type":"message_start","message":{}}"#;
    for events in [&[input][..], &[TEXT, input], &[TOOL, delta], &[start, start], &["not json"]] {
        let (_, error) = read(events);
        assert_eq!(error.map(|error| error.kind), Some(FailureKind::Protocol), "{events:?}");
    }
}

#[test]
fn what_is_not_needed_is_skipped() {
    let server = r#"{"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"s","name":"web"}}"#;
    let delta = r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#;
    let stop = r#"{"type":"content_block_stop","index":1}"#;
    let events = [TEXT, server, delta, stop, STOP, "5", "[]", "null", END, TEXT, "no json"];
    let (message, error) = read(&events);
    assert_eq!(error, None);
    assert_eq!(message.blocks, [Block::Text(String::new())]);
    assert_eq!(message.finish, Some((FinishReason::Other, None)));
}

#[test]
fn inputs_may_come_whole_or_not_at_all() {
    let check = |events: &[&str], then: Result<&str, &str>| {
        let (message, _) = read(events);
        let Block::Tool { input: Some(input), .. } = &message.blocks[0] else { panic!() };
        let bad = |bad: &BadInput| bad.text.clone();
        assert_eq!(input.as_ref().map(Json::as_str).map_err(bad), then.map_err(str::to_owned));
    };
    let whole = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"n","input":{"a":1}}}"#;
    let delta = r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"b\":2}"}}"#;
    let called = r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"}}"#;
    let cut = r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"}}"#;
    check(&[TOOL, STOP, called, END], Ok("{}"));
    check(&[TOOL, called, END], Ok("{}"));
    check(&[TOOL, cut, END], Err(""));
    check(&[whole, STOP, called, END], Ok(r#"{"a":1}"#));
    check(&[whole, called, END], Ok(r#"{"a":1}"#));
    check(&[whole, delta, STOP, called, END], Ok(r#"{"b":2}"#));
    check(&[TOOL, delta, delta, STOP, called, END], Err(r#"{"b":2}{"b":2}"#));
}

#[test]
fn the_body_holds_the_conversation() {
    let request = samples::conversation();
    let extra = json!({"thinking": {"type": "adaptive"}, "model": "another"});
    let extra = extra.as_object().unwrap().clone();
    let settings = Settings { max_tokens_count: 100, extra, ..Settings::default() };
    let body = serde_json::to_value(Body::new(&request, &settings)).unwrap();
    let expected = json!({
        "model": "model-x",
        "max_tokens": 100,
        "stream": true,
        "thinking": {"type": "adaptive"},
        "system": "Be kind.\n\nBe brief.",
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": samples::PNG}},
                {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}, "title": "a.pdf"},
                {"type": "text", "text": "[A file that cannot be shown: b.zip, application/zip]"},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "b3Bh"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "call_1", "name": "look", "input": {"at": 1}},
                {"type": "tool_use", "id": "call_2", "name": "now", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "a cat"},
                {"type": "tool_result", "tool_use_id": "call_2", "content": "{\"code\":7}", "is_error": true},
                {"type": "text", "text": "Well?"},
            ]},
        ],
        "tools": [{"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {}}}],
    });
    assert_eq!(body, expected);
}

#[test]
fn numbers_are_sent_as_they_came() {
    let mut request = samples::conversation();
    let input = Json::parse(r#"{"n":12345678901234567890123,"x":1.50}"#).unwrap();
    let (id, name) = ("3".to_owned(), "n".to_owned());
    let call =
        Content::ToolCall { id: id.clone(), name: name.clone(), input, seal: Object::default() };
    request.messages[1].content.push(call);
    let result = Content::ToolResult { id, name, output: Json::default(), is_error: false };
    request.messages[2].content.push(result);
    let settings = Settings { max_tokens_count: 7, ..Settings::default() };
    let body = serde_json::to_string(&Body::new(&request, &settings)).unwrap();
    assert!(body.contains(r#""input":{"n":12345678901234567890123,"x":1.50}"#), "{body}");
    assert!(body.contains(r#""max_tokens":7,"#), "{body}");
    for absent in ["temperature", "top_p", "top_k"] {
        assert!(!body.contains(absent));
    }
}
