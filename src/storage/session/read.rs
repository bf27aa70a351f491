//! Reading a session: its head, one message, the log.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::params;
use rusqlite::types::FromSqlError;
use rusqlite::types::ValueRef;

use crate::base::Key;
use crate::base::ids::KeyHash;
use crate::base::ids::Name;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::base::limits::REPLAY_BYTES_MAX;
use crate::base::limits::REPLAY_EVENTS_MAX;
use crate::domain::session::Direction;
use crate::domain::session::Draft;
use crate::domain::session::Event;
use crate::domain::session::EventKind;
use crate::domain::session::Head;
use crate::domain::session::Item;
use crate::domain::session::Message;
use crate::domain::session::StoredEvent;
use crate::domain::session::Turn;
use crate::domain::session::View;
use crate::domain::session::message_of;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::catalogue::Card;
use crate::storage::claim::Claim;
use crate::storage::journal::Idempotent;
use crate::storage::journal::chain;
use crate::storage::session::SessionFile;
use crate::storage::session::compact;
use crate::storage::session::file;
use crate::storage::session::items;
use crate::storage::session::message;
use crate::storage::session::message::MessageRow;
use crate::storage::session::template;
use crate::storage::session::timer;
use crate::storage::session::turn;
use crate::storage::sum;

/// A seq as SQLite holds it.
pub(super) fn sql_seq(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// A number as the rules have it.
pub(super) fn number<T: TryFrom<i64>>(value: ValueRef<'_>) -> Result<T, FromSqlError> {
    let number = value.as_i64()?;
    T::try_from(number).map_err(|_| FromSqlError::OutOfRange(number))
}

/// The value in `column` is right as far as checksums tell, and makes no sense to this program.
pub(super) fn unknown(column: usize, value: ValueRef<'_>) -> rusqlite::Error {
    let problem = format!("`{value:?}` is not a value that this program knows");
    rusqlite::Error::FromSqlConversionFailure(column, value.data_type(), problem.into())
}

/// The JSON in `column`.
pub(super) fn json(column: usize, value: ValueRef<'_>) -> rusqlite::Result<Option<Json>> {
    let Some(text) = value.as_str_or_null()? else { return Ok(None) };
    Json::parse(text).map(Some).map_err(|_| unknown(column, value))
}

/// The columns of `meta` before its checksum.
const META_COLUMNS: usize = 15;

fn key_and_head(row: &Row<'_>) -> rusqlite::Result<(Key, Head)> {
    let [
        _,
        _,
        workspace,
        id,
        title,
        project_id,
        metadata,
        message_count,
        last_seq,
        log_start,
        created_at_ms,
        updated_at_ms,
        item_count,
        settings,
        resume,
    ] = sum::verified::<META_COLUMNS>("meta", row)?;
    let head = Head {
        title: title.as_str()?.to_owned(),
        project_id: project_id.as_str_or_null()?.map(str::to_owned),
        metadata: json(6, metadata)?.unwrap_or_default(),
        message_count: number(message_count)?,
        last_seq: number(last_seq)?,
        log_start: number(log_start)?,
        created_at_ms: created_at_ms.as_i64()?,
        updated_at_ms: updated_at_ms.as_i64()?,
        item_count: number(item_count)?,
        settings: serde_json::from_str(settings.as_str()?).map_err(|_| unknown(13, settings))?,
        resume: json(14, resume)?.and_then(|json| Object::read(&json)).unwrap_or_default(),
        ..Head::default()
    };
    let name = |at, value: ValueRef<'_>| Name::new(value.as_str()?).map_err(|_| unknown(at, value));
    Ok((Key::session(&name(2, workspace)?, &name(3, id)?), head))
}

/// Whose file it is, and what its one row of `meta` knows: no hash and no turn.
pub(super) fn meta(connection: &Connection) -> Result<(Key, Head), Error> {
    connection
        .prepare("SELECT * FROM meta WHERE id = 1")
        .and_then(|mut statement| statement.query_row([], key_and_head).optional())
        .while_("reading the head of a session file")?
        .ok_or_else(|| Error::RowMissing { table: "meta", row: "1".to_owned() })
}

/// Reads what is known of the session and verifies whose file it is and that its last event is what was written.
pub(super) fn head(connection: &Connection, key: &Key) -> Result<Head, Error> {
    let (of, mut head) = meta(connection)?;
    if of != *key {
        return Err(Error::WrongFile);
    }
    let last = event(connection, head.last_seq)?;
    let last = last.ok_or(Error::EventCorrupt { seq: head.last_seq })?;
    head.last_hash = last.hash;
    head.active_turn = turn::active(connection)?;
    Ok(head)
}

/// What the catalogue should know of the session in the file at `path`; `None` of a file of an earlier version that
/// somebody else has in use (no `claim`), who brings it up to date.
///
/// # Errors
///
/// [`Error::Sqlite`] when it cannot be read or is no session file; [`Error::RowCorrupt`] when it is damaged.
pub fn card(path: &Path, claim: Option<&Claim>) -> Result<Option<Card>, Error> {
    let mut connection = file::connect(path)?;
    match claim {
        Some(_) => drop(template::migrate(&mut connection)?),
        None if template::version_of(&connection)? < template::version() => return Ok(None),
        None => {}
    }
    let (key, head) = meta(&connection)?;
    let active = turn::active(&connection)?;
    let runs = active.as_ref().is_some_and(|turn| turn.state.is_active());
    let unfinished = runs || turn::any_queued(&connection)?;
    Ok(Some(Card {
        key,
        title: head.title,
        project_id: head.project_id,
        metadata: head.metadata.as_str().to_owned(),
        message_count: head.message_count,
        last_seq: head.last_seq,
        created_at_ms: head.created_at_ms,
        updated_at_ms: head.updated_at_ms,
        next_timer_ms: timer::next(&connection)?,
        active_turn: active.map(|turn| turn.id),
        item_count: head.item_count,
        unfinished,
        deleted: false,
    }))
}

/// Whose file is at `path`, which is called after `hash`: that proves it, whatever else is damaged in it.
///
/// # Errors
///
/// [`Error::Sqlite`] when it is no session file; [`Error::WrongFile`] when it does not say who has that hash.
pub fn owner(path: &Path, hash: KeyHash) -> Result<Key, Error> {
    let names = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let (workspace, id): (String, String) = file::connect(path)?
        .query_row("SELECT workspace, name FROM meta", [], names)
        .while_("reading whose a session file is")?;
    let name = |text: &str| Name::new(text).map_err(|_| Error::WrongFile);
    let key = Key::session(&name(&workspace)?, &name(&id)?);
    if key.hash() == hash { Ok(key) } else { Err(Error::WrongFile) }
}

/// A row of `event`.
pub(super) struct EventRow<B> {
    pub seq: u64,
    pub recorded_at_ms: i64,
    pub kind: EventKind,
    pub body: B,
    pub hash: [u8; 16],
    /// 0: as it was written; 1: emptied later; [`compact::COVERS`]: in place of others.
    pub redacted: i64,
}

impl EventRow<String> {
    /// Reads and verifies a row of `SELECT * FROM event`.
    pub(super) fn at(row: &Row<'_>) -> rusqlite::Result<Self> {
        let [seq, recorded_at_ms, kind, body, hash, redacted] = sum::verified("event", row)?;
        let hash = hash.as_blob()?.try_into().map_err(|_| unknown(4, hash))?;
        Ok(Self {
            seq: number(seq)?,
            recorded_at_ms: recorded_at_ms.as_i64()?,
            kind: EventKind::from_name(kind.as_str()?).ok_or_else(|| unknown(2, kind))?,
            body: body.as_str()?.to_owned(),
            hash,
            redacted: redacted.as_i64()?,
        })
    }

    /// The same, with a borrowed body.
    pub(super) fn borrowed(&self) -> EventRow<&str> {
        let Self { seq, recorded_at_ms, kind, ref body, hash, redacted } = *self;
        EventRow { seq, recorded_at_ms, kind, body, hash, redacted }
    }
}

/// Event `seq`, verified.
pub(super) fn event(connection: &Connection, seq: u64) -> Result<Option<EventRow<String>>, Error> {
    connection
        .prepare_cached("SELECT * FROM event WHERE seq = ?1")
        .and_then(|mut s| s.query_row([sql_seq(seq)], EventRow::at).optional())
        .while_("reading an event")
}

/// Verifies that events follow on each other as they are read.
pub(super) struct Chain {
    /// Checksum of the event before; `None` where it is not known.
    pub previous: Option<[u8; 16]>,
    /// Its seq.
    pub seq: u64,
    /// Up to here events may be missing: they were compacted away.
    pub log_start: u64,
}

impl Chain {
    /// Takes the event in the next `row` of `SELECT * FROM event`.
    pub(super) fn take(&mut self, row: &Row<'_>) -> Result<EventRow<String>, Error> {
        let event = EventRow::at(row).while_("reading an event")?;
        let EventRow { seq, recorded_at_ms, kind, ref body, hash, redacted } = event;
        // What stands for removed events is no hole.
        let from = match redacted == compact::COVERS {
            true => match Event::decode(kind, body)? {
                Event::MessageParts { from: Some(from), .. } => from,
                _ => return Err(Error::EventCorrupt { seq }),
            },
            false => seq,
        };
        if seq <= self.seq || (from > self.seq + 1 && from - 1 > self.log_start) {
            return Err(Error::RowMissing { table: "event", row: (self.seq + 1).to_string() });
        }
        let follows = seq == self.seq + 1 && redacted == 0;
        if let Some(previous) = self.previous.filter(|_| follows)
            && chain(&previous, seq, recorded_at_ms, kind, body) != hash
        {
            return Err(Error::EventCorrupt { seq });
        }
        (self.previous, self.seq) = (Some(hash), seq);
        Ok(event)
    }
}

impl SessionFile {
    /// Adds the parts to the message; of one that is being written, as far as they are.
    pub(super) fn with_parts(&self, row: MessageRow) -> Result<Message, Error> {
        let MessageRow { mut message, part_count, .. } = row;
        if let Some(draft) = self.draft.as_ref().filter(|draft| draft.message_seq == message.seq) {
            message.content = draft.content();
            message.parts = draft.parts();
        } else {
            message.parts = message::parts(&self.connection, message.seq, part_count)?;
        }
        Ok(message)
    }

    /// The seq of the message called `id`.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn seq_of_message(&self, id: &str) -> Result<Option<u64>, Error> {
        Ok(MessageRow::called(&self.connection, id)?.map(|row| row.message.seq))
    }

    /// Events after `after`, oldest first, at most [`REPLAY_EVENTS_MAX`] and about [`REPLAY_BYTES_MAX`] bytes; each is
    /// verified, and none is missing.
    ///
    /// # Errors
    ///
    /// [`Error::EventCorrupt`] or [`Error::RowCorrupt`] when one is not what was written, [`Error::RowMissing`] when one
    /// is not there; [`Error::Sqlite`] when the file cannot be read.
    pub fn events(&self, after: u64) -> Result<Vec<StoredEvent>, Error> {
        let doing = "reading the log";
        let previous = match after {
            0 => Some([0; 16]),
            after => match event(&self.connection, after) {
                // It was not asked for.
                Err(Error::RowCorrupt { .. }) => None,
                found => found?.map(|event| event.hash),
            },
        };
        let mut chain = Chain { previous, seq: after, log_start: self.head.log_start };
        let mut statement = self
            .connection
            .prepare_cached("SELECT * FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2")
            .while_(doing)?;
        let mut rows = statement.query(params![sql_seq(after), REPLAY_EVENTS_MAX]).while_(doing)?;
        let (mut events, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next().while_(doing)? {
            let EventRow { seq, kind, body: frame, .. } = chain.take(row)?;
            bytes += frame.len();
            if bytes > REPLAY_BYTES_MAX && !events.is_empty() {
                return Ok(events);
            }
            events.push(StoredEvent { seq, kind, frame });
        }
        if events.len() < REPLAY_EVENTS_MAX && chain.seq < self.head.last_seq {
            return Err(Error::RowMissing { table: "event", row: (chain.seq + 1).to_string() });
        }
        Ok(events)
    }

    /// The turn called `id`, seq of the event that announced it, and the message that it wrote: as it is, in whatever
    /// branch.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn answer(&self, id: &str) -> Result<Option<(Turn, u64, Option<Message>)>, Error> {
        let Some((seq, turn)) = turn::find(&self.connection, id)? else { return Ok(None) };
        let written = self
            .connection
            .prepare_cached("SELECT * FROM message WHERE id = ?1 ORDER BY branch LIMIT 1")
            .and_then(|mut s| s.query_row([&turn.message_id], MessageRow::at).optional())
            .while_("reading the answer of a turn")?;
        let message = written.map(|row| self.with_parts(row)).transpose()?;
        Ok(Some((turn, seq, message)))
    }

    /// A page of at most `limit` items behind the one at `after`, towards newer or older ones, in the order of the walk,
    /// and whether there are more; from the end where it begins without `after`.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn items_from(
        &self,
        after: Option<u64>,
        newer: bool,
        limit: usize,
    ) -> Result<(Vec<Item>, bool), Error> {
        let end = if newer { 0 } else { u64::MAX };
        items::page(&self.connection, after.unwrap_or(end), newer, limit)
    }

    /// The last `limit` items, oldest first, from the first of them on as many as a page holds, and whether there are
    /// more.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn latest_items(&self, limit: usize) -> Result<(Vec<Item>, bool), Error> {
        let before = items::before_latest(&self.connection, limit)?;
        items::page(&self.connection, before, true, limit)
    }

    /// What was answered to the request with idempotency key `key`, and seq of the first event that it led to.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn answered(&self, key: &str) -> Result<Option<(Idempotent, u64)>, Error> {
        let found = self
            .connection
            .prepare_cached("SELECT * FROM idempotency WHERE key = ?1")
            .and_then(|mut statement| statement.query_row([key], kept_at).optional())
            .while_("looking for an earlier answer")?;
        let Some((seq, mut kept)) = found else { return Ok(None) };
        if kept.response.is_none() {
            let missing = || Error::RowMissing { table: "event", row: seq.to_string() };
            let event = event(&self.connection, seq)?.ok_or_else(missing)?;
            kept.response = Some(message_of(&event.body).to_owned());
        }
        Ok(Some((kept, seq)))
    }
}

/// Reads and verifies a row of `SELECT * FROM idempotency`: the event, and the answer as it is kept.
pub(super) fn kept_at(row: &Row<'_>) -> rusqlite::Result<(u64, Idempotent)> {
    let [key, request, seq, status, response] = sum::verified("idempotency", row)?;
    let kept = Idempotent {
        key: key.as_str()?.to_owned(),
        request: request.as_blob()?.try_into().map_err(|_| unknown(1, request))?,
        status: number(status)?,
        response: response.as_str_or_null()?.map(str::to_owned),
    };
    Ok((number(seq)?, kept))
}

impl View for SessionFile {
    type Error = Error;

    fn head(&self) -> &Head {
        &self.head
    }

    fn message(&self, id: &str) -> Result<Option<Message>, Error> {
        MessageRow::called(&self.connection, id)?.map(|row| self.with_parts(row)).transpose()
    }

    fn queued_turns(&self) -> Result<Vec<Turn>, Error> {
        turn::queued(&self.connection)
    }

    fn turn(&self, id: &str) -> Result<Option<Turn>, Error> {
        Ok(turn::find(&self.connection, id)?.map(|(_, turn)| turn))
    }

    fn draft(&self) -> Option<&Draft> {
        self.draft.as_ref()
    }

    fn message_before(&self, seq: u64) -> Result<Option<Message>, Error> {
        Ok(self.page(Direction::Before(seq), 1, false)?.messages.pop())
    }

    fn seq_at(&self, position: usize) -> Result<Option<u64>, Error> {
        let sql = "SELECT * FROM message WHERE branch = 0 ORDER BY seq LIMIT 1 OFFSET ?1";
        let found = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut s| s.query_row([sql_seq(position as u64)], MessageRow::at).optional())
            .while_("looking for a message by its place")?;
        match found {
            Some(row) if row.position != position as u64 => {
                let row = format!("at position {position}");
                Err(Error::RowMissing { table: "message", row })
            }
            found => Ok(found.map(|row| row.message.seq)),
        }
    }

    fn seq_behind(&self, seq: u64) -> Result<Option<u64>, Error> {
        Ok(self.page(Direction::After(seq), 1, false)?.messages.pop().map(|message| message.seq))
    }

    fn items(&self, limit: usize) -> Result<Vec<Item>, Error> {
        items::latest(&self.connection, limit)
    }

    fn item(&self, id: &str) -> Result<Option<Item>, Error> {
        items::find(&self.connection, id)
    }
}
