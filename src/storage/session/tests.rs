//! Properties of session files that need no server: every projection follows from the events alone.

mod damage;

use proptest::prelude::*;
use rusqlite::types::ValueRef;

use crate::base::ids::Name;
use crate::base::ids::tests::session;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::base::limits::Limits;
use crate::domain::session::Busy;
use crate::domain::session::Command;
use crate::domain::session::Context;
use crate::domain::session::Direction;
use crate::domain::session::Ending;
use crate::domain::session::Event;
use crate::domain::session::Input;
use crate::domain::session::ItemsCommand;
use crate::domain::session::NewMessage;
use crate::domain::session::NewTurn;
use crate::domain::session::Part;
use crate::domain::session::Piece;
use crate::domain::session::Role;
use crate::domain::session::SessionChanges;
use crate::domain::session::Status;
use crate::domain::session::Stop;
use crate::domain::session::TurnOptions;
use crate::domain::session::TurnState;
use crate::domain::session::Usage;
use crate::domain::session::View;
use crate::domain::session::decide;
use crate::storage::Error;
use crate::storage::Folder;
use crate::storage::journal::Entry;
use crate::storage::journal::Idempotent;
use crate::storage::session::SessionFile;

fn message(id: u8, text: &str) -> NewMessage {
    let part = text_part(text);
    NewMessage {
        id: Name::new(format!("m{id}")).ok(),
        role: [Role::User, Role::Assistant, Role::System][usize::from(id % 3)],
        content: text.to_owned(),
        parts: vec![part; usize::from(id % 3)],
        metadata: id.is_multiple_of(2).then(Json::default),
    }
}

fn text_part(text: &str) -> Part {
    Part::of(&Object::default().with("type", &"text").with("content", &text))
}

fn turn(input: Input, busy: Busy) -> Command {
    let options = TurnOptions { busy: Some(busy), ..TurnOptions::default() };
    Command::StartTurn(Box::new(NewTurn { input, options, model: "echo".to_owned(), titled: true }))
}

fn ask(message: NewMessage) -> Command {
    turn(Input::Message { message, edit: false }, Busy::Queue)
}

fn write(pieces: Vec<Piece>) -> Command {
    Command::Write { turn_id: String::new(), attempt: 0, pieces }
}

fn end(state: TurnState) -> Command {
    let ending = Ending {
        state,
        finish_reason: "stop".to_owned(),
        usage: Some(Usage { input_tokens: 1, output_tokens: 2 }),
        error: (state == TurnState::Failed).then(|| "no luck".to_owned()),
        error_status: None,
        resume: None,
    };
    Command::EndTurn { turn_id: String::new(), attempt: 0, ending: Box::new(ending) }
}

fn piece() -> impl Strategy<Value = Piece> {
    let object = Object::default;
    prop_oneof![
        4 => (0usize..3, ".{0,20}").prop_map(|(part, text)| Piece::Delta { part, text }),
        2 => (0usize..4).prop_map(move |part| Piece::Update {
            part,
            fields: object().with("type", &"text").with("content", &"").with("state", &"running"),
        }),
        1 => (0usize..4).prop_map(move |part| Piece::Update {
            part,
            fields: object()
                .with("type", &"tool-call")
                .with("toolCallId", &format!("c{part}"))
                .with("toolName", &"rm")
                .with("toolInput", &part)
                .with("approval", &object().with("id", &format!("a{part}")))
                .with("state", &"pending"),
        }),
        1 => (0usize..4).prop_map(move |part| Piece::Update {
            part,
            fields: object().with("state", &"complete"),
        }),
    ]
}

fn items() -> impl Strategy<Value = Vec<Json>> {
    let item = prop_oneof![
        Just(r#"{"role":"user","content":"q"}"#),
        Just(r#"{"type":"function_call","call_id":"c","name":"add","arguments":"{}"}"#),
        Just(r#"{"type":"function_call_output","call_id":"c","output":"2"}"#),
        Just(
            r#"{"type":"message","role":"assistant","content":[{"type":"output_text","text":"a"}]}"#
        ),
        Just(r#"{"type":"compaction","encrypted_content":"x"}"#),
    ];
    prop::collection::vec(item.prop_map(|item| Json::parse(item).expect("JSON")), 0..4)
}

fn command() -> impl Strategy<Value = Command> {
    let id = 0u8..12;
    let text = ".{0,20}";
    let busy = prop_oneof![
        Just(Busy::Reject),
        Just(Busy::Queue),
        Just(Busy::Interrupt),
        Just(Busy::Latest)
    ];
    let state = prop_oneof![
        Just(TurnState::Completed),
        Just(TurnState::Failed),
        Just(TurnState::Stopped),
        Just(TurnState::WaitingApproval)
    ];
    let changes = prop_oneof![
        3 => items().prop_map(ItemsCommand::Append),
        2 => Just(ItemsCommand::Pop),
        1 => Just(ItemsCommand::Clear),
        1 => items().prop_map(ItemsCommand::Replace),
        1 => (items(), items())
            .prop_map(|(expected, replacement)| ItemsCommand::ReplaceSuffix { expected, replacement }),
    ];
    prop_oneof![
        4 => (id.clone(), text).prop_map(|(id, text)| Command::AddMessage(message(id, &text))),
        2 => (id.clone(), text).prop_map(|(id, text)| Command::ReplaceParts {
            message_id: format!("m{id}"),
            parts: vec![text_part(&text)],
            if_version: (id % 2 == 0).then_some(1),
        }),
        1 => id.clone().prop_map(|id| Command::DeleteMessage { message_id: format!("m{id}") }),
        3 => (id, text, busy.clone()).prop_map(|(id, text, busy)| {
            turn(Input::Message { message: message(id + 100, &text), edit: id % 2 == 0 }, busy)
        }),
        1 => (0usize..6, text, busy.clone()).prop_map(|(position, text, busy)| {
            turn(Input::At { position, message: NewMessage { id: None, ..message(1, &text) } }, busy)
        }),
        1 => busy.prop_map(|busy| turn(Input::Again { after: None }, busy)),
        5 => prop::collection::vec(piece(), 1..4).prop_map(write),
        2 => state.prop_map(end),
        1 => Just(Command::StopTurn { turn_id: None }),
        2 => (0usize..4, any::<bool>()).prop_map(|(at, approved)| Command::Approve {
            approval_id: format!("a{at}"),
            approved,
            reason: None,
        }),
        1 => Just(Command::ExpireApprovals { turn_id: String::new() }),
        3 => changes.prop_map(Command::ChangeItems),
        1 => Just(Command::Reconcile),
        1 => text.prop_map(|title| {
            Command::Change(SessionChanges { title: Some(title), ..SessionChanges::default() })
        }),
    ]
}

/// Carries out `command` as an actor does; the entries that the journal would hold.
fn carry_out(file: &mut SessionFile, command: Command, at_ms: i64) -> Result<Vec<Entry>, Error> {
    let active = file.head().active_turn.as_ref();
    let (turn_id, attempt) = active.map(|t| (t.id.clone(), t.attempt)).unwrap_or_default();
    let command = match command {
        Command::Write { pieces, .. } => Command::Write { turn_id, attempt, pieces },
        Command::EndTurn { ending, .. } => Command::EndTurn { turn_id, attempt, ending },
        Command::ExpireApprovals { .. } => Command::ExpireApprovals { turn_id },
        other => other,
    };
    let base = file.head().last_seq;
    let count = std::cell::Cell::new(0);
    let new_id = || {
        count.set(count.get() + 1);
        format!("made-{base}-{}", count.get())
    };
    let limits = Limits::default();
    let context = Context { now_ms: at_ms, new_id: &new_id, limits: &limits, begins_turns: true };
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
    for table in ["event", "message", "part", "turn", "item", "timer", "messages"] {
        let sql = ["SELECT * FROM ", table].concat();
        let mut statement = file.connection.prepare(&sql).expect("a table");
        let columns = statement.column_count();
        let mut found = statement.query([]).expect("rows");
        while let Some(row) = found.next().expect("a row") {
            let value = |at| match row.get_ref(at).expect("a column") {
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                other => format!("{other:?}"),
            };
            let values: Vec<_> = (0..columns).map(value).collect();
            rows.push(format!("{table}: {}", values.join(", ")));
        }
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_is_what_its_events_say(commands in prop::collection::vec(command(), 1..60)) {
        let key = session("s");
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
        // What a turn writes is in its rows as of the last commit.
        file.commit().expect("memory");
        again.commit().expect("memory");
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
            prop_assert_eq!(&dump(&file), &rows);
            check_reads(&file)?;

            // Or was made anew from the log in it, as far as what was redacted still tells.
            file.close(&folder).expect("a disk");
            let path = folder.session(key.hash());
            prop_assert_eq!(SessionFile::verify(&path, false).expect("readable").findings.len(), 0);
            match SessionFile::rebuild(&key, &folder, head.last_seq) {
                Ok(()) => {
                    let file = SessionFile::open(&key, &path).expect("whole");
                    prop_assert_eq!(dump(&file), rows);
                    prop_assert_eq!(file.head(), &head);
                }
                Err(error) => prop_assert!(error.to_string().contains("no longer holds"), "{error}"),
            }
        }
    }
}

fn check_reads(file: &SessionFile) -> Result<(), TestCaseError> {
    let events = file.events(0).expect("the log is whole");
    let seqs: Vec<u64> = events.iter().map(|event| event.seq).collect();
    prop_assert_eq!(seqs, (1..=file.head().last_seq).collect::<Vec<_>>());
    let page = file.page(Direction::Before(u64::MAX), 1_000, false).expect("a page");
    prop_assert_eq!(page.messages.len() as u64, file.head().message_count);
    let items = file.items(usize::MAX).expect("readable");
    prop_assert_eq!(items.len() as u64, file.head().item_count);
    let active = page.messages.iter().filter(|m| m.status == Status::Streaming).count();
    let running = file.head().active_turn.as_ref().is_some_and(|turn| turn.state.is_active());
    prop_assert_eq!(active, usize::from(running));
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
    let key = session("s");
    let mut file = SessionFile::create(&key).expect("memory");
    for id in 0..10 {
        carry_out(&mut file, Command::AddMessage(message(id, "text")), 5).expect("memory");
    }
    let file = file.into_file(&folder).expect("a disk");
    file.connection
        .execute("UPDATE event SET body = replace(body, 'text', 'tent') WHERE seq = 4", [])
        .expect("writable");
    let read = file.events(0);
    assert!(is_row(read.map(|_| ()), "4"), "it is not what was written");
    assert_eq!(file.events(4).expect("the rest is as it was").len(), 6);
    file.connection
        .execute("UPDATE event SET body = body || ' ' WHERE seq = 10", [])
        .expect("writable");
    drop(file);
    let opened = SessionFile::open(&key, &folder.session(key.hash())).map(|_| ());
    assert!(is_row(opened, "4"), "the first that does not fit");
}

fn is_row(result: Result<(), Error>, wanted: &str) -> bool {
    matches!(result, Err(Error::RowCorrupt { table: "event", row }) if row == wanted)
}

fn say(word: &str) -> Command {
    write(vec![Piece::Delta { part: 0, text: word.to_owned() }])
}

fn open_text() -> Command {
    let fields = Object::default().with("type", &"text").with("content", &"");
    write(vec![Piece::Update { part: 0, fields: fields.with("state", &"running") }])
}

/// An answer of three deltas that ends at `at_ms`.
fn answer(file: &mut SessionFile, id: u8, at_ms: i64) {
    carry_out(file, ask(NewMessage { id: None, ..message(id, "q") }), at_ms).expect("memory");
    carry_out(file, open_text(), at_ms).expect("memory");
    for word in ["a ", "b ", "c"] {
        carry_out(file, say(word), at_ms).expect("memory");
    }
    carry_out(file, end(TurnState::Completed), at_ms).expect("memory");
}

/// The log from `after` on as kinds and the seqs that they stand for; no gap is left.
fn covered(file: &SessionFile, after: u64) -> Vec<(&'static str, u64, u64)> {
    let mut last = after;
    let mut all = Vec::new();
    for event in file.events(after).expect("the log is whole") {
        let from = match Event::decode(event.kind, &event.frame).expect("a frame") {
            Event::MessageParts { from, .. } => from.unwrap_or(event.seq),
            _ => event.seq,
        };
        assert!(from <= last + 1 && last < event.seq, "{from} to {} behind {last}", event.seq);
        last = event.seq;
        all.push((event.kind.as_str(), from, event.seq));
    }
    assert_eq!(last, file.head().last_seq.max(after));
    all
}

#[test]
fn one_frame_takes_the_place_of_deltas_and_every_other_event_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = Folder::open(dir.path()).expect("a folder");
    let key = session("s");
    let mut file = SessionFile::create(&key).expect("memory").keeping_deltas(100);
    answer(&mut file, 1, 2_000);
    // Between two words of this one, somebody else says something.
    carry_out(&mut file, ask(NewMessage { id: None, ..message(4, "q") }), 2_050).expect("memory");
    carry_out(&mut file, open_text(), 2_050).expect("memory");
    carry_out(&mut file, say("x "), 2_050).expect("memory");
    carry_out(&mut file, say("y "), 2_050).expect("memory");
    carry_out(&mut file, Command::AddMessage(message(6, "hm")), 2_050).expect("memory");
    carry_out(&mut file, say("z"), 2_050).expect("memory");
    carry_out(&mut file, end(TurnState::Completed), 2_060).expect("memory");
    let whole = file.events(0).expect("the log");
    let (head, page) = (file.head().clone(), file.page(Direction::After(0), 100, false));
    assert_eq!(file.next_timer_ms().expect("readable"), Some(2_100), "the first that is over");

    file.compact().expect("memory");
    let first = [
        ("session", 1, 1),
        ("message", 2, 2),
        ("turn", 3, 3),
        ("part-update", 4, 4),
        ("message-parts", 5, 7),
        ("part-update", 8, 8),
        ("message", 9, 9),
        ("turn", 10, 10),
    ];
    assert_eq!(covered(&file, 0)[..8], first);
    assert_eq!(file.next_timer_ms().expect("readable"), Some(2_160), "the other is too young");
    file.compact().expect("memory");
    let frames = covered(&file, 10);
    let runs: Vec<_> = frames.iter().filter(|(kind, ..)| *kind == "message-parts").collect();
    assert_eq!(runs, [&("message-parts", 14, 15), &("message-parts", 17, 17)]);
    assert_eq!(file.next_timer_ms().expect("readable"), None);

    assert_eq!((file.head(), file.head().log_start), (&head, 0));
    let same = file.page(Direction::After(0), 100, false).expect("readable");
    assert_eq!(same, page.expect("readable"), "the messages are as they were");
    for after in 0..=head.last_seq {
        covered(&file, after);
    }
    let parts = same.messages[1].parts.clone();
    for event in file.events(0).expect("the log") {
        let before = &whole[usize::try_from(event.seq).expect("small") - 1];
        match Event::decode(event.kind, &event.frame).expect("a frame") {
            Event::MessageParts { from: Some(5), parts: now, version, .. } => {
                assert_eq!((now, version), (parts.clone(), 2));
            }
            Event::MessageParts { .. } => assert_eq!(before.kind.as_str(), "part-delta"),
            _ => assert_eq!((event.kind, &event.frame), (before.kind, &before.frame)),
        }
    }
    // The chain goes on behind it, also once it is opened again.
    file.close(&folder).expect("a disk");
    let mut file = SessionFile::open(&key, &folder.session(key.hash())).expect("a whole file");
    assert_eq!(file.head(), &head);
    let id = same.messages[1].id.clone();
    carry_out(&mut file, Command::DeleteMessage { message_id: id }, 3_000).expect("a disk");
    let log = file.events(0).expect("the log");
    assert!(log.iter().all(|event| !event.frame.contains("a b c")), "{log:?}");
    covered(&file, 0);
    // A frame that does not reach back to the one before it is damage, not a gap.
    file.connection.execute("DELETE FROM event WHERE seq = 9", []).expect("writable");
    let read = file.events(0);
    let missing = matches!(&read, Err(Error::RowMissing { table: "event", row }) if row == "9");
    assert!(missing, "{read:?}");
}

#[test]
fn the_words_of_an_answer_that_goes_on_stay() {
    let mut file = SessionFile::create(&session("s")).expect("memory").keeping_deltas(0);
    answer(&mut file, 1, 1_000);
    carry_out(&mut file, ask(message(9, "third")), 2_000).expect("memory");
    carry_out(&mut file, open_text(), 2_000).expect("memory");
    carry_out(&mut file, say("x"), 2_000).expect("memory");
    file.compact().expect("memory");
    let deltas = |file: &SessionFile| {
        covered(file, 0).into_iter().filter(|(kind, ..)| *kind == "part-delta").count()
    };
    assert_eq!((deltas(&file), file.next_timer_ms().expect("readable")), (1, None));
    carry_out(&mut file, end(TurnState::Stopped), 3_000).expect("memory");
    assert_eq!(file.next_timer_ms().expect("readable"), Some(3_000));
    file.compact().expect("memory");
    assert_eq!(deltas(&file), 0);
}

#[test]
fn what_would_grow_is_not_compacted() {
    let mut file = SessionFile::create(&session("s")).expect("memory").keeping_deltas(0);
    carry_out(&mut file, ask(message(100, "q")), 0).expect("memory");
    let large = Object::default().with("type", &"data-x").with("data", &"d".repeat(5_000));
    carry_out(&mut file, open_text(), 0).expect("memory");
    carry_out(&mut file, write(vec![Piece::Update { part: 1, fields: large }]), 0).expect("memory");
    for _ in 0..20 {
        carry_out(&mut file, say("word "), 0).expect("memory");
    }
    carry_out(&mut file, end(TurnState::Completed), 0).expect("memory");
    let before = file.events(0).expect("the log").len();
    file.compact().expect("memory");
    assert_eq!(file.events(0).expect("the log").len(), before);
    assert_eq!(file.next_timer_ms().expect("readable"), None, "and not tried again");
}

#[test]
fn a_file_belongs_to_one_session() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = Folder::open(dir.path()).expect("a folder");
    let (mine, other) = (session("s"), session("t"));
    let mut file = SessionFile::create(&mine).expect("memory");
    carry_out(&mut file, Command::AddMessage(message(1, "text")), 5).expect("memory");
    file.close(&folder).expect("a disk");
    let opened = SessionFile::open(&other, &folder.session(mine.hash())).map(|_| ());
    assert!(matches!(opened, Err(Error::WrongFile)), "{opened:?}");
}
