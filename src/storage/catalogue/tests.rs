//! A list that an earlier version wrote.

use rusqlite::params;

use super::*;
use crate::base::ids::tests::session;
use crate::storage::sum;

/// A list as version 4 of its schema has it, with these sessions; the last one is damaged.
fn old_list(path: &Path, names: &[&str]) {
    let mut db = Connection::open(path).expect("a file");
    sum::add_function(&db).expect("a function");
    Migrations::from_slice(&STEPS[..4]).to_latest(&mut db).expect("the steps of then");
    db.execute("UPDATE state SET complete = 1", []).expect("a row");
    for name in names {
        let hash = session(name).hash();
        let metadata = r#"{"n":2e5}"#;
        let insert = "INSERT INTO session (hash, workspace, name, title, metadata, message_count, last_seq, created_at_ms,
                                           updated_at_ms, next_timer_ms, item_count, unfinished)
                      VALUES (?1, 'default', ?2, 'a title', ?3, 3, 7, 5, 6, 9, 0, 1)";
        db.execute(insert, params![hash.0, name, metadata]).expect("a row");
    }
    let sums = "UPDATE session SET sum = row_sum('session', hash, workspace, name, title, project_id, metadata, message_count,
                       last_seq, active_turn, created_at_ms, updated_at_ms, next_timer_ms, item_count, unfinished)";
    db.execute(sums, []).expect("sums");
    let damage = "UPDATE session SET last_seq = 1000 WHERE name = ?1";
    db.execute(damage, [names[names.len() - 1]]).expect("a row");
}

#[test]
fn an_older_list_goes_on_without_rows_that_are_damaged() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("node.db");
    old_list(&path, &["a", "b", "damaged"]);
    let reached = Catalogue::reached(&path).expect("readable before it is brought up to date");
    assert_eq!(reached, ["a", "b"].map(|name| (session(name), 7)));

    let catalogue = Catalogue::open(&path, false).expect("a list");
    assert!(!catalogue.is_complete().expect("readable"), "the damaged one must be found again");
    let rows = catalogue.at_once(|moment| moment.list(ActorKind::Session, "default", None, 10));
    let mut rows = rows.expect("readable");
    rows.sort_by_key(|card| card.key.id().to_owned());
    let names: Vec<_> = rows.iter().map(|card| card.key.id().to_owned()).collect();
    assert_eq!(names, ["a", "b"]);
    let summary: crate::domain::session::Summary =
        serde_json::from_str(&rows[0].summary).expect("of a session");
    assert_eq!((summary.title.as_str(), summary.message_count), ("a title", 3));
    assert_eq!(summary.metadata.as_str(), r#"{"n":2e5}"#);
    assert_eq!((rows[0].last_seq, rows[0].next_timer_ms, rows[0].unfinished), (7, Some(9), true));
    assert_eq!(Catalogue::reached(&path).expect("readable").len(), 2);
}
