//! All actors of this process: the shards, what they share, and how a request finds its shard.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::Actor;
use actix::Addr;
use actix::Arbiter;
use bytestring::ByteString;
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::actor::Engine;
use crate::actor::Options;
use crate::actor::input::Input;
use crate::actor::sender::Sender;
use crate::actor::shard::Shard;
use crate::actor::shared::Shared;
use crate::actor::shared::shard_of;
use crate::actor::wake;
use crate::base::Key;
use crate::base::clock;
use crate::base::limits::Limits;
use crate::base::metric;
use crate::storage;
use crate::storage::disk;
use crate::storage::journal::Hooks;
use crate::storage::journal::Journal;
use crate::wire::ask::AnswerOf;
use crate::wire::ask::Asks;
use crate::wire::ask::Error;
use crate::wire::ask::Refusal;
use crate::wire::ask::Request;

/// The actors of this process. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    pub(super) shards: Arc<[Addr<Shard>]>,
    /// The ways to them.
    senders: Arc<[Sender]>,
    pub(super) shared: Arc<Shared>,
    /// Whether every session file is in the catalogue; there is no list of sessions before.
    pub(super) complete: Arc<watch::Sender<bool>>,
    /// Whether every reader is told that the process ends.
    pub(super) closing: Arc<watch::Sender<bool>>,
}

/// Sessions that are urged at once to write their files.
const URGE_AT_ONCE: usize = 64;
/// Timers that are looked up at once.
const DUE_AT_ONCE: usize = 200;

impl Node {
    /// Takes the data folder, reads the journal and starts the shards. Must run on a thread with an actix system.
    ///
    /// # Errors
    ///
    /// [`storage::Error`] when the folder belongs to another process, cannot be read, or misses durable records.
    pub fn start(options: Options) -> Result<Self, storage::Error> {
        let (shared, complete) = Shared::open(options, Journal::open)?;
        let shared = Arc::new(shared);
        wake::name_all(&shared);
        let shards = (0..shared.options.shards).map(|_| {
            let arbiter = Arbiter::with_tokio_rt(|| {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    // They open, write and close files; more would only fight over the disk.
                    .max_blocking_threads(4)
                    .build()
                    .expect("a runtime can be built when the process starts")
            });
            let shared = Arc::clone(&shared);
            Shard::start_in_arbiter(&arbiter.handle(), move |_| Shard::new(shared))
        });
        let shards: Arc<[Addr<Shard>]> = shards.collect();
        let sender = |shard: &Addr<Shard>| Sender::new(shard.clone().recipient());
        let senders: Arc<[Sender]> = shards.iter().map(sender).collect();
        // Nobody has set them before.
        let _set = shared.shards.set(Arc::clone(&senders));
        let complete = Arc::new(watch::Sender::new(complete));
        let closing = Arc::new(watch::Sender::new(false));
        let node = Self { shards, senders, shared, complete, closing };
        node.set_hooks();
        Ok(node)
    }

    fn set_hooks(&self) {
        let flush = Arc::downgrade(&self.shared);
        let urge = self.clone();
        self.shared.journal.set_hooks(Hooks {
            flush: Box::new(move || {
                let Some(shared) = flush.upgrade() else { return false };
                let flushed = shared.catalogue.flush();
                flushed
                    .inspect_err(|error| tracing::warn!(error = %error, "flushing the catalogue"))
                    .is_ok()
            }),
            urge: Box::new(move |keys| {
                // Until then all are under way, those first that keep the oldest segments.
                if !urge.shared.caught_up.load(Ordering::Acquire) {
                    return;
                }
                for key in keys.into_iter().take(URGE_AT_ONCE) {
                    urge.shard(&key).urge(key);
                }
            }),
        });
    }

    fn shard(&self, key: &Key) -> &Sender {
        shard_of(&self.senders, key)
    }

    /// Asks the actor of `key`, which must be of kind `K`.
    pub(super) async fn ask_of<K: Asks>(&self, key: &Key, request: Request<K>) -> AnswerOf<K> {
        if self.shared.stopping.load(Ordering::Acquire) {
            return Err(Error::ShuttingDown);
        }
        self.shard(key).ask(key, request).await
    }

    /// Waits until the actor of `key` is awake, and so up to date.
    pub(super) async fn wake(&self, key: &Key) -> Result<(), Refusal> {
        if self.shared.stopping.load(Ordering::Acquire) {
            return Err(Refusal::Failed(Error::ShuttingDown));
        }
        self.shard(key).wake(key).await
    }

    /// Gives `text` to all who follow the actor of `key` now. It is stored nowhere; who misses it does not miss anything.
    pub fn publish(&self, key: &Key, text: ByteString) {
        if !self.shared.stopping.load(Ordering::Acquire) {
            self.shard(key).publish(key, text);
        }
    }

    /// Reads what the data takes of its disk, for `/metrics`.
    ///
    /// # Errors
    ///
    /// [`storage::Error`] when the system does not tell.
    pub fn measure_disk(&self) -> Result<(), storage::Error> {
        let folder = &self.shared.folder;
        let usage = disk::usage(folder.root(), &folder.journal())?;
        let counters = metric::counters();
        let gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        counters.disk_free_bytes.set(gauge(usage.free_bytes));
        counters.journal_bytes.set(gauge(usage.journal_bytes));
        counters.journal_segments.set(gauge(usage.segments_count));
        Ok(())
    }

    /// Whether writes are possible.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let shared = &self.shared;
        let stores = !shared.disk_full.load(Ordering::Acquire) && !shared.journal.is_failing();
        shared.ready.load(Ordering::Acquire) && stores
    }

    /// Becomes true when every reader is told that the process ends: for readers of no session.
    #[must_use]
    pub fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// The bounds in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.options.limits
    }

    /// The models and tools of turns.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.shared.options.engine
    }

    /// Who answers on the chat route, if not the default model.
    #[must_use]
    pub fn chat_model(&self) -> Option<&str> {
        self.shared.options.chat_model.as_deref()
    }

    /// One round of what a node does every second: look at the disk, write the catalogue, wake who has a timer.
    pub async fn housekeep(&self) {
        let shared = Arc::clone(&self.shared);
        let round = move || {
            let full = disk::is_full(shared.folder.root(), shared.options.min_free_bytes);
            let was = shared.disk_full.swap(*full.as_ref().unwrap_or(&true), Ordering::AcqRel);
            match full {
                Ok(full) if full != was => {
                    tracing::warn!(
                        "the disk {}",
                        if full { "is full: nothing is stored" } else { "has space again" }
                    );
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(error = %error, "looking at the disk"),
            }
            shared.journal.probe();
            storage::kinds::trim();
            if let Err(error) = shared.catalogue.flush() {
                tracing::warn!(error = %error, "writing the catalogue, trying again");
            }
            shared.catalogue.due(clock::now_ms(), DUE_AT_ONCE).unwrap_or_default()
        };
        let due = tokio::task::spawn_blocking(round).await.unwrap_or_default();
        join_all(due.iter().map(|key| self.wake(key))).await;
    }

    /// Says something to all shards, and waits until it is carried out.
    pub(super) async fn step_all(&self, input: impl Fn() -> Input) {
        join_all(self.senders.iter().map(|shard| shard.step(input()))).await;
    }

    /// Commits what waits for its commit, on all shards.
    pub async fn commit(&self) {
        self.step_all(|| Input::Commit).await;
    }
}
