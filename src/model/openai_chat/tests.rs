//! What is sent for a chat completion, and what its streams mean.

use serde_json::Value;
use serde_json::json;

use super::Settings;
use super::body::Body;
use super::stream::Stream;
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

/// What a field that the library does not know really holds: of its pieces, the library keeps only the last.
const LAST_PIECE: &[(&str, &str, &str)] =
    &[("openai-chat-reasoning-content", "reasoning_content", "hm yes")];

/// Our message in the library's words, as far as they go.
fn as_library(message: &Message) -> Value {
    let mut choice = json!({"content": null, "refusal": null});
    let text = message.text();
    if !text.is_empty() {
        choice["content"] = text.into();
    }
    for block in &message.blocks {
        match block {
            Block::Text(_) => {}
            Block::Reasoning(text, _) => choice["reasoning_content"] = text.as_str().into(),
            Block::Redacted(_) => panic!("this dialect has no sealed thoughts"),
            Block::Tool { id, name, text, input } => {
                assert_eq!(value(input.as_ref()), serde_json::from_str::<Value>(text).unwrap());
                if choice["tool_calls"].is_null() {
                    choice["tool_calls"] = json!([]);
                }
                let function = json!({"name": name, "arguments": text});
                let call = json!({"id": id, "type": "function", "function": function});
                choice["tool_calls"].as_array_mut().unwrap().push(call);
            }
        }
    }
    choice
}

#[test]
fn recordings_mean_what_the_library_says() {
    for fixture in fixtures("openai-chat-") {
        let name = &fixture.name;
        let (events, error) = replay_anyhow::<Stream>(&fixture.stream);
        let message = Message::new(events);
        let library = &fixture.expected["ok"];
        if library.is_null() {
            let error = error.unwrap();
            if fixture.expected["error"]["type"] == "server_error" {
                assert_eq!(error.kind, FailureKind::Unavailable, "{name}");
                assert_eq!(fixture.expected["error"]["message"], error.message, "{name}");
            } else {
                assert_eq!(error.kind, FailureKind::Interrupted, "{name}");
            }
            continue;
        }
        assert_eq!(error, None, "{name}");
        assert_eq!(message.id.as_deref(), library["id"].as_str(), "{name}");
        assert_eq!(message.model.as_deref(), library["model"].as_str(), "{name}");
        let mut theirs = library["choices"][0]["message"].clone();
        for extra in ["role", "parsed"] {
            theirs.as_object_mut().unwrap().remove(extra);
        }
        for (_, field, whole) in LAST_PIECE.iter().filter(|(fixture, ..)| fixture == name) {
            theirs[field] = (*whole).into();
        }
        assert_eq!(as_library(&message), theirs, "{name}");
        let (_, raw) = message.finish.unwrap();
        assert_eq!(raw.as_deref(), library["choices"][0]["finish_reason"].as_str(), "{name}");
        let ours = message.usage.map(|usage| [usage.input_tokens, usage.output_tokens]);
        let counts = library.get("usage").map(|usage| {
            ["prompt_tokens", "completion_tokens"].map(|field| usage[field].as_u64().unwrap())
        });
        assert_eq!(ours, counts, "{name}");
    }
}

#[track_caller]
fn read(events: &[&str]) -> (Message, Option<ModelError>) {
    let (events, error) = replay_anyhow::<Stream>(&stream_of(events));
    (Message::new(events), error)
}

fn delta(delta: &Value, finish_reason: Option<&str>) -> String {
    let choices = json!([{"delta": delta, "finish_reason": finish_reason}]);
    json!({"id": "c", "choices": choices}).to_string()
}

/// What a list of `tool_calls` deltas amounts to: id, name and text of each call.
#[track_caller]
fn check_calls(pieces: &[Value], then: &[(&str, &str, &str)]) {
    let mut events: Vec<String> =
        pieces.iter().map(|piece| delta(&json!({"tool_calls": [piece]}), None)).collect();
    events.push(delta(&json!({}), Some("tool_calls")));
    let (message, error) = read(&events.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(error, None);
    let calls: Vec<_> = message
        .blocks
        .iter()
        .map(|block| match block {
            Block::Tool { id, name, text, .. } => (id.as_str(), name.as_str(), text.as_str()),
            block => panic!("{block:?}"),
        })
        .collect();
    assert_eq!(calls, then);
}

#[test]
fn calls_come_in_many_ways() {
    let piece = |index: Option<u64>, id: &str, name: &str, text: &str| {
        let function = json!({"name": name, "arguments": text});
        json!({"index": index, "id": id, "function": function})
    };
    // Whole, and in pieces that are mixed.
    check_calls(&[piece(Some(0), "a", "f", "{}")], &[("a", "f", "{}")]);
    let mixed = [
        piece(Some(0), "a", "f", ""),
        piece(Some(1), "b", "g", "{"),
        piece(Some(0), "", "", "{}"),
        piece(Some(1), "", "", "}"),
    ];
    check_calls(&mixed, &[("a", "f", "{}"), ("b", "g", "{}")]);
    // Without an index; with the id and the name repeated; always with index 0; without an id; name later than text.
    let plain = [piece(None, "a", "f", "{"), piece(None, "", "", "}"), piece(None, "b", "g", "{}")];
    check_calls(&plain, &[("a", "f", "{}"), ("b", "g", "{}")]);
    let repeated = [piece(Some(0), "a", "f", "{"), piece(Some(0), "a", "f", "}")];
    check_calls(&repeated, &[("a", "f", "{}")]);
    let zero = [piece(Some(0), "a", "f", "{}"), piece(Some(0), "b", "f", "{}")];
    check_calls(&zero, &[("a", "f", "{}"), ("b", "f", "{}")]);
    let nameless = [piece(Some(0), "", "f", "{}"), piece(Some(1), "", "g", "{}")];
    check_calls(&nameless, &[("c-0", "f", "{}"), ("c-1", "g", "{}")]);
    let late = [piece(Some(0), "a", "", "{"), piece(Some(0), "", "f", "}")];
    check_calls(&late, &[("a", "f", "{}")]);
    check_calls(&[json!({"index": "0", "id": "a", "function": {"name": "f"}})], &[("a", "f", "")]);
}

#[test]
fn illegal_order_is_an_error() {
    let call = |index: u64, id: &str, name: &str| {
        delta(
            &json!({"tool_calls": [{"index": index, "id": id, "function": {"name": name, "arguments": "{}"}}]}),
            None,
        )
    };
    let end = delta(&json!({}), Some("tool_calls"));
    for events in [vec![call(0, "", "")], vec![call(0, "a", ""), end], vec!["{".to_owned()]] {
        let (_, error) = read(&events.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(error.map(|error| error.kind), Some(FailureKind::Protocol), "{events:?}");
    }
}

#[test]
fn a_call_that_was_cut_off_is_not_repaired() {
    for (text, reason, whole) in
        [(r#"{"a":1,"b":"un"#, "length", false), ("", "length", false), ("", "tool_calls", true)]
    {
        let call = json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": text}}]});
        let (message, error) = read(&[&delta(&call, None), &delta(&json!({}), Some(reason))]);
        assert_eq!(error, None);
        let Block::Tool { input: Some(input), .. } = &message.blocks[0] else { panic!() };
        assert_eq!(input.is_ok(), whole);
        if let Err(bad) = input {
            assert_eq!(bad.text, text);
        }
    }
}

#[test]
fn every_finish_reason_has_a_meaning() {
    let check = |content: &Value, raw: &str, then: FinishReason| {
        let (message, error) = read(&[&delta(content, None), &delta(&json!({}), Some(raw))]);
        assert_eq!((message.finish, error), (Some((then, Some(raw.to_owned()))), None));
    };
    let plain = json!({"content": "x"});
    check(&plain, "stop", FinishReason::Stop);
    check(&plain, "length", FinishReason::Length);
    check(&plain, "tool_calls", FinishReason::ToolCalls);
    check(&plain, "function_call", FinishReason::ToolCalls);
    check(&plain, "content_filter", FinishReason::ContentFilter);
    check(&plain, "eos", FinishReason::Other);
    check(&json!({"refusal": "no"}), "stop", FinishReason::ContentFilter);
}

#[test]
fn thoughts_and_text_take_turns() {
    let events = [
        delta(&json!({"reasoning": "a"}), Some("")),
        delta(&json!({"content": "b"}), None),
        delta(&json!({"reasoning_content": "c", "content": ""}), None),
        delta(&json!({"content": "d"}), Some("stop")),
        delta(&json!({"content": ", and on"}), Some("length")),
        "[DONE]".to_owned(),
        "never read".to_owned(),
    ];
    let (message, error) = read(&events.iter().map(String::as_str).collect::<Vec<_>>());
    let thought = |text: &str| Block::Reasoning(text.to_owned(), None);
    let text = |text: &str| Block::Text(text.to_owned());
    assert_eq!(message.blocks, [thought("a"), text("b"), thought("c"), text("d, and on")]);
    assert_eq!(message.finish.unwrap().0, FinishReason::Length);
    assert_eq!(error, None);
}

#[test]
fn the_body_holds_the_conversation() {
    let request = samples::conversation();
    let settings = Settings { max_tokens_count: Some(7), ..Settings::default() };
    let body = serde_json::to_value(Body::new(&request, &settings)).unwrap();
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let function = json!({"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}});
    let expected = json!({
        "model": "model-x",
        "stream": true,
        "stream_options": {"include_usage": true},
        "max_completion_tokens": 7,
        "messages": [
            {"role": "system", "content": "Be kind.\n\nBe brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{}", samples::PNG)}},
                {"type": "text", "text": "[A file that cannot be shown: a.pdf, application/pdf]"},
                {"type": "text", "text": "[A file that cannot be shown: b.zip, application/zip]"},
            ]},
            {"role": "assistant", "content": "Let me see.", "tool_calls": [
                call("call_1", "look", "{\"at\":1}"),
                call("call_2", "now", "{}"),
            ]},
            {"role": "tool", "tool_call_id": "call_1", "content": "a cat"},
            {"role": "tool", "tool_call_id": "call_2", "content": "{\"code\":7}"},
            {"role": "assistant", "content": "(The answer ended here.)"},
            {"role": "user", "content": "Well?"},
        ],
        "tools": [{"type": "function", "function": function}],
    });
    assert_eq!(body, expected);
    let settings = Settings { stream_options: false, legacy_max_tokens: true, ..settings };
    let body = serde_json::to_value(Body::new(&request, &settings)).unwrap();
    assert_eq!(body["max_tokens"], 7);
    assert!(body.get("stream_options").is_none() && body.get("max_completion_tokens").is_none());
}

#[test]
fn the_strangest_server_gets_ids_of_its_length() {
    let settings =
        Settings { base_url: "https://api.mistral.ai/v1".to_owned(), ..Settings::default() };
    let body = serde_json::to_value(Body::new(&samples::conversation(), &settings)).unwrap();
    let calls = body["messages"][2]["tool_calls"].as_array().unwrap();
    for (at, call) in calls.iter().enumerate() {
        let id = call["id"].as_str().unwrap();
        assert!(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        assert_eq!(body["messages"][3 + at]["tool_call_id"], id);
    }
    assert_eq!(calls.len(), 2);
}
