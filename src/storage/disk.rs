//! How much space the disk has left.

use std::path::Path;

use crate::storage::Error;
use crate::storage::error::At;

/// Free space below which nothing is written, unless the operator says otherwise: 512 MiB or 3 % of the disk, whichever
/// is less.
const RESERVE_BYTES: u64 = 512 << 20;
const RESERVE_PERCENT: u64 = 3;

/// Whether the file system of `path` has less free space than `reserve` bytes, or than the default reserve.
///
/// # Errors
///
/// [`Error::Io`] when the system does not tell.
pub fn is_full(path: &Path, reserve: Option<u64>) -> Result<bool, Error> {
    let (size, free) = space(path)?;
    let reserve = reserve.unwrap_or_else(|| RESERVE_BYTES.min(size / 100 * RESERVE_PERCENT));
    Ok(free < reserve)
}

/// Size and free space of the file system of `path`, in bytes.
fn space(path: &Path) -> Result<(u64, u64), Error> {
    let stat = rustix::fs::statvfs(path).map_err(std::io::Error::from);
    let stat = stat.at(path, "does not say how much space is free")?;
    Ok((stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize)))
}

/// Size of the pages of memory that SQLite shares between processes, which it does not divide.
const SHARED_PAGE_BYTES: u64 = 4_096;

/// How SQLite is to open the database at `path`, by the name of its VFS.
///
/// SQLite shares the index of a write-ahead log in a file of which it writes one byte in 4 KiB. On a file system of smaller
/// blocks the others are allocated when they are touched, and on a full one that ends the process (SIGBUS). There the
/// index is kept in the heap, and no other process can read what this one has open.
#[must_use]
pub fn vfs(path: &Path) -> &'static str {
    let block = rustix::fs::statvfs(path.parent().unwrap_or(path)).map(|stat| stat.f_bsize);
    match block {
        Ok(bytes) if bytes < SHARED_PAGE_BYTES => "unix-excl",
        _ => "unix",
    }
}

/// The database at `path` as SQLite's URI, with `parameters`.
#[must_use]
pub fn uri(path: &Path, parameters: &str) -> String {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push('?');
    uri.push_str(parameters);
    uri
}

/// What the data takes of its disk.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Free space, in bytes.
    pub free_bytes: u64,
    /// Segments of the journal.
    pub segments_count: u64,
    /// Their size, in bytes.
    pub journal_bytes: u64,
}

/// What the data of `root`, with its journal in `journal`, takes of its disk.
///
/// # Errors
///
/// [`Error::Io`] when the system does not tell.
pub fn usage(root: &Path, journal: &Path) -> Result<Usage, Error> {
    let (_, free_bytes) = space(root)?;
    let mut usage = Usage { free_bytes, segments_count: 0, journal_bytes: 0 };
    for entry in std::fs::read_dir(journal).at(journal, "cannot be listed")?.flatten() {
        // One that was retired meanwhile takes nothing.
        let Ok(metadata) = entry.metadata() else { continue };
        if entry.path().extension().is_some_and(|extension| extension == "seg") {
            usage.segments_count += 1;
            usage.journal_bytes += metadata.len();
        }
    }
    Ok(usage)
}
