//! The checker's own test: a good history has no violation, and every planted defect is named.

use serde_json::Value;
use serde_json::json;

use super::Entry;
use super::Heard;
use super::Kind;
use super::Logs;
use super::Outcome;
use super::Seen;
use super::check;

/// A history that keeps every promise.
#[derive(Clone)]
struct History {
    entries: Vec<Entry>,
    seen: Vec<Seen>,
    logs: Logs,
}

fn frame(seq: u64, content: &str) -> Value {
    let message = json!({"id": format!("m{seq}"), "seq": seq, "role": "user", "content": content});
    json!({"type": "message", "seq": seq, "message": message})
}

fn good() -> History {
    let log: Vec<Value> = (1..=8).map(|seq| frame(seq, &format!("text {seq}"))).collect();
    let entry = |seq: u64, outcome| Entry {
        session: "s".to_owned(),
        key: format!("k{seq}"),
        content: format!("text {seq}"),
        invoked: seq * 10,
        answered: seq * 10 + 5,
        outcome,
    };
    let acked = |seq| entry(seq, Outcome::Acked { id: Some(format!("m{seq}")), seq: Some(seq) });
    let mut entries: Vec<Entry> = (1..=7).map(acked).collect();
    entries.push(entry(8, Outcome::Unknown));
    entries.push(entry(9, Outcome::Unknown));
    entries.push(entry(10, Outcome::Refused));
    let ready = json!({"type": "ready", "sessionId": "s", "lastSeq": 2, "after": 0});
    let mut heard = vec![Heard::From(0), Heard::Frame(ready)];
    heard.extend(log[..3].iter().cloned().map(Heard::Frame));
    heard.push(Heard::From(3));
    heard.extend(log[3..6].iter().cloned().map(Heard::Frame));
    let seen = vec![Seen { who: "reader".to_owned(), session: "s".to_owned(), heard }];
    History { entries, seen, logs: Logs::from([("s".to_owned(), log)]) }
}

fn kinds(history: &History) -> Vec<Kind> {
    check(&history.entries, &history.seen, &history.logs).iter().map(|broken| broken.kind).collect()
}

#[track_caller]
fn planted(kind: Kind, plant: impl FnOnce(&mut History)) {
    let mut history = good();
    plant(&mut history);
    let named = kinds(&history);
    assert!(named.contains(&kind), "planted {kind:?}, named {named:?}");
}

fn log(history: &mut History) -> &mut Vec<Value> {
    history.logs.get_mut("s").unwrap()
}

#[test]
fn a_good_history_has_no_violation() {
    assert_eq!(kinds(&good()), []);
}

#[test]
fn a_frame_may_stand_for_several() {
    let mut history = good();
    let next = log(&mut history).len() + 1;
    log(&mut history).push(json!({ "type": "message-parts", "from": next, "seq": next + 2 }));
    log(&mut history).push(json!({ "type": "turn", "seq": next + 3 }));
    assert_eq!(kinds(&history), []);
    planted(Kind::Hole, |history| {
        log(history).push(json!({ "type": "message-parts", "from": next + 1, "seq": next + 2 }));
    });
}

#[test]
fn a_lost_ack_is_named() {
    planted(Kind::Lost, |history| log(history).truncate(6));
    planted(Kind::Lost, |history| history.logs.clear());
    planted(Kind::Lost, |history| log(history)[6]["message"]["content"] = json!("other text"));
}

#[test]
fn a_double_is_named() {
    planted(Kind::Doubled, |history| log(history).push(frame(9, "text 3")));
    planted(Kind::Doubled, |history| log(history).push(frame(9, "text 8")));
}

#[test]
fn a_hole_is_named() {
    planted(Kind::Hole, |history| drop(log(history).remove(2)));
    planted(Kind::Hole, |history| log(history)[0]["seq"] = json!(0));
    planted(Kind::Hole, |history| log(history)[7]["seq"] = json!(7));
}

#[test]
fn a_wrong_seq_or_id_in_an_ack_is_named() {
    let ack = |id: &str, seq| Outcome::Acked { id: Some(id.to_owned()), seq: Some(seq) };
    planted(Kind::Renumbered, |history| history.entries[3].outcome = ack("m4", 5));
    planted(Kind::Renamed, |history| history.entries[3].outcome = ack("m5", 4));
}

#[test]
fn a_swapped_pair_is_named() {
    let swap = |history: &mut History| {
        log(history)[4] = frame(5, "text 6");
        log(history)[5] = frame(6, "text 5");
    };
    planted(Kind::Renumbered, swap);
    // Even when the acks told the same wrong order.
    planted(Kind::Overtaken, |history| {
        swap(history);
        history.entries[4].outcome = Outcome::Acked { id: None, seq: Some(6) };
        history.entries[5].outcome = Outcome::Acked { id: None, seq: Some(5) };
    });
}

#[test]
fn a_refused_or_unsent_message_is_named() {
    planted(Kind::Ghost, |history| log(history).push(frame(9, "text 10")));
    planted(Kind::Foreign, |history| log(history).push(frame(9, "text 11")));
}

#[test]
fn a_changed_or_vanished_frame_is_named() {
    planted(Kind::Rewritten, |history| log(history)[5]["message"]["createdAt"] = json!(1));
    planted(Kind::Vanished, |history| log(history).truncate(5));
}

#[test]
fn a_gap_or_a_repeat_is_named() {
    planted(Kind::Gap, |history| drop(history.seen[0].heard.remove(3)));
    planted(Kind::Gap, |history| drop(history.seen[0].heard.remove(6)));
    planted(Kind::Gap, |history| {
        let again = history.seen[0].heard[4].clone();
        history.seen[0].heard.insert(5, again);
    });
    planted(Kind::Gap, |history| history.seen[0].heard[5] = Heard::From(2));
}

#[test]
fn a_reset_is_no_gap() {
    let mut history = good();
    let heard = &mut history.seen[0].heard;
    heard.splice(3..4, [Heard::Frame(json!({"type": "reset", "seq": 2, "snapshot": {}}))]);
    assert_eq!(kinds(&history), []);
}
