//! What all shards of a node share, and how it is set up.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::actor::Engine;
use crate::actor::sender::Sender;
use crate::base::Key;
use crate::base::limits::Limits;
use crate::base::metric;
use crate::storage;
use crate::storage::Folder;
use crate::storage::catalogue::Catalogue;
use crate::storage::disk;
use crate::storage::file::Settings;
use crate::storage::journal;
use crate::storage::journal::Damage;
use crate::storage::journal::Journal;

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
    /// How long the text of an answer stays in the log as it grew, in milliseconds.
    pub deltas_kept_ms: u64,
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
    /// Set once they run.
    pub shards: OnceLock<Arc<[Sender]>>,
    /// How files are kept.
    pub files: Settings,
    pub folder: Folder,
    pub journal: Journal,
    pub catalogue: Catalogue,
    pub disk_full: AtomicBool,
    /// Whether requests are answered; readiness ends first when the process stops.
    pub ready: AtomicBool,
    /// Whether no turn begins any more.
    pub draining: AtomicBool,
    /// Whether nothing is taken any more.
    pub stopping: AtomicBool,
    /// Whether no session is behind what the journal held at the start.
    pub caught_up: AtomicBool,
}

impl Shared {
    /// Takes the data folder and reads the journal, which `open` opens; whether the list of actors is complete.
    pub(super) fn open(
        options: Options,
        open: impl FnOnce(&journal::Options) -> Result<(Journal, Vec<Damage>), storage::Error>,
    ) -> Result<(Self, bool), storage::Error> {
        let folder = Folder::open(&options.data)?;
        let policy = match options.accept_damage {
            true => journal::DamagePolicy::Accept,
            false => journal::DamagePolicy::Refuse,
        };
        let (journal, damage) = open(&journal::Options {
            dir: folder.journal(),
            files_dir: folder.root().to_owned(),
            quarantine_dir: folder.quarantine(),
            segment_bytes: options.segment_bytes,
            max_bytes: options.journal_bytes,
            damage: policy,
        })?;
        if journal.is_new() && !Catalogue::was_closed(&folder.catalogue())? && folder.has_files()? {
            tracing::error!(
                "the journal is empty, and the server that used {} last did not stop in good order: what was stored last \
                 is missing where the session files do not have it. If the folder journal was removed, stop the server \
                 and put it back; `sessile verify` names the sessions that lack something",
                folder.root().display()
            );
        }
        // Without those records files may end before what the catalogue knows, and the files are right.
        let catalogue = Catalogue::open(&folder.catalogue(), !damage.is_empty())?;
        if !catalogue.is_complete()? && !folder.has_files()? {
            catalogue.complete()?;
        }
        let complete = catalogue.is_complete()?;
        let behind = journal.ledger().pending_count();
        metric::counters().catch_up.set(i64::try_from(behind).unwrap_or(i64::MAX));
        let full = disk::is_full(folder.root(), options.min_free_bytes)?;
        let deltas_kept_ms = i64::try_from(options.deltas_kept_ms).unwrap_or(i64::MAX);
        let files = Settings { deltas_kept_ms };
        let shared = Self {
            folder,
            journal,
            catalogue,
            disk_full: AtomicBool::new(full),
            ready: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            caught_up: AtomicBool::new(false),
            shards: OnceLock::new(),
            files,
            options,
        };
        Ok((shared, complete))
    }
}

impl Shared {
    /// The shard of `key`; `None` while the node starts.
    pub(super) fn shard(&self, key: &Key) -> Option<&Sender> {
        self.shards.get().map(|shards| shard_of(shards, key))
    }
}

pub(super) fn shard_of<'a>(shards: &'a [Sender], key: &Key) -> &'a Sender {
    let at = key.hash().spread() % shards.len() as u64;
    &shards[usize::try_from(at).expect("less than the number of shards")]
}
