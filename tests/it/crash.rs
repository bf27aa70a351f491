//! kill -9 at random under load, again and again: what was acked or heard is there afterwards (promises P1, P7-P9).
//!
//! `SESSILE_KILLS=500` kills more often than the default, `SESSILE_SEED` repeats the choices of a run.

mod life;

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use rusqlite::Connection;

use crate::support::Server;
use crate::support::fault::Injector;
use crate::support::fault::scratch;
use crate::support::ledger::Entry;
use crate::support::ledger::Heard;
use crate::support::ledger::Logs;
use crate::support::ledger::Outcome;
use crate::support::ledger::Seen;
use crate::support::ledger::assert_none;
use crate::support::ledger::chance::Chance;
use crate::support::ledger::chance::seed;
use crate::support::ledger::chance::setting;
use crate::support::ledger::check;
use crate::support::ledger::log_seq;
use crate::support::ledger::plain_http::Client;
use crate::support::ledger::writer::Ledger;
use crate::support::ledger::writer::eventually;
use crate::support::ledger::writer::read_log;
use crate::support::ledger::writer::read_logs;
use crate::support::server::Options;
use life::Way;

/// How many lives share the same hot sessions.
const LIVES_PER_ERA: usize = 10;

/// A run: the data that survives the kills, and what its clients know.
struct Run {
    ledger: Ledger,
    data: PathBuf,
    injector: Injector,
    chance: Chance,
    seed: u64,
    era: usize,
    listeners: Vec<Seen>,
    retried: usize,
}

#[test]
fn no_acked_message_is_lost_doubled_or_moved_by_kill_9() {
    let (start, kills) = (Instant::now(), usize::try_from(setting("SESSILE_KILLS", 60)).unwrap());
    let dir = scratch();
    let mut run = Run::new(dir.path());
    let mut frames = 0;
    for life in 0..kills {
        if life % LIVES_PER_ERA == 0 {
            frames += run.end_era();
            run.begin_era(life / LIVES_PER_ERA);
        }
        run.live_and_die();
    }
    frames += run.end_era();
    run.check_everything();
    println!(
        "{kills} kills, {} acked, {} retried, {frames} frames heard, {} sessions in {:?}",
        run.ledger.acked(),
        run.retried,
        run.ledger.sessions().len(),
        start.elapsed(),
    );
    assert!(run.ledger.acked() > kills * 10, "there was too little load to show anything");
}

impl Run {
    fn new(dir: &Path) -> Self {
        let seed = seed();
        println!("SESSILE_SEED={seed}");
        Self {
            ledger: Ledger::default(),
            data: dir.join("data"),
            injector: Injector::new(&dir.join("control")),
            chance: Chance::new(seed),
            seed,
            era: 0,
            listeners: Vec::new(),
            retried: 0,
        }
    }

    /// A server whose delays are others in each life, so that kills hit all of its states.
    fn start(&mut self) -> Server {
        self.injector.slow_syncs(u64::try_from(*self.chance.of(&[0, 200, 1_000, 3_000])).unwrap());
        let options = Options::default()
            .set("SESSILE__STORAGE__MIN_FREE_BYTES", 0)
            .set("SESSILE__STORAGE__COMMIT_DELAY_MS", self.chance.of(&[1, 20, 200, 1_000]))
            .set("SESSILE__STORAGE__FILE_DELAY_MS", self.chance.of(&[0, 50, 2_000]))
            .set("SESSILE__ACTOR__SLEEP_AFTER_MS", self.chance.of(&[30, 100, 10_000]));
        self.injector.on(options, &self.data).start_in(&self.data)
    }

    /// New hot sessions and new listeners on them.
    fn begin_era(&mut self, era: usize) {
        self.era = era;
        let server = self.start();
        let mut client = Client::new(&server.base);
        for session in self.hot().chain(self.chats()).chain([self.talk()]) {
            let status = self.ledger.post(&mut client, &session, &mut self.chance);
            assert_eq!(status, 201, "a healthy server refused a message to {session}");
        }
        let listened = self.hot().take(3).chain(self.chats().take(1));
        self.listeners = listened
            .flat_map(|session| [Way::Socket, Way::Stream].map(|way| (way, session.clone())))
            .map(|(way, session)| Seen { who: format!("{way:?}"), session, heard: Vec::new() })
            .collect();
    }

    /// Starts, retries what is unknown, bears load for a while, is killed.
    fn live_and_die(&mut self) {
        let mut server = self.start();
        self.settle(&server);
        let load = Duration::from_millis(u64::try_from(self.chance.between(50, 600)).unwrap());
        life::bear(self, &mut server, load);
    }

    fn settle(&mut self, server: &Server) {
        let mut client = Client::new(&server.base);
        self.retried += self.ledger.settle(&mut client, |entry| !is_chat(entry) && !is_socket(entry));
        // A repeat of what was acked long ago gets the same answer.
        let count = self.ledger.entries().len();
        for _ in 0..count.min(5) {
            let number = self.chance.below(count);
            let entry = self.ledger.entry(number);
            if matches!(entry.outcome, Outcome::Acked { seq: Some(_), .. }) && !is_socket(&entry) {
                eventually("a repeat to be answered", || {
                    matches!(self.ledger.send(&mut client, number), 200 | 201).then_some(())
                });
            }
        }
    }

    /// Lets the listeners catch up, then checks the sessions of this era; how many frames were heard.
    fn end_era(&mut self) -> usize {
        if self.listeners.is_empty() {
            return 0;
        }
        let server = self.start();
        self.settle(&server);
        let mut client = Client::new(&server.base);
        for listener in &mut self.listeners {
            let head = read_log(&mut client, &listener.session).unwrap().len();
            life::catch_up(listener, &client, u64::try_from(head).unwrap());
        }
        let mine = |session: &str| session.split('-').nth(1) == Some(&self.era.to_string());
        let entries: Vec<Entry> = self.ledger.entries().iter().filter(|e| mine(&e.session)).cloned().collect();
        let sessions: Vec<String> = self.ledger.sessions().into_iter().filter(|session| mine(session)).collect();
        let logs = read_logs(&mut client, &sessions);
        assert_none(&check(&entries, &self.listeners, &logs), &format!("SESSILE_SEED={}", self.seed));
        let frames = self.listeners.iter().flat_map(|seen| &seen.heard);
        frames.filter(|heard| matches!(heard, Heard::Frame(frame) if log_seq(frame).is_some())).count()
    }

    /// Reads everything once more from a server that ends in peace, and compares with the files.
    fn check_everything(&mut self) {
        let mut server = self.start();
        self.settle(&server);
        let sessions = self.ledger.sessions();
        let logs = read_logs(&mut Client::new(&server.base), &sessions);
        let entries = self.ledger.entries().clone();
        assert_none(&check(&entries, &[], &logs), &format!("SESSILE_SEED={}", self.seed));
        server.signal("TERM");
        server.wait();
        check_files(&self.data, &logs);
    }

    fn hot(&self) -> impl Iterator<Item = String> + use<> {
        let era = self.era;
        (0..4).map(move |number| format!("hot-{era}-{number}"))
    }

    /// The session that is written to over sockets only.
    fn talk(&self) -> String {
        format!("talk-{}-0", self.era)
    }

    fn chats(&self) -> impl Iterator<Item = String> + use<> {
        let era = self.era;
        (0..2).map(move |number| format!("chat-{era}-{number}"))
    }
}

fn is_chat(entry: &Entry) -> bool {
    entry.content.starts_with('!')
}

/// Sent over a socket: its key counts there only.
fn is_socket(entry: &Entry) -> bool {
    entry.session.starts_with("talk-")
}

/// No session file holds a message that the log does not have.
fn check_files(data: &Path, logs: &Logs) {
    let known: std::collections::HashMap<&str, u64> = logs
        .values()
        .flatten()
        .filter(|frame| frame["type"] == "message" && frame["message"]["role"] == "user")
        .filter_map(|frame| Some((frame["message"]["content"].as_str()?, frame["message"]["seq"].as_u64()?)))
        .collect();
    let mut compared = 0;
    for folder in std::fs::read_dir(data.join("sessions")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "db") {
                continue;
            }
            let file = Connection::open(&path).unwrap();
            let said: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(said, "ok", "{}", path.display());
            let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'message'";
            if file.query_row(tables, [], |row| row.get::<_, i64>(0)).unwrap() == 0 {
                continue; // A project or a workspace.
            }
            let mut rows = file.prepare("SELECT seq, content FROM message WHERE role = 'user'").unwrap();
            let rows = rows.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))).unwrap();
            for row in rows {
                let (seq, content) = row.unwrap();
                assert_eq!(known.get(content.as_str()), Some(&u64::try_from(seq).unwrap()), "{}", path.display());
                compared += 1;
            }
        }
    }
    println!("{compared} messages in files compared");
}
