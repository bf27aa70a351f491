//! The life of a session in memory: waking, committing, writing its file, sleeping, and what is due meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use actix::ActorFutureExt;
use actix::AsyncContext;
use actix::Context;
use actix::WrapFuture;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::actor::cell::Cell;
use crate::actor::cell::Checkpoint;
use crate::actor::cell::State;
use crate::actor::job::Job;
use crate::actor::node::Shared;
use crate::actor::shard::Shard;
use crate::actor::timers;
use crate::actor::wake;
use crate::actor::wake::Found;
use crate::base::clock;
use crate::base::ids::KeyHash;
use crate::base::limits::Limit;
use crate::base::metric;
use crate::domain::session::Rejection;
use crate::storage;
use crate::storage::catalogue::Card;
use crate::storage::describe;
use crate::storage::file::AnyFile;
use crate::storage::session::SessionFile;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Request;
use crate::wire::feed::Close;

/// How long those wait who asked for a session whose file is being opened.
const WAKE_MAX: Duration = Duration::from_secs(30);

impl Shard {
    pub(super) fn slept(&mut self) {
        self.awake -= 1;
        metric::counters().actors("active").dec();
    }

    pub(super) fn wake(&mut self, hash: KeyHash, ctx: &mut Context<Self>) {
        if self.awake >= self.awake_max {
            self.waiting.push_back(hash);
            self.make_room(ctx);
            return;
        }
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        self.awake += 1;
        metric::counters().actors("active").inc();
        let key = cell.key.clone();
        cell.state = State::Waking;
        // Most first messages are of sessions that are new: two looks at the folder tell, and save a hop to a thread.
        let (folder, ledger) = (&self.shared.folder, self.shared.journal.ledger());
        let known = || -> Result<bool, storage::Error> {
            Ok(ledger.is_pending(hash)
                || folder.has(&folder.file(&key))?
                || folder.has(&folder.tombstone(&key))?
                || self.shared.catalogue.knows(hash) != Some(false))
        };
        if matches!(known(), Ok(false)) {
            self.woken(hash, Ok(Found::Absent), ctx);
            return;
        }
        let started = clock::instant();
        let shared = Arc::clone(&self.shared);
        let open = tokio::task::spawn_blocking(move || wake::open(&shared, &key));
        self.await_opened(hash, started, open, ctx);
    }

    /// Takes the file when it is open. Who asked for it is refused after a while, but the thread that opens it is not
    /// given up: another one beside it would only be slower.
    fn await_opened(
        &mut self,
        hash: KeyHash,
        started: Instant,
        mut open: JoinHandle<Result<Found, storage::Error>>,
        ctx: &mut Context<Self>,
    ) {
        let opened = async move {
            match tokio::time::timeout(WAKE_MAX, &mut open).await {
                Ok(joined) => Ok(joined),
                Err(_) => Err(open),
            }
        };
        ctx.spawn(opened.into_actor(self).map(move |opened, shard, ctx| match opened {
            Ok(joined) => {
                metric::counters().activation.observe(started.elapsed().as_secs_f64());
                let panicked = |_| storage::Error::FileCorrupt {
                    problem: "opening it panicked; see the log".to_owned(),
                };
                shard.woken(hash, joined.map_err(panicked).and_then(|found| found), ctx);
            }
            Err(open) => {
                if let Some(cell) = shard.cells.get_mut(&hash) {
                    let seconds = started.elapsed().as_secs();
                    tracing::warn!(session.id = %cell.key.id(), "opening session {:?} takes over {seconds} s", cell.key);
                    cell.refuse_all(&Error::Overloaded(Limit::MailboxAge));
                }
                shard.await_opened(hash, started, open, ctx);
            }
        }));
    }

    pub(super) fn woken(
        &mut self,
        hash: KeyHash,
        found: Result<Found, storage::Error>,
        ctx: &mut Context<Self>,
    ) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        let found = match found {
            Ok(Found::Absent) if !cell.jobs.iter().any(|job| may_create(&job.request)) => {
                cell.refuse_all(&Rejection::SessionNotFound.into());
                cell.state = State::Asleep;
                self.slept();
                self.forget_if_empty(hash);
                return self.let_in(ctx);
            }
            Ok(Found::Absent) => {
                metric::counters().activated("created");
                SessionFile::create(&cell.key, &self.shared.files).map(Box::new)
            }
            Ok(Found::Gone) => {
                cell.state = State::Gone;
                self.slept();
                self.make_ready(hash, ctx);
                return self.let_in(ctx);
            }
            Ok(Found::File(file)) => {
                metric::counters().activated("request");
                Ok(file)
            }
            Err(error) => Err(error),
        };
        match found {
            Ok(file) => {
                let now = clock::instant();
                (cell.last_used, cell.awake_since, cell.resting) = (now, now, true);
                cell.next_timer_ms = file.next_timer_ms().unwrap_or(None);
                // Whatever the rows say: only a task of this process can be writing.
                let active = file.head().active_turn.clone();
                if active.is_some() {
                    cell.heed(active);
                } else if file.is_unfinished() {
                    // Turns wait and none runs: the process ended between them.
                    cell.reconcile();
                }
                cell.state = State::Awake(file);
                self.make_ready(hash, ctx);
            }
            Err(error) => {
                let why: Arc<str> = describe(&error).into();
                let deletions = cell.take_deletions();
                cell.quarantine(Arc::clone(&why));
                self.delete_unreadable(hash, deletions, why, ctx);
                self.slept();
                self.let_in(ctx);
            }
        }
    }

    /// Carries out the `deletions` of a session whose file cannot be used.
    pub(super) fn delete_unreadable(
        &mut self,
        hash: KeyHash,
        deletions: Vec<Job>,
        why: Arc<str>,
        ctx: &mut Context<Self>,
    ) {
        let Some(cell) = self.cells.get_mut(&hash).filter(|_| !deletions.is_empty()) else {
            return;
        };
        cell.hub.close(Close::Deleted);
        cell.state = State::Away;
        let (shared, key) = (Arc::clone(&self.shared), cell.key.clone());
        let task = tokio::task::spawn_blocking(move || wake::delete_unreadable(&shared, &key));
        ctx.spawn(task.into_actor(self).map(move |result, shard, ctx| {
            let Some(cell) = shard.cells.get_mut(&hash) else { return };
            match result {
                Ok(Ok(())) => {
                    tracing::warn!(session.id = %cell.key.id(), "session {:?} was deleted without being read", cell.key);
                    shard.shared.catalogue.note(Card::gone(cell.key.clone()));
                    cell.state = State::Gone;
                    deletions.into_iter().for_each(|job| job.answer(Ok(Answer::Done { seq: 0 })));
                }
                _ => {
                    cell.quarantine(Arc::clone(&why));
                    let error = Error::Quarantined(why);
                    deletions.into_iter().for_each(|job| job.answer(Err(error.clone())));
                }
            }
            shard.make_ready(hash, ctx);
        }));
    }

    pub(super) fn forget_if_empty(&mut self, hash: KeyHash) {
        if self.cells.get(&hash).is_some_and(Cell::is_empty) {
            self.cells.remove(&hash);
        }
    }

    /// Lets sessions wake that had to wait until others sleep.
    pub(super) fn let_in(&mut self, ctx: &mut Context<Self>) {
        while self.awake < self.awake_max {
            let Some(hash) = self.waiting.pop_front() else { break };
            self.make_ready(hash, ctx);
        }
    }

    /// Puts the sessions to sleep that were used least recently.
    pub(super) fn make_room(&mut self, ctx: &mut Context<Self>) {
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
            self.sleep(hash, ctx);
        }
    }

    pub(super) fn commit(&mut self, hash: KeyHash) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        let State::Awake(file) = &mut cell.state else { return };
        let Some(open) = file.open_transaction() else { return };
        // What is in flight is not durable yet, and a commit would put it into the file.
        if cell.in_flight.is_some() {
            return;
        }
        let started = clock::instant();
        if let Err(error) = file.commit() {
            // The journal has everything, so dropping the session and replaying repairs it.
            return self.failed(hash, &error);
        }
        metric::counters().commit.observe(started.elapsed().as_secs_f64());
        cell.log_bytes += open.bytes;
        cell.next_timer_ms = file.next_timer_ms().unwrap_or(None);
        cell.full =
            file.bytes().is_ok_and(|bytes| bytes >= self.shared.options.limits.session_bytes);
        // Before the books say so: segments may go then, and the catalogue must know what they said.
        note(&self.shared, file, cell.next_timer_ms);
        if !file.is_in_memory() {
            self.shared.journal.ledger().applied(hash, file.head().last_seq);
        }
    }

    /// Takes the file to another thread; what comes meanwhile waits in the mailbox.
    pub(super) fn lend(
        &mut self,
        hash: KeyHash,
        ctx: &mut Context<Self>,
        work: impl FnOnce(Box<SessionFile>, &Shared) -> Result<Option<Box<SessionFile>>, storage::Error>
        + Send
        + 'static,
    ) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        if cell.in_flight.is_some() || !matches!(cell.state, State::Awake(_)) {
            return;
        }
        let State::Awake(file) = std::mem::replace(&mut cell.state, State::Away) else { return };
        // The work commits, and what is committed is not looked at again.
        note(&self.shared, &file, cell.next_timer_ms);
        let shared = Arc::clone(&self.shared);
        let last_seq = file.head().last_seq;
        let task = tokio::task::spawn_blocking(move || {
            let done = work(file, &shared)?;
            shared.journal.ledger().applied(hash, last_seq);
            Ok(done)
        });
        ctx.spawn(task.into_actor(self).map(move |result, shard, ctx| {
            let Some(cell) = shard.cells.get_mut(&hash) else { return };
            cell.log_bytes = 0;
            match result {
                Ok(Ok(Some(file))) => cell.state = State::Awake(file),
                Ok(Ok(None)) => {
                    cell.state = State::Asleep;
                    shard.slept();
                }
                other => {
                    // The journal has everything, so waking it again repairs it.
                    if let Ok(Err(error)) = other {
                        let text = describe(&error);
                        tracing::warn!(session.id = %cell.key.id(), "writing session {:?} failed: {text}", cell.key);
                    }
                    cell.state = State::Asleep;
                    shard.slept();
                }
            }
            shard.make_ready(hash, ctx);
            shard.forget_if_empty(hash);
            shard.let_in(ctx);
        }));
    }

    pub(super) fn write_file(&mut self, hash: KeyHash, ctx: &mut Context<Self>) {
        self.lend(hash, ctx, |file, shared| {
            let file = (*file).into_file(&shared.folder)?;
            Ok(Some(Box::new(file)))
        });
    }

    pub(super) fn sleep(&mut self, hash: KeyHash, ctx: &mut Context<Self>) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        cell.hub.prune();
        self.lend(hash, ctx, |file, shared| {
            file.close(&shared.folder)?;
            Ok(None)
        });
    }

    /// Moves the log of a session that is in use all the time into its file: most of it beside the traffic, the rest
    /// in a pause, so that the pause is short whatever the size of the log.
    pub(super) fn checkpoint(&mut self, hash: KeyHash, ctx: &mut Context<Self>) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        match cell.checkpoint {
            Checkpoint::Idle if cell.log_bytes >= self.shared.options.checkpoint_bytes => {
                cell.checkpoint = Checkpoint::Beside;
                let path = self.shared.folder.file(&cell.key);
                let beside =
                    tokio::task::spawn_blocking(move || SessionFile::checkpoint_beside(&path));
                ctx.spawn(beside.into_actor(self).map(move |result, shard, _| {
                    if let Ok(Err(error)) = result {
                        tracing::warn!(
                            "a session's log could not be moved into its file: {}",
                            describe(&error)
                        );
                    }
                    if let Some(cell) = shard.cells.get_mut(&hash) {
                        cell.checkpoint = Checkpoint::Rest;
                    }
                }));
            }
            Checkpoint::Rest => {
                cell.checkpoint = Checkpoint::Idle;
                self.lend(hash, ctx, |mut file, _| {
                    file.checkpoint()?;
                    Ok(Some(file))
                });
            }
            Checkpoint::Idle | Checkpoint::Beside => {}
        }
    }

    pub(super) fn delete(&mut self, hash: KeyHash, ctx: &mut Context<Self>) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        cell.hub.close(Close::Deleted);
        // Its task ends with this.
        cell.writing = None;
        let key = cell.key.clone();
        self.lend(hash, ctx, move |file, shared| {
            drop(file);
            wake::finish_deletion(shared, &key)?;
            shared.journal.seal();
            Ok(None)
        });
    }

    pub(super) fn tick(&mut self, ctx: &mut Context<Self>) {
        enum Due {
            Commit,
            File,
            Sleep,
            Checkpoint,
            Timers,
            Reconcile,
        }
        let may_write = !self.shared.disk_full.load(Ordering::Relaxed);
        let options = &self.shared.options;
        let (now, now_ms) = (clock::instant(), clock::now_ms());
        let mut due = Vec::new();
        for (hash, cell) in &self.cells {
            let State::Awake(file) = &cell.state else { continue };
            if cell.in_flight.is_some() {
                continue;
            }
            let open = file.open_transaction();
            let in_memory = file.is_in_memory();
            // A new session that rests when its file is due sleeps at once: one file is written and none is opened.
            let patience = match in_memory {
                true => options.sleep_after.min(options.file_delay),
                false => options.sleep_after,
            };
            if may_write && cell.is_forsaken() {
                due.push((*hash, Due::Reconcile));
            } else if cell.next_timer_ms.is_some_and(|at| at <= now_ms) && cell.may_sleep() {
                due.push((*hash, Due::Timers));
            } else if cell.may_sleep() && (cell.resting || now - cell.last_used >= patience) {
                due.push((*hash, Due::Sleep));
            } else if in_memory
                && file.head().exists()
                && now - cell.awake_since >= options.file_delay
            {
                due.push((*hash, Due::File));
            } else if cell.log_bytes >= options.checkpoint_bytes
                || cell.checkpoint == Checkpoint::Rest
            {
                due.push((*hash, Due::Checkpoint));
            } else if open.is_some_and(|open| now - open.since >= options.commit_delay) {
                due.push((*hash, Due::Commit));
            }
        }
        for (hash, what) in due {
            match what {
                Due::Commit => self.commit(hash),
                Due::File => self.write_file(hash, ctx),
                Due::Sleep => self.sleep(hash, ctx),
                Due::Checkpoint => self.checkpoint(hash, ctx),
                Due::Timers => self.fire(hash, now_ms, ctx),
                Due::Reconcile => {
                    if let Some(cell) = self.cells.get_mut(&hash) {
                        cell.reconcile();
                    }
                    self.make_ready(hash, ctx);
                }
            }
        }
        if !self.waiting.is_empty() {
            for hash in &self.waiting {
                if let Some(cell) = self.cells.get_mut(hash) {
                    cell.drop_old(&self.shared.options.limits);
                }
            }
            self.make_room(ctx);
            self.let_in(ctx);
        }
        self.schedule(ctx);
    }

    /// Carries out what is due in a session.
    pub(super) fn fire(&mut self, hash: KeyHash, now_ms: i64, ctx: &mut Context<Self>) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        let State::Awake(file) = &mut cell.state else { return };
        match timers::fire(file, now_ms) {
            Ok(commands) => {
                for command in commands {
                    let (reply, _) = oneshot::channel();
                    let request = Request::Command(command, None);
                    cell.jobs.push_back(Job { request, reply, at: clock::instant(), bytes: 0 });
                }
                self.commit(hash);
                self.make_ready(hash, ctx);
            }
            // The machine's fault, not the timer's: it is not counted as a try.
            Err(error) => self.failed(hash, &error),
        }
    }
}

fn may_create(request: &Request) -> bool {
    match request {
        Request::Command(command, _) => command.may_create(),
        Request::Subscribe { absent_ok, .. } => *absent_ok,
        Request::Query(_) => false,
    }
}

/// Notes in the catalogue what a session is like, if it exists.
pub(super) fn note(shared: &Shared, file: &SessionFile, next_timer_ms: Option<i64>) {
    if file.log().exists() {
        shared.catalogue.note(Card { next_timer_ms, ..AnyFile::card(file) });
    }
}
