//! The event log of a session as JSON pages and as server-sent events.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::Event;
use crate::support::client::messages;
use crate::support::client::seq;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::within;
use crate::support::socket::Socket;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

fn server() -> (Server, Client) {
    let server = Server::start();
    let client = Client::new(&server);
    (server, client)
}

fn events(id: &str) -> String {
    format!("{}/events", session(id))
}

/// Posts `count` messages, many at a time.
async fn fill(client: &Client, id: &str, count: usize, content: &str) {
    let mut posts = JoinSet::new();
    for lane in 0..16 {
        let (client, id, content) = (client.clone(), id.to_owned(), content.to_owned());
        posts.spawn(async move {
            for _ in (lane..count).step_by(16) {
                client.say(&id, &content).await;
            }
        });
    }
    posts.join_all().await;
}

#[tokio::test]
async fn json_and_stream_and_socket_carry_the_same_frames() {
    let (server, client) = server();
    client.post("/v1/sessions", &json!({ "id": "s", "title": "t" })).await.expect(201);
    let stored = client.say("s", "one").await;
    let path = format!("{}/{}", messages("s"), stored["id"].as_str().unwrap());
    client.put(&format!("{path}/parts"), &json!({ "parts": [] })).await.expect(200);
    client.chat("s", "hello").await;
    client.say("s", "two").await;
    let log = client.log("s", 0).await;
    let seqs: Vec<u64> = log.iter().map(seq).collect();
    assert_eq!(seqs, (1..=seq(log.last().unwrap())).collect::<Vec<u64>>());
    assert_eq!(client.get(&session("s")).await.expect(200)["lastSeq"], log.len());

    let mut stream = client.get(&format!("{}?after=0", events("s"))).stream().await;
    let (mut socket, _) = Socket::after(&server, "s", 0).await;
    for expected in &log {
        assert_eq!(&stream.frame().await, expected);
        assert_eq!(&socket.frame().await, expected);
    }
    client.say("s", "live").await;
    assert_eq!(stream.frame().await, socket.frame().await);
}

#[tokio::test]
async fn the_log_comes_in_pages_of_a_thousand_events() {
    let (server, client) = server();
    fill(&client, "s", 1_100, "x").await;
    let first = client.get(&events("s")).await.expect(200);
    let page = first["events"].as_array().unwrap();
    assert_eq!((page.len(), seq(&page[0]), seq(&page[999])), (1_000, 1, 1_000));
    assert_eq!(client.log("s", 0).await.len(), 1_100);
    // A stream has no pages.
    let mut stream = client.get(&format!("{}?after=0", events("s"))).stream().await;
    let (mut socket, _) = Socket::after(&server, "s", 0).await;
    for expected in 1..=1_100 {
        assert_eq!(seq(&stream.frame().await), expected);
        assert_eq!(seq(&socket.frame().await), expected);
    }
}

#[tokio::test]
async fn the_log_comes_in_pages_of_a_mebibyte() {
    let (_server, client) = server();
    fill(&client, "s", 24, &"y".repeat(100_000)).await;
    let reply = client.get(&events("s")).await;
    let page = reply.expect(200);
    let count = page["events"].as_array().unwrap().len();
    assert!((1..24).contains(&count), "{count} of 24 events on a page");
    // One event may go over the bound, so that a page is never empty.
    assert!(reply.body.len() < 1_048_576 + 131_072, "{} bytes", reply.body.len());
    assert_eq!(client.log("s", 0).await.len(), 24);
}

#[tokio::test]
async fn after_the_end_there_is_nothing_and_beyond_it_a_reset() {
    let (_server, client) = server();
    client.say("s", "x").await;
    let page = client.get(&format!("{}?after=1", events("s"))).await.expect(200);
    assert_eq!((&page["events"], &page["lastSeq"]), (&json!([]), &json!(1)));
    let page = client.get(&format!("{}?after=9", events("s"))).await.expect(200);
    assert_eq!(page["events"][0]["type"], "reset", "{page}");
    let mut stream = client.get(&format!("{}?after=9", events("s"))).stream().await;
    let reset = stream.next().await.unwrap().json();
    assert_eq!((&reset["type"], seq(&reset)), (&json!("reset"), 1));
    for after in ["-1", "x", "1.5", "99999999999999999999"] {
        client.get(&format!("{}?after={after}", events("s"))).await.problem(400, "invalid");
    }
    let reply = client.get(&events("s")).with("accept", "text/event-stream");
    reply.with("last-event-id", "x").await.problem(400, "invalid");
}

#[tokio::test]
async fn a_long_poll_waits_for_the_next_event() {
    let (_server, client) = server();
    client.say("s", "one").await;
    let waiting = {
        let client = client.clone();
        let path = format!("{}?after=1&wait=20", events("s"));
        async move { client.get(&path).await.expect(200) }
    };
    let mut polls = JoinSet::new();
    polls.spawn(waiting);
    // The poll may arrive before or after the message: it must see it either way.
    let stored = client.say("s", "two").await;
    let page = within(SOON, "the poll ends early", polls.join_next()).await.unwrap().unwrap();
    assert_eq!(page["events"][0]["message"], stored);
    assert_eq!(page["lastSeq"], 2);

    let begun = Instant::now();
    let page = client.get(&format!("{}?after=2&wait=1", events("s"))).await.expect(200);
    assert_eq!(page["events"], json!([]));
    assert!(begun.elapsed() >= Duration::from_millis(900), "it waited {:?}", begun.elapsed());
    let begun = Instant::now();
    let page = client.get(&format!("{}?after=0&wait=20", events("s"))).await.expect(200);
    assert_eq!(page["events"].as_array().unwrap().len(), 2);
    assert!(begun.elapsed() < Duration::from_secs(5), "nothing to wait for");
    for wait in ["-1", "x"] {
        client.get(&format!("{}?wait={wait}", events("s"))).await.problem(400, "invalid");
    }
}

#[tokio::test]
async fn the_last_event_id_wins_over_after() {
    let (_server, client) = server();
    for number in 0..5 {
        client.say("s", &number.to_string()).await;
    }
    let request = client.get(&format!("{}?after=0", events("s"))).with("last-event-id", "3");
    assert_eq!(seq(&request.stream().await.frame().await), 4);
    let request = client.get(&events("s")).with("last-event-id", "4");
    assert_eq!(seq(&request.stream().await.frame().await), 5);
}

#[tokio::test]
async fn a_stream_with_nothing_to_say_says_so_at_once() {
    let (_server, client) = server();
    client.say("s", "x").await;
    let request = client.get(&format!("{}?after=1", events("s")));
    let mut stream = request.stream().await;
    let begun = Instant::now();
    assert!(stream.more().await, "a first comment");
    assert!(begun.elapsed() < Duration::from_secs(5), "after {:?}", begun.elapsed());
    client.say("s", "y").await;
    assert_eq!(seq(&stream.frame().await), 2);
}

#[tokio::test]
async fn no_text_can_break_out_of_an_event() {
    let (_server, client) = server();
    let hostile = [
        "data: forged\n\nevent: done\ndata: {}\n\n",
        "\r\n\r\nid: 99\r\n\r\n",
        "\rdata: x\r",
        "\n\n\n",
        ": comment",
        "\u{2028}\u{2029}\u{85}\u{b}\u{c}\u{0}",
        "\u{feff}data: x",
        "]]></script><!--",
        "\\n\\n\\u000a",
        "\u{202e}evil\u{e0041}",
    ];
    let mut expected = Vec::new();
    for text in hostile {
        let body = json!({
            "role": "user", "content": text,
            "parts": [{ "type": text, text: text }], "metadata": { text: text },
        });
        expected.push(client.post(&messages("s"), &body).await.expect(201));
    }
    let mut stream = client.get(&format!("{}?after=0", events("s"))).stream().await;
    for stored in &expected {
        assert_eq!(&stream.frame().await["message"], stored);
    }
    // The same through the chat route's own events.
    for text in hostile {
        let told = client.chat("c", &format!("x{text}x")).await;
        let full: Vec<Value> = told.iter().map(Event::json).collect();
        let answer = full.iter().find(|event| event["type"] == "assistant").unwrap();
        let chunks = full.iter().filter(|event| event["type"] == "delta");
        let joined: String = chunks.map(|event| event["content"].as_str().unwrap()).collect();
        assert_eq!(answer["content"], joined);
    }
}

#[tokio::test]
async fn a_reply_grows_by_deltas_that_add_up_to_what_is_stored() {
    let (_server, client) = server();
    client.chat("s", "naïve 漢字 🙂 e\u{301}\nsecond  line with   spaces").await;
    let log = client.log("s", 0).await;
    let kinds: Vec<&str> = log.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[1]), ("message", "turn"), "{kinds:?}");
    assert_eq!(kinds[kinds.len() - 2..], ["message", "turn"], "{kinds:?}");
    let grows = |kind: &&str| ["part-update", "part-delta"].contains(kind);
    assert!(kinds.len() > 4 && kinds[2..kinds.len() - 2].iter().all(grows), "{kinds:?}");

    let turn = &log[1]["turn"];
    assert_eq!(turn["state"], "running", "{turn}");
    // A step, then a text for each line.
    let mut texts = vec![String::new(); 3];
    for frame in log.iter().filter(|frame| frame["type"] == "part-delta") {
        assert_eq!(frame["messageId"], turn["messageId"]);
        let text = &mut texts[usize::try_from(frame["part"].as_u64().unwrap()).unwrap()];
        assert_eq!(frame["offset"], text.len(), "UTF-8 bytes before the delta: {frame}");
        text.push_str(frame["delta"].as_str().unwrap());
    }
    let stored = &log[log.len() - 2]["message"];
    let content = texts[1..].join("\n");
    assert_eq!((&stored["id"], &stored["content"]), (&turn["messageId"], &json!(content)));
    let text = |text: &String| json!({ "type": "text", "content": text, "state": "complete" });
    assert_eq!(stored["parts"][0]["type"], "step-start", "{stored}");
    let parts = json!([stored["parts"][0], text(&texts[1]), text(&texts[2])]);
    assert_eq!(stored["parts"], parts);
    assert_eq!((&stored["role"], &stored["turnId"]), (&json!("assistant"), &turn["id"]));
    let end = &log[log.len() - 1]["turn"];
    assert_eq!((&end["id"], &end["state"]), (&turn["id"], &json!("completed")));
    // The step keeps the tokens that the provider told, for an answer that is cut off.
    for tokens in ["inputTokens", "outputTokens"] {
        assert_eq!(stored["parts"][0]["usage"][tokens], end["usage"][tokens], "{end}");
    }
    assert_eq!(&client.history("s").await[1], stored);
}
