//! The faulty disk from the outside: builds the shim of `fault.c`, starts servers on it, arms faults while they run.

pub mod conversation;
pub mod disk;
pub mod files;
pub mod trace;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::support::server::Options;

const SOURCES: [(&str, &str); 2] =
    [("fault.c", include_str!("fault.c")), ("fault/calls.c", include_str!("fault/calls.c"))];

/// errno of a broken disk and of a full one, as Linux numbers them.
pub const EIO: u64 = 5;
pub const ENOSPC: u64 = 28;

/// The classes of operations that a fault can hit; they add up.
pub const WRITES: u64 = 1;
pub const SYNCS: u64 = 2;
/// Creating, renaming, unlinking, resizing.
pub const NAMES: u64 = 4;

/// What happens to the operation that is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// The process dies instead of it.
    DeathBefore,
    /// The process dies when a write is half done, at the end of a sector; a sync or a change of names has not begun or
    /// is done.
    DeathWithin,
    /// The process dies before it learns of the result.
    DeathAfter,
    /// It fails, nothing is done.
    Error(u64),
    /// It fails, and half of what was to be written is in the file.
    TornError(u64),
}

/// A fault to arm: `harm` to the `nth` operation of `classes` on files whose path below the data folder contains `path`.
#[derive(Clone, Debug)]
pub struct Fault<'a> {
    pub harm: Harm,
    pub classes: u64,
    pub path: &'a str,
    pub nth: u64,
    /// Also to every one after it, until disarmed.
    pub for_ever: bool,
}

/// Where the fields of `struct control` are in its file.
mod field {
    pub const MODE: u64 = 0;
    pub const ERROR: u64 = 8;
    pub const CLASSES: u64 = 16;
    pub const STICKY: u64 = 24;
    pub const COUNTDOWN: u64 = 32;
    pub const FIRED: u64 = 40;
    pub const SYNC_DELAY_US: u64 = 48;
    pub const FREE_BYTES: u64 = 56;
    pub const TORN: u64 = 64;
    pub const FILTER: u64 = 128;
    pub const FILTER_BYTES: usize = 256;
}

/// The handle on the shim inside of a server: a page that both map or write to.
pub struct Injector {
    page: File,
    path: PathBuf,
}

impl Injector {
    /// A disarmed injector whose page is the file `path`; it outlives servers.
    pub fn new(path: &Path) -> Self {
        let page =
            File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        page.write_all_at(&[0; 4096], 0).unwrap();
        Self { page, path: path.to_owned() }
    }

    /// Has the server that is started with `options` on `data` run on this faulty disk.
    pub fn on(&self, options: Options, data: &Path) -> Options {
        preload(options, data).set("FAULT_CONTROL", self.path.display())
    }

    /// Arms `fault`; the count starts now.
    pub fn arm(&self, fault: &Fault<'_>) {
        self.disarm();
        let (mode, error, torn) = match fault.harm {
            Harm::DeathBefore => (1, 0, 0),
            Harm::DeathWithin => (2, 0, 0),
            Harm::DeathAfter => (3, 0, 0),
            Harm::Error(error) => (4, error, 0),
            Harm::TornError(error) => (4, error, 1),
        };
        let mut filter = [0; field::FILTER_BYTES];
        filter[..fault.path.len()].copy_from_slice(fault.path.as_bytes());
        self.page.write_all_at(&filter, field::FILTER).unwrap();
        self.write(field::ERROR, error);
        self.write(field::TORN, torn);
        self.write(field::CLASSES, fault.classes);
        self.write(field::STICKY, u64::from(fault.for_ever));
        self.write(field::COUNTDOWN, fault.nth);
        self.write(field::FIRED, 0);
        self.write(field::MODE, mode);
    }

    /// From now on the disk is healthy.
    pub fn disarm(&self) {
        self.write(field::MODE, 0);
    }

    /// How many operations were hit since the fault was armed.
    pub fn fired(&self) -> u64 {
        self.read(field::FIRED)
    }

    /// Makes every sync take this much longer, so that group commit has something to group. 0: no longer.
    pub fn slow_syncs(&self, micros: u64) {
        self.write(field::SYNC_DELAY_US, micros);
    }

    /// What the server is told when it asks for the free space of the disk. 0: the truth.
    pub fn pretend_free(&self, bytes: u64) {
        self.write(field::FREE_BYTES, bytes);
    }

    fn write(&self, at: u64, value: u64) {
        self.page.write_all_at(&value.to_ne_bytes(), at).unwrap();
    }

    fn read(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.page.read_exact_at(&mut bytes, at).unwrap();
        u64::from_ne_bytes(bytes)
    }
}

/// Has the server that is started with `options` on `data` append all it does to the file `trace`. Servers that share
/// a trace have numbers, 0 for the first.
pub fn recorded(options: Options, data: &Path, trace: &Path, number: u32) -> Options {
    preload(options, data)
        .set("FAULT_TRACE", trace.display())
        .set("FAULT_FIRST_ID", number * 100_000_000 + 1)
}

/// A folder for data that goes when it is dropped; in memory if the machine has a place for that.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("sessile-")
        .tempdir_in("/dev/shm")
        .unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn preload(options: Options, data: &Path) -> Options {
    std::fs::create_dir_all(data).unwrap();
    let root = data.canonicalize().unwrap();
    options.set("LD_PRELOAD", shim().display()).set("FAULT_ROOT", root.display())
}

/// The compiled shim; compiled once per run. Runs beside this one see the old one or the new one, never half of one.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let build = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        std::fs::create_dir(build.path().join("fault")).unwrap();
        for (name, text) in SOURCES {
            std::fs::write(build.path().join(name), text).unwrap();
        }
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o", "fault.so", "fault.c", "-ldl", "-lpthread"])
            .current_dir(build.path())
            .output()
            .expect("a C compiler, which SQLite needs, too");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let shim = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fault.so");
        std::fs::rename(build.path().join("fault.so"), &shim).unwrap();
        shim
    })
}
