//! The thread that actors run on: brings what comes in to the core, and carries out what comes out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

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
use tokio::task::JoinHandle;

use crate::actor::core::Core;
use crate::actor::core::Input;
use crate::actor::core::Now;
use crate::actor::core::Output;
use crate::actor::hosted::AnswerOf;
use crate::actor::hosted::Hosted;
use crate::actor::hosted::Task;
use crate::actor::job::Asked;
use crate::actor::job::Job;
use crate::actor::job::Letters;
use crate::actor::job::Wake;
use crate::actor::node::Post;
use crate::actor::node::Shared;
use crate::actor::wake;
use crate::actor::wake::Found;
use crate::base::Key;
use crate::base::clock;
use crate::base::ids;
use crate::base::ids::KeyHash;
use crate::base::limits::Limit;
use crate::base::metric;
use crate::storage;
use crate::storage::describe;
use crate::storage::file::Letter;
use crate::storage::journal::AppendError;
use crate::storage::journal::Encoded;
use crate::storage::journal::Refused;
use crate::storage::kinds;
use crate::wire::ask::Error;
use crate::wire::ask::Refusal;
use crate::wire::ask::Request;

/// Requests that a shard holds beyond those in the mailboxes of its actors.
const MAILBOX_MAX: usize = 16_384;
/// How often a shard looks for what is due.
const TICK: Duration = Duration::from_millis(50);
/// How long those wait who asked for an actor whose file is being opened.
const WAKE_MAX: Duration = Duration::from_secs(30);

/// Sends requests to a shard. Cheap to clone.
#[derive(Clone)]
pub(super) struct Sender(Addr<Shard>);

impl Sender {
    pub(super) fn new(shard: Addr<Shard>) -> Self {
        Self(shard)
    }

    /// Asks the actor of `key`, which must be one of the shard's, and of kind `K`.
    pub(super) async fn ask<K: Hosted>(&self, key: &Key, request: Request<K>) -> AnswerOf<K> {
        let (reply, answer) = oneshot::channel();
        let bytes = request.size();
        let job = Job { waiting: Asked::new(request, reply), at: clock::instant(), bytes };
        if !self.tell(Input::Deliver(key.clone(), job)) {
            return Err(Error::Overloaded(Limit::MailboxCount));
        }
        answer.await.unwrap_or(Err(Error::Reset))
    }

    /// Waits until the actor of `key` is awake, and so up to date.
    pub(super) async fn wake(&self, key: &Key) -> Result<(), Refusal> {
        let (reply, woken) = oneshot::channel();
        let job = Job::own(Wake::new(reply), clock::instant());
        if !self.tell(Input::Deliver(key.clone(), job)) {
            return Err(Refusal::Failed(Error::Overloaded(Limit::MailboxCount)));
        }
        woken.await.unwrap_or(Err(Refusal::Failed(Error::Reset)))
    }

    /// Brings `letters` of `from` to the actor of `to`; up to which one it has heard them then.
    async fn tell_letters(
        &self,
        from: Key,
        to: &Key,
        letters: Vec<Letter>,
    ) -> Result<u64, Refusal> {
        let (reply, heard) = oneshot::channel();
        let waiting = Letters::new(from, letters, reply);
        let bytes = waiting.size();
        let job = Job { waiting, at: clock::instant(), bytes };
        if !self.tell(Input::Deliver(to.clone(), job)) {
            return Err(Refusal::Failed(Error::Overloaded(Limit::MailboxCount)));
        }
        heard.await.unwrap_or(Err(Refusal::Failed(Error::Reset)))
    }

    /// Gives `text` to all who follow the actor of `key` now.
    pub(super) fn publish(&self, key: &Key, text: ByteString) {
        self.tell(Input::Publish(key.clone(), text));
    }

    /// Asks for the file of `key` to be brought up to date soon.
    pub(super) fn urge(&self, key: Key) {
        // A full mailbox is tried again with the next round.
        drop(self.0.try_send(Step(Input::Urge(key))));
    }

    fn tell(&self, input: Input) -> bool {
        let told = self.0.try_send(Step(input)).is_ok();
        if !told {
            metric::counters().limit_hit(Limit::MailboxCount);
        }
        told
    }

    /// Says `input` and waits until it is carried out.
    pub(super) async fn step(&self, input: Input) {
        self.send(Step(input)).await;
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
pub(super) struct Step(Input);

/// The core on its thread.
pub(super) struct Shard {
    pub(super) core: Core,
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MAX);
        ctx.run_interval(TICK, |shard, ctx| shard.step(Input::Tick, ctx));
    }
}

impl Handler<Step> for Shard {
    type Result = ();

    fn handle(&mut self, Step(input): Step, ctx: &mut Self::Context) {
        self.step(input, ctx);
    }
}

fn now() -> Now {
    Now { instant: clock::instant(), unix_ms: clock::now_ms() }
}

impl Shard {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { core: Core::new(shared, now(), Box::new(ids::fresh)) }
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.core.shared)
    }

    fn step(&mut self, input: Input, ctx: &mut Context<Self>) {
        for output in self.core.step(now(), input) {
            self.carry_out(output, ctx);
        }
    }

    fn carry_out(&mut self, output: Output, ctx: &mut Context<Self>) {
        match output {
            // Behind everything that is in the mailbox.
            Output::Turn => ctx.notify(Step(Input::Turn)),
            Output::Append(records, hashes) => self.append(records, hashes, ctx),
            Output::Open(key) => self.open(key, ctx),
            Output::Lend(key, work, file) => {
                let (hash, shared) = (key.hash(), self.shared());
                let work = move || work.carry_out(&shared, &key, file);
                // What panicked on it says so in the log; the journal has everything.
                self.block(ctx, work, move |result| {
                    Input::Returned(hash, result.unwrap_or(Ok(None)))
                });
            }
            Output::Move(key) => {
                let (hash, path) = (key.hash(), self.core.shared.folder.file(&key));
                let work = move || (kinds::files(key.kind()).move_log)(&path);
                self.block(ctx, work, move |result| {
                    if let Some(Err(error)) = result {
                        let text = describe(&error);
                        tracing::warn!("a log could not be moved into its file: {text}");
                    }
                    Input::Moved(hash)
                });
            }
            Output::Discard(key, why) => {
                let (hash, shared) = (key.hash(), self.shared());
                let work = move || wake::delete_unreadable(&shared, &key);
                self.block(ctx, work, move |result| {
                    Input::Discarded(hash, why, matches!(result, Some(Ok(()))))
                });
            }
            Output::Tell(from, to, letters) => self.tell(from, to, letters, ctx),
            Output::Spawn(key, task) => self.spawn(key, task, ctx),
        }
    }

    fn append(&mut self, records: Vec<Encoded>, hashes: Vec<KeyHash>, ctx: &mut Context<Self>) {
        match self.core.shared.journal.append(records) {
            Err(error) => {
                self.step(Input::Appended(hashes, Err(Refused { durable: 0, error })), ctx);
            }
            Ok(appended) => {
                ctx.spawn(appended.into_actor(self).map(move |result, shard, ctx| {
                    let unknown = Refused { durable: 0, error: AppendError::Unknown };
                    let result = result.unwrap_or(Err(unknown));
                    shard.step(Input::Appended(hashes, result), ctx);
                }));
            }
        }
    }

    fn open(&mut self, key: Key, ctx: &mut Context<Self>) {
        let (hash, started, shared) = (key.hash(), clock::instant(), self.shared());
        let open = tokio::task::spawn_blocking(move || wake::open(&shared, &key));
        self.await_opened(hash, started, open, ctx);
    }

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
                let found = joined.map_err(panicked).and_then(|found| found);
                let epoch = shard.core.shared.journal.epoch();
                shard.step(Input::Opened(hash, found, epoch), ctx);
            }
            Err(open) => {
                shard.step(Input::Slow(hash, started.elapsed()), ctx);
                shard.await_opened(hash, started, open, ctx);
            }
        }));
    }

    /// Does `work` on a thread that may block, and says what came of it; `None` if it panicked.
    fn block<T: Send + 'static>(
        &self,
        ctx: &mut Context<Self>,
        work: impl FnOnce() -> T + Send + 'static,
        input: impl FnOnce(Option<T>) -> Input + 'static,
    ) {
        let done = tokio::task::spawn_blocking(work).map(Result::ok);
        ctx.spawn(done.into_actor(self).map(move |result, shard, ctx| {
            shard.step(input(result), ctx);
        }));
    }

    fn tell(&mut self, from: Key, to: Key, letters: Vec<Letter>, ctx: &mut Context<Self>) {
        let (hash, shared) = (from.hash(), self.shared());
        let told = async move {
            let Some(shard) = shared.shard(&to) else {
                return Input::Heard(hash, to, Err(Refusal::Failed(Error::Starting)));
            };
            let heard = shard.tell_letters(from, &to, letters).await;
            Input::Heard(hash, to, heard)
        };
        ctx.spawn(told.into_actor(self).map(|input, shard, ctx| shard.step(input, ctx)));
    }

    /// A task of its own on this thread: a future of the actor would be polled with all others whenever one of them has
    /// something to do, which is quadratic in the turns that stream.
    fn spawn(&mut self, key: Key, task: Box<dyn Task>, ctx: &mut Context<Self>) {
        let (hash, sender) = (key.hash(), Sender(ctx.address()));
        let post = Post { sender: sender.clone(), shared: self.shared(), key };
        let run = task.run(post);
        actix::spawn(async move {
            if AssertUnwindSafe(run).catch_unwind().await.is_err() {
                tracing::error!("a task panicked; see the log before this line");
            }
            sender.step(Input::TaskLeft(hash)).await;
        });
    }
}
