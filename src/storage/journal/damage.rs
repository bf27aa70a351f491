//! What can be wrong with a journal: records that are known to be somebody's, and places of which nobody knows whose.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

/// A record that cannot be used. Only the session that it belongs to is touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flaw {
    /// The segment that holds it; 0: the file in which the session's records were set aside.
    pub segment: u64,
    /// Where in the segment it begins.
    pub offset: u64,
    /// How many bytes it takes there.
    pub bytes: u64,
    /// Its place in the log.
    pub lsn: u64,
    /// Seq of its first event.
    pub first_seq: u64,
    /// Seq of its last event.
    pub last_seq: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl Flaw {
    /// What became of events that no record holds any more.
    #[must_use]
    pub fn missing(first_seq: u64, last_seq: u64) -> Self {
        let reason = "their records are missing".to_owned();
        Self { segment: 0, offset: 0, bytes: 0, lsn: 0, first_seq, last_seq, reason }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, offset, bytes, first_seq, last_seq, reason, .. } = self;
        match first_seq == last_seq {
            true => write!(f, "event {first_seq}")?,
            false => write!(f, "events {first_seq} to {last_seq}")?,
        }
        match segment {
            0 if *bytes == 0 => write!(f, " cannot be used: {reason}"),
            0 => {
                write!(f, " cannot be used, at byte {offset} of its file in quarantine/: {reason}")
            }
            _ => write!(
                f,
                " cannot be used, at byte {offset} of journal segment {segment}: {reason}"
            ),
        }
    }
}

/// Durable records that cannot be read any more and of which nothing says whose they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment that should hold them.
    pub segment: PathBuf,
    /// Where it stops making sense.
    pub offset: u64,
    /// Places in the log that are missing: first and one behind the last.
    pub missing: (u64, u64),
}

/// What to do about damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamagePolicy {
    /// Refuse to start when nothing says whose records are missing; refuse the session when something does.
    Refuse,
    /// Go on without the records; the files may hold what they said.
    Accept,
}
