//! A damaged record of the journal touches the session that it belongs to, and nobody else.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::contents;
use crate::support::client::messages;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::server::Options;
use serde_json::json;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

fn options() -> Options {
    Options::default().set("SESSILE__ACTOR__SLEEP_AFTER_MS", 100)
}

/// The segments that hold `text`, and where.
fn places(data: &Path, text: &str) -> Vec<(PathBuf, usize)> {
    let entries = std::fs::read_dir(data.join("journal")).unwrap();
    let place = |path: PathBuf| {
        // It may be retired at any moment.
        let bytes = std::fs::read(&path).ok()?;
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes())?;
        Some((path, at))
    };
    entries.filter_map(|entry| place(entry.unwrap().path())).collect()
}

/// What `sessile verify` says of the folder.
fn verify(data: &Path) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sessile"));
    let output = command.arg("verify").arg("--data").arg(data).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// The file of the only session that has one.
fn only_file(data: &Path) -> PathBuf {
    let folders = std::fs::read_dir(data.join("sessions")).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    let mut files = files.map(|file| file.unwrap().path());
    files.find(|path| path.extension().is_some_and(|extension| extension == "db")).unwrap()
}

/// The parts of a record: any of them may be damaged.
#[derive(Clone, Copy)]
enum Part {
    Frame,
    Head,
    Body,
}

/// Flips a bit of the record of `session` that holds `text`.
fn damage(data: &Path, session: &str, text: &str, part: Part) {
    let (path, body) = places(data, text).pop().expect("the journal has it");
    let mut bytes = std::fs::read(&path).unwrap();
    // A payload begins with version, kind of actor, and the two names, each behind its length.
    let begin = format!(
        "\u{2}\u{1}\u{7}default{}{session}",
        char::from(u8::try_from(session.len()).unwrap())
    );
    let head = bytes[..body].windows(begin.len()).rposition(|window| window == begin.as_bytes());
    let at = match part {
        // The hash in the frame before it.
        Part::Frame => head.unwrap() - 30,
        Part::Head => head.unwrap() + begin.len() - 1,
        Part::Body => body,
    };
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// A data folder in which the second of three messages of `broken` is damaged, and no file holds it; nor does one hold the
/// only message of `lone`, which is damaged where it says whose it is.
async fn broken(data: &Path, part: Part) {
    // No file is written before the end comes.
    let slow = Options::default()
        .set("SESSILE__ACTOR__SLEEP_AFTER_MS", 600_000)
        .set("SESSILE__STORAGE__FILE_DELAY_MS", 600_000);
    let mut server = slow.start_in(data);
    let client = Client::new(&server);
    client.say("lone", "lone-first").await;
    for text in ["first", "second", "third"] {
        client.say("broken", &format!("broken-{text}")).await;
        client.say("well", &format!("well-{text}")).await;
    }
    server.kill();
    damage(data, "broken", "broken-second", part);
    damage(data, "lone", "lone-first", Part::Head);
}

/// Fails unless `broken` says where it is damaged while `well` works.
async fn check(server: &Server, well: usize) {
    let client = Client::new(server);
    let body = json!({ "role": "user", "content": "x" });
    for reply in [
        client.get(&session("broken")).await,
        client.get(&messages("broken")).await,
        client.post(&messages("broken"), &body).await,
    ] {
        let problem = reply.problem(503, "quarantined");
        let detail = problem["detail"].as_str().unwrap();
        for word in ["event 2 ", "journal segment 1", "byte "] {
            assert!(detail.contains(word), "{word}: {detail}");
        }
    }
    client.get(&session("lone")).await.problem(503, "quarantined");
    assert_eq!(client.history("well").await.len(), well);
    assert!(server.log().contains("broken"), "the log names the session: {}", server.log());
}

#[tokio::test]
async fn a_damaged_record_quarantines_its_session_and_is_remembered_without_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    broken(&data, Part::Head).await;
    let (code, text) = verify(&data);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("journal/000000000001.seg: of default/broken, event"), "{text}");
    let mut server = options().start_in(&data);
    check(&server, 3).await;
    Client::new(&server).say("well", "x").await;
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));

    let (code, text) = verify(&data);
    assert_eq!(
        (code, text.contains(".records: default/broken is quarantined")),
        (1, true),
        "{text}"
    );

    // Its records keep no segment.
    let mut server = options().start_in(&data);
    check(&server, 4).await;
    eventually(3 * SOON, "the damaged segment is retired", async || {
        places(&data, "broken-first").is_empty().then_some(())
    })
    .await;
    server.kill();
    let server = options().start_in(&data);
    check(&server, 4).await;

    // And who does not need it can delete it.
    let client = Client::new(&server);
    for id in ["broken", "lone"] {
        client.delete(&session(id)).await.text(204);
        client.get(&session(id)).await.problem(410, "actor.deleted");
    }
    assert_eq!(std::fs::read_dir(data.join("quarantine")).unwrap().count(), 0);
    assert_eq!(client.get("/v1/sessions").await.expect(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_operator_may_accept_the_damage() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    broken(&data, Part::Frame).await;
    let mut server = options().start_in(&data);
    check(&server, 3).await;
    server.kill();
    let mut server = options().arg("--accept-journal-damage").start_in(&data);
    let client = Client::new(&server);
    assert_eq!(client.history("broken").await.len(), 1, "what is whole before the damage");
    assert!(server.log().contains("is accepted"), "{}", server.log());
    client.say("broken", "again").await;
    server.kill();
    let server = options().start_in(&data);
    let history = Client::new(&server).history("broken").await;
    let texts: Vec<_> =
        history.iter().map(|message| message["content"].as_str().unwrap()).collect();
    assert_eq!(texts, ["broken-first", "again"], "also without the flag");
    assert_eq!(Client::new(&server).history("well").await.len(), 3);
}

#[tokio::test]
async fn a_session_whose_file_has_the_events_needs_no_record_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut server = options().start_in(&data);
    let client = Client::new(&server);
    for text in ["first", "second", "third"] {
        client.say("s", &format!("s-{text}")).await;
    }
    client.all_asleep().await;
    let before = client.history("s").await;
    server.kill();
    damage(&data, "s", "s-second", Part::Body);
    let server = options().start_in(&data);
    let client = Client::new(&server);
    assert_eq!(client.history("s").await, before);
    client.say("s", "s-fourth").await;
    assert_eq!(std::fs::read_dir(data.join("quarantine")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_for_now_keeps_no_journal_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut server = options().start_in(&data);
    let client = Client::new(&server);
    client.say("shut", "shut-first").await;
    client.all_asleep().await;
    client.say("shut", "shut-second").await;
    server.kill();
    let file = only_file(&data);
    let away = file.with_extension("away");
    std::fs::rename(&file, &away).unwrap();
    std::fs::create_dir(&file).unwrap();

    let mut server = options().start_in(&data);
    let client = Client::new(&server);
    client.get(&messages("shut")).await.any_problem(&[503]);
    client.say("well", "x").await;
    eventually(3 * SOON, "the segment goes on without the session", async || {
        places(&data, "shut-second").is_empty().then_some(())
    })
    .await;
    server.kill();

    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&away, &file).unwrap();
    let mut server = options().start_in(&data);
    let client = Client::new(&server);
    assert_eq!(contents(&client.history("shut").await), ["shut-first", "shut-second"]);
    client.say("shut", "shut-third").await;
    server.kill();
    let server = options().start_in(&data);
    let history = Client::new(&server).history("shut").await;
    assert_eq!(contents(&history), ["shut-first", "shut-second", "shut-third"]);
    assert_eq!(std::fs::read_dir(data.join("quarantine")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_damaged_row_of_the_list_is_made_anew_while_the_server_runs() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut server = options().start_in(&data);
    let client = Client::new(&server);
    for name in ["a", "b", "c"] {
        client.say(name, "x").await;
        client.patch(&session(name), &json!({"title": format!("Title {name}")})).await.expect(200);
    }
    client.all_asleep().await;
    let before = client.get("/v1/sessions").await.expect(200);
    let list = rusqlite::Connection::open(data.join("node.db")).unwrap();
    list.busy_timeout(SOON).unwrap();
    let changed =
        list.execute("UPDATE actor SET summary = '{}', last_seq = 1000 WHERE name = 'b'", ());
    assert_eq!(changed.unwrap(), 1);
    drop(list);
    let after = eventually(3 * SOON, "the list is whole again", async || {
        let reply = client.get("/v1/sessions").await;
        if reply.status != 200 {
            reply.any_problem(&[503]);
            return None;
        }
        Some(reply.json())
    })
    .await;
    assert_eq!(after, before);
    assert!(server.log().contains("is damaged and made anew"), "{}", server.log());
    client.say("b", "y").await;

    // And where what the list says of itself is gone.
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let list = rusqlite::Connection::open(data.join("node.db")).unwrap();
    assert_eq!(list.execute("DELETE FROM state", ()).unwrap(), 1);
    drop(list);
    let server = options().start_in(&data);
    let items = Client::new(&server).get("/v1/sessions").await.expect(200);
    assert_eq!(items["items"].as_array().unwrap().len(), 3);
}
