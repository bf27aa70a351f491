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
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::params;
use rusqlite::types::Type;
use rusqlite_migration::M;
use rusqlite_migration::Migrations;

use crate::base::Classify;
use crate::base::Key;
use crate::base::Kind;
use crate::base::ids::KeyHash;
use crate::base::ids::Name;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::error::At;

const STEPS: &[M<'static>] = &[
    M::up(include_str!("../../schema/node/0001_create_catalogue.sql")),
    M::up(include_str!("../../schema/node/0002_item_count.sql")),
    M::up(include_str!("../../schema/node/0003_unfinished_sessions.sql")),
];
/// Readers at the same time; more wait.
const READERS_MAX: u32 = 4;
/// How long a reader waits for its turn.
const READER_WAIT: Duration = Duration::from_secs(5);

/// What the catalogue knows of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// Whose.
    pub key: Key,
    /// Shown in lists.
    pub title: String,
    /// The project it belongs to.
    pub project_id: Option<String>,
    /// What the client attached to it, as JSON.
    pub metadata: String,
    /// Messages in it.
    pub message_count: u64,
    /// Items that an agent keeps.
    pub item_count: u64,
    /// Seq of its last event.
    pub last_seq: u64,
    /// The turn that is running.
    pub active_turn: Option<String>,
    /// Unix time in milliseconds.
    pub created_at_ms: i64,
    /// Unix time of the last event, in milliseconds.
    pub updated_at_ms: i64,
    /// When it must wake.
    pub next_timer_ms: Option<i64>,
    /// Whether a turn runs or waits for its place: at a start somebody must see to it.
    pub unfinished: bool,
    /// Whether it has ended and must go from the list.
    pub deleted: bool,
}

impl Card {
    /// The card of a session that was deleted.
    #[must_use]
    pub fn gone(key: Key) -> Self {
        Self {
            key,
            title: String::new(),
            project_id: None,
            metadata: "{}".to_owned(),
            message_count: 0,
            item_count: 0,
            last_seq: 0,
            active_turn: None,
            created_at_ms: 0,
            updated_at_ms: 0,
            next_timer_ms: None,
            unfinished: false,
            deleted: true,
        }
    }
}

/// Where a page of the list begins: behind the session with this time and hash.
pub type ListCursor = (i64, KeyHash);

/// The catalogue of a node.
pub struct Catalogue {
    readers: Pool<SqliteConnectionManager>,
    writer: Mutex<Connection>,
    dirty: Mutex<HashMap<KeyHash, Card>>,
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
        if anew {
            remove(path)?;
        }
        // SQLite does not say why it cannot open a file.
        match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).at(path, "cannot be opened");
            }
            _ => {}
        }
        let writer = match open_writer(path) {
            Err(error)
                if error.kind() == Kind::Corrupt && !matches!(error, Error::TooNew { .. }) =>
            {
                tracing::warn!(error = %error, "{} is damaged and made anew from the session files", path.display());
                remove(path)?;
                open_writer(path)
            }
            other => other,
        };
        let unusable =
            |source| Error::Catalogue { path: path.to_owned(), source: Box::new(source) };
        let writer = writer.map_err(unusable)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let manager = SqliteConnectionManager::file(path)
            .with_flags(flags)
            .with_init(|connection| connection.pragma_update(None, "query_only", true));
        let readers = Pool::builder()
            .max_size(READERS_MAX)
            .min_idle(Some(0))
            .connection_timeout(READER_WAIT)
            .test_on_check_out(false)
            .build(manager)?;
        let (writer, dirty) = (Mutex::new(writer), Mutex::default());
        Ok(Self { readers, writer, dirty })
    }

    /// Whether every session file was noted since the catalogue was made.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when it cannot be read.
    pub fn is_complete(&self) -> Result<bool, Error> {
        let sql = "SELECT complete FROM state";
        locked(&self.writer).query_row(sql, [], |row| row.get(0)).while_("reading the catalogue")
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
            return Ok((!card.deleted).then_some(card.last_seq));
        }
        last_seq(&*self.readers.get()?, hash)
    }

    /// Whether the catalogue knows the session `hash`; `None` when that cannot be told without waiting.
    #[must_use]
    pub fn knows(&self, hash: KeyHash) -> Option<bool> {
        if locked(&self.dirty).get(&hash).is_some_and(|card| !card.deleted) {
            return Some(true);
        }
        last_seq(&*self.readers.try_get()?, hash).ok().map(|seq| seq.is_some())
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
        let result = write(&mut writer, cards.values());
        if result.is_err() {
            let mut dirty = locked(&self.dirty);
            for (hash, card) in cards {
                dirty.entry(hash).or_insert(card);
            }
        }
        result
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
                "SELECT workspace, name FROM session WHERE next_timer_ms <= ?1 ORDER BY next_timer_ms LIMIT ?2",
            )
            .while_(doing)?;
        let keys = statement.query_map(params![now_ms, limit], key_at);
        keys.and_then(Iterator::collect).while_(doing)
    }

    /// Sessions that somebody must see to at a start, since a turn ran in them or waited for its place.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] or [`Error::Sqlite`] when the catalogue cannot be read.
    pub fn unfinished(&self) -> Result<Vec<Key>, Error> {
        let reader = self.readers.get()?;
        let doing = "looking for sessions whose turns were cut off";
        let sql = "SELECT workspace, name FROM session WHERE unfinished = 1";
        let mut statement = reader.prepare(sql).while_(doing)?;
        let keys = statement.query_map([], key_at);
        keys.and_then(Iterator::collect).while_(doing)
    }
}

/// The catalogue as of one moment.
pub struct Moment<'a>(&'a Connection);

impl Moment<'_> {
    /// A page of a workspace's sessions, newest activity first.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the catalogue cannot be read.
    pub fn list(
        &self,
        workspace: &str,
        behind: Option<ListCursor>,
        limit: usize,
    ) -> Result<Vec<Card>, Error> {
        let (at_ms, hash) = behind.unwrap_or((i64::MAX, KeyHash([0; 16])));
        let doing = "listing sessions";
        let mut statement = self
            .0
            .prepare_cached(
                "SELECT workspace, name, title, project_id, metadata, message_count, last_seq, active_turn,
                        created_at_ms, updated_at_ms, next_timer_ms, item_count, unfinished
                   FROM session
                  WHERE workspace = ?1 AND (updated_at_ms < ?2 OR (updated_at_ms = ?2 AND hash > ?3))
                  ORDER BY updated_at_ms DESC, hash LIMIT ?4",
            )
            .while_(doing)?;
        let cards = statement.query_map(params![workspace, at_ms, hash.0, limit], card_at);
        cards.and_then(Iterator::collect).while_(doing)
    }

    /// Seq of the last event of the session `hash`; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the catalogue cannot be read.
    pub fn last_seq(&self, hash: KeyHash) -> Result<Option<u64>, Error> {
        last_seq(self.0, hash)
    }
}

fn last_seq(reader: &Connection, hash: KeyHash) -> Result<Option<u64>, Error> {
    let seq: Option<i64> = reader
        .prepare_cached("SELECT last_seq FROM session WHERE hash = ?1")
        .and_then(|mut statement| statement.query_row([hash.0], |row| row.get(0)).optional())
        .while_("looking for a session in the catalogue")?;
    Ok(seq.map(|seq| u64::try_from(seq).unwrap_or(0)))
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

fn open_writer(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(path, flags).while_("opening the catalogue")?;
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
    Migrations::from_slice(STEPS).to_latest(&mut connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => {
            Error::Sqlite { doing: "migrating the catalogue", source: err }
        }
        other => Error::FileCorrupt { problem: other.to_string() },
    })?;
    Ok(connection)
}

fn write<'a>(writer: &mut Connection, cards: impl Iterator<Item = &'a Card>) -> Result<(), Error> {
    let doing = "writing the catalogue";
    let transaction = writer.transaction().while_(doing)?;
    for card in cards {
        let hash = card.key.hash().0;
        if card.deleted {
            let sql = "DELETE FROM session WHERE hash = ?1";
            transaction.prepare_cached(sql).and_then(|mut s| s.execute([hash])).while_(doing)?;
            continue;
        }
        transaction
            .prepare_cached(
                // Never older than it is: a file may have been looked at before the last event.
                "INSERT INTO session (hash, workspace, name, title, project_id, metadata, message_count, last_seq,
                                      active_turn, created_at_ms, updated_at_ms, next_timer_ms, item_count, unfinished)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
                 ON CONFLICT (hash) DO UPDATE
                    SET title = excluded.title, project_id = excluded.project_id, metadata = excluded.metadata,
                        message_count = excluded.message_count, last_seq = excluded.last_seq,
                        active_turn = excluded.active_turn, updated_at_ms = excluded.updated_at_ms,
                        next_timer_ms = excluded.next_timer_ms, item_count = excluded.item_count,
                        unfinished = excluded.unfinished
                  WHERE excluded.last_seq >= session.last_seq",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    hash,
                    card.key.workspace(),
                    card.key.id(),
                    card.title,
                    card.project_id,
                    card.metadata,
                    i64::try_from(card.message_count).unwrap_or(i64::MAX),
                    i64::try_from(card.last_seq).unwrap_or(i64::MAX),
                    card.active_turn,
                    card.created_at_ms,
                    card.updated_at_ms,
                    card.next_timer_ms,
                    i64::try_from(card.item_count).unwrap_or(i64::MAX),
                    card.unfinished,
                ])
            })
            .while_(doing)?;
    }
    transaction.commit().while_(doing)
}

/// The session that the first two columns of `row` name: its workspace and its own name.
fn key_at(row: &Row<'_>) -> rusqlite::Result<Key> {
    let name = |column| {
        let text = row.get_ref(column)?.as_str()?;
        Name::new(text).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
        })
    };
    Ok(Key::session(&name(0)?, &name(1)?))
}

fn card_at(row: &Row<'_>) -> rusqlite::Result<Card> {
    let count = |column| row.get::<_, i64>(column).map(|value| u64::try_from(value).unwrap_or(0));
    Ok(Card {
        key: key_at(row)?,
        title: row.get(2)?,
        project_id: row.get(3)?,
        metadata: row.get(4)?,
        message_count: count(5)?,
        last_seq: count(6)?,
        active_turn: row.get(7)?,
        created_at_ms: row.get(8)?,
        updated_at_ms: row.get(9)?,
        next_timer_ms: row.get(10)?,
        item_count: count(11)?,
        unfinished: row.get(12)?,
        deleted: false,
    })
}
