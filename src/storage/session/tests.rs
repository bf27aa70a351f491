//! Properties of session files that need no server: every projection follows from the events alone.

mod compact;
mod damage;
mod late;

use bytestring::ByteString;
use proptest::prelude::*;
use rusqlite::types::ValueRef;

use crate::base::ids::Name;
use crate::base::ids::tests::session;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::base::limits::Limits;
use crate::domain::kind::Event as _;
use crate::domain::session::Busy;
use crate::domain::session::Command;
use crate::domain::session::Context;
use crate::domain::session::Direction;
use crate::domain::session::Draft;
use crate::domain::session::Ending;
use crate::domain::session::Event;
use crate::domain::session::Head;
use crate::domain::session::Input;
use crate::domain::session::ItemsCommand;
use crate::domain::session::Message;
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
use crate::domain::session::View;
use crate::domain::session::decide;
use crate::domain::session::tests::Past;
use crate::storage::Error;
use crate::storage::Folder;
use crate::storage::file::Settings;
use crate::storage::file::verify;
use crate::storage::journal::Entry;
use crate::storage::journal::Idempotent;
use crate::storage::session::SessionFile;
use crate::storage::session::SessionTables;

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
    let ending = Ending::sample(state);
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

/// The events of `command`; none if it is refused.
fn decided<V: View>(view: &V, command: Command, at_ms: i64) -> Result<Vec<Event>, V::Error> {
    let active = view.head().active_turn.as_ref();
    let (turn_id, attempt) = active.map(|t| (t.id.clone(), t.attempt)).unwrap_or_default();
    let command = match command {
        Command::Write { pieces, .. } => Command::Write { turn_id, attempt, pieces },
        Command::EndTurn { ending, .. } => Command::EndTurn { turn_id, attempt, ending },
        Command::ExpireApprovals { .. } => Command::ExpireApprovals { turn_id },
        other => other,
    };
    let base = view.head().last_seq;
    let count = std::cell::Cell::new(0);
    let new_id = || {
        count.set(count.get() + 1);
        format!("made-{base}-{}", count.get())
    };
    let limits = Limits::default();
    let context = Context { now_ms: at_ms, new_id: &new_id, limits: &limits, begins_turns: true };
    match decide(view, command, &context) {
        Ok(decision) => Ok(decision.events),
        Err(Stop::Rejected(_)) => Ok(Vec::new()),
        Err(Stop::View(error)) => Err(error),
    }
}

/// Carries out `command` as an actor does; the entries that the journal would hold.
fn carry_out(file: &mut SessionFile, command: Command, at_ms: i64) -> Result<Vec<Entry>, Error> {
    let events = decided(file, command, at_ms)?;
    let mut entries = Vec::new();
    for event in &events {
        let frame: ByteString = event.encode(file.head().last_seq + 1).into();
        assert_eq!(&Event::read(event.kind(), &frame).expect("what was encoded"), event);
        let entry = Entry {
            number: event.kind() as u8,
            recorded_at_ms: at_ms,
            frame,
            idempotent: None,
            heard: None,
        };
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
        let mut statement = file.db().expect("whole").prepare(&sql).expect("a table");
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
        let mut file = SessionFile::create(&key, &Settings::default());
        let (mut entries, mut past) = (Vec::new(), Past::default());
        for (at_ms, command) in (0..).step_by(1_000).zip(commands) {
            let Ok(decided) = decided(&past, command.clone(), at_ms);
            let new = carry_out(&mut file, command, at_ms).expect("no disk, no error");
            let event = |entry: &Entry| Event::decode(entry.number, &entry.frame).expect("an event");
            let events: Vec<Event> = new.iter().map(event).collect();
            // The rules see the same past in the rows and in memory.
            prop_assert_eq!(&events, &decided);
            events.iter().for_each(|event| past.apply(event, at_ms));
            entries.extend(new);
            if at_ms % 3_000 == 0 {
                // What a turn writes is in its rows as of the last commit.
                file.commit().expect("memory");
                check_alike(&file, &past)?;
            }
        }
        let mut again = SessionFile::create(&key, &Settings::default());
        for entry in &entries {
            let event = Event::decode(entry.number, &entry.frame).expect("what was encoded");
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
            let file = SessionFile::open(&key, &folder.file(&key), &Settings::default()).expect("a whole file");
            prop_assert_eq!(file.head(), &head);
            prop_assert_eq!(&dump(&file), &rows);
            check_reads(&file)?;

            // Or was made anew from the log in it, as far as what was redacted still tells.
            file.close(&folder).expect("a disk");
            let path = folder.file(&key);
            prop_assert_eq!(verify::<SessionTables>(&path, false).expect("readable").findings.len(), 0);
            match SessionFile::rebuild(&key, &folder, &Settings::default(), head.last_seq) {
                Ok(()) => {
                    let file = SessionFile::open(&key, &path, &Settings::default()).expect("whole");
                    prop_assert_eq!(dump(&file), rows);
                    prop_assert_eq!(file.head(), &head);
                }
                Err(error) => prop_assert!(error.to_string().contains("no longer holds"), "{error}"),
            }
        }
    }
}

/// The rows say what the events amount to in memory.
fn check_alike(file: &SessionFile, past: &Past) -> Result<(), TestCaseError> {
    let head = Head { last_hash: file.head().last_hash, ..past.head().clone() };
    prop_assert_eq!(file.head(), &head);
    let page = file.page(Direction::Before(u64::MAX), 1_000, false).expect("a page");
    let history = past.history();
    let texts = |messages: &[Message]| messages.iter().map(|m| m.parts.clone()).collect::<Vec<_>>();
    prop_assert_eq!(texts(&page.messages), texts(&history));
    prop_assert_eq!(&page.messages, &history);
    let parts = |draft: Option<&Draft>| draft.map(|draft| (draft.message_seq, draft.parts()));
    prop_assert_eq!(parts(file.draft()), parts(past.draft()));
    let Ok(queued) = past.queued_turns();
    prop_assert_eq!(file.queued_turns().expect("readable"), queued);
    let Ok(items) = past.items(usize::MAX);
    prop_assert_eq!(file.items(usize::MAX).expect("readable"), items);
    for message in history {
        let Ok(turn) = past.turn(message.turn_id.as_deref().unwrap_or_default());
        let id = message.turn_id.as_deref().unwrap_or_default();
        prop_assert_eq!(file.turn(id).expect("readable"), turn);
    }
    Ok(())
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
    let mut file = SessionFile::create(&key, &Settings::default());
    for id in 0..10 {
        carry_out(&mut file, Command::AddMessage(message(id, "text")), 5).expect("memory");
    }
    let file = file.into_file(&folder).expect("a disk");
    file.db()
        .expect("whole")
        .execute("UPDATE event SET body = replace(body, 'text', 'tent') WHERE seq = 4", [])
        .expect("writable");
    let read = file.events(0);
    assert!(is_row(read.map(|_| ()), "4"), "it is not what was written");
    assert_eq!(file.events(4).expect("the rest is as it was").len(), 6);
    file.db()
        .expect("whole")
        .execute("UPDATE event SET body = body || ' ' WHERE seq = 10", [])
        .expect("writable");
    drop(file);
    let opened = SessionFile::open(&key, &folder.file(&key), &Settings::default()).map(|_| ());
    assert!(is_row(opened, "4"), "the first that does not fit");
}

fn is_row(result: Result<(), Error>, wanted: &str) -> bool {
    matches!(result, Err(Error::RowCorrupt { table: "event", row }) if row == wanted)
}

#[test]
fn a_file_belongs_to_one_session() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = Folder::open(dir.path()).expect("a folder");
    let (mine, other) = (session("s"), session("t"));
    let mut file = SessionFile::create(&mine, &Settings::default());
    carry_out(&mut file, Command::AddMessage(message(1, "text")), 5).expect("memory");
    file.close(&folder).expect("a disk");
    let opened = SessionFile::open(&other, &folder.file(&mine), &Settings::default()).map(|_| ());
    assert!(matches!(opened, Err(Error::WrongFile)), "{opened:?}");
}
