//! The phases of a turn in which the server is killed: how a turn gets there, and how one knows that it is there.

use crate::support::ledger::plain_http::Client;
use crate::support::scripted::Scripted;
use serde_json::Value;
use serde_json::json;

use super::Killed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The model was asked and has said nothing.
    Silent,
    /// It writes.
    Deltas,
    /// It writes what it thinks, and then an answer.
    Reasoning,
    /// A tool of the server works.
    Tool,
    /// Somebody must allow a call.
    Waiting,
    /// Somebody has allowed it, and the tool works.
    Allowed,
    /// Somebody asks it to stop just before the kill.
    Stopping,
    /// Another turn waits behind it.
    Queued,
    /// It is about to end, or just has.
    Finishing,
    /// It has ended.
    Over,
}

pub const PHASES: [Phase; 10] = [
    Phase::Silent,
    Phase::Deltas,
    Phase::Reasoning,
    Phase::Tool,
    Phase::Waiting,
    Phase::Allowed,
    Phase::Stopping,
    Phase::Queued,
    Phase::Finishing,
    Phase::Over,
];

/// What is answered by more than one text, one with characters of two to four bytes, for longer than a test takes.
const LONG: &str = "ünï 👋 漢字\n!slow 40000 4";

impl Phase {
    /// Whether it is over so soon that it must begin last.
    pub fn is_late(self) -> bool {
        matches!(self, Self::Finishing | Self::Stopping)
    }
}

/// Asks for the turn; it is durable when this returns.
pub fn begin(turn: &Killed, base: &str, stub: &Scripted) {
    let marked = |what: &str| format!("{what} {} {}", turn.session, turn.screen.after);
    let (model, content) = match turn.phase {
        Phase::Silent => ("stub/m", marked("silent")),
        Phase::Tool => ("stub/m", "call hold {\"n\":\"ü\"}".to_owned()),
        Phase::Allowed => ("stub/m", "call guarded {\"n\":1}".to_owned()),
        Phase::Waiting => ("echo", "before ü\n!approve deploy {\"x\":1}".to_owned()),
        Phase::Reasoning => ("echo", format!("!reason hm ü 👋\n{LONG}")),
        Phase::Deltas | Phase::Stopping | Phase::Queued => ("echo", LONG.to_owned()),
        Phase::Finishing => ("echo", "!slow 12 4".to_owned()),
        Phase::Over => ("echo", "hello ü".to_owned()),
    };
    turn.screen.called_before(stub.called(&turn.session));
    let id = ask(turn, base, &content, model, "reject");
    turn.screen.asked_for(&id);
    if turn.phase == Phase::Queued {
        ask(turn, base, "and then", "echo", "queue");
    }
}

/// The id of the turn, read from the first event of its stream.
fn ask(turn: &Killed, base: &str, content: &str, model: &str, busy: &str) -> String {
    let message = json!({ "role": "user", "content": content });
    let body = json!({ "message": message, "model": model, "busy": busy });
    let path = format!("/v1/sessions/{}/turns", turn.session);
    let mut events = Client::new(base).stream("POST", &path, Some(&body)).unwrap();
    assert_eq!(events.status, 200, "a new turn is accepted: {} {:?}", turn.session, turn.phase);
    let first = events.next().unwrap();
    first["turn"]["id"].as_str().unwrap_or_else(|| panic!("a turn: {first}")).to_owned()
}

/// Whether the turn is where it is to be killed, as its clients see it.
pub fn is_reached(turn: &Killed, base: &str, stub: &Scripted) -> bool {
    let screen = &turn.screen;
    let enough = || screen.deltas() >= screen.patience;
    match turn.phase {
        Phase::Silent => stub.asked(&format!("silent {} {}", turn.session, screen.after)) > 0,
        // Both followers have something on their screens.
        Phase::Deltas | Phase::Reasoning | Phase::Stopping => enough() && screen.has_chunks(),
        Phase::Tool => stub.called(&turn.session) > screen.calls(),
        Phase::Waiting => screen.state().as_deref() == Some("waiting_approval"),
        Phase::Allowed => {
            if screen.state().as_deref() == Some("waiting_approval") {
                allow(turn, base);
            }
            stub.called(&turn.session) > screen.calls()
        }
        Phase::Queued => screen.states().iter().any(|state| state == "queued") && enough(),
        // Some of its deltas, or its end: which one comes first is chance.
        Phase::Finishing => screen.deltas() >= screen.patience || screen.is_over(),
        Phase::Over => screen.is_over(),
    }
}

fn allow(turn: &Killed, base: &str) {
    let id = turn.screen.approval().expect("an approval to give");
    let path = format!("/v1/sessions/{}/approvals/{id}", turn.session);
    let answer = Client::new(base).call("POST", &path, None, Some(&json!({ "approved": true })));
    let answer = answer.unwrap();
    // It may be asked for again before the screen shows that it was given.
    let given = answer.body["code"] == "approval_not_found";
    assert!(answer.status == 200 || given, "{answer:?}");
}

/// Asks it to stop; whether anybody answers is chance.
pub fn stop(turn: &Killed, base: &str) {
    let path = format!("/v1/sessions/{}/stop", turn.session);
    let body: Value = json!({});
    if let Ok(answer) = Client::new(base).call("POST", &path, None, Some(&body)) {
        assert_eq!(answer.status, 200, "{answer:?}");
        turn.screen.heard_stop();
    }
}
