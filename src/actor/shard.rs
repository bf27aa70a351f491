//! The thread that actors run on: takes what came, makes one batch per session, and lets go what became durable.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::Actor;
use actix::ActorFutureExt;
use actix::Addr;
use actix::AsyncContext;
use actix::Context;
use actix::Handler;
use actix::Message;
use actix::ResponseActFuture;
use actix::WrapFuture;
use tokio::sync::oneshot;

use crate::wire::envelope::Answer;
use crate::wire::feed::Close;
use crate::wire::envelope::Error;
use crate::wire::feed::Frame;
use crate::wire::envelope::Query;
use crate::wire::envelope::Request;
use crate::actor::batch;
use crate::actor::batch::Made;
use crate::actor::batch::Rules;
use crate::actor::cell::Cell;
use crate::actor::cell::Checkpoint;
use crate::actor::cell::State;
use crate::actor::job::Job;
use crate::actor::node::Shared;
use crate::actor::timers;
use crate::actor::turn;
use crate::actor::wake;
use crate::actor::wake::Found;
use crate::base::Classify;
use crate::base::Key;
use crate::base::Kind;
use crate::base::clock;
use crate::base::ids::KeyHash;
use crate::base::limits::Limit;
use crate::base::metric;
use crate::domain::session::Command;
use crate::domain::session::Rejection;
use crate::storage;
use crate::storage::catalogue::Card;
use crate::storage::journal::AppendError;
use crate::storage::journal::Encoded;
use crate::storage::session::SessionFile;

/// Requests that a shard holds beyond those in the mailboxes of its sessions.
const MAILBOX_MAX: usize = 16_384;
/// How often a shard looks for what is due.
const TICK: Duration = Duration::from_millis(50);
/// Submissions of a shard that are with the journal at once: one is written while the next is made.
const SUBMISSIONS_MAX: usize = 2;
/// Events and bytes at which a session is committed without waiting.
const COMMIT_EVENTS: usize = 1_024;
const COMMIT_BYTES: usize = 512 << 10;
/// Longest time for opening a session's file. Source: semantics.md, section 2.
const WAKE_MAX: Duration = Duration::from_secs(30);

/// Sends requests to a shard. Cheap to clone.
#[derive(Clone)]
pub(super) struct Sender(Addr<Shard>);

impl Sender {
    pub(super) fn new(shard: Addr<Shard>) -> Self {
        Self(shard)
    }

    /// Asks the actor of `key`, which must be one of the shard's.
    pub(super) async fn ask(&self, key: &Key, request: Request) -> Result<Answer, Error> {
        let (reply, answer) = oneshot::channel();
        let bytes = request.size();
        let job = Job { request, reply, at: clock::instant(), bytes };
        if self.0.try_send(Deliver(key.clone(), job)).is_err() {
            metric::counters().limit_hit(Limit::MailboxCount);
            return Err(Error::Overloaded(Limit::MailboxCount));
        }
        answer.await.unwrap_or(Err(Error::Reset))
    }

    /// Asks for the file of `key` to be brought up to date soon.
    pub(super) fn urge(&self, key: Key) {
        // A full mailbox is tried again with the next round.
        drop(self.0.try_send(Urge(key)));
    }

    /// Notes in the catalogue what is not committed yet.
    pub(super) async fn note_all(&self) {
        self.send(NoteAll).await;
    }

    /// Sends `message` and waits until it is carried out.
    pub(super) async fn send<M: Message<Result = ()> + Send + 'static>(&self, message: M)
    where
        Shard: Handler<M>,
    {
        if self.0.send(message).await.is_err() {
            tracing::debug!("a shard is gone and has nothing left to do");
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Deliver(Key, Job);

#[derive(Message)]
#[rtype(result = "()")]
struct Turn;

#[derive(Message)]
#[rtype(result = "()")]
struct Urge(Key);

#[derive(Message)]
#[rtype(result = "()")]
struct NoteAll;

/// Commit everything that waits for its commit.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Commit;

/// Tell all subscribers, write everything to the files.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Stop;

/// A thread's worth of actors.
pub(super) struct Shard {
    shared: Arc<Shared>,
    cells: HashMap<KeyHash, Cell>,
    ready: Vec<KeyHash>,
    /// Cells that may not wake before others sleep.
    waiting: VecDeque<KeyHash>,
    turn_scheduled: bool,
    submissions: usize,
    /// Cells that are awake or on their way.
    awake: usize,
    awake_max: usize,
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MAX);
        ctx.run_interval(TICK, |shard, ctx| shard.tick(ctx));
    }
}

impl Handler<Deliver> for Shard {
    type Result = ();

    fn handle(&mut self, Deliver(key, job): Deliver, ctx: &mut Self::Context) {
        let hash = key.hash();
        let cell = self.cells.entry(hash).or_insert_with(|| Cell::new(key));
        if let Request::Query(Query::Ephemeral(text)) = &job.request {
            // It is stored nowhere, so it wakes nobody.
            cell.hub.publish(&Frame { seq: None, kind: None, text: text.clone() });
            job.answer(Ok(Answer::Done { seq: 0 }));
            return self.forget_if_empty(hash);
        }
        cell.push(job, &self.shared.options.limits);
        self.make_ready(hash, ctx);
    }
}

impl Handler<Turn> for Shard {
    type Result = ();

    fn handle(&mut self, _: Turn, ctx: &mut Self::Context) {
        self.turn_scheduled = false;
        self.turn(ctx);
    }
}

impl Handler<Urge> for Shard {
    type Result = ();

    fn handle(&mut self, Urge(key): Urge, ctx: &mut Self::Context) {
        let hash = key.hash();
        match self.cells.get_mut(&hash).map(|cell| &cell.state) {
            Some(State::Awake(file)) if file.is_in_memory() => self.write_file(hash, ctx),
            Some(State::Awake(_)) => self.commit(hash),
            _ => {
                let (reply, _) = oneshot::channel();
                let request = Request::Query(Query::Wake);
                let job = Job { request, reply, at: clock::instant(), bytes: 0 };
                self.handle(Deliver(key, job), ctx);
            }
        }
    }
}

impl Handler<NoteAll> for Shard {
    type Result = ();

    fn handle(&mut self, _: NoteAll, _: &mut Self::Context) {
        for cell in self.cells.values() {
            if let State::Awake(file) = &cell.state
                && file.open_transaction().is_some()
                && cell.in_flight.is_none()
            {
                note(&self.shared, file, cell.next_timer_ms);
            }
        }
    }
}

impl Handler<Commit> for Shard {
    type Result = ();

    fn handle(&mut self, _: Commit, _: &mut Self::Context) {
        let hashes: Vec<_> = self.cells.keys().copied().collect();
        hashes.into_iter().for_each(|hash| self.commit(hash));
    }
}

impl Handler<Stop> for Shard {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Stop, _: &mut Self::Context) -> Self::Result {
        let mut files = Vec::new();
        for cell in self.cells.values_mut() {
            cell.hub.close(Close::Restarting);
            cell.refuse_all(&Error::ShuttingDown);
            if cell.in_flight.is_none()
                && let State::Awake(file) = std::mem::replace(&mut cell.state, State::Away)
            {
                note(&self.shared, &file, cell.next_timer_ms);
                files.push(file);
            }
        }
        let shared = Arc::clone(&self.shared);
        let close = move || {
            for file in files {
                if let Err(error) = file.close(&shared.folder) {
                    tracing::warn!(error = %error, "closing a session file; the journal has what it lacks");
                }
            }
        };
        Box::pin(tokio::task::spawn_blocking(close).into_actor(self).map(|_, _, _| ()))
    }
}

impl Shard {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let awake_max = (shared.options.awake_max / shared.options.shards).max(1);
        Self {
            shared,
            cells: HashMap::new(),
            ready: Vec::new(),
            waiting: VecDeque::new(),
            turn_scheduled: false,
            submissions: 0,
            awake: 0,
            awake_max,
        }
    }

    fn make_ready(&mut self, hash: KeyHash, ctx: &mut Context<Self>) {
        if self.cells.get(&hash).is_some_and(Cell::is_ready) {
            self.ready.push(hash);
            self.schedule(ctx);
        }
    }

    /// A turn runs once everything that is in the mailbox has been delivered, so that it is one batch.
    fn schedule(&mut self, ctx: &mut Context<Self>) {
        if !self.turn_scheduled && self.submissions < SUBMISSIONS_MAX && !self.ready.is_empty() {
            self.turn_scheduled = true;
            ctx.notify(Turn);
        }
    }

    /// Decide and apply for every session that has something to do, then one submission to the journal.
    fn turn(&mut self, ctx: &mut Context<Self>) {
        let (mut records, mut hashes) = (Vec::new(), Vec::new());
        for hash in std::mem::take(&mut self.ready) {
            let Some(cell) = self.cells.get_mut(&hash).filter(|cell| cell.is_ready()) else { continue };
            cell.last_used = clock::instant();
            cell.drop_old(&self.shared.options.limits);
            match &cell.state {
                State::Awake(_) => {
                    if let Some(record) = self.make_batch(hash) {
                        records.push(record);
                        hashes.push(hash);
                    }
                }
                State::Asleep => self.wake(hash, ctx),
                State::Quarantined { until, why, .. } => {
                    if clock::instant() < *until {
                        let error = Error::Quarantined(Arc::clone(why));
                        cell.refuse_all(&error);
                    } else {
                        self.wake(hash, ctx);
                    }
                }
                State::Gone => {
                    cell.refuse_all(&Rejection::Deleted.into());
                    self.forget_if_empty(hash);
                }
                State::Waking | State::Away => {}
            }
        }
        if !records.is_empty() {
            self.submit(records, hashes, ctx);
        }
        self.schedule(ctx);
    }

    fn make_batch(&mut self, hash: KeyHash) -> Option<Encoded> {
        let cell = self.cells.get_mut(&hash)?;
        let State::Awake(file) = &mut cell.state else { return None };
        let rules = Rules {
            limits: &self.shared.options.limits,
            epoch: self.shared.journal.epoch(),
            refuses: if self.shared.disk_full.load(Ordering::Relaxed) {
                Some(Error::DiskFull)
            } else {
                cell.full.then_some(Error::SessionFull)
            },
        };
        let make = || batch::make(file, &mut cell.hub, &mut cell.jobs, &rules);
        let made = catch_unwind(AssertUnwindSafe(make));
        cell.recount();
        match made {
            Ok(Made::Nothing) => {
                if !cell.jobs.is_empty() {
                    self.ready.push(hash);
                }
                None
            }
            Ok(Made::Record(batch, encoded)) => {
                cell.in_flight = Some(batch);
                Some(encoded)
            }
            Ok(Made::Failed(batch, error)) => {
                batch.refuse(&Error::Reset);
                self.failed(hash, &error);
                None
            }
            Err(_) => {
                self.drop_file(hash);
                if let Some(cell) = self.cells.get_mut(&hash) {
                    cell.quarantine("a request made it panic; see the log".into());
                }
                None
            }
        }
    }

    fn submit(&mut self, records: Vec<Encoded>, hashes: Vec<KeyHash>, ctx: &mut Context<Self>) {
        match self.shared.journal.append(records) {
            Err(error) => self.refused(&hashes, error, ctx),
            Ok(appended) => {
                self.submissions += 1;
                ctx.spawn(appended.into_actor(self).map(move |result, shard, ctx| {
                    shard.submissions -= 1;
                    match result.unwrap_or(Err(AppendError::Unknown)) {
                        Ok(()) => shard.durable(hashes, ctx),
                        Err(error) => shard.refused(&hashes, error, ctx),
                    }
                    shard.schedule(ctx);
                }));
            }
        }
    }

    /// The gate, session by session: answer, publish, start effects; then commit if enough has gathered.
    fn durable(&mut self, hashes: Vec<KeyHash>, ctx: &mut Context<Self>) {
        for hash in hashes {
            let Some(cell) = self.cells.get_mut(&hash) else { continue };
            let Some(batch) = cell.in_flight.take() else { continue };
            let (deletes, redacts, creates) = (batch.deletes, batch.redacts, batch.creates);
            for start in batch.release(&mut cell.hub) {
                cell.writing = Some(start.turn.id.clone());
                let placeholder = self.shared.options.placeholder;
                let run = turn::run(Sender(ctx.address()), cell.key.clone(), start, placeholder);
                ctx.spawn(actix::fut::wrap_future::<_, Self>(run));
            }
            if deletes {
                self.delete(hash, ctx);
                continue;
            }
            let Some(cell) = self.cells.get_mut(&hash) else { continue };
            if let State::Awake(file) = &cell.state {
                if file.head().active_turn.is_none() {
                    cell.writing = None;
                }
                if creates {
                    note(&self.shared, file, None);
                }
                let due = file.open_transaction();
                if redacts || due.is_some_and(|o| o.events >= COMMIT_EVENTS || o.bytes >= COMMIT_BYTES) {
                    self.commit(hash);
                    self.checkpoint(hash, ctx);
                }
            }
            if redacts {
                self.shared.journal.seal();
            }
            self.make_ready(hash, ctx);
        }
    }

    /// The journal refused or does not know: forget everything that is not committed and ask the disk.
    fn refused(&mut self, hashes: &[KeyHash], error: AppendError, ctx: &mut Context<Self>) {
        for &hash in hashes {
            let Some(cell) = self.cells.get_mut(&hash) else { continue };
            if let Some(batch) = cell.in_flight.take() {
                batch.refuse(&refusal(error));
            }
            self.drop_file(hash);
            self.make_ready(hash, ctx);
        }
    }

    fn failed(&mut self, hash: KeyHash, error: &storage::Error) {
        self.drop_file(hash);
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        let text = describe(error);
        if error.kind() == Kind::Corrupt {
            cell.quarantine(text.into());
        } else {
            tracing::warn!(session.id = %cell.key.id(), "session {:?} was reset: {text}", cell.key);
            self.ready.push(hash);
        }
    }

    fn drop_file(&mut self, hash: KeyHash) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        if let State::Awake(_) = cell.state {
            cell.state = State::Asleep;
            self.slept();
        }
    }

    fn slept(&mut self) {
        self.awake -= 1;
        metric::counters().actors("active").dec();
    }

    fn wake(&mut self, hash: KeyHash, ctx: &mut Context<Self>) {
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
                || folder.has(&folder.session(hash))?
                || folder.has(&folder.tombstone(hash))?)
        };
        if matches!(known(), Ok(false)) {
            self.woken(hash, Ok(Found::Absent), ctx);
            return;
        }
        let started = clock::instant();
        let shared = Arc::clone(&self.shared);
        let open = tokio::task::spawn_blocking(move || wake::open(&shared, &key));
        let opened = tokio::time::timeout(WAKE_MAX, open);
        ctx.spawn(opened.into_actor(self).map(move |result, shard, ctx| {
            metric::counters().activation.observe(started.elapsed().as_secs_f64());
            let slow = || storage::Error::FileCorrupt { problem: "opening it took over 30 s or panicked".to_owned() };
            let result = result.map_err(|_| slow()).and_then(|joined| joined.map_err(|_| slow()));
            shard.woken(hash, result.and_then(|found| found), ctx);
        }));
    }

    fn woken(&mut self, hash: KeyHash, found: Result<Found, storage::Error>, ctx: &mut Context<Self>) {
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
                SessionFile::create(&cell.key).map(Box::new)
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
                (cell.last_used, cell.awake_since) = (now, now);
                cell.next_timer_ms = file.next_timer_ms().unwrap_or(None);
                note(&self.shared, &file, cell.next_timer_ms);
                let running = file.head().active_turn.as_ref().map(|turn| &turn.id);
                // Whatever the rows say: only a task of this process can be writing.
                if running.is_some() && running != cell.writing.as_ref() {
                    let (reply, _) = oneshot::channel();
                    let request = Request::Command(Command::Reconcile, None);
                    cell.jobs.push_front(Job { request, reply, at: now, bytes: 0 });
                }
                cell.state = State::Awake(file);
                self.make_ready(hash, ctx);
            }
            Err(error) => {
                cell.quarantine(describe(&error).into());
                self.slept();
                self.let_in(ctx);
            }
        }
    }

    fn forget_if_empty(&mut self, hash: KeyHash) {
        if self.cells.get(&hash).is_some_and(Cell::is_empty) {
            self.cells.remove(&hash);
        }
    }

    /// Lets sessions wake that had to wait until others sleep.
    fn let_in(&mut self, ctx: &mut Context<Self>) {
        while self.awake < self.awake_max {
            let Some(hash) = self.waiting.pop_front() else { break };
            self.make_ready(hash, ctx);
        }
    }

    /// Puts the sessions to sleep that were used least recently.
    fn make_room(&mut self, ctx: &mut Context<Self>) {
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

    fn commit(&mut self, hash: KeyHash) {
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
        cell.full = file.bytes().is_ok_and(|bytes| bytes >= self.shared.options.limits.session_bytes);
        if !file.is_in_memory() {
            self.shared.journal.ledger().applied(hash, file.head().last_seq);
        }
        note(&self.shared, file, cell.next_timer_ms);
    }

    /// Takes the file to another thread; what comes meanwhile waits in the mailbox.
    fn lend(
        &mut self,
        hash: KeyHash,
        ctx: &mut Context<Self>,
        work: impl FnOnce(Box<SessionFile>, &Shared) -> Result<Option<Box<SessionFile>>, storage::Error> + Send + 'static,
    ) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        if cell.in_flight.is_some() || !matches!(cell.state, State::Awake(_)) {
            return;
        }
        let State::Awake(file) = std::mem::replace(&mut cell.state, State::Away) else { return };
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

    fn write_file(&mut self, hash: KeyHash, ctx: &mut Context<Self>) {
        self.lend(hash, ctx, |file, shared| {
            let file = file.into_file(&shared.folder)?;
            Ok(Some(Box::new(file)))
        });
    }

    fn sleep(&mut self, hash: KeyHash, ctx: &mut Context<Self>) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        cell.hub.prune();
        if let State::Awake(file) = &cell.state {
            note(&self.shared, file, cell.next_timer_ms);
        }
        self.lend(hash, ctx, |file, shared| {
            file.close(&shared.folder)?;
            Ok(None)
        });
    }

    /// Moves the log of a session that is in use all the time into its file: most of it beside the traffic, the rest
    /// in a pause, so that the pause is short whatever the size of the log.
    fn checkpoint(&mut self, hash: KeyHash, ctx: &mut Context<Self>) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        match cell.checkpoint {
            Checkpoint::Idle if cell.log_bytes >= self.shared.options.checkpoint_bytes => {
                cell.checkpoint = Checkpoint::Beside;
                let path = self.shared.folder.session(hash);
                let beside = tokio::task::spawn_blocking(move || SessionFile::checkpoint_beside(&path));
                ctx.spawn(beside.into_actor(self).map(move |result, shard, _| {
                    if let Ok(Err(error)) = result {
                        tracing::warn!("a session's log could not be moved into its file: {}", describe(&error));
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

    fn delete(&mut self, hash: KeyHash, ctx: &mut Context<Self>) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        cell.hub.close(Close::Deleted);
        cell.writing = None;
        if let State::Awake(file) = &cell.state {
            note(&self.shared, file, None);
        }
        let key = cell.key.clone();
        self.lend(hash, ctx, move |file, shared| {
            drop(file);
            wake::finish_deletion(shared, &key)?;
            shared.journal.seal();
            Ok(None)
        });
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        enum Due {
            Commit,
            File,
            Sleep,
            Checkpoint,
            Timers,
        }
        let options = &self.shared.options;
        let (now, now_ms) = (clock::instant(), clock::now_ms());
        let mut due = Vec::new();
        for (hash, cell) in &self.cells {
            let State::Awake(file) = &cell.state else { continue };
            if cell.in_flight.is_some() {
                continue;
            }
            let open = file.open_transaction();
            if cell.may_sleep() && now - cell.last_used >= options.sleep_after {
                due.push((*hash, Due::Sleep));
            } else if file.is_in_memory() && file.head().exists() && now - cell.awake_since >= options.file_delay {
                due.push((*hash, Due::File));
            } else if cell.log_bytes >= options.checkpoint_bytes || cell.checkpoint == Checkpoint::Rest {
                due.push((*hash, Due::Checkpoint));
            } else if cell.next_timer_ms.is_some_and(|at| at <= now_ms) && cell.may_sleep() {
                due.push((*hash, Due::Timers));
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
                Due::Timers => self.fire(hash, now_ms),
            }
        }
        if !self.waiting.is_empty() {
            self.make_room(ctx);
            self.let_in(ctx);
        }
        self.schedule(ctx);
    }

    /// Carries out what is due in a session.
    fn fire(&mut self, hash: KeyHash, now_ms: i64) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        let State::Awake(file) = &mut cell.state else { return };
        match timers::fire(file, now_ms) {
            Ok(()) => self.commit(hash),
            // The machine's fault, not the timer's: it is not counted as a try.
            Err(error) => self.failed(hash, &error),
        }
    }
}

/// What callers hear when the journal does not take a batch.
fn refusal(error: AppendError) -> Error {
    match error {
        AppendError::Unknown => Error::OutcomeUnknown,
        AppendError::Full => Error::DiskFull,
        AppendError::Busy => Error::Overloaded(Limit::MailboxCount),
    }
}

fn may_create(request: &Request) -> bool {
    match request {
        Request::Command(command, _) => matches!(
            command,
            Command::Create { .. } | Command::AddMessage(_) | Command::StartTurn(_)
        ),
        Request::Query(query) => matches!(query, Query::Subscribe { absent_ok: true, .. }),
    }
}

fn describe(error: &storage::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Notes in the catalogue what a session is like, if it exists.
fn note(shared: &Shared, file: &SessionFile, next_timer_ms: Option<i64>) {
    let head = file.head();
    if !head.exists() {
        return;
    }
    shared.catalogue.note(Card {
        key: file.key().clone(),
        title: head.title.clone(),
        project_id: head.project_id.clone(),
        metadata: head.metadata.as_ref().map_or_else(|| "{}".to_owned(), |json| json.as_str().to_owned()),
        message_count: head.message_count,
        last_seq: head.last_seq,
        active_turn: head.active_turn.as_ref().map(|turn| turn.id.clone()),
        created_at_ms: head.created_at_ms,
        updated_at_ms: head.updated_at_ms,
        next_timer_ms,
        deleted: head.deleted,
    });
}
