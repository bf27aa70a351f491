//! `sessile verify` and `sessile path`: what an operator is told, and what a script.

use crate::support::client::Client;
use crate::support::client::messages;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::server::Options;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// Runs `sessile` with `args` on `data`; exit code and output.
fn sessile(verb: &str, data: &Path, args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sessile"))
        .arg(verb)
        .arg("--data")
        .arg(data)
        .args(args)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn path_of(data: &Path, id: &str) -> PathBuf {
    let (code, text) = sessile("path", data, &[id]);
    assert_eq!(code, 0, "{text}");
    PathBuf::from(text.trim())
}

/// Flips a bit of the first place in the file that holds `text`.
fn break_at(path: &Path, text: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes());
    bytes[at.expect("the text is there")] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_check_names_what_is_damaged_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a data % folder");
    std::fs::create_dir(&data).unwrap();
    let options = || {
        Options::default()
            .set("SESSILE__ACTOR__SLEEP_AFTER_MS", 100)
            .set("SESSILE__STORAGE__FILE_DELAY_MS", 50)
    };
    let mut server = options().start_in(&data);
    let client = Client::new(&server);
    // Names that mean something to a shell, a path or a command line.
    let names = ["plain", "-x", "--data", "a b/../%", "'; rm -rf /"];
    for name in names {
        client.say(name, &format!("said in {name}")).await;
        client.say(name, "more").await;
    }
    client.all_asleep().await;
    // Beside the server, while nothing is in use.
    let (code, text) = sessile("verify", &data, &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("a server uses the folder"), "{text}");
    assert!(text.ends_with(": nothing is damaged\n"), "{text}");
    // And while a session is.
    client.say("plain", "again").await;
    assert_eq!(sessile("verify", &data, &[]).0, 0);
    client.all_asleep().await;
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let (code, text) = sessile("verify", &data, &[]);
    assert_eq!(code, 0, "{text}");
    for name in names {
        let (code, text) = sessile("verify", &data, &["--", name]);
        assert_eq!((code, text.contains("checked 1 files")), (0, true), "{name}: {text}");
    }

    // What follows from the log, and what does not.
    let (row, log) = (path_of(&data, "plain"), path_of(&data, "a b/../%"));
    break_at(&row, "usermorecomplete");
    break_at(&log, "{\"type\":\"message\",\"seq\":2");
    let before = [std::fs::read(&row).unwrap(), std::fs::read(&log).unwrap()];
    let (code, text) = sessile("verify", &data, &[]);
    assert_eq!(code, 1, "{text}");
    for word in [
        "default/plain",
        "of table `message`",
        "it is made anew from it",
        "default/a b/../%",
        "of table `event`",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(text.contains("2 damaged"), "{text}");
    assert_eq!([std::fs::read(&row).unwrap(), std::fs::read(&log).unwrap()], before);
    let (code, _) = sessile("verify", &data, &[row.to_str().unwrap()]);
    assert_eq!(code, 1, "a session file by its path");

    // As it said.
    let mut server = options().start_in(&data);
    let client = Client::new(&server);
    assert_eq!(client.history("plain").await.len(), 3);
    let problem = client.get(&messages("a b/../%")).await.problem(503, "quarantined");
    assert!(problem["detail"].as_str().unwrap().contains("sessions/"), "{problem}");
    client.delete(&session("a b/../%")).await.text(204);
    client.get(&session("a b/../%")).await.problem(410, "actor.deleted");
    eventually(SOON, "the list forgets it", async || {
        let list = client.get("/v1/sessions").await.expect(200);
        (list["items"].as_array().unwrap().len() == names.len() - 1).then_some(())
    })
    .await;
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    assert_eq!(sessile("verify", &data, &[]).0, 0);
}

#[test]
fn what_cannot_be_checked_is_not_called_whole() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    let (code, text) = sessile("verify", &nowhere, &[]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("nowhere") && !nowhere.is_dir(), "{text}");
    let (code, text) = sessile("path", dir.path(), &["nobody"]);
    assert_eq!((code, text.contains("`nobody`")), (1, true), "{text}");
    let (code, text) = sessile("verify", dir.path(), &["nobody"]);
    assert_eq!(code, 2, "{text}");
}

/// Takes every session file, or only that of session `id`, out of the folder.
fn lose(data: &Path, id: Option<&str>) {
    match id {
        Some(id) => std::fs::remove_file(path_of(data, id)).unwrap(),
        None => std::fs::remove_dir_all(data.join("sessions")).unwrap(),
    }
}

#[tokio::test]
async fn what_is_gone_is_named_and_what_is_none_of_ours_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let mut server = Options::default().start_in(data);
    let client = Client::new(&server);
    for id in ["a", "b", "c", "deleted"] {
        client.say(id, "stored").await;
    }
    client.delete(&session("deleted")).await.text(204);
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));

    std::fs::write(data.join("sessions/.DS_Store"), "x").unwrap();
    std::fs::create_dir(data.join("sessions/other")).unwrap();
    let (code, text) = sessile("verify", data, &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("sessions/.DS_Store: no file of the server"), "{text}");

    lose(data, Some("b"));
    for args in [&[][..], &["b"]] {
        let (code, text) = sessile("verify", data, args);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("default/b") && text.contains("has no file"), "{text}");
        assert!(text.contains("1 damaged") && !text.contains("default/a"), "{text}");
    }
    assert_eq!(sessile("verify", data, &["a"]).0, 0);
    lose(data, None);
    let (code, text) = sessile("verify", data, &[]);
    assert_eq!(code, 1, "{text}");
    for id in ["default/a", "default/b", "default/c"] {
        assert!(text.contains(id), "{id}: {text}");
    }
    assert!(text.contains("3 damaged") && !text.contains("default/deleted"), "{text}");
}

#[tokio::test]
async fn a_journal_that_was_taken_away_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let options = || Options::default().set("SESSILE__ACTOR__SLEEP_AFTER_MS", 100);
    let mut server = options().start_in(data);
    let client = Client::new(&server);
    client.say("in its file", "stored").await;
    client.all_asleep().await;
    client.say("in the journal", "stored").await;
    server.kill();
    let (code, text) = sessile("verify", data, &[]);
    assert_eq!(code, 0, "after a crash nothing is missing: {text}");
    let (code, text) = sessile("verify", data, &["in the journal"]);
    assert_eq!(code, 0, "the journal has it: {text}");
    // What cannot be read is not called empty, and nothing is missed for that.
    let (journal, away) = (data.join("journal"), data.join("away"));
    std::fs::rename(&journal, &away).unwrap();
    std::fs::write(&journal, "").unwrap();
    for args in [&[][..], &["in the journal"]] {
        let (code, text) = sessile("verify", data, args);
        assert_eq!(code, 2, "{text}");
        assert!(!text.contains("has no file") && !text.contains("it is empty"), "{text}");
    }
    std::fs::remove_file(&journal).unwrap();
    std::fs::remove_dir_all(&away).unwrap();
    let (code, text) = sessile("verify", data, &[]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("journal: it is empty"), "{text}");
    let mut server = options().start_in(data);
    let client = Client::new(&server);
    assert_eq!(client.history("in its file").await.len(), 1);
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(server.log().contains("the journal is empty"), "{}", server.log());
}

#[tokio::test]
async fn a_journal_that_goes_on_where_no_file_is_helps_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let mut server = Options::default().start_in(data);
    for id in ["a", "b"] {
        Client::new(&server).say(id, "in the file").await;
    }
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let mut server = Options::default().start_in(data);
    for id in ["a", "b"] {
        Client::new(&server).say(id, "in the journal").await;
    }
    server.kill();
    assert_eq!(sessile("verify", data, &[]).0, 0, "the journal has the rest");
    lose(data, Some("a"));
    for args in [&[][..], &["a"]] {
        let (code, text) = sessile("verify", data, args);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("default/a") && !text.contains("default/b"), "{text}");
    }
    assert_eq!(sessile("verify", data, &["b"]).0, 0);
}
