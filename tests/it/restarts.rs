//! What a start has to do: after a clean stop nothing, after a crash only what was left, once, and behind the requests.

use std::path::Path;
use std::path::PathBuf;

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::contents;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::fault;
use crate::support::fault::Injector;
use crate::support::fault::files::session_files;
use crate::support::server::Options;
use crate::support::socket::Socket;
use futures_util::StreamExt;
use futures_util::stream;
use rusqlite::Connection;
use serde_json::Value;
use serde_json::json;

/// Sessions of these tests: many more than are woken at once.
const SESSIONS: usize = 300;

/// Sessions `s0` to `s299`: each tenth was renamed since, each thirtieth deleted at last.
async fn touch_all(client: &Client) {
    let each = stream::iter(0..SESSIONS);
    each.for_each_concurrent(32, |number| async move {
        client.say(&format!("s{number}"), "x").await;
    })
    .await;
    for number in (0..SESSIONS).step_by(10) {
        let id = format!("s{number}");
        client.patch(&session(&id), &json!({ "title": format!("t{number}") })).await.expect(200);
        if number % 30 == 0 {
            let deleted = client.delete(&session(&id)).await;
            assert_eq!(deleted.status, 204);
        }
    }
}

/// The whole list, page by page.
async fn list(client: &Client, limit: usize) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/v1/sessions?limit={limit}{cursor}")).await.expect(200);
        found.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

/// How many sessions were looked at because of the start.
async fn looked_at(client: &Client, how: &str) -> f64 {
    let name = "sessile_caught_up_sessions_total";
    client.metric(name, &[&format!("how=\"{how}\"")]).await.unwrap_or(0.0)
}

/// How many sessions woke.
async fn woken(client: &Client) -> f64 {
    let labels = ["cause=\"request\""];
    client.metric("sessile_activations_total", &labels).await.unwrap_or(0.0)
}

/// Waits until a start has done what it had to do, and the journal keeps nothing of before.
async fn caught_up(server: &Server) {
    eventually(SOON, "all is caught up", async || {
        server.log().contains("are up to date after").then_some(())
    })
    .await;
    eventually(SOON, "the journal holds nothing", async || {
        headed(&server.data).iter().all(|segment| !holds_records(segment)).then_some(())
    })
    .await;
}

/// The segments of the journal that have a header.
fn headed(data: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(data.join("journal")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files.filter(|path| std::fs::read(path).is_ok_and(|b| b.starts_with(b"SESSILEJ"))).collect()
}

fn holds_records(segment: &PathBuf) -> bool {
    // One may go while it is looked at.
    let bytes = std::fs::read(segment).unwrap_or_default();
    bytes.get(64..).is_some_and(|rest| rest.iter().any(|byte| *byte != 0))
}

#[tokio::test]
async fn after_a_crash_the_list_asks_those_that_it_shows_and_the_rest_is_done_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Options::default().start_in(dir.path());
    let client = Client::new(&server);
    touch_all(&client).await;
    let before = list(&client, 200).await;
    assert_eq!(before.len(), SESSIONS - SESSIONS.div_ceil(30));
    server.kill();

    let mut server = Options::default().start_in(dir.path());
    let client = Client::new(&server);
    let page = client.get("/v1/sessions?limit=5").await.expect(200);
    assert_eq!(page["items"].as_array().unwrap()[..], before[..5], "the newest as they were");
    let asked = looked_at(&client, "list").await;
    // Those that were deleted stand on the page until they are asked; each time the list asks for one more than it shows.
    assert!(asked <= 30.0, "{asked} of {SESSIONS} were asked for a page of 5");
    assert_eq!(client.history("s7").await.len(), 1, "one that was not asked answers");
    assert_eq!(list(&client, 7).await, before, "all of it, in small pages, meanwhile or after");
    caught_up(&server).await;
    assert_eq!(list(&client, 200).await, before);
    server.kill();

    let server = Options::default().start_in(dir.path());
    let client = Client::new(&server);
    assert_eq!(list(&client, 200).await, before);
    for how in ["file", "wake", "list", "rebuild"] {
        assert_eq!(looked_at(&client, how).await, 0.0, "{how}: it was done once");
    }
    assert_eq!(woken(&client).await, 0.0, "nobody wakes for a list");
}

#[tokio::test]
async fn after_a_crash_a_list_shows_no_deleted_session_and_all_that_wait_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Options::default().start_in(dir.path());
    let client = Client::new(&server);
    for id in ["a", "b", "c", "d"] {
        client.say(id, "x").await;
    }
    // The catalogue has all of them; what follows is in the journal alone.
    client.get("/v1/sessions").await.expect(200);
    client.patch(&session("b"), &json!({ "title": "renamed" })).await.expect(200);
    client.delete(&session("c")).await;
    client.say("a", "y").await;
    server.kill();
    let server = Options::default().start_in(dir.path());
    let client = Client::new(&server);
    let listed = list(&client, 1).await;
    let ids: Vec<&str> = listed.iter().map(|session| session["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "b", "d"], "by their last activity");
    assert_eq!(listed[1]["title"], "renamed");
    assert_eq!(listed[0]["lastSeq"], 2);
}

#[tokio::test]
async fn after_a_clean_stop_nothing_is_left_to_do() {
    // In memory: the bound of a stop is about the disk.
    let dir = fault::scratch();
    let mut server = Options::default().start_in(dir.path());
    let mut before = Vec::new();
    for life in 0..2 {
        let client = Client::new(&server);
        if life == 0 {
            touch_all(&client).await;
        }
        // Awake, in memory, with a transaction that is open.
        client.say("last", "words").await;
        before = list(&client, 200).await;
        let (mut socket, ready) = Socket::live(&server, "last").await;
        assert_eq!(ready["epoch"], life + 1, "lives are counted on");
        server.signal("TERM");
        socket.rest().await;
        assert_eq!(server.wait(), Some(0));
        let segments: Vec<u64> = std::fs::read_dir(dir.path().join("journal"))
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(segments, [64], "a header is left of the journal");
        let waiting = session_files(dir.path()).filter(|f| f.with_extension("db-wal").is_file());
        assert_eq!(waiting.count(), 0, "every file is whole by itself");
        server = Options::default().start_in(dir.path());
    }
    let client = Client::new(&server);
    assert_eq!(list(&client, 200).await, before);
    for how in ["file", "wake", "list", "rebuild"] {
        assert_eq!(looked_at(&client, how).await, 0.0, "{how}");
    }
    assert_eq!(woken(&client).await, 0.0, "nobody woke");
    assert_eq!(contents(&client.history("last").await), ["words", "words"]);
}

#[tokio::test]
async fn a_file_that_is_with_another_thread_when_the_stop_comes_is_whole_by_itself_too() {
    let dir = fault::scratch();
    let data = dir.path().join("data");
    let injector = Injector::new(&dir.path().join("control"));
    // Each commit is moved into its file at once, and that takes a while.
    let options = Options::default()
        .set("SESSILE__STORAGE__FILE_DELAY_MS", 1)
        .set("SESSILE__STORAGE__COMMIT_DELAY_MS", 1)
        .set("SESSILE__STORAGE__CHECKPOINT_BYTES", 1);
    let mut server = injector.on(options, &data).start_in(&data);
    let client = Client::new(&server);
    client.say("new", "words").await;
    let has_file = async || session_files(&data).next();
    let file = eventually(SOON, "it has a file", has_file).await;
    client.say("new", "more").await;
    injector.slow_syncs(300_000);
    let log = file.with_extension("db-wal");
    let has_log = async || log.metadata().is_ok_and(|log| log.len() > 0).then_some(());
    eventually(SOON, "it has a log", has_log).await;
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(!log.is_file(), "a log was left beside its file: {}", server.log());
}

#[tokio::test]
async fn a_list_that_was_lost_is_made_anew_and_goes_on_where_it_was_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Options::default().start_in(dir.path());
    let client = Client::new(&server);
    touch_all(&client).await;
    let before = list(&client, 200).await;
    let stop = |server: &mut Server| {
        server.signal("TERM");
        assert_eq!(server.wait(), Some(0));
    };
    stop(&mut server);
    let catalogue = dir.path().join("node.db");
    std::fs::remove_file(&catalogue).unwrap();
    let mut server = Options::default().start_in(dir.path());
    let client = Client::new(&server);
    assert_eq!(list(&client, 200).await, before, "made anew");
    assert_eq!(looked_at(&client, "rebuild").await, before.len() as f64);
    stop(&mut server);

    // As a crash in the middle leaves it.
    let half = Connection::open(&catalogue).unwrap();
    half.execute_batch("DELETE FROM actor WHERE name LIKE '%5%'; UPDATE state SET complete = 0")
        .unwrap();
    drop(half);
    let mut server = Options::default().start_in(dir.path());
    assert_eq!(list(&Client::new(&server), 200).await, before, "completed");
    stop(&mut server);
    let server = Options::default().start_in(dir.path());
    let client = Client::new(&server);
    assert_eq!(list(&client, 200).await, before);
    assert_eq!(looked_at(&client, "rebuild").await, 0.0, "once");
}

#[tokio::test]
async fn a_file_that_has_less_than_was_stored_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Options::default().start_in(dir.path());
    let client = Client::new(&server);
    client.say("lost", "x").await;
    client.say("old", "first").await;
    client.say("well", "x").await;
    let stop = |server: &mut Server| {
        server.signal("TERM");
        assert_eq!(server.wait(), Some(0));
    };
    let file_of = |content: &str| {
        let holds = |path: &PathBuf| {
            let file = Connection::open(path).unwrap();
            let sql = "SELECT count(*) FROM meta WHERE name = ?1";
            file.query_row(sql, [content], |row| row.get::<_, i64>(0)).unwrap() == 1
        };
        session_files(dir.path()).find(holds).unwrap()
    };
    stop(&mut server);
    let (lost, old) = (file_of("lost"), file_of("old"));
    let copy = std::fs::read(&old).unwrap();
    let mut server = Options::default().start_in(dir.path());
    Client::new(&server).say("old", "second").await;
    stop(&mut server);
    std::fs::remove_file(&lost).unwrap();
    std::fs::write(&old, &copy).unwrap();

    let mut server = Options::default().start_in(dir.path());
    let client = Client::new(&server);
    for id in ["lost", "old"] {
        let body = json!({ "role": "user", "content": "y" });
        let read = client.get(&format!("{}/messages", session(id))).await;
        let detail = read.problem(503, "quarantined")["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("node.db"), "what to do is said: {detail}");
        let write = client.post(&format!("{}/messages", session(id)), &body).await;
        write.problem(503, "quarantined");
    }
    assert_eq!(client.history("well").await.len(), 1);
    stop(&mut server);

    // The operator says that the files are right.
    std::fs::remove_file(dir.path().join("node.db")).unwrap();
    let server = Options::default().start_in(dir.path());
    let client = Client::new(&server);
    assert_eq!(contents(&client.history("old").await), ["first"]);
    client.get(&session("lost")).await.problem(404, "session_not_found");
    assert_eq!(list(&client, 10).await.len(), 2);
}
