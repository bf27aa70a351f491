//! The items of an agent.

use super::*;
use crate::domain::session::ItemsCommand;

const QUESTION: &str = r#"{"role":"user","content":"q"}"#;
const CALL: &str =
    r#"{"type":"function_call","id":"fc1","call_id":"c","name":"add","arguments":"{}"}"#;
const RESULT: &str = r#"{"type":"function_call_output","call_id":"c","output":"2"}"#;
const ANSWER: &str = r#"{"type":"message","role":"assistant","content":"a"}"#;

fn json(items: &[&str]) -> Vec<Json> {
    items.iter().map(|item| Json::parse(item).expect("JSON")).collect()
}

fn append(items: &[&str]) -> Command {
    Command::ChangeItems(ItemsCommand::Append(json(items)))
}

fn suffix(expected: &[&str], replacement: &[&str]) -> Command {
    let (expected, replacement) = (json(expected), json(replacement));
    Command::ChangeItems(ItemsCommand::ReplaceSuffix { expected, replacement })
}

fn pop() -> Command {
    Command::ChangeItems(ItemsCommand::Pop)
}

fn remove(id: &str) -> Command {
    Command::ChangeItems(ItemsCommand::Remove(id.to_owned()))
}

#[test]
fn items_are_kept_and_shown() {
    check(&[], append(&[QUESTION]), &["items msg_n1", "message n2 user complete v1 `q`"]);
    let told = Session::after(&[]).carry_out(append(&[QUESTION, CALL, RESULT, ANSWER])).unwrap();
    assert!(told[0].starts_with("items msg_n1,fc1,fco_"), "{told:?}");
    // A message for what the user said, and one for what the agent said and did.
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[2].contains(r#""toolOutput":"2""#) && told[2].contains("`a`"), "{told:?}");
    check(&[], append(&[]), &[]);
    check(&[append(&[QUESTION])], append(&[]), &[]);
}

#[test]
fn an_answer_that_goes_on_is_one_message() {
    let told = Session::after(&[append(&[QUESTION, CALL])]).carry_out(append(&[RESULT])).unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains("assistant complete v2"), "{told:?}");
}

#[test]
fn a_message_of_an_agent_that_says_much_is_followed_by_another() {
    let result = RESULT.replace('2', &"x".repeat(100_000));
    let mut past = Session::after(&[append(&[QUESTION])]);
    let mut shown = Vec::new();
    for _ in 0..6 {
        let told = past.carry_out(append(&[CALL, &result])).unwrap();
        assert_eq!(told.len(), 2, "one message is written: {}", told.len());
        assert!(told[1].len() < 1_000_000, "{} bytes", told[1].len());
        assert_eq!(
            told[1].matches("\"tool-call\"").count(),
            told[1].matches("\"toolOutput\"").count()
        );
        shown.push(told[1].contains(" v1 "));
    }
    assert_eq!(shown, [true, false, false, true, false, false], "every third call begins another");
}

#[test]
fn what_is_taken_back_behind_a_long_message_leaves_that_as_it_is() {
    let mut past = Session::after(&[append(&[QUESTION])]);
    for _ in 0..70 {
        past.carry_out(append(&[CALL, RESULT])).unwrap();
    }
    let shown = past.past.history().last().unwrap().parts.len();
    past.carry_out(append(&[QUESTION])).unwrap();
    let told = past.carry_out(pop()).unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("branch ") && told[1].starts_with("items cut "), "{told:?}");
    past.carry_out(append(&[CALL])).unwrap();
    assert_eq!(past.past.history().last().unwrap().parts.len(), shown + 1, "it goes on whole");
}

#[test]
fn the_last_item_is_taken_back_with_what_shows_it() {
    check(&[append(&[QUESTION])], pop(), &["branch 2", "items cut 1"]);
    let told = Session::after(&[append(&[QUESTION, CALL, ANSWER])]).carry_out(pop()).unwrap();
    assert!(told[0].contains("assistant complete v2") && told[1] == "items cut 3", "{told:?}");
    check(&[append(&[QUESTION]), pop()], pop(), &[]);
    refuse(&[], pop(), "session_not_found");
}

#[test]
fn an_end_is_replaced_only_if_it_is_as_expected() {
    let given = [append(&[QUESTION, ANSWER])];
    let told = Session::after(&given).carry_out(suffix(&[ANSWER], &[CALL])).unwrap();
    assert!(told.iter().any(|event| event == "items cut 2 fc1"), "{told:?}");
    refuse(&given, suffix(&[CALL], &[]), "suffix_mismatch");
    refuse(&given, suffix(&[QUESTION, ANSWER, ANSWER], &[]), "suffix_mismatch");
}

#[test]
fn one_item_goes_by_its_id() {
    check(&[append(&[QUESTION])], remove("msg_n1"), &["items without 1", "deleted n2"]);
    refuse(&[append(&[QUESTION])], remove("x"), "item_not_found");
}

#[test]
fn an_id_names_one_item() {
    let told = Session::after(&[append(&[CALL])]).carry_out(append(&[CALL])).unwrap();
    assert!(told[0].starts_with("items fc_n"), "{told:?}");
}

#[test]
fn items_are_objects_of_a_bounded_size() {
    refuse(&[], append(&["5"]), "invalid");
    let mut session = Session::after(&[]);
    session.limits.item_bytes = QUESTION.len();
    assert!(session.carry_out(append(&[QUESTION])).is_ok());
    let long = QUESTION.replace('q', "qq");
    assert!(session.carry_out(append(&[&long])).unwrap_err().contains("item"));
}

#[test]
fn nothing_is_set_aside_while_a_turn_writes() {
    let busy = [append(&[QUESTION]), ask("r", "and", Busy::Reject)];
    refuse(&busy, pop(), "turn_active");
    refuse(&busy, Command::ChangeItems(ItemsCommand::Clear), "turn_active");
}
