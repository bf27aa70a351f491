//! The message that a turn writes: kept in memory, and in its rows as of the last commit.
//!
//! Adding a few words to a row would write the whole text again, each time.

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::params;

use crate::base::json::Object;
use crate::domain::session::Draft;
use crate::domain::session::Event;
use crate::domain::session::Growing;
use crate::domain::session::Part;
use crate::domain::session::Turn;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::session::read;

/// Brings `draft` up to `event`; false if the event is about something else.
pub(super) fn write(draft: Option<&mut Draft>, event: &Event) -> bool {
    let Some(draft) = draft else { return false };
    match event {
        Event::PartUpdate { message_id, part, fields } if *message_id == draft.message_id => {
            draft.update(*part, fields);
            true
        }
        Event::PartDelta { message_id, part, delta, .. } if *message_id == draft.message_id => {
            draft.append(*part, delta);
            true
        }
        Event::MessageParts { message_id, parts, from: Some(_), .. }
            if *message_id == draft.message_id =>
        {
            draft.replace(parts);
            true
        }
        _ => false,
    }
}

/// Writes what changed to the rows.
pub(super) fn save(connection: &Connection, draft: &mut Draft) -> Result<(), Error> {
    let doing = "writing the parts of an answer";
    let seq = read::sql_seq(draft.message_seq);
    for (position, part) in draft.parts.iter_mut().enumerate() {
        if part.take_dirty() {
            put(connection, seq, position, &part.part())?;
        }
    }
    connection
        .prepare_cached("UPDATE message SET part_count = ?2 WHERE seq = ?1")
        .and_then(|mut statement| statement.execute(params![seq, draft.parts.len()]))
        .while_(doing)?;
    Ok(())
}

fn put(connection: &Connection, seq: i64, position: usize, part: &Part) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO part (message_seq, position, body) VALUES (?1, ?2, ?3)",
        )
        .and_then(|mut s| s.execute(params![seq, position, part.json().as_str()]))
        .while_("writing a part of an answer")?;
    Ok(())
}

/// The draft of `turn` as its rows have it.
pub(super) fn load(connection: &Connection, turn: Option<&Turn>) -> Result<Option<Draft>, Error> {
    let doing = "reading an answer that is being written";
    let Some(turn) = turn.filter(|turn| turn.state.is_active()) else { return Ok(None) };
    let seq: Option<i64> = connection
        .prepare_cached("SELECT seq FROM message WHERE id = ?1 AND branch = 0")
        .and_then(|mut s| s.query_row([&turn.message_id], |row| row.get(0)).optional())
        .while_(doing)?;
    let Some(seq) = seq else { return Ok(None) };
    let parts = connection
        .prepare_cached("SELECT body FROM part WHERE message_seq = ?1 ORDER BY position")
        .and_then(|mut statement| {
            let part = |row: &rusqlite::Row<'_>| {
                let body = row.get_ref(0)?.as_str()?;
                let part: Part = serde_json::from_str(body).map_err(|_| read::unknown(0, body))?;
                Ok(Growing::stored(&part))
            };
            statement.query_map([seq], part)?.collect()
        })
        .while_(doing)?;
    let message_seq = u64::try_from(seq).unwrap_or(0);
    Ok(Some(Draft { message_id: turn.message_id.clone(), message_seq, parts }))
}

/// Gives members of a part of a message that nobody writes new values.
pub(super) fn update_stored(
    connection: &Connection,
    message_seq: i64,
    position: usize,
    fields: &Object,
) -> Result<(), Error> {
    let doing = "changing a part of a message";
    let body: Option<String> = connection
        .prepare_cached("SELECT body FROM part WHERE message_seq = ?1 AND position = ?2")
        .and_then(|mut s| s.query_row(params![message_seq, position], |row| row.get(0)).optional())
        .while_(doing)?;
    let Some(body) = body else { return Ok(()) };
    let part: Part =
        serde_json::from_str(&body).map_err(|_| read::unknown(0, &body)).while_(doing)?;
    let mut growing = Growing::stored(&part);
    growing.update(fields);
    put(connection, message_seq, position, &growing.part())
}
