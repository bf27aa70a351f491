//! What comes into the core of a shard.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytestring::ByteString;

use crate::actor::found::Found;
use crate::actor::job::Job;
use crate::base::Key;
use crate::base::ids::KeyHash;
use crate::storage;
use crate::storage::file::AnyFile;
use crate::storage::journal::Refused;
use crate::wire::ask::Refusal;

/// What the clocks say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// For ages and deadlines.
    pub instant: Instant,
    /// Unix time in milliseconds.
    pub unix_ms: i64,
}

/// What comes in.
pub(super) enum Input {
    /// A request for an actor.
    Deliver(Key, Job),
    /// A text for all who follow an actor now.
    Publish(Key, ByteString),
    /// Everything that had come in was delivered.
    Turn,
    /// What was submitted to the journal for these actors, and what came of it: of each by itself.
    Appended(Vec<KeyHash>, Result<(), Refused>),
    /// A file was opened, by an owner in this life.
    Opened(KeyHash, Result<Found, storage::Error>, u64),
    /// A file is being opened for so long already.
    Slow(KeyHash, Duration),
    /// A file comes back from its work, if it is still open.
    Returned(KeyHash, Result<Option<Box<dyn AnyFile>>, storage::Error>),
    /// Another connection has moved most of the log of an actor into its file.
    Moved(KeyHash),
    /// An actor that could not be read, for this reason, was deleted, or not.
    Discarded(KeyHash, Arc<str>, bool),
    /// Another actor has heard the letters of one up to some number, or has not.
    Heard(KeyHash, Key, Result<u64, Refusal>),
    /// A task of an actor is gone.
    TaskLeft(KeyHash),
    /// The file of an actor is to be brought up to date.
    Urge(Key),
    /// The catalogue is to know what is not committed yet.
    NoteAll,
    /// What waits for its commit is to be committed.
    Commit,
    /// What works is to be cut off.
    Interrupt,
    /// Some time has passed.
    Tick,
}
