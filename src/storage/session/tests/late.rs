//! Rows that are written late are the rows that would have been written at once.

use proptest::test_runner::TestRunner;

use super::*;

/// Histories of the ordinary run; `SESSILE_HISTORIES=N` for more.
const HISTORIES: u32 = 300;

/// What happened, each with whether somebody reads behind it in the file whose rows come late.
type History = Vec<(Command, bool)>;

/// Runs of messages, so that many rows wait, between anything else.
fn history() -> impl Strategy<Value = History> {
    let said = (0u8..12, ".{0,20}").prop_map(|(id, text)| {
        // Half of them with an id that was perhaps said before.
        let id = id.is_multiple_of(2).then(|| Name::new(format!("m{id}")).expect("a name"));
        Command::AddMessage(NewMessage { id, ..message(3, &text) })
    });
    let step = prop_oneof![3 => command(), 5 => said];
    prop::collection::vec((step, prop::bool::weighted(0.1)), 1..60)
}

fn check(history: History) -> Result<(), TestCaseError> {
    let key = session("s");
    let mut late = SessionFile::create(&key, &Settings::default());
    let mut once = SessionFile::create(&key, &Settings::default());
    for (at_ms, (command, is_read)) in (0..).zip(history) {
        let events = decided(&late, command.clone(), at_ms).expect("memory");
        prop_assert_eq!(&decided(&once, command, at_ms).expect("memory"), &events);
        let first = late.head().last_seq + 1;
        for (seq, event) in (first..).zip(&events) {
            let (number, frame) = (event.kind() as u8, event.encode(seq).into());
            let request = Idempotent {
                key: format!("k{seq}"),
                request: [7; 16],
                status: 201,
                response: (seq % 2 == 0).then(|| "{}".to_owned()),
            };
            let idempotent = (seq == first && seq % 3 == 0).then_some(request);
            let entry = Entry { number, recorded_at_ms: at_ms, frame, idempotent, heard: None };
            for file in [&mut late, &mut once] {
                file.apply(event, &entry).expect("memory");
                file.once(seq, &entry).expect("memory");
                // As a commit does with what a turn writes.
                if at_ms % 7 == 0 {
                    file.commit().expect("memory");
                }
            }
            once.db().expect("memory");
            let again = [late.answered(&format!("k{first}")), once.answered(&format!("k{first}"))];
            let [late, once] = again.map(|found| found.expect("readable"));
            prop_assert_eq!(late, once, "what a repeat hears");
        }
        if is_read {
            late.db().expect("memory");
        }
    }
    prop_assert_eq!(late.head(), once.head());
    prop_assert_eq!(late.rows().expect("rows"), once.rows().expect("rows"));
    Ok(())
}

#[test]
fn rows_that_come_late_are_those_that_come_at_once() {
    #[expect(clippy::disallowed_methods, reason = "a test, which has no settings")]
    let histories = std::env::var("SESSILE_HISTORIES").ok();
    let histories = histories.map_or(HISTORIES, |count| count.parse().expect("a number"));
    TestRunner::new(ProptestConfig::with_cases(histories)).run(&history(), check).unwrap();
}

/// A file with one row and `count` messages that have none yet.
fn behind(count: u8) -> SessionFile {
    let mut file = SessionFile::create(&session("s"), &Settings::default());
    say(&mut file, 0);
    file.commit().expect("memory");
    (1..=count).for_each(|id| say(&mut file, id));
    file
}

fn say(file: &mut SessionFile, id: u8) {
    carry_out(file, Command::AddMessage(message(id, "text")), 5).expect("memory");
}

fn rows(file: &SessionFile, table: &str) -> u64 {
    let sql = ["SELECT count(*) FROM ", table].concat();
    let count = |db: &rusqlite::Connection| db.query_row(&sql, [], |row| row.get(0));
    file.database.as_is().map_or(0, |db| count(db).expect("rows"))
}

#[test]
fn a_new_session_needs_no_database_before_somebody_reads() {
    let mut file = SessionFile::create(&session("s"), &Settings::default());
    for id in 0..100 {
        say(&mut file, id);
    }
    assert!(file.database.as_is().is_none());
    assert_eq!(file.head().message_count, 100);
    assert_eq!(file.events(0).expect("the log").len(), 100);
    assert_eq!(rows(&file, "message"), 100);
}

#[test]
fn every_read_sees_every_row_however_many_wait() {
    for count in [1, 2, 254, 255] {
        let last = format!("m{count}");
        let seq = u64::from(count) + 1;
        // What decides needs no rows.
        let file = behind(count);
        assert_eq!(file.message(&last).expect("readable").map(|m| m.seq), Some(seq));
        assert_eq!(rows(&file, "event"), 1, "of {count}");
        let reads: [&dyn Fn(&SessionFile); 4] = [
            &|file| assert_eq!(file.seq_of_message(&last).expect("readable"), Some(seq)),
            &|file| {
                let page = file.page(Direction::Before(u64::MAX), 1, false).expect("a page");
                assert_eq!(page.messages[0].seq, seq);
            },
            &|file| assert_eq!(file.events(seq - 1).expect("the log").len(), 1),
            &|file| assert!(file.queued_turns().expect("readable").is_empty()),
        ];
        for read in reads {
            let file = behind(count);
            read(&file);
            assert_eq!(rows(&file, "event"), seq, "of {count}");
            assert_eq!(rows(&file, "message"), seq, "of {count}");
        }
        // And so does whoever changes what was said a moment ago.
        let mut file = behind(count);
        let gone = Command::DeleteMessage { message_id: last.clone() };
        carry_out(&mut file, gone, 6).expect("memory");
        let found = file.message(&last).expect("readable").expect("its place stays");
        assert_eq!((found.status, found.content.as_str()), (Status::Deleted, ""));
    }
}

#[test]
fn not_more_than_a_few_hundred_rows_wait() {
    let mut file = behind(0);
    for count in 1..=255 {
        say(&mut file, count);
    }
    assert_eq!(rows(&file, "event"), 1);
    carry_out(&mut file, Command::AddMessage(NewMessage { id: None, ..message(0, "x") }), 5)
        .expect("memory");
    assert_eq!(rows(&file, "event"), 257);
}

#[test]
fn a_file_that_could_not_take_its_rows_never_looks_whole_again() {
    let file = behind(3);
    let db = file.database.as_is().expect("a database");
    db.execute_batch("ALTER TABLE message RENAME TO elsewhere").expect("renamed");
    assert!(file.db().is_err());
    db.execute_batch("ALTER TABLE elsewhere RENAME TO message").expect("renamed");
    assert!(file.db().is_err(), "half of it may be there");
    let mut file = file;
    assert!(file.commit().is_err());
}

#[test]
fn tables_that_nobody_needed_are_made_when_somebody_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = Folder::open(dir.path()).expect("a folder");
    let (key, settings) = (session("s"), Settings::default());
    let path = folder.file(&key);
    let is_whole = || {
        let found = verify::<SessionTables>(&path, false).expect("readable").findings;
        assert!(found.is_empty(), "{found:?}");
    };
    let mut file = SessionFile::create(&key, &settings);
    say(&mut file, 0);
    file.close(&folder).expect("a disk");
    let bytes = path.metadata().expect("a file").len();
    assert!(bytes <= 24 << 10, "{bytes} bytes for one message");
    is_whole();

    // Whoever looks finds every table, empty.
    let file = SessionFile::open(&key, &path, &settings).expect("whole");
    assert_eq!(file.events(0).expect("the log").len(), 1);
    assert!(file.queued_turns().expect("readable").is_empty());
    assert_eq!(file.next_timer_ms().expect("readable"), None);
    assert_eq!(rows(&file, "messages"), 1);
    for table in ["part", "turn", "idempotency", "timer", "item", "session_items"] {
        assert_eq!(rows(&file, table), 0, "{table}");
    }
    drop(file);

    // Each of these needs others, whatever was there before; a file made at once is the same.
    let items = Json::parse(r#"{"role":"user","content":"q"}"#).expect("JSON");
    let steps: [&dyn Fn(&mut SessionFile); 4] = [
        &|file| {
            carry_out(file, Command::AddMessage(message(4, "parts")), 5).expect("memory");
        },
        &|file| {
            carry_out(file, ask(message(100, "q")), 5).expect("memory");
        },
        &|file| {
            let append = ItemsCommand::Append(vec![items.clone()]);
            carry_out(file, Command::ChangeItems(append), 5).expect("memory");
        },
        &|file| {
            let kept =
                Idempotent { key: "k".to_owned(), request: [1; 16], status: 201, response: None };
            file.remember(1, &kept).expect("memory");
        },
    ];
    for step in steps {
        let made = session("made");
        let mut early = SessionFile::create(&made, &settings);
        say(&mut early, 0);
        early.db().expect("memory");
        early.commit().expect("memory");
        step(&mut early);
        early.commit().expect("memory");
        let early_rows = early.rows().expect("rows");

        let mut late = SessionFile::create(&made, &settings);
        say(&mut late, 0);
        late.close(&folder).expect("a disk");
        let made_path = folder.file(&made);
        let mut late = SessionFile::open(&made, &made_path, &settings).expect("whole");
        step(&mut late);
        late.commit().expect("a disk");
        assert_eq!(late.rows().expect("rows"), early_rows);
        late.close(&folder).expect("a disk");
        let found = verify::<SessionTables>(&made_path, false).expect("readable").findings;
        assert!(found.is_empty(), "{found:?}");
        SessionFile::open(&made, &made_path, &settings).expect("whole");
        std::fs::remove_file(&made_path).expect("removed");
    }
}
