//! The workloads whose traces are cut: each stresses another part of the way to the disk.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::support::Server;
use crate::support::fault::EIO;
use crate::support::fault::ENOSPC;
use crate::support::fault::Fault;
use crate::support::fault::Harm;
use crate::support::fault::Injector;
use crate::support::fault::SYNCS;
use crate::support::fault::WRITES;
use crate::support::fault::conversation::Exchange;
use crate::support::fault::conversation::exchanges;
use crate::support::fault::files::asleep_since;
use crate::support::fault::files::session_files;
use crate::support::fault::files::written_last;
use crate::support::fault::recorded;
use crate::support::fault::scratch;
use crate::support::fault::trace::Op;
use crate::support::fault::trace::Trace;
use crate::support::ledger::CANARY;
use crate::support::ledger::chance::Chance;
use crate::support::ledger::patience::eventually;
use crate::support::ledger::plain_http::Client;
use crate::support::ledger::plain_http::next_frame;
use crate::support::ledger::writer::Ledger;
use crate::support::server::Options;

/// A workload: settings, which sessions have listeners, and what is done.
pub struct Workload {
    name: &'static str,
    settings: &'static [(&'static str, u64)],
    listened: &'static [&'static str],
    run: fn(&mut Stage, &mut Chance),
}

/// A recorded workload.
pub struct Recording {
    pub name: &'static str,
    pub trace: Trace,
    pub exchanges: Vec<Exchange>,
    settings: &'static [(&'static str, u64)],
}

/// All workloads.
pub const ALL: [Workload; 9] = [
    Workload {
        name: "append",
        settings: &[("COMMIT_DELAY_MS", 30), ("FILE_DELAY_MS", 100)],
        listened: &["append-0", "append-1"],
        run: append,
    },
    Workload {
        name: "rotate",
        settings: &[("COMMIT_DELAY_MS", 50), ("FILE_DELAY_MS", 200)],
        listened: &["rotate-0"],
        run: rotate,
    },
    Workload {
        name: "create",
        settings: &[("COMMIT_DELAY_MS", 5), ("FILE_DELAY_MS", 0)],
        listened: &[],
        run: create,
    },
    Workload {
        name: "sleep",
        settings: &[("COMMIT_DELAY_MS", 5), ("FILE_DELAY_MS", 0), ("SLEEP_AFTER_MS", 20)],
        listened: &[],
        run: sleep,
    },
    Workload {
        name: "parts",
        settings: &[("COMMIT_DELAY_MS", 20), ("FILE_DELAY_MS", 50)],
        listened: &["parts-0", "parts-1"],
        run: parts,
    },
    Workload {
        name: "delete",
        settings: &[("COMMIT_DELAY_MS", 10), ("FILE_DELAY_MS", 0), ("SLEEP_AFTER_MS", 100)],
        listened: &[],
        run: delete,
    },
    Workload {
        name: "turn",
        settings: &[("COMMIT_DELAY_MS", 20), ("FILE_DELAY_MS", 50)],
        listened: &["turn-0", "turn-1"],
        run: turn,
    },
    Workload {
        name: "kill",
        settings: &[("COMMIT_DELAY_MS", 50), ("FILE_DELAY_MS", 50), ("SLEEP_AFTER_MS", 100)],
        listened: &[],
        run: kill,
    },
    Workload {
        name: "errors",
        settings: &[("COMMIT_DELAY_MS", 20), ("FILE_DELAY_MS", 50)],
        listened: &["errors-0"],
        run: errors,
    },
];

/// A running server on a recording disk.
struct Stage {
    server: Server,
    ledger: Ledger,
    data: PathBuf,
    trace: PathBuf,
    settings: &'static [(&'static str, u64)],
    injector: Injector,
}

/// Runs `workload` and reads its trace.
pub fn record(workload: &Workload, chance: &mut Chance) -> Recording {
    let dir = scratch();
    let (data, trace) = (dir.path().join("data"), dir.path().join("trace"));
    let injector = Injector::new(&dir.path().join("control"));
    injector.slow_syncs(300);
    let server = start(workload.settings, &injector, &data, &trace, 0);
    let settings = workload.settings;
    let mut stage =
        Stage { server, ledger: Ledger::default(), data, trace: trace.clone(), settings, injector };
    let mut client = stage.client();
    for session in workload.listened {
        stage.ledger.post(&mut client, session, chance);
    }
    std::thread::scope(|scope| {
        for (number, session) in workload.listened.iter().enumerate() {
            let client = stage.client();
            scope.spawn(move || listen(&client, session, number));
        }
        (workload.run)(&mut stage, chance);
        // The listeners hear it and end.
        stage.server.kill();
    });
    let trace = Trace::load(&trace);
    Recording {
        name: workload.name,
        exchanges: exchanges(&trace),
        trace,
        settings: workload.settings,
    }
}

impl Recording {
    /// The settings of the recorded server, for those that recover.
    pub fn options(&self) -> Options {
        options(self.settings)
    }

    /// How many writes there were to files that were opened below `folder`.
    pub fn writes_to(&self, folder: &str) -> usize {
        let mut files = BTreeSet::new();
        let mut writes = 0;
        for op in &self.trace.ops {
            match op {
                Op::Open { file, path, .. } if path.starts_with(folder) => {
                    files.insert(*file);
                }
                Op::Write { file, .. } => writes += usize::from(files.contains(file)),
                _ => {}
            }
        }
        writes
    }

    /// Every session that somebody wrote to.
    pub fn sessions(&self) -> Vec<String> {
        let writes = self.exchanges.iter().filter(|exchange| exchange.method != "GET");
        let mut names: Vec<String> =
            writes.filter_map(Exchange::session).map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Stage {
    fn client(&self) -> Client {
        Client::new(&self.server.base)
    }

    /// As many writers as there are `counts` post to sessions `name-0` to `name-{sessions - 1}`.
    fn post(&self, chance: &mut Chance, name: &str, sessions: usize, counts: [usize; 4]) {
        std::thread::scope(|scope| {
            for count in counts {
                let mut chance = chance.fork();
                scope.spawn(move || {
                    let mut client = self.client();
                    for _ in 0..count {
                        let session = format!("{name}-{}", chance.below(sessions));
                        self.ledger.post(&mut client, &session, &mut chance);
                    }
                });
            }
        });
    }

    /// Waits until every session that was written to, but for those of `deleted`, has a file.
    fn files(&self, deleted: usize) {
        let wanted = self.ledger.sessions().len() - deleted;
        eventually("the files of the sessions", || {
            (session_files(&self.data).count() >= wanted).then_some(())
        });
    }
}

fn options(settings: &[(&str, u64)]) -> Options {
    let start = Options::default().set("SESSILE__STORAGE__MIN_FREE_BYTES", 0);
    settings.iter().fold(start, |options, (name, value)| {
        let section = if *name == "SLEEP_AFTER_MS" { "ACTOR" } else { "STORAGE" };
        options.set(&format!("SESSILE__{section}__{name}"), value)
    })
}

fn start(
    settings: &[(&str, u64)],
    injector: &Injector,
    data: &Path,
    trace: &Path,
    number: u32,
) -> Server {
    let options = recorded(options(settings), data, trace, number);
    injector.on(options, data).start_in(data)
}

/// Hears the events of a session until the server is gone; by turns over a socket and over server-sent events.
fn listen(client: &Client, session: &str, number: usize) {
    if number.is_multiple_of(2) {
        let mut socket =
            client.socket(&format!("/v1/sessions/{session}/websocket?after=0")).unwrap();
        while next_frame(&mut socket).is_some() {}
    } else {
        let mut events =
            client.stream("GET", &format!("/v1/sessions/{session}/events?after=0"), None).unwrap();
        while events.next().is_some() {}
    }
}

/// Writers over HTTP and over a socket, and somebody who reads all the time.
fn append(stage: &mut Stage, chance: &mut Chance) {
    let stage = &*stage;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut talking = chance.fork();
        scope.spawn(move || talk(stage, "append-0", &mut talking));
        scope.spawn(|| {
            let mut client = stage.client();
            while !done.load(Ordering::Relaxed) {
                for leaf in ["messages", "events?after=0"] {
                    client.get(&format!("/v1/sessions/append-0/{leaf}")).unwrap();
                }
            }
        });
        for _ in 0..2 {
            stage.post(chance, "append", 20, [30, 30, 30, 30]);
            stage.files(0);
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// New sessions, one wave after the other.
fn create(stage: &mut Stage, chance: &mut Chance) {
    for wave in 0..4 {
        stage.post(chance, &format!("create-{wave}"), 12, [9, 9, 9, 0]);
        stage.files(0);
    }
}

/// Sends messages over a socket, each when the one before is acked.
fn talk(stage: &Stage, session: &str, chance: &mut Chance) {
    let mut socket =
        stage.client().socket(&format!("/v1/sessions/{session}/websocket?after=0")).unwrap();
    for _ in 0..25 {
        let entry = stage.ledger.entry(stage.ledger.invoke(session, "", chance));
        let frame = json!({"type": "send", "clientId": entry.key, "role": "user", "content": entry.content});
        socket.send(Message::text(frame.to_string())).unwrap();
        while next_frame(&mut socket).unwrap()["clientId"] != entry.key {}
    }
}

/// Messages of 8 KiB until the first segments are full and retired, then some more.
fn rotate(stage: &mut Stage, chance: &mut Chance) {
    let stage = &*stage;
    let segments = || -> BTreeSet<OsString> {
        let files = std::fs::read_dir(stage.data.join("journal")).unwrap();
        files.map(|file| file.unwrap().file_name()).collect()
    };
    let first = segments();
    for _ in 0..2 {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let mut chance = chance.fork();
                scope.spawn(move || {
                    let (mut client, filling) = (stage.client(), "f".repeat(8_000));
                    for _ in 0..150 {
                        let session = format!("rotate-{}", chance.below(6));
                        let number = stage.ledger.invoke(&session, &filling, &mut chance);
                        stage.ledger.send(&mut client, number);
                    }
                });
            }
        });
        eventually("the first segment to be retired", || {
            (!first.is_subset(&segments())).then_some(())
        });
    }
    stage.post(chance, "rotate", 6, [20, 20, 0, 0]);
}

/// All sessions write, sleep, wake and write again.
fn sleep(stage: &mut Stage, chance: &mut Chance) {
    let mut client = stage.client();
    for _ in 0..5 {
        let before = written_last(&stage.data);
        for number in (0..16).map(|number| number % 8) {
            stage.ledger.post(&mut client, &format!("sleep-{number}"), chance);
        }
        eventually("all sessions to sleep", || {
            asleep_since(&stage.server, &before, 8).then_some(())
        });
    }
}

/// Parts of a few messages are replaced again and again, while others write.
fn parts(stage: &mut Stage, chance: &mut Chance) {
    let mut client = stage.client();
    for session in (0..4).map(|number| format!("parts-{number}")) {
        let number = stage.ledger.invoke(&session, "", chance);
        let body = json!({"role": "user", "content": stage.ledger.entry(number).content});
        let messages = format!("/v1/sessions/{session}/messages");
        let answer = client.call("POST", &messages, None, Some(&body)).unwrap();
        let path = format!("{messages}/{}/parts", answer.body["id"].as_str().unwrap());
        for _ in 0..15 {
            let text = format!("{CANARY}{:016x}", chance.word());
            let body = json!({"parts": [{"type": "text", "content": text, "state": "complete"}]});
            let answer = client.call("PUT", &path, None, Some(&body)).unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            stage.ledger.post(&mut client, &session, chance);
        }
    }
    stage.files(0);
}

/// Every second session is deleted, while others write.
fn delete(stage: &mut Stage, chance: &mut Chance) {
    let stage = &*stage;
    stage.post(chance, "delete", 16, [30, 30, 0, 0]);
    stage.files(0);
    std::thread::scope(|scope| {
        let mut writing = chance.fork();
        scope.spawn(move || stage.post(&mut writing, "delete-other", 4, [30, 30, 0, 0]));
        let mut client = stage.client();
        for number in (0..16).step_by(2) {
            let answer = client
                .call("DELETE", &format!("/v1/sessions/delete-{number}"), None, None)
                .unwrap();
            assert!(matches!(answer.status, 200 | 202 | 204 | 404), "{answer:?}");
        }
    });
}

/// Echo turns stream in several sessions at once.
fn turn(stage: &mut Stage, chance: &mut Chance) {
    let stage = &*stage;
    for _ in 0..3 {
        std::thread::scope(|scope| {
            for session in (0..4).map(|number| format!("turn-{number}")) {
                let mut chance = chance.fork();
                scope.spawn(move || {
                    let number = stage.ledger.invoke(&session, "!slow 30 5\n", &mut chance);
                    let body = json!({"content": stage.ledger.entry(number).content});
                    let path = format!("/chat/{session}");
                    let mut events = stage.client().stream("POST", &path, Some(&body)).unwrap();
                    while events.next().is_some_and(|event| event["type"] != "done") {}
                });
            }
        });
        stage.files(0);
    }
}

/// The server is killed and recovers, twice; the power may go while it does.
fn kill(stage: &mut Stage, chance: &mut Chance) {
    for number in 1..=2 {
        let enough = stage.ledger.acked() + 60;
        let mut writing = chance.fork();
        // By its own hand, in a write: a signal from here could hit between a write and its place in the trace, and the next
        // process would find what the trace does not know.
        let harm = *chance.of(&[Harm::DeathWithin, Harm::DeathAfter]);
        let nth = u64::try_from(chance.between(1, 8)).unwrap();
        let death = Fault { harm, classes: WRITES, path: "", nth, for_ever: false };
        std::thread::scope(|scope| {
            let stage = &*stage;
            scope.spawn(move || stage.post(&mut writing, "kill", 10, [150, 150, 0, 0]));
            eventually("some messages to be acked", || {
                (stage.ledger.acked() >= enough).then_some(())
            });
            stage.injector.arm(&death);
        });
        stage.server.wait();
        stage.injector.disarm();
        stage.server = start(stage.settings, &stage.injector, &stage.data, &stage.trace, number);
    }
    stage.files(0);
    stage.post(chance, "kill", 10, [20, 20, 0, 0]);
}

/// Writes and syncs fail, once or for a while; what was refused may come back or not, what is acked later stays.
fn errors(stage: &mut Stage, chance: &mut Chance) {
    for _ in 0..10 {
        let harm = *chance.of(&[Harm::Error(EIO), Harm::TornError(EIO), Harm::TornError(ENOSPC)]);
        let classes = *chance.of(&[SYNCS, SYNCS, WRITES | SYNCS]);
        let nth = u64::try_from(chance.between(1, 8)).unwrap();
        let for_ever = chance.percent(60);
        stage.injector.arm(&Fault { harm, classes, path: "journal/", nth, for_ever });
        stage.post(chance, "errors", 10, [4, 4, 4, 4]);
        stage.injector.disarm();
        let mut client = stage.client();
        eventually("a yes on a healthy disk", || {
            (stage.ledger.post(&mut client, "errors-0", chance) == 201).then_some(())
        });
        stage.post(chance, "errors", 10, [3, 3, 0, 0]);
    }
}
