//! A node in one thread: its clock, its disk and its order of things are chosen by chance.
//!
//! What the shell does at once and on threads, this does when chance says so: records are written late, not at all, or
//! written and not told; files are opened and closed late; the process dies in between. The journal, the files and the
//! catalogue are the real ones.

use std::any::Any;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::actor::Engine;
use crate::actor::Options;
use crate::actor::core::Core;
use crate::actor::input::Input;
use crate::actor::input::Now;
use crate::actor::job::Job;
use crate::actor::job::Letters;
use crate::actor::job::Waiting;
use crate::actor::job::Wake;
use crate::actor::output::Output;
use crate::actor::session::TurnTask;
use crate::actor::shared::Shared;
use crate::actor::simulation::chance::Chance;
use crate::actor::simulation::truth::Truth;
use crate::actor::wake;
use crate::base::Key;
use crate::base::clock;
use crate::base::ids::KeyHash;
use crate::base::limits::Limits;
use crate::storage;
use crate::storage::counter::TIMERS_STAY;
use crate::storage::journal::AppendError;
use crate::storage::journal::Encoded;
use crate::storage::journal::Hooks;
use crate::storage::journal::Inline;
use crate::storage::journal::Journal;
use crate::storage::journal::Record;
use crate::storage::journal::Refused;
use crate::storage::kinds;
use crate::wire::ask::Error;
use crate::wire::ask::Refusal;

/// Something that is wrong on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Records are called durable that were not written.
    LostBatch,
    /// Records are called durable before they are written.
    ShownTooEarly,
    /// The books say that a file holds what only the journal holds.
    RowsBehindBooks,
    /// A timer that was carried out is not taken away.
    TimerStays,
    /// What an actor tells another comes in the wrong order.
    LettersOutOfOrder,
}

/// Letters under way: from whom, to whom, and what is heard of them.
type Courier = (Key, Key, oneshot::Receiver<Result<u64, Refusal>>);

/// Where the clock begins.
const BEGIN_MS: i64 = 1_700_000_000_000;

/// A process.
struct Process {
    shared: Arc<Shared>,
    inline: Inline,
    core: Core,
}

/// A node, whose processes come and go.
pub(super) struct World {
    pub chance: Chance,
    dir: TempDir,
    awake_max: usize,
    fault: Option<Fault>,
    begun: Instant,
    elapsed: Duration,
    /// `None` only while one has gone and the next has not come.
    process: Option<Process>,
    /// What is to be done, and was not yet.
    pending: VecDeque<Output>,
    /// What the journal has done and not told.
    told_later: Vec<Input>,
    pub truth: BTreeMap<KeyHash, Truth>,
    /// Letters whose senders wait.
    couriers: Vec<Courier>,
    /// Records that were called durable before they are written.
    too_late: Vec<Vec<Encoded>>,
    is_calm: bool,
    /// Turns that are being written.
    pub turns: Vec<(Key, Box<TurnTask>)>,
}

fn options(dir: &TempDir, awake_max: usize) -> Options {
    Options {
        data: dir.path().join("data"),
        shards: 1,
        awake_max,
        sleep_after: Duration::from_secs(10),
        commit_delay: Duration::from_secs(1),
        file_delay: Duration::from_secs(2),
        deltas_kept_ms: 5 * 60 * 1_000,
        checkpoint_bytes: 2_000,
        min_free_bytes: Some(0),
        segment_bytes: 16 << 10,
        journal_bytes: 1 << 30,
        accept_damage: false,
        engine: Engine::default(),
        chat_model: None,
        limits: Limits::default(),
    }
}

fn open(dir: &TempDir, awake_max: usize, now: Now) -> Process {
    let mut inline = None;
    let shared = loop {
        let opened = Shared::open(options(dir, awake_max), |options| {
            let (journal, made) = Journal::open_inline(options)?;
            inline = Some(made);
            Ok((journal, Vec::new()))
        });
        match opened {
            // A program that another test is just starting has a copy of the lock until it runs.
            Err(storage::Error::Locked { .. }) => std::thread::yield_now(),
            opened => break Arc::new(opened.expect("a folder of this process").0),
        }
    };
    let flush = Arc::downgrade(&shared);
    shared.journal.set_hooks(Hooks {
        flush: Box::new(move || flush.upgrade().is_some_and(|s| s.catalogue.flush().is_ok())),
        urge: Box::new(|_| {}),
    });
    let count = AtomicU64::new(0);
    // Later processes make other ids.
    let epoch = shared.journal.epoch();
    let new_id = move || format!("made-{epoch}-{}", count.fetch_add(1, Ordering::Relaxed));
    let core = Core::new(Arc::clone(&shared), now, Box::new(new_id));
    Process { shared, inline: inline.expect("it was opened"), core }
}

impl World {
    pub(super) fn new(seed: u64, fault: Option<Fault>) -> Self {
        // Few, so that they put each other to sleep.
        Self::made(seed, fault, 3)
    }

    /// One where `awake_max` actors may be awake at once.
    pub(super) fn with_room(seed: u64, awake_max: usize) -> Self {
        Self::made(seed, None, awake_max)
    }

    fn made(seed: u64, fault: Option<Fault>, awake_max: usize) -> Self {
        TIMERS_STAY.set(fault == Some(Fault::TimerStays));
        // In memory, if there is such a place: it is written to all the time, and nothing has to last.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.expect("a folder");
        let begun = clock::instant();
        let process = open(&dir, awake_max, Now { instant: begun, unix_ms: BEGIN_MS });
        Self {
            chance: Chance::of(seed),
            dir,
            awake_max,
            fault,
            begun,
            elapsed: Duration::ZERO,
            process: Some(process),
            pending: VecDeque::new(),
            told_later: Vec::new(),
            truth: BTreeMap::new(),
            couriers: Vec::new(),
            too_late: Vec::new(),
            is_calm: false,
            turns: Vec::new(),
        }
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("there is one between steps")
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.process.as_ref().expect("there is one between steps").shared)
    }

    pub(super) fn now(&self) -> Now {
        let ms = i64::try_from(self.elapsed.as_millis()).expect("not that long");
        Now { instant: self.begun + self.elapsed, unix_ms: BEGIN_MS + ms }
    }

    pub(super) fn truth(&mut self, key: &Key) -> &mut Truth {
        self.truth.entry(key.hash()).or_insert_with(|| Truth::new(key.clone()))
    }

    /// Puts a request into the mailbox of its actor.
    pub(super) fn deliver(&mut self, key: &Key, waiting: Box<dyn Waiting>, bytes: usize) {
        let job = Job { waiting, at: self.now().instant, bytes };
        self.step(Input::Deliver(key.clone(), job));
    }

    fn step(&mut self, input: Input) {
        let now = self.now();
        let out = self.process().core.step(now, input);
        self.pending.extend(out);
    }

    /// Whether there is nothing to do until time passes.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.come_back();
        self.pending.is_empty() && self.told_later.is_empty()
    }

    /// Lets time pass, and wakes whoever has something due then.
    pub(super) fn pass(&mut self, time: Duration) {
        self.elapsed += time;
        self.step(Input::Tick);
        if self.shared().catalogue.flush().is_ok() {
            for key in self.shared().catalogue.due(self.now().unix_ms, 100).unwrap_or_default() {
                self.deliver(&key, Wake::untold(), 0);
            }
        }
    }

    /// Brings back what receivers say of letters.
    fn come_back(&mut self) {
        let mut at = 0;
        while at < self.couriers.len() {
            let heard = match self.couriers[at].2.try_recv() {
                Err(TryRecvError::Empty) => {
                    at += 1;
                    continue;
                }
                Err(TryRecvError::Closed) => Err(Refusal::Failed(Error::Reset)),
                Ok(heard) => heard,
            };
            let (from, to, _) = self.couriers.swap_remove(at);
            self.told_later.push(Input::Heard(from.hash(), to, heard));
        }
    }

    /// Does something that is to be done: records in their order, the rest in any.
    pub(super) fn work(&mut self) -> Result<(), String> {
        self.come_back();
        if let Some(records) = self.too_late.pop() {
            return self.write(&records);
        }
        if !self.told_later.is_empty() && (self.pending.is_empty() || self.chance.once_in(2)) {
            let at = self.chance.index(self.told_later.len());
            let input = self.told_later.swap_remove(at);
            self.step(input);
            return Ok(());
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        let any = self.chance.index(self.pending.len());
        let is_append = |output: &Output| matches!(output, Output::Append(..));
        let at = match self.pending.get(any).is_some_and(is_append) {
            true => self.pending.iter().position(is_append).unwrap_or(any),
            false => any,
        };
        match self.pending.remove(at) {
            Some(output) => self.carry_out(output),
            None => Ok(()),
        }
    }

    fn carry_out(&mut self, output: Output) -> Result<(), String> {
        match output {
            Output::Turn => self.step(Input::Turn),
            Output::Append(records, hashes) => return self.append(records, hashes),
            Output::Open(key) => {
                let found = wake::open(&self.shared(), &key);
                let epoch = self.shared().journal.epoch();
                self.step(Input::Opened(key.hash(), found, epoch));
            }
            Output::Lend(key, work, file) => {
                let result = work.carry_out(&self.shared(), &key, file);
                self.step(Input::Returned(key.hash(), result));
            }
            Output::Move(key) => {
                let path = self.shared().folder.file(&key);
                // The file may have gone meanwhile.
                drop((kinds::files(key.kind()).move_log)(&path));
                self.step(Input::Moved(key.hash()));
            }
            Output::Tell(from, to, mut letters) => {
                if self.fault == Some(Fault::LettersOutOfOrder) {
                    letters.reverse();
                }
                // It may come twice, and whether it came may never be known.
                if !self.is_calm && self.chance.once_in(8) {
                    let (reply, _) = oneshot::channel();
                    self.deliver(&to, Letters::new(from.clone(), letters.clone(), reply), 64);
                }
                if !self.is_calm && self.chance.once_in(8) {
                    let lost = Err(Refusal::Failed(Error::Reset));
                    self.told_later.push(Input::Heard(from.hash(), to, lost));
                    return Ok(());
                }
                let (reply, heard) = oneshot::channel();
                self.deliver(&to, Letters::new(from.clone(), letters, reply), 64);
                self.couriers.push((from, to, heard));
            }
            Output::Discard(key, why) => return Err(format!("{key:?} cannot be read: {why}")),
            Output::Spawn(key, task) => {
                let task: Box<dyn Any> = task;
                let task = task.downcast::<TurnTask>().map_err(|_| "another task")?;
                self.turns.push((key, task));
            }
        }
        Ok(())
    }

    fn append(&mut self, records: Vec<Encoded>, hashes: Vec<KeyHash>) -> Result<(), String> {
        if self.fault == Some(Fault::LostBatch) && self.chance.once_in(8) {
            self.step(Input::Appended(hashes, Ok(())));
            return Ok(());
        }
        if self.fault == Some(Fault::ShownTooEarly) && self.chance.once_in(8) {
            self.too_late.push(records);
            self.step(Input::Appended(hashes, Ok(())));
            return Ok(());
        }
        let refused = [AppendError::Unknown, AppendError::Full, AppendError::Busy];
        if !self.is_calm && self.chance.once_in(12) {
            let error = refused[self.chance.index(refused.len())];
            // What nobody knows may have happened.
            if error == AppendError::Unknown && self.chance.once_in(2) {
                self.write(&records)?;
            }
            self.told_later.push(Input::Appended(hashes, Err(Refused { durable: 0, error })));
            return Ok(());
        }
        // Of a group that did not fit, the first may be durable and the others not.
        if !self.is_calm && records.len() > 1 && self.chance.once_in(8) {
            let durable = 1 + self.chance.index(records.len() - 1);
            self.write(&records[..durable])?;
            let refused = Refused { durable, error: AppendError::Busy };
            self.told_later.push(Input::Appended(hashes, Err(refused)));
            return Ok(());
        }
        self.write(&records)?;
        if self.fault == Some(Fault::RowsBehindBooks) && self.chance.once_in(8) {
            self.shared().journal.ledger().applied(hashes[0], u64::MAX);
        }
        self.told_later.push(Input::Appended(hashes, Ok(())));
        Ok(())
    }

    /// Makes `records` durable.
    fn write(&mut self, records: &[Encoded]) -> Result<(), String> {
        self.process().inline.write(records).map_err(|error| error.to_string())?;
        for encoded in records {
            let record = Record::decode(&encoded.payload).map_err(|error| error.to_string())?;
            self.truth(&record.key.clone()).take(&record)?;
        }
        Ok(())
    }

    /// A task of a turn is gone, whatever became of it.
    pub(super) fn leave(&mut self, at: usize) {
        let (key, task) = self.turns.swap_remove(at);
        drop(task);
        self.step(Input::TaskLeft(key.hash()));
    }

    /// How many actors something is kept of.
    pub(super) fn cells(&mut self) -> usize {
        self.process().core.cells.len()
    }

    /// Writes the list and removes what nobody needs of the journal.
    pub(super) fn retire(&mut self) {
        self.process().inline.retire();
    }

    pub(super) fn set_disk_full(&mut self, full: bool) {
        self.shared().disk_full.store(full, Ordering::Relaxed);
    }

    /// From now on nothing goes wrong.
    pub(super) fn calm(&mut self) {
        self.is_calm = true;
        self.set_disk_full(false);
    }

    pub(super) fn note_all(&mut self) {
        self.step(Input::NoteAll);
    }

    pub(super) fn urge(&mut self, key: &Key) {
        self.step(Input::Urge(key.clone()));
    }

    /// Another process begins where the last one ended.
    pub(super) fn restart(&mut self) {
        self.process = None;
        self.process = Some(open(&self.dir, self.awake_max, self.now()));
    }

    /// The process dies, and another one begins. What was with the journal may have been written before.
    pub(super) fn crash(&mut self) -> Result<(), String> {
        let pending = std::mem::take(&mut self.pending);
        for output in pending {
            match output {
                Output::Append(records, _) if self.chance.once_in(2) => self.write(&records)?,
                Output::Lend(key, work, file) if self.chance.once_in(2) => {
                    drop(work.carry_out(&self.shared(), &key, file));
                }
                _ => {}
            }
        }
        self.told_later.clear();
        self.couriers.clear();
        self.turns.clear();
        if self.chance.once_in(2) {
            drop(self.shared().catalogue.flush());
        }
        // What is in memory goes with the process, and so does its hold on the folder.
        self.restart();
        let shared = self.shared();
        wake::name_all(&shared);
        // As every start does, beside the traffic.
        let unfinished = shared.catalogue.unfinished().map_err(|error| error.to_string())?;
        for key in unfinished.into_iter().chain(shared.journal.ledger().oldest()) {
            self.deliver(&key, Wake::untold(), 0);
        }
        Ok(())
    }
}
