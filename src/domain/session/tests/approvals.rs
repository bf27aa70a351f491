//! Tool calls that wait for somebody outside.

use super::*;
use crate::domain::session::ToolAnswer;

const CALL: &str =
    r#"{"type":"tool-call","toolCallId":"c","toolName":"add","toolInput":{},"state":"running"}"#;
const ASKS: &str = r#"{"type":"tool-call","toolCallId":"c","toolName":"rm","toolInput":{},"approval":{"id":"a"},"state":"pending"}"#;

/// An answer that waits for a result of the client.
fn calls() -> [Command; 3] {
    [ask("q", "why", Busy::Reject), open(0, CALL), end(TurnState::Completed)]
}

/// An answer that waits for leave.
fn asks() -> [Command; 3] {
    [ask("q", "why", Busy::Reject), open(0, ASKS), end(TurnState::WaitingApproval)]
}

fn approve(id: &str, approved: bool) -> Command {
    Command::Approve { approval_id: id.to_owned(), approved, reason: None }
}

fn answer(id: &str) -> ToolAnswer {
    ToolAnswer {
        tool_call_id: id.to_owned(),
        output: None,
        error: None,
        approved: None,
        reason: None,
    }
}

fn results(results: Vec<ToolAnswer>) -> Command {
    turn(Input::Results { message_id: None, results }, Busy::Reject)
}

fn output(id: &str) -> ToolAnswer {
    ToolAnswer { output: Some(Json::string("2")), ..answer(id) }
}

#[test]
fn a_result_lets_the_answer_go_on() {
    check(
        &calls(),
        results(vec![output("c")]),
        &[
            r#"update n2.0 {"toolCallId":"c","toolOutput":"2","state":"complete"}"#,
            "turn n3 running q->n2 #1",
        ],
    );
    let failed = ToolAnswer { error: Some("no".to_owned()), ..answer("c") };
    check(
        &calls(),
        results(vec![failed]),
        &[
            r#"update n2.0 {"toolCallId":"c","errorText":"no","state":"error"}"#,
            "turn n3 running q->n2 #1",
        ],
    );
}

#[test]
fn a_result_for_nobody_changes_nothing() {
    refuse(&calls(), results(Vec::new()), "tool_waits");
    refuse(&calls(), results(vec![output("x")]), "tool_waits");
    refuse(&[say("m", "hi")], results(vec![output("c")]), "not_continuable");
    let mut session = Session::after(&calls());
    session.carry_out(results(vec![output("c")])).unwrap();
    session.carry_out(end(TurnState::Completed)).unwrap();
    let told = session.carry_out(results(vec![output("c")])).unwrap_err();
    assert!(told.starts_with("not_continuable"), "{told}");
}

#[test]
fn who_is_asked_allows_or_refuses_once() {
    check(
        &asks(),
        approve("a", true),
        &[
            r#"update n2.0 {"toolCallId":"c","approval":{"id":"a","approved":true},"state":"running"}"#,
            "turn n1 running q->n2 #2",
        ],
    );
    check(
        &asks(),
        approve("a", false),
        &[
            r#"update n2.0 {"toolCallId":"c","approval":{"id":"a","approved":false},"state":"error"}"#,
            "turn n1 running q->n2 #2",
        ],
    );
    refuse(&asks(), approve("b", true), "approval_not_found");
    refuse(&calls(), approve("a", true), "approval_not_found");
    let mut twice = asks().to_vec();
    twice.push(approve("a", true));
    refuse(&twice, approve("a", false), "approval_not_found");
}

#[test]
fn of_several_approvals_the_last_one_lets_it_go_on() {
    let second = ASKS.replace("\"c\"", "\"d\"").replace("\"a\"", "\"b\"");
    let both = [
        ask("q", "why", Busy::Reject),
        open(0, ASKS),
        open(1, &second),
        end(TurnState::WaitingApproval),
    ];
    check(
        &both,
        approve("b", true),
        &[
            r#"update n2.1 {"toolCallId":"d","approval":{"id":"b","approved":true},"state":"running"}"#,
        ],
    );
    let mut session = Session::after(&both);
    session.carry_out(approve("b", true)).unwrap();
    let told = session.carry_out(approve("a", true)).unwrap();
    assert_eq!(told.last().map(String::as_str), Some("turn n1 running q->n2 #2"));
}

#[test]
fn nobody_waits_for_ever() {
    let expire = |id: &str| Command::ExpireApprovals { turn_id: id.to_owned() };
    check(
        &asks(),
        expire("n1"),
        &[
            r#"update n2.0 {"toolCallId":"c","approval":{"id":"a","approved":false,"reason":"nobody answered in time"},"state":"error"}"#,
            r#"message n2 assistant stopped v3 `` {"type":"tool-call","toolCallId":"c","toolName":"rm","toolInput":{},"approval":{"id":"a","approved":false,"reason":"nobody answered in time"},"state":"error"}"#,
            "turn n1 stopped q->n2 #1 nobody answered the approval in time",
        ],
    );
    check(&asks(), expire("n9"), &[]);
    check(&calls(), expire("n1"), &[]);
}

#[test]
fn what_waits_is_given_up_when_something_else_is_said() {
    let gone = r#"{"toolCallId":"c","state":"error","errorText":"nobody answered the call before the conversation went on"}"#;
    let told = Session::after(&calls()).carry_out(ask("r", "and", Busy::Reject)).unwrap();
    assert_eq!(told[0], format!("update n2.0 {gone}"));
    assert!(told[1].starts_with("message n2 assistant complete v3"), "{told:?}");
    let told = Session::after(&asks()).carry_out(ask("r", "and", Busy::Reject)).unwrap();
    assert_eq!(told[0], "turn n1 stopped q->n2 #1");
    assert_eq!(told[1], format!("update n2.0 {gone}"));
    assert!(told[2].starts_with("message n2 assistant stopped v3"), "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("turn n3 running r->n4 #1"));
}

#[test]
fn a_call_of_an_answer_that_broke_has_failed() {
    let begun = [ask("q", "why", Busy::Reject), open(0, CALL)];
    for (state, why) in [
        (TurnState::Stopped, "the answer was stopped before the call had a result"),
        (TurnState::Failed, "the answer failed before the call had a result"),
    ] {
        let told = Session::after(&begun).carry_out(end(state)).unwrap();
        let wanted =
            format!(r#"update n2.0 {{"toolCallId":"c","state":"error","errorText":"{why}"}}"#);
        assert_eq!(told[0], wanted);
    }
}

#[test]
fn what_waits_for_leave_still_waits_behind_a_restart() {
    check(&asks(), Command::Reconcile, &[]);
    check(&calls(), Command::Reconcile, &[]);
}
