//! The native API's messages: shapes, roles, parts, versions, errors. Sessions are in `sessions.rs`,
//! retries in `retries.rs`, pages in `pages.rs`.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::contents;
use crate::support::client::messages;
use crate::support::client::seq;
use crate::support::client::session;
use crate::support::socket::Socket;
use serde_json::Value;
use serde_json::json;
use std::time::UNIX_EPOCH;

fn server() -> (Server, Client) {
    let server = Server::start();
    let client = Client::new(&server);
    (server, client)
}

/// Fails unless `id` has the form of a `UUIDv7`.
#[track_caller]
fn check_uuid_v7(id: &Value) {
    let id = id.as_str().unwrap();
    let groups: Vec<usize> = id.split('-').map(str::len).collect();
    assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
    assert!(id.chars().all(|c| c == '-' || c.is_ascii_hexdigit()), "{id}");
    assert_eq!(id.as_bytes()[14], b'7', "the version in {id}");
}

#[tokio::test]
async fn a_message_comes_back_as_it_was_sent() {
    let (_server, client) = server();
    let parts = json!([
        { "type": "text", "content": "two" },
        { "type": "tool-call", "toolName": "search", "toolCallId": "c1", "toolInput": { "q": [1, 2.5] },
          "state": "pending" },
        { "type": "tool-result", "toolCallId": "c1", "toolOutput": "none", "state": "complete" },
        { "type": "x-chart", "axes": { "x": null }, "unheardOf": true },
    ]);
    let metadata = json!({ "from": "phone", "deep": { "a": [1] } });
    let body = json!({ "role": "assistant", "content": "naïve 漢字 🙂\u{0}\r\n", "parts": parts,
                       "metadata": metadata });
    let stored = client.post(&messages("s"), &body).await.expect(201);
    check_uuid_v7(&stored["id"]);
    assert_eq!(seq(&stored), 1, "the first event of a session that its first message made");
    assert_eq!(stored["role"], "assistant");
    assert_eq!(stored["content"], body["content"]);
    assert_eq!(stored["parts"], parts, "unknown types and fields round-trip");
    assert_eq!(stored["metadata"], metadata);
    assert!(stored["version"].is_u64() && stored["status"].is_string(), "{stored}");

    let id = stored["id"].as_str().unwrap();
    let read = client.get(&format!("{}/{id}", messages("s"))).await.expect(200);
    assert_eq!(read, stored);
    assert_eq!(client.history("s").await, [stored]);
}

#[tokio::test]
async fn creation_times_are_seconds_and_milliseconds_of_one_moment() {
    let (_server, client) = server();
    let now = || UNIX_EPOCH.elapsed().unwrap().as_millis();
    let before = now();
    let stored = client.say("s", "when").await;
    let after = now();
    let ms = u128::from(stored["createdAtMs"].as_u64().unwrap());
    assert!((before..=after).contains(&ms), "{before} <= {ms} <= {after}");
    assert_eq!(u128::from(stored["createdAt"].as_u64().unwrap()), ms / 1000);
    assert_eq!(stored["updatedAtMs"], stored["createdAtMs"]);
}

#[tokio::test]
async fn the_three_roles_are_accepted_and_no_other() {
    let (_server, client) = server();
    for role in ["user", "assistant", "system"] {
        let body = json!({ "role": role, "content": "x" });
        assert_eq!(client.post(&messages("s"), &body).await.expect(201)["role"], role);
    }
    for role in [json!("tool"), json!("User"), json!(""), json!(null), json!(1), json!(["user"])] {
        let body = json!({ "role": role, "content": "x" });
        let problem = client.post(&messages("s"), &body).await.problem(400, "invalid");
        assert!(problem["detail"].as_str().unwrap().contains("role"), "{problem}");
    }
    assert_eq!(client.history("s").await.len(), 3);
}

#[tokio::test]
async fn a_bad_message_is_refused_with_the_name_of_the_field() {
    let (_server, client) = server();
    let cases = [
        (json!({ "content": "x" }), "role"),
        (json!({ "role": "user" }), "content"),
        (json!({ "role": "user", "content": 5 }), "content"),
        (json!({ "role": "user", "content": "x", "colour": 1 }), "colour"),
        (json!({ "role": "user", "content": "x", "seq": 9 }), "seq"),
        (json!({ "role": "user", "content": "x", "createdAt": 9 }), "createdAt"),
        (json!({ "role": "user", "content": "x", "parts": "[]" }), "parts"),
        (json!({ "role": "user", "content": "x", "parts": [1] }), "parts"),
        (json!({ "role": "user", "content": "x", "parts": [{ "content": "no type" }] }), "type"),
        (json!({ "role": "user", "content": "x", "metadata": [] }), "metadata"),
        (json!({ "role": "user", "content": "x", "id": "" }), "id"),
        (json!({ "role": "user", "content": "x", "id": "a\u{7}b" }), "id"),
        // Nobody could read it: its path is that of the number of messages.
        (json!({ "role": "user", "content": "x", "id": "count" }), "id"),
    ];
    for (body, field) in cases {
        let problem = client.post(&messages("s"), &body).await.problem(400, "invalid");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(field), "{field}: {problem}");
        assert!(!detail.contains("struct") && !detail.contains("column"), "plain words: {detail}");
        assert_eq!(problem["retryable"], false, "{problem}");
    }
    client.get(&session("s")).await.problem(404, "session_not_found");
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused() {
    let (_server, client) = server();
    let bodies: [&[u8]; 8] =
        [b"", b"{", b"null", b"[]", b"\"x\"", b"{\"role\":\"user\",}", b"\xff\xfe", b"{} {}"];
    for body in bodies {
        let reply = client.request("POST", &messages("s")).body("application/json", body).await;
        reply.problem(400, "invalid");
    }
    client.get(&session("s")).await.problem(404, "session_not_found");
}

#[tokio::test]
async fn what_does_not_exist_is_told_apart() {
    let (_server, client) = server();
    client.say("s", "x").await;
    client.get(&session("none")).await.problem(404, "session_not_found");
    client.get(&messages("none")).await.problem(404, "session_not_found");
    client.get(&format!("{}/count", messages("none"))).await.problem(404, "session_not_found");
    client.get(&format!("{}/events", session("none"))).await.problem(404, "session_not_found");
    client.get(&format!("{}/m", messages("none"))).await.problem(404, "session_not_found");
    client.get(&format!("{}/none", messages("s"))).await.problem(404, "message_not_found");
    client.delete(&format!("{}/none", messages("s"))).await.problem(404, "message_not_found");
    for path in ["/v1", "/v1/sessions/s/nothing", "/v2/sessions", "/v1/sessions/s/messages/a/b"] {
        client.get(path).await.problem(404, "route_not_found");
    }
    for (method, path) in
        [("DELETE", "/v1/sessions"), ("PATCH", "/v1/sessions/s/messages"), ("POST", "/livez")]
    {
        let reply = client.request(method, path).await;
        reply.problem(405, "method_not_allowed");
        assert!(reply.header("allow").is_some_and(|allow| allow.contains("GET")), "{reply:?}");
    }
}

#[tokio::test]
async fn a_read_does_not_make_a_session() {
    let (server, client) = server();
    client.get(&messages("ghost")).await.problem(404, "session_not_found");
    let refused = Socket::try_open(&server, &format!("{}/websocket", session("ghost")), &[]).await;
    let refused = refused.err().unwrap();
    assert_eq!(refused.status, 404, "{refused:?}");
    assert!(refused.body.contains("session_not_found"), "{refused:?}");
    let page = client.get("/v1/sessions").await.expect(200);
    assert_eq!(page["items"], json!([]));
}

#[tokio::test]
async fn a_session_counts_its_messages() {
    let (_server, client) = server();
    client.post("/v1/sessions", &json!({ "id": "s" })).await.expect(201);
    let count = format!("{}/count", messages("s"));
    assert_eq!(client.get(&count).await.expect(200)["count"], 0);
    for expected in 1..=3 {
        client.say("s", "x").await;
        assert_eq!(client.get(&count).await.expect(200)["count"], expected);
        assert_eq!(client.get(&session("s")).await.expect(200)["messageCount"], expected);
    }
}

#[tokio::test]
async fn messages_come_oldest_first_or_newest_first() {
    let (_server, client) = server();
    for number in 0..30 {
        client.say("s", &number.to_string()).await;
    }
    let page = client.get(&messages("s")).await.expect(200);
    let latest: Vec<String> = (5..30).map(|number: i32| number.to_string()).collect();
    assert_eq!(contents(page["items"].as_array().unwrap()), latest, "the latest 25, oldest first");
    assert_eq!(page["hasMore"], true);

    let page = client.get(&format!("{}?order=desc&limit=3", messages("s"))).await.expect(200);
    assert_eq!(contents(page["items"].as_array().unwrap()), ["29", "28", "27"]);
    let page = client.get(&format!("{}?order=asc&limit=3", messages("s"))).await.expect(200);
    assert_eq!(contents(page["items"].as_array().unwrap()), ["27", "28", "29"]);
    let page = client.get(&format!("{}?limit=200", messages("s"))).await.expect(200);
    assert_eq!((page["items"].as_array().unwrap().len(), &page["hasMore"]), (30, &json!(false)));
    client.get(&format!("{}?order=up", messages("s"))).await.problem(400, "invalid");
    client.get(&format!("{}?sort=up", messages("s"))).await.problem(400, "invalid");
}

#[tokio::test]
async fn parts_are_replaced_under_a_growing_version() {
    let (server, client) = server();
    let stored = client.say("s", "plan").await;
    let path = format!("{}/{}/parts", messages("s"), stored["id"].as_str().unwrap());
    let (mut socket, _) = Socket::live(&server, "s").await;

    let running =
        json!([{ "type": "tool-call", "toolName": "t", "toolInput": {}, "state": "running" }]);
    let first = client.put(&path, &json!({ "parts": running })).await.expect(200);
    assert_eq!((&first["parts"], &first["content"]), (&running, &stored["content"]));
    assert!(first["version"].as_u64() > stored["version"].as_u64(), "{first}");
    assert_eq!(first["seq"], stored["seq"], "the message keeps its place");

    let done = json!([{ "type": "tool-result", "toolOutput": 7, "state": "complete" }]);
    let body = json!({ "parts": done, "ifVersion": stored["version"] });
    let problem = client.put(&path, &body).await.problem(409, "version_conflict");
    assert_eq!(problem["retryable"], false, "{problem}");
    let body = json!({ "parts": done, "ifVersion": first["version"] });
    let second = client.put(&path, &body).await.expect(200);

    for stored in [first, second] {
        let frame = socket.frame().await;
        assert_eq!(frame["type"], "message-parts", "{frame}");
        assert_eq!(frame["messageId"], stored["id"]);
        assert_eq!(frame["version"], stored["version"]);
        assert_eq!(frame["parts"], stored["parts"]);
    }
    assert!(socket.ping().await.is_empty(), "the refused update is not broadcast");
}

#[tokio::test]
async fn an_update_of_an_unknown_message_is_not_broadcast() {
    let (server, client) = server();
    client.say("s", "x").await;
    let (mut socket, ready) = Socket::live(&server, "s").await;
    let path = format!("{}/none/parts", messages("s"));
    client.put(&path, &json!({ "parts": [] })).await.problem(404, "message_not_found");
    let path = format!("{}/none/parts", messages("ghost"));
    client.put(&path, &json!({ "parts": [] })).await.problem(404, "session_not_found");
    assert!(socket.ping().await.is_empty());
    let read = client.get(&session("s")).await.expect(200);
    assert_eq!(read["lastSeq"], ready["lastSeq"], "no event either");
}

#[tokio::test]
async fn concurrent_updates_are_broadcast_in_the_order_they_apply() {
    let (server, client) = server();
    let stored = client.say("s", "x").await;
    let path = format!("{}/{}/parts", messages("s"), stored["id"].as_str().unwrap());
    let (mut socket, _) = Socket::live(&server, "s").await;
    let mut updates = tokio::task::JoinSet::new();
    for number in 0..40 {
        let (client, path) = (client.clone(), path.clone());
        updates.spawn(async move {
            let parts = json!([{ "type": "text", "content": number.to_string() }]);
            client.put(&path, &json!({ "parts": parts })).await.expect(200)
        });
    }
    let mut answered = updates.join_all().await;
    answered.sort_by_key(|message| message["version"].as_u64());
    for stored in &answered {
        let frame = socket.frame().await;
        assert_eq!((&frame["version"], &frame["parts"]), (&stored["version"], &stored["parts"]));
    }
    let read = client.get(path.strip_suffix("/parts").unwrap()).await.expect(200);
    assert_eq!(&read, answered.last().unwrap(), "the last of them is what is stored");
}

#[tokio::test]
async fn a_clients_message_id_is_kept_and_stands_for_one_message() {
    let (_server, client) = server();
    let body = json!({ "id": "mine/1?", "role": "user", "content": "x", "metadata": { "a": 1 } });
    let first = client.post(&messages("s"), &body).await.expect(201);
    assert_eq!(first["id"], "mine/1?");
    assert_eq!(client.get(&format!("{}/mine%2F1%3F", messages("s"))).await.expect(200), first);

    let again = client.post(&messages("s"), &body).await;
    assert!([200, 201].contains(&again.status), "{again:?}");
    assert_eq!(again.json(), first);
    for (field, value) in
        [("content", json!("y")), ("role", json!("system")), ("parts", json!([{ "type": "text" }]))]
    {
        let mut other = body.clone();
        other[field] = value;
        client.post(&messages("s"), &other).await.problem(409, "message_exists");
    }
    assert_eq!(client.history("s").await, std::slice::from_ref(&first));
    client.post(&messages("other"), &body).await.expect(201);
}

#[tokio::test]
async fn one_post_is_one_frame() {
    let (server, client) = server();
    client.say("s", "first").await;
    let (mut socket, ready) = Socket::live(&server, "s").await;
    let stored = client.say("s", "second").await;
    let frame = socket.frame().await;
    let expected =
        json!({ "type": "message", "seq": seq(&ready_last(&ready)) + 1, "message": stored });
    assert_eq!(frame, expected);
    assert!(socket.ping().await.is_empty());
    assert_eq!(client.log("s", seq(&frame) - 1).await, [frame]);
}

/// The `lastSeq` of a `ready` frame in the place where [`seq`] looks for it.
fn ready_last(ready: &Value) -> Value {
    json!({ "seq": ready["lastSeq"] })
}

#[tokio::test]
async fn what_was_acknowledged_can_be_read_at_once() {
    let (_server, client) = server();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let client = client.clone();
        writers.spawn(async move {
            for number in 0..20 {
                let stored = client.say("s", &format!("{writer}.{number}")).await;
                let path = format!("{}/{}", messages("s"), stored["id"].as_str().unwrap());
                assert_eq!(client.get(&path).await.expect(200), stored, "read your write");
            }
        });
    }
    writers.join_all().await;
    let stored = client.history("s").await;
    let seqs: Vec<u64> = stored.iter().map(seq).collect();
    assert_eq!(seqs, (1..=160).collect::<Vec<u64>>(), "dense, in order");
    for writer in 0..8 {
        let prefix = format!("{writer}.");
        let mine = contents(&stored).into_iter().filter(|content| content.starts_with(&prefix));
        let numbers: Vec<u32> = mine.map(|content| content[2..].parse().unwrap()).collect();
        assert_eq!(numbers, (0..20).collect::<Vec<u32>>(), "real-time order is kept");
    }
}

#[tokio::test]
async fn a_list_is_no_body_whatever_is_in_it() {
    let (_server, client) = server();
    client.say("a", "first").await;
    for path in ["messages", "turns", "items"] {
        for body in [
            json!(["user", "taken for members in their order"]),
            json!([{ "role": "user" }]),
            json!([]),
        ] {
            let answer = client.post(&format!("/v1/sessions/a/{path}"), &body).await;
            let told = answer.expect(400);
            assert_eq!(told["detail"], "the body must be an object, not a list", "{path} {body}");
        }
    }
    assert_eq!(contents(&client.history("a").await), ["first"]);
}
