//! Deleted means gone: from every answer, from the event log, and from every file of the data folder.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::messages;
use crate::support::client::seq;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::server::Options;
use crate::support::socket::Socket;
use serde_json::Value;
use serde_json::json;
use std::path::Path;

/// A text that occurs nowhere by chance.
const CANARY: &str = "canary-7f3a1c-redact-me";

fn server() -> (Server, Client) {
    let server = Options::default().set("SESSILE__ACTOR__SLEEP_AFTER_MS", 200).start();
    let client = Client::new(&server);
    (server, client)
}

/// A message that holds the canary wherever a message can hold text.
fn with_canary() -> Value {
    json!({
        "role": "user",
        "content": format!("before {CANARY} after"),
        "parts": [{ "type": "text", "content": CANARY }, { "type": "x", "other": [CANARY] }],
        "metadata": { "note": CANARY },
    })
}

/// Stores it, with a key, so that its answer is stored for retries too.
async fn store_canary(client: &Client, id: &str) -> Value {
    client.post(&messages(id), &with_canary()).key("canary").await.expect(201)
}

#[tokio::test]
async fn a_deleted_message_keeps_its_place_and_loses_its_content() {
    let (server, client) = server();
    client.say("s", "one").await;
    let stored = store_canary(&client, "s").await;
    client.say("s", "three").await;
    let (mut socket, _) = Socket::live(&server, "s").await;
    let path = format!("{}/{}", messages("s"), stored["id"].as_str().unwrap());
    let deleted = client.delete(&path).await;
    assert!([200, 204].contains(&deleted.status), "{deleted:?}");

    let frame = socket.frame().await;
    assert_eq!(frame["type"], "message-deleted", "{frame}");
    assert_eq!(frame["messageId"], stored["id"]);
    let read = client.get(&path).await.expect(200);
    assert_eq!((&read["id"], &read["seq"]), (&stored["id"], &stored["seq"]));
    assert_eq!((&read["status"], &read["content"]), (&json!("deleted"), &json!("")));
    assert_eq!(read["parts"], json!([]));
    let listed = client.history("s").await;
    let seqs: Vec<u64> = listed.iter().map(seq).collect();
    assert_eq!(seqs, [1, 2, 3], "still listed, in its place");
    assert_eq!(listed[1], read);

    let log = client.log("s", 0).await;
    assert_eq!(log.len(), 4, "the original event keeps its seq");
    for answer in [
        client.get(&messages("s")).await.body,
        client.get("/chat/s/messages").await.body,
        client.get(&format!("{}/events?after=0", session("s"))).await.body,
        json!(log).to_string(),
    ] {
        assert!(!answer.contains(CANARY), "{answer}");
    }
}

#[tokio::test]
async fn a_deleted_message_takes_no_parts_and_is_deleted_once() {
    let (_server, client) = server();
    let stored = store_canary(&client, "s").await;
    let path = format!("{}/{}", messages("s"), stored["id"].as_str().unwrap());
    client.delete(&path).await;
    let parts = json!({ "parts": [{ "type": "text", "content": CANARY }] });
    let refused = client.put(&format!("{path}/parts"), &parts).await;
    refused.any_problem(&[404, 409, 410]);
    let again = client.delete(&path).await;
    assert!([200, 204, 404, 410].contains(&again.status), "{again:?}");
    assert_eq!(client.log("s", 0).await.len(), 2, "one message, one deletion");
}

#[tokio::test]
async fn a_retry_does_not_bring_a_deleted_message_back() {
    let (_server, client) = server();
    let stored = store_canary(&client, "s").await;
    client.delete(&format!("{}/{}", messages("s"), stored["id"].as_str().unwrap())).await;
    let mut body = stored.clone();
    body.as_object_mut()
        .unwrap()
        .retain(|field, _| ["role", "content", "parts", "metadata"].contains(&field.as_str()));
    let again = client.post(&messages("s"), &body).key("canary").await;
    assert!(again.status < 500, "{again:?}");
    assert_eq!(client.log("s", 0).await.len(), 2, "one message, one deletion");
    assert_eq!(client.history("s").await[0]["status"], "deleted");
}

#[tokio::test]
async fn a_reply_made_of_deltas_is_deleted_with_its_deltas() {
    let (_server, client) = server();
    client.chat("s", CANARY).await;
    let listed = client.history("s").await;
    assert_eq!(listed.len(), 2, "{listed:?}");
    for message in &listed {
        client.delete(&format!("{}/{}", messages("s"), message["id"].as_str().unwrap())).await;
    }
    let log = json!(client.log("s", 0).await).to_string();
    assert!(!log.contains(CANARY), "{log}");
    // The canary came in pieces; a piece on its own is content too.
    let deltas: Vec<Value> = client.log("s", 0).await;
    for frame in deltas.iter().filter(|frame| frame["type"] == "part-delta") {
        assert_eq!(frame["delta"].as_str().unwrap_or_default(), "", "{frame}");
    }
}

#[tokio::test]
async fn nothing_of_a_deleted_message_is_left_on_disk() {
    let (server, client) = server();
    let stored = store_canary(&client, "s").await;
    client.chat("s", CANARY).await;
    client.say("s", "kept").await;
    assert!(!holders(&server.data).is_empty(), "the search finds it while it is there");
    let mut ids = vec![stored["id"].clone()];
    ids.extend(client.history("s").await[1..3].iter().map(|message| message["id"].clone()));
    for id in ids {
        client.delete(&format!("{}/{}", messages("s"), id.as_str().unwrap())).await;
    }
    client.all_asleep().await;
    eventually(2 * SOON, "no file holds the canary", async || {
        holders(&server.data).is_empty().then_some(())
    })
    .await;
    assert!(!server.log().contains(CANARY), "nor does the log");
    let contents: Vec<Value> =
        client.history("s").await.iter().map(|message| message["content"].clone()).collect();
    assert_eq!(contents, ["", "", "", "kept"]);
}

#[tokio::test]
async fn a_deleted_message_takes_the_items_with_it_that_it_shows() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options::default().set("SESSILE__ACTOR__SLEEP_AFTER_MS", 200);
    let mut server = options().start_in(dir.path());
    let client = Client::new(&server);
    let path = format!("{}/items", session("s"));
    let items = json!({ "items": [
        { "role": "user", "content": "a question" },
        { "role": "assistant", "content": "an answer" },
        { "role": "user", "content": CANARY },
        { "role": "assistant", "content": "kept" },
    ] });
    client.post(&path, &items).key("canary").await.expect(200);
    let history = client.history("s").await;
    let shown = history.iter().find(|message| message["content"] == CANARY).unwrap();
    client.delete(&format!("{}/{}", messages("s"), shown["id"].as_str().unwrap())).await;
    let left = client.get(&path).await.expect(200);
    let texts: Vec<_> =
        left["items"].as_array().unwrap().iter().map(|item| &item["content"]).collect();
    assert_eq!(texts, ["a question", "an answer", "kept"], "{left}");
    client.all_asleep().await;
    eventually(2 * SOON, "no file holds the canary", async || {
        holders(dir.path()).is_empty().then_some(())
    })
    .await;
    let history = client.history("s").await;
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));

    // What is left can be made anew from the log.
    let files = std::fs::read_dir(dir.path().join("sessions")).unwrap();
    let mut files = files.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    let file = rusqlite::Connection::open(files.next().unwrap().unwrap().path()).unwrap();
    assert_eq!(file.execute("DELETE FROM item WHERE sequence = 1", ()).unwrap(), 1);
    drop(file);
    let server = options().start_in(dir.path());
    let client = Client::new(&server);
    assert_eq!(client.get(&path).await.expect(200), left);
    assert_eq!(client.history("s").await, history);
    assert!(server.log().contains("was made anew from its log"), "{}", server.log());
}

#[tokio::test]
async fn nothing_of_a_deleted_session_is_left_on_disk() {
    let (server, client) = server();
    store_canary(&client, "s").await;
    let body = json!({ "title": CANARY, "metadata": { "k": CANARY } });
    client.patch(&session("s"), &body).await.expect(200);
    client.say("other", "kept").await;
    client.delete(&session("s")).await;
    client.all_asleep().await;
    eventually(2 * SOON, "no file holds the canary", async || {
        holders(&server.data).is_empty().then_some(())
    })
    .await;
    assert_eq!(client.history("other").await.len(), 1);
}

#[tokio::test]
async fn a_deletion_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Options::default().start_in(dir.path());
    let client = Client::new(&server);
    let stored = store_canary(&client, "s").await;
    let path = format!("{}/{}", messages("s"), stored["id"].as_str().unwrap());
    client.delete(&path).await;
    server.kill();
    let server = Options::default().start_in(dir.path());
    let client = Client::new(&server);
    let read = client.get(&path).await.expect(200);
    assert_eq!((&read["status"], &read["content"]), (&json!("deleted"), &json!("")));
    assert!(!json!(client.log("s", 0).await).to_string().contains(CANARY));
}

/// The files under `folder` that contain the canary.
fn holders(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries.map(Result::unwrap) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(holders(&entry.path()));
        } else if let Ok(bytes) = std::fs::read(entry.path())
            && String::from_utf8_lossy(&bytes).contains(CANARY)
        {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn a_repeat_hears_an_answer_of_the_same_shape_after_what_it_said_is_deleted() {
    let (_server, client) = server();
    let stored = store_canary(&client, "s").await;
    let path = format!("{}/{}", messages("s"), stored["id"].as_str().unwrap());
    let parts = json!({ "parts": [{ "type": "text", "content": CANARY }] });
    let items = json!({ "items": [{ "role": "user", "content": CANARY }] });
    let (put, add) = (format!("{path}/parts"), format!("{}/items", session("s")));
    client.put(&put, &parts).key("parts").await.expect(200);
    let counted = client.post(&add, &items).key("items").await.expect(200);
    for message in client.history("s").await {
        client.delete(&format!("{}/{}", messages("s"), message["id"].as_str().unwrap())).await;
    }
    let count = client.log("s", 0).await.len();

    let again = client.post(&add, &items).key("items").await.expect(200);
    assert_eq!(again, counted);
    let again = client.put(&put, &parts).key("parts").await.expect(200);
    for (member, value) in [("id", &stored["id"]), ("status", &json!("deleted"))] {
        assert_eq!(again[member], *value, "{again}");
    }
    assert_eq!((&again["content"], &again["parts"]), (&json!(""), &json!([])), "{again}");
    let again = client.post(&messages("s"), &with_canary()).key("canary").await.expect(201);
    assert_eq!((&again["id"], &again["status"]), (&stored["id"], &json!("deleted")), "{again}");
    assert_eq!(client.log("s", 0).await.len(), count, "nothing was done again");
}

#[tokio::test]
async fn many_deletions_share_the_end_of_a_segment() {
    let (server, client) = server();
    for _ in 0..60 {
        client.say("s", "x").await;
    }
    let begun = tokio::time::Instant::now();
    for message in client.get(&format!("{}?limit=200", messages("s"))).await.expect(200)["items"]
        .as_array()
        .unwrap()
    {
        let id = message["id"].as_str().unwrap();
        client.delete(&format!("{}/{id}", messages("s"))).await;
    }
    let seconds = begun.elapsed().as_secs();
    let journal = std::fs::read_dir(server.data.join("journal")).unwrap();
    let number = |name: String| name.strip_suffix(".seg")?.parse::<u64>().ok();
    let last =
        journal.filter_map(|entry| number(entry.unwrap().file_name().into_string().unwrap())).max();
    // One a second, and two that are prepared.
    assert!(last.unwrap() <= seconds + 5, "{last:?} segments in {seconds} s");
}
