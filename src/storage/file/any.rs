//! A file as those see it who need not know what kind of actor it belongs to.

use std::any::Any;
use std::fmt;
use std::path::Path;

use rusqlite::Row;

use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::ids::KeyHash;
use crate::base::ids::Name;
use crate::domain::kind::LogHead;
use crate::storage::Error;
use crate::storage::Folder;
use crate::storage::While;
use crate::storage::catalogue::Card;
use crate::storage::claim::Claim;
use crate::storage::file::ActorFile;
use crate::storage::file::Letter;
use crate::storage::file::OpenTransaction;
use crate::storage::file::Settings;
use crate::storage::file::Tables;
use crate::storage::file::actor_file::connect;
use crate::storage::file::template;
use crate::storage::journal::Record;

/// The file of some actor; each method is that of [`ActorFile`].
#[expect(missing_docs, clippy::missing_errors_doc, reason = "see ActorFile")]
pub trait AnyFile: Any + Send + fmt::Debug {
    fn key(&self) -> &Key;
    fn log(&self) -> LogHead;
    fn is_ended(&self) -> bool;
    fn is_in_memory(&self) -> bool;
    fn open_transaction(&self) -> Option<OpenTransaction>;
    fn next_timer_ms(&self) -> Result<Option<i64>, Error>;
    fn bytes(&self) -> Result<u64, Error>;
    /// What the list of actors should know of it.
    fn card(&self) -> Card;
    fn receivers(&self) -> Vec<Key>;
    fn letters(&self, to: &Key) -> Result<Vec<Letter>, Error>;
    fn heard(&mut self, to: &Key, through: u64) -> Result<(), Error>;
    fn claimed(self: Box<Self>, claim: Claim) -> Box<dyn AnyFile>;
    fn replay(&mut self, record: &Record) -> Result<(), Error>;
    fn commit(&mut self) -> Result<(), Error>;
    fn checkpoint(&mut self) -> Result<(), Error>;
    fn into_file(self: Box<Self>, folder: &Folder) -> Result<Box<dyn AnyFile>, Error>;
    fn close(self: Box<Self>, folder: &Folder) -> Result<(), Error>;
}

impl<T: Tables> AnyFile for ActorFile<T> {
    fn key(&self) -> &Key {
        self.key()
    }

    fn log(&self) -> LogHead {
        self.log()
    }

    fn is_ended(&self) -> bool {
        self.is_ended()
    }

    fn is_in_memory(&self) -> bool {
        self.is_in_memory()
    }

    fn open_transaction(&self) -> Option<OpenTransaction> {
        self.open_transaction()
    }

    fn next_timer_ms(&self) -> Result<Option<i64>, Error> {
        self.next_timer_ms()
    }

    fn bytes(&self) -> Result<u64, Error> {
        self.bytes()
    }

    fn card(&self) -> Card {
        let card = self.tables.card(self.database.as_is(), self.key());
        // Whoever owes letters must wake at a start.
        let owes = self.letters_count() > 0 || self.debts.has_cleared;
        let unfinished = card.unfinished || owes;
        let timer_ms = self.next_timer_ms().unwrap_or(None);
        let tell_at_ms = owes.then_some(card.updated_at_ms);
        let next_timer_ms = timer_ms.into_iter().chain(tell_at_ms).min();
        // One that has ended and has something to tell still must be seen to, but no list shows it.
        let (ended, summary) = match self.is_ended() {
            true => (self.letters_count() == 0, String::new()),
            false => (false, card.summary),
        };
        Card { next_timer_ms, unfinished, ended, summary, ..card }
    }

    fn receivers(&self) -> Vec<Key> {
        self.receivers()
    }

    fn letters(&self, to: &Key) -> Result<Vec<Letter>, Error> {
        self.letters(to)
    }

    fn heard(&mut self, to: &Key, through: u64) -> Result<(), Error> {
        self.heard(to, through)
    }

    fn claimed(self: Box<Self>, claim: Claim) -> Box<dyn AnyFile> {
        Box::new((*self).claimed(claim))
    }

    fn replay(&mut self, record: &Record) -> Result<(), Error> {
        self.replay(record)
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.commit()
    }

    fn checkpoint(&mut self) -> Result<(), Error> {
        self.checkpoint()
    }

    fn into_file(self: Box<Self>, folder: &Folder) -> Result<Box<dyn AnyFile>, Error> {
        Ok(Box::new((*self).into_file(folder)?))
    }

    fn close(self: Box<Self>, folder: &Folder) -> Result<(), Error> {
        (*self).close(folder)
    }
}

impl dyn AnyFile {
    /// The file as that of an actor with tables `T`; `None` if it is of another kind.
    #[must_use]
    pub fn of<T: Tables>(&self) -> Option<&ActorFile<T>> {
        (self as &dyn Any).downcast_ref()
    }

    /// As [`AnyFile::of`], to write to it.
    #[must_use]
    pub fn of_mut<T: Tables>(&mut self) -> Option<&mut ActorFile<T>> {
        (self as &mut dyn Any).downcast_mut()
    }
}

/// What the catalogue should know of the actor in the file at `path`; `None` of a file of an earlier version that
/// somebody else has in use (no `claim`), who brings it up to date.
///
/// # Errors
///
/// [`Error::Sqlite`] when it cannot be read or is no such file; [`Error::RowCorrupt`] when it is damaged.
pub fn card<T: Tables>(path: &Path, claim: Option<&Claim>) -> Result<Option<Card>, Error> {
    let mut connection = connect(path)?;
    match claim {
        Some(_) => drop(template::migrate(&mut connection, T::blank().steps())?),
        None if template::version_of(&connection)? < template::version(T::blank().steps()) => {
            return Ok(None);
        }
        None => {}
    }
    let (key, log) = T::meta(&connection)?;
    let file = ActorFile::<T>::over(connection, key, log, &Settings::default())?;
    Ok(Some(AnyFile::card(&file)))
}

/// The last event in the file at `path`, as every other program sees it too.
///
/// # Errors
///
/// [`Error::Sqlite`] when it is no file of an actor.
pub fn last_seq(path: &Path) -> Result<u64, Error> {
    connect(path)?
        .query_row("SELECT last_seq FROM meta", [], |row| row.get(0))
        .while_("reading how far a file is")
}

/// Whose file is at `path`, which is called after `hash`: that proves it, whatever else is damaged in it.
///
/// # Errors
///
/// [`Error::Sqlite`] when it is no file of an actor; [`Error::WrongFile`] when it does not say who has that hash.
pub fn owner(path: &Path, hash: KeyHash) -> Result<Key, Error> {
    let names = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let (kind, workspace, name): (String, String, String) = connect(path)?
        .query_row("SELECT kind, workspace, name FROM meta", [], names)
        .while_("reading whose a file is")?;
    let kind = ActorKind::from_name(&kind).ok_or(Error::WrongFile)?;
    let named = |text: &str| Name::new(text).map_err(|_| Error::WrongFile);
    let key = Key::new(kind, named(&workspace)?, named(&name)?);
    if key.hash() == hash { Ok(key) } else { Err(Error::WrongFile) }
}
