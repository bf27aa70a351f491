//! All actors of this process: the shards, what they share, and how a request finds its shard.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::Actor;
use actix::Arbiter;
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::actor::Engine;
use crate::actor::shard::Commit;
use crate::actor::shard::Sender;
use crate::actor::shard::Shard;
use crate::actor::shard::Stop;
use crate::base::Key;
use crate::base::clock;
use crate::base::json::Json;
use crate::base::limits::Limits;
use crate::base::metric;
use crate::domain::session::Session;
use crate::domain::session::TurnOptions;
use crate::storage;
use crate::storage::Folder;
use crate::storage::catalogue::Card;
use crate::storage::catalogue::Catalogue;
use crate::storage::catalogue::ListCursor;
use crate::storage::disk;
use crate::storage::journal;
use crate::storage::journal::Hooks;
use crate::storage::journal::Journal;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Query;
use crate::wire::envelope::Request;

/// How the actors of a node are set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data folder.
    pub data: PathBuf,
    /// Threads for actors.
    pub shards: usize,
    /// Sessions that are awake at most, over all shards.
    pub awake_max: usize,
    /// Idle time before a session sleeps.
    pub sleep_after: Duration,
    /// How long applied events may wait for their commit.
    pub commit_delay: Duration,
    /// How long a new session may be without a file.
    pub file_delay: Duration,
    /// Bytes of events after which the write-ahead log of a session in use is moved into its file.
    pub checkpoint_bytes: usize,
    /// Free space below which nothing is written; `None`: the default reserve.
    pub min_free_bytes: Option<u64>,
    /// Size of a journal segment.
    pub segment_bytes: u64,
    /// Size of the journal at which writers wait.
    pub journal_bytes: u64,
    /// Whether to start although durable records are missing.
    pub accept_damage: bool,
    /// The models and tools of turns.
    pub engine: Engine,
    /// Who answers on the chat route, if not the default model.
    pub chat_model: Option<String>,
    /// The bounds in force.
    pub limits: Limits,
}

/// What all shards share.
pub(super) struct Shared {
    pub options: Options,
    pub folder: Folder,
    pub journal: Journal,
    pub catalogue: Catalogue,
    pub disk_full: AtomicBool,
    pub stopping: AtomicBool,
}

/// The actors of this process. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    shards: Arc<[Sender]>,
    shared: Arc<Shared>,
    /// Whether every session is as the journal says; the list of sessions is not true before.
    recovered: Arc<watch::Sender<bool>>,
}

/// Sessions that are brought up to date at once after a start.
const RECOVER_AT_ONCE: usize = 64;
/// Timers that are looked up at once.
const DUE_AT_ONCE: usize = 200;

impl Node {
    /// Takes the data folder, reads the journal and starts the shards. Must run on a thread with an actix system.
    ///
    /// # Errors
    ///
    /// [`storage::Error`] when the folder belongs to another process, cannot be read, or misses durable records.
    pub fn start(options: Options) -> Result<Self, storage::Error> {
        let folder = Folder::open(&options.data)?;
        let damage = match options.accept_damage {
            true => journal::DamagePolicy::Accept,
            false => journal::DamagePolicy::Refuse,
        };
        let (journal, _) = Journal::open(&journal::Options {
            dir: folder.journal(),
            files_dir: folder.root().to_owned(),
            segment_bytes: options.segment_bytes,
            max_bytes: options.journal_bytes,
            damage,
        })?;
        let (catalogue, empty) = Catalogue::open(&folder.catalogue())?;
        let full = disk::is_full(folder.root(), options.min_free_bytes)?;
        let shared = Arc::new(Shared {
            folder,
            journal,
            catalogue,
            disk_full: AtomicBool::new(full),
            stopping: AtomicBool::new(false),
            options,
        });
        if empty {
            rebuild_catalogue(&shared)?;
        }
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
            Sender::new(Shard::start_in_arbiter(&arbiter.handle(), move |_| Shard::new(shared)))
        });
        let recovered = Arc::new(watch::Sender::new(false));
        let node = Self { shards: shards.collect(), shared, recovered };
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
                for key in keys.into_iter().take(RECOVER_AT_ONCE) {
                    urge.shard(&key).urge(key);
                }
            }),
        });
    }

    fn shard(&self, key: &Key) -> &Sender {
        let at = key.hash().spread() % self.shards.len() as u64;
        &self.shards[usize::try_from(at).expect("less than the number of shards")]
    }

    /// Asks the actor of `key`.
    ///
    /// # Errors
    ///
    /// [`Error`]: what the actor answers, or that it could not be reached.
    pub async fn ask(&self, key: &Key, request: Request) -> Result<Answer, Error> {
        if self.shared.stopping.load(Ordering::Acquire) {
            return Err(Error::ShuttingDown);
        }
        self.shard(key).ask(key, request).await
    }

    /// A page of a workspace's sessions, newest activity first, with everything that was acknowledged before. After a
    /// start it waits until every session is as the journal says.
    ///
    /// # Errors
    ///
    /// [`Error::Reset`] when the catalogue cannot be read.
    pub async fn list(
        &self,
        workspace: String,
        behind: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<(Session, ListCursor)>, Error> {
        if self.recovered.subscribe().wait_for(|recovered| *recovered).await.is_err() {
            return Err(Error::ShuttingDown);
        }
        join_all(self.shards.iter().map(Sender::note_all)).await;
        let shared = Arc::clone(&self.shared);
        let list = move || {
            shared.catalogue.flush()?;
            shared.catalogue.list(&workspace, behind, limit)
        };
        let cards = match tokio::task::spawn_blocking(list).await {
            Ok(Ok(cards)) => cards,
            Ok(Err(error)) => {
                tracing::error!(error = %error, "listing sessions");
                return Err(Error::Reset);
            }
            Err(_) => return Err(Error::Reset),
        };
        Ok(cards
            .iter()
            .map(|card| (session(card), (card.updated_at_ms, card.key.hash())))
            .collect())
    }

    /// The life of the node: grows with each start.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.journal.epoch()
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
        !self.shared.stopping.load(Ordering::Acquire)
            && !self.shared.disk_full.load(Ordering::Acquire)
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

    /// Brings every session up to date that the journal is ahead of; part of every start, beside the traffic.
    pub async fn recover(&self) {
        let keys = self.shared.journal.ledger().pending_keys(usize::MAX);
        if !keys.is_empty() {
            tracing::info!("bringing {} sessions up to date from the journal", keys.len());
        }
        for group in keys.chunks(RECOVER_AT_ONCE) {
            join_all(group.iter().map(|key| self.ask(key, Request::Query(Query::Wake)))).await;
        }
        self.recovered.send_replace(true);
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
            if let Err(error) = shared.catalogue.flush() {
                tracing::warn!(error = %error, "writing the catalogue, trying again");
            }
            shared.catalogue.due(clock::now_ms(), DUE_AT_ONCE).unwrap_or_default()
        };
        let due = tokio::task::spawn_blocking(round).await.unwrap_or_default();
        join_all(due.iter().map(|key| self.ask(key, Request::Query(Query::Wake)))).await;
    }

    /// Tells every subscriber, takes nothing new, and writes what is in memory to the files, for at most `patience`.
    pub async fn stop(&self, patience: Duration) {
        self.shared.stopping.store(true, Ordering::Release);
        let stops = join_all(self.shards.iter().map(|shard| shard.send(Stop)));
        if tokio::time::timeout(patience, stops).await.is_err() {
            tracing::warn!(
                "not every session was written to its file in time; the journal has the rest"
            );
        }
        let shared = Arc::clone(&self.shared);
        let flush = tokio::task::spawn_blocking(move || shared.catalogue.flush());
        if let Ok(Err(error)) = flush.await {
            tracing::warn!(error = %error, "writing the catalogue");
        }
    }

    /// Commits what waits for its commit, on all shards.
    pub async fn commit(&self) {
        join_all(self.shards.iter().map(|shard| shard.send(Commit))).await;
    }
}

/// Fills an empty catalogue from the session files.
fn rebuild_catalogue(shared: &Shared) -> Result<(), storage::Error> {
    let files = shared.folder.sessions()?;
    if !files.is_empty() {
        tracing::info!("making the catalogue of {} sessions anew", files.len());
    }
    for path in files {
        match storage::session::card(&path) {
            Ok(card) => shared.catalogue.note(card),
            Err(error) => {
                tracing::warn!(file = %path.display(), error = %error, "a session file cannot be read")
            }
        }
    }
    shared.catalogue.flush()
}

/// A session as clients see it, from what the catalogue knows.
fn session(card: &Card) -> Session {
    Session {
        id: card.key.id().to_owned(),
        title: card.title.clone(),
        project_id: card.project_id.clone(),
        metadata: Json::parse(&card.metadata).unwrap_or_default(),
        message_count: card.message_count,
        item_count: card.item_count,
        settings: TurnOptions::default(),
        last_seq: card.last_seq,
        active_turn: card.active_turn.clone(),
        created_at: card.created_at_ms.div_euclid(1_000),
        updated_at: card.updated_at_ms.div_euclid(1_000),
    }
}
