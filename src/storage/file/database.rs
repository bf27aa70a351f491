//! The database of a file, and the events whose rows follow.
//!
//! Most events add rows and look at none. Those are kept here first, and their rows are written together: before anybody
//! reads, before each commit, and when many wait. So an append costs no SQL, a hundred of them share what a row costs when
//! it comes alone, and an actor to which only such things happen needs no database until its file is due.

use std::cell::Cell;
use std::cell::OnceCell;
use std::cell::RefCell;

use bytestring::ByteString;
use rusqlite::Connection;

use crate::storage::Error;
use crate::storage::While;
use crate::storage::file::Tables;
use crate::storage::file::kept;
use crate::storage::file::log;
use crate::storage::file::log::EventRow;
use crate::storage::journal::Idempotent;

/// Events whose rows wait at most.
const BEHIND_MAX: usize = 256;
/// The page cache while a transaction is open, so that the pages on the way to a row are not read again with each, and
/// otherwise.
const CACHE_OPEN: &str = "PRAGMA cache_size = -2048";
const CACHE_IDLE: &str = "PRAGMA cache_size = -32";

/// An event that happened and has no rows yet.
#[derive(Debug)]
struct Behind<L> {
    row: EventRow<ByteString>,
    later: L,
    /// What a repeat of the request that led to it is answered.
    kept: Option<Idempotent>,
}

/// A database, behind which some events may be.
#[derive(Debug)]
pub(in crate::storage) struct Database<T: Tables> {
    /// `None` as long as nobody needs it; the one in memory of a new actor is made then.
    connection: OnceCell<Connection>,
    behind: RefCell<Vec<Behind<T::Later>>>,
    /// Whether every table is known to be there.
    is_full: Cell<bool>,
}

impl<T: Tables> Database<T> {
    /// That of a new actor.
    pub(super) fn new() -> Self {
        Self { connection: OnceCell::new(), behind: RefCell::default(), is_full: Cell::new(false) }
    }

    /// That in a file.
    pub(super) fn over(connection: Connection) -> Self {
        Self { connection: connection.into(), ..Self::new() }
    }

    /// The database as it is: rows of events that are behind are missing. `None`: there is nothing in it.
    pub(in crate::storage) fn as_is(&self) -> Option<&Connection> {
        self.connection.get()
    }

    /// The database with every row.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; the file must be dropped then, whatever it was needed for: it will not be whole any more.
    pub(in crate::storage) fn whole(&self) -> Result<&Connection, Error> {
        let db = self.made()?;
        if !self.behind.borrow().is_empty() {
            begin(db)?;
            if !self.is_plain() {
                self.fill(db)?;
            }
            write::<T>(db, &self.behind.borrow())?;
            self.behind.borrow_mut().clear();
        }
        Ok(db)
    }

    fn made(&self) -> Result<&Connection, Error> {
        if let Some(db) = self.connection.get() {
            return Ok(db);
        }
        let is_full = self.behind.borrow().is_empty() || !self.is_plain();
        let made = T::blank().take(is_full)?;
        self.is_full.set(is_full);
        Ok(self.connection.get_or_init(|| made))
    }

    /// Whether what is behind needs no table but those that are always there.
    fn is_plain(&self) -> bool {
        let plain = |behind: &Behind<T::Later>| behind.kept.is_none() && T::is_plain(&behind.later);
        self.behind.borrow().iter().all(plain)
    }

    fn fill(&self, db: &Connection) -> Result<(), Error> {
        if !self.is_full.get() {
            T::blank().fill(db)?;
            self.is_full.set(true);
        }
        Ok(())
    }

    /// The same, with a transaction open.
    ///
    /// # Errors
    ///
    /// As [`Database::whole`].
    pub(super) fn begun(&self) -> Result<&Connection, Error> {
        let db = self.whole()?;
        begin(db)?;
        Ok(db)
    }

    /// The same, with every table: most that is written needs them.
    ///
    /// # Errors
    ///
    /// As [`Database::whole`].
    pub(super) fn filled(&self) -> Result<&Connection, Error> {
        let db = self.begun()?;
        self.fill(db)?;
        Ok(db)
    }

    /// Commits what was written since [`Database::begun`].
    ///
    /// # Errors
    ///
    /// As [`Database::whole`].
    pub(super) fn commit(&self) -> Result<(), Error> {
        let db = self.begun()?;
        execute(db, "COMMIT", "committing to its file")?;
        db.execute_batch(CACHE_IDLE).while_("committing to its file")
    }

    /// Notes an event whose rows follow; they are written at once if many wait.
    ///
    /// # Errors
    ///
    /// As [`Database::whole`].
    pub(super) fn put_off(&self, row: EventRow<ByteString>, later: T::Later) -> Result<(), Error> {
        let is_full = {
            let mut behind = self.behind.borrow_mut();
            behind.push(Behind { row, later, kept: None });
            behind.len() >= BEHIND_MAX
        };
        if is_full { self.whole().map(drop) } else { Ok(()) }
    }

    /// Keeps what a repeat of the request that led to event `seq` is answered; false if that has its rows already.
    pub(super) fn keep(&self, seq: u64, kept: &Idempotent) -> bool {
        let mut behind = self.behind.borrow_mut();
        let found = behind.iter_mut().rev().find(|behind| behind.row.seq == seq);
        found.map(|behind| behind.kept = Some(kept.clone())).is_some()
    }

    /// What is kept under `key` of an event that is behind, with its seq and its frame.
    pub(super) fn kept(&self, key: &str) -> Option<(u64, Idempotent, ByteString)> {
        let behind = self.behind.borrow();
        let has_key = |kept: &&Idempotent| kept.key == key;
        let mut kept = behind.iter().filter_map(|b| Some((b, b.kept.as_ref().filter(has_key)?)));
        kept.next().map(|(b, kept)| (b.row.seq, kept.clone(), b.row.body.clone()))
    }

    /// What `of` makes of the latest event that is behind of which it makes something.
    pub(in crate::storage) fn find<R>(&self, of: impl Fn(&T::Later) -> Option<R>) -> Option<R> {
        self.behind.borrow().iter().rev().find_map(|behind| of(&behind.later))
    }

    /// The connection, if there is one: nothing may be behind.
    pub(super) fn into_connection(self) -> Option<Connection> {
        debug_assert!(self.behind.borrow().is_empty(), "their rows would be lost");
        self.connection.into_inner()
    }
}

/// Opens a transaction, if none is.
fn begin(db: &Connection) -> Result<(), Error> {
    if db.is_autocommit() {
        let doing = "beginning a transaction";
        db.execute_batch(CACHE_OPEN).while_(doing)?;
        execute(db, "BEGIN IMMEDIATE", doing)?;
    }
    Ok(())
}

/// Table by table, so that rows that lie beside each other are written one after the other.
fn write<T: Tables>(db: &Connection, behind: &[Behind<T::Later>]) -> Result<(), Error> {
    log::insert_all::<T::Event>(db, behind.iter().map(|behind| behind.row.borrowed()))?;
    T::write(db, behind.iter().map(|behind| &behind.later))?;
    for Behind { row, kept: answer, .. } in behind {
        if let Some(answer) = answer {
            kept::remember(db, row.seq, answer)?;
        }
    }
    Ok(())
}

fn execute(db: &Connection, sql: &'static str, doing: &'static str) -> Result<(), Error> {
    db.prepare_cached(sql).and_then(|mut statement| statement.execute([])).while_(doing)?;
    Ok(())
}
