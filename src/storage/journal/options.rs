//! How a journal is set up.

use std::path::PathBuf;

use crate::storage::journal::DamagePolicy;

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the segments.
    pub dir: PathBuf,
    /// Any folder on the file system of the session files.
    pub files_dir: PathBuf,
    /// Folder of what is set aside of sessions that are quarantined.
    pub quarantine_dir: PathBuf,
    /// Size of a segment.
    pub segment_bytes: u64,
    /// Size of all segments at which writers wait.
    pub max_bytes: u64,
    /// What to do about damage.
    pub damage: DamagePolicy,
}
