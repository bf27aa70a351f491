//! For tests: events in any order, with any of the values that matter, to every dialect.

use proptest::collection::vec;
use proptest::prelude::Strategy;
use proptest::prelude::prop_oneof;
use proptest::proptest;
use proptest::sample::select;

use crate::model::anthropic;
use crate::model::dialect::Dialect;
use crate::model::openai_chat;
use crate::model::openai_responses;
use crate::model::replay::replay;
use crate::model::replay::stream_of;

const INDEXES: &[&str] = &["0", "1", "2", "18446744073709551615", "-1", "1e999", "\"0\"", "null"];
const WORDS: &[&str] = &["\"\"", "\"a\"", "\"b\"", "\"{\"", "\"}\"", "null", "5", "{}", "[]"];
const ENDS: &[&str] = &["\"stop\"", "\"tool_use\"", "\"tool_calls\"", "\"length\"", "\"\"", "null"];

/// Templates: `#` becomes an index, `$` a word, `@` a reason to stop.
const ANTHROPIC: &[&str] = &[
    r#"{"type":"message_start","message":{"id":$,"model":$,"usage":{"input_tokens":#}}}"#,
    r#"{"type":"content_block_start","index":#,"content_block":{"type":"text","text":$}}"#,
    r#"{"type":"content_block_start","index":#,"content_block":{"type":"thinking","thinking":$}}"#,
    r#"{"type":"content_block_start","index":#,"content_block":{"type":"redacted_thinking","data":$}}"#,
    r#"{"type":"content_block_start","index":#,"content_block":{"type":"tool_use","id":$,"name":$,"input":$}}"#,
    r#"{"type":"content_block_start","index":#,"content_block":{"type":"other"}}"#,
    r#"{"type":"content_block_delta","index":#,"delta":{"type":"text_delta","text":$}}"#,
    r#"{"type":"content_block_delta","index":#,"delta":{"type":"thinking_delta","thinking":$}}"#,
    r#"{"type":"content_block_delta","index":#,"delta":{"type":"signature_delta","signature":$}}"#,
    r#"{"type":"content_block_delta","index":#,"delta":{"type":"input_json_delta","partial_json":$}}"#,
    r#"{"type":"content_block_stop","index":#}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":@},"usage":{"output_tokens":#}}"#,
    r#"{"type":"message_stop"}"#,
    r#"{"type":"ping"}"#,
    r#"{"type":$}"#,
];

const CHAT: &[&str] = &[
    r#"{"id":$,"model":$,"choices":[{"index":#,"delta":{"content":$}}]}"#,
    r#"{"choices":[{"delta":{"reasoning":$,"content":$}}]}"#,
    r#"{"choices":[{"delta":{"refusal":$}}]}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{"index":#,"id":$,"function":{"name":$,"arguments":$}}]}}]}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{"index":#,"function":{"arguments":$}}]}}]}"#,
    r#"{"choices":[{"delta":{"tool_calls":[{"id":$,"function":{"name":$}},{"index":#}]}}]}"#,
    r#"{"choices":[{"message":{"content":$,"reasoning":$}}]}"#,
    r#"{"choices":[{"message":{"content":$,"tool_calls":[{"id":$,"function":{"name":$,"arguments":$}}]}}]}"#,
    r#"{"choices":[{"delta":{"function_call":{"name":$,"arguments":$}}}]}"#,
    r#"{"choices":[{"delta":{},"finish_reason":@}]}"#,
    r#"{"choices":[],"usage":{"prompt_tokens":#,"completion_tokens":#}}"#,
    r#"{"choices":$,"usage":$}"#,
    "[DONE]",
];

const RESPONSES: &[&str] = &[
    r#"{"type":"response.created","response":{"id":$,"model":$}}"#,
    r#"{"type":"response.output_item.added","output_index":#,"item":{"type":"function_call","call_id":$,"name":$}}"#,
    r#"{"type":"response.output_item.added","output_index":#,"item":{"type":"message","id":$}}"#,
    r#"{"type":"response.output_item.added","item":{"type":"function_call","call_id":$,"name":$}}"#,
    r#"{"type":"response.output_text.delta","output_index":#,"item_id":$,"delta":$}"#,
    r#"{"type":"response.function_call_arguments.delta","item_id":$,"delta":$}"#,
    r#"{"type":"response.output_item.done","output_index":#,"item":{"type":"function_call","call_id":$,"name":$,"arguments":$}}"#,
    r#"{"type":"response.output_item.done","output_index":#,"item":{"type":"message","content":[{"text":$},{"refusal":$}]}}"#,
    r#"{"type":"response.output_item.done","output_index":#,"item":{"type":"reasoning","summary":[{"text":$}],"content":$}}"#,
    r#"{"type":"response.output_text.delta","output_index":#,"content_index":#,"delta":$}"#,
    r#"{"type":"response.output_text.done","output_index":#,"content_index":#,"text":$}"#,
    r#"{"type":"response.reasoning_summary_text.delta","output_index":#,"summary_index":#,"delta":$}"#,
    r#"{"type":"response.reasoning_summary_text.done","output_index":#,"summary_index":#,"text":$}"#,
    r#"{"type":"response.reasoning_text.delta","output_index":#,"content_index":#,"delta":$}"#,
    r#"{"type":"response.function_call_arguments.delta","output_index":#,"delta":$}"#,
    r#"{"type":"response.function_call_arguments.done","output_index":#,"arguments":$}"#,
    r#"{"type":"response.completed","response":{"output":[{"type":"message","content":[{"text":$}]}]}}"#,
    r#"{"type":"response.incomplete","response":{"output":[{"type":"function_call","call_id":$,"name":$,"arguments":$}]}}"#,
];

/// A template with every mark replaced.
fn event(templates: &'static [&'static str]) -> impl Strategy<Value = String> {
    let values = (vec(select(INDEXES), 3), vec(select(WORDS), 4), select(ENDS));
    (select(templates), values).prop_map(|(template, (indexes, words, end))| {
        let (mut indexes, mut words) = (indexes.into_iter(), words.into_iter());
        let mut text = String::new();
        for c in template.chars() {
            match c {
                '#' => text.push_str(indexes.next().unwrap_or("0")),
                '$' => text.push_str(words.next().unwrap_or("null")),
                '@' => text.push_str(end),
                other => text.push(other),
            }
        }
        text
    })
}

fn events(templates: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop_oneof![vec(event(templates), 0..6), vec(event(templates), 0..40)]
}

/// [`replay`] checks that the promises are kept.
fn check(dialect: impl Dialect, events: &[String]) {
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    replay(dialect, &stream_of(&events), &[]);
}

proptest! {
    #[test]
    fn messages_keep_the_promises_whatever_comes(events in events(ANTHROPIC)) {
        check(anthropic::Stream::default(), &events);
    }

    #[test]
    fn chat_completions_keep_the_promises_whatever_comes(events in events(CHAT)) {
        check(openai_chat::Stream::default(), &events);
    }

    #[test]
    fn responses_keep_the_promises_whatever_comes(events in events(RESPONSES)) {
        check(openai_responses::Stream::default(), &events);
    }
}
