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
use std::sync::atomic::AtomicBool;
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
/// The first segment of a process is small, so that starting does not wait for 64 MiB of zeros. Behind one that was filled
/// they are up to this many times as large; behind one that was ended early with most of it empty, as much smaller.
const FIRST_BYTES_MAX: u64 = 2 << 20;
pub(super) const GROWTH: u64 = 4;
/// Segments that a process gets however many there are, so that one that starts with a full journal can say of turns that
/// they were cut off, and take the first requests, before the files are up to date.
const AHEAD: u64 = 2;

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
    /// The newest segment with a durable header; it stays, for what its header counts. 0: there is none.
    pub headed: AtomicU64,
    /// Whether no segment is needed any more.
    pub finished: AtomicBool,
    /// Whether the last records could not be written.
    pub refusing: AtomicBool,
    /// Bytes of the segments that are prepared from now on, within their bounds.
    pub segment_bytes: AtomicU64,
    /// Grows with each write.
    pub writes: AtomicU64,
    /// Segments below this go as soon as they can: they hold something that was deleted, or are an earlier process's.
    pub urgent: AtomicU64,
    /// Held by who retires segments.
    retiring: Mutex<()>,
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
    pub(super) fn new(next: u64, headed: Option<u64>) -> Self {
        Self {
            active: AtomicU64::new(next),
            headed: AtomicU64::new(headed.unwrap_or(0)),
            finished: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            segment_bytes: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            urgent: AtomicU64::new(next),
            retiring: Mutex::default(),
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
    retirer: Arc<Retirer>,
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
        let retirer = Arc::new(Retirer {
            dir: options.dir.clone(),
            files_dir: options.files_dir.clone(),
            ledger,
            shared: Arc::clone(&shared),
        });
        let retire = Arc::clone(&retirer);
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(work).ok()
        };
        let threads = [
            spawn("journal-prepare", Box::new(move || preparer.run(next, &prepared))),
            spawn("journal-retire", Box::new(move || retire.run())),
        ];
        (Self { shared, retirer, threads: threads.into_iter().flatten().collect() }, segments)
    }

    /// Without threads: it retires when it is told to.
    #[cfg(test)]
    pub(super) fn idle(options: &Options, ledger: Arc<Ledger>, shared: Arc<Shared>) -> Self {
        let (dir, files_dir) = (options.dir.clone(), options.files_dir.clone());
        let retirer = Retirer { dir, files_dir, ledger, shared: Arc::clone(&shared) };
        Self { shared, retirer: Arc::new(retirer), threads: Vec::new() }
    }

    /// Retires every segment that nobody needs any more.
    pub(super) fn retire(&self) -> io::Result<()> {
        self.retirer.retire()
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
        let (least, ahead) = (self.bytes.min(FIRST_BYTES_MAX), number + AHEAD);
        while !self.shared.finished.load(Ordering::Acquire) {
            if number >= ahead && self.ledger.segment_count() as u64 >= self.segments_max {
                // Whatever can go must go now.
                let active = self.shared.active.load(Ordering::Acquire);
                self.shared.urgent.fetch_max(active, Ordering::AcqRel);
                self.shared.wake();
                if self.shared.wait(Duration::from_millis(50)) {
                    return;
                }
                continue;
            }
            let bytes = self.shared.segment_bytes.load(Ordering::Acquire).clamp(least, self.bytes);
            match prepare(&self.dir, number, bytes, &self.shared.finished) {
                Ok(file) => {
                    self.shared.failed(None);
                    if prepared.send(Prepared { number, file, bytes }).is_err() {
                        return;
                    }
                    number += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
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
pub(super) fn prepare(
    dir: &Path,
    number: u64,
    bytes: u64,
    finished: &AtomicBool,
) -> io::Result<File> {
    let path = segment::path(dir, number);
    let write = || {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let zeros = vec![0; 1 << 20];
        let mut at = 0;
        while at < bytes {
            if finished.load(Ordering::Acquire) {
                return Err(io::ErrorKind::Interrupted.into());
            }
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
}

impl Retirer {
    fn run(&self) {
        let (mut idle_looks, mut seen) = (0, 0);
        while !self.shared.wait(LOOK_EVERY) {
            let idle = self.idle();
            if idle.is_empty() {
                idle_looks = 0;
                self.urge();
                continue;
            }
            let writes = self.shared.writes.load(Ordering::Acquire);
            idle_looks = if writes == seen { idle_looks + 1 } else { 0 };
            seen = writes;
            let urgent = idle[0] < self.shared.urgent.load(Ordering::Acquire);
            if idle.len() < GROUP && idle_looks < IDLE_LOOKS_MAX && !urgent {
                continue;
            }
            idle_looks = 0;
            if let Err(error) = self.retire() {
                tracing::warn!(error = %error, "retiring journal segments failed, trying again");
            }
        }
    }

    /// Segments that nobody needs any more, oldest first.
    fn idle(&self) -> Vec<u64> {
        let active = self.shared.active.load(Ordering::Acquire);
        self.ledger.idle_segments(active.min(self.shared.headed.load(Ordering::Acquire)))
    }

    /// Asks for the files of those sessions that keep old segments alive.
    fn urge(&self) {
        if self.ledger.segment_count() < GROUP {
            return;
        }
        let holding = self.ledger.holding_oldest();
        let hooks = self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hooks) = &*hooks {
            (hooks.urge)(holding);
        }
    }

    fn retire(&self) -> io::Result<()> {
        let _alone = self.shared.retiring.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the flush: what is noted of these sessions is written by it.
        let numbers = self.idle();
        if numbers.is_empty() {
            return Ok(());
        }
        {
            let hooks = self.shared.hooks.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(hooks) = &*hooks else { return Ok(()) };
            if !(hooks.flush)() {
                return Ok(());
            }
        }
        // One call makes every session file durable; syncing thousands of them one by one takes many times as long.
        rustix::fs::syncfs(File::open(&self.files_dir)?)?;
        for number in &numbers {
            match fs::remove_file(segment::path(&self.dir, *number)) {
                // Who fails in the middle comes here again.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.ledger.close_segments(&numbers);
        Ok(())
    }
}
