//! The node's list of sessions: what `GET /v1/sessions` shows and which sleeping session must wake when.
//!
//! One file that many threads read, through a pool. It may lag behind what happened and it may be lost: what it says
//! is in the session files and in the journal as well. Of a session whose records are all in its file it is right,
//! since it is written before the segments with those records go; of the others the journal tells how far they are.
//!
//! It is never ahead of file and journal together: what is noted is durable in the journal, and the journal keeps it
//! until the file has it, on the disk. So a file that ends before [`Catalogue::last_seq`] when the journal holds no more
//! of it has lost something, whether a process or a machine died in between.

use std::collections::HashMap;
use std::fs;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::OptionalExtension;
use rusqlite::config::DbConfig;
use rusqlite::params;
use rusqlite_migration::M;
use rusqlite_migration::Migrations;

use crate::base::Classify;
use crate::base::Key;
use crate::base::Kind;
use crate::base::ids::ActorKind;
use crate::base::ids::KeyHash;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::disk;
use crate::storage::error::At;
use crate::storage::schema;
use crate::storage::seal;
use crate::storage::seal::Seal;
use crate::storage::sum;
use crate::storage::wal;

mod row;

const STEPS: &[M<'static>] = &[
    M::up(include_str!("../../schema/node/0001_create_catalogue.sql")),
    M::up(include_str!("../../schema/node/0002_item_count.sql")),
    M::up(include_str!("../../schema/node/0003_unfinished_sessions.sql")),
    M::up(include_str!("../../schema/node/0004_row_sums.sql")),
    M::up(include_str!("../../schema/node/0005_actors_of_every_kind.sql")),
];
/// Readers at the same time; more wait.
const READERS_MAX: u32 = 4;
/// How long a reader waits for its turn.
const READER_WAIT: Duration = Duration::from_secs(5);

/// What the catalogue knows of an actor.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// Whose.
    pub key: Key,
    /// What lists show of it, as JSON of its kind; empty if no list shows it.
    pub summary: String,
    /// Seq of its last event.
    pub last_seq: u64,
    /// Unix time in milliseconds.
    pub created_at_ms: i64,
    /// Unix time of the last event, in milliseconds.
    pub updated_at_ms: i64,
    /// When it must wake.
    pub next_timer_ms: Option<i64>,
    /// Whether something runs for it or waits for its place: at a start somebody must see to it.
    pub unfinished: bool,
    /// Whether it has ended and must go from the list.
    pub ended: bool,
}

impl Card {
    /// The card of an actor that has ended.
    #[must_use]
    pub fn gone(key: Key) -> Self {
        Self {
            key,
            summary: "{}".to_owned(),
            last_seq: 0,
            created_at_ms: 0,
            updated_at_ms: 0,
            next_timer_ms: None,
            unfinished: false,
            ended: true,
        }
    }
}

/// Where a page of the list begins: behind the session with this time and hash.
pub type ListCursor = (i64, KeyHash);

/// The catalogue of a node.
pub struct Catalogue {
    path: PathBuf,
    readers: Pool<SqliteConnectionManager>,
    writer: Mutex<Connection>,
    dirty: Mutex<HashMap<KeyHash, Card>>,
    /// Whether something in it was not what was written: then no seal may say that it is.
    suspect: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Catalogue {
    /// Opens the catalogue at `path`, making it anew when it is missing or damaged, or must not be trusted (`anew`).
    /// What it lacks then must be found in the session files: see [`Catalogue::is_complete`].
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] or [`Error::Io`] when it cannot be made, or not be read for another reason than damage.
    pub fn open(path: &Path, anew: bool) -> Result<Self, Error> {
        let log = path.with_extension("db-wal");
        let broken_log = !wal::is_intact(&log).at(&log, "cannot be read")?;
        if broken_log {
            tracing::warn!(
                "{} is damaged and the list of sessions made anew from the session files",
                log.display()
            );
        }
        if anew || broken_log {
            remove(path)?;
        }
        // SQLite does not say why it cannot open a file, and would let everybody read it: titles are what people said.
        // Its log has the rights of the file.
        let mut mine = OpenOptions::new();
        mine.read(true).write(true).create(true).truncate(false).mode(0o600);
        mine.open(path)
            .and_then(|file| file.set_permissions(Permissions::from_mode(0o600)))
            .at(path, "cannot be opened")?;
        let seal = match seal::look(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Seal::Fits,
            seal => seal.at(path, "cannot be read")?,
        };
        let looks = seal == Seal::Broken;
        let writer = match open_writer(path, looks) {
            // The version may be what a flipped bit changed: then the seal does not fit.
            Err(error)
                if error.kind() == Kind::Corrupt
                    && (looks || !matches!(error, Error::TooNew { .. })) =>
            {
                tracing::warn!(error = %error, "{} is damaged and the list of sessions made anew from the session files", path.display());
                remove(path)?;
                open_writer(path, false)
            }
            other => other,
        };
        let unusable =
            |source| Error::Catalogue { path: path.to_owned(), source: Box::new(source) };
        let writer = writer.map_err(unusable)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let uri = disk::uri(path, &format!("vfs={}", disk::vfs(path)));
        let manager = SqliteConnectionManager::file(uri)
            .with_flags(flags)
            .with_init(|connection| connection.pragma_update(None, "query_only", true));
        let readers = Pool::builder()
            .max_size(READERS_MAX)
            .min_idle(Some(0))
            .connection_timeout(READER_WAIT)
            .test_on_check_out(false)
            .build(manager)?;
        let (writer, dirty) = (Mutex::new(writer), Mutex::default());
        let suspect = AtomicBool::new(false);
        Ok(Self { path: path.to_owned(), readers, writer, dirty, suspect })
    }

    /// Whether every session file was noted since the catalogue was made.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when it cannot be read.
    pub fn is_complete(&self) -> Result<bool, Error> {
        is_complete(&locked(&self.writer))
    }

    /// Keeps that every session file was noted. What was noted is written first.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when it cannot be written.
    pub fn complete(&self) -> Result<(), Error> {
        self.flush()?;
        let sql = "UPDATE state SET complete = 1";
        locked(&self.writer).execute(sql, []).while_("writing the catalogue").map(|_| ())
    }

    /// Notes what a session is like now; written with the next [`Catalogue::flush`].
    pub fn note(&self, card: Card) {
        locked(&self.dirty).insert(card.key.hash(), card);
    }

    /// Notes what was found in a file, unless something newer is known.
    pub fn note_found(&self, card: Card) {
        locked(&self.dirty).entry(card.key.hash()).or_insert(card);
    }

    /// Seq of the last event of the session `hash`, as far as the catalogue knows; `None` if it knows no such session.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] or [`Error::Sqlite`] when the catalogue cannot be read.
    pub fn last_seq(&self, hash: KeyHash) -> Result<Option<u64>, Error> {
        if let Some(card) = locked(&self.dirty).get(&hash) {
            return Ok((!card.ended).then_some(card.last_seq));
        }
        row::last_seq(&*self.readers.get()?, hash)
    }

    /// Whether the catalogue knows the session `hash`; `None` when that cannot be told without waiting.
    #[must_use]
    pub fn knows(&self, hash: KeyHash) -> Option<bool> {
        if locked(&self.dirty).get(&hash).is_some_and(|card| !card.ended) {
            return Some(true);
        }
        row::last_seq(&*self.readers.try_get()?, hash).ok().map(|seq| seq.is_some())
    }

    /// Writes what was noted.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; it is noted still.
    pub fn flush(&self) -> Result<(), Error> {
        let mut writer = locked(&self.writer);
        let cards = std::mem::take(&mut *locked(&self.dirty));
        if cards.is_empty() {
            return Ok(());
        }
        let result = row::write(&mut writer, cards.values());
        if result.is_err() {
            let mut dirty = locked(&self.dirty);
            for (hash, card) in cards {
                dirty.entry(hash).or_insert(card);
            }
        }
        result
    }

    /// Takes out the rows that are not what was written. What it lacks then must be found in the session files.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when more than rows is damaged; the next start makes it anew.
    pub fn mend(&self) -> Result<(), Error> {
        self.suspect.store(true, Ordering::Release);
        row::mend(&mut locked(&self.writer))
    }

    /// Writes what was noted, and leaves one file with a seal: the next start need not look at it.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] or [`Error::Io`]; the next start looks then.
    pub fn close(&self) -> Result<(), Error> {
        self.flush()?;
        let writer = locked(&self.writer);
        let doing = "closing the catalogue";
        writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).while_(doing)?;
        if self.suspect.load(Ordering::Acquire) {
            return Ok(());
        }
        seal::put(&self.path).while_(doing)
    }

    /// What is wrong with the catalogue at `path`, if something is; nothing is changed.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when it cannot be read.
    pub fn verify(path: &Path) -> Result<Option<Error>, Error> {
        match open_to_look(path).and_then(|connection| row::check(&connection, STEPS.len())) {
            Ok(()) => Ok(None),
            Err(error) if error.is_damage() => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    /// How far each session goes that the catalogue at `path` lists, whose file is to be there; nothing is changed. Rows
    /// that are not what was written are passed over.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when it cannot be read.
    pub fn reached(path: &Path) -> Result<Vec<(Key, u64)>, Error> {
        row::reached(&open_to_look(path)?)
    }

    /// Whether the catalogue at `path` is as a server left it that stopped in good order; true if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be read.
    pub fn was_closed(path: &Path) -> Result<bool, Error> {
        match seal::look(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            seal => Ok(seal.at(path, "cannot be read")? != Seal::Broken),
        }
    }

    /// Reads several things as of one moment: what was flushed before, and nothing of later flushes in between.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] or [`Error::Sqlite`] when the catalogue cannot be read; what `read` fails with.
    pub fn at_once<T>(
        &self,
        read: impl FnOnce(&Moment<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let reader = self.readers.get()?;
        let doing = "beginning to read the catalogue";
        // It ends with the guard, so that the connection goes back without it.
        let transaction = reader.unchecked_transaction().while_(doing)?;
        read(&Moment(&transaction))
    }

    /// The session whose hash is `hash`, if it is listed.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] or [`Error::Sqlite`] when the catalogue cannot be read.
    pub fn key(&self, hash: KeyHash) -> Result<Option<Key>, Error> {
        let reader = self.readers.get()?;
        let sql = "SELECT * FROM actor WHERE hash = ?1";
        let key = reader.query_row(sql, [hash.0], row::key_at).optional();
        let key = key.while_("looking for a session")?;
        Ok(key.filter(|key| key.hash() == hash))
    }

    /// Sessions that must wake by `now_ms`, the most urgent first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] or [`Error::Sqlite`] when the catalogue cannot be read.
    pub fn due(&self, now_ms: i64, limit: usize) -> Result<Vec<Key>, Error> {
        let reader = self.readers.get()?;
        let doing = "looking for due timers";
        let mut statement = reader
            .prepare_cached(
                "SELECT * FROM actor WHERE next_timer_ms <= ?1 ORDER BY next_timer_ms LIMIT ?2",
            )
            .while_(doing)?;
        let keys = statement.query_map(params![now_ms, limit], row::key_at).while_(doing)?;
        Ok(keys.filter_map(whole).collect())
    }

    /// Sessions that somebody must see to at a start, since a turn ran in them or waited for its place.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] or [`Error::Sqlite`] when the catalogue cannot be read.
    pub fn unfinished(&self) -> Result<Vec<Key>, Error> {
        let reader = self.readers.get()?;
        let doing = "looking for sessions whose turns were cut off";
        let sql = "SELECT * FROM actor WHERE unfinished = 1";
        let mut statement = reader.prepare(sql).while_(doing)?;
        let keys = statement.query_map([], row::key_at).while_(doing)?;
        Ok(keys.filter_map(whole).collect())
    }
}

/// A row that is what was written; another one must not keep those behind it from being seen to.
fn whole<T>(row: rusqlite::Result<T>) -> Option<T> {
    row.inspect_err(|error| tracing::error!(error = %error, "a row of the list is damaged")).ok()
}

/// The catalogue as of one moment.
pub struct Moment<'a>(&'a Connection);

impl Moment<'_> {
    /// A page of a workspace's actors of `kind`, newest activity first.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the catalogue cannot be read.
    pub fn list(
        &self,
        kind: ActorKind,
        workspace: &str,
        behind: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<Card>, Error> {
        let (at_ms, hash) = behind.unwrap_or((i64::MAX, KeyHash([0; 16])));
        let doing = "reading a page of the list";
        let mut statement = self
            .0
            .prepare_cached(
                "SELECT * FROM actor
                  WHERE workspace = ?1 AND kind = ?2 AND summary <> ''
                    AND (updated_at_ms < ?3 OR (updated_at_ms = ?3 AND hash > ?4))
                  ORDER BY updated_at_ms DESC, hash LIMIT ?5",
            )
            .while_(doing)?;
        let cards = statement
            .query_map(params![workspace, kind.as_str(), at_ms, hash.0, limit], row::card_at);
        cards.and_then(Iterator::collect).while_(doing)
    }

    /// Seq of the last event of the session `hash`; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the catalogue cannot be read.
    pub fn last_seq(&self, hash: KeyHash) -> Result<Option<u64>, Error> {
        row::last_seq(self.0, hash)
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    for extension in ["db", "db-wal", "db-shm"] {
        let path = path.with_extension(extension);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).at(&path, "cannot be removed");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Opens the catalogue at `path` to read it, whoever uses it, and leaves its log as it is.
fn open_to_look(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).while_("opening the catalogue")?;
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .while_("opening the catalogue")?;
    Ok(connection)
}

fn open_writer(path: &Path, looks: bool) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags_and_vfs(path, flags, disk::vfs(path))
        .while_("opening the catalogue")?;
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA trusted_schema = OFF;
             PRAGMA secure_delete = ON; PRAGMA cache_size = -1024;",
        )
        .while_("setting up the catalogue")?;
    let is: usize = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .while_("reading the version of the catalogue")?;
    if is > STEPS.len() {
        let version = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        return Err(Error::TooNew { is: version(is), known: version(STEPS.len()) });
    }
    if looks {
        row::structure(&connection)?;
    }
    migrate(&mut connection)?;
    if looks {
        schema::check(&connection, &schema::made_by(migrate)?, &[])?;
        row::all(&connection)?;
    }
    is_complete(&connection)?;
    Ok(connection)
}

fn is_complete(connection: &Connection) -> Result<bool, Error> {
    let sql = "SELECT complete FROM state";
    connection.query_row(sql, [], |row| row.get(0)).while_("reading the catalogue")
}

fn migrate(connection: &mut Connection) -> Result<(), Error> {
    sum::add_function(connection)?;
    Migrations::from_slice(STEPS).to_latest(connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => {
            Error::Sqlite { doing: "migrating the catalogue", source: err }
        }
        other => Error::FileCorrupt { problem: other.to_string() },
    })
}

#[cfg(test)]
mod tests;
