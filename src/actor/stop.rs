//! How a node ends: turns run out, what still runs is cut off, everything is written to the files.
//!
//! In this order, so that whoever looks on misses nothing: no turn begins any more, while messages and reads go on as
//! ever (`drain`); turns that are not over in time become `interrupted`, with the text they had, and readers see that as
//! they see every event; then nothing is taken any more, readers are told, files are closed, and the journal keeps only
//! what did not get into its file.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use actix::ActorFutureExt;
use actix::Handler;
use actix::Message;
use actix::ResponseActFuture;
use actix::WrapFuture;
use futures_util::future::join_all;
use tokio::sync::oneshot;

use crate::actor::cell::State;
use crate::actor::input::Input;
use crate::actor::listing::note;
use crate::actor::node::Node;
use crate::actor::shard::Shard;
use crate::actor::shared::Shared;
use crate::actor::work::Work;
use crate::base::Key;
use crate::base::clock;
use crate::storage::file::AnyFile;
use crate::wire::ask::Error;
use crate::wire::ask::Refusal;
use crate::wire::feed::Close;

/// How often is asked whether what is waited for is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the ends of turns, and then what is with the journal, may take to become durable.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// Files that a shard closes at once.
const CLOSING_AT_ONCE: usize = 16;

/// What a stop waits for.
#[derive(Clone, Copy)]
enum Awaited {
    /// Turns that run.
    Turns,
    /// Commands that were taken and are not durable, and files that are with another thread.
    Files,
}

/// How many sessions of a shard do `Awaited`.
#[derive(Message)]
#[rtype(result = "usize")]
pub(super) struct Busy(Awaited);

/// Tell all subscribers, write everything to the files, until this time.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Stop(Instant);

impl Node {
    /// Begins no more turns and lets those that run come to their end, for at most `patience`. Everything else goes on.
    pub async fn drain(&self, patience: Duration) {
        self.shared.draining.store(true, Ordering::Release);
        self.shared.ready.store(false, Ordering::Release);
        self.wait_for(Awaited::Turns, patience).await;
    }

    /// Cuts off the turns that still run, tells every subscriber, takes nothing new, and writes what is in memory to the
    /// files, for at most `patience`.
    pub async fn stop(&self, patience: Duration) {
        let deadline = clock::instant() + patience;
        self.shared.draining.store(true, Ordering::Release);
        self.step_all(|| Input::Interrupt).await;
        self.wait_for(Awaited::Turns, SETTLE_MAX).await;
        self.shared.stopping.store(true, Ordering::Release);
        self.wait_for(Awaited::Files, SETTLE_MAX).await;
        self.closing.send_replace(true);
        let stops = join_all(self.shards.iter().map(|shard| shard.send(Stop(deadline))));
        if tokio::time::timeout(patience, stops).await.is_err() {
            tracing::warn!("not every session was written to its file in time");
        }
        let (done, finished) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        // A thread that the process does not wait for: whatever it does not come to is in the journal.
        let finish = move || {
            let flushed = shared.catalogue.close().and_then(|()| shared.journal.finish());
            if let Err(error) = flushed {
                tracing::warn!(error = %error, "writing the catalogue and retiring the journal");
            }
            // Who waits may have given up.
            let _gone = done.send(());
        };
        let begun = thread::Builder::new().name("finish".to_owned()).spawn(finish);
        if begun.is_ok() {
            drop(tokio::time::timeout(patience, finished).await);
        }
        match self.shared.journal.ledger().pending_count() {
            0 => tracing::info!("every session is in its file"),
            count => tracing::warn!(
                "{count} sessions are not whole in their files; the journal has the rest, and the next start goes on with it"
            ),
        }
    }

    async fn wait_for(&self, work: Awaited, patience: Duration) {
        let over = async {
            let mut every = tokio::time::interval(LOOK_EVERY);
            loop {
                every.tick().await;
                let busy = join_all(self.shards.iter().map(|shard| shard.send(Busy(work)))).await;
                // A shard that is gone does nothing.
                if busy.into_iter().flatten().sum::<usize>() == 0 {
                    return;
                }
            }
        };
        // What is not over by then is cut off.
        drop(tokio::time::timeout(patience, over).await);
    }
}

impl Handler<Busy> for Shard {
    type Result = usize;

    fn handle(&mut self, Busy(work): Busy, _: &mut Self::Context) -> usize {
        let cells = self.core.cells.values();
        match work {
            Awaited::Turns => cells.filter(|cell| cell.works()).count(),
            Awaited::Files => cells.filter(|cell| !cell.is_at_rest()).count(),
        }
    }
}

impl Handler<Stop> for Shard {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, Stop(deadline): Stop, _: &mut Self::Context) -> Self::Result {
        let mut files = Vec::new();
        for cell in self.core.cells.values_mut() {
            cell.hub.close(Close::Restarting);
            cell.refuse_all(&Refusal::Failed(Error::ShuttingDown));
            if !cell.host.is_in_flight()
                && let State::Awake(file) =
                    std::mem::replace(&mut cell.state, State::Away { works: false })
            {
                note(&self.core.shared, &*file, None);
                files.push((cell.key.clone(), file));
            }
        }
        // Several at once: the disk does in one go what they ask of it together.
        let per_thread = files.len().div_ceil(CLOSING_AT_ONCE).max(1);
        let mut closed = Vec::new();
        while !files.is_empty() {
            let files = files.split_off(files.len().saturating_sub(per_thread));
            let shared = Arc::clone(&self.core.shared);
            closed.push(tokio::task::spawn_blocking(move || close(&shared, files, deadline)));
        }
        Box::pin(join_all(closed).into_actor(self).map(|_, _, _| ()))
    }
}

/// Closes `files`, as many as can be until `deadline`.
fn close(shared: &Shared, files: Vec<(Key, Box<dyn AnyFile>)>, deadline: Instant) {
    for (key, file) in files {
        if clock::instant() >= deadline {
            return;
        }
        if let Err(error) = Work::Close.carry_out(shared, &key, file) {
            tracing::warn!(error = %error, "closing a file; the journal has what it lacks");
        }
    }
}
