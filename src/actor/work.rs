//! What is done with a file on a thread that may block, while its actor takes nothing.

use crate::actor::shared::Shared;
use crate::actor::wake;
use crate::base::Key;
use crate::storage::Error;
use crate::storage::file::AnyFile;

/// What is to be done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Write the file of an actor that is in memory.
    Write,
    /// Move the rest of the log into it.
    Checkpoint,
    /// Close it: the actor sleeps.
    Close,
    /// Remove it: the actor has ended.
    Remove,
}

impl Work {
    /// Does it with the `file` of `key`, which is given back if it is still open.
    ///
    /// # Errors
    ///
    /// When the disk fails: the journal has everything, so opening the file again repairs it.
    pub(super) fn carry_out(
        self,
        shared: &Shared,
        key: &Key,
        mut file: Box<dyn AnyFile>,
    ) -> Result<Option<Box<dyn AnyFile>>, Error> {
        let last_seq = file.log().last_seq;
        let left = match self {
            Self::Write => Some(file.into_file(&shared.folder)?),
            Self::Checkpoint => {
                file.checkpoint()?;
                Some(file)
            }
            Self::Close => {
                file.close(&shared.folder)?;
                None
            }
            Self::Remove => {
                drop(file);
                wake::finish_deletion(shared, key)?;
                shared.journal.seal();
                None
            }
        };
        shared.journal.ledger().applied(key.hash(), last_seq);
        Ok(left)
    }
}
