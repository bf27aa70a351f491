//! What must be true of a turn in the life after the one in which it was killed.

use crate::support::Server;
use crate::support::ledger::log_seq;
use crate::support::ledger::patience::Watch;
use crate::support::ledger::patience::eventually;
use crate::support::ledger::plain_http::Client;
use crate::support::ledger::writer::read_log;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

use super::Killed;
use super::phase::Phase;

/// How much was on the screens.
pub struct Shown {
    pub frames: usize,
    pub bytes: usize,
}

/// How long after a session wakes its state may still be wrong.
const TRUE_WITHIN: Duration = Duration::from_secs(1);

/// Fails unless everything that was shown of `killed` is stored and its state is true.
pub fn check(server: &Server, killed: &Killed) -> Shown {
    let Killed { session, phase, screen } = killed;
    let mut client = Client::new(&server.base);
    let (woken, turn_id) = (Watch::start(), screen.turn_id());
    let log = read_log(&mut client, session).unwrap();
    let turn = last_of(&log, &turn_id);
    let about = format!("{session} in {phase:?}, shown as {:?}: {turn}", screen.state());
    assert!(woken.read() < TRUE_WITHIN, "true only after {:?}: {about}", woken.read());
    let state = turn["state"].as_str().unwrap();
    assert!(may_be(*phase).contains(&state), "{about}");
    if screen.is_over()
        || screen.state().as_deref() == Some("waiting_approval") && *phase == Phase::Waiting
    {
        assert_eq!(
            screen.state().as_deref(),
            Some(state),
            "what was over stays as it was: {about}"
        );
    }
    if screen.is_stopped() {
        assert_eq!(state, "stopped", "somebody was told so: {about}");
    }

    // The log is what the follower heard of it, without a gap.
    let frames = screen.frames();
    for (frame, seq) in frames.iter().zip(screen.after + 1..) {
        assert_eq!(log_seq(frame), Some(seq), "gapless: {about}");
        let at = usize::try_from(seq - 1).unwrap();
        assert_eq!(log.get(at), Some(frame), "what was heard is in the log: {about}");
    }

    let message_id = turn["messageId"].as_str().unwrap().to_owned();
    let stored = message(&mut client, session, &message_id);
    let bytes = check_texts(killed, &stored);
    let status = match state {
        "completed" | "waiting_approval" => "complete",
        other => other,
    };
    assert_eq!(stored["status"], status, "{about}: {stored}");
    check_end(&log, &turn_id, &stored, &about);

    match phase {
        Phase::Waiting => go_on(&mut client, killed, &message_id),
        Phase::Queued => next_runs(&mut client, session, &turn_id),
        _ => {}
    }
    nothing_runs(&mut client, session);
    Shown { frames: frames.len(), bytes }
}

/// States in which a turn may be that was killed in `phase`.
fn may_be(phase: Phase) -> &'static [&'static str] {
    match phase {
        Phase::Waiting => &["waiting_approval"],
        Phase::Stopping => &["stopped", "interrupted"],
        Phase::Finishing => &["completed", "interrupted"],
        Phase::Over => &["completed"],
        _ => &["interrupted"],
    }
}

fn last_of(log: &[Value], turn_id: &str) -> Value {
    let frame = log.iter().rfind(|frame| frame["turn"]["id"] == turn_id);
    frame.unwrap_or_else(|| panic!("turn {turn_id} was accepted and is gone"))["turn"].clone()
}

fn get(client: &mut Client, path: &str) -> Value {
    let answer = client.get(path).unwrap();
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.body
}

fn message(client: &mut Client, session: &str, id: &str) -> Value {
    let page = get(client, &format!("/v1/sessions/{session}/messages?limit=200"));
    let found = page["items"].as_array().unwrap().iter().find(|message| message["id"] == id);
    found.unwrap_or_else(|| panic!("message {id} of {session} is gone")).clone()
}

/// Fails unless what was on both screens is the beginning of what is stored; how many bytes that were.
fn check_texts(killed: &Killed, stored: &Value) -> usize {
    let parts: Vec<Value> = parts_of(stored);
    let mut bytes = 0;
    for (part, shown) in killed.screen.texts(stored["id"].as_str().unwrap()) {
        let kept = parts.get(part).and_then(|part| part["content"].as_str()).unwrap_or_default();
        assert!(kept.starts_with(&shown), "{shown:?} was shown, {kept:?} is stored");
        bytes += shown.len();
    }
    let kept: Vec<&Value> =
        parts.iter().filter(|part| part["type"] == "text" || part["type"] == "reasoning").collect();
    for (at, (kind, shown)) in killed.screen.blocks().into_iter().enumerate() {
        let part = kept.get(at).unwrap_or_else(|| panic!("{shown:?} was shown and is gone"));
        let text = part["content"].as_str().unwrap();
        assert_eq!(part["type"], kind, "{stored}");
        assert!(text.starts_with(&shown), "{shown:?} was shown, {text:?} is stored");
        assert_eq!(part["state"], "complete", "a part of an answer that is over: {part}");
        bytes += shown.len();
    }
    bytes
}

fn parts_of(message: &Value) -> Vec<Value> {
    message["parts"].as_array().cloned().unwrap_or_default()
}

/// A turn ends once, and its tokens are counted once.
fn check_end(log: &[Value], turn_id: &str, stored: &Value, about: &str) {
    let ends = |frame: &&Value| {
        let state = frame["turn"]["state"].as_str();
        frame["turn"]["id"] == turn_id
            && matches!(state, Some("completed" | "stopped" | "interrupted" | "failed"))
    };
    let ends: Vec<&Value> = log.iter().filter(ends).collect();
    assert!(ends.len() <= 1, "it ended more than once: {ends:?}");
    let Some(end) = ends.first() else { return };
    let usage = &end["turn"]["usage"];
    assert_eq!(usage, &stored["metadata"]["usage"], "{about}: {stored}");
    if end["turn"]["state"] == "completed" {
        assert!(usage["outputTokens"].as_u64().unwrap() > 0, "{end}");
        // The echo model says that it read ten tokens for each answer.
        let steps = parts_of(stored).iter().filter(|part| part["type"] == "step-start").count();
        assert_eq!(usage["inputTokens"], 10 * steps, "{end}");
    }
}

/// What waited for an approval before the kill can be allowed and goes on in the same message.
fn go_on(client: &mut Client, killed: &Killed, message_id: &str) {
    let Killed { session, screen, .. } = killed;
    let stored = message(client, session, message_id);
    let call = parts_of(&stored).into_iter().find(|part| part["type"] == "tool-call").unwrap();
    let approval = call["approval"]["id"].as_str().unwrap().to_owned();
    assert_eq!(screen.approval().as_deref(), Some(approval.as_str()), "{stored}");
    let path = format!("/v1/sessions/{session}/approvals/{approval}");
    let answer = client.call("POST", &path, None, Some(&json!({ "approved": true }))).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["messageId"], message_id, "{answer:?}");
    let log = ended(client, session, &screen.turn_id());
    let turn = last_of(&log, &screen.turn_id());
    assert_eq!(turn["state"], "completed", "{turn}");
    let now = message(client, session, message_id);
    let said = now["content"].as_str().unwrap();
    assert!(said.starts_with(stored["content"].as_str().unwrap()), "{said}");
    assert!(said.contains("tool said"), "{said}");
    check_end(&log, &screen.turn_id(), &now, session);
    let again = client.call("POST", &path, None, Some(&json!({ "approved": true }))).unwrap();
    assert_eq!(again.status, 404, "an approval is given once: {again:?}");
}

/// The turn that waited behind the one that was cut off has its turn.
fn next_runs(client: &mut Client, session: &str, before: &str) {
    let log = read_log(client, session).unwrap();
    let at = log.iter().rposition(|frame| frame["turn"]["id"] == before).unwrap();
    let next =
        log[at..].iter().find(|frame| frame["type"] == "turn" && frame["turn"]["id"] != before);
    let next = next.unwrap_or_else(|| panic!("the turn that waited is forgotten: {session}"));
    let id = next["turn"]["id"].as_str().unwrap();
    let turn = last_of(&ended(client, session, id), id);
    assert_eq!(turn["state"], "completed", "{turn}");
    let answer = message(client, session, turn["messageId"].as_str().unwrap());
    assert_eq!(answer["content"], "echo: and then");
}

/// The log once the turn is over.
fn ended(client: &mut Client, session: &str, turn_id: &str) -> Vec<Value> {
    eventually("a turn to end", || {
        let log = read_log(client, session).unwrap();
        let state = last_of(&log, turn_id)["state"].as_str().unwrap().to_owned();
        (!matches!(state.as_str(), "queued" | "running" | "stopping")).then_some(log)
    })
}

/// No message is being written, no turn runs, there is nothing to resume.
fn nothing_runs(client: &mut Client, session: &str) {
    let page = get(client, &format!("/v1/sessions/{session}/messages?limit=200"));
    for message in page["items"].as_array().unwrap() {
        assert_ne!(message["status"], "streaming", "{message}");
    }
    let chat = get(client, &format!("/api/chat/{session}/messages"));
    assert_eq!(chat["active"], false, "{session}");
    let head = get(client, &format!("/v1/sessions/{session}"));
    assert!(head["activeTurn"].is_null(), "{head}");
    let resumed = client.get(&format!("/api/chat/{session}/stream")).unwrap();
    assert_eq!(resumed.status, 204, "{resumed:?}");
    let log = read_log(client, session).unwrap();
    let mut states = std::collections::BTreeMap::new();
    for turn in log.iter().filter(|frame| frame["type"] == "turn").map(|frame| &frame["turn"]) {
        states.insert(turn["id"].as_str().unwrap(), turn["state"].as_str().unwrap());
    }
    for (id, state) in states {
        assert!(!matches!(state, "queued" | "running" | "stopping"), "{id} of {session}: {state}");
    }
}
