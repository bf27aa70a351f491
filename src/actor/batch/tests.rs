//! Batches without a shard.

use std::collections::VecDeque;

use super::*;
use crate::actor::job::Asked;
use crate::base::clock;
use crate::base::ids;
use crate::base::ids::tests::session;
use crate::base::limits::Limits;
use crate::domain::session::Command;
use crate::domain::session::Event;
use crate::domain::session::NewMessage;
use crate::domain::session::Role;
use crate::storage::file::Settings;
use crate::storage::session::SessionFile;
use crate::wire::envelope::SessionKind;

fn job(content: &str) -> Job {
    let message = NewMessage {
        id: None,
        role: Role::User,
        content: content.to_owned(),
        parts: Vec::new(),
        metadata: None,
    };
    Job::own(Asked::<SessionKind>::own(Command::AddMessage(message)), clock::instant())
}

/// The record that one batch of `jobs` makes.
fn recorded(file: &mut SessionFile, jobs: impl IntoIterator<Item = Job>) -> Record {
    let limits = Limits::default();
    let rules = Rules {
        limits: &limits,
        now_ms: clock::now_ms(),
        new_id: &ids::fresh,
        epoch: 1,
        begins_turns: true,
        refuses: None,
    };
    let mut jobs: VecDeque<Job> = jobs.into_iter().collect();
    match make::<SessionKind>(file, &mut Hub::default(), &mut jobs, &rules) {
        Made::Record(_, encoded) => Record::decode(&encoded.payload).expect("a record"),
        Made::Nothing => panic!("nothing was recorded"),
        Made::Failed(_, error) => panic!("{error}"),
    }
}

#[test]
fn recorded_time_never_falls_whatever_the_clock_does() {
    let mut file = SessionFile::create(&session("s"), &Settings::default());
    // A machine whose clock was an hour ahead.
    let ahead_ms = clock::now_ms() + 3_600_000;
    let first = recorded(&mut file, [job("one")]).entries.remove(0);
    let mut later = SessionFile::create(&session("s"), &Settings::default());
    let event = Event::decode(first.number, &first.frame).expect("an event");
    later.apply(&event, &Entry { recorded_at_ms: ahead_ms, ..first }).expect("applied");

    let entries = recorded(&mut later, [job("two"), job("three")]).entries;
    assert_eq!(entries.len(), 2);
    for entry in entries {
        assert_eq!(entry.recorded_at_ms, ahead_ms);
        assert!(entry.frame.contains(&ahead_ms.to_string()), "{}", entry.frame);
    }
    assert_eq!(later.head().updated_at_ms, ahead_ms);
}
