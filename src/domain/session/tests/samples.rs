//! Events as they have been stored: whatever this version writes, it must read what was written before, and write it alike. The
//! samples are never changed, only added to.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::domain::session::Event;
use crate::domain::session::EventKind;

const SAMPLES: &str = include_str!("../../../../tests/fixtures/events.jsonl");

fn samples() -> impl Iterator<Item = (EventKind, u64, &'static str)> {
    SAMPLES.lines().map(|line| {
        let frame: Value = serde_json::from_str(line).expect("JSON");
        let kind = frame["type"].as_str().and_then(EventKind::from_name);
        (kind.expect("a kind that is known"), frame["seq"].as_u64().expect("a seq"), line)
    })
}

#[test]
fn every_event_is_read_and_written_as_it_was() {
    for (kind, seq, line) in samples() {
        let event = Event::read(kind, line).unwrap_or_else(|error| panic!("{line}: {error:?}"));
        assert_eq!(event.kind(), kind);
        assert_eq!(event.encode(seq), line);
    }
    let seen: BTreeSet<u8> = samples().map(|(kind, ..)| kind as u8).collect();
    let all: BTreeSet<u8> = EventKind::ALL.iter().map(|kind| *kind as u8).collect();
    assert_eq!(seen, all, "every kind has its sample");
}

/// `value` with a member more in every object that is the server's own; what clients say in `parts`, `metadata`, `tools`,
/// `fields` and `body` is theirs.
fn with_more(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (key, value) in members.iter_mut() {
                if !["parts", "metadata", "tools", "fields", "body"].contains(&key.as_str()) {
                    with_more(value);
                }
            }
            members.insert("aLaterVersion".to_owned(), Value::Bool(true));
        }
        Value::Array(values) => values.iter_mut().for_each(with_more),
        _ => {}
    }
}

#[test]
fn what_a_later_version_adds_does_no_harm() {
    for (kind, _, line) in samples() {
        let mut more: Value = serde_json::from_str(line).expect("JSON");
        with_more(&mut more);
        let read = Event::read(kind, &more.to_string());
        let read = read.unwrap_or_else(|error| panic!("{more}: {error:?}"));
        // Numbers that do not fit into a float are the client's; they are compared in the other test.
        assert_eq!(read.kind(), kind);
    }
}
