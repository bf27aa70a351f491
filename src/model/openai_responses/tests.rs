//! What is sent to the Responses API, and what its streams mean.

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

/// Our message as the library's list of items, without the fields that we do not keep.
fn as_library(message: &Message) -> Value {
    let item = |block: &Block| match block {
        Block::Text(text) => json!({"type": "message", "text": text}),
        Block::Tool { id, name, text, input } => {
            assert_eq!(value(input.as_ref()), serde_json::from_str::<Value>(text).unwrap());
            json!({"type": "function_call", "call_id": id, "name": name, "arguments": text})
        }
        block => panic!("{block:?}"),
    };
    message.blocks.iter().map(item).collect()
}

fn without_details(output: &Value) -> Value {
    let item = |item: &Value| match item["type"].as_str() {
        Some("message") => json!({"type": "message", "text": item["content"][0]["text"]}),
        _ => json!({
            "type": item["type"], "call_id": item["call_id"],
            "name": item["name"], "arguments": item["arguments"],
        }),
    };
    output.as_array().unwrap().iter().map(item).collect()
}

#[test]
fn recordings_mean_what_the_library_says() {
    for fixture in fixtures("openai-responses-") {
        let name = &fixture.name;
        let (events, error) = replay_anyhow::<Stream>(&fixture.stream);
        let message = Message::new(events);
        let library = &fixture.expected["ok"];
        if library.is_null() {
            let error = error.unwrap();
            assert_eq!(error.kind, FailureKind::Unavailable, "{name}");
            assert_eq!(fixture.expected["error"]["message"], error.message, "{name}");
            continue;
        }
        assert_eq!(message.id.as_deref(), library["id"].as_str(), "{name}");
        if library["status"] == "failed" {
            // The library gives the broken answer back as if it were one; we do not.
            let error = error.unwrap();
            assert_eq!(error.kind, FailureKind::RateLimit, "{name}");
            assert_eq!(library["error"]["message"], error.message, "{name}");
            continue;
        }
        assert_eq!(error, None, "{name}");
        assert_eq!(as_library(&message), without_details(&library["output"]), "{name}");
        let raw = library["incomplete_details"]["reason"].as_str();
        let raw = raw.or_else(|| library["status"].as_str()).map(str::to_owned);
        let reason = match library["status"].as_str() {
            Some("incomplete") => FinishReason::Length,
            _ => FinishReason::ToolCalls,
        };
        assert_eq!(message.finish, Some((reason, raw)), "{name}");
        let usage = message.usage.unwrap();
        assert_eq!(library["usage"]["input_tokens"], usage.input_tokens, "{name}");
        assert_eq!(library["usage"]["output_tokens"], usage.output_tokens, "{name}");
    }
}

#[track_caller]
fn read(events: &[Value]) -> (Message, Option<ModelError>) {
    let events: Vec<String> = events.iter().map(Value::to_string).collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let (events, error) = replay_anyhow::<Stream>(&stream_of(&events));
    (Message::new(events), error)
}

fn over(kind: &str, response: &Value) -> Value {
    json!({"type": format!("response.{kind}"), "response": response})
}

#[test]
fn every_end_has_a_meaning() {
    let check = |kind: &str, response: &Value, then: FinishReason| {
        let (message, error) = read(&[over(kind, response)]);
        assert_eq!((message.finish.map(|finish| finish.0), error), (Some(then), None));
    };
    let incomplete = |reason: &str| json!({"incomplete_details": {"reason": reason}});
    check("completed", &json!({}), FinishReason::Stop);
    check("incomplete", &incomplete("max_output_tokens"), FinishReason::Length);
    check("incomplete", &incomplete("content_filter"), FinishReason::ContentFilter);
    check("incomplete", &incomplete("?"), FinishReason::Other);
    check("incomplete", &json!(null), FinishReason::Other);
    let call = json!({"output": [{"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}]});
    check("completed", &call, FinishReason::ToolCalls);
    let (_, error) = read(&[json!({"type": "response.from_the_future"})]);
    assert_eq!(error.unwrap().kind, FailureKind::Interrupted);
}

#[test]
fn thoughts_summaries_and_refusals_are_told_apart() {
    let events = [
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "a"}),
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 1, "delta": "b"}),
        json!({"type": "response.reasoning_text.delta", "output_index": 0, "content_index": 0, "delta": "c"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": {"type": "reasoning",
            "summary": [{"text": "a"}, {"text": "b"}], "content": [{"text": "c"}]}}),
        json!({"type": "response.output_text.done", "output_index": 1, "content_index": 0, "text": "all at once"}),
        json!({"type": "response.refusal.delta", "output_index": 1, "content_index": 1, "delta": "no"}),
        over(
            "completed",
            &json!({"output": [
                {"type": "reasoning", "summary": [{"text": "a"}, {"text": "b"}], "content": [{"text": "c"}]},
                {"type": "message", "content": [{"text": "all at once"}, {"refusal": "no"}]},
                {"type": "message", "content": [{"text": "only here"}]},
            ]}),
        ),
    ];
    let (message, error) = read(&events);
    assert_eq!(error, None);
    let thought = |text: &str| Block::Reasoning(text.to_owned(), None);
    let text = |text: &str| Block::Text(text.to_owned());
    let expected = [
        thought("a"),
        thought("b"),
        thought("c"),
        text("all at once"),
        text("no"),
        text("only here"),
    ];
    assert_eq!(message.blocks, expected);
}

#[test]
fn a_call_that_was_cut_off_is_not_repaired() {
    let added = json!({"type": "response.output_item.added", "output_index": 0,
        "item": {"type": "function_call", "call_id": "a", "name": "f"}});
    let delta = json!({"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{\"a\":1"});
    let end = over(
        "incomplete",
        &json!({"incomplete_details": {"reason": "max_output_tokens"},
        "output": [{"type": "function_call", "call_id": "a", "name": "f", "arguments": "{\"a\":1"}]}),
    );
    for (events, text) in
        [(vec![added.clone(), delta, end.clone()], "{\"a\":1"), (vec![added, end], "")]
    {
        let (message, error) = read(&events);
        assert_eq!(error, None);
        let Block::Tool { input: Some(Err(bad)), .. } = &message.blocks[0] else { panic!() };
        assert_eq!(bad.text, text);
    }
}

#[test]
fn illegal_order_is_an_error() {
    let added = json!({"type": "response.output_item.added", "output_index": 0,
        "item": {"type": "function_call", "call_id": "a", "name": "f"}});
    let unnamed = json!({"type": "response.output_item.done",
        "item": {"type": "function_call", "arguments": "{\"a\":1}"}});
    let arguments = json!({"type": "response.function_call_arguments.delta", "delta": "{}"});
    let text = json!({"type": "response.output_text.delta", "delta": "x"});
    let done = json!({"type": "response.output_text.done"});
    for events in
        [vec![arguments], vec![added.clone(), added], vec![unnamed], vec![text.clone(), done, text]]
    {
        let (_, error) = read(&events);
        assert_eq!(error.map(|error| error.kind), Some(FailureKind::Protocol), "{events:?}");
    }
}

#[test]
fn the_body_holds_the_conversation() {
    let request = samples::conversation();
    let settings = Settings::default();
    let body = serde_json::to_value(Body::new(&request, &settings)).unwrap();
    let expected = json!({
        "model": "model-x",
        "instructions": "Be kind.",
        "include": ["reasoning.encrypted_content"],
        "store": false,
        "stream": true,
        "input": [
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "What is this?"},
                {"type": "input_image", "image_url": format!("data:image/png;base64,{}", samples::PNG)},
                {"type": "input_file", "file_url": "https://example.org/a.pdf"},
                {"type": "input_text", "text": "[A file that cannot be shown: b.zip, application/zip]"},
            ]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
            {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{\"at\":1}"},
            {"type": "function_call", "call_id": "call_2", "name": "now", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "a cat"},
            {"type": "function_call_output", "call_id": "call_2", "output": "{\"code\":7}"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Well?"}]},
            {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be brief."}]},
        ],
        "tools": [{"type": "function", "name": "look", "description": "Looks.",
            "parameters": {"type": "object", "properties": {}}, "strict": false}],
    });
    assert_eq!(body, expected);
}
