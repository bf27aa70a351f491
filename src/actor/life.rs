//! The life of an actor in memory: waking, committing, writing its file, sleeping, and what is due meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::actor::cell::Cell;
use crate::actor::cell::Checkpoint;
use crate::actor::cell::State;
use crate::actor::core::Core;
use crate::actor::delivery::Deliveries;
use crate::actor::found::Found;
use crate::actor::listing::note;
use crate::actor::output::Output;
use crate::actor::shared::Shared;
use crate::actor::wake;
use crate::actor::work::Work;
use crate::base::clock;
use crate::base::ids::KeyHash;
use crate::base::limits::Limit;
use crate::base::metric;
use crate::storage;
use crate::storage::catalogue::Card;
use crate::storage::describe;
use crate::storage::file::AnyFile;
use crate::storage::kinds;
use crate::wire::ask::Error;
use crate::wire::ask::Refusal;
use crate::wire::feed::Close;

/// Pause before a timer is tried again whose command was refused.
const FIRE_AGAIN_MS: i64 = 1_000;

/// Actors that are committed at most in a tick, and if that is not enough.
const COMMITS_PER_TICK: usize = 16;
const COMMITS_PER_TICK_LATE: usize = 256;

/// How late a commit may be before it goes before others.
const COMMIT_LATE: Duration = Duration::from_millis(250);

/// How often is looked for cells that nobody needs.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Something that an actor is due for.
enum Due {
    Write,
    Sleep,
    Checkpoint,
    Timers,
    Attend,
    Tell,
}

/// Whether `file` has reached the largest size.
fn is_full(file: &dyn AnyFile, shared: &Shared) -> bool {
    file.bytes().is_ok_and(|bytes| bytes >= shared.options.limits.session_bytes)
}

impl Core {
    pub(super) fn slept(&mut self, kind: &'static str) {
        self.awake -= 1;
        metric::counters().actors(kind, "active").dec();
    }

    pub(super) fn wake(&mut self, hash: KeyHash) {
        if self.awake >= self.awake_max {
            self.waiting.push_back(hash);
            self.make_room();
            return;
        }
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        self.awake += 1;
        metric::counters().actors(cell.kind(), "active").inc();
        cell.state = State::Waking;
        // Most first messages are to actors that are new: two looks at the folder tell, and save a hop to a thread.
        if matches!(wake::is_new(&self.shared, &cell.key), Ok(true)) {
            let epoch = self.shared.journal.epoch();
            return self.opened(hash, Ok(Found::Absent), epoch);
        }
        self.out.push(Output::Open(cell.key.clone()));
    }

    /// Who asked for a file is refused after a while, but the thread that opens it is not given up: another one beside it
    /// would only be slower.
    pub(super) fn slow(&mut self, hash: KeyHash, since: Duration) {
        if let Some(cell) = self.cells.get_mut(&hash) {
            let seconds = since.as_secs();
            tracing::warn!(session.id = %cell.key.id(), "opening {} {:?} takes over {seconds} s", cell.kind(), cell.key);
            cell.refuse_all(&Refusal::Failed(Error::Overloaded(Limit::MailboxAge)));
        }
    }

    pub(super) fn opened(
        &mut self,
        hash: KeyHash,
        found: Result<Found, storage::Error>,
        epoch: u64,
    ) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        let kind = cell.kind();
        let found = match found {
            Ok(Found::Absent) if !cell.jobs.iter().any(|job| job.waiting.may_create()) => {
                cell.refuse_all(&Refusal::Absent);
                cell.state = State::Asleep;
                self.slept(kind);
                self.forget_if_empty(hash);
                return self.admit();
            }
            Ok(Found::Absent) => {
                metric::counters().activated(kind, "created");
                Ok((kinds::files(cell.key.kind()).create)(&cell.key, &self.shared.files))
            }
            Ok(Found::Gone) => {
                cell.state = State::Gone;
                self.slept(kind);
                self.make_ready(hash);
                return self.admit();
            }
            Ok(Found::File(file)) => {
                metric::counters().activated(kind, "request");
                Ok(file)
            }
            Err(error) => Err(error),
        };
        let now = self.now.instant;
        match found {
            Ok(file) => {
                (cell.last_used, cell.awake_since, cell.resting) = (now, now, true);
                cell.open_since = now;
                cell.epoch = epoch;
                cell.full = is_full(&*file, &self.shared);
                cell.next_timer_ms = file.next_timer_ms().unwrap_or(None);
                cell.state = State::Awake(file);
                cell.attend(true, now);
                self.await_commit(hash);
                self.tell(hash);
                self.remove_if_told(hash);
                self.make_ready(hash);
            }
            Err(error) if error.is_shortage() => {
                let text = describe(&error);
                tracing::warn!(session.id = %cell.key.id(), "{kind} {:?} cannot be opened now: {text}", cell.key);
                let refused = if error.is_full() { Error::DiskFull } else { Error::Reset };
                cell.refuse_all(&Refusal::Failed(refused));
                cell.state = State::Asleep;
                self.slept(kind);
                self.forget_if_empty(hash);
                self.admit();
            }
            Err(error) => {
                cell.quarantine(describe(&error).into(), now);
                self.discard(hash);
                self.slept(kind);
                self.admit();
            }
        }
    }

    /// Ends an actor whose file cannot be used, if somebody wants that.
    pub(super) fn discard(&mut self, hash: KeyHash) {
        let Some(cell) = self.cells.get_mut(&hash).filter(|cell| cell.is_to_end()) else { return };
        let State::Quarantined { why, .. } = &cell.state else { return };
        let why = Arc::clone(why);
        cell.hub.close(Close::Deleted);
        cell.state = State::Away { works: false };
        self.out.push(Output::Discard(cell.key.clone(), why));
    }

    pub(super) fn discarded(&mut self, hash: KeyHash, why: Arc<str>, done: bool) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        if done {
            tracing::warn!(session.id = %cell.key.id(), "{} {:?} was deleted without being read", cell.kind(), cell.key);
            self.shared.catalogue.note(Card::gone(cell.key.clone()));
            cell.host.end();
            cell.deliveries = Deliveries::default();
            cell.state = State::Gone;
            cell.answer_ends();
        } else {
            cell.refuse_all(&Refusal::Failed(Error::Quarantined(Arc::clone(&why))));
            cell.quarantine(why, self.now.instant);
        }
        self.make_ready(hash);
    }

    pub(super) fn forget_if_empty(&mut self, hash: KeyHash) {
        if self.cells.get(&hash).is_some_and(Cell::is_empty) {
            self.cells.remove(&hash);
        }
    }

    /// Lets actors wake that had to wait until others sleep.
    pub(super) fn admit(&mut self) {
        while self.awake < self.awake_max {
            let Some(hash) = self.waiting.pop_front() else { break };
            self.make_ready(hash);
        }
    }

    /// Puts the actors to sleep that were used least recently.
    pub(super) fn make_room(&mut self) {
        const AT_ONCE: usize = 64;
        let mut idle: Vec<_> = self
            .cells
            .iter()
            .filter(|(_, cell)| cell.may_sleep())
            .map(|(hash, cell)| (cell.last_used, *hash))
            .collect();
        let count = AT_ONCE.min(idle.len());
        if count > 0 && count < idle.len() {
            idle.select_nth_unstable(count);
        }
        for (_, hash) in idle.into_iter().take(count) {
            self.sleep(hash);
        }
    }

    /// Notes that the actor waits for its commit, if there is something to commit.
    pub(super) fn await_commit(&mut self, hash: KeyHash) {
        let Some(cell) = self.cells.get_mut(&hash).filter(|cell| !cell.awaits_commit) else {
            return;
        };
        if let State::Awake(file) = &cell.state
            && file.open_transaction().is_some()
        {
            cell.awaits_commit = true;
            self.uncommitted.push_back((cell.open_since, hash));
        }
    }

    /// Tells whether what waits for its commit since some time has waited for noticeably longer than it should.
    pub(super) fn is_overdue(&self) -> impl Fn(Instant) -> bool + use<> {
        let (now, most) = (self.now.instant, self.shared.options.commit_delay + COMMIT_LATE);
        move |since| now.saturating_duration_since(since) > most
    }

    /// Commits at most `count` of the actors whose time has come, since each keeps the others of its thread waiting.
    pub(super) fn commit_some(&mut self, count: usize) {
        for _ in 0..count {
            let delay = self.shared.options.commit_delay;
            let is_due = |(since, _): &mut (Instant, _)| {
                self.now.instant.saturating_duration_since(*since) >= delay
            };
            let Some((_, hash)) = self.uncommitted.pop_front_if(is_due) else { return };
            if let Some(cell) = self.cells.get_mut(&hash) {
                cell.awaits_commit = false;
                self.commit(hash);
                self.await_commit(hash);
            }
        }
    }

    pub(super) fn commit(&mut self, hash: KeyHash) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        let State::Awake(file) = &mut cell.state else { return };
        let Some(open) = file.open_transaction() else { return };
        // What is in flight is not durable yet, and a commit would put it into the file.
        if cell.host.is_in_flight() {
            return;
        }
        // Without a file nobody would see it.
        if file.is_in_memory() {
            cell.open_since = self.now.instant;
            cell.next_timer_ms = note(&self.shared, &**file, cell.deliveries.next_ms(self.now));
            return;
        }
        let started = clock::instant();
        if let Err(error) = file.commit() {
            // The journal has everything, so dropping the actor and replaying repairs it.
            return self.failed(hash, &error);
        }
        metric::counters().commit.observe(started.elapsed().as_secs_f64());
        cell.log_bytes += open.bytes;
        cell.full = is_full(&**file, &self.shared);
        // Before the books say so: segments may go then, and the catalogue must know what they said.
        cell.next_timer_ms = note(&self.shared, &**file, cell.deliveries.next_ms(self.now));
        self.shared.journal.ledger().applied(hash, file.log().last_seq);
    }

    /// Takes the file to another thread; what comes meanwhile waits in the mailbox.
    pub(super) fn lend(&mut self, hash: KeyHash, work: Work) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        if cell.host.is_in_flight() || !matches!(cell.state, State::Awake(_)) {
            return;
        }
        let away = State::Away { works: cell.works() && work != Work::Remove };
        let State::Awake(file) = std::mem::replace(&mut cell.state, away) else { return };
        // The work commits, and what is committed is not looked at again. Of one that goes it is noted when it is gone.
        if work != Work::Remove {
            cell.next_timer_ms = note(&self.shared, &*file, cell.deliveries.next_ms(self.now));
        }
        self.out.push(Output::Lend(cell.key.clone(), work, file));
    }

    pub(super) fn returned(
        &mut self,
        hash: KeyHash,
        result: Result<Option<Box<dyn AnyFile>>, storage::Error>,
    ) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        let kind = cell.kind();
        cell.log_bytes = 0;
        match result {
            Ok(Some(file)) => {
                cell.state = State::Awake(file);
                self.tell(hash);
                self.remove_if_told(hash);
            }
            left => {
                if let Err(error) = left {
                    // The journal has everything, so waking it again repairs it.
                    let text = describe(&error);
                    tracing::warn!(session.id = %cell.key.id(), "writing {} {:?} failed: {text}", cell.kind(), cell.key);
                }
                cell.state = State::Asleep;
                self.slept(kind);
            }
        }
        self.make_ready(hash);
        self.forget_if_empty(hash);
        self.admit();
    }

    pub(super) fn sleep(&mut self, hash: KeyHash) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        cell.hub.prune();
        self.lend(hash, Work::Close);
    }

    /// Moves the log of an actor that is in use all the time into its file: most of it beside the traffic, the rest in a
    /// pause, so that the pause is short whatever the size of the log.
    pub(super) fn checkpoint(&mut self, hash: KeyHash) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        match cell.checkpoint {
            Checkpoint::Idle if cell.log_bytes >= self.shared.options.checkpoint_bytes => {
                cell.checkpoint = Checkpoint::Beside;
                self.out.push(Output::Move(cell.key.clone()));
            }
            Checkpoint::Rest => {
                cell.checkpoint = Checkpoint::Idle;
                self.lend(hash, Work::Checkpoint);
            }
            Checkpoint::Idle | Checkpoint::Beside => {}
        }
    }

    pub(super) fn moved(&mut self, hash: KeyHash) {
        if let Some(cell) = self.cells.get_mut(&hash) {
            cell.checkpoint = Checkpoint::Rest;
        }
    }

    /// The actor has ended: its file goes once everybody has heard what it had to tell.
    pub(super) fn end(&mut self, hash: KeyHash) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        cell.hub.close(Close::Deleted);
        cell.host.end();
        self.tell(hash);
        self.remove_if_told(hash);
    }

    /// Removes the file of an actor that has ended, if everybody has heard what it had to tell.
    pub(super) fn remove_if_told(&mut self, hash: KeyHash) {
        let Some(cell) = self.cells.get(&hash) else { return };
        let State::Awake(file) = &cell.state else { return };
        if file.is_ended() && file.receivers().is_empty() {
            self.lend(hash, Work::Remove);
        }
    }

    /// What the actor in `cell` is due for.
    fn due(&self, cell: &Cell) -> Option<Due> {
        let State::Awake(file) = &cell.state else { return None };
        if cell.host.is_in_flight() {
            return None;
        }
        let options = &self.shared.options;
        let since = |then| self.now.instant.saturating_duration_since(then);
        let in_memory = file.is_in_memory();
        // A new actor that rests when its file is due sleeps at once: one file is written and none is opened.
        let patience = match in_memory {
            true => options.sleep_after.min(options.file_delay),
            false => options.sleep_after,
        };
        let may_write = !self.shared.disk_full.load(Ordering::Relaxed);
        if may_write && cell.is_orphaned() {
            Some(Due::Attend)
        } else if cell.deliveries.next().is_some_and(|at| at <= self.now.instant) {
            Some(Due::Tell)
        } else if cell.next_timer_ms.is_some_and(|at| at <= self.now.unix_ms)
            && cell.may_sleep()
            && !file.is_ended()
        {
            Some(Due::Timers)
        } else if cell.may_sleep() && (cell.resting || since(cell.last_used) >= patience) {
            Some(Due::Sleep)
        } else if in_memory && file.log().exists() && since(cell.awake_since) >= options.file_delay
        {
            Some(Due::Write)
        } else if cell.log_bytes >= options.checkpoint_bytes || cell.checkpoint == Checkpoint::Rest
        {
            Some(Due::Checkpoint)
        } else {
            None
        }
    }

    /// Forgets cells of which nothing is left but a name, since whoever followed them went away without a word.
    fn sweep(&mut self) {
        self.swept = self.now.instant;
        self.cells.retain(|_, cell| {
            if matches!(cell.state, State::Asleep | State::Gone) {
                cell.hub.prune();
            }
            !cell.is_empty()
        });
        if self.cells.len() < self.cells.capacity() / 8 {
            self.cells.shrink_to(2 * self.cells.len());
        }
    }

    pub(super) fn tick(&mut self) {
        if self.now.instant.saturating_duration_since(self.swept) >= SWEEP_EVERY {
            self.sweep();
        }
        let due = |(hash, cell): (&KeyHash, &Cell)| Some((*hash, self.due(cell)?));
        let due: Vec<_> = self.cells.iter().filter_map(due).collect();
        for (hash, what) in due {
            match what {
                Due::Write => self.lend(hash, Work::Write),
                Due::Sleep => self.sleep(hash),
                Due::Checkpoint => self.checkpoint(hash),
                Due::Timers => self.fire(hash),
                Due::Tell => self.tell(hash),
                Due::Attend => {
                    if let Some(cell) = self.cells.get_mut(&hash) {
                        cell.attend(false, self.now.instant);
                    }
                    self.make_ready(hash);
                }
            }
        }
        let is_overdue = self.is_overdue();
        let is_late = self.uncommitted.front().is_some_and(|(since, _)| is_overdue(*since));
        self.commit_some(if is_late { COMMITS_PER_TICK_LATE } else { COMMITS_PER_TICK });
        if !self.waiting.is_empty() {
            for hash in &self.waiting {
                if let Some(cell) = self.cells.get_mut(hash) {
                    cell.drop_old(&self.shared.options.limits, self.now.instant);
                }
            }
            self.make_room();
            self.admit();
        }
    }

    /// Carries out what is due in an actor.
    fn fire(&mut self, hash: KeyHash) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        let State::Awake(file) = &mut cell.state else { return };
        match cell.host.fire(&mut **file, self.now.unix_ms) {
            Ok(waiting) => {
                let now = self.now.instant;
                let has_fired = !waiting.is_empty();
                waiting.into_iter().for_each(|waiting| cell.push_last(waiting, now));
                self.commit(hash);
                // One that is refused leaves its timer where it is, and is not asked again at once.
                if let Some(cell) = self.cells.get_mut(&hash).filter(|_| has_fired) {
                    let again_ms = self.now.unix_ms.saturating_add(FIRE_AGAIN_MS);
                    cell.next_timer_ms = cell.next_timer_ms.map(|at_ms| at_ms.max(again_ms));
                }
                self.make_ready(hash);
            }
            // The machine's fault, not the timer's: it is not counted as a try.
            Err(error) => self.failed(hash, &error),
        }
    }
}
