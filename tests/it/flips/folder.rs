//! The folder that bits are flipped in: sessions with everything that a session can hold, asleep and awake.

use std::path::Path;

use crate::flips::answers;
use crate::flips::answers::Told;
use crate::flips::copy_folder;
use crate::flips::session_file;
use crate::support::client::Client;
use crate::support::client::messages;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::server::Options;
use rusqlite::Connection;
use rusqlite::OpenFlags;
use serde_json::Value;
use serde_json::json;

/// Its sessions: those that rest in one file each, and those that were in use when the server was killed.
pub const SESSIONS: &[&str] =
    &["calm-a", "calm-b", "calm-c", "calm-long", "busy-a", "busy-b", "busy-c", "busy-long"];

/// The key of a request that is repeated to see that it is not carried out twice.
pub const KEY: &str = "once";
/// Its body.
pub fn keyed() -> Value {
    json!({ "role": "user", "content": "only once", "metadata": { "n": 1 } })
}

pub fn options() -> Options {
    Options::default()
        .set("SESSILE__ACTOR__SLEEP_AFTER_MS", 600_000)
        .set("SESSILE__STORAGE__FILE_DELAY_MS", 50)
        .set("SESSILE__STORAGE__COMMIT_DELAY_MS", 20)
}

/// Makes the folder; what a server answers on it.
pub async fn make(data: &Path) -> Told {
    std::fs::create_dir(data).unwrap();
    // The logs of these are compacted, those of the others are not.
    let mut server = options().set("SESSILE__STORAGE__DELTAS_KEPT_MS", 0).start_in(data);
    fill(&Client::new(&server), "calm").await;
    eventually(3 * SOON, "their logs are compacted", async || {
        SESSIONS
            .iter()
            .filter(|name| name.starts_with("calm"))
            .all(|n| is_compacted(data, n))
            .then_some(())
    })
    .await;
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let mut server = options().start_in(data);
    let client = Client::new(&server);
    fill(&client, "busy").await;
    eventually(SOON, "every session has its file, and a log", async || {
        let has_log = |name: &&&str| {
            let log = session_file(data, name).with_extension("db-wal");
            std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
        };
        let busy: Vec<_> = SESSIONS.iter().filter(|name| name.starts_with("busy")).collect();
        for name in &busy {
            client.say(name, "one more").await;
        }
        (busy.iter().filter(|name| has_log(name)).count() == busy.len()).then_some(())
    })
    .await;
    server.kill();

    let whole = data.with_extension("whole");
    copy_folder(data, &whole);
    let server = options().start_in(&whole);
    let client = Client::new(&server);
    let mut told = Told::default();
    for name in SESSIONS {
        told.sessions.insert((*name).to_owned(), answers::of_session(&client, name).await);
    }
    told.list = answers::list(&client).await;
    drop(server);
    std::fs::remove_dir_all(whole).unwrap();
    told
}

/// Whether frames stand for the deltas in the log of session `name`, and no others are waited for.
fn is_compacted(data: &Path, name: &str) -> bool {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let Ok(file) = Connection::open_with_flags(session_file(data, name), flags) else {
        return false;
    };
    let sql = "SELECT NOT EXISTS (SELECT * FROM timer WHERE kind = 'compact')
                  AND EXISTS (SELECT * FROM event WHERE kind = 'message-parts' AND redacted > 0)";
    file.query_row(sql, (), |row| row.get(0)) == Ok(true)
}

/// Fills the sessions whose names begin with `prefix`.
async fn fill(client: &Client, prefix: &str) {
    for name in SESSIONS.iter().filter(|name| name.starts_with(prefix)) {
        let long = name.ends_with("long");
        for number in 0..if long { 150 } else { 6 } {
            let parts = json!([{ "type": "text", "content": format!("part {number}") }]);
            let body = json!({
                "id": format!("m{number}"),
                "role": "user",
                "content": format!("message {number} of {name} {}", "x".repeat(number * 7 % 300)),
                "parts": if number % 3 == 0 { parts } else { json!([]) },
            });
            client.post(&messages(name), &body).key(&format!("key-{number}")).await.expect(201);
        }
        client.post(&messages(name), &keyed()).key(KEY).await.expect(201);
        for line in ["hello", "!tool add {\"a\":1}\nand then\nmore", "!reason hm\nwell"] {
            client.chat(name, line).await;
        }
        let message = json!({ "id": "asked", "role": "user", "content": "a question" });
        client.post(&format!("{}/turns", session(name)), &json!({ "message": message })).await;
        let message = json!({
            "id": "asked", "role": "user", "parts": [{ "type": "text", "text": "another question" }],
        });
        let edit = json!({
            "id": name, "trigger": "submit-message", "messageId": "asked", "messages": [message],
        });
        client.post("/api/chat", &edit).await.text(200);
        client.delete(&format!("{}/m1", messages(name))).await.text(204);
        let parts = json!({ "parts": [{ "type": "text", "content": "changed" }] });
        client.put(&format!("{}/m2/parts", messages(name)), &parts).await.expect(200);
        let items = json!({ "items": [
            { "role": "user", "content": "q" },
            { "type": "function_call", "call_id": "c", "name": "add", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "c", "output": "2" },
            { "id": "named", "role": "assistant", "content": "a" },
        ] });
        let path = format!("{}/items", session(name));
        client.post(&path, &items).key("items").await.expect(200);
        let title = json!({ "title": format!("The title of {name}"), "metadata": { "of": name } });
        client.patch(&session(name), &title).await.expect(200);
        let asks = json!({ "message": { "role": "user", "content": "!approve rm {\"x\":1}" } });
        client.post(&format!("{}/turns", session(name)), &asks).await;
    }
}
