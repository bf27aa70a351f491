//! OpenAI's Conversations API: the same rows as the items API, in pages that neither repeat nor miss an item.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::Reply;
use crate::support::client::session;
use crate::support::server::Options;
use serde_json::Value;
use serde_json::json;

fn server() -> (Server, Client) {
    let server = Server::start();
    let client = Client::new(&server);
    (server, client)
}

fn conversation(id: &str) -> String {
    format!("/v1/conversations/{id}")
}

fn user(text: &str) -> Value {
    json!({ "role": "user", "content": text })
}

/// Makes a conversation with `count` items that say their number.
async fn make(client: &Client, count: usize) -> String {
    let made = client.post("/v1/conversations", &json!({})).await.expect(200);
    let id = made["id"].as_str().unwrap().to_owned();
    let items: Vec<Value> = (0..count).map(|number| user(&number.to_string())).collect();
    for items in items.chunks(20) {
        add(client, &id, &json!(items)).await.expect(200);
    }
    id
}

async fn add(client: &Client, id: &str, items: &Value) -> Reply {
    client.post(&format!("{}/items", conversation(id)), &json!({ "items": items })).await
}

async fn page(client: &Client, id: &str, query: &str) -> Value {
    client.get(&format!("{}/items?{query}", conversation(id))).await.expect(200)
}

fn data(page: &Value) -> &[Value] {
    page["data"].as_array().unwrap()
}

fn texts(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["content"][0]["text"].as_str().unwrap()).collect()
}

fn ids(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["id"].as_str().unwrap()).collect()
}

/// The error of `reply`, which must be one in OpenAI's shape with this status and code.
#[track_caller]
fn error(reply: &Reply, status: u16, code: &str) -> Value {
    let error = reply.expect(status)["error"].take();
    let mut keys: Vec<&String> = error.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["code", "message", "param", "type"], "{error}");
    assert!(error["message"].is_string(), "{error}");
    assert_eq!((&error["code"], &error["type"]), (&json!(code), &json!("invalid_request_error")));
    error
}

/// Walks all pages; between two of them takes out the item before the last and the next but one.
async fn walk(client: &Client, order: &str, limit: usize) {
    let id = make(client, 30).await;
    let all = page(client, &id, &format!("limit=100&order={order}")).await;
    let all = ids(data(&all));
    let (mut seen, mut gone, mut after) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = page(client, &id, &format!("order={order}&limit={limit}&after={after}")).await;
        let found = ids(data(&page));
        assert_eq!(page["object"], "list");
        let ends = (page["first_id"].as_str(), page["last_id"].as_str());
        assert_eq!(ends, (found.first().copied(), found.last().copied()));
        seen.extend(found.iter().map(|&id| id.to_owned()));
        if page["has_more"] == false {
            break;
        }
        assert_eq!(found.len(), limit, "a page is full while there is more");
        after = found[limit - 1].to_owned();
        let last = all.iter().position(|&id| id == after).unwrap();
        for at in [last.wrapping_sub(1), last + 2] {
            let Some(&item) = all.get(at).filter(|item| !gone.contains(*item)) else { continue };
            let path = format!("{}/items/{item}", conversation(&id));
            assert_eq!(client.delete(&path).await.expect(200)["id"], id, "the conversation");
            error(&client.get(&path).await, 404, "item_not_found");
            error(&client.delete(&path).await, 404, "item_not_found");
            gone.push(item);
        }
    }
    // Each once and in order: all that were never taken out, and those that were seen before they were.
    let wanted: Vec<&str> = all
        .iter()
        .copied()
        .filter(|item| !gone.contains(item) || seen.iter().any(|seen| seen == item))
        .collect();
    assert_eq!(seen, wanted, "{order}, {limit} a page");
    let left = page(client, &id, &format!("limit=100&order={order}")).await;
    let kept: Vec<&str> = all.iter().copied().filter(|item| !gone.contains(item)).collect();
    assert_eq!(ids(data(&left)), kept);
}

#[tokio::test]
async fn pages_miss_and_repeat_nothing_while_items_go() {
    let (_server, client) = server();
    for (order, limit) in [("asc", 1), ("asc", 7), ("desc", 1), ("desc", 7), ("desc", 29)] {
        walk(&client, order, limit).await;
    }
}

#[tokio::test]
async fn the_newest_twenty_come_first_and_limits_hold() {
    let (_server, client) = server();
    let id = make(&client, 101).await;
    let newest = page(&client, &id, "").await;
    let wanted: Vec<String> = (81..=100).rev().map(|number| number.to_string()).collect();
    assert_eq!(
        (texts(data(&newest)), &newest["has_more"]),
        (wanted.iter().map(String::as_str).collect(), &json!(true))
    );
    let most = page(&client, &id, "limit=100&order=asc&include[]=a&include[]=b").await;
    assert_eq!((data(&most).len(), &most["has_more"]), (100, &json!(true)));
    for limit in ["0", "101", "-1", "many", ""] {
        let path = format!("{}/items?limit={limit}", conversation(&id));
        assert_eq!(error(&client.get(&path).await, 400, "invalid")["param"], "limit");
    }
    let items = format!("{}/items", conversation(&id));
    error(&client.get(&format!("{items}?order=up")).await, 400, "invalid");
    error(&client.get(&format!("{items}?after=msg_0")).await, 404, "item_not_found");

    let many: Vec<Value> = (0..21).map(|_| user("x")).collect();
    let reference = json!({ "type": "item_reference", "id": "msg_1" });
    for wrong in [json!(many), json!([user("x"), 1]), json!([{}]), json!([reference])] {
        assert_eq!(error(&add(&client, &id, &wrong).await, 400, "invalid")["param"], "items");
        let made = client.post("/v1/conversations", &json!({ "items": wrong })).await;
        assert_eq!(error(&made, 400, "invalid")["param"], "items");
    }
    let pairs: Value = (0..17).map(|key| (key.to_string(), json!(""))).collect();
    let long = json!({ "key": "v".repeat(513) });
    for metadata in [pairs, long, json!({ "a": 1 }), json!([]), json!({ "k".repeat(65): "" })] {
        let body = json!({ "metadata": metadata });
        for path in ["/v1/conversations", &conversation(&id)] {
            assert_eq!(error(&client.post(path, &body).await, 400, "invalid")["param"], "metadata");
        }
    }
    assert_eq!(client.get(&session(&id)).await.expect(200)["itemCount"], 101, "nothing was added");
    let sessions = client.get("/v1/sessions").await.expect(200);
    assert_eq!(sessions["items"].as_array().unwrap().len(), 1, "nothing was made");
}

#[tokio::test]
async fn what_is_not_there_or_no_more_is_not_found() {
    let (_server, client) = server();
    let gone = make(&client, 1).await;
    let newest = page(&client, &gone, "").await;
    let item = format!("/items/{}", data(&newest)[0]["id"].as_str().unwrap());
    let deleted = json!({ "id": gone, "object": "conversation.deleted", "deleted": true });
    assert_eq!(client.delete(&conversation(&gone)).await.expect(200), deleted);
    for (id, code) in [(gone.as_str(), "actor.deleted"), ("conv_0", "session_not_found")] {
        let path = conversation(id);
        error(&client.get(&path).await, 404, code);
        error(&client.delete(&path).await, 404, code);
        error(&client.post(&path, &json!({ "metadata": {} })).await, 404, code);
        error(&client.get(&format!("{path}/items")).await, 404, code);
        error(&client.get(&format!("{path}{item}")).await, 404, code);
        error(&client.delete(&format!("{path}{item}")).await, 404, code);
        error(&add(&client, id, &json!([user("x")])).await, 404, code);
        error(&add(&client, id, &json!([])).await, 404, code);
    }
}

#[tokio::test]
async fn a_conversation_is_a_session_and_its_items_are_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Options::default().start_in(dir.path());
    let client = Client::new(&server);
    let body = json!({ "metadata": { "topic": "rows" } });
    let made = client.post("/v1/conversations", &body).with("authorization", "Bearer unused").await;
    let made = made.expect(200);
    let id = made["id"].as_str().unwrap();
    let as_session = client.get(&session(id)).await.expect(200);
    assert_eq!(
        (&as_session["metadata"], &as_session["createdAt"]),
        (&body["metadata"], &made["created_at"])
    );

    // What one API takes, the other gives back unchanged; what no id or a taken id came with is told apart all the same.
    let fake = json!({ "id": "fake", "role": "assistant", "content": "yes" });
    let sent = json!([user("1.50?"), fake, { "type": "unheard_of", "n": [1.5, null] }]);
    let added = add(&client, id, &sent).await.expect(200);
    let library = json!([
        { "type": "function_call", "callId": "c", "name": "f", "arguments": "{}" },
        { "type": "function_call_result", "callId": "c", "output": { "type": "text", "text": "4" } },
        fake,
    ]);
    let items = format!("{}/items", session(id));
    client.post(&items, &json!({ "items": library })).await.expect(200);
    let rows = client.get(&items).await.expect(200)["items"].take();
    let all: Vec<&Value> =
        sent.as_array().unwrap().iter().chain(library.as_array().unwrap()).collect();
    assert_eq!(rows.as_array().unwrap().iter().collect::<Vec<_>>(), all);

    let listed = page(&client, id, "order=asc").await;
    assert_eq!(data(&listed)[..3], *data(&added), "the answer and the list agree");
    let (call, output) = (&data(&listed)[3], &data(&listed)[4]);
    assert_eq!((&call["type"], &call["call_id"]), (&json!("function_call"), &json!("c")));
    assert_eq!((&output["type"], &output["output"]), (&json!("function_call_output"), &json!("4")));
    let found = ids(data(&listed));
    for (id, prefix) in found.iter().zip(["msg_", "fake", "item_", "fc_", "fco_", "msg_"]) {
        assert!(id.starts_with(prefix), "{found:?}");
    }
    let text = json!([{ "type": "input_text", "text": "1.50?" }]);
    let first = json!({ "id": found[0], "type": "message", "role": "user", "status": "completed", "content": text });
    assert_eq!(data(&listed)[0], first);

    // Of the two that came as `fake`, the one that is named goes; `pop` and this API see the same.
    client.delete(&format!("{}/items/{}", conversation(id), found[5])).await.expect(200);
    let popped = client.post(&format!("{items}/pop"), &json!({})).await.expect(200);
    assert_eq!(popped["item"], library[1]);
    let left = page(&client, id, "order=asc").await;
    assert_eq!(ids(data(&left)), &found[..4]);
    let changed = client.post(&conversation(id), &json!({ "metadata": null })).await.expect(200);
    assert_eq!((&changed["metadata"], &changed["created_at"]), (&json!({}), &made["created_at"]));

    // And all of it is still so after a crash.
    server.kill();
    server.wait();
    let server = Options::default().start_in(dir.path());
    assert_eq!(page(&Client::new(&server), id, "order=asc").await, left);
}

#[tokio::test]
async fn a_repeat_with_the_same_key_adds_nothing() {
    let (_server, client) = server();
    let body = json!({ "items": [user("a"), user("b")] });
    let made = client.post("/v1/conversations", &body).key("k").await.expect(200);
    assert_eq!(client.post("/v1/conversations", &body).key("k").await.expect(200), made);
    let id = made["id"].as_str().unwrap();
    let path = format!("{}/items", conversation(id));
    let added = client.post(&path, &body).key("other").await.expect(200);
    assert_eq!(client.post(&path, &body).key("other").await.expect(200), added);
    let other = client.post(&path, &json!({ "items": [user("c")] })).key("other").await;
    error(&other, 422, "idempotency_key_reused");
    let all = page(&client, id, "order=asc").await;
    assert_eq!(texts(data(&all)), ["a", "b", "a", "b"]);
    assert_eq!(data(&all)[2..], *data(&added));
}
