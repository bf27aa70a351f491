//! The rows of messages and of their parts.

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::ToSql;
use rusqlite::params;

use crate::domain::session::Message;
use crate::domain::session::Part;
use crate::domain::session::Role;
use crate::domain::session::Status;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::sql::json;
use crate::storage::sql::number;
use crate::storage::sql::sql_seq;
use crate::storage::sql::unknown;
use crate::storage::sum;

/// A row of `message`: the message without its parts, and what only the file knows of it.
#[derive(Debug)]
pub(super) struct MessageRow {
    pub message: Message,
    pub part_count: usize,
    /// 0: in the history; otherwise the seq of the event that set it aside.
    pub branch: u64,
    /// Its place in the history, counted from 0.
    pub position: u64,
}

impl MessageRow {
    /// Reads and verifies a row of `SELECT * FROM message`.
    pub(super) fn at(row: &Row<'_>) -> rusqlite::Result<Self> {
        let [
            seq,
            id,
            role,
            content,
            status,
            version,
            part_count,
            metadata,
            turn_id,
            created_at_ms,
            updated_at_ms,
            branch,
            position,
        ] = sum::verified("message", row)?;
        let created_at_ms = created_at_ms.as_i64()?;
        let message = Message {
            seq: number(seq)?,
            id: id.as_str()?.to_owned(),
            role: Role::from_name(role.as_str()?).ok_or_else(|| unknown(2, role))?,
            content: content.as_str()?.to_owned(),
            status: Status::from_name(status.as_str()?).ok_or_else(|| unknown(4, status))?,
            version: number(version)?,
            parts: Vec::new(),
            metadata: json(7, metadata)?,
            turn_id: turn_id.as_str_or_null()?.map(str::to_owned),
            created_at: created_at_ms.div_euclid(1_000),
            created_at_ms,
            updated_at_ms: updated_at_ms.as_i64()?,
        };
        let (branch, position) = (number(branch)?, number(position)?);
        Ok(Self { message, part_count: number(part_count)?, branch, position })
    }

    /// The row of the message of the history called `id`.
    pub(super) fn called(connection: &Connection, id: &str) -> Result<Option<Self>, Error> {
        connection
            .prepare_cached("SELECT * FROM message WHERE id = ?1 AND branch = 0")
            .and_then(|mut statement| statement.query_row([id], Self::at).optional())
            .while_("reading a message")
    }

    /// The row of the message that event `seq` began.
    pub(super) fn of(connection: &Connection, seq: u64) -> Result<Self, Error> {
        connection
            .prepare_cached("SELECT * FROM message WHERE seq = ?1")
            .and_then(|mut statement| statement.query_row([sql_seq(seq)], Self::at).optional())
            .while_("reading a message")?
            .ok_or_else(|| Error::RowMissing { table: "message", row: seq.to_string() })
    }

    /// Writes the row again, under the same seq.
    pub(super) fn update(&self, connection: &Connection) -> Result<(), Error> {
        let sql = "UPDATE message SET id = ?2, role = ?3, content = ?4, status = ?5, version = ?6, part_count = ?7,
                                      metadata = ?8, turn_id = ?9, created_at_ms = ?10, updated_at_ms = ?11,
                                      branch = ?12, position = ?13, sum = ?14 WHERE seq = ?1";
        let Self { message, part_count, branch, position } = self;
        sum::Writer::new(connection, "message", sql)
            .and_then(|mut writer| write(&mut writer, message, *part_count, (*branch, *position)))
            .while_("changing a message")
    }
}

/// Inserts messages with their parts into the history, each at its place.
pub(super) fn insert_all<'a>(
    connection: &Connection,
    messages: impl Iterator<Item = (&'a Message, u64)>,
) -> Result<(), Error> {
    let doing = "inserting messages";
    let sql = "INSERT INTO message (seq, id, role, content, status, version, part_count, metadata, turn_id,
                                    created_at_ms, updated_at_ms, branch, position, sum)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    let mut writer = sum::Writer::new(connection, "message", sql).while_(doing)?;
    for (message, position) in messages {
        write(&mut writer, message, message.parts.len(), (0, position)).while_(doing)?;
        for (at, part) in message.parts.iter().enumerate() {
            put_part(connection, message.seq, at, part)?;
        }
    }
    Ok(())
}

fn write(
    writer: &mut sum::Writer<'_>,
    message: &Message,
    part_count: usize,
    (branch, position): (u64, u64),
) -> rusqlite::Result<()> {
    let values: &[&dyn ToSql] = &[
        &sql_seq(message.seq),
        &message.id,
        &message.role.as_str(),
        &message.content,
        &message.status.as_str(),
        &message.version,
        &part_count,
        &message.metadata.as_ref().map(|json| json.as_str()),
        &message.turn_id,
        &message.created_at_ms,
        &message.updated_at_ms,
        &sql_seq(branch),
        &sql_seq(position),
    ];
    writer.write(values)
}

/// The body of a part, verified, from a row of `SELECT * FROM part`.
fn part_at(row: &Row<'_>) -> rusqlite::Result<Part> {
    let [_, _, body] = sum::verified("part", row)?;
    serde_json::from_str(body.as_str()?).map_err(|_| unknown(2, body))
}

/// The parts of the message that event `seq` began: as many as its row says.
pub(super) fn parts(connection: &Connection, seq: u64, count: usize) -> Result<Vec<Part>, Error> {
    let doing = "reading the parts of a message";
    let mut parts = Vec::with_capacity(count);
    if count > 0 {
        let mut statement = connection
            .prepare_cached("SELECT * FROM part WHERE message_seq = ?1 ORDER BY position")
            .while_(doing)?;
        let mut rows = statement.query([sql_seq(seq)]).while_(doing)?;
        while let Some(row) = rows.next().while_(doing)? {
            parts.push(part_at(row).while_(doing)?);
        }
    }
    match parts.len() == count {
        true => Ok(parts),
        false => Err(Error::RowMissing { table: "part", row: seq.to_string() }),
    }
}

/// Part number `position` of that message.
pub(super) fn part(
    connection: &Connection,
    seq: u64,
    position: usize,
) -> Result<Option<Part>, Error> {
    connection
        .prepare_cached("SELECT * FROM part WHERE message_seq = ?1 AND position = ?2")
        .and_then(|mut s| s.query_row(params![sql_seq(seq), position], part_at).optional())
        .while_("reading a part of a message")
}

/// Writes part number `position` of that message.
pub(super) fn put_part(
    connection: &Connection,
    seq: u64,
    position: usize,
    part: &Part,
) -> Result<(), Error> {
    let sql =
        "INSERT OR REPLACE INTO part (message_seq, position, body, sum) VALUES (?1, ?2, ?3, ?4)";
    sum::write(connection, "part", sql, &[&sql_seq(seq), &position, &part.json().as_str()])
        .while_("writing a part of a message")
}

/// Gives that message these parts and no others.
pub(super) fn replace_parts(
    connection: &Connection,
    seq: u64,
    parts: &[Part],
) -> Result<(), Error> {
    connection
        .prepare_cached("DELETE FROM part WHERE message_seq = ?1")
        .and_then(|mut statement| statement.execute([sql_seq(seq)]))
        .while_("replacing the parts of a message")?;
    for (position, part) in parts.iter().enumerate() {
        put_part(connection, seq, position, part)?;
    }
    Ok(())
}
