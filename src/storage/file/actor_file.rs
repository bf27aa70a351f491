//! Opening, writing through and closing an actor's file.

use std::iter;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use bytestring::ByteString;
use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::config::DbConfig;

use crate::base::Key;
use crate::domain::kind::Consequence;
use crate::domain::kind::Event;
use crate::domain::kind::LogHead;
use crate::storage::Error;
use crate::storage::Folder;
use crate::storage::While;
use crate::storage::claim::Claim;
use crate::storage::disk;
use crate::storage::file::Place;
use crate::storage::file::Settings;
use crate::storage::file::Tables;
use crate::storage::file::check;
use crate::storage::file::database::Database;
use crate::storage::file::log;
use crate::storage::file::log::EventRow;
use crate::storage::file::outbox::Debts;
use crate::storage::file::template;
use crate::storage::journal::Entry;
use crate::storage::journal::Record;
use crate::storage::journal::chain;
use crate::storage::seal;
use crate::storage::seal::Seal;

/// What holds for every connection to a file.
///
/// `synchronous = NORMAL`: a commit is not synced, the journal has it. No automatic checkpoint: it would sync on the
/// thread of a shard. No spilling: a page in the file before its transaction's commit helps nobody.
const SETTINGS: &str = "
    PRAGMA synchronous = NORMAL;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA cache_size = -32;
    PRAGMA cache_spill = OFF;
    PRAGMA secure_delete = ON;
    PRAGMA trusted_schema = OFF;
    PRAGMA cell_size_check = ON;
    PRAGMA temp_store = MEMORY;
";
/// How long a statement waits for another process that holds the file, as `sqlite3` of a curious person.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Size of a page; SQLite's default, which the template has.
const PAGE_BYTES: u64 = 4_096;
/// Prepared statements that a connection keeps.
const STATEMENTS_MAX: usize = 24;

/// Events that are applied and not yet committed.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenTransaction {
    /// How many.
    pub events: usize,
    /// Bytes of their frames.
    pub bytes: usize,
}

/// An open file, or what becomes one.
#[derive(Debug)]
pub struct ActorFile<T: Tables> {
    pub(in crate::storage) database: Database<T>,
    pub(in crate::storage) tables: T,
    /// What is told to others and not known to be heard.
    pub(super) debts: Debts,
    key: Key,
    in_memory: bool,
    ended: bool,
    open: Option<OpenTransaction>,
    /// Whether the seal of the file does not fit any more.
    changed: bool,
    // Last, so that the connection is closed before.
    _claim: Option<Claim>,
}

impl<T: Tables> ActorFile<T> {
    /// That of a new actor, in memory.
    #[must_use]
    pub fn create(key: &Key, settings: &Settings) -> Self {
        let (database, tables) = (Database::new(), T::new(settings));
        let (key, open, debts) = (key.clone(), None, Debts::default());
        let (in_memory, ended, changed, _claim) = (true, false, false, None);
        Self { database, tables, debts, key, in_memory, ended, open, changed, _claim }
    }

    /// Opens the file of `key` at `path` and migrates it. If it is not as it was closed, everything in it is checked.
    ///
    /// # Errors
    ///
    /// Those of kind `Corrupt` for a file that is damaged, of another actor or of a newer program; [`Error::Sqlite`]
    /// and [`Error::Io`] otherwise. The file is unchanged, but for whole migration steps.
    pub fn open(key: &Key, path: &Path, settings: &Settings) -> Result<Self, Error> {
        let (connection, changed) = open_whole::<T>(path, Some(key))?;
        let (of, log) = T::meta(&connection)?;
        if of != *key {
            return Err(Error::WrongFile);
        }
        Self::over(connection, of, log, settings).map(|file| Self { changed, ..file })
    }

    /// The file of `key` that `connection` is to, whose log ends at `log`.
    pub(super) fn over(
        connection: Connection,
        key: Key,
        log: LogHead,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let last = log::event::<T::Event>(&connection, log.last_seq)?;
        let last = last.ok_or(Error::EventCorrupt { seq: log.last_seq })?;
        let tables = T::load(&connection, LogHead { last_hash: last.hash, ..log }, settings)?;
        let debts = Debts::load(&connection)?;
        let ended = last.number == T::Event::ENDING
            && T::Event::decode(last.number, &last.body)?.consequence() == Consequence::Ends;
        let (in_memory, open, changed, _claim) = (false, None, false, None);
        let database = Database::over(connection);
        Ok(Self { database, tables, debts, key, in_memory, ended, open, changed, _claim })
    }

    /// The same, which nobody else in this process opens meanwhile.
    #[must_use]
    pub fn claimed(mut self, claim: Claim) -> Self {
        self._claim = Some(claim);
        self
    }

    /// Whose it is.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// What is kept of its tables in memory.
    #[must_use]
    pub fn tables(&self) -> &T {
        &self.tables
    }

    /// How far its log goes.
    #[must_use]
    pub fn log(&self) -> LogHead {
        self.tables.log()
    }

    /// Whether the actor has ended: it is there only for what it has to tell still.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether there is no file yet.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.in_memory
    }

    /// What is applied and not committed.
    #[must_use]
    pub fn open_transaction(&self) -> Option<OpenTransaction> {
        self.open
    }

    /// Applies the next event; `entry` is how the journal will hold it.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; the actor in memory may then be half changed and must be dropped.
    pub fn apply(&mut self, event: &T::Event, entry: &Entry) -> Result<(), Error> {
        let log = self.tables.log();
        let seq = log.last_seq + 1;
        let Entry { number, recorded_at_ms, ref frame, .. } = *entry;
        let hash = chain(&log.last_hash, seq, recorded_at_ms, number, frame);
        let body = frame.clone();
        self.take(event, EventRow { seq, recorded_at_ms, number, body, hash, redacted: 0 })
    }

    /// Takes in `event`, whose row is `row`: its rows are written, or follow.
    pub(super) fn take(
        &mut self,
        event: &T::Event,
        row: EventRow<ByteString>,
    ) -> Result<(), Error> {
        let EventRow { seq, recorded_at_ms: at_ms, hash: last_hash, .. } = row;
        let (place, bytes) = (Place { seq, at_ms }, row.body.len());
        match self.tables.put_off(place, event) {
            Some(later) => self.database.put_off(row, later)?,
            None => {
                let db = self.database.filled()?;
                log::insert_all::<T::Event>(db, iter::once(row.borrowed()))?;
                self.tables.apply(db, place, event)?;
                self.debts.post(db, seq, self.tables.tells(event))?;
            }
        }
        self.ended |= event.consequence() == Consequence::Ends;
        let log = self.tables.log();
        self.tables.advance(LogHead { last_seq: seq, last_hash, updated_at_ms: at_ms, ..log });
        let open = self.note_change();
        open.events += 1;
        open.bytes += bytes;
        Ok(())
    }

    /// Notes whose request or letter led to event `seq`, so that it leads to nothing again.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; this must be dropped then.
    pub fn once(&mut self, seq: u64, entry: &Entry) -> Result<(), Error> {
        if let Some(kept) = &entry.idempotent {
            self.remember(seq, kept)?;
        }
        match entry.heard {
            Some((sender, number)) => self.hear(sender, number),
            None => Ok(()),
        }
    }

    /// Applies what of `record` the file does not hold yet.
    ///
    /// # Errors
    ///
    /// [`Error::Gap`] when the record begins too late; [`Error::EventCorrupt`] when it does not continue what the
    /// file holds; otherwise as [`ActorFile::apply`].
    pub fn replay(&mut self, record: &Record) -> Result<(), Error> {
        let LogHead { last_seq, last_hash, .. } = self.tables.log();
        if record.first_seq > last_seq + 1 {
            return Err(Error::Gap { file: last_seq, journal: record.first_seq });
        }
        if record.first_seq == last_seq + 1 && record.previous_hash != last_hash {
            return Err(Error::EventCorrupt { seq: last_seq });
        }
        for (seq, entry) in (record.first_seq..).zip(&record.entries) {
            if seq > last_seq {
                self.apply(&T::Event::decode(entry.number, &entry.frame)?, entry)?;
                self.once(seq, entry)?;
            }
        }
        Ok(())
    }

    /// Commits what is applied. Not synced: the journal has it.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; the file may then hold all of it or nothing, and this must be dropped.
    pub fn commit(&mut self) -> Result<(), Error> {
        if self.open.is_none() {
            return Ok(());
        }
        self.tables.save(self.database.begun()?, &self.key)?;
        self.database.commit()?;
        self.debts.has_cleared = false;
        self.open = None;
        Ok(())
    }

    /// Writes the file of an actor that is in memory and goes on with the file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Sqlite`]; there is no file then, or a whole one.
    pub fn into_file(mut self, folder: &Folder) -> Result<Self, Error> {
        self.commit()?;
        if !self.in_memory {
            return Ok(self);
        }
        let path = self.write(folder)?;
        let file = Database::over(connect(&path)?);
        give_back(std::mem::replace(&mut self.database, file));
        Ok(Self { in_memory: false, changed: false, ..self })
    }

    /// Writes the database that is in memory to the actor's file, in one go.
    fn write(&self, folder: &Folder) -> Result<PathBuf, Error> {
        let path = folder.file(&self.key);
        folder.write_whole(&path, &self.sealed()?)?;
        Ok(path)
    }

    /// The bytes of the file that the database in memory becomes.
    pub(super) fn sealed(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = self.db()?.serialize("main").while_("serialising its database")?.to_vec();
        template::set_wal(&mut bytes);
        seal::set(&mut bytes);
        Ok(bytes)
    }

    /// Commits, moves the write-ahead log into the file and closes it, leaving one file; none if nothing ever happened.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] or [`Error::Io`]; what was committed stays readable in file and log together.
    pub fn close(mut self, folder: &Folder) -> Result<(), Error> {
        if !self.tables.log().exists() {
            return Ok(());
        }
        if self.in_memory {
            self.commit()?;
            self.write(folder)?;
            give_back(self.database);
            return Ok(());
        }
        self.checkpoint_with("PRAGMA wal_checkpoint(TRUNCATE)")?;
        let doing = "closing its file";
        if let Some(connection) = self.database.into_connection() {
            connection
                .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
                .while_(doing)?;
            connection.close().map_err(|(_, source)| source).while_(doing)?;
        }
        match self.changed {
            true => seal::put(&folder.file(&self.key)).while_("sealing its file"),
            false => Ok(()),
        }
    }

    /// Commits and moves the write-ahead log into the file, as far as other readers let it.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; nothing is lost.
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        self.checkpoint_with("PRAGMA wal_checkpoint(PASSIVE)")
    }

    /// Makes sure that the file at `path` is whole, as [`ActorFile::open`] does.
    ///
    /// # Errors
    ///
    /// As [`ActorFile::open`].
    pub fn check(path: &Path) -> Result<(), Error> {
        open_whole::<T>(path, None).map(|_| ())
    }

    /// Moves what is committed of the write-ahead log of the file at `path` into it, while somebody else writes.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; nothing is lost.
    pub fn checkpoint_beside(path: &Path) -> Result<(), Error> {
        connect(path)?
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
            .while_("moving the write-ahead log into its file")
    }

    fn checkpoint_with(&mut self, sql: &str) -> Result<(), Error> {
        self.commit()?;
        self.db()?.query_row(sql, [], |_| Ok(())).while_("moving the write-ahead log into its file")
    }

    /// Size of the database without rows that follow, in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn bytes(&self) -> Result<u64, Error> {
        let Some(db) = self.database.as_is() else { return Ok(0) };
        let count = |sql| {
            let mut statement = db.prepare_cached(sql)?;
            statement.query_row([], |row| row.get::<_, u64>(0))
        };
        let pages = count("PRAGMA page_count").while_("measuring its file")?;
        Ok(pages * PAGE_BYTES)
    }

    /// The database with every row.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; this must be dropped then.
    pub(in crate::storage) fn db(&self) -> Result<&Connection, Error> {
        self.database.whole()
    }

    /// The same, with a transaction open.
    pub(in crate::storage) fn begin(&mut self) -> Result<&Connection, Error> {
        self.note_change();
        self.database.begun()
    }

    fn note_change(&mut self) -> &mut OpenTransaction {
        self.changed = true;
        self.open.get_or_insert_default()
    }
}

/// Keeps the database of an actor that is in a file for another one.
fn give_back<T: Tables>(database: Database<T>) {
    if let Some(connection) = database.into_connection() {
        T::blank().give_back(connection);
    }
}

/// Opens the database at `path` in the present schema; whether its seal does not fit any more. If it is not as it was
/// closed, everything in it is checked.
fn open_whole<T: Tables>(path: &Path, key: Option<&Key>) -> Result<(Connection, bool), Error> {
    let seal = seal::look(path).while_("reading its file")?;
    let mut connection = connect(path)?;
    if seal == Seal::Broken {
        check::structure(&connection)?;
    }
    let migrated = template::migrate(&mut connection, T::blank().steps())?;
    if seal == Seal::Broken
        && let Some(finding) = check::rows::<T>(&connection, key)?.into_iter().next()
    {
        return Err(finding);
    }
    Ok((connection, migrated || seal != Seal::Fits))
}

/// Opens the database at `path`, with what holds for every connection to a file.
pub(super) fn connect(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags_and_vfs(path, flags, disk::vfs(path))
        .while_("opening its file")?;
    connection.busy_timeout(BUSY_TIMEOUT).while_("setting up its file")?;
    connection.execute_batch(SETTINGS).while_("setting up its file")?;
    // A file that cannot be used stays as it is, with its log; `close` moves the log.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .while_("setting up its file")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

/// Opens the database at `path`, which nobody writes, without leaving a trace.
pub(super) fn look(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let uri = disk::uri(path, "immutable=1");
    Connection::open_with_flags(uri, flags).while_("opening its file")
}
