//! Reconnects at random points under load: every subscriber sees every event once, and the same bytes as all others.
//!
//! `SESSILE_RECONNECTS` sets how many (1,000), `SESSILE_SEED` where they happen.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::messages;
use crate::support::client::segment;
use crate::support::client::seq;
use crate::support::client::session;
use crate::support::socket::Socket;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use tokio::task::JoinSet;

/// How many read each way, in each session.
const READERS: usize = 5;

/// The sessions under load.
const SESSIONS: [&str; 2] = ["left", "right"];

/// A setting of this run, from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var_os(name).map_or(default, |value| value.to_str().unwrap().parse().unwrap())
}

/// Repeatable randomness (`SplitMix64`).
struct Dice(u64);

impl Dice {
    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What all readers of one session have seen, by seq.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<u64, Value>>>);

impl Seen {
    /// Notes a frame; fails when somebody saw another one under this seq.
    fn note(&self, frame: Value) {
        let mut seen = self.0.lock().unwrap();
        if let Some(known) = seen.get(&seq(&frame)) {
            assert_eq!(&frame, known, "one seq, one frame");
        } else {
            seen.insert(seq(&frame), frame);
        }
    }
}

/// One subscriber over all its connections.
struct Reader {
    client: Client,
    id: &'static str,
    last: u64,
    seen: Seen,
    dice: Dice,
}

impl Reader {
    /// Checks that `frame` is the next one, and takes it.
    fn take(&mut self, frame: Value) {
        assert_eq!(seq(&frame), self.last + 1, "no gap and no repeat: {frame}");
        self.last += 1;
        self.seen.note(frame);
    }

    /// Where to go on: at the end of what was read or, now and then, some way before it.
    fn resume(&mut self) -> u64 {
        if self.dice.below(8) == 0 {
            self.last -= self.dice.below(self.last.min(200) + 1);
        }
        self.last
    }

    /// Connects, reads some frames, goes away without a word; `count` times.
    async fn over_socket(mut self, server: &Server, count: u64) {
        for _ in 0..count {
            let after = self.resume();
            let (mut socket, ready) = Socket::after(server, self.id, after).await;
            assert_eq!(ready["after"], after, "{ready}");
            for _ in 0..self.dice.below(30) {
                let frame = socket.frame().await;
                self.take(frame);
            }
        }
        let head = head(&self.client, self.id).await;
        let (mut socket, _) = Socket::after(server, self.id, self.last).await;
        while self.last < head {
            let frame = socket.frame().await;
            self.take(frame);
        }
    }

    /// The same over server-sent events.
    async fn over_stream(mut self, count: u64) {
        for _ in 0..count {
            let after = self.resume().to_string();
            let mut stream = if self.dice.below(2) == 0 {
                let request = self.client.get(&format!("{}/events", session(self.id)));
                request.with("last-event-id", &after).stream().await
            } else {
                let path = format!("{}/events?after={after}", session(self.id));
                self.client.get(&path).stream().await
            };
            for _ in 0..self.dice.below(30) {
                let frame = stream.frame().await;
                self.take(frame);
            }
        }
        let head = head(&self.client, self.id).await;
        let path = format!("{}/events?after={}", session(self.id), self.last);
        let mut stream = self.client.get(&path).stream().await;
        while self.last < head {
            let frame = stream.frame().await;
            self.take(frame);
        }
    }
}

/// The `lastSeq` of a session.
async fn head(client: &Client, id: &str) -> u64 {
    client.get(&session(id)).await.expect(200)["lastSeq"].as_u64().unwrap()
}

/// Keeps a session busy until `done`: messages, parts, and replies that grow.
async fn load(client: Client, id: &'static str, done: Arc<AtomicBool>) {
    let mut round = 0_u64;
    while !done.load(Ordering::Relaxed) {
        round += 1;
        let stored = client.say(id, &format!("message {round}: ünï 漢字")).await;
        let path = format!("{}/{}/parts", messages(id), stored["id"].as_str().unwrap());
        let parts = json!([{ "type": "text", "content": format!("part {round}") }]);
        client.put(&path, &json!({ "parts": parts })).await.expect(200);
        let question = format!("naïve {round} 🙂 e\u{301}\n!slow 5 2\nthe end of 漢字 {round}");
        client.chat(id, &question).await;
    }
}

#[tokio::test]
async fn reconnects_at_random_points_lose_and_repeat_nothing() {
    let reconnects = setting("SESSILE_RECONNECTS", 1_000);
    let seed = setting("SESSILE_SEED", 20_260_523);
    println!("SESSILE_SEED={seed} SESSILE_RECONNECTS={reconnects}");
    let server = Arc::new(Server::start());
    let client = Client::new(&server);
    let done = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    let mut readers = JoinSet::new();
    let mut all_seen = Vec::new();
    let each = reconnects.div_ceil((2 * READERS * SESSIONS.len()) as u64);
    for (number, id) in SESSIONS.into_iter().enumerate() {
        client.say(id, "first").await;
        writers.spawn(load(client.clone(), id, Arc::clone(&done)));
        let seen = Seen::default();
        for reader in 0..2 * READERS {
            let dice = Dice(seed ^ ((number * 100 + reader) as u64) << 32);
            let reader_of =
                Reader { client: client.clone(), id, last: 0, seen: seen.clone(), dice };
            if reader % 2 == 0 {
                let server = Arc::clone(&server);
                readers.spawn(async move { reader_of.over_socket(&server, each).await });
            } else {
                readers.spawn(reader_of.over_stream(each));
            }
        }
        all_seen.push((id, seen));
    }
    readers.join_all().await;
    done.store(true, Ordering::Relaxed);
    writers.join_all().await;

    for (id, seen) in all_seen {
        let log = client.log(id, 0).await;
        let seen = seen.0.lock().unwrap().clone();
        assert!(!seen.is_empty() && seen.len() <= log.len());
        for (frame, (at, known)) in log.iter().zip(&seen) {
            assert_eq!((seq(frame), frame), (*at, known), "what was seen is what is stored");
        }
        check_texts(&client, id, &log).await;
    }
}

/// Rebuilds every reply from its deltas and compares it with what is stored, byte by byte.
async fn check_texts(client: &Client, id: &str, log: &[Value]) {
    let mut texts: BTreeMap<&str, BTreeMap<u64, String>> = BTreeMap::new();
    for frame in log.iter().filter(|frame| frame["type"] == "part-delta") {
        let parts = texts.entry(frame["messageId"].as_str().unwrap()).or_default();
        let text = parts.entry(frame["part"].as_u64().unwrap()).or_default();
        assert_eq!(frame["offset"], text.len(), "{frame}");
        text.push_str(frame["delta"].as_str().unwrap());
    }
    assert!(!texts.is_empty(), "there were replies");
    for (message, parts) in &texts {
        let path = format!("{}/{}", messages(id), segment(message));
        let stored = client.get(&path).await.expect(200);
        let whole: Vec<&str> = parts.values().map(String::as_str).collect();
        assert_eq!(stored["content"], whole.join("\n"));
        for (at, text) in parts {
            let part = &stored["parts"][usize::try_from(*at).unwrap()];
            assert_eq!(*part, json!({ "type": "text", "content": text, "state": "complete" }));
        }
        let last = log.iter().rfind(|frame| frame["message"]["id"] == *message).unwrap();
        assert_eq!(last["message"], stored, "the frame that ended it");
    }
}

#[tokio::test]
async fn a_snapshot_and_the_stream_after_it_make_the_whole() {
    let server = Server::start();
    let client = Client::new(&server);
    client.say("s", "first").await;
    let done = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for _ in 0..4 {
        let (client, done) = (client.clone(), Arc::clone(&done));
        writers.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                client.say("s", "x").await;
            }
        });
    }
    for _ in 0..50 {
        let state = client.get(&session("s")).await.expect(200);
        let (last, count) = (state["lastSeq"].as_u64().unwrap(), &state["messageCount"]);
        assert_eq!(count, last, "a session is read at one point: {state}");
        let (mut socket, _) = Socket::after(&server, "s", last).await;
        assert_eq!(seq(&socket.frame().await), last + 1);
        let (mut live, ready) = Socket::live(&server, "s").await;
        assert_eq!(seq(&live.frame().await), ready["lastSeq"].as_u64().unwrap() + 1);
    }
    done.store(true, Ordering::Relaxed);
    writers.join_all().await;
}
