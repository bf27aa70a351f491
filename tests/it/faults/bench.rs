//! A server on a faulty disk, its clients and what they know; the phases in which faults are injected.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use tempfile::TempDir;

use crate::support::Server;
use crate::support::fault::Fault;
use crate::support::fault::Injector;
use crate::support::fault::files::asleep_since;
use crate::support::fault::files::session_files;
use crate::support::fault::files::written_last;
use crate::support::fault::scratch;
use crate::support::ledger::assert_none;
use crate::support::ledger::chance::Chance;
use crate::support::ledger::chance::seed;
use crate::support::ledger::check;
use crate::support::ledger::patience::eventually;
use crate::support::ledger::patience::within;
use crate::support::ledger::plain_http::Client;
use crate::support::ledger::writer::Ledger;
use crate::support::ledger::writer::mislisted;
use crate::support::ledger::writer::read_logs;
use crate::support::server::Options;

/// How long background work gets to run into an armed fault before the next step; not waited for when it has.
const BACKGROUND: Duration = Duration::from_millis(150);

/// A phase in a session's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The start of the server and the wake of sessions whose files are behind the journal.
    Open,
    Append,
    /// Checkpoint and close.
    Sleep,
    /// The first messages of new sessions, and their files.
    Create,
    /// What a start does beside the traffic when nobody asks for anything, and the end of the journal of before.
    CatchUp,
    /// A clean stop.
    Stop,
}

impl Phase {
    /// Whether the server may be gone when the fault has hit.
    fn ends(self) -> bool {
        matches!(self, Self::Open | Self::CatchUp | Self::Stop)
    }

    /// Which files' operations count.
    pub fn path(self) -> &'static str {
        match self {
            Self::Open | Self::Create | Self::CatchUp | Self::Stop => "",
            Self::Append => "journal/",
            Self::Sleep => "sessions/",
        }
    }

    fn settings(self) -> [(&'static str, u64); 3] {
        let [commit, file, sleep] = [
            "SESSILE__STORAGE__COMMIT_DELAY_MS",
            "SESSILE__STORAGE__FILE_DELAY_MS",
            "SESSILE__ACTOR__SLEEP_AFTER_MS",
        ];
        match self {
            Self::Open => [(commit, 1_000), (file, 0), (sleep, 10_000)],
            Self::Append => [(commit, 20), (file, 100), (sleep, 10_000)],
            Self::Sleep => [(commit, 1), (file, 0), (sleep, 20)],
            Self::Create => [(commit, 1), (file, 0), (sleep, 100)],
            // Some files hold everything when the server is killed, some do not.
            Self::CatchUp => [(commit, 1_000), (file, 0), (sleep, 50)],
            Self::Stop => [(commit, 1_000), (file, 3_000), (sleep, 10_000)],
        }
    }
}

/// A server on a faulty disk.
pub struct Bench {
    pub injector: Injector,
    pub ledger: Ledger,
    pub chance: Chance,
    phase: Phase,
    more_settings: Vec<(&'static str, u64)>,
    server: Option<Server>,
    client: Option<Client>,
    data: PathBuf,
    created: usize,
    seed: u64,
    _dir: TempDir,
}

impl Bench {
    /// A healthy server with a few sessions.
    pub fn new(phase: Phase) -> Self {
        Self::with(phase, &[])
    }

    /// The same with other settings than those of the phase.
    pub fn with(phase: Phase, settings: &[(&'static str, u64)]) -> Self {
        let (dir, seed) = (scratch(), seed());
        let mut bench = Self {
            injector: Injector::new(&dir.path().join("control")),
            ledger: Ledger::default(),
            chance: Chance::new(seed),
            phase,
            more_settings: settings.to_vec(),
            server: None,
            client: None,
            data: dir.path().join("data"),
            created: 0,
            seed,
            _dir: dir,
        };
        bench.restart();
        for session in ["append-0", "append-1", "append-2"] {
            assert_eq!(bench.post(session), 201, "a healthy server refused a message");
        }
        bench
    }

    /// The client of the server that runs now.
    pub fn client(&mut self) -> &mut Client {
        self.client.as_mut().unwrap()
    }

    /// Posts a message: the status, 0 without an answer.
    pub fn post(&mut self, session: &str) -> u16 {
        let client = self.client.as_mut().unwrap();
        self.ledger.post(client, session, &mut self.chance)
    }

    /// Several clients post at once, so that one write of the journal has several records, all of one size.
    pub fn crowd(&mut self) {
        let Some(server) = &self.server else { return };
        let (base, ledger) = (&server.base, &self.ledger);
        std::thread::scope(|scope| {
            for session in ["append-0", "append-1", "append-2", "append-3"] {
                let mut chance = self.chance.fork();
                scope.spawn(move || {
                    let mut client = Client::new(base);
                    for _ in 0..2 {
                        let number = ledger.invoke_padded(session, "", 20, &mut chance);
                        ledger.send(&mut client, number);
                    }
                });
            }
        });
    }

    /// One write of that size is taken, then the server dies: nothing of what failed before may stand behind it.
    pub fn one_more_and_die(&mut self, session: &str) {
        let number = self.ledger.invoke_padded(session, "", 20, &mut self.chance);
        eventually("a yes on a healthy disk", || {
            let status = self.ledger.send(self.client.as_mut().unwrap(), number);
            matches!(status, 200 | 201).then_some(())
        });
        self.restart();
    }

    /// What a read of a session's messages is answered with.
    pub fn status_of_messages(&mut self, session: &str) -> u16 {
        self.client().get(&format!("/v1/sessions/{session}/messages")).unwrap().status
    }

    /// Kills the server and starts another on its data.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        if let Err(log) = self.try_start() {
            panic!(
                "SESSILE_SEED={}: the server does not start on a healthy disk:\n{log}",
                self.seed
            );
        }
    }

    /// Brings the phase to where the fault is to hit; the disk is healthy meanwhile.
    pub fn prepare(&mut self) {
        self.injector.disarm();
        if self.phase.ends() {
            if self.server.is_none() {
                self.restart();
            }
            // What the journal holds and the files do not: these posts, and a session that has no file.
            self.created += 1;
            let fresh = format!("open-{}", self.created);
            for session in ["append-0", "append-1", &fresh] {
                // A server that has borne an error may refuse once more before it is well again.
                eventually("a yes on a healthy disk", || (self.post(session) == 201).then_some(()));
            }
            if self.phase != Phase::Stop {
                self.stop();
            }
        }
    }

    /// Does what the phase is about, until the fault has hit or there is nothing more to hit.
    pub fn exercise(&mut self) {
        match self.phase {
            Phase::Open => self.open(),
            Phase::Append => self.append(),
            Phase::Sleep => self.sleep(),
            Phase::Create => self.create(),
            Phase::CatchUp => self.catch_up(),
            Phase::Stop => self.end(),
        }
    }

    /// Panics if the server is gone: errors are to be borne. One that refused to start is started again.
    #[track_caller]
    pub fn assert_alive(&mut self, fault: &Fault<'_>) {
        if self.server.is_none() {
            assert!(self.phase.ends());
            return self.restart();
        }
        let alive = self.client().get("/livez").or_else(|_| self.client().get("/livez"));
        assert!(
            alive.is_ok_and(|answer| answer.status == 200),
            "the server died of {fault:?}:\n{}",
            self.log()
        );
    }

    /// Retries what is unknown, then compares all sessions with the ledger.
    #[track_caller]
    pub fn check(&mut self, context: &str) {
        let client = self.client.as_mut().unwrap();
        self.ledger.settle(client, |_| true);
        let entries = self.ledger.entries().clone();
        let logs = read_logs(client, &self.ledger.sessions());
        assert_none(&check(&entries, &[], &logs), &format!("SESSILE_SEED={} {context}", self.seed));
        let wrong = mislisted(client, &logs);
        assert_eq!(wrong, None, "SESSILE_SEED={} {context}", self.seed);
    }

    /// Makes a session and waits for its file: the file's name without its ending.
    pub fn file_of_a_new_session(&mut self, session: &str) -> String {
        let known = eventually("the files of the sessions so far", || {
            let files = self.files();
            (files.len() >= self.ledger.sessions().len()).then_some(files)
        });
        assert_eq!(self.post(session), 201);
        let file = eventually("the file of a new session", || {
            self.files().difference(&known).next().cloned()
        });
        file.strip_suffix(".db").unwrap().to_owned()
    }

    /// Gives sessions that were just written to time to go to sleep, as far as they can.
    pub fn pause_until_asleep(&self, before: &BTreeMap<PathBuf, SystemTime>, sessions: usize) {
        self.background(|bench| asleep_since(bench.server.as_ref().unwrap(), before, sessions));
    }

    /// When each session file was last written to.
    pub fn written_last(&self) -> BTreeMap<PathBuf, SystemTime> {
        written_last(&self.data)
    }

    /// The names of the session files.
    fn files(&self) -> BTreeSet<String> {
        session_files(&self.data)
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }

    fn stop(&mut self) {
        self.client = None;
        self.server = None;
    }

    fn try_start(&mut self) -> Result<(), String> {
        let options = Options::default().set("SESSILE__STORAGE__MIN_FREE_BYTES", 0);
        let settings = self.phase.settings().into_iter().chain(self.more_settings.iter().copied());
        let options = settings.fold(options, |options, (name, value)| options.set(name, value));
        let server = self.injector.on(options, &self.data).try_start_in(&self.data)?;
        self.client = Some(Client::new(&server.base));
        self.server = Some(server);
        Ok(())
    }

    fn hit(&self) -> bool {
        self.injector.fired() > 0
    }

    /// Looks on until the fault has hit, `done` or the time is over.
    fn background(&self, done: impl Fn(&Self) -> bool) {
        within(BACKGROUND, || (self.hit() || done(self)).then_some(()));
    }

    fn open(&mut self) {
        if self.try_start().is_err() {
            return;
        }
        for session in self.ledger.sessions() {
            let path = format!("/v1/sessions/{session}/events?after=0");
            let status = self.client().get(&path).map_or(0, |answer| answer.status);
            assert!(matches!(status, 0 | 200 | 500..), "{session} woke to {status}");
        }
        self.background(|_| false);
    }

    fn catch_up(&mut self) {
        if self.try_start().is_ok() {
            self.background(|bench| bench.log().contains("are up to date after"));
            self.background(|_| false);
        }
    }

    fn end(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.signal("TERM");
            server.wait();
        }
        self.client = None;
    }

    fn append(&mut self) {
        for number in 0..200 {
            if self.hit() {
                return;
            }
            match number % 10 {
                9 => self.crowd(),
                _ => drop(self.post(&format!("append-{}", number % 3))),
            }
        }
    }

    fn sleep(&mut self) {
        for _ in 0..6 {
            let before = self.written_last();
            for session in ["append-0", "append-1", "append-2"] {
                self.post(session);
            }
            self.pause_until_asleep(&before, 3);
            if self.hit() {
                return;
            }
        }
    }

    fn create(&mut self) {
        for _ in 0..12 {
            if self.hit() {
                return;
            }
            self.created += 1;
            let (session, before) = (format!("create-{}", self.created), self.files().len());
            self.post(&session);
            self.background(|bench| bench.files().len() > before);
        }
    }
}
