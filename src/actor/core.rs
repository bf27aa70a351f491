//! What a shard does, without a thread, a clock or a runtime: something comes in, something is to be done.
//!
//! The shell (`shard.rs`) carries out what comes out and brings back what came of it. So what follows on what is the same
//! in a test with its own clock, its own order and its own disk (`simulation/`).

use std::collections::HashMap;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::actor::cell::Cell;
use crate::actor::cell::State;
use crate::actor::host::Outcome;
use crate::actor::input::Input;
use crate::actor::input::Now;
use crate::actor::job::Job;
use crate::actor::listing::note;
use crate::actor::output::Output;
use crate::actor::rules::Rules;
use crate::actor::shared::Shared;
use crate::actor::work::Work;
use crate::base::Classify;
use crate::base::Key;
use crate::base::Kind;
use crate::base::ids::KeyHash;
use crate::base::limits::Limit;
use crate::storage;
use crate::storage::describe;
use crate::storage::file::AnyFile;
use crate::storage::journal::AppendError;
use crate::storage::journal::Encoded;
use crate::storage::journal::Refused;
use crate::wire::ask::Error;
use crate::wire::ask::Refusal;
use crate::wire::feed::Frame;

/// Submissions of a shard that are with the journal at once: one is written while the next is made.
const SUBMISSIONS_MAX: usize = 2;
/// Events and bytes at which an actor is committed without waiting.
const COMMIT_EVENTS: usize = 1_024;
const COMMIT_BYTES: usize = 512 << 10;

/// Actors that are committed at most behind each submission: what comes next waits for them.
const COMMITS_PER_GATE: usize = 2;

/// How cells are found: by what nobody outside can choose, but in tests always alike.
#[cfg(not(test))]
type Hashing = foldhash::fast::RandomState;
#[cfg(test)]
type Hashing = foldhash::fast::FixedState;

/// Makes ids that nobody has.
pub(super) type NewId = Box<dyn Fn() -> String + Send>;

/// A thread's worth of actors.
pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    pub(super) cells: HashMap<KeyHash, Cell, Hashing>,
    pub(super) ready: Vec<KeyHash>,
    /// Cells that may not wake before others sleep.
    pub(super) waiting: VecDeque<KeyHash>,
    /// Actors with something to commit, about in the order in which that began.
    pub(super) uncommitted: VecDeque<(Instant, KeyHash)>,
    /// When was last looked for cells that nobody needs.
    pub(super) swept: Instant,
    turn_is_due: bool,
    submissions: usize,
    /// Cells that are awake or on their way.
    pub(super) awake: usize,
    pub(super) awake_max: usize,
    pub(super) now: Now,
    pub(super) out: Vec<Output>,
    new_id: NewId,
}

impl Core {
    pub(super) fn new(shared: Arc<Shared>, now: Now, new_id: NewId) -> Self {
        let awake_max = (shared.options.awake_max / shared.options.shards).max(1);
        Self {
            shared,
            cells: HashMap::default(),
            ready: Vec::new(),
            waiting: VecDeque::new(),
            uncommitted: VecDeque::new(),
            swept: now.instant,
            turn_is_due: false,
            submissions: 0,
            awake: 0,
            awake_max,
            now,
            out: Vec::new(),
            new_id,
        }
    }

    /// Takes `input` in; what is to be done about it.
    pub(super) fn step(&mut self, now: Now, input: Input) -> Vec<Output> {
        self.now = now;
        match input {
            Input::Deliver(key, job) => self.deliver(key, job),
            Input::Publish(key, text) => {
                // It is stored nowhere, so it wakes nobody.
                if let Some(cell) = self.cells.get_mut(&key.hash()) {
                    cell.hub.publish(&Frame::passing(text));
                }
            }
            Input::Turn => self.turn(),
            Input::Appended(hashes, result) => {
                self.submissions -= 1;
                match result {
                    Ok(()) => self.durable(&hashes),
                    Err(Refused { durable, error }) => {
                        let (stored, lost) = hashes.split_at(durable.min(hashes.len()));
                        self.durable(stored);
                        self.refused(lost, error);
                    }
                }
            }
            Input::Opened(hash, found, epoch) => self.opened(hash, found, epoch),
            Input::Slow(hash, since) => self.slow(hash, since),
            Input::Returned(hash, result) => self.returned(hash, result),
            Input::Moved(hash) => self.moved(hash),
            Input::Discarded(hash, why, done) => self.discarded(hash, why, done),
            Input::Heard(hash, to, heard) => self.heard(hash, &to, heard),
            Input::TaskLeft(hash) => self.task_left(hash),
            Input::Urge(key) => self.urge(key),
            Input::NoteAll => self.note_all(),
            Input::Commit => {
                let hashes: Vec<_> = self.cells.keys().copied().collect();
                hashes.into_iter().for_each(|hash| self.commit(hash));
            }
            Input::Interrupt => self.interrupt(),
            Input::Tick => self.tick(),
        }
        self.schedule();
        std::mem::take(&mut self.out)
    }

    fn deliver(&mut self, key: Key, job: Job) {
        let (hash, now) = (key.hash(), self.now.instant);
        let cell = self.cells.entry(hash).or_insert_with(|| Cell::new(key, now));
        cell.push(job, &self.shared.options.limits);
        self.make_ready(hash);
    }

    pub(super) fn make_ready(&mut self, hash: KeyHash) {
        if self.cells.get(&hash).is_some_and(Cell::is_ready) {
            self.ready.push(hash);
        }
    }

    /// A turn comes once everything that has come in is delivered, so that it is one batch.
    fn schedule(&mut self) {
        if !self.turn_is_due && self.submissions < SUBMISSIONS_MAX && !self.ready.is_empty() {
            self.turn_is_due = true;
            self.out.push(Output::Turn);
        }
    }

    fn urge(&mut self, key: Key) {
        let hash = key.hash();
        match self.cells.get_mut(&hash).map(|cell| &cell.state) {
            // One to which nothing has happened has no file to write.
            Some(State::Awake(file)) if !file.log().exists() => {}
            Some(State::Awake(file)) if file.is_in_memory() => self.lend(hash, Work::Write),
            Some(State::Awake(_)) => self.commit(hash),
            _ => {
                let now = self.now.instant;
                self.cells.entry(hash).or_insert_with(|| Cell::new(key, now)).wake_up(now);
                self.make_ready(hash);
            }
        }
    }

    fn note_all(&mut self) {
        for cell in self.cells.values() {
            if let State::Awake(file) = &cell.state
                && file.open_transaction().is_some()
                && !cell.host.is_in_flight()
            {
                note(&self.shared, &**file, cell.deliveries.next_ms(self.now));
            }
        }
    }

    fn task_left(&mut self, hash: KeyHash) {
        let now = self.now.instant;
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        if !cell.host.is_in_flight() {
            // If what it was for is not over, it could not say why.
            cell.attend(false, now);
            self.make_ready(hash);
        }
    }

    fn interrupt(&mut self) {
        let works = |(hash, cell): (&KeyHash, &Cell)| cell.works().then_some(*hash);
        let working: Vec<_> = self.cells.iter().filter_map(works).collect();
        for hash in working {
            if let Some(cell) = self.cells.get_mut(&hash) {
                // Behind what its task posted already.
                if let Some(waiting) = cell.host.interrupt() {
                    cell.push_last(waiting, self.now.instant);
                }
            }
            self.make_ready(hash);
        }
    }

    /// Decide and apply for every actor that has something to do, then one submission to the journal.
    fn turn(&mut self) {
        self.turn_is_due = false;
        let now = self.now.instant;
        let (mut records, mut hashes) = (Vec::new(), Vec::new());
        for hash in std::mem::take(&mut self.ready) {
            let Some(cell) = self.cells.get_mut(&hash).filter(|cell| cell.is_ready()) else {
                continue;
            };
            cell.note_use(now);
            cell.drop_old(&self.shared.options.limits, now);
            match &cell.state {
                State::Awake(_) => {
                    if let Some(record) = self.make_batch(hash) {
                        records.push(record);
                        hashes.push(hash);
                    }
                }
                State::Asleep => self.wake(hash),
                State::Quarantined { until, why, .. } => {
                    if now < *until {
                        let why = Arc::clone(why);
                        cell.refuse_all_but_ends(&Refusal::Failed(Error::Quarantined(why)));
                        self.discard(hash);
                    } else {
                        self.wake(hash);
                    }
                }
                State::Gone => {
                    cell.refuse_all(&Refusal::Ended);
                    self.forget_if_empty(hash);
                }
                State::Waking | State::Away { .. } => {}
            }
        }
        if !records.is_empty() {
            self.submissions += 1;
            self.out.push(Output::Append(records, hashes));
        }
    }

    fn make_batch(&mut self, hash: KeyHash) -> Option<Encoded> {
        let cell = self.cells.get_mut(&hash)?;
        let rules = Rules {
            limits: &self.shared.options.limits,
            now_ms: self.now.unix_ms,
            new_id: &*self.new_id,
            epoch: cell.epoch,
            begins_turns: !self.shared.draining.load(Ordering::Acquire),
            refuses: if self.shared.disk_full.load(Ordering::Relaxed) {
                Some(Error::DiskFull)
            } else {
                cell.full.then_some(Error::FileFull)
            },
        };
        cell.note_open(self.now.instant);
        let State::Awake(file) = &mut cell.state else { return None };
        let make = || cell.host.make(&mut **file, &mut cell.hub, &mut cell.jobs, &rules);
        let made = catch_unwind(AssertUnwindSafe(make));
        cell.recount();
        match made {
            Ok(Outcome::Nothing) => {
                if !cell.jobs.is_empty() {
                    self.ready.push(hash);
                }
                None
            }
            Ok(Outcome::Record(encoded)) => Some(encoded),
            Ok(Outcome::Failed(error)) => {
                self.failed(hash, &error);
                None
            }
            Err(_) => {
                self.drop_file(hash);
                if let Some(cell) = self.cells.get_mut(&hash) {
                    cell.quarantine(
                        "a request made it panic; see the log".into(),
                        self.now.instant,
                    );
                    self.discard(hash);
                }
                None
            }
        }
    }

    /// The gate, actor by actor: answer, publish, start tasks; then commit if enough has gathered.
    fn durable(&mut self, hashes: &[KeyHash]) {
        let is_overdue = self.is_overdue();
        for &hash in hashes {
            let Some(cell) = self.cells.get_mut(&hash) else { continue };
            let Some((tasks, flags)) = cell.host.release(&mut cell.hub) else { continue };
            for task in tasks {
                self.out.push(Output::Spawn(cell.key.clone(), task));
            }
            if flags.ends {
                self.end(hash);
                self.make_ready(hash);
                continue;
            }
            if matches!(cell.state, State::Asleep) {
                // Its file failed meanwhile: what the batch says may be due some time.
                cell.wake_up(self.now.instant);
            }
            cell.attend(false, self.now.instant);
            if let State::Awake(file) = &cell.state {
                if flags.creates {
                    note(&self.shared, &**file, None);
                }
                let due = file.open_transaction();
                if flags.redacts
                    || due.is_some_and(|o| {
                        is_overdue(cell.open_since)
                            || o.events >= COMMIT_EVENTS
                            || o.bytes >= COMMIT_BYTES
                    })
                {
                    self.commit(hash);
                    self.checkpoint(hash);
                } else if file.is_in_memory() && file.log().last_seq >= file_due(hash) {
                    self.lend(hash, Work::Write);
                }
            }
            if flags.redacts {
                self.shared.journal.seal();
            }
            self.await_commit(hash);
            self.tell(hash);
            self.make_ready(hash);
        }
        self.commit_some(COMMITS_PER_GATE);
    }

    /// Forgets the file and everything in it that is not committed. What that was may be due some time, or others may have
    /// heard it already, and only the file says so: it is opened again.
    fn forget_uncommitted(&mut self, hash: KeyHash) {
        let Some(cell) = self.cells.get(&hash) else { return };
        let is_open = |file: &dyn AnyFile| file.open_transaction().is_some();
        let had_more = matches!(&cell.state, State::Awake(file) if is_open(&**file));
        self.drop_file(hash);
        let is_pending = self.shared.journal.ledger().is_pending(hash);
        if let Some(cell) = self.cells.get_mut(&hash).filter(|_| had_more || is_pending) {
            cell.wake_up(self.now.instant);
        }
        self.make_ready(hash);
    }

    /// The journal refused or does not know: forget everything that is not committed and ask the disk.
    fn refused(&mut self, hashes: &[KeyHash], error: AppendError) {
        for &hash in hashes {
            let Some(cell) = self.cells.get_mut(&hash) else { continue };
            cell.host.refuse(&Refusal::Failed(refusal(error)));
            if error == AppendError::Unknown {
                // The next file may hold more than was told: readers begin again there.
                cell.hub.lag();
            }
            self.forget_uncommitted(hash);
        }
    }

    /// The file failed: what is not in it is in the journal, unless it is damaged.
    pub(super) fn failed(&mut self, hash: KeyHash, error: &storage::Error) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        let text = describe(error);
        if error.kind() == Kind::Corrupt {
            self.drop_file(hash);
            let Some(cell) = self.cells.get_mut(&hash) else { return };
            cell.quarantine(text.into(), self.now.instant);
            self.discard(hash);
        } else {
            tracing::warn!(session.id = %cell.key.id(), "{} {:?} was reset: {text}", cell.kind(), cell.key);
            self.forget_uncommitted(hash);
        }
    }

    fn drop_file(&mut self, hash: KeyHash) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        if let State::Awake(_) = cell.state {
            cell.state = State::Asleep;
            let kind = cell.kind();
            self.slept(kind);
        }
    }
}

/// Events after which a new actor that is in use gets its file, so that writing it stays short; spread, so that those
/// that began together do not all get theirs together.
fn file_due(hash: KeyHash) -> u64 {
    16 + hash.spread() / 7 % 112
}

/// What callers hear when the journal does not take a batch.
fn refusal<R>(error: AppendError) -> Error<R> {
    match error {
        AppendError::Unknown => Error::OutcomeUnknown,
        AppendError::Full => Error::DiskFull,
        AppendError::Busy => Error::Overloaded(Limit::MailboxCount),
    }
}
