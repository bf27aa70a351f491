//! Pages of history: every older message exactly once, whatever the page size, the direction and the writers.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::Reply;
use crate::support::client::contents;
use crate::support::client::messages;
use crate::support::client::segment;
use crate::support::client::seq;
use crate::support::client::session;
use crate::support::server::Options;
use proptest::prelude::any;
use proptest::strategy::Strategy;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

fn server() -> (Server, Client) {
    let server = Server::start();
    let client = Client::new(&server);
    (server, client)
}

/// Stores `count` messages as fast as sixteen clients can.
async fn fill(client: &Client, id: &str, count: usize) {
    let mut posts = JoinSet::new();
    for lane in 0..16 {
        let (client, id) = (client.clone(), id.to_owned());
        posts.spawn(async move {
            for number in (lane..count).step_by(16) {
                client.say(&id, &number.to_string()).await;
            }
        });
    }
    posts.join_all().await;
}

/// One page.
async fn page(client: &Client, id: &str, query: &str) -> Value {
    client.get(&format!("{}?{query}", messages(id))).await.expect(200)
}

/// The seqs on a page.
fn seqs(page: &Value) -> Vec<u64> {
    page["items"].as_array().unwrap().iter().map(seq).collect()
}

/// The id of the oldest message on a page, encoded.
fn first_id(page: &Value) -> String {
    segment(page["items"][0]["id"].as_str().unwrap())
}

/// Walks from the newest page to the oldest; gives the seqs, oldest first.
async fn walk_back(client: &Client, id: &str, limit: usize, order: &str) -> Vec<u64> {
    let mut walked = Vec::new();
    let mut query = format!("limit={limit}&order={order}");
    loop {
        let page = page(client, id, &query).await;
        let mut found = seqs(&page);
        if order == "desc" {
            found.reverse();
        }
        assert!(found.is_sorted() && found.len() <= limit, "limit {limit}: {found:?}");
        found.extend(walked);
        walked = found;
        if page["hasMore"] == false {
            return walked;
        }
        assert_eq!(seqs(&page).len(), limit, "a page is full while there is more");
        let cursor = segment(page["prevCursor"].as_str().unwrap());
        query = format!("limit={limit}&order={order}&before={cursor}");
    }
}

/// Walks from message `first` to the newest; gives the seqs after it.
async fn walk_forth(client: &Client, id: &str, limit: usize, first: &str) -> Vec<u64> {
    let mut walked = Vec::new();
    let mut after = first.to_owned();
    loop {
        let page = page(client, id, &format!("limit={limit}&after={after}")).await;
        walked.extend(seqs(&page));
        if page["hasMore"] == false {
            return walked;
        }
        assert_eq!(seqs(&page).len(), limit, "a page is full while there is more");
        after = segment(page["nextCursor"].as_str().unwrap());
    }
}

#[tokio::test]
async fn walks_see_each_older_message_once_while_writers_write() {
    let (_server, client) = server();
    fill(&client, "s", 150).await;
    let first = first_id(&page(&client, "s", "limit=200").await);
    let done = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for _ in 0..2 {
        let (client, done) = (client.clone(), Arc::clone(&done));
        writers.spawn(async move {
            // A steady stream, so that the walks stay of bounded length.
            let mut pace = interval(Duration::from_millis(50));
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !done.load(Ordering::Relaxed) {
                pace.tick().await;
                client.say("s", "more").await;
            }
        });
    }
    for limit in 1..=200 {
        let head = page(&client, "s", "limit=1").await;
        let head = seqs(&head)[0];
        let order = if limit % 2 == 0 { "asc" } else { "desc" };
        let back = walk_back(&client, "s", limit, order).await;
        let newest = *back.last().unwrap();
        assert!(newest >= head, "read your writes: {newest} {head}");
        assert_eq!(back, (1..=newest).collect::<Vec<u64>>(), "back by {limit}, {order}");
        let forth = walk_forth(&client, "s", limit, &first).await;
        let newest = *forth.last().unwrap();
        assert!(newest >= head, "read your writes: {newest} {head}");
        assert_eq!(forth, (2..=newest).collect::<Vec<u64>>(), "forth by {limit}");
    }
    done.store(true, Ordering::Relaxed);
    writers.join_all().await;
}

#[tokio::test]
async fn a_cursor_always_gives_the_same_older_page() {
    let (_server, client) = server();
    fill(&client, "s", 40).await;
    let newest = page(&client, "s", "limit=10").await;
    let query = format!("limit=10&before={}", segment(newest["prevCursor"].as_str().unwrap()));
    let older = page(&client, "s", &query).await;
    fill(&client, "s", 40).await;
    assert_eq!(page(&client, "s", &query).await, older);
    // A message id is as good as a cursor.
    let id = segment(newest["items"][0]["id"].as_str().unwrap());
    let by_id = page(&client, "s", &format!("limit=10&before={id}")).await;
    assert_eq!(by_id["items"], older["items"]);
    let id = segment(older["items"][9]["id"].as_str().unwrap());
    let by_id = page(&client, "s", &format!("limit=10&after={id}")).await;
    assert_eq!(by_id["items"], newest["items"]);
}

#[tokio::test]
async fn one_can_turn_back_on_any_page() {
    let (_server, client) = server();
    fill(&client, "s", 50).await;
    let newest = page(&client, "s", "limit=10").await;
    let older = format!("limit=10&before={}", segment(newest["prevCursor"].as_str().unwrap()));
    let older = page(&client, "s", &older).await;
    assert_eq!(seqs(&older), (31..=40).collect::<Vec<u64>>());
    let newer = format!("limit=10&after={}", segment(older["nextCursor"].as_str().unwrap()));
    let newer = page(&client, "s", &newer).await;
    assert_eq!(newer["items"], newest["items"], "forth again to where we were");
    assert_eq!(newer["hasMore"], false, "nothing newer");
    let oldest = page(&client, "s", &format!("limit=30&before={}", first_id(&older))).await;
    assert_eq!((seqs(&oldest).len(), &oldest["hasMore"]), (30, &json!(false)), "nothing older");
}

#[tokio::test]
async fn the_ends_of_a_history_are_told() {
    let (_server, client) = server();
    fill(&client, "s", 20).await;
    let all = page(&client, "s", "limit=20").await;
    assert_eq!((seqs(&all).len(), &all["hasMore"]), (20, &json!(false)), "exactly as many");
    let oldest = segment(all["items"][0]["id"].as_str().unwrap());
    let newest = segment(all["items"][19]["id"].as_str().unwrap());
    for query in [format!("before={oldest}"), format!("after={newest}")] {
        let empty = page(&client, "s", &query).await;
        assert_eq!((&empty["items"], &empty["hasMore"]), (&json!([]), &json!(false)), "{query}");
    }
    let both = client.get(&format!("{}?before={newest}&after={oldest}", messages("s"))).await;
    assert!([200, 400].contains(&both.status), "{both:?}");
    client.post("/v1/sessions", &json!({ "id": "empty" })).await.expect(201);
    let empty = page(&client, "empty", "limit=5").await;
    assert_eq!((&empty["items"], &empty["hasMore"]), (&json!([]), &json!(false)));
}

#[tokio::test]
async fn unknown_cursors_are_refused() {
    let (_server, client) = server();
    fill(&client, "s", 30).await;
    fill(&client, "other", 30).await;
    let foreign = page(&client, "other", "limit=10").await;
    let mut cursors: Vec<String> = [
        "none",
        "x",
        "%00",
        "-1",
        "9223372036854775808",
        "18446744073709551616",
        "%F0%9F%99%82",
        "'%20OR%201=1--",
        "%25",
        "..%2F..",
        "AAAAAAAAAAAAAAAA",
        "018f0000-0000-7000-8000-000000000000",
    ]
    .map(str::to_owned)
    .to_vec();
    cursors.push("c".repeat(4_000));
    cursors.push(segment(foreign["prevCursor"].as_str().unwrap()));
    cursors.push(segment(foreign["items"][3]["id"].as_str().unwrap()));
    for cursor in cursors {
        for side in ["before", "after"] {
            let path = format!("{}?{side}={cursor}", messages("s"));
            client.get(&path).await.problem(400, "cursor_unknown");
        }
    }
}

#[tokio::test]
async fn random_and_damaged_cursors_never_break_the_server() {
    let (_server, client) = server();
    fill(&client, "s", 30).await;
    let good = page(&client, "s", "limit=10").await;
    let good = good["prevCursor"].as_str().unwrap().to_owned();
    let mut runner = TestRunner::deterministic();
    for round in 0..300 {
        let text = any::<String>().new_tree(&mut runner).unwrap().current();
        let mut damaged = good.clone().into_bytes();
        let at = round % damaged.len();
        damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
        for cursor in [text, String::from_utf8(damaged).unwrap()] {
            let path = format!("{}?before={}", messages("s"), segment(&cursor));
            let reply = client.get(&path).await;
            assert!([200, 400].contains(&reply.status), "{cursor:?}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_hundred_messages_in_one_second_are_paged_without_loss() {
    let (_server, client) = server();
    fill(&client, "s", 100).await;
    let all = client.history("s").await;
    let mut in_second: HashMap<u64, usize> = HashMap::new();
    for message in &all {
        *in_second.entry(message["createdAt"].as_u64().unwrap()).or_default() += 1;
    }
    assert!(in_second.values().any(|count| *count > 7), "some pages fall into one second");
    for limit in [1, 7, 25, 99] {
        let expected: Vec<u64> = (1..=100).collect();
        assert_eq!(walk_back(&client, "s", limit, "asc").await, expected, "native by {limit}");
        let compat = walk_compat(&client, "s", limit).await;
        assert_eq!(compat, contents(&all), "chat route by {limit}");
    }
}

/// Walks the chat route from the newest page to the oldest; gives the contents, oldest first.
async fn walk_compat(client: &Client, id: &str, limit: usize) -> Vec<String> {
    let mut walked: Vec<String> = Vec::new();
    let mut path = format!("/chat/{id}/messages?limit={limit}");
    loop {
        let page = client.get(&path).await;
        assert_eq!(page.header("x-cursor-ignored"), None);
        let page = page.expect(200);
        let page = page.as_array().unwrap();
        let Some(first) = page.first() else { return walked };
        path =
            format!("/chat/{id}/messages?limit={limit}&before={}", first["id"].as_str().unwrap());
        let mut found: Vec<String> = contents(page).into_iter().map(str::to_owned).collect();
        found.extend(walked);
        walked = found;
    }
}

#[tokio::test]
async fn limits_of_the_chat_route_are_read_leniently() {
    let (_server, client) = server();
    fill(&client, "s", 230).await;
    let newest: Vec<Value> = client.history("s").await;
    for (query, count) in [
        ("", 25),
        ("?limit=0", 25),
        ("?limit=", 25),
        ("?limit=abc", 25),
        ("?limit=NaN", 25),
        ("?limit=1", 1),
        ("?limit=25", 25),
        ("?limit=200", 200),
        ("?limit=201", 200),
        ("?limit=1000000", 200),
    ] {
        let page = client.get(&format!("/chat/s/messages{query}")).await.expect(200);
        let found = contents(page.as_array().unwrap());
        assert_eq!(found.len(), count, "{query}");
        assert_eq!(found, contents(&newest[200 - count..]), "the latest, oldest first: {query}");
    }
    for query in ["?limit=-1", "?limit=1.5", "?limit=99999999999999999999", "?limit=1e9"] {
        let page = client.get(&format!("/chat/s/messages{query}")).await.expect(200);
        assert!((1..=200).contains(&page.as_array().unwrap().len()), "bounded: {query}");
    }
}

#[tokio::test]
async fn the_chat_route_ignores_an_unknown_cursor_and_says_so() {
    let (_server, client) = server();
    fill(&client, "s", 30).await;
    let latest = client.get("/chat/s/messages").await;
    assert_eq!(latest.header("x-cursor-ignored"), None);
    for cursor in ["none", "%00", "018f0000-0000-7000-8000-000000000000", "'--"] {
        let reply = client.get(&format!("/chat/s/messages?before={cursor}")).await;
        assert_eq!(reply.header("x-cursor-ignored"), Some("true"), "{cursor}");
        assert_eq!(reply.expect(200), latest.json(), "{cursor}");
    }
}

#[tokio::test]
async fn pages_are_the_same_after_sleep() {
    let server = Options::default().set("SESSILE__ACTOR__SLEEP_AFTER_MS", 50).start();
    let client = Client::new(&server);
    fill(&client, "s", 60).await;
    let newest = page(&client, "s", "limit=20").await;
    let query = format!("limit=20&before={}", segment(newest["prevCursor"].as_str().unwrap()));
    let older = page(&client, "s", &query).await;
    client.all_asleep().await;
    assert_eq!(page(&client, "s", &query).await, older, "a cursor outlives the actor");
    client.all_asleep().await;
    assert_eq!(page(&client, "s", "limit=20").await, newest);
}

/// What no answer with a page in it may exceed.
const ANSWER_BYTES_MAX: usize = 10 << 20;

/// Reads pages from `first` on until one says that it is the last; gives the ids on them, as they came, and how many
/// pages there were. `next` tells the items of a page and where the next one is.
async fn walk_large(
    client: &Client,
    first: String,
    next: impl Fn(&Reply) -> (Vec<Value>, Option<String>),
) -> (Vec<String>, usize) {
    let (mut path, mut ids, mut count) = (Some(first), Vec::new(), 0);
    while let Some(at) = path {
        let page = client.get(&at).await;
        assert_eq!(page.status, 200, "{at}");
        assert!(page.body.len() < ANSWER_BYTES_MAX, "{at}: {} bytes", page.body.len());
        let (items, more) = next(&page);
        assert!(!items.is_empty(), "{at}: an empty page");
        ids.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        (path, count) = (more, count + 1);
    }
    (ids, count)
}

/// Where a page goes on, if it says by `more` that it does.
fn behind(page: &Value, more: &str, next: impl Fn(&Value) -> String) -> Option<String> {
    page[more].as_bool().unwrap().then(|| next(page))
}

/// Twelve messages of a megabyte each, in the order of their ids.
async fn large_messages(client: &Client, id: &str) -> Vec<String> {
    let part = json!({ "type": "text", "content": "x".repeat(250_000) });
    for number in 0..12 {
        let id_of = format!("m{number:02}");
        let body = json!({ "id": id_of, "role": "user", "content": "large",
                           "parts": [part, part, part, part] });
        client.post(&messages(id), &body).await.expect(201);
    }
    (0..12).map(|number| format!("m{number:02}")).collect()
}

#[tokio::test]
async fn pages_of_large_messages_end_before_they_are_too_large() {
    let (_server, client) = server();
    let all = large_messages(&client, "s").await;
    let newest_first = |page: &Value| {
        page["items"].as_array().unwrap().iter().rev().cloned().collect::<Vec<Value>>()
    };
    for query in ["limit=200", ""] {
        let (mut ids, pages) = walk_large(&client, format!("{}?{query}", messages("s")), |page| {
            let page = page.json();
            let older = |page: &Value| {
                format!("{}?{query}&before={}", messages("s"), page["prevCursor"].as_str().unwrap())
            };
            (newest_first(&page), behind(&page, "hasMore", older))
        })
        .await;
        ids.reverse();
        assert_eq!((&ids, pages), (&all, 2), "native, {query}");
    }
    let (mut ids, pages) = walk_large(&client, "/chat/s/messages?limit=200".to_owned(), |page| {
        let items: Vec<Value> = page.json().as_array().unwrap().iter().rev().cloned().collect();
        let more = page.header("x-has-more") == Some("true");
        let oldest = items.last().unwrap()["id"].as_str().unwrap();
        let next = format!("/chat/s/messages?limit=200&before={oldest}");
        (items, more.then_some(next))
    })
    .await;
    ids.reverse();
    assert_eq!((&ids, pages), (&all, 2), "the chat route");
    let (mut ids, pages) = walk_large(&client, "/api/chat/s/messages".to_owned(), |page| {
        let page = page.json();
        let items: Vec<Value> =
            page["messages"].as_array().unwrap().iter().rev().cloned().collect();
        let next = |_: &Value| {
            format!("/api/chat/s/messages?before={}", items.last().unwrap()["id"].as_str().unwrap())
        };
        let more = behind(&page, "hasMore", next);
        (items, more)
    })
    .await;
    ids.reverse();
    assert_eq!((&ids, pages), (&all, 2), "the AI SDK's route");

    let reset = client.get("/v1/sessions/s/events?after=999999").await;
    assert!(reset.body.len() < ANSWER_BYTES_MAX, "a snapshot of {} bytes", reset.body.len());
    let snapshot = &reset.json()["events"][0]["snapshot"];
    assert_eq!(snapshot["hasMore"], true);
    assert_eq!(snapshot["messages"].as_array().unwrap().len(), 8);

    // An edit of the first message sets all of them aside.
    let edit = json!({ "id": "s", "trigger": "submit-message", "messages": [
        { "id": "m00", "role": "user", "parts": [{ "type": "text", "text": "short" }] }] });
    client.post("/api/chat", &edit).await.text(200);
    let branches = client.get("/v1/sessions/s/branches").await.expect(200);
    let branch = format!("/v1/sessions/s/branches/{}", branches["items"][0]["id"]);
    let (ids, pages) = walk_large(&client, branch.clone(), |page| {
        let page = page.json();
        let next =
            |page: &Value| format!("{branch}?after={}", page["nextCursor"].as_str().unwrap());
        (page["items"].as_array().unwrap().clone(), behind(&page, "hasMore", next))
    })
    .await;
    assert_eq!((&ids, pages), (&all, 2), "a branch");
    client.get(&format!("{branch}?after=m00")).await.problem(400, "cursor_unknown");
    client.get(&format!("{branch}?limit=0")).await.problem(400, "invalid");
}

#[tokio::test]
async fn large_items_come_page_by_page_or_in_one_list() {
    let (_server, client) = server();
    let item = |number: usize| {
        json!({ "id": format!("i{number:02}"), "type": "message", "role": "user",
                "content": "y".repeat(1_000_000) })
    };
    let all: Vec<Value> = (0..12).map(item).collect();
    for item in &all {
        client
            .post(&format!("{}/items", session("s")), &json!({ "items": [item] }))
            .await
            .expect(200);
    }
    for count in [12, 11, 4, 3, 1, 0] {
        let path = format!("{}/items?limit={count}", session("s"));
        let list = client.get(&path).await.expect(200);
        assert_eq!(list["items"], json!(all[12 - count..]), "the last {count}");
    }
    let list = client.get(&format!("{}/items", session("s"))).await.expect(200);
    assert_eq!(list["items"], json!(all), "all of them");

    let ids: Vec<String> = all.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
    for order in ["asc", "desc"] {
        let first = format!("/v1/conversations/s/items?limit=100&order={order}");
        let (mut walked, pages) = walk_large(&client, first.clone(), |page| {
            let page = page.json();
            let next =
                |page: &Value| format!("{first}&after={}", page["last_id"].as_str().unwrap());
            (page["data"].as_array().unwrap().clone(), behind(&page, "has_more", next))
        })
        .await;
        if order == "desc" {
            walked.reverse();
        }
        assert_eq!((&walked, pages), (&ids, 2), "{order}");
    }
}
