//! kill -9 at random under load, again and again: what was acked or heard is there afterwards (promises P1, P7-P9).
//!
//! `SESSILE_KILLS=500` kills more often than the default, `SESSILE_SEED` repeats the choices of a run.

mod life;

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::Server;
use crate::support::fault::Injector;
use crate::support::fault::files::corrupt_files;
use crate::support::fault::files::session_files;
use crate::support::fault::files::stored_messages;
use crate::support::fault::scratch;
use crate::support::ledger::Entry;
use crate::support::ledger::Heard;
use crate::support::ledger::Logs;
use crate::support::ledger::Outcome;
use crate::support::ledger::Seen;
use crate::support::ledger::assert_none;
use crate::support::ledger::chance::Chance;
use crate::support::ledger::chance::report;
use crate::support::ledger::chance::seed;
use crate::support::ledger::chance::setting;
use crate::support::ledger::check;
use crate::support::ledger::log_seq;
use crate::support::ledger::patience::Watch;
use crate::support::ledger::patience::eventually;
use crate::support::ledger::plain_http::Client;
use crate::support::ledger::writer::Ledger;
use crate::support::ledger::writer::head_of;
use crate::support::ledger::writer::mislisted;
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
    /// Retried, and found to be stored already.
    known: usize,
    frames: usize,
    subscriptions: usize,
}

#[test]
fn no_acked_message_is_lost_doubled_or_moved_by_kill_9() {
    let (start, kills) = (Watch::start(), usize::try_from(setting("SESSILE_KILLS", 60)).unwrap());
    let dir = scratch();
    let mut run = Run::new(dir.path());
    for life in 0..kills {
        if life % LIVES_PER_ERA == 0 {
            run.end_era();
            run.begin_era(life / LIVES_PER_ERA);
        }
        run.live_and_die();
    }
    run.end_era();
    run.check_everything();
    println!(
        "{kills} kills, {} acked, {} retried ({} were stored), {} frames heard in {} subscriptions, {} sessions in {:?}",
        run.ledger.acked(),
        run.retried,
        run.known,
        run.frames,
        run.subscriptions,
        run.ledger.sessions().len(),
        start.read(),
    );
    assert!(run.ledger.acked() > kills * 10, "there was too little load to show anything");
}

impl Run {
    fn new(dir: &Path) -> Self {
        let seed = seed();
        report(&format!("SESSILE_SEED={seed}"));
        Self {
            ledger: Ledger::default(),
            data: dir.join("data"),
            injector: Injector::new(&dir.join("control")),
            chance: Chance::new(seed),
            seed,
            era: 0,
            listeners: Vec::new(),
            retried: 0,
            known: 0,
            frames: 0,
            subscriptions: 0,
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
        let may_retry = |entry: &Entry| !is_chat(entry) && !is_socket(entry);
        let (retried, known) = self.ledger.settle(&mut client, may_retry);
        self.retried += retried;
        self.known += known;
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

    /// Lets the listeners catch up, then checks the sessions of this era.
    fn end_era(&mut self) {
        if self.listeners.is_empty() {
            return;
        }
        let server = self.start();
        self.settle(&server);
        let mut client = Client::new(&server.base);
        for listener in &mut self.listeners {
            let head = head_of(&read_log(&mut client, &listener.session).unwrap());
            life::catch_up(listener, &client, head);
        }
        let mine = |session: &str| session.split('-').nth(1) == Some(&self.era.to_string());
        let entries: Vec<Entry> =
            self.ledger.entries().iter().filter(|e| mine(&e.session)).cloned().collect();
        let sessions: Vec<String> =
            self.ledger.sessions().into_iter().filter(|session| mine(session)).collect();
        let logs = read_logs(&mut client, &sessions);
        assert_none(
            &check(&entries, &self.listeners, &logs),
            &format!("SESSILE_SEED={}", self.seed),
        );
        for heard in self.listeners.iter().flat_map(|seen| &seen.heard) {
            match heard {
                Heard::From(_) => self.subscriptions += 1,
                Heard::Frame(frame) => self.frames += usize::from(log_seq(frame).is_some()),
            }
        }
    }

    /// Reads everything once more from a server that ends in peace, and compares with the files.
    fn check_everything(&mut self) {
        let mut server = self.start();
        self.settle(&server);
        let sessions = self.ledger.sessions();
        let logs = read_logs(&mut Client::new(&server.base), &sessions);
        let entries = self.ledger.entries().clone();
        assert_none(&check(&entries, &[], &logs), &format!("SESSILE_SEED={}", self.seed));
        let wrong = mislisted(&mut Client::new(&server.base), &logs);
        assert_eq!(wrong, None, "SESSILE_SEED={}", self.seed);
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
    let messages = logs
        .values()
        .flatten()
        .filter(|frame| frame["type"] == "message")
        .map(|frame| &frame["message"]);
    let messages = messages.filter(|message| message["role"] == "user");
    let known: HashMap<&str, u64> = messages
        .filter_map(|message| Some((message["content"].as_str()?, message["seq"].as_u64()?)))
        .collect();
    let corrupt = corrupt_files(data);
    assert!(corrupt.is_empty(), "{corrupt:#?}");
    let mut compared = 0;
    for path in session_files(data) {
        for (seq, content) in stored_messages(&path) {
            assert_eq!(known.get(content.as_str()), Some(&seq), "{content} in {}", path.display());
            compared += 1;
        }
    }
    report(&format!("{compared} messages in files compared"));
}
