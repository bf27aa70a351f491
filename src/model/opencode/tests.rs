//! A recording of an OpenCode server, read to the turns that it shows.

mod quirks;
mod runs;

use std::collections::HashSet;

use serde_json::Value;

use super::mapper::Mapper;
use super::mapper::Notice;
use crate::model::FailureKind;
use crate::model::FinishReason;
use crate::model::ModelEvent;

const SESSION: &str = "ses_e079f5b17ffejaj2c9qsFiDMVA";
/// The prompts of the recording, in order.
const PROMPTS: [&str; 4] = [
    "msg_1f860a5290014t1QQIvYsHUi4c",
    "msg_1f860a8b1001TzCMNiisSmxtVC",
    "msg_1f860a9d9001rdFugu3dFotzfj",
    "msg_1f860b3ba00103MCk5aWkmE4vI",
];

fn recording(name: &str) -> Vec<String> {
    let text = match name {
        "events" => include_str!("../../../tests/fixtures/opencode/events.json"),
        _ => include_str!("../../../tests/fixtures/opencode/messages.json"),
    };
    let items: Vec<Value> = serde_json::from_str(text).unwrap();
    items.iter().map(Value::to_string).collect()
}

fn messages() -> String {
    format!("[{}]", recording("messages").join(","))
}

/// A mapper that reads the answer to the prompt at `at`.
fn mapper(at: usize) -> Mapper {
    Mapper::new(SESSION, PROMPTS[..at].iter().map(|id| (*id).to_owned()).collect())
}

fn short(event: &ModelEvent) -> String {
    match event {
        ModelEvent::Start { id, model } => {
            let id = id.as_deref().unwrap_or("-");
            format!("start {} {}", &id[..16.min(id.len())], model.as_deref().unwrap_or("-"))
        }
        ModelEvent::TextStart { index } => format!("text {index}"),
        ModelEvent::TextDelta { index, text } => format!("{index}+{text}"),
        ModelEvent::TextEnd { index } | ModelEvent::ReasoningEnd { index, .. } => {
            format!("end {index}")
        }
        ModelEvent::ReasoningStart { index } => format!("reasoning {index}"),
        ModelEvent::ReasoningDelta { index, text } => format!("{index}~{text}"),
        ModelEvent::ToolStart { index, id, name } => format!("tool {index} {id} {name}"),
        ModelEvent::ToolDelta { index, json } => format!("{index}+{json}"),
        ModelEvent::ToolEnd { index, input, .. } => {
            format!("call {index} {}", input.as_ref().unwrap().as_str())
        }
        ModelEvent::ToolResult { id, output, is_error } => {
            format!("result {id} {is_error} {}", output.as_str())
        }
        ModelEvent::StepEnd => "step".to_owned(),
        ModelEvent::Usage(usage) => format!("usage {}/{}", usage.input_tokens, usage.output_tokens),
        other => format!("{other:?}"),
    }
}

/// Reads the whole recording from `prompt` on, up to the first rest at which the answer is over.
fn answer(at: usize) -> (Vec<String>, Mapper) {
    let (mut mapper, mut out) = (mapper(at), Vec::new());
    let events = recording("events");
    let begin = events.iter().position(|event| event.contains(PROMPTS[at])).unwrap();
    for event in &events[begin..] {
        if mapper.event(event, &mut out) == Some(Notice::Idle) && mapper.verdict().is_some() {
            break;
        }
    }
    (out.iter().map(short).collect(), mapper)
}

const TEXT: [&str; 12] = [
    "start msg_1f860a758001 echo-1",
    "reasoning 0",
    "0~hm",
    "end 0",
    "text 1",
    "1+You ",
    "1+said: ",
    "1+hello ",
    "1+opencode",
    "end 1",
    "usage 10/5",
    "",
];

#[test]
fn a_text_is_told_as_it_comes() {
    let (told, mapper) = answer(0);
    assert_eq!(told, TEXT[..11]);
    assert_eq!(mapper.verdict(), Some(Ok((FinishReason::Stop, Some("stop".to_owned())))));
    assert!(!mapper.waits_for_tool());
}

#[test]
fn each_call_of_the_model_is_a_step_of_one_answer() {
    let (told, mapper) = answer(1);
    let call = r#"{"filePath":"/srv/project/hello.txt"}"#;
    let output = r#""<path>/srv/project/hello.txt</path>\n<type>file</type>\n<content>\n1: hello file\n\n(End of file - total 1 lines)\n</content>""#;
    let expected = [
        "start msg_1f860a8c5001 echo-1".to_owned(),
        "tool 0 call_2 read".to_owned(),
        format!("0+{call}"),
        format!("call 0 {call}"),
        format!("result call_2 false {output}"),
        "usage 10/5".to_owned(),
        "step".to_owned(),
        "text 1".to_owned(),
    ];
    assert_eq!(told[..8], expected);
    let text: String = told.iter().filter_map(|event| event.strip_prefix("1+")).collect();
    assert_eq!(text, "tool said: <path>/srv/project/hello.txt<");
    assert_eq!(told[told.len() - 2..], ["end 1", "usage 20/10"]);
    assert_eq!(mapper.verdict(), Some(Ok((FinishReason::Stop, Some("stop".to_owned())))));
}

#[test]
fn an_abort_is_over_only_when_the_message_is() {
    let (mut mapper, mut out) = (mapper(2), Vec::new());
    let events = recording("events");
    let begin = events.iter().position(|event| event.contains(PROMPTS[2])).unwrap();
    let mut rests = Vec::new();
    for event in &events[begin..] {
        if event.contains(PROMPTS[3]) {
            break;
        }
        if mapper.event(event, &mut out) == Some(Notice::Idle) {
            rests.push(mapper.verdict().is_some());
        }
    }
    assert_eq!(rests, [false, false, true, true]);
    let error = mapper.verdict().unwrap().expect_err("aborted");
    assert_eq!(error.kind, FailureKind::Interrupted);
    let told: Vec<String> = out.iter().map(short).collect();
    assert_eq!(told.last().unwrap(), "end 0");
    assert_eq!(told.iter().filter(|event| event.starts_with("0+w")).count(), 30);
}

#[test]
fn a_failure_keeps_its_status() {
    let (told, mapper) = answer(3);
    assert_eq!(told, ["start msg_1f860b3c2001 echo-1"]);
    let error = mapper.verdict().unwrap().expect_err("refused");
    assert_eq!((error.kind, error.status), (FailureKind::Request, Some(400)));
    assert_eq!(error.message, "the model refuses the request: stub says no");
}

#[test]
fn what_the_events_missed_is_fetched_and_nothing_is_told_twice() {
    let events = recording("events");
    let begin = events.iter().position(|event| event.contains(PROMPTS[0])).unwrap();
    let end = events.iter().position(|event| event.contains(PROMPTS[1])).unwrap();
    let only_first = format!("[{}]", recording("messages")[..2].join(","));
    for cut in 0..end - begin {
        let (mut mapper, mut out) = (mapper(0), Vec::new());
        for event in &events[begin..begin + cut] {
            mapper.event(event, &mut out);
        }
        mapper.messages(&only_first, &mut out);
        mapper.messages(&only_first, &mut out);
        mapper.close(&mut out);
        let told: Vec<String> = out.iter().map(short).collect();
        let text: String = told.iter().filter_map(|event| event.strip_prefix("1+")).collect();
        assert_eq!(text, "You said: hello opencode", "cut at {cut}");
        for event in ["start msg_1f860a758001 echo-1", "0~hm", "end 0", "end 1", "usage 10/5"] {
            assert_eq!(told.iter().filter(|told| *told == event).count(), 1, "{event} at {cut}");
        }
        assert_eq!(mapper.verdict().unwrap().expect("over").0, FinishReason::Stop);
    }
}

#[test]
fn prompts_from_before_are_told_apart() {
    let known: HashSet<String> = PROMPTS.iter().map(|id| (*id).to_owned()).collect();
    assert_eq!(Mapper::prompts(&messages()), known);
    let (mut mapper, mut out) = (Mapper::new(SESSION, known), Vec::new());
    mapper.messages(&messages(), &mut out);
    for event in recording("events") {
        let notice = mapper.event(&event, &mut out);
        // The failed prompt's error cannot be told from one of the next; a late abort can.
        assert!(matches!(notice, None | Some(Notice::Idle)), "{notice:?}");
    }
    assert_eq!(out, []);
}

#[test]
fn questions_of_sessions_that_ours_started_are_ours() {
    let (mut mapper, mut out) = (Mapper::new("ses_a", HashSet::new()), Vec::new());
    let created = r#"{"type":"session.created","properties":{"sessionID":"ses_b","info":{"id":"ses_b","parentID":"ses_a"}}}"#;
    assert_eq!(mapper.event(created, &mut out), None);
    let mut ask = |kind: &str, session: &str| {
        let event = format!(
            r#"{{"type":"{kind}.asked","properties":{{"id":"x_1","sessionID":"{session}"}}}}"#
        );
        mapper.event(&event, &mut out)
    };
    assert_eq!(ask("permission", "ses_b"), Some(Notice::Permission("x_1".to_owned())));
    assert_eq!(ask("question", "ses_a"), Some(Notice::Question("x_1".to_owned())));
    assert_eq!(ask("permission", "ses_c"), None);
}

#[test]
fn what_is_not_understood_says_nothing() {
    let (mut mapper, mut out) = (mapper(0), Vec::new());
    for text in ["", "[]", "{", r#"{"type":"x"}"#, r#"{"type":"message.updated","properties":3}"#] {
        assert_eq!(mapper.event(text, &mut out), None);
        mapper.messages(text, &mut out);
    }
    assert_eq!((out.len(), mapper.verdict()), (0, None));
}
