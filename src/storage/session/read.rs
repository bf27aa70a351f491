//! Reading a session: its head, one message, its turns and items.

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;

use crate::base::Key;
use crate::base::json::Object;
use crate::domain::session::Direction;
use crate::domain::session::Draft;
use crate::domain::session::Head;
use crate::domain::session::Item;
use crate::domain::session::Message;
use crate::domain::session::Turn;
use crate::domain::session::View;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::session::Later;
use crate::storage::session::SessionFile;
use crate::storage::session::items;
use crate::storage::session::message;
use crate::storage::session::message::MessageRow;
use crate::storage::session::turn;
use crate::storage::sql::json;
use crate::storage::sql::name;
use crate::storage::sql::number;
use crate::storage::sql::sql_seq;
use crate::storage::sql::unknown;
use crate::storage::sum;

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

impl SessionFile {
    /// Adds the parts to the message; of one that is being written, as far as they are.
    pub(super) fn with_parts(&self, row: MessageRow) -> Result<Message, Error> {
        let MessageRow { mut message, part_count, .. } = row;
        if let Some(draft) =
            self.tables.draft.as_ref().filter(|draft| draft.message_seq == message.seq)
        {
            message.content = draft.content();
            message.parts = draft.parts();
        } else {
            message.parts = message::parts(self.db()?, message.seq, part_count)?;
        }
        Ok(message)
    }

    /// The seq of the message called `id`.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn seq_of_message(&self, id: &str) -> Result<Option<u64>, Error> {
        Ok(MessageRow::called(self.db()?, id)?.map(|row| row.message.seq))
    }

    /// The turn called `id`, seq of the event that announced it, and the message that it wrote: as it is, in whatever
    /// branch.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn answer(&self, id: &str) -> Result<Option<(Turn, u64, Option<Message>)>, Error> {
        let Some((seq, turn)) = turn::find(self.db()?, id)? else { return Ok(None) };
        let written = self
            .db()?
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
        items::page(self.db()?, after.unwrap_or(end), newer, limit)
    }

    /// The last `limit` items, oldest first, from the first of them on as many as a page holds, and whether there are
    /// more.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn latest_items(&self, limit: usize) -> Result<(Vec<Item>, bool), Error> {
        let before = items::before_latest(self.db()?, limit)?;
        items::page(self.db()?, before, true, limit)
    }
}

impl View for SessionFile {
    type Error = Error;

    fn head(&self) -> &Head {
        &self.tables.head
    }

    fn message(&self, id: &str) -> Result<Option<Message>, Error> {
        let behind = |later: &Later| match later {
            Later::Message(message, _) if message.id == id => Some(message.clone()),
            _ => None,
        };
        if let Some(message) = self.database.find(behind) {
            return Ok(Some(message));
        }
        let Some(db) = self.database.as_is() else { return Ok(None) };
        MessageRow::called(db, id)?.map(|row| self.with_parts(row)).transpose()
    }

    fn queued_turns(&self) -> Result<Vec<Turn>, Error> {
        turn::queued(self.db()?)
    }

    fn turn(&self, id: &str) -> Result<Option<Turn>, Error> {
        Ok(turn::find(self.db()?, id)?.map(|(_, turn)| turn))
    }

    fn draft(&self) -> Option<&Draft> {
        self.tables.draft.as_ref()
    }

    fn message_before(&self, seq: u64) -> Result<Option<Message>, Error> {
        Ok(self.page(Direction::Before(seq), 1, false)?.messages.pop())
    }

    fn seq_at(&self, position: usize) -> Result<Option<u64>, Error> {
        let sql = "SELECT * FROM message WHERE branch = 0 ORDER BY seq LIMIT 1 OFFSET ?1";
        let found = self
            .db()?
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
        items::latest(self.db()?, limit)
    }

    fn item(&self, id: &str) -> Result<Option<Item>, Error> {
        items::find(self.db()?, id)
    }
}
