//! What a server may send beside what it promises: events that nobody knows, fields of other types, repeats, failures.

use std::collections::HashSet;

use super::super::mapper::Mapper;
use super::super::mapper::Notice;
use super::short;
use crate::model::FailureKind;
use crate::model::FinishReason;

macro_rules! quirk {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/fixtures/opencode/quirks/", $name, ".jsonl"))
    };
}

/// What the events say, and what is known at their end, which is one at rest.
fn told(events: &str) -> (Vec<String>, Mapper) {
    let (mut mapper, mut out) = (Mapper::new("ses_1", HashSet::new()), Vec::new());
    let last = events.lines().map(|event| mapper.event(event, &mut out)).last().flatten();
    assert_eq!(last, Some(Notice::Idle));
    mapper.close(&mut out);
    (out.iter().map(short).collect(), mapper)
}

#[track_caller]
fn check(events: &str, then: &[&str]) {
    let (told, mapper) = told(events);
    assert_eq!(told, then);
    assert_eq!(mapper.verdict(), Some(Ok((FinishReason::Stop, Some("stop".to_owned())))));
}

#[track_caller]
fn check_failure(events: &str, then: &[&str], kind: FailureKind) {
    let (told, mapper) = told(events);
    assert_eq!(told, then);
    assert_eq!(mapper.verdict().unwrap().unwrap_err().kind, kind);
}

#[test]
fn events_that_nobody_knows_and_halves_of_events_say_nothing() {
    let hi = ["start msg_2 m1", "text 0", "0+hi", "end 0", "usage 10/5"];
    check(quirk!("events-that-say-nothing"), &hi);
}

#[test]
fn a_field_of_another_type_is_absent_and_spoils_no_event() {
    let hi = ["start msg_2 -", "text 0", "0+hi", "end 0", "usage 10/5"];
    check(quirk!("fields-of-other-types"), &hi);
}

#[test]
fn what_is_said_twice_is_told_once() {
    let events = [
        "start msg_2 m1",
        "text 0",
        "0+h",
        "0+i",
        "tool 1 c1 read",
        r#"1+{"a":1}"#,
        r#"call 1 {"a":1}"#,
        r#"result c1 false "x""#,
        "end 0",
        "usage 10/5",
    ];
    check(quirk!("said-twice"), &events);
}

#[test]
fn a_failure_keeps_what_was_said() {
    let partial = ["start msg_2 m1", "text 0", "0+partial", "end 0"];
    check_failure(quirk!("error-behind-text"), &partial, FailureKind::Unavailable);
    check_failure(quirk!("error-without-an-answer"), &[], FailureKind::Other);
}
