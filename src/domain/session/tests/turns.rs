//! Turns: when they begin, what they write, how they end.

use super::*;

const TEXT: &str = r#"{"type":"text","content":"","state":"running"}"#;

fn asked() -> Command {
    ask("q", "why", Busy::Reject)
}

fn edit(id: &str, content: &str) -> Command {
    turn(Input::Message { message: new_message(id, content), edit: true }, Busy::Reject)
}

fn at(position: usize, content: &str) -> Command {
    let message = NewMessage { id: None, ..new_message("x", content) };
    turn(Input::At { position, message }, Busy::Reject)
}

fn again(after: Option<&str>) -> Command {
    turn(Input::Again { after: after.map(str::to_owned) }, Busy::Reject)
}

fn answered() -> Vec<Command> {
    vec![asked(), open(0, TEXT), grow(0, "because"), end(TurnState::Completed)]
}

#[test]
fn a_question_begins_a_turn() {
    check(&[], asked(), &["message q user complete v1 `why`", "turn n1 running q->n2 #1"]);
    refuse(&answered(), asked(), "message_exists");
    refuse(&[asked()], ask("r", "and", Busy::Reject), "turn_active");
}

#[test]
fn while_one_runs_the_next_waits_interrupts_or_takes_its_place() {
    let two = [asked(), ask("r", "and", Busy::Queue)];
    check(
        &[asked()],
        ask("r", "and", Busy::Queue),
        &["message r user complete v1 `and`", "turn n3 queued r->n4 #1"],
    );
    check(
        &[asked()],
        ask("r", "and", Busy::Interrupt),
        &[
            "turn n1 stopping q->n2 #1",
            "message r user complete v1 `and`",
            "turn n3 queued r->n4 #1",
        ],
    );
    check(
        &two,
        ask("s", "or", Busy::Latest),
        &[
            "turn n3 stopped r->n4 #1 a later turn took its place",
            "message s user complete v1 `or`",
            "turn n5 queued s->n6 #1",
        ],
    );
    // Its place has come when the one before is over.
    check(
        &two,
        end(TurnState::Completed),
        &[
            "message n2 assistant complete v2 ``",
            "turn n1 completed q->n2 #1",
            "turn n3 running r->n4 #1",
        ],
    );
}

#[test]
fn only_so_many_turns_wait() {
    let mut given = vec![asked()];
    let wait = |n: usize| ask(&format!("w{n}"), "and", Busy::Queue);
    given.extend((0..crate::base::limits::QUEUED_TURNS_MAX).map(wait));
    let mut session = Session::after(&given);
    let told = session.carry_out(wait(1_000)).unwrap_err();
    assert!(told.contains(crate::base::limits::Limit::Turns.name()), "{told}");
}

#[test]
fn a_turn_writes_part_by_part() {
    check(
        &[asked()],
        open(0, TEXT),
        &[r#"update n2.0 {"type":"text","content":"","state":"running"}"#],
    );
    check(&[asked(), open(0, TEXT)], grow(0, "be"), &["delta n2.0+0 `be`"]);
    check(&[asked(), open(0, TEXT), grow(0, "bé")], grow(0, "cause"), &["delta n2.0+3 `cause`"]);
    refuse(&[asked()], grow(0, "x"), "turn_over");
    refuse(&[asked()], open(1, TEXT), "turn_over");
    refuse(&[asked()], open(0, r#"{"content":"no type"}"#), "invalid");
    refuse(&answered(), grow(0, "more"), "turn_over");
}

#[test]
fn nobody_else_writes() {
    let other = |turn_id: &str, attempt| Command::Write {
        turn_id: turn_id.to_owned(),
        attempt,
        pieces: Vec::new(),
    };
    check(&[asked()], other("n1", 1), &[]);
    refuse(&[asked()], other("n1", 2), "turn_over");
    refuse(&[asked()], other("n9", 1), "turn_over");
}

#[test]
fn an_answer_is_bounded_in_its_parts_and_their_texts() {
    let mut session = Session::after(&[asked(), open(0, TEXT)]);
    session.limits.answer_bytes = 60;
    session.limits.answer_parts_count = 1;
    assert!(session.carry_out(grow(0, &"x".repeat(60))).is_ok());
    assert!(session.carry_out(grow(0, "x")).is_err());
    assert!(session.carry_out(open(1, TEXT)).is_err());
}

#[test]
fn however_it_ends_what_was_said_stays() {
    let said = [asked(), open(0, TEXT), grow(0, "be")];
    for (state, status) in [
        (TurnState::Completed, "complete"),
        (TurnState::Stopped, "stopped"),
        (TurnState::Failed, "failed"),
    ] {
        let error = if state == TurnState::Failed { " no luck" } else { "" };
        check(
            &said,
            end(state),
            &[
                r#"update n2.0 {"state":"complete"}"#,
                &format!(
                    r#"message n2 assistant {status} v2 `be` {{"type":"text","content":"be","state":"complete"}}"#
                ),
                &format!("turn n1 {} q->n2 #1{error}", state.as_str()),
            ],
        );
    }
    refuse(&answered(), end(TurnState::Completed), "turn_over");
}

#[test]
fn a_stop_is_heard_even_if_it_was_just_done() {
    let stop = || Command::StopTurn { turn_id: None };
    check(&[asked()], stop(), &["turn n1 stopping q->n2 #1"]);
    check(&[asked(), stop()], stop(), &[]);
    check(&answered(), stop(), &[]);
    check(&[asked()], Command::StopTurn { turn_id: Some("n9".to_owned()) }, &[]);
    check(
        &[asked(), stop()],
        end(TurnState::Completed),
        &["message n2 assistant stopped v2 ``", "turn n1 stopped q->n2 #1"],
    );
    // Those that wait are given up with it.
    check(
        &[asked(), ask("r", "and", Busy::Queue)],
        stop(),
        &["turn n3 stopped r->n4 #1", "turn n1 stopping q->n2 #1"],
    );
}

#[test]
fn an_edit_sets_aside_what_it_replaces() {
    check(
        &answered(),
        edit("q", "how"),
        &["branch 1", "message q user complete v1 `how`", "turn n3 running q->n4 #1"],
    );
    // A new id is a new question; the same words while they are answered are a repeat.
    check(
        &answered(),
        edit("r", "how"),
        &["message r user complete v1 `how`", "turn n3 running r->n4 #1"],
    );
    check(&[asked()], edit("q", "why"), &[]);
    refuse(&[asked()], edit("q", "how"), "turn_active");
    refuse(&answered(), edit("n2", "how"), "message_exists");
}

#[test]
fn a_place_in_the_history_is_answered_anew() {
    check(
        &answered(),
        at(0, "how"),
        &["branch 1", "message n3 user complete v1 `how`", "turn n4 running n3->n5 #1"],
    );
    check(
        &answered(),
        at(7, "how"),
        &["message n3 user complete v1 `how`", "turn n4 running n3->n5 #1"],
    );
    check(&answered(), again(None), &["branch 2", "turn n3 running q->n4 #1"]);
    check(&answered(), again(Some("q")), &["branch 2", "turn n3 running q->n4 #1"]);
    check(&[say("m", "hi")], again(None), &["turn n1 running m->n2 #1"]);
    refuse(&answered(), again(Some("x")), "message_not_found");
}

#[test]
fn behind_a_restart_no_turn_is_left_running() {
    let said = [asked(), open(0, TEXT), grow(0, "be")];
    check(
        &said,
        Command::Reconcile,
        &[
            r#"update n2.0 {"state":"complete"}"#,
            r#"message n2 assistant interrupted v2 `be` {"type":"text","content":"be","state":"complete"}"#,
            "turn n1 interrupted q->n2 #1",
        ],
    );
    check(&answered(), Command::Reconcile, &[]);
    let two = [asked(), ask("r", "and", Busy::Queue)];
    check(
        &two,
        Command::Reconcile,
        &[
            "message n2 assistant interrupted v2 ``",
            "turn n1 interrupted q->n2 #1",
            "turn n3 running r->n4 #1",
        ],
    );
    // What said nothing yet may be begun again, if the settings allow it.
    let mut session = Session::after(&[asked()]);
    session.limits.turn_retries_count = 1;
    let told = session.carry_out(Command::Reconcile);
    assert_eq!(told.as_deref(), Ok(&owned(&["turn n1 running q->n2 #2"])[..]));
    let told = session.carry_out(Command::Reconcile).unwrap();
    assert!(told.contains(&"turn n1 interrupted q->n2 #2".to_owned()), "{told:?}");
}

#[test]
fn while_the_server_stops_no_turn_begins() {
    let mut session = Session::after(&[asked(), ask("r", "and", Busy::Queue)]);
    session.begins_turns = false;
    let told = session.carry_out(end(TurnState::Completed)).unwrap();
    assert_eq!(told.last().map(String::as_str), Some("turn n1 completed q->n2 #1"));
    session.begins_turns = true;
    let told = session.carry_out(Command::Reconcile).unwrap();
    assert_eq!(told, ["turn n3 running r->n4 #1"]);
}

#[test]
fn a_question_without_its_message_waits_for_nothing() {
    // An edit sets the questions aside that came behind it; who waits to answer them is told.
    let stop = Command::StopTurn { turn_id: None };
    let waits = [say("m", "hi"), asked(), ask("r", "and", Busy::Queue)];
    let mut session = Session::after(&waits);
    session.carry_out(stop).unwrap();
    session.carry_out(end(TurnState::Stopped)).unwrap();
    let told = session.carry_out(edit("m", "ho")).unwrap();
    assert_eq!(told[0], "branch 1");
}
