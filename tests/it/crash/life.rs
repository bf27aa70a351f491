//! One life of the server under load: writers, turns and listeners that work until it is killed.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio_tungstenite::tungstenite;
use tungstenite::Message;
use tungstenite::WebSocket;

use super::Run;
use crate::support::Server;
use crate::support::ledger::Entry;
use crate::support::ledger::Heard;
use crate::support::ledger::Outcome;
use crate::support::ledger::Seen;
use crate::support::ledger::chance::Chance;
use crate::support::ledger::log_seq;
use crate::support::ledger::patience::eventually;
use crate::support::ledger::patience::pause;
use crate::support::ledger::plain_http::Client;
use crate::support::ledger::plain_http::Events;
use crate::support::ledger::plain_http::next_frame;
use crate::support::ledger::writer::Ledger;

/// How a listener hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Socket,
    Stream,
}

/// Bears load for `load`, then is killed in the middle of it.
pub fn bear(run: &mut Run, server: &mut Server, load: Duration) {
    let base = server.base.clone();
    let (hot, chats): (Vec<String>, Vec<String>) = (run.hot().collect(), run.chats().collect());
    let (era, talked) = (run.era, run.talk());
    let ledger = &run.ledger;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (mut chance, mut client, hot) = (run.chance.fork(), Client::new(&base), &hot);
            scope.spawn(move || {
                // No answer: the server is gone.
                while ledger.post(&mut client, &choose(hot, era, &mut chance), &mut chance) != 0 {}
            });
        }
        let (mut chance, client) = (run.chance.fork(), Client::new(&base));
        scope.spawn(move || talk(&client, &talked, ledger, &mut chance));
        for session in &chats {
            let (mut chance, client) = (run.chance.fork(), Client::new(&base));
            scope.spawn(move || while chat(&client, session, ledger, &mut chance).is_some() {});
        }
        for listener in &mut run.listeners {
            let (mut chance, client) = (run.chance.fork(), Client::new(&base));
            scope.spawn(move || {
                // Now and then it goes away by itself.
                let mut patience = || u64::try_from(chance.between(1, 150)).unwrap();
                let mut until = last_seq(listener) + patience();
                while listen(listener, &client, |last| last < until).is_some() {
                    until += patience();
                }
            });
        }
        // How long there is load is one of the random choices; nothing is waited for.
        pause(load);
        server.kill();
    });
}

/// Has `listener` hear all until `head`.
pub fn catch_up(listener: &mut Seen, client: &Client, head: u64) {
    eventually("a listener to catch up", || {
        listen(listener, client, |last| last < head);
        (last_seq(listener) >= head).then_some(())
    });
}

/// Often a hot session, often one of many cold ones, sometimes a new one.
fn choose(hot: &[String], era: usize, chance: &mut Chance) -> String {
    match chance.below(100) {
        0..60 => chance.of(hot).clone(),
        60..95 => format!("cold-{era}-{}", chance.below(60)),
        _ => format!("new-{era}-{:08x}", chance.word() >> 32),
    }
}

/// Writes over a socket and waits for each ack, until the socket breaks; first again what the life before left unknown.
fn talk(client: &Client, session: &str, ledger: &Ledger, chance: &mut Chance) -> Option<()> {
    let mut socket = client.socket(&format!("/v1/sessions/{session}/websocket?after=0")).ok()?;
    let unknown =
        |entry: &Entry| entry.session == session && matches!(entry.outcome, Outcome::Unknown);
    let left: Vec<usize> = ledger
        .entries()
        .iter()
        .enumerate()
        .filter(|(_, entry)| unknown(entry))
        .map(|(number, _)| number)
        .collect();
    let mut left = left.into_iter();
    loop {
        let number = left.next().unwrap_or_else(|| ledger.invoke(session, "", chance));
        let entry = ledger.entry(number);
        let frame = json!({"type": "send", "clientId": entry.key, "role": "user", "content": entry.content});
        socket.send(Message::text(frame.to_string())).ok()?;
        let answer = answer_to(&mut socket, &entry.key)?;
        let result = &answer["result"];
        let id = result["id"].as_str().map(str::to_owned);
        let seq = result["seq"].as_u64().or_else(|| answer["seq"].as_u64());
        match answer["type"].as_str() {
            Some("ack") => ledger.answer(number, Outcome::Acked { id, seq }),
            // Too much or too early: it stays unknown and is retried in the next life.
            _ => {
                assert!(
                    answer["error"]["status"].as_u64().is_none_or(|status| status >= 429),
                    "{answer}"
                );
                return None;
            }
        }
    }
}

fn answer_to(socket: &mut WebSocket<TcpStream>, key: &str) -> Option<Value> {
    loop {
        let frame = next_frame(socket)?;
        if frame["clientId"] == key {
            return Some(frame);
        }
    }
}

/// Runs one echo turn and hears its answer; `None` if there was none.
fn chat(client: &Client, session: &str, ledger: &Ledger, chance: &mut Chance) -> Option<()> {
    let number = ledger.invoke(session, "!slow 20 3\n", chance);
    let body = json!({"content": ledger.entry(number).content});
    let mut events = client.stream("POST", &format!("/chat/{session}"), Some(&body)).ok()?;
    match events.status {
        200 => {
            while let Some(event) = events.next() {
                if event["type"] == "ack" {
                    ledger.answer(number, Outcome::Acked { id: None, seq: None });
                }
            }
        }
        // The turn of the life before may still be there for a moment.
        400..=499 => ledger.answer(number, Outcome::Refused),
        _ => {}
    }
    Some(())
}

fn last_seq(listener: &Seen) -> u64 {
    let frames = listener.heard.iter().rev().filter_map(|heard| match heard {
        Heard::Frame(frame) => {
            log_seq(frame).or_else(|| frame["seq"].as_u64().filter(|_| frame["type"] == "reset"))
        }
        Heard::From(_) => None,
    });
    frames.into_iter().next().unwrap_or(0)
}

/// Hears from where it was cut off, until `more` says no or the server is gone.
fn listen(listener: &mut Seen, client: &Client, more: impl Fn(u64) -> bool) -> Option<()> {
    let mut last = last_seq(listener);
    let way = if listener.who == format!("{:?}", Way::Socket) { Way::Socket } else { Way::Stream };
    let mut ear = Ear::open(way, client, &listener.session, last)?;
    listener.heard.push(Heard::From(last));
    while more(last) {
        let frame = ear.next()?;
        last = log_seq(&frame).unwrap_or(last);
        listener.heard.push(Heard::Frame(frame));
    }
    Some(())
}

/// A subscription.
enum Ear {
    Socket(WebSocket<TcpStream>),
    Stream(Events),
}

impl Ear {
    fn open(way: Way, client: &Client, session: &str, after: u64) -> Option<Self> {
        let path = format!("/v1/sessions/{session}");
        match way {
            Way::Socket => {
                client.socket(&format!("{path}/websocket?after={after}")).ok().map(Self::Socket)
            }
            Way::Stream => client
                .stream("GET", &format!("{path}/events?after={after}"), None)
                .ok()
                .map(Self::Stream),
        }
    }

    fn next(&mut self) -> Option<Value> {
        match self {
            Self::Socket(socket) => next_frame(socket),
            Self::Stream(events) => events.next(),
        }
    }
}
