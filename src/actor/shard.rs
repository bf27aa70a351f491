//! The thread that actors run on: brings what comes in to the core, and carries out what comes out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use actix::Actor;
use actix::ActorFutureExt;
use actix::AsyncContext;
use actix::Context;
use actix::Handler;
use actix::WrapFuture;
use futures_util::FutureExt;
use tokio::task::JoinHandle;

use crate::actor::core::Core;
use crate::actor::found::Found;
use crate::actor::input::Input;
use crate::actor::input::Now;
use crate::actor::output::Output;
use crate::actor::sender::Sender;
use crate::actor::sender::Step;
use crate::actor::shared::Shared;
use crate::actor::tasks::Post;
use crate::actor::tasks::Task;
use crate::actor::wake;
use crate::base::Key;
use crate::base::clock;
use crate::base::ids;
use crate::base::ids::KeyHash;
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

/// Requests that a shard holds beyond those in the mailboxes of its actors.
const MAILBOX_MAX: usize = 16_384;
/// How often a shard looks for what is due.
const TICK: Duration = Duration::from_millis(50);
/// How long those wait who asked for an actor whose file is being opened.
const WAKE_MAX: Duration = Duration::from_secs(30);

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
        let sender = Sender::new(ctx.address().recipient());
        // As with tasks: many may be under way at once.
        actix::spawn(async move {
            let heard = match shared.shard(&to) {
                Some(shard) => shard.tell_letters(from, &to, letters).await,
                None => Err(Refusal::Failed(Error::Starting)),
            };
            sender.step(Input::Heard(hash, to, heard)).await;
        });
    }

    /// A task of its own on this thread: a future of the actor would be polled with all others whenever one of them has
    /// something to do, which is quadratic in the turns that stream.
    fn spawn(&mut self, key: Key, task: Box<dyn Task>, ctx: &mut Context<Self>) {
        let (hash, sender) = (key.hash(), Sender::new(ctx.address().recipient()));
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
