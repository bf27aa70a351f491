//! Every recording of the CLI, read to the turn that it shows.

mod quirks;
mod runs;

use super::parser::Parser;
use super::parser::Verdict;
use crate::model::FailureKind;
use crate::model::FinishReason;
use crate::model::ModelEvent;
use crate::model::Usage;

macro_rules! recording {
    ($name:literal) => {
        include_str!(concat!("../../../tests/fixtures/claude-cli/", $name))
    };
}

/// What a recording says, shortened to one line per event, without the tokens of messages that only begin.
fn told(recording: &str) -> (Vec<String>, Verdict) {
    let (mut parser, mut out) = (Parser::default(), Vec::new());
    let begun = |event: &&ModelEvent| matches!(event, ModelEvent::Usage(u) if u.output_tokens < 5);
    let all = |out: &[ModelEvent]| out.iter().filter(|e| !begun(e)).map(short).collect();
    for line in recording.lines() {
        let verdict = parser.line(line, &mut out);
        if verdict != Verdict::More {
            return (all(&out), verdict);
        }
    }
    (all(&out), Verdict::Failed(parser.cut()))
}

#[test]
fn tokens_are_told_before_the_end_that_may_never_come() {
    for recording in [recording!("01-first-turn.jsonl"), recording!("10-partial.jsonl")] {
        let (mut parser, mut out) = (Parser::default(), Vec::new());
        for line in recording.lines() {
            parser.line(line, &mut out);
            if out.iter().any(|event| matches!(event, ModelEvent::Start { .. })) {
                break;
            }
        }
        let told = out.iter().any(|e| matches!(e, ModelEvent::Usage(u) if u.input_tokens == 10));
        assert!(told, "{out:?}");
    }
}

fn short(event: &ModelEvent) -> String {
    match event {
        ModelEvent::Start { id, model } => {
            format!("start {} {}", id.as_deref().unwrap_or("-"), model.as_deref().unwrap_or("-"))
        }
        ModelEvent::TextStart { index } => format!("text {index}"),
        ModelEvent::TextDelta { index, text } => format!("{index}+{text}"),
        ModelEvent::TextEnd { index } => format!("end {index}"),
        ModelEvent::ReasoningStart { index } => format!("reasoning {index}"),
        ModelEvent::ReasoningDelta { index, text } => format!("{index}~{text}"),
        ModelEvent::ReasoningEnd { index, seal } => {
            let seal = seal.text("signature").unwrap_or_default();
            format!("end {index} {seal}").trim_end().to_owned()
        }
        ModelEvent::ToolStart { index, id, name } => format!("tool {index} {id} {name}"),
        ModelEvent::ToolDelta { index, json } => format!("{index}+{json}"),
        ModelEvent::ToolEnd { index, input: Ok(input), .. } => {
            format!("call {index} {}", input.as_str())
        }
        ModelEvent::ToolResult { id, output, is_error } => {
            format!("result {id} {is_error} {}", output.as_str())
        }
        ModelEvent::Usage(usage) => format!("usage {}/{}", usage.input_tokens, usage.output_tokens),
        ModelEvent::Resume(id) => format!("resume {}", &id[..8]),
        ModelEvent::Finish { reason, raw } => {
            format!("finish {reason:?} {}", raw.as_deref().unwrap_or("-"))
        }
        ModelEvent::StepEnd => "step".to_owned(),
        ModelEvent::Ping => "ping".to_owned(),
        other => format!("{other:?}"),
    }
}

#[track_caller]
fn check(recording: &str, events: &[&str], over: bool) {
    let (told, verdict) = told(recording);
    assert_eq!(told, events);
    assert_eq!(verdict == Verdict::Over, over, "{verdict:?}");
}

#[track_caller]
fn check_failure(recording: &str, events: &[&str], kind: FailureKind, message: &str) {
    let (told, verdict) = told(recording);
    assert_eq!(told, events);
    let Verdict::Failed(error) = verdict else { panic!("{verdict:?}") };
    assert_eq!((error.kind, error.message.as_str()), (kind, message));
}

/// A turn of one thought and one text, told in whole blocks.
fn thought_and_text(session: &str, message: &str, text: &str) -> Vec<String> {
    let mut events = vec![format!("resume {session}"), format!("start {message} claude-opus-5-5")];
    events.extend(["reasoning 0", "0~Considering.", "end 0 c2ln", "text 1"].map(str::to_owned));
    events.push(format!("1+{text}"));
    events.extend(["end 1", "usage 10/5", "finish Stop end_turn"].map(str::to_owned));
    events
}

#[track_caller]
fn check_plain(recording: &str, session: &str, message: &str, text: &str) {
    let (told, verdict) = told(recording);
    assert_eq!(told, thought_and_text(session, message, text));
    assert_eq!(verdict, Verdict::Over);
}

#[test]
fn turns_of_text_are_read_in_every_mode() {
    let plain = check_plain;
    plain(recording!("01-first-turn.jsonl"), "b11cb814", "msg_0001", "You said: hello there");
    plain(recording!("02-resume.jsonl"), "b11cb814", "msg_0002", "You said: second turn please");
    plain(recording!("12-fork.jsonl"), "91efd366", "msg_0030", "You said: third");
    plain(recording!("13-session-id.jsonl"), "4a63996e", "msg_0032", "You said: with id");
    let dash = "You said: - from stdin, starts with a dash\n";
    plain(recording!("15-prompt-on-stdin.jsonl"), "9489c48b", "msg_0033", dash);
    plain(recording!("18-bare.jsonl"), "4c1cfc82", "msg_0038", "You said: bare hello");
    plain(recording!("19-tools-none.jsonl"), "8e9340cb", "msg_0039", "You said: no tools hello");
}

#[test]
fn pieces_are_passed_on_and_not_repeated_by_the_whole_blocks() {
    let events = [
        "resume 1049ed2d",
        "start msg_0028 claude-opus-5-5",
        "reasoning 0",
        "0~Considering.",
        "end 0 c2ln",
        "text 1",
        "1+You ",
        "1+said: ",
        "1+hello ",
        "1+there",
        "end 1",
        "usage 10/5",
        "finish Stop end_turn",
    ];
    check(recording!("10-partial.jsonl"), &events, true);
}

#[test]
fn tools_that_the_cli_runs_come_with_their_results_and_end_a_step() {
    let read = [
        "resume cdb9414c",
        "start msg_0003 claude-opus-5-5",
        "text 0",
        "0+Let me look.",
        "end 0",
        "tool 1 toolu_3 Read",
        r#"1+{"file_path":"/srv/project/hello.txt"}"#,
        r#"call 1 {"file_path":"/srv/project/hello.txt"}"#,
        r#"result toolu_3 false "1\thello from a file\n2\t""#,
        "step",
        "text 2",
        r#"2+tool returned "1\thello from a file\n2\t""#,
        "end 2",
        "usage 20/10",
        "finish Stop end_turn",
    ];
    check(recording!("03-tool-read.jsonl"), &read, true);
}

#[test]
fn refused_tools_are_failed_results() {
    let denied = [
        "resume 8af67f85",
        "start msg_0005 claude-opus-5-5",
        "tool 0 toolu_5 Write",
        r#"0+{"file_path":"/srv/project/new.txt","content":"x"}"#,
        r#"call 0 {"file_path":"/srv/project/new.txt","content":"x"}"#,
        r#"result toolu_5 true "Cannot write to /srv/project/new.txt while in plan mode.""#,
        "step",
        "text 1",
        r#"1+tool returned "Cannot write to /srv/project/new.txt while in plan"#,
        "end 1",
        "usage 20/10",
        "finish Stop end_turn",
    ];
    check(recording!("04-tool-write-denied-in-plan.jsonl"), &denied, true);
    let (told, verdict) = told(recording!("05-exit-plan.jsonl"));
    assert_eq!(told[2], "tool 0 toolu_7 ExitPlanMode");
    assert!(told[5].starts_with("result toolu_7 true \"<tool_use_error>Error: No such tool"));
    assert_eq!((told[6].as_str(), verdict), ("step", Verdict::Over));
}

#[test]
fn failures_of_the_model_are_failures_whatever_the_cli_calls_them() {
    let refused = "the model refuses the request: API Error: 400 stub says no";
    let request = FailureKind::Request;
    check_failure(recording!("06-error-400.jsonl"), &["resume 78e8ca28"], request, refused);
    let overloaded = FailureKind::Unavailable;
    let told = "the model is overloaded";
    check_failure(recording!("07-error-529.jsonl"), &["resume 273a1943"], overloaded, told);
}

#[test]
fn a_refused_key_fails_at_the_first_retry() {
    let (kind, message) = (FailureKind::Authentication, "the model provider refuses the key");
    check_failure(recording!("08-error-401.jsonl"), &["resume 942dd775"], kind, message);
    let last = recording!("08-error-401.jsonl").lines().last().unwrap();
    check_failure(last, &["resume 942dd775"], kind, message);
}

#[test]
fn an_unknown_session_is_told_apart_and_not_kept() {
    assert_eq!(told(recording!("09-resume-unknown.jsonl")), (Vec::new(), Verdict::UnknownSession));
    let not_json =
        [recording!("09-resume-unknown.err"), recording!("14-stream-json-without-verbose.err")];
    for text in not_json {
        check_failure(text, &[], FailureKind::Interrupted, "the agent ended before its answer did");
    }
}

#[test]
fn a_result_without_messages_is_the_answer() {
    let events = [
        "resume b17e37b4",
        "usage 10/5",
        "start - -",
        "text 0",
        "0+You said: hello there",
        "end 0",
        "finish Stop end_turn",
    ];
    check(recording!("11-json-output.jsonl"), &events, true);
}

#[test]
fn two_turns_of_one_process_are_two_answers() {
    let text = recording!("16-stream-json-input.jsonl");
    let first_end = text.lines().position(|line| line.contains(r#""type":"result""#)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let (first, second) = lines.split_at(first_end + 1);
    check_plain(&first.join("\n"), "a40459f9", "msg_0034", "You said: first via stream");
    check_plain(&second.join("\n"), "a40459f9", "msg_0035", "You said: second via stream");
}

#[test]
fn signals_leave_a_partial_answer() {
    let mut events = thought_and_text("dac10252", "msg_0036", "You said: please hang");
    events.truncate(8);
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let (kind, message) = (FailureKind::Interrupted, "the agent was interrupted");
    check_failure(recording!("17-signal-INT.jsonl"), &events, kind, message);
    let mut events = thought_and_text("841525a8", "msg_0037", "You said: please hang");
    events.truncate(8);
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let message = "the agent ended before its answer did";
    check_failure(recording!("17-signal-TERM.jsonl"), &events, kind, message);
}

#[test]
fn recordings_cut_anywhere_never_finish_and_never_panic() {
    let text = recording!("10-partial.jsonl");
    for end in (0..text.len()).step_by(7).filter(|end| text.is_char_boundary(*end)) {
        let (events, verdict) = told(&text[..end]);
        assert!(matches!(verdict, Verdict::Failed(_)), "{verdict:?}");
        assert!(!events.iter().any(|event| event.starts_with("finish")));
    }
}

#[test]
fn broken_input_of_a_tool_is_kept_as_text() {
    let lines = [
        r#"{"type":"stream_event","event":{"type":"message_start","message":{"id":"m"}}}"#,
        r#"{"type":"stream_event","event":{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"Read","input":{}}}}"#,
        r#"{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a\":1,\"b"}}}"#,
        r#"{"type":"stream_event","event":{"type":"content_block_stop","index":0}}"#,
        r#"{"type":"user","parent_tool_use_id":"t","message":{"content":[{"type":"tool_result","tool_use_id":"t","content":"of a subagent"}]}}"#,
        r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"other","content":"x"}]}}"#,
    ];
    let (mut parser, mut out) = (Parser::default(), Vec::new());
    for line in lines {
        assert_eq!(parser.line(line, &mut out), Verdict::More);
    }
    let Some(ModelEvent::ToolEnd { input: Err(bad), .. }) = out.last() else { panic!("{out:?}") };
    assert_eq!(bad.text, r#"{"a":1,"b"#);
    assert!(parser.waits_for_tool());
}

#[test]
fn cached_tokens_are_input_and_thoughts_are_output() {
    let line = r#"{"type":"result","subtype":"success","stop_reason":"max_tokens","usage":{"input_tokens":1,"cache_creation_input_tokens":2,"cache_read_input_tokens":4,"output_tokens":8,"output_tokens_details":{"thinking_tokens":3}}}"#;
    let (mut parser, mut out) = (Parser::default(), Vec::new());
    assert_eq!(parser.line(line, &mut out), Verdict::Over);
    let usage =
        Usage { input_tokens: 7, output_tokens: 8, cached_input_tokens: 4, reasoning_tokens: 3 };
    let finish =
        ModelEvent::Finish { reason: FinishReason::Length, raw: Some("max_tokens".to_owned()) };
    assert_eq!(out, [ModelEvent::Usage(usage), finish]);
}
