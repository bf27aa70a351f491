//! Many subscribers of one session, some of which never read: they harm nobody, are cut, and can resume.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::messages;
use crate::support::client::seq;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::clock::within;
use crate::support::socket::Raw;
use crate::support::socket::Socket;
use crate::support::socket::close_code;
use crate::support::socket::server_frames;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Subscribers that read.
const READERS: usize = 450;

/// Subscribers that never read.
const STUCK: usize = 50;

/// Size of each message; large ones fill the buffers of the stuck soon.
const CONTENT_BYTES: usize = 16_384;

/// Messages sent while nobody is stuck, to know how fast delivery is.
const ROUNDS_BEFORE: usize = 60;

/// Messages sent while some are stuck: more than a queue and the kernel's buffers can hold.
const ROUNDS_STUCK: usize = 320;

/// What a stuck socket may hold: its queue of 1 MiB, and as much again as a quarter of it beside.
const STUCK_KIB: u64 = 1_024 + 256;

/// What the server may grow by for other reasons: the log, caches, the allocator.
const SLACK_KIB: u64 = 32 * 1_024;

/// All subscribers that read, and what they report: the seq, and when it came.
struct Audience {
    readers: JoinSet<()>,
    arrivals: mpsc::Receiver<(u64, Instant)>,
}

impl Audience {
    async fn gather(server: &Server, id: &str) -> Self {
        let mut readers = JoinSet::new();
        let (report, arrivals) = mpsc::channel(4 * READERS);
        for _ in 0..READERS {
            let (mut socket, ready) = Socket::live(server, id).await;
            let report = report.clone();
            let mut last = ready["lastSeq"].as_u64().unwrap();
            readers.spawn(async move {
                while let Some(text) = socket.text().await {
                    last += 1;
                    assert_eq!(seq_in(&text), last, "gapless for everyone");
                    if report.send((last, Instant::now())).await.is_err() {
                        return;
                    }
                }
                panic!("a subscriber that reads was cut off at {last}");
            });
        }
        Self { readers, arrivals }
    }

    /// Sends one message and gives the time that each of its deliveries took.
    async fn round(&mut self, client: &Client, id: &str, content: &str) -> Vec<Duration> {
        let sent = Instant::now();
        let stored = client.say(id, content).await;
        let mut times = Vec::with_capacity(READERS);
        while times.len() < READERS {
            let arrival = within(2 * SOON, "everyone gets it", self.arrivals.recv()).await;
            let (seq_seen, at) = arrival.unwrap();
            assert_eq!(seq_seen, seq(&stored));
            times.push(at.duration_since(sent));
        }
        times
    }
}

/// The first `seq` in the text of a frame, without reading all of it.
fn seq_in(text: &str) -> u64 {
    let rest = text.split_once("\"seq\":").unwrap().1;
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap()].parse().unwrap()
}

/// The time within which 99 of 100 came.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}

/// How many sockets the server has open.
fn open_sockets(server: &Server) -> usize {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let links = folder.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

#[tokio::test]
async fn subscribers_that_never_read_harm_nobody_and_can_resume() {
    let server = Server::start();
    let client = Client::new(&server);
    client.say("s", "first").await;
    let content = "x".repeat(CONTENT_BYTES);
    let mut audience = Audience::gather(&server, "s").await;
    let mut before = Vec::new();
    for _ in 0..ROUNDS_BEFORE {
        before.extend(audience.round(&client, "s", &content).await);
    }

    let sockets_before = open_sockets(&server);
    let rss_before = server.rss_kib();
    let mut stuck = Vec::new();
    let head = seq(client.history("s").await.last().unwrap());
    for _ in 0..STUCK {
        stuck.push(Raw::upgrade(&server, "/v1/sessions/s/websocket", Some(4_096)).await);
    }
    let (mut during, mut rss_most) = (Vec::new(), rss_before);
    for _ in 0..ROUNDS_STUCK {
        during.extend(audience.round(&client, "s", &content).await);
        rss_most = rss_most.max(server.rss_kib());
    }
    let (before, during) = (p99(before), p99(during));
    let grown = rss_most - rss_before;
    println!("p99 {before:?} without, {during:?} with {STUCK} stuck; memory grew by {grown} KiB");
    let floor = Duration::from_millis(20);
    assert!(during <= 2 * before.max(floor), "p99 {before:?} without, {during:?} with stuck ones");
    let bound = STUCK as u64 * STUCK_KIB + SLACK_KIB;
    assert!(grown <= bound, "memory grew by {grown} KiB, more than {bound}");

    eventually(Duration::from_secs(30), "the stuck ones are cut", async || {
        (open_sockets(&server) <= sockets_before).then_some(())
    })
    .await;
    audience.round(&client, "s", "still here").await;
    audience.readers.abort_all();

    let log = client.log("s", head).await;
    for mut raw in stuck {
        let frames = server_frames(&raw.drain().await);
        let code = close_code(&frames);
        assert!([None, Some(4408), Some(4008)].contains(&code), "closed with {code:?}");
        let texts = frames.iter().filter(|(opcode, _)| *opcode == 1);
        let heard: Vec<Value> =
            texts.map(|(_, text)| serde_json::from_slice(text).unwrap()).collect();
        let events: Vec<&Value> = heard.iter().filter(|frame| frame["type"] == "message").collect();
        let (got, missed) = log.split_at(events.len());
        assert!(events.into_iter().eq(got), "what came before the cut is the beginning of the log");
        let (mut socket, _) = Socket::after(&server, "s", head + got.len() as u64).await;
        for expected in missed {
            assert_eq!(&socket.frame().await, expected, "and the rest comes after a resume");
        }
    }
}

#[tokio::test]
async fn a_stream_reader_that_never_reads_is_cut_too() {
    let server = Server::start();
    let client = Client::new(&server);
    client.say("s", "first").await;
    let (mut socket, _) = Socket::live(&server, "s").await;
    let sockets_before = open_sockets(&server);
    let mut stuck = Vec::new();
    for _ in 0..10 {
        let mut raw = Raw::connect_with(&server, Some(4_096)).await;
        let request = format!(
            "GET {}/events HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n",
            session("s")
        );
        raw.offer(request.as_bytes()).await;
        stuck.push(raw);
    }
    let content = "y".repeat(100_000);
    for _ in 0..100 {
        let stored = client.say("s", &content).await;
        assert_eq!(socket.frame().await["message"]["id"], stored["id"]);
    }
    eventually(Duration::from_secs(40), "the stuck ones are cut", async || {
        // The client's own idle connections come and go.
        (open_sockets(&server) <= sockets_before + 1).then_some(())
    })
    .await;
    drop(stuck);
}

#[tokio::test]
async fn a_slow_reader_that_goes_on_reading_gets_everything_in_order() {
    let server = Server::start();
    let client = Client::new(&server);
    client.say("s", "first").await;
    let mut raw = Raw::upgrade(&server, "/v1/sessions/s/websocket?after=0", Some(4_096)).await;
    let content = "z".repeat(60_000);
    let mut writers = JoinSet::new();
    for _ in 0..4 {
        let (client, content) = (client.clone(), content.clone());
        writers.spawn(async move {
            for _ in 0..25 {
                client.say("s", &content).await;
            }
        });
    }
    writers.join_all().await;
    // Only now does it begin to read: 6 MB, six times what a queue may hold.
    let log = client.log("s", 0).await;
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 16_384];
    loop {
        let read = raw.stream.read(&mut chunk);
        let count = within(SOON, "more frames", read).await.unwrap();
        assert_ne!(count, 0, "cut off although it reads");
        bytes.extend_from_slice(&chunk[..count]);
        if bytes.len() > 100 * 60_000 && server_frames(&bytes).len() > log.len() {
            break;
        }
    }
    let frames = server_frames(&bytes);
    let texts = frames.iter().filter(|(opcode, _)| *opcode == 1).map(|(_, text)| text);
    let heard: Vec<Value> = texts.map(|text| serde_json::from_slice(text).unwrap()).collect();
    assert_eq!(heard[0]["type"], "ready");
    assert_eq!(&heard[1..], &log[..], "lagging is caught up from the log, without a gap");
}

#[tokio::test]
async fn writers_do_not_wait_for_a_reader() {
    let server = Server::start();
    let client = Client::new(&server);
    client.say("s", "first").await;
    let _stuck = Raw::upgrade(&server, "/v1/sessions/s/websocket", Some(4_096)).await;
    let body = json!({ "role": "user", "content": "w".repeat(100_000) });
    let mut slowest = Duration::ZERO;
    for _ in 0..100 {
        let begun = Instant::now();
        client.post(&messages("s"), &body).await.expect(201);
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_secs(3), "one write took {slowest:?}");
}
