//! Sessions of the native API: make, read, list, change, delete; what an id may look like.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::messages;
use crate::support::client::segment;
use crate::support::client::seq;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::socket::Socket;
use serde_json::Value;
use serde_json::json;

fn server() -> (Server, Client) {
    let server = Server::start();
    let client = Client::new(&server);
    (server, client)
}

#[tokio::test]
async fn a_session_is_made_once() {
    let (_server, client) = server();
    let body = json!({ "id": "s", "title": "Trip", "projectId": "p1", "metadata": { "a": [1] } });
    let made = client.post("/v1/sessions", &body).await.expect(201);
    for field in ["id", "title", "projectId", "metadata"] {
        assert_eq!(made[field], body[field], "{made}");
    }
    for count in ["messageCount", "itemCount"] {
        assert_eq!(made[count], 0, "{made}");
    }
    assert_eq!(made["lastSeq"], 1, "its `session` event");
    assert!(!made["createdAt"].is_null() && !made["updatedAt"].is_null(), "{made}");
    assert!(made["activeTurn"].is_null(), "{made}");

    let again = client.post("/v1/sessions", &json!({ "id": "s", "title": "Other" })).await;
    assert_eq!(again.expect(200), made, "the existing one, as it was");
    assert_eq!(client.get(&session("s")).await.expect(200), made);
    let log = client.log("s", 0).await;
    assert_eq!((log.len(), &log[0]["type"]), (1, &json!("session")));
    assert_eq!(log[0]["session"]["title"], "Trip");
}

#[tokio::test]
async fn the_server_makes_an_id_when_the_client_has_none() {
    let (_server, client) = server();
    let first = client.post("/v1/sessions", &json!({})).await.expect(201);
    let second = client.post("/v1/sessions", &json!({})).await.expect(201);
    let (first, second) = (first["id"].as_str().unwrap(), second["id"].as_str().unwrap());
    assert_eq!((first.len(), first.as_bytes()[14]), (36, b'7'), "a UUIDv7: {first}");
    assert!(first < second, "ids made later sort later: {first} {second}");
    client.get(&session(first)).await.expect(200);
}

#[tokio::test]
async fn many_who_make_one_session_get_one_session() {
    let (_server, client) = server();
    let mut makers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let client = client.clone();
        makers.spawn(async move {
            let reply = client.post("/v1/sessions", &json!({ "id": "s", "title": "t" })).await;
            (reply.status, reply.json())
        });
    }
    let replies = makers.join_all().await;
    assert_eq!(replies.iter().filter(|(status, _)| *status == 201).count(), 1, "{replies:?}");
    assert!(
        replies.iter().all(|(status, made)| [200, 201].contains(status) && made == &replies[0].1)
    );
    assert_eq!(client.log("s", 0).await.len(), 1);
}

#[tokio::test]
async fn a_bad_session_is_refused_with_the_name_of_the_field() {
    let (_server, client) = server();
    let cases = [
        (json!({ "id": "s", "color": 1 }), "color"),
        (json!({ "id": 7 }), "id"),
        (json!({ "id": "" }), "id"),
        (json!({ "id": "s", "title": 7 }), "title"),
        (json!({ "id": "s", "metadata": "x" }), "metadata"),
    ];
    for (body, field) in cases {
        let problem = client.post("/v1/sessions", &body).await.problem(400, "invalid");
        assert!(problem["detail"].as_str().unwrap().contains(field), "{field}: {problem}");
    }
    client.get(&session("s")).await.problem(404, "session_not_found");
}

#[tokio::test]
async fn every_visible_ascii_character_may_stand_in_an_id() {
    let (server, client) = server();
    let all: String = (0x21..=0x7e).map(char::from).collect();
    for id in [all.as_str(), "a/b", "?x=1", "#", "%", "%41", "a+b", "..x", "\"';--", "CON", "-rf"] {
        let stored = client.say(id, id).await;
        let read = client.get(&session(id)).await.expect(200);
        assert_eq!((&read["id"], &read["messageCount"]), (&json!(id), &json!(1)));
        assert_eq!(client.history(id).await, [stored], "one session per name");
        let (_socket, ready) = Socket::live(&server, id).await;
        assert_eq!(ready["sessionId"], id);
        client.post("/v1/sessions", &json!({ "id": id })).await.expect(200);
    }
    client.say("A", "upper").await;
    client.get(&session("a")).await.problem(404, "session_not_found");
}

#[tokio::test]
async fn control_characters_may_not_stand_in_an_id() {
    let (_server, client) = server();
    for id in ["a\tb", "a\nb", "\u{0}", "\u{7f}", "\u{85}"] {
        let body = json!({ "role": "user", "content": "x" });
        client.post(&messages(id), &body).await.problem(400, "invalid");
        client.post("/v1/sessions", &json!({ "id": id })).await.problem(400, "invalid");
        client.get(&session(id)).await.problem(400, "invalid");
    }
    assert_eq!(client.get("/v1/sessions").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn title_and_metadata_can_be_changed() {
    let (server, client) = server();
    let made = client.post("/v1/sessions", &json!({ "id": "s", "title": "a" })).await.expect(201);
    let (mut socket, _) = Socket::live(&server, "s").await;
    let changed = client.patch(&session("s"), &json!({ "title": "b" })).await.expect(200);
    assert_eq!((&changed["title"], &changed["metadata"]), (&json!("b"), &made["metadata"]));
    let metadata = json!({ "k": { "n": null } });
    let changed = client.patch(&session("s"), &json!({ "metadata": metadata })).await.expect(200);
    assert_eq!((&changed["title"], &changed["metadata"]), (&json!("b"), &metadata));
    assert_eq!(client.get(&session("s")).await.expect(200), changed);

    let first = socket.frame().await;
    assert_eq!((&first["type"], &first["session"]["title"]), (&json!("session"), &json!("b")));
    let second = socket.frame().await;
    assert_eq!(second["session"]["metadata"], metadata);
    assert_eq!(changed["lastSeq"], second["seq"]);

    for (body, field) in [(json!({ "id": "t" }), "id"), (json!({ "title": [] }), "title")] {
        let problem = client.patch(&session("s"), &body).await.problem(400, "invalid");
        assert!(problem["detail"].as_str().unwrap().contains(field), "{problem}");
    }
    client
        .patch(&session("none"), &json!({ "title": "b" }))
        .await
        .problem(404, "session_not_found");
}

#[tokio::test]
async fn a_deleted_session_is_gone_for_good() {
    let (server, client) = server();
    client.say("s", "x").await;
    client.say("other", "x").await;
    let (mut socket, _) = Socket::live(&server, "s").await;
    let mut events = client.get(&format!("{}/events", session("s"))).stream().await;
    events.frame().await;
    let deleted = client.delete(&session("s")).await;
    assert!([200, 204].contains(&deleted.status), "{deleted:?}");

    let (_, code) = socket.rest().await;
    assert_eq!(code, Some(4404));
    events.rest().await;
    let message = json!({ "role": "user", "content": "x" });
    for reply in [
        client.get(&session("s")).await,
        client.get(&messages("s")).await,
        client.get(&format!("{}/count", messages("s"))).await,
        client.get(&format!("{}/events", session("s"))).await,
        client.post(&messages("s"), &message).await,
        client.post("/v1/sessions", &json!({ "id": "s" })).await,
        client.patch(&session("s"), &json!({ "title": "t" })).await,
    ] {
        reply.problem(410, "actor.deleted");
    }
    let path = format!("{}/websocket", session("s"));
    assert_eq!(Socket::try_open(&server, &path, &[]).await.err().unwrap().status, 410);
    assert_eq!(client.history("other").await.len(), 1);
    eventually(SOON, "it leaves the list", async || {
        (listed(&client, "/v1/sessions").await == ["other"]).then_some(())
    })
    .await;
    client.delete(&session("none")).await.problem(404, "session_not_found");
}

/// The ids on one page of sessions.
async fn listed(client: &Client, path: &str) -> Vec<String> {
    let page = client.get(path).await.expect(200);
    let items = page["items"].as_array().unwrap();
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// The ids of all sessions, page by page.
async fn walk(client: &Client, limit: usize) -> Vec<String> {
    let mut ids = Vec::new();
    let mut path = format!("/v1/sessions?limit={limit}");
    loop {
        let page = client.get(&path).await.expect(200);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit, "{page}");
        ids.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        if page["hasMore"] == false {
            return ids;
        }
        let cursor = segment(page["nextCursor"].as_str().unwrap());
        path = format!("/v1/sessions?limit={limit}&cursor={cursor}");
    }
}

#[tokio::test]
async fn sessions_are_listed_by_newest_activity() {
    let (_server, client) = server();
    let mut expected = Vec::new();
    for number in 0..7 {
        let id = format!("s{number}");
        client.say(&id, "x").await;
        expected.insert(0, id.clone());
        // One after the other, so that no two share a millisecond.
        eventually(SOON, "it is listed", async || {
            (listed(&client, "/v1/sessions").await == expected).then_some(())
        })
        .await;
    }
    client.say("s2", "again").await;
    expected.retain(|id| id != "s2");
    expected.insert(0, "s2".to_owned());
    eventually(SOON, "it moves to the top", async || {
        (listed(&client, "/v1/sessions").await == expected).then_some(())
    })
    .await;
    for limit in [1, 2, 3, 7, 200] {
        assert_eq!(walk(&client, limit).await, expected, "by {limit}");
    }
    let page = client.get("/v1/sessions?limit=1").await.expect(200);
    let item = &page["items"][0];
    assert_eq!((&item["id"], &item["messageCount"]), (&json!("s2"), &json!(2)));
}

#[tokio::test]
async fn a_bad_page_of_sessions_is_refused() {
    let (_server, client) = server();
    client.say("s", "x").await;
    for limit in ["0", "201", "-1", "x", "", "1.5", "99999999999999999999"] {
        client.get(&format!("/v1/sessions?limit={limit}")).await.problem(400, "invalid");
    }
    for cursor in ["x", "", "%00", "9999999999999999999999", "eyJ2IjoxfQ"] {
        client.get(&format!("/v1/sessions?cursor={cursor}")).await.problem(400, "cursor_unknown");
    }
    client.get("/v1/sessions?colour=red").await.problem(400, "invalid");
}

#[tokio::test]
async fn the_same_name_is_the_same_session_on_every_route() {
    let (server, client) = server();
    let (mut socket, _) = {
        client.say("s", "native").await;
        Socket::live(&server, "s").await
    };
    let body = json!({ "role": "user", "content": "source" });
    let saved = client.post("/chat/s/messages", &body).await.json();
    let frame = socket.frame().await;
    assert_eq!(frame["message"]["id"], saved["id"]);
    let read = client.get("/chat/s/messages").await.expect(200);
    let native = client.history("s").await;
    let ids = |list: &[Value]| list.iter().map(|item| item["id"].clone()).collect::<Vec<Value>>();
    assert_eq!(ids(read.as_array().unwrap()), ids(&native));
    assert_eq!(seq(&frame), seq(&native[1]));
}
