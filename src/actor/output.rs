//! What the core of a shard wants done.

use std::sync::Arc;

use crate::actor::tasks::Task;
use crate::actor::work::Work;
use crate::base::Key;
use crate::base::ids::KeyHash;
use crate::storage::file::AnyFile;
use crate::storage::file::Letter;
use crate::storage::journal::Encoded;

/// What is to be done.
pub(super) enum Output {
    /// Say [`crate::actor::input::Input::Turn`] once everything that has come in is delivered.
    Turn,
    /// Append these records, one for each of these actors; [`crate::actor::input::Input::Appended`].
    Append(Vec<Encoded>, Vec<KeyHash>),
    /// Open the file of this actor; [`crate::actor::input::Input::Opened`], and [`crate::actor::input::Input::Slow`] if it takes long.
    Open(Key),
    /// Do something with a file; [`crate::actor::input::Input::Returned`].
    Lend(Key, Work, Box<dyn AnyFile>),
    /// Move most of the log of this actor into its file, beside the traffic; [`crate::actor::input::Input::Moved`].
    Move(Key),
    /// Delete an actor that cannot be read, for this reason; [`crate::actor::input::Input::Discarded`].
    Discard(Key, Arc<str>),
    /// Bring these letters of the first actor to the second; [`crate::actor::input::Input::Heard`].
    Tell(Key, Key, Vec<Letter>),
    /// Run a task for this actor; [`crate::actor::input::Input::TaskLeft`] when it is gone.
    Spawn(Key, Box<dyn Task>),
}
