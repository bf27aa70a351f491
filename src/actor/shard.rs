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
use actix::WrapFuture;
use bytestring::ByteString;
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::actor::batch;
use crate::actor::batch::Made;
use crate::actor::batch::Rules;
use crate::actor::cell::Cell;
use crate::actor::cell::State;
use crate::actor::cell::Writing;
use crate::actor::job::Job;
use crate::actor::life::note;
use crate::actor::node::Shared;
use crate::actor::turn;
use crate::base::Classify;
use crate::base::Key;
use crate::base::Kind;
use crate::base::clock;
use crate::base::ids::KeyHash;
use crate::base::limits::Limit;
use crate::base::metric;
use crate::domain::session::Rejection;
use crate::storage;
use crate::storage::describe;
use crate::storage::journal::AppendError;
use crate::storage::journal::Encoded;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Query;
use crate::wire::envelope::Request;
use crate::wire::feed::Frame;

/// Requests that a shard holds beyond those in the mailboxes of its sessions.
const MAILBOX_MAX: usize = 16_384;
/// How often a shard looks for what is due.
const TICK: Duration = Duration::from_millis(50);
/// Submissions of a shard that are with the journal at once: one is written while the next is made.
const SUBMISSIONS_MAX: usize = 2;
/// Events and bytes at which a session is committed without waiting.
const COMMIT_EVENTS: usize = 1_024;
const COMMIT_BYTES: usize = 512 << 10;

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

    /// Gives `text` to all who follow the session `key` now.
    pub(super) fn publish(&self, key: &Key, text: ByteString) {
        if self.0.try_send(Publish(key.clone(), text)).is_err() {
            metric::counters().limit_hit(Limit::MailboxCount);
        }
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

    /// Asks for a number; 0 if the shard is gone.
    pub(super) async fn count<M: Message<Result = usize> + Send + 'static>(
        &self,
        message: M,
    ) -> usize
    where
        Shard: Handler<M>,
    {
        self.0.send(message).await.unwrap_or(0)
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
struct Publish(Key, ByteString);

#[derive(Message)]
#[rtype(result = "()")]
struct Turn;

#[derive(Message)]
#[rtype(result = "()")]
struct Urge(Key);

#[derive(Message)]
#[rtype(result = "()")]
struct NoteAll;

/// The task of a turn of this session is gone.
#[derive(Message)]
#[rtype(result = "()")]
struct TurnLeft(KeyHash);

/// Commit everything that waits for its commit.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Commit;

/// A thread's worth of actors.
pub(super) struct Shard {
    pub(super) shared: Arc<Shared>,
    pub(super) cells: HashMap<KeyHash, Cell>,
    pub(super) ready: Vec<KeyHash>,
    /// Cells that may not wake before others sleep.
    pub(super) waiting: VecDeque<KeyHash>,
    pub(super) turn_scheduled: bool,
    pub(super) submissions: usize,
    /// Cells that are awake or on their way.
    pub(super) awake: usize,
    pub(super) awake_max: usize,
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
        cell.push(job, &self.shared.options.limits);
        self.make_ready(hash, ctx);
    }
}

impl Handler<Publish> for Shard {
    type Result = ();

    fn handle(&mut self, Publish(key, text): Publish, _: &mut Self::Context) {
        // It is stored nowhere, so it wakes nobody.
        if let Some(cell) = self.cells.get_mut(&key.hash()) {
            cell.hub.publish(&Frame::passing(text));
        }
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

impl Handler<TurnLeft> for Shard {
    type Result = ();

    fn handle(&mut self, TurnLeft(hash): TurnLeft, ctx: &mut Self::Context) {
        let Some(cell) = self.cells.get_mut(&hash) else { return };
        if let State::Awake(file) = &cell.state
            && cell.in_flight.is_none()
        {
            // If the turn is not over, its task could not say why.
            let active = file.head().active_turn.clone();
            cell.heed(active);
            self.make_ready(hash, ctx);
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

    pub(super) fn make_ready(&mut self, hash: KeyHash, ctx: &mut Context<Self>) {
        if self.cells.get(&hash).is_some_and(Cell::is_ready) {
            self.ready.push(hash);
            self.schedule(ctx);
        }
    }

    /// A turn runs once everything that is in the mailbox has been delivered, so that it is one batch.
    pub(super) fn schedule(&mut self, ctx: &mut Context<Self>) {
        if !self.turn_scheduled && self.submissions < SUBMISSIONS_MAX && !self.ready.is_empty() {
            self.turn_scheduled = true;
            ctx.notify(Turn);
        }
    }

    /// Decide and apply for every session that has something to do, then one submission to the journal.
    fn turn(&mut self, ctx: &mut Context<Self>) {
        let (mut records, mut hashes) = (Vec::new(), Vec::new());
        for hash in std::mem::take(&mut self.ready) {
            let Some(cell) = self.cells.get_mut(&hash).filter(|cell| cell.is_ready()) else {
                continue;
            };
            cell.note_use();
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
                        let why = Arc::clone(why);
                        let deletions = cell.take_deletions();
                        cell.refuse_all(&Error::Quarantined(Arc::clone(&why)));
                        self.delete_unreadable(hash, deletions, why, ctx);
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
            begins_turns: !self.shared.draining.load(Ordering::Acquire),
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
                let (stop, stopped) = watch::channel(false);
                let (turn_id, attempt) = (start.turn.id.clone(), start.turn.attempt);
                cell.writing = Some(Writing { turn_id, attempt, stop });
                let sender = Sender(ctx.address());
                let shared = Arc::clone(&self.shared);
                let key = cell.key.clone();
                let run = turn::Run::new(shared, sender.clone(), key, start, stopped).run();
                // A task of its own on this thread: a future of the actor would be polled with all others whenever one
                // of them has something to do, which is quadratic in the turns that stream.
                actix::spawn(async move {
                    if AssertUnwindSafe(run).catch_unwind().await.is_err() {
                        tracing::error!(
                            "the task of a turn panicked; see the log before this line"
                        );
                    }
                    sender.send(TurnLeft(hash)).await;
                });
            }
            if deletes {
                self.delete(hash, ctx);
                continue;
            }
            let Some(cell) = self.cells.get_mut(&hash) else { continue };
            if let State::Awake(file) = &cell.state {
                let active = file.head().active_turn.clone();
                if active.is_some() || cell.writing.is_some() {
                    cell.heed(active);
                }
            }
            if let State::Awake(file) = &cell.state {
                if creates {
                    note(&self.shared, file, None);
                }
                let due = file.open_transaction();
                if redacts
                    || due.is_some_and(|o| o.events >= COMMIT_EVENTS || o.bytes >= COMMIT_BYTES)
                {
                    self.commit(hash);
                    self.checkpoint(hash, ctx);
                } else if file.is_in_memory() && file.head().last_seq >= file_due(hash) {
                    self.write_file(hash, ctx);
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

    pub(super) fn failed(&mut self, hash: KeyHash, error: &storage::Error) {
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
}

/// Events after which a new session that is in use gets its file, so that writing it stays short; spread, so that
/// sessions that began together do not all get theirs together.
fn file_due(hash: KeyHash) -> u64 {
    16 + hash.spread() / 7 % 112
}

/// What callers hear when the journal does not take a batch.
fn refusal(error: AppendError) -> Error {
    match error {
        AppendError::Unknown => Error::OutcomeUnknown,
        AppendError::Full => Error::DiskFull,
        AppendError::Busy => Error::Overloaded(Limit::MailboxCount),
    }
}
