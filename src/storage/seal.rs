//! The seal: a checksum of a whole database file, in the file itself.
//!
//! Checksums of rows do not tell of a row that has vanished, since nobody reads it. So a file that is closed is sealed,
//! and one that is opened is checked in full unless its seal fits: after a crash, or when somebody else wrote to it. A
//! seal that does not fit is a reason to look, never damage by itself.
//!
//! It lies in the four bytes that SQLite leaves to applications (`PRAGMA application_id`), so it goes wherever the file
//! goes: into backups, to other machines. No list of files can disagree with it.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crc32fast::Hasher;

use crate::base::limits::WHOLE_CHECK_BYTES_MAX;

/// Where it lies. Source: SQLite's file format, 1.3.
const PLACE: Range<usize> = 68..72;
/// Size of the header that it lies in.
const HEADER_BYTES: u64 = 100;

/// What is known of a file before it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seal {
    /// The file is as it was when it was closed.
    Fits,
    /// It may not be.
    Broken,
    /// It is too large to be read whole whenever it is opened.
    Unknown,
}

/// Seals a serialised database.
pub(super) fn set(bytes: &mut [u8]) {
    bytes[PLACE].fill(0);
    let sum = crc32fast::hash(bytes);
    bytes[PLACE].copy_from_slice(&sum.to_be_bytes());
}

/// Seals the file at `path`, which nobody writes.
pub(super) fn put(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    if file.metadata()?.len() > WHOLE_CHECK_BYTES_MAX || has_log(path)? {
        return Ok(());
    }
    let (sum, is) = sum(&file)?;
    match sum == is {
        true => Ok(()),
        false => file.write_all_at(&sum.to_be_bytes(), PLACE.start as u64),
    }
}

/// Looks at the seal of the file at `path`.
///
/// One that somebody has open is not opened here: closing any descriptor of a file ends all locks that this process has
/// on it (POSIX), those of SQLite's connections too.
pub(super) fn look(path: &Path) -> io::Result<Seal> {
    let length = std::fs::metadata(path)?.len();
    if length > WHOLE_CHECK_BYTES_MAX {
        return Ok(Seal::Unknown);
    }
    // What is in the write-ahead log counts more than the file.
    if length < HEADER_BYTES || has_log(path)? || path.with_extension("db-shm").try_exists()? {
        return Ok(Seal::Broken);
    }
    let (sum, is) = sum(&File::open(path)?)?;
    Ok(if sum == is { Seal::Fits } else { Seal::Broken })
}

/// Whether there is a write-ahead log beside the file at `path` with something in it.
pub(super) fn has_log(path: &Path) -> io::Result<bool> {
    match std::fs::metadata(path.with_extension("db-wal")) {
        Ok(metadata) => Ok(metadata.len() > 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The checksum of `file`, and the one that it says it has.
fn sum(mut file: &File) -> io::Result<(u32, u32)> {
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; 256 << 10]);
    let mut is = [0; 4];
    let mut first = true;
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok((hasher.finalize(), u32::from_be_bytes(is)));
        }
        if first && length >= PLACE.end {
            is.copy_from_slice(&buffer[PLACE]);
            buffer[PLACE].fill(0);
        }
        first = false;
        hasher.update(&buffer[..length]);
    }
}
