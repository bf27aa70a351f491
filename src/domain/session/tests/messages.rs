//! The session itself and its messages.

use super::*;
use crate::base::limits::Limit;
use crate::domain::session::Part;
use crate::domain::session::SessionChanges;

fn create(title: &str) -> Command {
    let changes = SessionChanges { title: Some(title.to_owned()), ..SessionChanges::default() };
    Command::Create { changes, project_id: None }
}

fn change(title: &str) -> Command {
    Command::Change(SessionChanges { title: Some(title.to_owned()), ..SessionChanges::default() })
}

fn replace(id: &str, text: &str, if_version: Option<u32>) -> Command {
    let part = Part::of(&Object::default().with("type", &"text").with("content", &text));
    Command::ReplaceParts { message_id: id.to_owned(), parts: vec![part], if_version }
}

fn delete(id: &str) -> Command {
    Command::DeleteMessage { message_id: id.to_owned() }
}

fn running() -> [Command; 1] {
    [ask("q", "why", Busy::Reject)]
}

#[test]
fn a_session_is_made_once() {
    check(&[], create("a"), &["session `a` {}"]);
    check(&[create("a")], create("b"), &[]);
    check(&[say("m", "hi")], create("b"), &[]);
}

#[test]
fn what_is_the_same_changes_nothing() {
    check(&[create("a")], change("b"), &["session `b` {}"]);
    check(&[create("a")], change("a"), &[]);
    refuse(&[], change("a"), "session_not_found");
}

#[test]
fn only_what_makes_a_session_may_come_first() {
    for command in [
        Command::Delete,
        replace("m", "x", None),
        delete("m"),
        turn(Input::Again { after: None }, Busy::Reject),
        grow(0, "x"),
        end(TurnState::Completed),
        Command::StopTurn { turn_id: None },
        Command::Approve { approval_id: "a".to_owned(), approved: true, reason: None },
        Command::Reconcile,
    ] {
        refuse(&[], command, "session_not_found");
    }
}

#[test]
fn a_deleted_session_takes_nothing_but_its_deletion() {
    let gone = [create("a"), Command::Delete];
    check(&[create("a")], Command::Delete, &["session `` {} deleted"]);
    check(&gone, Command::Delete, &[]);
    for command in [create("b"), say("m", "hi"), change("b"), ask("q", "why", Busy::Queue)] {
        refuse(&gone, command, "actor.deleted");
    }
}

#[test]
fn a_message_that_is_sent_again_is_the_same_one() {
    let hi = || say("m", "hi");
    check(&[], hi(), &["message m user complete v1 `hi`"]);
    check(&[hi()], hi(), &[]);
    refuse(&[hi()], say("m", "ho"), "message_exists");
    check(
        &[hi()],
        Command::AddMessage(NewMessage { id: None, ..new_message("x", "hi") }),
        &["message n1 user complete v1 `hi`"],
    );
    // Sent again after somebody changed its parts, it is still the one that was sent.
    check(&[hi(), replace("m", "new", None)], hi(), &[]);
}

#[test]
fn parts_are_replaced_if_nobody_else_did_so() {
    check(&[say("m", "hi")], replace("m", "x", None), &["parts m v2 1"]);
    check(&[say("m", "hi")], replace("m", "x", Some(1)), &["parts m v2 1"]);
    refuse(
        &[say("m", "hi"), replace("m", "x", None)],
        replace("m", "y", Some(1)),
        "version_conflict",
    );
    refuse(&[say("m", "hi")], replace("n", "x", None), "message_not_found");
    refuse(&[say("m", "hi"), delete("m")], replace("m", "x", None), "message_not_editable");
    refuse(&running(), replace("n2", "x", None), "message_not_editable");
}

#[test]
fn a_message_is_deleted_once_and_never_while_it_is_written() {
    check(&[say("m", "hi")], delete("m"), &["deleted m"]);
    check(&[say("m", "hi"), delete("m")], delete("m"), &[]);
    refuse(&[say("m", "hi")], delete("n"), "message_not_found");
    let mut session = Session::after(&running());
    let answer = session.past.head().active_turn.as_ref().map(|turn| turn.message_id.clone());
    assert!(
        session
            .carry_out(delete(&answer.unwrap()))
            .unwrap_err()
            .starts_with("message_not_editable")
    );
}

#[test]
fn every_bound_holds_to_the_byte() {
    let limits = Limits {
        content_bytes: 3,
        parts_count: 1,
        part_bytes: 38,
        metadata_bytes: 10,
        title_bytes: 3,
        ..Limits::default()
    };
    let check = |command: Command, then: Result<(), Limit>| {
        let mut session = Session::after(&[]);
        session.limits.clone_from(&limits);
        let told = session.carry_out(command.clone());
        match then {
            Ok(()) => assert!(told.is_ok(), "{command:?}: {told:?}"),
            Err(limit) => {
                let told = told.expect_err("it is too much");
                assert!(told.starts_with(limit.code()) && told.contains(limit.name()), "{told}");
            }
        }
    };
    check(say("m", "abc"), Ok(()));
    check(say("m", "abcd"), Err(Limit::Content));
    check(create("abc"), Ok(()));
    check(create("abcd"), Err(Limit::Title));
    let with = |parts: &[&str], metadata: Option<&str>| {
        let parts = parts.iter().map(|text| {
            let part = Object::default().with("type", &"text").with("content", text);
            Part::of(&part)
        });
        let metadata = metadata.map(|text| Json::parse(text).expect("JSON"));
        Command::AddMessage(NewMessage { parts: parts.collect(), metadata, ..new_message("m", "") })
    };
    check(with(&["0123456789"], None), Ok(()));
    check(with(&["01234567890"], None), Err(Limit::Part));
    check(with(&["", ""], None), Err(Limit::Parts));
    check(with(&[], Some(r#"{"a":"bc"}"#)), Ok(()));
    check(with(&[], Some(r#"{"a":"bcd"}"#)), Err(Limit::Metadata));
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let metadata = Some(Json::parse("[]").expect("JSON"));
    refuse(&[], Command::AddMessage(NewMessage { metadata, ..new_message("m", "hi") }), "invalid");
    refuse(&[], say("count", "hi"), "invalid");
    let changes = SessionChanges::default();
    refuse(&[], Command::Create { changes, project_id: Some("a\nb".to_owned()) }, "invalid");
}
