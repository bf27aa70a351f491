//! The message that a turn writes: kept in memory, and in its rows as of the last commit.
//!
//! Adding a few words to a row would write the whole text again, each time.

use rusqlite::Connection;

use crate::base::json::Object;
use crate::domain::session::Draft;
use crate::domain::session::Event;
use crate::domain::session::Growing;
use crate::domain::session::Turn;
use crate::storage::Error;
use crate::storage::session::message;
use crate::storage::session::message::MessageRow;

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
        _ => false,
    }
}

/// Writes what changed to the rows.
pub(super) fn save(connection: &Connection, draft: &mut Draft) -> Result<(), Error> {
    for (position, part) in draft.parts.iter_mut().enumerate() {
        if part.take_dirty() {
            message::put_part(connection, draft.message_seq, position, &part.part())?;
        }
    }
    let mut row = MessageRow::of(connection, draft.message_seq)?;
    if row.part_count == draft.parts.len() {
        return Ok(());
    }
    row.part_count = draft.parts.len();
    row.update(connection)
}

/// The draft of `turn` as its rows have it.
pub(super) fn load(connection: &Connection, turn: Option<&Turn>) -> Result<Option<Draft>, Error> {
    let Some(turn) = turn.filter(|turn| turn.state.is_active()) else { return Ok(None) };
    let Some(row) = MessageRow::called(connection, &turn.message_id)? else { return Ok(None) };
    let message_seq = row.message.seq;
    let parts = message::parts(connection, message_seq, row.part_count)?;
    let parts = parts.iter().map(Growing::stored).collect();
    Ok(Some(Draft { message_id: turn.message_id.clone(), message_seq, parts }))
}

/// Gives members of a part of a message that nobody writes new values.
pub(super) fn update_stored(
    connection: &Connection,
    message_seq: u64,
    position: usize,
    fields: &Object,
) -> Result<(), Error> {
    let Some(part) = message::part(connection, message_seq, position)? else { return Ok(()) };
    let mut growing = Growing::stored(&part);
    growing.update(fields);
    message::put_part(connection, message_seq, position, &growing.part())
}
