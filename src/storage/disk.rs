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
    let stat = rustix::fs::statvfs(path).map_err(std::io::Error::from);
    let stat = stat.at(path, "does not say how much space is free")?;
    let size = stat.f_blocks.saturating_mul(stat.f_frsize);
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let reserve = reserve.unwrap_or_else(|| RESERVE_BYTES.min(size / 100 * RESERVE_PERCENT));
    Ok(free < reserve)
}
