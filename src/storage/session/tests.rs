//! Properties of session files that need no server: every projection follows from the events alone.

use proptest::prelude::*;

use crate::base::Key;
use crate::base::json::Json;
use crate::base::limits::Limits;
use crate::domain::session::Command;
use crate::domain::session::Context;
use crate::domain::session::Direction;
use crate::domain::session::Event;
use crate::domain::session::NewMessage;
use crate::domain::session::Part;
use crate::domain::session::Role;
use crate::domain::session::SessionChanges;
use crate::domain::session::Stop;
use crate::domain::session::View;
use crate::domain::session::decide;
use crate::storage::Error;
use crate::storage::Folder;
use crate::storage::journal::Entry;
use crate::storage::session::SessionFile;

fn message(id: u8, text: &str) -> NewMessage {
    let part = Part::text(text);
    NewMessage {
        id: Some(format!("m{id}")),
        role: [Role::User, Role::Assistant, Role::System][usize::from(id % 3)],
        content: text.to_owned(),
        parts: vec![part; usize::from(id % 3)],
        metadata: id.is_multiple_of(2).then(Json::default),
    }
}

fn command() -> impl Strategy<Value = Command> {
    let id = 0u8..12;
    let text = ".{0,20}";
    prop_oneof![
        4 => (id.clone(), text).prop_map(|(id, text)| Command::AddMessage(message(id, &text))),
        2 => (id.clone(), text).prop_map(|(id, text)| Command::ReplaceParts {
            message_id: format!("m{id}"),
            parts: vec![Part::text(&text)],
            if_version: (id % 2 == 0).then_some(1),
        }),
        1 => id.clone().prop_map(|id| Command::DeleteMessage { message_id: format!("m{id}") }),
        3 => (id.clone(), text).prop_map(|(id, text)| Command::StartTurn(message(id + 100, &text))),
        5 => text.prop_map(|text| Command::AppendText { turn_id: "running".to_owned(), text }),
        2 => id.prop_map(|id| Command::EndTurn {
            turn_id: "running".to_owned(),
            error: (id % 3 == 0).then(|| "no luck".to_owned()),
        }),
        1 => Just(Command::Reconcile),
        1 => text.prop_map(|title| Command::Change(SessionChanges { title: Some(title), metadata: None })),
    ]
}

/// Carries out `command` as an actor does; the entries that the journal would hold.
fn carry_out(file: &mut SessionFile, command: Command, at_ms: i64) -> Result<Vec<Entry>, Error> {
    let running = file.head().active_turn.as_ref().map(|turn| turn.id.clone()).unwrap_or_default();
    let command = match command {
        Command::AppendText { text, .. } => Command::AppendText { turn_id: running, text },
        Command::EndTurn { error, .. } => Command::EndTurn { turn_id: running, error },
        other => other,
    };
    let base = file.head().last_seq;
    let count = std::cell::Cell::new(0);
    let new_id = || {
        count.set(count.get() + 1);
        format!("made-{base}-{}", count.get())
    };
    let context = Context { now_ms: at_ms, new_id: &new_id, limits: &Limits::default() };
    let decision = match decide(file, command, &context) {
        Ok(decision) => decision,
        Err(Stop::Rejected(_)) => return Ok(Vec::new()),
        Err(Stop::View(error)) => return Err(error),
    };
    let mut entries = Vec::new();
    for event in &decision.events {
        let frame = event.encode(file.head().last_seq + 1);
        assert_eq!(&Event::decode(event.kind(), &frame).expect("what was encoded"), event);
        let entry = Entry { kind: event.kind(), recorded_at_ms: at_ms, frame, idempotent: None };
        file.apply(event, &entry)?;
        entries.push(entry);
    }
    Ok(entries)
}

/// Every row of every table, as text.
fn dump(file: &SessionFile) -> Vec<String> {
    let mut rows = Vec::new();
    for table in ["event", "message", "part", "turn", "timer", "messages"] {
        let sql = ["SELECT * FROM ", table].concat();
        let mut statement = file.connection.prepare(&sql).expect("a table");
        let columns = statement.column_count();
        let mut found = statement.query([]).expect("rows");
        while let Some(row) = found.next().expect("a row") {
            let values: Vec<_> = (0..columns).map(|at| format!("{:?}", row.get_ref(at))).collect();
            rows.push(format!("{table}: {}", values.join(", ")));
        }
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_is_what_its_events_say(commands in prop::collection::vec(command(), 1..60)) {
        let key = Key::session("w", "s");
        let mut file = SessionFile::create(&key).expect("memory");
        let mut entries = Vec::new();
        for (at_ms, command) in (0..).step_by(1_000).zip(commands) {
            entries.extend(carry_out(&mut file, command, at_ms).expect("no disk, no error"));
        }
        let mut again = SessionFile::create(&key).expect("memory");
        for entry in &entries {
            let event = Event::decode(entry.kind, &entry.frame).expect("what was encoded");
            again.apply(&event, entry).expect("no disk, no error");
        }
        prop_assert_eq!(dump(&file), dump(&again));
        prop_assert_eq!(file.head(), again.head());

        // And so it is after it was written, closed and opened.
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(dir.path()).expect("a folder");
        if file.head().exists() {
            let rows = dump(&file);
            let head = file.head().clone();
            file.close(&folder).expect("a disk");
            let file = SessionFile::open(&key, &folder.session(key.hash())).expect("a whole file");
            prop_assert_eq!(file.head(), &head);
            prop_assert_eq!(dump(&file), rows);
            check_reads(&file)?;
        }
    }
}

fn check_reads(file: &SessionFile) -> Result<(), TestCaseError> {
    let events = file.events(0).expect("the log is whole");
    let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
    prop_assert_eq!(seqs, (1..=file.head().last_seq).collect::<Vec<_>>());
    let page = file.page(Direction::Before(u64::MAX), 1_000, false).expect("a page");
    prop_assert_eq!(page.messages.len() as u64, file.head().message_count);
    for message in &page.messages {
        let found = file.message(&message.id).expect("readable");
        prop_assert_eq!(found.as_ref(), Some(message));
    }
    Ok(())
}

#[test]
fn a_changed_event_is_reported_and_not_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = Folder::open(dir.path()).expect("a folder");
    let key = Key::session("w", "s");
    let mut file = SessionFile::create(&key).expect("memory");
    for id in 0..10 {
        carry_out(&mut file, Command::AddMessage(message(id, "text")), 5).expect("memory");
    }
    let file = file.into_file(&folder).expect("a disk");
    file.connection
        .execute("UPDATE event SET body = replace(body, 'text', 'tent') WHERE seq = 4", [])
        .expect("writable");
    let read = file.events(0);
    assert!(matches!(read, Err(Error::EventCorrupt { seq: 4 })), "{read:?}");
    assert_eq!(file.events(4).expect("the rest is as it was").len(), 6);
    file.connection
        .execute("UPDATE event SET body = body || ' ' WHERE seq = 10", [])
        .expect("writable");
    drop(file);
    let opened = SessionFile::open(&key, &folder.session(key.hash())).map(|_| ());
    assert!(matches!(opened, Err(Error::EventCorrupt { seq: 10 })), "{opened:?}");
}

#[test]
fn compaction_drops_deltas_only_and_says_from_where_the_log_is_whole() {
    let mut file = SessionFile::create(&Key::session("w", "s")).expect("memory");
    let running = || "running".to_owned();
    for text in ["first", "second"] {
        carry_out(&mut file, Command::StartTurn(NewMessage { id: None, ..message(1, text) }), 0)
            .expect("memory");
        for word in ["a ", "b ", "c"] {
            let delta = Command::AppendText { turn_id: running(), text: word.to_owned() };
            carry_out(&mut file, delta, 1_000).expect("memory");
        }
        carry_out(&mut file, Command::EndTurn { turn_id: running(), error: None }, 2_000)
            .expect("memory");
    }
    let due = file.next_timer_ms().expect("readable").expect("a timer");
    assert_eq!(due, 2_000 + 5 * 60 * 1_000);
    assert_eq!(file.due_timers(due - 1).expect("readable"), []);
    let timers = file.due_timers(due).expect("readable");
    assert_eq!(timers.iter().map(|timer| timer.kind.as_str()).collect::<Vec<_>>(), ["compact"]);
    let (messages, head) =
        (file.page(Direction::After(0), 100, false).expect("readable"), file.head().clone());
    file.compact().expect("memory");
    file.remove_timer("compact").expect("memory");

    // Each turn is five events and three deltas; the last delta is the third from the end.
    assert_eq!(file.head().log_start, head.last_seq - 2);
    assert_eq!(file.page(Direction::After(0), 100, false).expect("readable"), messages);
    let tail = file.events(file.head().log_start).expect("whole from there on");
    assert_eq!(
        tail.iter().map(|event| event.seq).collect::<Vec<_>>(),
        [head.last_seq - 1, head.last_seq]
    );
    assert_eq!(file.next_timer_ms().expect("readable"), None);
    // While the model writes, its deltas stay.
    carry_out(&mut file, Command::StartTurn(message(9, "third")), 0).expect("memory");
    let delta = Command::AppendText { turn_id: running(), text: "x".to_owned() };
    carry_out(&mut file, delta, 1_000).expect("memory");
    file.compact().expect("memory");
    assert_eq!(file.head().log_start, head.last_seq - 2);
}

#[test]
fn a_file_belongs_to_one_session() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = Folder::open(dir.path()).expect("a folder");
    let (mine, other) = (Key::session("w", "s"), Key::session("w", "t"));
    let mut file = SessionFile::create(&mine).expect("memory");
    carry_out(&mut file, Command::AddMessage(message(1, "text")), 5).expect("memory");
    file.close(&folder).expect("a disk");
    let opened = SessionFile::open(&other, &folder.session(mine.hash())).map(|_| ());
    assert!(matches!(opened, Err(Error::WrongFile)), "{opened:?}");
}
