//! What the CLI may print beside what it promises: lines that nobody knows, fields of other types, repeats, and ends of all kinds.

use super::check;
use super::check_failure;
use crate::model::FailureKind;

macro_rules! quirk {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/fixtures/claude-cli/quirks/", $name, ".jsonl"))
    };
}

const HI: [&str; 7] = [
    "resume b11cb814",
    "start m1 m1",
    "usage 10/5",
    "text 0",
    "0+hi",
    "end 0",
    "finish Stop end_turn",
];

#[test]
fn lines_that_nobody_knows_and_halves_of_lines_say_nothing() {
    check(quirk!("lines-that-say-nothing"), &HI, true);
}

#[test]
fn a_field_of_another_type_is_absent_and_spoils_no_line() {
    let events = ["resume b11cb814", "start m1 -", "text 0", "0+hi", "end 0", "finish Stop -"];
    check(quirk!("fields-of-other-types"), &events, true);
}

#[test]
fn what_is_said_twice_is_told_once() {
    let events = [
        "resume b11cb814",
        "start m1 m1",
        "usage 10/5",
        "text 0",
        "0+one",
        "end 0",
        "tool 1 t1 Read",
        r#"1+{"a":1}"#,
        r#"call 1 {"a":1}"#,
        r#"result t1 false "x""#,
        "step",
        "text 2",
        "2+two",
        "end 2",
        "step",
        "usage 20/10",
        "text 3",
        "3+three",
        "end 3",
        "usage 10/5",
        "finish Stop end_turn",
    ];
    check(quirk!("said-twice"), &events, true);
}

#[test]
fn a_result_alone_is_an_answer_or_a_failure() {
    let events = ["resume b11cb814", "start - m1", "text 0", "0+hi", "end 0", "finish Stop -"];
    check(quirk!("result-alone"), &events, true);
    let (kind, message) = (FailureKind::Other, "the agent failed: API Error: something broke");
    check_failure(quirk!("error-result-alone"), &["resume b11cb814"], kind, message);
    let events = [
        "resume b11cb814",
        "start m1 m1",
        "text 0",
        "0+plain text",
        "end 0",
        "usage 10/5",
        "finish Stop end_turn",
    ];
    check(quirk!("text-as-content"), &events, true);
}

#[test]
fn an_end_that_is_none_keeps_what_was_said() {
    let partial = ["resume b11cb814", "start m1 m1", "usage 10/5", "text 0", "0+partial", "end 0"];
    let overloaded = "the model is overloaded";
    check_failure(quirk!("error-behind-text"), &partial, FailureKind::Unavailable, overloaded);
    let limit = "the agent reached its limit (error_max_turns)";
    check_failure(quirk!("limit"), &partial, FailureKind::Limit, limit);
    let cut = "the agent ended before its answer did";
    check_failure(quirk!("half-a-result"), &partial, FailureKind::Interrupted, cut);
}

#[test]
fn a_block_without_its_end_is_closed_by_the_result() {
    let (events, _) = super::told(quirk!("cut-in-a-block"));
    assert_eq!(events[..4], ["resume b11cb814", "start m1 m1", "tool 0 t1 Read", r#"0+{"a":"#]);
    assert!(events[5].contains("ToolEnd") && events[5].contains("Err"), "{events:?}");
    assert_eq!(events.last().unwrap(), "finish Stop end_turn");
}
