//! How the server ends, comes back, and lets sessions sleep. How it begins is in `startup.rs`.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::contents;
use crate::support::client::messages;
use crate::support::client::seq;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::fault::files::open_session_files;
use crate::support::fault::files::session_files;
use crate::support::server::Options;
use crate::support::socket::Heard;
use crate::support::socket::Socket;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio::time::interval;

/// Waits until the server has ended by itself; gives its exit code.
async fn ended(server: &mut Server) -> Option<i32> {
    let stat = format!("/proc/{}/stat", server.pid());
    eventually(Duration::from_secs(12), "the server ends", async || {
        let stat = std::fs::read_to_string(&stat).unwrap();
        // The state is behind the name, which is in brackets.
        stat.rsplit_once(") ").unwrap().1.starts_with('Z').then_some(())
    })
    .await;
    server.wait()
}

/// Everything that `client` may write over HTTP until the server refuses; gives what was acknowledged.
async fn write_until_refused(client: Client, lane: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let content = format!("http {lane}.{number}");
        let body = json!({ "role": "user", "content": content });
        let id = format!("s{}", lane % 3);
        match client.post(&messages(&id), &body).key(&content).attempt().await {
            Ok(reply) if reply.status == 201 => acknowledged.push(format!("{id} {content}")),
            Ok(reply) => {
                reply.problem(503, "shutting_down");
                break;
            }
            Err(_) => break,
        }
    }
    acknowledged
}

/// The same over a socket; fails unless it is told that the server restarts.
async fn send_until_closed(mut socket: Socket, lane: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut number = 0;
    loop {
        let content = format!("socket {lane}.{number}");
        let frame =
            json!({ "type": "send", "clientId": content, "role": "user", "content": content });
        // When it is closing already, the next thing heard says so.
        socket.offer_text(&frame.to_string()).await;
        number += 1;
        loop {
            match socket.hear().await {
                Heard::Frame(frame) if frame["type"] == "ack" => {
                    acknowledged.push(format!("s0 {}", frame["clientId"].as_str().unwrap()));
                    break;
                }
                Heard::Frame(frame) if frame["type"] == "error" => {
                    assert_eq!(frame["error"]["code"], "shutting_down", "{frame}");
                }
                Heard::Frame(_) => {}
                Heard::Closed(code) => {
                    assert_eq!(code, Some(1012), "a socket is told");
                    return acknowledged;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_stop_under_load_tells_everyone_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        || Options::default().set("SESSILE__LIMITS__SOCKET_MESSAGES_PER_MINUTE", 1_000_000);
    for round in 0..3 {
        let mut server = options().start_in(dir.path());
        let client = Client::new(&server);
        for id in ["s0", "s1", "s2"] {
            client.say(id, &format!("round {round}")).await;
        }
        let (mut listener, _) = Socket::live(&server, "s0").await;
        let mut events = client.get(&format!("{}/events?after=0", session("s0"))).stream().await;
        let mut writers = JoinSet::new();
        for lane in 0..6 {
            writers.spawn(write_until_refused(client.clone(), 10 * round + lane));
        }
        for lane in 0..3 {
            let (socket, _) = Socket::live(&server, "s0").await;
            writers.spawn(send_until_closed(socket, 10 * round + lane));
        }
        for _ in 0..200 {
            listener.until("message").await;
        }
        let begun = Instant::now();
        server.signal("TERM");
        assert_eq!(listener.rest().await.1, Some(1012), "also who only listens");
        let told = begun.elapsed();
        let acknowledged: Vec<String> = writers.join_all().await.concat();
        let last = events.rest().await;
        assert_eq!(ended(&mut server).await, Some(0));
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
        println!("{} acknowledged, told after {told:?}, ended after {took:?}", acknowledged.len());

        let server = options().start_in(dir.path());
        let client = Client::new(&server);
        check_kept(&client, &acknowledged).await;
        let log = client.log("s0", 0).await;
        let seen: Vec<Value> = last.iter().map(|event| event.json()).collect();
        assert_eq!(seen, log[..seen.len()], "what a stream showed is stored");
    }
}

/// Fails unless each acknowledged message is stored exactly once, and no other twice.
async fn check_kept(client: &Client, acknowledged: &[String]) {
    let mut stored = Vec::new();
    for id in ["s0", "s1", "s2"] {
        let log = client.log(id, 0).await;
        let messages = log.iter().filter(|frame| frame["type"] == "message");
        stored.extend(
            messages.map(|frame| format!("{id} {}", frame["message"]["content"].as_str().unwrap())),
        );
    }
    let unique: BTreeSet<&String> = stored.iter().collect();
    assert_eq!(unique.len(), stored.len(), "nothing twice");
    let lost: Vec<&String> = acknowledged.iter().filter(|one| !unique.contains(one)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
}

#[tokio::test]
async fn an_idle_server_with_open_sockets_stops_at_once() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start();
        let client = Client::new(&server);
        client.say("s", "x").await;
        let mut sockets = Vec::new();
        for _ in 0..20 {
            sockets.push(Socket::live(&server, "s").await.0);
            sockets.push(Socket::open(&server, "/chat/s/websocket").await);
        }
        let begun = Instant::now();
        server.signal(signal);
        for socket in &mut sockets {
            assert_eq!(socket.rest().await.1, Some(1012));
        }
        assert_eq!(ended(&mut server).await, Some(0));
        assert!(begun.elapsed() < Duration::from_secs(5), "{signal}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Options::default().start_in(dir.path());
    let client = Client::new(&server);
    let body = json!({ "id": "s", "title": "t", "metadata": { "a": 1 } });
    client.post("/v1/sessions", &body).await.expect(201);
    client.chat("s", "hello").await;
    client.say("other", "x").await;
    let before = (
        client.get(&session("s")).await.expect(200),
        client.history("s").await,
        client.log("s", 0).await,
        client.get("/v1/sessions").await.expect(200),
    );
    for signal in ["TERM", "KILL", "TERM"] {
        server.signal(signal);
        server.wait();
        server = Options::default().start_in(dir.path());
        let client = Client::new(&server);
        let after = (
            client.get(&session("s")).await.expect(200),
            client.history("s").await,
            client.log("s", 0).await,
            client.get("/v1/sessions").await.expect(200),
        );
        assert_eq!(before, after, "after {signal}");
    }
    let client = Client::new(&server);
    let next = client.say("s", "next").await;
    assert_eq!(seq(&next), before.2.len() as u64 + 1, "the seq goes on");
    let (mut socket, _) = Socket::after(&server, "s", before.2.len() as u64).await;
    assert_eq!(socket.frame().await["message"], next, "a subscriber goes on where it was");
}

#[tokio::test]
async fn a_running_turn_is_interrupted_by_a_restart_and_keeps_its_text() {
    for signal in ["TERM", "KILL"] {
        let dir = tempfile::tempdir().unwrap();
        // How long an answer may go on is tested in `drains.rs`.
        let mut server =
            Options::default().set("SESSILE__SHUTDOWN__DRAIN_MS", 100).start_in(dir.path());
        let client = Client::new(&server);
        client.say("s", "first").await;
        let (mut socket, _) = Socket::live(&server, "s").await;
        let body = json!({ "content": "!slow 100000 10" });
        let mut stream = client.post("/chat/s", &body).stream().await;
        let mut shown = String::new();
        while shown.len() < 20 {
            shown.push_str(socket.until("part-delta").await["delta"].as_str().unwrap());
        }
        let begun = Instant::now();
        server.signal(signal);
        stream.rest().await;
        let code = ended(&mut server).await;
        assert!(begun.elapsed() < Duration::from_secs(10), "a turn does not block the end");
        assert_eq!(code, (signal == "TERM").then_some(0));

        let server = Options::default().start_in(dir.path());
        let client = Client::new(&server);
        let state = eventually(SOON, "the turn is reconciled", async || {
            let state = client.get(&session("s")).await.expect(200);
            state["activeTurn"].is_null().then_some(state)
        })
        .await;
        let log = client.log("s", 0).await;
        assert_eq!(log.len() as u64, state["lastSeq"].as_u64().unwrap());
        let last = log.iter().rfind(|frame| frame["type"] == "turn").unwrap();
        assert_eq!(last["turn"]["state"], "interrupted", "{last}");
        let stored = client.history("s").await;
        let kept = stored[2]["content"].as_str().unwrap();
        assert!(kept.starts_with(&shown), "what was seen is kept: {kept:?} {shown:?}");
        let events = client.chat("s", "again").await;
        assert_eq!(events[events.len() - 2].json()["content"], "echo: again");
    }
}

fn sleepy() -> (Server, Client) {
    let server = Options::default().set("SESSILE__ACTOR__SLEEP_AFTER_MS", 100).start();
    let client = Client::new(&server);
    (server, client)
}

#[tokio::test]
async fn a_socket_that_only_listens_keeps_nothing_awake_and_misses_nothing() {
    let (server, client) = sleepy();
    client.say("s", "0").await;
    let (mut socket, _) = Socket::live(&server, "s").await;
    let mut source = Socket::open(&server, "/chat/s/websocket").await;
    let mut events = client.get(&format!("{}/events?after=1", session("s"))).stream().await;
    for number in 1..=5 {
        client.all_asleep().await;
        let stored = client.say("s", &number.to_string()).await;
        let frame = socket.frame().await;
        assert_eq!((seq(&frame), &frame["message"]), (number + 1, &stored), "the next frame");
        assert_eq!(events.frame().await, frame);
        assert_eq!(source.frame().await["message"]["id"], stored["id"]);
    }
    let history = client.history("s").await;
    assert_eq!(contents(&history), ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_ping_wakes_nobody() {
    let (server, client) = sleepy();
    client.say("s", "x").await;
    let (mut socket, _) = Socket::live(&server, "s").await;
    client.all_asleep().await;
    for _ in 0..10 {
        assert!(socket.ping().await.is_empty());
        assert_eq!(client.awake().await, 0.0);
    }
}

#[tokio::test]
async fn a_frame_wakes_one_actor_of_many() {
    let (server, client) = sleepy();
    let mut sockets = Vec::new();
    for number in 0..200 {
        let id = format!("s{number}");
        client.say(&id, "x").await;
        sockets.push(Socket::live(&server, &id).await.0);
    }
    client.all_asleep().await;
    let frame = json!({ "type": "send", "clientId": "c", "role": "user", "content": "wake" });
    sockets[77].send(&frame).await;
    sockets[77].until("ack").await;
    let awake = client.awake().await;
    assert!(awake <= 1.0, "{awake} awake");
    for (number, socket) in sockets.iter_mut().enumerate() {
        let heard = socket.ping().await;
        assert!(number == 77 || heard.is_empty(), "session {number}: {heard:?}");
    }
}

#[tokio::test]
async fn a_session_that_falls_asleep_under_fire_loses_nothing() {
    let server = Options::default().set("SESSILE__ACTOR__SLEEP_AFTER_MS", 1).start();
    let client = Client::new(&server);
    client.say("s", "first").await;
    let (mut socket, _) = Socket::live(&server, "s").await;
    let mut writers = JoinSet::new();
    for lane in 0..4 {
        let client = client.clone();
        writers.spawn(async move {
            let mut pace = interval(Duration::from_millis(3 + lane));
            for _ in 0..50 {
                pace.tick().await;
                client.say("s", "x").await;
            }
        });
    }
    for expected in 2..=201 {
        assert_eq!(seq(&socket.frame().await), expected);
    }
    writers.join_all().await;
    assert_eq!(client.log("s", 0).await.len(), 201);
}

#[tokio::test]
async fn a_process_without_descriptors_says_try_again_and_takes_no_session_out_of_use() {
    let server = Options::default().set("SESSILE__ACTOR__SLEEP_AFTER_MS", 100).start();
    let client = Client::new(&server);
    client.say("a", "words").await;
    let asleep = async || {
        let files = session_files(&server.data).count();
        (files == 1 && open_session_files(&server) == 0).then_some(())
    };
    eventually(SOON, "it sleeps", asleep).await;
    let limit = |count: usize| {
        let pid = server.pid().to_string();
        let limit = format!("--nofile={count}:");
        let done = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(done.unwrap().success());
    };
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let highest = open.filter_map(|fd| fd.ok()?.file_name().to_str()?.parse::<usize>().ok()).max();
    // Nothing more, whatever was closed in between.
    limit(3);
    assert!(highest.unwrap() > 3);
    let refused = client.get(&messages("a")).await;
    refused.problem(503, "actor.reset");
    let log = server.log();
    assert!(log.contains("Too many open files"), "{log}");
    assert!(!log.contains("quarantined"), "{log}");
    limit(1_024);
    assert_eq!(contents(&client.history("a").await), ["words"], "at once");
}
