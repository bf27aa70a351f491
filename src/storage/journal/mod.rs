//! The journal: one append-only log for all sessions of the node, one fsync for all that wait.
//!
//! **Problem.** An acknowledged message must survive a power cut. One fsync per commit per file caps a node at the
//! disk's fsync rate, and a chat session writes a few rows now and then, which is the worst case for that.
//!
//! **Answer.** Everything that happens is first appended here, by one thread, for all sessions at once; whoever comes
//! while an fsync runs shares the next one. Only then do the callers hear of it. Session files are written without
//! fsync and brought up to date from here after a crash.
//!
//! **On disk.** Segments `journal/NNNNNNNNNNNN.seg` of a fixed size, written with zeros beforehand, so that an append
//! changes no file length and an fsync no metadata. A segment is a header and records. Each record carries its place
//! in the log (`lsn`), the segment it was written for, whose it is, checksums of frame and payload, and the last `lsn`
//! that was already durable when it was written. The last one tells a torn tail from damage: a record that a later record
//! knew to be durable must be there.
//!
//! **Damage** stays where it is. Frame and payload both say whose a record is, each under a checksum of its own, so one
//! that was changed on the disk is still somebody's. That session is whole if its file has the events already; otherwise
//! it is quarantined, what the journal has of it is set aside (`aside.rs`), and all others go on. A record that is as it
//! was written and says what this program does not understand is treated the same. Only where nothing says whose the
//! missing records are, a start is refused.
//!
//! **Failure.** After a write or fsync fails nobody knows what the disk holds behind the last durable record, and the
//! page cache cannot be asked. So that tail is never appended to again: the next segment's header declares it void,
//! and the records in flight are written once more behind that header. If that works they are durable and nobody
//! notices; if not, callers hear `outcome_unknown` (or `storage_full`), and nothing is accepted until a header that
//! voids the tail is durable. A process that starts does the same with the tail that it finds.
//!
//! **Retirement.** A sealed segment goes when every record in it is in its session's file and one `syncfs` has made
//! the files durable. That happens on a thread of its own; shards and the writer do not wait for it. One that holds something
//! that was deleted is ended early, at most one a second, and the next are as large as those before were filled.
//!
//! What breaks if you change it: a reply before the fsync loses messages (tests `power`), appending behind a failed
//! write resurrects or loses them (tests `faults`), unlinking before `syncfs` loses what the files did not keep.

mod aside;
mod damage;
mod handle;
#[cfg(test)]
mod inline;
mod keeper;
mod ledger;
mod options;
mod record;
mod recover;
mod refused;
mod segment;
mod writer;

pub use aside::Aside;
pub use aside::AsideRecord;
pub use aside::list as set_aside;
pub use damage::Damage;
pub use damage::DamagePolicy;
pub use damage::Flaw;
pub use handle::Journal;
#[cfg(test)]
pub(crate) use inline::Inline;
pub use keeper::Hooks;
pub use ledger::Behind;
pub use ledger::Ledger;
pub use options::Options;
pub use record::Encoded;
pub use record::Entry;
pub use record::Idempotent;
pub use record::NotUnderstood;
pub use record::Record;
pub use record::chain;
pub use recover::Checked;
pub use recover::check;
pub use refused::AppendError;
pub use refused::Refused;

#[cfg(test)]
mod tests;
