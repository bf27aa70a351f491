//! The threads beside the writer: one prepares segments ahead of need, one retires those that nobody needs any more.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::base::Key;
use crate::storage::journal::Ledger;
use crate::storage::journal::Options;
use crate::storage::journal::segment;

/// How often the retiring thread looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Retired segments go in groups of this many: each `syncfs` makes writers wait a little. They go earlier when nothing was
/// written for [`IDLE_LOOKS_MAX`] looks, or when something in them was deleted.
const GROUP: usize = 4;
const IDLE_LOOKS_MAX: u32 = 8;
/// The first segment of a process is small, so that starting does not wait for 64 MiB of zeros; each is up to this many
/// times as large as the one before, so that it is ready before that one is full.
const FIRST_BYTES_MAX: u64 = 2 << 20;
const GROWTH: u64 = 4;

/// A segment, written with zeros, with a durable name and no header.
pub(super) struct Prepared {
    pub number: u64,
    pub file: File,
    pub bytes: u64,
}

/// What the keeper asks of others.
pub struct Hooks {
    /// Writes to files what only memory holds of them, before `syncfs`.
    pub flush: Box<dyn Fn() -> bool + Send + Sync>,
    /// These sessions keep the oldest segment alive: write their files soon.
    pub urge: Box<dyn Fn(Vec<Key>) + Send + Sync>,
}

/// What writer and keeper tell each other.
pub(super) struct Shared {
    /// Segments below this are sealed.
    pub active: AtomicU64,
    /// Grows with each write.
    pub writes: AtomicU64,
    /// Segments below this hold something that was deleted, and go soon.
    pub urgent: AtomicU64,
    failing: Mutex<Option<io::ErrorKind>>,
    hooks: Mutex<Option<Hooks>>,
    wake: (Mutex<Signal>, Condvar),
}

#[derive(Default)]
struct Signal {
    look: bool,
    stop: bool,
}

impl Shared {
    pub(super) fn new(next: u64) -> Self {
        Self {
            active: AtomicU64::new(next),
            writes: AtomicU64::new(0),
            urgent: AtomicU64::new(0),
            failing: Mutex::default(),
            hooks: Mutex::default(),
            wake: Default::default(),
        }
    }

    /// Why no segment can be prepared at the moment.
    pub(super) fn preparing_fails(&self) -> Option<io::ErrorKind> {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_hooks(&self, hooks: Hooks) {
        *self.hooks.lock().unwrap_or_else(PoisonError::into_inner) = Some(hooks);
    }

    /// Makes the retiring thread look now.
    pub(super) fn wake(&self) {
        self.signal(|signal| signal.look = true);
    }

    fn signal(&self, change: impl FnOnce(&mut Signal)) {
        change(&mut self.wake.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.1.notify_all();
    }

    fn failed(&self, kind: Option<io::ErrorKind>) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = kind;
    }

    /// Waits for a signal or `pause`; whether to stop.
    fn wait(&self, pause: Duration) -> bool {
        let guard = self.wake.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.wake.1.wait_timeout_while(guard, pause, |s| !s.look && !s.stop);
        let (mut guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        guard.look = false;
        guard.stop
    }
}

/// The threads; they end when this goes.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the threads; segments come out of the receiver, one ahead of need.
    pub(super) fn start(
        options: &Options,
        next: u64,
        ledger: Arc<Ledger>,
        shared: Arc<Shared>,
    ) -> (Self, Receiver<Prepared>) {
        let (prepared, segments) = sync_channel(0);
        let preparer = Preparer {
            dir: options.dir.clone(),
            bytes: options.segment_bytes,
            segments_max: (options.max_bytes / options.segment_bytes.max(1)).max(4),
            ledger: Arc::clone(&ledger),
            shared: Arc::clone(&shared),
        };
        let retirer = Retirer {
            dir: options.dir.clone(),
            files_dir: options.files_dir.clone(),
            ledger,
            shared: Arc::clone(&shared),
            idle_looks: 0,
            writes: 0,
        };
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(work).ok()
        };
        let threads = [
            spawn("journal-prepare", Box::new(move || preparer.run(next, &prepared))),
            spawn("journal-retire", Box::new(move || retirer.run())),
        ];
        (Self { shared, threads: threads.into_iter().flatten().collect() }, segments)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.signal(|signal| signal.stop = true);
        for thread in self.threads.drain(..) {
            // The preparing thread ends when the writer does; joining it here could wait for ourselves.
            if thread.thread().name() == Some("journal-retire") {
                drop(thread.join());
            }
        }
    }
}

struct Preparer {
    dir: PathBuf,
    bytes: u64,
    segments_max: u64,
    ledger: Arc<Ledger>,
    shared: Arc<Shared>,
}

impl Preparer {
    fn run(&self, mut number: u64, prepared: &SyncSender<Prepared>) {
        let mut bytes = self.bytes.min(FIRST_BYTES_MAX);
        loop {
            while self.ledger.segment_count() as u64 >= self.segments_max {
                self.shared.wake();
                if self.shared.wait(Duration::from_millis(50)) {
                    return;
                }
            }
            match prepare(&self.dir, number, bytes) {
                Ok(file) => {
                    self.shared.failed(None);
                    if prepared.send(Prepared { number, file, bytes }).is_err() {
                        return;
                    }
                    number += 1;
                    bytes = (bytes * GROWTH).min(self.bytes);
                }
                Err(error) => {
                    self.shared.failed(Some(error.kind()));
                    tracing::warn!(error = %error, "preparing a journal segment failed, trying again");
                    if self.shared.wait(Duration::from_millis(200)) {
                        return;
                    }
                }
            }
        }
    }
}

/// Makes the file of segment `number`: zeros, so that later writes change no metadata, with a durable name.
fn prepare(dir: &Path, number: u64, bytes: u64) -> io::Result<File> {
    let path = segment::path(dir, number);
    let write = || {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let zeros = vec![0; 1 << 20];
        let mut at = 0;
        while at < bytes {
            let length = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(zeros.len());
            file.write_all_at(&zeros[..length], at)?;
            at += length as u64;
            // In small pieces, so that nobody's sync waits behind a whole segment of zeros.
            file.sync_data()?;
        }
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(file)
    };
    let result = write();
    if result.is_err() {
        // Whatever space it took is needed now.
        drop(fs::remove_file(&path));
    }
    result
}

struct Retirer {
    dir: PathBuf,
    files_dir: PathBuf,
    ledger: Arc<Ledger>,
    shared: Arc<Shared>,
    idle_looks: u32,
    writes: u64,
}

impl Retirer {
    fn run(mut self) {
        while !self.shared.wait(LOOK_EVERY) {
            let idle = self.ledger.idle_segments(self.shared.active.load(Ordering::Acquire));
            if idle.is_empty() {
                self.idle_looks = 0;
                self.urge();
                continue;
            }
            let writes = self.shared.writes.load(Ordering::Acquire);
            self.idle_looks = if writes == self.writes { self.idle_looks + 1 } else { 0 };
            self.writes = writes;
            let urgent = idle[0] < self.shared.urgent.load(Ordering::Acquire);
            if idle.len() < GROUP && self.idle_looks < IDLE_LOOKS_MAX && !urgent {
                continue;
            }
            self.idle_looks = 0;
            if let Err(error) = self.retire(&idle) {
                tracing::warn!(error = %error, "retiring journal segments failed, trying again");
            }
        }
    }

    /// Asks for the files of those sessions that keep old segments alive.
    fn urge(&self) {
        if self.ledger.segment_count() <= GROUP {
            return;
        }
        let holding = self.ledger.holding_oldest();
        let hooks = self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hooks) = &*hooks {
            (hooks.urge)(holding);
        }
    }

    fn retire(&self, numbers: &[u64]) -> io::Result<()> {
        {
            let hooks = self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(hooks) = &*hooks else { return Ok(()) };
            if !(hooks.flush)() {
                return Ok(());
            }
        }
        // One call makes every session file durable; syncing thousands of them one by one takes many times as long.
        rustix::fs::syncfs(File::open(&self.files_dir)?)?;
        for number in numbers {
            fs::remove_file(segment::path(&self.dir, *number))?;
        }
        self.ledger.close_segments(numbers);
        Ok(())
    }
}
