//! Everything that can be read of a session, over HTTP and from its file alone.

use std::collections::BTreeMap;

use crate::flips::folder;
use crate::support::client::Client;
use crate::support::client::Reply;
use crate::support::client::messages;
use crate::support::client::session;
use serde_json::Value;
use serde_json::json;
use sessile::base::Key;
use sessile::domain::session::Direction;
use sessile::domain::session::View;
use sessile::storage::Error;
use sessile::storage::Folder;
use sessile::storage::file::Settings;
use sessile::storage::session::SessionFile;

/// What became of a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing depends on the bit, or the journal has what it broke.
    Harmless,
    /// The file was made anew.
    Repaired,
    /// The session is refused, with the place.
    Refused,
}

/// What a server answers, by path.
pub type Answers = BTreeMap<String, String>;

/// What a server answers on a whole folder.
#[derive(Default)]
pub struct Told {
    pub sessions: BTreeMap<String, Answers>,
    pub list: Vec<Value>,
}

/// The paths that are read of a session; some depend on what others said.
async fn paths(client: &Client, name: &str) -> Vec<String> {
    let base = session(name);
    let mut paths: Vec<String> = [
        "",
        "/messages?limit=200",
        "/messages?limit=3",
        "/messages/count",
        "/items",
        "/branches",
        "/events?after=0",
    ]
    .iter()
    .map(|path| format!("{base}{path}"))
    .collect();
    paths.push(format!("/api/chat/{name}/messages"));
    paths.push(format!("/chat/{name}/messages"));
    for message in client.history(name).await {
        paths.push(format!("{}/{}", messages(name), message["id"].as_str().unwrap()));
    }
    let branches = client.get(&format!("{base}/branches")).await.expect(200);
    for branch in branches["items"].as_array().unwrap() {
        paths.push(format!("{base}/branches/{}", branch["id"]));
    }
    paths
}

/// Everything that `name` answers.
pub async fn of_session(client: &Client, name: &str) -> Answers {
    let mut answers = Answers::new();
    for path in paths(client, name).await {
        let reply = client.get(&path).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        answers.insert(path, reply.body);
    }
    answers
}

/// Reads everything again; what is wrong, if something is.
pub async fn compare(client: &Client, name: &str, told: &Answers) -> Result<Verdict, String> {
    let mut verdict = Verdict::Harmless;
    for (path, body) in told {
        let reply = client.get(path).await;
        if is_refusal(&reply) {
            verdict = Verdict::Refused;
        } else if (reply.status, &reply.body) != (200, body) {
            return Err(format!("{path} was {body}, is {} {}", reply.status, reply.body));
        }
    }
    // Carried out once already: it must be answered alike, and change nothing.
    let reply = client.post(&messages(name), &folder::keyed()).key(folder::KEY).await;
    if is_refusal(&reply) {
        return Ok(Verdict::Refused);
    }
    let count = format!("{}/messages/count", session(name));
    let after = client.get(&count).await;
    match is_refusal(&after) || after.body == told[&count] {
        true => Ok(verdict),
        false => Err(format!("a repeated request was carried out: {reply:?}")),
    }
}

/// Each family of routes has its own shape of errors; all say this.
fn is_refusal(reply: &Reply) -> bool {
    reply.status == 503 && reply.body.contains("the session cannot be opened")
}

/// The list of sessions, page by page.
pub async fn list(client: &Client) -> Vec<Value> {
    let mut page = client.get("/v1/sessions?limit=200").await.expect(200);
    let mut items = page["items"].as_array_mut().unwrap().clone();
    items.sort_by_key(|item| item["id"].as_str().unwrap().to_owned());
    items
}

/// Everything that the file of `key` says, opened as when the session wakes; whether it had to be made anew.
pub fn of_file(key: &Key, folder: &Folder) -> Result<(bool, Vec<Value>), Error> {
    let path = folder.file(key);
    let settings = Settings::default();
    let (repaired, mut file) = match SessionFile::open(key, &path, &settings) {
        Ok(file) => (false, file),
        Err(damage) if damage.is_damage() => {
            (true, SessionFile::repair(key, folder, &settings, damage, 0)?)
        }
        Err(other) => return Err(other),
    };
    let mut answers = Vec::new();
    let latest = file.latest(200)?;
    for message in &latest.page.messages {
        answers.push(json!(file.message(&message.id)?));
    }
    answers.push(json!(latest.page.messages));
    answers.push(json!(file.page(Direction::After(0), 1_000, true)?.messages));
    answers.push(json!(file.page(Direction::Before(20), 5, false)?.messages));
    for (branch, from, count) in file.branches()? {
        answers.push(json!([branch, from, count]));
        answers.push(json!(file.branch(branch, 0, 1_000)?.messages));
    }
    for item in file.items(1_000)? {
        answers.push(json!(file.item(&item.id)?.map(|item| item.body)));
        answers.push(json!(item.body));
    }
    let mut after = 0;
    loop {
        let events = file.events(after)?;
        let Some(last) = events.last() else { break };
        after = last.seq;
        answers.extend(events.iter().map(|event| json!([event.seq, event.frame])));
    }
    for key in [folder::KEY, "items", "key-0", "key-1", "key-5"] {
        answers.push(json!(format!("{:?}", file.answered(key)?)));
    }
    answers.push(json!(file.queued_turns()?));
    let head = file.head();
    answers.push(json!([
        head.title,
        head.metadata,
        head.message_count,
        head.item_count,
        head.last_seq
    ]));
    answers.push(json!([head.active_turn, head.created_at_ms, head.updated_at_ms, head.settings]));
    // One that looks for what it can remove from the log may be set again.
    let timers = file.due_timers(i64::MAX)?.into_iter().filter(|timer| timer.kind == "approval");
    answers.extend(timers.map(|timer| json!([timer.id, timer.attempt])));
    Ok((repaired, answers))
}
