//! Given events, when they are encoded, then these chunks and lines.

use super::*;
use crate::base::json::Object;
use crate::domain::session::Event;
use crate::domain::session::Turn;
use crate::domain::session::TurnOptions;
use crate::domain::session::TurnState;
use crate::domain::session::Usage;
use crate::protocol::Encoder;

fn turn(state: TurnState) -> Turn {
    Turn {
        id: "t".to_owned(),
        state,
        input_id: "u".to_owned(),
        message_id: "m".to_owned(),
        attempt: 1,
        options: TurnOptions::default(),
        model: Some("echo".to_owned()),
        finish_reason: Some("stop".to_owned()),
        expires_at_ms: None,
        usage: state.is_over().then_some(Usage { input_tokens: 1, output_tokens: 2 }),
        error: (state == TurnState::Failed).then(|| "no luck".to_owned()),
        error_status: None,
        resume: None,
    }
}

fn update(part: usize, fields: &str) -> Event {
    let fields: Object = serde_json::from_str(fields).expect("JSON");
    Event::PartUpdate { message_id: "m".to_owned(), part, fields }
}

fn delta(part: usize, text: &str) -> Event {
    Event::PartDelta { message_id: "m".to_owned(), part, offset: 0, delta: text.to_owned() }
}

fn encode(mut encoder: impl Encoder, events: &[Event]) -> String {
    events.iter().map(|event| encoder.push(event.kind(), &event.encode(1))).collect()
}

fn answer(end: TurnState) -> Vec<Event> {
    vec![
        Event::Turn(turn(TurnState::Running)),
        update(0, r#"{"type":"step-start"}"#),
        update(1, r#"{"type":"tool-call","toolCallId":"c","toolName":"add","state":"pending"}"#),
        delta(1, r#"{"a":1}"#),
        update(1, r#"{"toolCallId":"c","toolName":"add","toolInput":{"a":1},"state":"running"}"#),
        update(1, r#"{"toolCallId":"c","toolOutput":null,"state":"complete"}"#),
        update(2, r#"{"type":"step-start"}"#),
        update(3, r#"{"type":"text","content":"","state":"running"}"#),
        delta(3, "one"),
        update(3, r#"{"state":"complete"}"#),
        Event::Turn(turn(end)),
    ]
}

#[test]
fn an_answer_with_a_tool_is_a_stream_of_two_steps() {
    let said = encode(Sse(Chunks::of(&turn(TurnState::Running))), &answer(TurnState::Completed));
    let want = [
        r#"{"type":"start","messageId":"m","messageMetadata":{"model":"echo"}}"#,
        r#"{"type":"start-step"}"#,
        r#"{"type":"tool-input-start","toolCallId":"c","toolName":"add"}"#,
        r#"{"type":"tool-input-delta","toolCallId":"c","inputTextDelta":"{\"a\":1}"}"#,
        r#"{"type":"tool-input-available","toolCallId":"c","toolName":"add","input":{"a":1}}"#,
        r#"{"type":"tool-output-available","toolCallId":"c","output":null}"#,
        r#"{"type":"finish-step"}"#,
        r#"{"type":"start-step"}"#,
        r#"{"type":"text-start","id":"t3"}"#,
        r#"{"type":"text-delta","id":"t3","delta":"one"}"#,
        r#"{"type":"text-end","id":"t3"}"#,
        r#"{"type":"finish-step"}"#,
        r#"{"type":"finish","finishReason":"stop","messageMetadata":{"usage":{"inputTokens":1,"outputTokens":2}}}"#,
        "[DONE]",
    ];
    let want: String = want.map(|chunk| format!("data: {chunk}\n\n")).concat();
    assert_eq!(said, want);
}

#[test]
fn the_same_answer_in_the_lines_of_v4() {
    let lines = Lines::new(Chunks::of(&turn(TurnState::Running)), "m".to_owned());
    let said = encode(lines, &answer(TurnState::Completed));
    let want = r#"f:{"messageId":"m"}
b:{"toolCallId":"c","toolName":"add"}
c:{"toolCallId":"c","argsTextDelta":"{\"a\":1}"}
9:{"toolCallId":"c","toolName":"add","args":{"a":1}}
a:{"toolCallId":"c","result":null}
e:{"finishReason":"tool-calls","isContinued":false}
f:{"messageId":"m"}
0:"one"
e:{"finishReason":"stop","isContinued":false}
d:{"finishReason":"stop","usage":{"promptTokens":1,"completionTokens":2}}
"#;
    assert_eq!(said, want);
}

#[test]
fn an_answer_that_fails_or_is_stopped_says_so_at_its_end() {
    let end = |state| {
        let said = encode(Sse(Chunks::of(&turn(TurnState::Running))), &answer(state));
        said[said.find("text-end").expect("text") + 16..].replace("\n\n", "\n")
    };
    let usage = r#"data: {"type":"message-metadata","messageMetadata":{"usage":{"inputTokens":1,"outputTokens":2}}}"#;
    let done = "data: [DONE]\n";
    let failed = format!("{usage}\ndata: {{\"type\":\"error\",\"errorText\":\"no luck\"}}\n{done}");
    assert!(end(TurnState::Failed).ends_with(&failed), "{}", end(TurnState::Failed));
    let stopped = format!("{usage}\ndata: {{\"type\":\"abort\",\"reason\":\"stopped\"}}\n{done}");
    assert!(end(TurnState::Stopped).ends_with(&stopped), "{}", end(TurnState::Stopped));
}

#[test]
fn the_plain_text_is_all_there_is() {
    let said = encode(Text(Chunks::of(&turn(TurnState::Running))), &answer(TurnState::Completed));
    assert_eq!(said, "one");
}
