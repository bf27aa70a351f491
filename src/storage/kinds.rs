//! The kinds of files: from the kind of an actor to what can be done with its file.

use std::path::Path;

use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::storage::Error;
use crate::storage::Folder;
use crate::storage::catalogue::Card;
use crate::storage::claim::Claim;
use crate::storage::file;
use crate::storage::file::ActorFile;
use crate::storage::file::AnyFile;
use crate::storage::file::Settings;
use crate::storage::file::Tables;
use crate::storage::file::Verified;
use crate::storage::session::SessionTables;

type Opened = Result<Box<dyn AnyFile>, Error>;

/// What can be done with files of one kind; each is that of [`ActorFile`].
#[expect(missing_docs, reason = "see ActorFile")]
#[derive(Debug)]
pub struct Files {
    pub create: fn(&Key, &Settings) -> Box<dyn AnyFile>,
    pub open: fn(&Key, &Path, &Settings) -> Opened,
    /// Makes a damaged file anew, whose log must reach to some event, and opens it.
    pub repair: fn(&Key, &Folder, &Settings, Error, u64) -> Opened,
    pub check: fn(&Path) -> Result<(), Error>,
    /// Moves what is committed of the write-ahead log into the file, while somebody else writes.
    pub move_log: fn(&Path) -> Result<(), Error>,
    pub card: fn(&Path, Option<&Claim>) -> Result<Option<Card>, Error>,
    pub verify: fn(&Path, bool) -> Result<Verified, Error>,
    /// Gives memory back that is kept for new actors.
    pub trim: fn(),
}

impl Files {
    const fn of<T: Tables>() -> Self {
        Self {
            create: |key, settings| Box::new(ActorFile::<T>::create(key, settings)),
            open: |key, path, settings| Ok(Box::new(ActorFile::<T>::open(key, path, settings)?)),
            repair: |key, folder, settings, damage, least| {
                Ok(Box::new(ActorFile::<T>::repair(key, folder, settings, damage, least)?))
            },
            check: ActorFile::<T>::check,
            move_log: ActorFile::<T>::checkpoint_beside,
            card: file::card::<T>,
            verify: file::verify::<T>,
            trim: || T::blank().trim(),
        }
    }
}

/// What can be done with files of actors of `kind`.
#[must_use]
pub fn files(kind: ActorKind) -> &'static Files {
    const SESSION: Files = Files::of::<SessionTables>();
    match kind {
        ActorKind::Session => &SESSION,
        #[cfg(test)]
        ActorKind::Counter => &const { Files::of::<crate::storage::counter::CounterTables>() },
    }
}

/// Gives memory back that is kept for new actors and was not needed lately; to be called every second or so.
pub fn trim() {
    for kind in ActorKind::ALL.iter().copied() {
        (files(kind).trim)();
    }
}
