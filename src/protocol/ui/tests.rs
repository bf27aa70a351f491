//! Given events, when they are encoded, then these chunks and lines.

use super::*;
use crate::base::json::Object;
use crate::domain::session::Draft;
use crate::domain::session::Event;
use crate::domain::session::Message;
use crate::domain::session::Role;
use crate::domain::session::Status;
use crate::domain::session::Turn;
use crate::domain::session::TurnOptions;
use crate::domain::session::TurnState;
use crate::domain::session::Usage;
use crate::protocol::Encoder;
use crate::protocol::chat;

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
    delta_at(part, 0, text)
}

fn delta_at(part: usize, offset: usize, text: &str) -> Event {
    Event::PartDelta { message_id: "m".to_owned(), part, offset, delta: text.to_owned() }
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
        r#"{"type":"finish","finishReason":"stop","messageMetadata":{"usage":{"inputTokens":1,"outputTokens":2},"finishReason":"stop","status":"complete"}}"#,
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
    let usage = |status| {
        let usage =
            r#"{"usage":{"inputTokens":1,"outputTokens":2},"finishReason":"stop","status":"#;
        format!(r#"data: {{"type":"message-metadata","messageMetadata":{usage}"{status}"}}}}"#)
    };
    let done = "data: [DONE]\n";
    let error = r#"data: {"type":"error","errorText":"no luck"}"#;
    let failed = format!("{}\n{error}\n{done}", usage("failed"));
    assert!(end(TurnState::Failed).ends_with(&failed), "{}", end(TurnState::Failed));
    let abort = r#"data: {"type":"abort","reason":"stopped"}"#;
    let stopped = format!("{}\n{abort}\n{done}", usage("stopped"));
    assert!(end(TurnState::Stopped).ends_with(&stopped), "{}", end(TurnState::Stopped));
}

#[test]
fn the_plain_text_is_all_there_is() {
    let said = encode(Text(Chunks::of(&turn(TurnState::Running))), &answer(TurnState::Completed));
    assert_eq!(said, "one");
}

/// An answer that thinks, calls and says, with its message as it was in the end.
fn long_answer() -> (Vec<Event>, Message) {
    let mut draft = Draft::new("m".to_owned(), 1);
    let said = [
        update(0, r#"{"type":"step-start"}"#),
        update(1, r#"{"type":"reasoning","content":"","state":"running"}"#),
        delta_at(1, 0, "hm "),
        delta_at(1, 3, "so"),
        update(1, r#"{"state":"complete"}"#),
        update(2, r#"{"type":"tool-call","toolCallId":"c","toolName":"add","state":"pending"}"#),
        delta_at(2, 0, r#"{"a":1}"#),
        update(2, r#"{"toolCallId":"c","toolName":"add","toolInput":{"a":1},"state":"running"}"#),
        update(2, r#"{"toolCallId":"c","toolOutput":null,"state":"complete"}"#),
        update(3, r#"{"type":"step-start"}"#),
        update(4, r#"{"type":"text","content":"","state":"running"}"#),
        delta_at(4, 0, "one "),
        delta_at(4, 4, "zwö "),
        delta_at(4, 9, "three"),
        update(4, r#"{"state":"complete"}"#),
        update(5, r#"{"type":"text","content":"","state":"running"}"#),
        delta_at(5, 0, "four"),
        update(5, r#"{"state":"complete"}"#),
    ];
    for event in &said {
        match event {
            Event::PartUpdate { part, fields, .. } => draft.update(*part, fields),
            Event::PartDelta { part, delta, .. } => draft.append(*part, delta),
            _ => {}
        }
    }
    let message = Message {
        id: "m".to_owned(),
        seq: 1,
        version: 2,
        role: Role::Assistant,
        content: draft.content(),
        parts: draft.parts(),
        metadata: None,
        turn_id: Some("t".to_owned()),
        status: Status::Complete,
        created_at: 0,
        created_at_ms: 0,
        updated_at_ms: 0,
    };
    let mut events = vec![Event::Turn(turn(TurnState::Running))];
    events.extend(said);
    events.push(Event::Message(message.clone()));
    events.push(Event::Turn(turn(TurnState::Completed)));
    (events, message)
}

/// What an encoder said, with texts that came in pieces joined and the growth of inputs left out.
fn joined(said: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for line in said.lines().filter(|line| !line.is_empty() && !line.starts_with("event:")) {
        if line.contains("tool-input-delta") || line.starts_with("c:") {
            continue;
        }
        let texts = [r#""delta":""#, r#"{"type":"delta","content":""#, r#"0:""#, r#"g:""#];
        let text =
            texts.iter().find_map(|text| line.split_once(text).map(|(_, said)| (*text, said)));
        let (head, text) =
            text.map_or((line, ""), |(of, said)| (of, said.trim_end_matches(['"', '}'])));
        match out.last_mut() {
            Some(last) if !text.is_empty() && last.starts_with(head) => last.push_str(text),
            _ => out.push(format!("{head}{text}")),
        }
    }
    out
}

fn check_every_way<E: Encoder>(make: impl Fn() -> E) {
    let (events, message) = long_answer();
    let ended = turn(TurnState::Completed);
    let whole = joined(&encode(make(), &events));
    // Each run of deltas as one frame, as in a log that was compacted.
    let mut short: Vec<Event> = Vec::new();
    for event in &events {
        match (event, short.last()) {
            (Event::PartDelta { .. }, Some(Event::MessageParts { .. })) => {}
            (Event::PartDelta { .. }, _) => short.push(Event::MessageParts {
                message_id: "m".to_owned(),
                version: 2,
                parts: message.parts.clone(),
                from: Some(1),
            }),
            _ => short.push(event.clone()),
        }
    }
    assert_eq!(joined(&encode(make(), &short)), whole);
    // The state in place of the rest, wherever the log ends; then what of the rest comes after all says nothing.
    for known in 0..events.len() {
        let mut encoder = make();
        let mut said = String::new();
        for event in &events[..known] {
            said.push_str(&encoder.push(event.kind(), &event.encode(1)));
        }
        said.push_str(&encoder.reset(9, &ended, Some(&message)));
        assert_eq!(joined(&said), whole, "after {known} events");
        assert!(encoder.is_done());
    }
}

#[test]
fn whatever_takes_the_place_of_events_the_answer_is_the_same() {
    let chunks = || Chunks::of(&turn(TurnState::Running));
    check_every_way(|| Sse(chunks()));
    check_every_way(|| Lines::new(chunks(), "m".to_owned()));
    check_every_way(|| Text(chunks()));
    check_every_way(|| chat::Stream::begin(&turn(TurnState::Running)).0);
}

#[test]
fn the_protocol_is_seen_from_the_messages_whoever_made_the_body() {
    for (body, protocol) in [
        (r#"{"messages":[{"role":"user","content":"q"}]}"#, Protocol::V4),
        (
            r#"{"messages":[{"role":"user","content":"q","parts":[{"type":"text","text":"q"}]}]}"#,
            Protocol::V4,
        ),
        // As `prepareSendMessagesRequest` of v5 and later makes it.
        (
            r#"{"id":"a","messages":[{"id":"m","role":"user","parts":[{"type":"text","text":"q"}]}]}"#,
            Protocol::Ui,
        ),
        (
            r#"{"message":{"id":"m","role":"user","parts":[{"type":"text","text":"q"}]}}"#,
            Protocol::Ui,
        ),
        (
            r#"{"trigger":"submit-message","messages":[{"role":"user","content":"q"}]}"#,
            Protocol::Ui,
        ),
    ] {
        let request: UiRequest = serde_json::from_str(body).expect(body);
        assert_eq!(request.protocol(), protocol, "{body}");
    }
}
