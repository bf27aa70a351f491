//! Reading a session: its head, one message, the log.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::params;

use crate::base::Key;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::base::limits::REPLAY_BYTES_MAX;
use crate::base::limits::REPLAY_EVENTS_MAX;
use crate::domain::session::Direction;
use crate::domain::session::Draft;
use crate::domain::session::EventKind;
use crate::domain::session::Head;
use crate::domain::session::Item;
use crate::domain::session::Message;
use crate::domain::session::Role;
use crate::domain::session::Status;
use crate::domain::session::StoredEvent;
use crate::domain::session::Turn;
use crate::domain::session::TurnOptions;
use crate::domain::session::View;
use crate::domain::session::message_of;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::catalogue::Card;
use crate::storage::catalogue::key_at;
use crate::storage::journal::Idempotent;
use crate::storage::journal::chain;
use crate::storage::session::SessionFile;
use crate::storage::session::items;
use crate::storage::session::turn;

/// A seq as SQLite holds it.
pub(super) fn sql_seq(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

pub(super) fn seq_at(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

pub(super) fn unknown(column: usize, value: &str) -> rusqlite::Error {
    let problem = format!("`{value}` is not a value that this program knows");
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, problem.into())
}

fn settings_at(row: &Row<'_>, column: usize) -> rusqlite::Result<TurnOptions> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|_| unknown(column, text))
}

fn json_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Json>> {
    let Some(text) = row.get_ref(column)?.as_str_or_null()? else { return Ok(None) };
    Json::parse(text).map(Some).map_err(|_| unknown(column, text))
}

/// Reads what is known of the session and verifies whose file it is and that its last event is what was written.
pub(super) fn head(connection: &Connection, key: &Key) -> Result<Head, Error> {
    let doing = "reading the head of a session file";
    let sql =
        "SELECT workspace, name, title, project_id, metadata, message_count, last_seq, log_start,
                      created_at_ms, updated_at_ms, item_count, settings, resume FROM meta";
    let row = connection
        .query_row(sql, [], |row| {
            let mine = row.get_ref(0)?.as_str()? == key.workspace()
                && row.get_ref(1)?.as_str()? == key.id();
            let head = Head {
                title: row.get(2)?,
                project_id: row.get(3)?,
                metadata: json_at(row, 4)?.unwrap_or_default(),
                message_count: seq_at(row, 5)?,
                last_seq: seq_at(row, 6)?,
                log_start: seq_at(row, 7)?,
                created_at_ms: row.get(8)?,
                updated_at_ms: row.get(9)?,
                item_count: seq_at(row, 10)?,
                settings: settings_at(row, 11)?,
                resume: json_at(row, 12)?.and_then(|json| Object::read(&json)).unwrap_or_default(),
                ..Head::default()
            };
            Ok((mine, head))
        })
        .optional()
        .while_(doing)?;
    let Some((mine, mut head)) = row else {
        return Err(Error::FileCorrupt { problem: "it has no meta row".to_owned() });
    };
    if !mine {
        return Err(Error::WrongFile);
    }
    head.last_hash = last_hash(connection, &head)?;
    head.active_turn = turn::active(connection)?;
    Ok(head)
}

/// What the catalogue should know of the session in the file at `path`.
///
/// # Errors
///
/// [`Error::Sqlite`] when it cannot be read or is no session file.
pub fn card(path: &Path) -> Result<Card, Error> {
    let doing = "reading a session file for the catalogue";
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags).while_(doing)?;
    let sql = "SELECT workspace, name, title, project_id, metadata, message_count, last_seq, created_at_ms,
                      updated_at_ms, (SELECT min(fire_at_ms) FROM timer),
                      (SELECT id FROM turn WHERE state IN ('running', 'waiting_approval', 'stopping')), item_count,
                      EXISTS (SELECT 1 FROM turn WHERE state IN ('queued', 'running', 'stopping')) FROM meta";
    let card = connection.query_row(sql, [], |row| {
        Ok(Card {
            key: key_at(row)?,
            title: row.get(2)?,
            project_id: row.get(3)?,
            metadata: row.get(4)?,
            message_count: seq_at(row, 5)?,
            last_seq: seq_at(row, 6)?,
            created_at_ms: row.get(7)?,
            updated_at_ms: row.get(8)?,
            next_timer_ms: row.get(9)?,
            active_turn: row.get(10)?,
            item_count: seq_at(row, 11)?,
            unfinished: row.get(12)?,
            deleted: false,
        })
    });
    card.while_(doing)
}

/// Whose file is at `path`; less is needed for that than for the rest.
///
/// # Errors
///
/// [`Error::Sqlite`] when it is no session file.
pub fn owner(path: &Path) -> Result<Key, Error> {
    let doing = "reading whose a session file is";
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags).while_(doing)?;
    connection.query_row("SELECT workspace, name FROM meta", [], key_at).while_(doing)
}

fn last_hash(connection: &Connection, head: &Head) -> Result<[u8; 16], Error> {
    let sql = "SELECT seq, recorded_at_ms, kind, body, hash, redacted FROM event WHERE seq >= ?1 ORDER BY seq";
    let from = sql_seq(head.last_seq.saturating_sub(1));
    let mut chain = Chain { previous: None, seq: head.last_seq.saturating_sub(2) };
    let doing = "reading the last event";
    let mut statement = connection.prepare(sql).while_(doing)?;
    let mut rows = statement.query([from]).while_(doing)?;
    let mut last = 0;
    while let Some(row) = rows.next().while_(doing)? {
        last = chain.verify(row)?.seq;
    }
    match chain.previous {
        Some(hash) if last == head.last_seq => Ok(hash),
        _ => Err(Error::EventCorrupt { seq: head.last_seq }),
    }
}

/// Verifies events as they are read.
struct Chain {
    /// Checksum of the event before; `None` where it is not known.
    previous: Option<[u8; 16]>,
    /// Its seq.
    seq: u64,
}

impl Chain {
    /// Verifies the event in `row` (seq, `recorded_at_ms`, kind, body, hash, redacted).
    fn verify(&mut self, row: &Row<'_>) -> Result<StoredEvent, Error> {
        let doing = "reading an event";
        let seq = seq_at(row, 0).while_(doing)?;
        let corrupt = || Error::EventCorrupt { seq };
        let at_ms = row.get(1).while_(doing)?;
        let kind: String = row.get(2).while_(doing)?;
        let frame: String = row.get(3).map_err(|_| corrupt())?;
        let hash: [u8; 16] = row.get(4).map_err(|_| corrupt())?;
        let redacted: bool = row.get(5).map_err(|_| corrupt())?;
        let kind = EventKind::from_name(&kind).ok_or_else(corrupt)?;
        let previous = self.previous.filter(|_| seq == self.seq + 1);
        if let Some(previous) = previous
            && !redacted
            && chain(&previous, seq, at_ms, kind, &frame) != hash
        {
            return Err(corrupt());
        }
        (self.previous, self.seq) = (Some(hash), seq);
        Ok(StoredEvent { seq, kind, frame })
    }
}

/// The columns that [`message_at`] reads.
pub(super) const MESSAGE_COLUMNS: usize = 12;

/// A message without its parts, and how many those are.
pub(super) fn message_at(row: &Row<'_>) -> rusqlite::Result<(Message, usize)> {
    let (role, status) = (row.get_ref(2)?.as_str()?, row.get_ref(4)?.as_str()?);
    let created_at_ms: i64 = row.get(9)?;
    let message = Message {
        seq: seq_at(row, 0)?,
        id: row.get(1)?,
        role: Role::from_name(role).ok_or_else(|| unknown(2, role))?,
        content: row.get(3)?,
        status: Status::from_name(status).ok_or_else(|| unknown(4, status))?,
        version: row.get(5)?,
        parts: Vec::new(),
        metadata: json_at(row, 7)?,
        turn_id: row.get(8)?,
        created_at: created_at_ms.div_euclid(1_000),
        created_at_ms,
        updated_at_ms: row.get(10)?,
    };
    debug_assert!(row.as_ref().column_count() == MESSAGE_COLUMNS, "the columns of `message`");
    Ok((message, row.get(6)?))
}

impl SessionFile {
    /// Adds the parts to `message`; of one that is being written, as far as they are.
    pub(super) fn load_parts(&self, message: &mut Message, count: usize) -> Result<(), Error> {
        if let Some(draft) = self.draft.as_ref().filter(|draft| draft.message_seq == message.seq) {
            message.content = draft.content();
            message.parts = draft.parts();
            return Ok(());
        }
        if count == 0 {
            return Ok(());
        }
        let doing = "reading the parts of a message";
        let mut statement = self
            .connection
            .prepare_cached("SELECT body FROM part WHERE message_seq = ?1 ORDER BY position")
            .while_(doing)?;
        let mut rows = statement.query([sql_seq(message.seq)]).while_(doing)?;
        while let Some(row) = rows.next().while_(doing)? {
            let body = row.get_ref(0).and_then(|value| Ok(value.as_str()?)).while_(doing)?;
            let part = serde_json::from_str(body).map_err(|_| unknown(0, body));
            message.parts.push(part.while_(doing)?);
        }
        Ok(())
    }

    /// The seq of the message called `id`.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn seq_of_message(&self, id: &str) -> Result<Option<u64>, Error> {
        self.connection
            .prepare_cached("SELECT seq FROM message WHERE id = ?1 AND branch = 0")
            .and_then(|mut s| s.query_row([id], |row| seq_at(row, 0)).optional())
            .while_("looking for a message")
    }

    /// Events after `after`, oldest first, at most [`REPLAY_EVENTS_MAX`] and about [`REPLAY_BYTES_MAX`] bytes; each is
    /// verified.
    ///
    /// # Errors
    ///
    /// [`Error::EventCorrupt`] when one is not what was written; [`Error::Sqlite`] when the file cannot be read.
    pub fn events(&self, after: u64) -> Result<Vec<StoredEvent>, Error> {
        let doing = "reading the log";
        let previous = match after {
            0 => Some([0; 16]),
            after => self
                .connection
                .prepare_cached("SELECT hash FROM event WHERE seq = ?1")
                .and_then(|mut s| s.query_row([sql_seq(after)], |row| row.get(0)).optional())
                .while_(doing)?,
        };
        let mut chain = Chain { previous, seq: after };
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT seq, recorded_at_ms, kind, body, hash, redacted FROM event WHERE seq > ?1
                  ORDER BY seq LIMIT ?2",
            )
            .while_(doing)?;
        let mut rows = statement.query(params![sql_seq(after), REPLAY_EVENTS_MAX]).while_(doing)?;
        let (mut events, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next().while_(doing)? {
            let event = chain.verify(row)?;
            bytes += event.frame.len();
            if bytes > REPLAY_BYTES_MAX && !events.is_empty() {
                break;
            }
            events.push(event);
        }
        Ok(events)
    }

    /// At most `limit` items behind the one at `after`, towards newer or older ones, in the order of the walk; from the
    /// end where it begins without `after`.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn items_from(
        &self,
        after: Option<u64>,
        newer: bool,
        limit: usize,
    ) -> Result<Vec<Item>, Error> {
        match newer {
            true => items::newer(&self.connection, after.unwrap_or(0), limit),
            false => items::older(&self.connection, after.unwrap_or(u64::MAX), limit),
        }
    }

    /// What was answered to the request with idempotency key `key`.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn answered(&self, key: &str) -> Result<Option<Idempotent>, Error> {
        self.connection
            .prepare_cached(
                "SELECT request, status, response, body FROM idempotency JOIN event USING (seq) WHERE key = ?1",
            )
            .and_then(|mut statement| {
                let answer = statement.query_row([key], |row| {
                    let response: Option<String> = row.get(2)?;
                    let response = match response {
                        Some(response) => response,
                        None => message_of(row.get_ref(3)?.as_str()?).to_owned(),
                    };
                    let (request, status) = (row.get(0)?, row.get(1)?);
                    Ok(Idempotent { key: key.to_owned(), request, status, response: Some(response) })
                });
                answer.optional()
            })
            .while_("looking for an earlier answer")
    }
}

impl View for SessionFile {
    type Error = Error;

    fn head(&self) -> &Head {
        &self.head
    }

    fn message(&self, id: &str) -> Result<Option<Message>, Error> {
        let found = self
            .connection
            .prepare_cached("SELECT * FROM message WHERE id = ?1 AND branch = 0")
            .and_then(|mut statement| statement.query_row([id], message_at).optional())
            .while_("reading a message")?;
        let Some((mut message, count)) = found else { return Ok(None) };
        self.load_parts(&mut message, count)?;
        Ok(Some(message))
    }

    fn queued_turns(&self) -> Result<Vec<Turn>, Error> {
        turn::queued(&self.connection)
    }

    fn draft(&self) -> Option<&Draft> {
        self.draft.as_ref()
    }

    fn message_before(&self, seq: u64) -> Result<Option<Message>, Error> {
        Ok(self.page(Direction::Before(seq), 1, false)?.messages.pop())
    }

    fn seq_at(&self, position: usize) -> Result<Option<u64>, Error> {
        self.connection
            .prepare_cached(
                "SELECT seq FROM message WHERE branch = 0 ORDER BY seq LIMIT 1 OFFSET ?1",
            )
            .and_then(|mut s| s.query_row([position], |row| seq_at(row, 0)).optional())
            .while_("looking for a message by its place")
    }

    fn seq_behind(&self, seq: u64) -> Result<Option<u64>, Error> {
        self.connection
            .prepare_cached(
                "SELECT seq FROM message WHERE seq > ?1 AND branch = 0 ORDER BY seq LIMIT 1",
            )
            .and_then(|mut s| s.query_row([sql_seq(seq)], |row| seq_at(row, 0)).optional())
            .while_("looking for the next message")
    }

    fn items(&self, limit: usize) -> Result<Vec<Item>, Error> {
        items::latest(&self.connection, limit)
    }

    fn item(&self, id: &str) -> Result<Option<Item>, Error> {
        items::find(&self.connection, id)
    }
}
