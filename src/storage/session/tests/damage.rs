//! Damaged files: what is found, what is made anew, what is left alone.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::base::Key;
use crate::storage::seal;
use crate::storage::seal::Seal;

/// A session with all kinds of rows, closed; its folder and key.
fn closed() -> (tempfile::TempDir, Folder, Key) {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = Folder::open(dir.path()).expect("a folder");
    let key = session("s");
    let mut file = SessionFile::create(&key, &Settings::default());
    let fields = Object::default().with("type", &"text").with("content", &"");
    let item = Json::parse(r#"{"role":"user","content":"q"}"#).expect("JSON");
    let commands = [
        Command::AddMessage(message(1, "the first")),
        Command::AddMessage(message(2, "the second")),
        ask(message(3, "a question")),
        write(vec![Piece::Update { part: 0, fields }]),
        write(vec![Piece::Delta { part: 0, text: "an answer".to_owned() }]),
        end(TurnState::Completed),
        Command::DeleteMessage { message_id: "m2".to_owned() },
        Command::ChangeItems(ItemsCommand::Append(vec![item])),
    ];
    for (at_ms, command) in (1_000..).zip(commands) {
        assert!(!carry_out(&mut file, command, at_ms).expect("memory").is_empty());
    }
    let kept = Idempotent {
        key: "k".to_owned(),
        request: [7; 16],
        status: 201,
        response: Some("{}".to_owned()),
    };
    file.remember(1, &kept).expect("memory");
    file.close(&folder).expect("a disk");
    (dir, folder, key)
}

/// Runs `sql` on the file behind the program's back.
fn tamper(path: &Path, sql: &str) {
    Connection::open(path).and_then(|other| other.execute_batch(sql)).expect("a database");
}

/// What a wake makes of the file.
fn wake(key: &Key, folder: &Folder) -> Result<SessionFile, Error> {
    SessionFile::open(key, &folder.file(key), &Settings::default())
        .or_else(|damage| SessionFile::repair(key, folder, &Settings::default(), damage, 0))
}

#[test]
fn rows_that_follow_from_the_log_are_made_anew() {
    let statements = [
        "UPDATE message SET content = 'THE first' WHERE id = 'm1'",
        "UPDATE message SET seq = 100 WHERE id = 'm1'",
        "UPDATE part SET body = replace(body, 'an answer', 'no answer')",
        "UPDATE turn SET state = 'running'",
        "UPDATE timer SET fire_at_ms = 1",
        "UPDATE item SET body = replace(body, 'q', 'x')",
        "UPDATE meta SET title = 'another'",
        "UPDATE meta SET message_count = 2",
        "DELETE FROM message WHERE id = 'm3'",
        "DELETE FROM part",
        "DELETE FROM item",
        "DELETE FROM meta",
        "DROP INDEX item_by_id",
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(sql, 'branch = 0', 'branch = 1') WHERE name = 'messages'",
    ];
    for sql in statements {
        let (_dir, folder, key) = closed();
        let path = folder.file(&key);
        let was = dump(&SessionFile::open(&key, &path, &Settings::default()).expect("whole"));
        tamper(&path, sql);
        let found = SessionFile::open(&key, &path, &Settings::default()).map(|_| ());
        assert!(found.as_ref().is_err_and(Error::is_damage), "{sql}: {found:?}");
        let file = wake(&key, &folder).expect(sql);
        same(&dump(&file), &was, sql);
        assert!(file.answered("k").expect("readable").is_some(), "{sql}");
        file.close(&folder).expect("a disk");
        assert_eq!(
            verify::<SessionTables>(&path, false).expect("readable").findings.len(),
            0,
            "{sql}"
        );
    }
}

#[test]
fn what_the_log_does_not_tell_is_left_to_an_operator() {
    let statements = [
        ("UPDATE event SET body = replace(body, 'first', 'worst')", "row 1 of table `event`"),
        ("UPDATE event SET recorded_at_ms = 1 WHERE seq = 3", "row 3 of table `event`"),
        ("UPDATE event SET body = '{}' WHERE redacted", "row 2 of table `event`"),
        ("DELETE FROM event WHERE seq = 3", "row 3 of table `event`"),
        (
            "DELETE FROM event WHERE seq = (SELECT max(seq) FROM event)",
            "of table `event` is missing",
        ),
        ("UPDATE idempotency SET key = 'K'", "row K of table `idempotency`"),
        ("UPDATE idempotency SET response = '[]'", "row k of table `idempotency`"),
    ];
    for (sql, place) in statements {
        let (_dir, folder, key) = closed();
        let path = folder.file(&key);
        tamper(&path, sql);
        let bytes = fs::read(&path).expect("readable");
        let Err(error) = wake(&key, &folder) else { panic!("{sql}: it was opened") };
        let text = crate::storage::describe(&error);
        assert!(text.contains(place), "{sql}: {text}");
        assert!(text.contains("its file sessions/"), "{text}");
        assert!(fs::read(&path).expect("readable") == bytes, "{sql}: the file was touched");
    }
}

#[test]
fn a_row_that_changes_or_goes_while_the_file_is_open_is_not_served() {
    let (_dir, folder, key) = closed();
    let path = folder.file(&key);
    let file = SessionFile::open(&key, &path, &Settings::default()).expect("whole");
    tamper(&path, "DELETE FROM message WHERE id = 'm3'");
    for direction in [Direction::Before(u64::MAX), Direction::After(0), Direction::After(2)] {
        let page = file.page(direction, 10, false);
        assert!(matches!(page, Err(Error::RowMissing { table: "message", .. })), "{page:?}");
    }
    tamper(&path, "UPDATE event SET body = '{}' WHERE redacted; DELETE FROM event WHERE seq > 6");
    let log = file.events(2).map(|events| events.len());
    assert!(matches!(log, Err(Error::RowMissing { table: "event", .. })), "{log:?}");
    let log = file.events(1).map(|events| events.len());
    assert!(matches!(log, Err(Error::RowCorrupt { table: "event", .. })), "{log:?}");
    tamper(&path, "UPDATE idempotency SET status = 200");
    let answer = file.answered("k");
    assert!(matches!(answer, Err(Error::RowCorrupt { table: "idempotency", .. })), "{answer:?}");
}

#[test]
fn a_closed_file_is_sealed_and_every_bit_counts() {
    let (_dir, folder, key) = closed();
    let path = folder.file(&key);
    let look = || seal::look(&path).expect("readable");
    assert_eq!(look(), Seal::Fits);
    // Somebody else who only reads leaves it as it is.
    tamper(&path, "SELECT * FROM messages");
    assert_eq!(look(), Seal::Fits);
    let whole = fs::read(&path).expect("readable");
    for at in (0..whole.len()).step_by(397).chain([18, 68, 71, 72]) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&path, &flipped).expect("writable");
        assert_eq!(look(), Seal::Broken, "byte {at}");
    }
    // A broken seal is a reason to look, no damage by itself.
    let mut other = whole;
    other[68] ^= 1;
    fs::write(&path, &other).expect("writable");
    let file =
        SessionFile::open(&key, &path, &Settings::default()).expect("nothing is wrong with it");
    file.close(&folder).expect("a disk");
    assert_eq!(look(), Seal::Fits);
}

#[test]
fn a_file_that_was_made_anew_takes_its_place_whatever_lies_there() {
    let (_dir, folder, key) = closed();
    let path = folder.file(&key);
    let was = dump(&SessionFile::open(&key, &path, &Settings::default()).expect("whole"));
    // As if the process ended right before the last step: a damaged file and a log that is not the new file's.
    fs::copy(&path, folder.rebuilt(&key)).expect("writable");
    let other = Connection::open(&path).expect("a database");
    other.execute_batch("UPDATE message SET content = 'x'").expect("writable");
    folder.finish_rebuild(&key).expect("writable");
    drop(other);
    let file = SessionFile::open(&key, &path, &Settings::default()).expect("whole");
    same(&dump(&file), &was, "after the last step");
}

#[test]
fn files_that_are_no_databases_are_damaged_and_left_alone() {
    for bytes in [&b""[..], b"x", &[0; 8192]] {
        let (_dir, folder, key) = closed();
        let path = folder.file(&key);
        fs::write(&path, bytes).expect("writable");
        let opened = wake(&key, &folder).map(|_| ());
        assert!(matches!(opened, Err(Error::Damaged { .. })), "{opened:?}");
        let left = fs::read(&path).expect("readable");
        assert!(left == bytes, "{} bytes became {}: {:?}", bytes.len(), left.len(), opened);
    }
    let (_dir, folder, key) = closed();
    let path = folder.file(&key);
    let whole = fs::read(&path).expect("readable");
    fs::write(&path, &whole[..whole.len() / 2]).expect("writable");
    assert!(wake(&key, &folder).is_err(), "half a file");
    fs::remove_file(&path).expect("writable");
    fs::create_dir(&path).expect("writable");
    assert!(wake(&key, &folder).is_err(), "a folder in its place");
    folder.remove_file(&key).expect("it can be deleted");
}

#[test]
fn a_file_of_version_0_1_is_given_checksums_and_reads_as_it_did() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = Folder::open(dir.path()).expect("a folder");
    let key = session("golden");
    let path = folder.file(&key);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(&path, include_bytes!("../../../../tests/fixtures/session/0.1.db")).expect("a disk");
    let answers: serde_json::Value =
        serde_json::from_str(include_str!("../../../../tests/fixtures/session/0.1.json"))
            .expect("JSON");
    let check = |file: &mut SessionFile| {
        let page = file.latest(200).expect("readable");
        assert_eq!(json(&page.page.messages), answers["/messages?limit=200"]["items"]);
        let messages = file.branch(42, 0, 10).expect("readable").messages;
        assert_eq!(json(&messages), answers["/branches/42"]["items"]);
        let items: Vec<Json> =
            file.items(100).expect("readable").into_iter().map(|item| item.body).collect();
        assert_eq!(json(&items), answers["/items"]["items"]);
        let frames: Vec<serde_json::Value> = file
            .events(0)
            .expect("readable")
            .iter()
            .map(|event| serde_json::from_str(&event.frame).expect("JSON"))
            .collect();
        assert_eq!(json(&frames), answers["/events?after=0"]["events"]);
        assert!(file.answered("k1").expect("readable").is_some());
        assert_eq!(file.head().title, "Golden");
    };
    let mut file = SessionFile::open(&key, &path, &Settings::default()).expect("it is migrated");
    check(&mut file);
    file.close(&folder).expect("a disk");
    assert_eq!(verify::<SessionTables>(&path, false).expect("readable").findings.len(), 0);
    assert_eq!(seal::look(&path).expect("readable"), Seal::Fits);
    // What 0.1 wrote into the log says everything that its rows say.
    SessionFile::rebuild(&key, &folder, &Settings::default(), 0).expect("its log is whole");
    check(&mut SessionFile::open(&key, &path, &Settings::default()).expect("whole"));
}

/// Compares rows and shows the first that differ.
#[track_caller]
fn same(left: &[String], right: &[String], what: &str) {
    for (left, right) in left.iter().zip(right) {
        assert_eq!(left, right, "{what}");
    }
    assert_eq!(left.len(), right.len(), "{what}");
}

fn json(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("JSON")
}
