//! Opening, writing through and closing a session's file.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::config::DbConfig;

use crate::base::Key;
use crate::base::clock;
use crate::domain::session::Draft;
use crate::domain::session::Event;
use crate::domain::session::Head;
use crate::storage::Error;
use crate::storage::Folder;
use crate::storage::While;
use crate::storage::claim::Claim;
use crate::storage::disk;
use crate::storage::journal::Entry;
use crate::storage::journal::Idempotent;
use crate::storage::journal::Record;
use crate::storage::journal::chain;
use crate::storage::seal;
use crate::storage::seal::Seal;
use crate::storage::session::apply;
use crate::storage::session::blank;
use crate::storage::session::check;
use crate::storage::session::compact;
use crate::storage::session::draft;
use crate::storage::session::page::Tail;
use crate::storage::session::read;
use crate::storage::session::read::EventRow;
use crate::storage::session::template;
use crate::storage::session::turn;

/// What holds for every connection to a session file.
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
#[derive(Clone, Copy, Debug)]
pub struct OpenTransaction {
    /// How many.
    pub events: usize,
    /// Bytes of their frames.
    pub bytes: usize,
    /// Since when.
    pub since: Instant,
}

/// An open session file, or the database in memory that becomes one.
#[derive(Debug)]
pub struct SessionFile {
    pub(super) connection: Connection,
    pub(super) key: Key,
    pub(super) head: Head,
    pub(super) tail: Option<Tail>,
    /// The message that the running turn writes.
    pub(super) draft: Option<Draft>,
    pub(super) deltas_kept_ms: i64,
    in_memory: bool,
    open: Option<OpenTransaction>,
    /// Whether the seal of the file does not fit any more.
    changed: bool,
    // Last, so that the connection is closed before.
    _claim: Option<Claim>,
}

impl SessionFile {
    /// Makes the database of a new session, in memory.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when memory does not suffice.
    pub fn create(key: &Key) -> Result<Self, Error> {
        let connection = blank::take()?;
        let (key, head) = (key.clone(), Head::default());
        Ok(Self {
            connection,
            key,
            head,
            in_memory: true,
            open: None,
            tail: None,
            draft: None,
            deltas_kept_ms: compact::KEPT_MS,
            changed: false,
            _claim: None,
        })
    }

    /// Opens the file of `key` at `path` and migrates it. If it is not as it was closed, everything in it is checked.
    ///
    /// # Errors
    ///
    /// Those of kind `Corrupt` for a file that is damaged, of another session or of a newer program; [`Error::Sqlite`]
    /// and [`Error::Io`] otherwise. The file is unchanged, but for whole migration steps.
    pub fn open(key: &Key, path: &Path) -> Result<Self, Error> {
        let (connection, changed) = open_whole(path, Some(key))?;
        let head = read::head(&connection, key)?;
        let draft = draft::load(&connection, head.active_turn.as_ref())?;
        let key = key.clone();
        Ok(Self {
            connection,
            key,
            head,
            in_memory: false,
            open: None,
            tail: None,
            draft,
            deltas_kept_ms: compact::KEPT_MS,
            changed,
            _claim: None,
        })
    }

    /// The same, where the text of an answer stays in the log as it grew for this long after its end.
    #[must_use]
    pub fn keeping_deltas(mut self, ms: u64) -> Self {
        self.deltas_kept_ms = i64::try_from(ms).unwrap_or(i64::MAX);
        self
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

    /// What is known without looking at the messages.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Whether a turn runs or waits for its place; also when that cannot be told.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        let active = self.head.active_turn.as_ref();
        match active.map(|turn| turn.state.is_active()) {
            Some(true) => true,
            // What waits behind an approval goes on with it.
            Some(false) => false,
            None => turn::any_queued(&self.connection).unwrap_or(true),
        }
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
    /// [`Error::Sqlite`]; the session in memory may then be half changed and must be dropped.
    pub fn apply(&mut self, event: &Event, entry: &Entry) -> Result<(), Error> {
        let seq = self.head.last_seq + 1;
        let hash = chain(&self.head.last_hash, seq, entry.recorded_at_ms, entry.kind, &entry.frame);
        let Entry { kind, recorded_at_ms, .. } = *entry;
        let body = entry.frame.as_str();
        let row = EventRow { seq, recorded_at_ms, kind, body, hash, redacted: 0 };
        self.take(event, &row)
    }

    /// Inserts `row`, which is `event`, and brings everything else up to it.
    pub(super) fn take(&mut self, event: &Event, row: &EventRow<&str>) -> Result<(), Error> {
        self.begin()?;
        let (seq, at_ms) = (row.seq, row.recorded_at_ms);
        apply::insert(&self.connection, row)?;
        if !draft::write(self.draft.as_mut(), event) {
            apply::project(&self.connection, &mut self.head, seq, event, at_ms)?;
            if let Event::Turn(_) = event {
                let active = self.head.active_turn.as_ref().filter(|turn| turn.state.is_active());
                let goes_on =
                    |draft: &Draft| active.is_some_and(|t| t.message_id == draft.message_id);
                // What it holds is newer than its rows.
                if !self.draft.as_ref().is_some_and(goes_on) {
                    self.draft = draft::load(&self.connection, active)?;
                }
            }
            if let Event::Turn(turn) = event
                && turn.state.is_over()
            {
                let due_ms = at_ms.saturating_add(self.deltas_kept_ms);
                compact::schedule(&self.connection, turn, due_ms)?;
            }
        }
        self.head.last_seq = seq;
        self.head.last_hash = row.hash;
        self.head.updated_at_ms = at_ms;
        if let Some(open) = &mut self.open {
            open.events += 1;
            open.bytes += row.body.len();
        }
        Ok(())
    }

    /// Keeps what a repeat of the request that led to event `seq` will be answered.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; this must be dropped then.
    pub fn remember(&mut self, seq: u64, kept: &Idempotent) -> Result<(), Error> {
        apply::remember(&self.connection, seq, kept)
    }

    /// Applies what of `record` the file does not hold yet.
    ///
    /// # Errors
    ///
    /// [`Error::Gap`] when the record begins too late; [`Error::EventCorrupt`] when it does not continue what the
    /// file holds; otherwise as [`SessionFile::apply`].
    pub fn replay(&mut self, record: &Record) -> Result<(), Error> {
        let next = self.head.last_seq + 1;
        if record.first_seq > next {
            return Err(Error::Gap { file: self.head.last_seq, journal: record.first_seq });
        }
        if record.first_seq == next && record.previous_hash != self.head.last_hash {
            return Err(Error::EventCorrupt { seq: self.head.last_seq });
        }
        for (seq, entry) in (record.first_seq..).zip(&record.entries) {
            if seq > self.head.last_seq {
                self.apply(&Event::decode(entry.kind, &entry.frame)?, entry)?;
                if let Some(kept) = &entry.idempotent {
                    self.remember(seq, kept)?;
                }
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
        if let Some(draft) = &mut self.draft {
            draft::save(&self.connection, draft)?;
        }
        apply::save_head(&self.connection, &self.key, &self.head)?;
        self.execute("COMMIT", "committing to a session file")?;
        self.open = None;
        Ok(())
    }

    /// Writes the file of a session that is in memory and goes on with the file.
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
        blank::give_back(std::mem::replace(&mut self.connection, connect(&path)?));
        Ok(Self { in_memory: false, changed: false, ..self })
    }

    /// Writes the database that is in memory to the session's file, in one go.
    fn write(&self, folder: &Folder) -> Result<PathBuf, Error> {
        let path = folder.session(self.key.hash());
        folder.write_whole(&path, &self.sealed()?)?;
        Ok(path)
    }

    /// The bytes of the file that the database in memory becomes.
    pub(super) fn sealed(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = self.connection.serialize("main").while_("serialising a session")?.to_vec();
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
        if !self.head.exists() {
            return Ok(());
        }
        if self.in_memory {
            self.commit()?;
            self.write(folder)?;
            blank::give_back(self.connection);
            return Ok(());
        }
        self.checkpoint_with("PRAGMA wal_checkpoint(TRUNCATE)")?;
        let doing = "closing a session file";
        self.connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
            .while_(doing)?;
        self.connection.close().map_err(|(_, source)| source).while_(doing)?;
        match self.changed {
            true => seal::put(&folder.session(self.key.hash())).while_("sealing a session file"),
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

    /// Makes sure that the file at `path` is whole, as [`SessionFile::open`] does.
    ///
    /// # Errors
    ///
    /// As [`SessionFile::open`].
    pub fn check(path: &Path) -> Result<(), Error> {
        open_whole(path, None).map(|_| ())
    }

    /// Moves what is committed of the write-ahead log of the file at `path` into it, while somebody else writes.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; nothing is lost.
    pub fn checkpoint_beside(path: &Path) -> Result<(), Error> {
        connect(path)?
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
            .while_("moving the write-ahead log into a session file")
    }

    fn checkpoint_with(&mut self, sql: &str) -> Result<(), Error> {
        self.commit()?;
        self.connection
            .query_row(sql, [], |_| Ok(()))
            .while_("moving the write-ahead log into a session file")
    }

    /// Size of the database, in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn bytes(&self) -> Result<u64, Error> {
        let count = |sql| {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_row([], |row| row.get::<_, u64>(0))
        };
        let pages = count("PRAGMA page_count").while_("measuring a session file")?;
        Ok(pages * PAGE_BYTES)
    }

    /// Begins a transaction, if none is open.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        if self.open.is_none() {
            self.execute("BEGIN IMMEDIATE", "beginning a transaction")?;
            self.changed = true;
            self.open = Some(OpenTransaction { events: 0, bytes: 0, since: clock::instant() });
        }
        Ok(())
    }

    fn execute(&self, sql: &'static str, doing: &'static str) -> Result<(), Error> {
        self.connection.prepare_cached(sql).and_then(|mut s| s.execute([])).while_(doing)?;
        Ok(())
    }
}

/// Opens the database at `path` in the present schema; whether its seal does not fit any more. If it is not as it was
/// closed, everything in it is checked.
fn open_whole(path: &Path, key: Option<&Key>) -> Result<(Connection, bool), Error> {
    let seal = seal::look(path).while_("reading a session file")?;
    let mut connection = connect(path)?;
    if seal == Seal::Broken {
        check::structure(&connection)?;
    }
    let migrated = template::migrate(&mut connection)?;
    if seal == Seal::Broken
        && let Some(finding) = check::rows(&connection, key)?.into_iter().next()
    {
        return Err(finding);
    }
    Ok((connection, migrated || seal != Seal::Fits))
}

/// Opens the database at `path`, with what holds for every connection to a session file.
pub(super) fn connect(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags_and_vfs(path, flags, disk::vfs(path))
        .while_("opening a session file")?;
    connection.busy_timeout(BUSY_TIMEOUT).while_("setting up a session file")?;
    connection.execute_batch(SETTINGS).while_("setting up a session file")?;
    // A file that cannot be used stays as it is, with its log; `close` moves the log.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .while_("setting up a session file")?;
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
    Connection::open_with_flags(uri, flags).while_("opening a session file")
}
