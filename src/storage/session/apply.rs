//! How events become rows. Applying cannot be refused: whatever the rules let happen has its place here.

use rusqlite::Connection;
use rusqlite::params;

use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::domain::session::Event;
use crate::domain::session::EventKind;
use crate::domain::session::Head;
use crate::domain::session::Message;
use crate::domain::session::Part;
use crate::domain::session::Status;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::journal::Entry;
use crate::storage::journal::Idempotent;
use crate::storage::session::draft;
use crate::storage::session::items;
use crate::storage::session::read::sql_seq;
use crate::storage::session::turn;

/// Inserts the event itself.
pub(super) fn insert(
    connection: &Connection,
    seq: u64,
    entry: &Entry,
    hash: &[u8; 16],
) -> Result<(), Error> {
    let doing = "inserting an event";
    connection
        .prepare_cached(
            "INSERT INTO event (seq, recorded_at_ms, kind, body, hash) VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .and_then(|mut statement| {
            let kind = entry.kind.as_str();
            statement.execute(params![sql_seq(seq), entry.recorded_at_ms, kind, entry.frame, hash])
        })
        .while_(doing)?;
    Ok(())
}

/// Inserts what a repeat of the request that led to event `seq` will be answered.
pub(super) fn remember(connection: &Connection, seq: u64, kept: &Idempotent) -> Result<(), Error> {
    let sql =
        "INSERT INTO idempotency (key, request, seq, status, response) VALUES (?1, ?2, ?3, ?4, ?5)";
    let Idempotent { key, request, status, response } = kept;
    connection
        .prepare_cached(sql)
        .and_then(|mut s| s.execute(params![key, request, sql_seq(seq), status, response]))
        .while_("keeping an answer")?;
    Ok(())
}

/// Brings the projections up to `event`, which is event `seq`.
pub(super) fn project(
    connection: &Connection,
    head: &mut Head,
    seq: u64,
    event: &Event,
    at_ms: i64,
) -> Result<(), Error> {
    if head.last_seq == 0 {
        head.created_at_ms = at_ms;
    }
    match event {
        Event::Message(message) if message.seq == seq => {
            insert_message(connection, message)?;
            head.message_count += 1;
        }
        Event::Message(message) => finish_message(connection, message)?,
        Event::MessageParts { message_id, version, parts, from } => {
            let message_seq = seq_of(connection, message_id)?;
            replace_parts(connection, message_seq, parts)?;
            // A frame that stands for text that grew is no change of its own.
            let version = from.is_none().then_some(*version);
            touch(connection, message_seq, version, parts.len(), at_ms)?;
        }
        // What a turn writes is kept in the draft, see `draft.rs`; this is a part of a message that rests.
        Event::PartUpdate { message_id, part, fields } => {
            let message_seq = seq_of(connection, message_id)?;
            draft::update_stored(connection, message_seq, *part, fields)?;
        }
        Event::PartDelta { .. } => {}
        Event::MessageDeleted { message_id } => redact(connection, message_id, at_ms)?,
        Event::Session { title, project_id, metadata, settings, deleted } => {
            head.settings.clone_from(settings);
            head.title.clone_from(title);
            head.project_id.clone_from(project_id);
            head.metadata.clone_from(metadata);
            head.deleted = *deleted;
        }
        Event::Turn(turn) => turn::project(connection, head, seq, turn, at_ms)?,
        Event::Branch { from } => {
            let gone = connection
                .prepare_cached("UPDATE message SET branch = ?1 WHERE seq >= ?2 AND branch = 0")
                .and_then(|mut s| s.execute(params![sql_seq(seq), sql_seq(*from)]))
                .while_("setting messages aside")?;
            head.message_count = head.message_count.saturating_sub(gone as u64);
        }
        Event::Items(change) => items::project(connection, head, change, at_ms)?,
    }
    Ok(())
}

pub(super) fn insert_message(connection: &Connection, message: &Message) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT INTO message (seq, id, role, content, status, version, part_count, metadata, turn_id,
                                  created_at_ms, updated_at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                sql_seq(message.seq),
                message.id,
                message.role.as_str(),
                message.content,
                message.status.as_str(),
                message.version,
                message.parts.len(),
                message.metadata.as_ref().map(|json| json.as_str()),
                message.turn_id,
                message.created_at_ms,
                message.updated_at_ms,
            ])
        })
        .while_("inserting a message")?;
    insert_parts(connection, sql_seq(message.seq), &message.parts)
}

fn insert_parts(connection: &Connection, message_seq: i64, parts: &[Part]) -> Result<(), Error> {
    for (position, part) in parts.iter().enumerate() {
        connection
            .prepare_cached("INSERT INTO part (message_seq, position, body) VALUES (?1, ?2, ?3)")
            .and_then(|mut s| s.execute(params![message_seq, position, part.json().as_str()]))
            .while_("inserting a part")?;
    }
    Ok(())
}

pub(super) fn replace_parts(
    connection: &Connection,
    message_seq: i64,
    parts: &[Part],
) -> Result<(), Error> {
    connection
        .prepare_cached("DELETE FROM part WHERE message_seq = ?1")
        .and_then(|mut statement| statement.execute([message_seq]))
        .while_("replacing the parts of a message")?;
    insert_parts(connection, message_seq, parts)
}

pub(super) fn touch(
    connection: &Connection,
    message_seq: i64,
    version: Option<u32>,
    part_count: usize,
    at_ms: i64,
) -> Result<(), Error> {
    connection
        .prepare_cached(
            "UPDATE message SET version = coalesce(?2, version), part_count = ?3, updated_at_ms = ?4 WHERE seq = ?1",
        )
        .and_then(|mut s| s.execute(params![message_seq, version, part_count, at_ms]))
        .while_("noting a change of a message")?;
    Ok(())
}

fn seq_of(connection: &Connection, id: &str) -> Result<i64, Error> {
    connection
        .prepare_cached("SELECT seq FROM message WHERE id = ?1 AND branch = 0")
        .and_then(|mut statement| statement.query_row([id], |row| row.get(0)))
        .while_("looking for a message")
}

/// The answer of a turn as it was in the end.
fn finish_message(connection: &Connection, message: &Message) -> Result<(), Error> {
    let seq = sql_seq(message.seq);
    replace_parts(connection, seq, &message.parts)?;
    connection
        .prepare_cached(
            "UPDATE message SET content = ?2, status = ?3, version = ?4, part_count = ?5, updated_at_ms = ?6,
                                metadata = ?7 WHERE seq = ?1",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                seq,
                message.content,
                message.status.as_str(),
                message.version,
                message.parts.len(),
                message.updated_at_ms,
                message.metadata.as_ref().map(|json| json.as_str()),
            ])
        })
        .while_("finishing a message")?;
    Ok(())
}

/// Takes the content of a message out of every row that holds it; its places in both orders stay.
fn redact(connection: &Connection, id: &str, at_ms: i64) -> Result<(), Error> {
    let doing = "redacting a message";
    let seq = seq_of(connection, id)?;
    replace_parts(connection, seq, &[])?;
    let edited: bool = connection
        .prepare_cached("SELECT version > 1 FROM message WHERE seq = ?1")
        .and_then(|mut statement| statement.query_row([seq], |row| row.get(0)))
        .while_(doing)?;
    connection
        .prepare_cached(
            "UPDATE message SET content = '', metadata = NULL, status = 'deleted', version = version + 1,
                                part_count = 0, updated_at_ms = ?2 WHERE seq = ?1",
        )
        .and_then(|mut statement| statement.execute(params![seq, at_ms]))
        .while_(doing)?;
    // A message that was never changed is in one event only; of others every later event may speak.
    let last = if edited { i64::MAX } else { seq };
    let mut select = connection
        .prepare_cached(
            "SELECT seq, kind, body FROM event WHERE seq BETWEEN ?1 AND ?2 AND instr(body, ?3) > 0",
        )
        .while_(doing)?;
    let rows = select
        .query_map(params![seq, last, serde_json::json!(id).to_string()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .while_(doing)?;
    for (at, kind, body) in rows {
        let Some(kind) = EventKind::from_name(&kind) else { continue };
        let Some(emptied) = emptied(Event::decode(kind, &body)?, id, at_ms) else { continue };
        let body = emptied.encode(u64::try_from(at).unwrap_or(0));
        connection
            .prepare_cached(
                "UPDATE event SET body = ?2, redacted = max(redacted, 1) WHERE seq = ?1",
            )
            .and_then(|mut statement| statement.execute(params![at, body]))
            .while_(doing)?;
        connection
            .prepare_cached(
                "UPDATE idempotency SET response = '{}' WHERE seq = ?1 AND response IS NOT NULL",
            )
            .and_then(|mut statement| statement.execute([at]))
            .while_(doing)?;
    }
    Ok(())
}

/// `event` without what message `id` said; `None` if it is about something else.
fn emptied(event: Event, id: &str, at_ms: i64) -> Option<Event> {
    match event {
        Event::Message(message) if message.id == id => Some(Event::Message(Message {
            content: String::new(),
            parts: Vec::new(),
            metadata: None,
            status: Status::Deleted,
            updated_at_ms: at_ms,
            ..message
        })),
        Event::MessageParts { message_id, version, from, .. } if message_id == id => {
            Some(Event::MessageParts { message_id, version, parts: Vec::new(), from })
        }
        Event::PartDelta { message_id, part, offset, .. } if message_id == id => {
            Some(Event::PartDelta { message_id, part, offset, delta: String::new() })
        }
        Event::PartUpdate { message_id, part, .. } if message_id == id => {
            Some(Event::PartUpdate { message_id, part, fields: Object::default() })
        }
        // Items that the message shows; the frame holds their text.
        Event::Items(mut change) => {
            change.items.retain(|item| item.message_id.as_deref() != Some(id));
            Some(Event::Items(change))
        }
        Event::Message(_)
        | Event::MessageParts { .. }
        | Event::PartDelta { .. }
        | Event::PartUpdate { .. }
        | Event::Branch { .. }
        | Event::MessageDeleted { .. }
        | Event::Session { .. }
        | Event::Turn(_) => None,
    }
}

/// Writes what is known of the session to its one row.
pub(super) fn save_head(connection: &Connection, key: &Key, head: &Head) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO meta (id, kind, workspace, name, title, project_id, metadata, message_count,
                                          last_seq, log_start, created_at_ms, updated_at_ms, item_count,
                                          settings, resume)
             VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                ActorKind::Session.as_str(),
                key.workspace(),
                key.id(),
                head.title,
                head.project_id,
                head.metadata.as_str(),
                sql_seq(head.message_count),
                sql_seq(head.last_seq),
                sql_seq(head.log_start),
                head.created_at_ms,
                head.updated_at_ms,
                sql_seq(head.item_count),
                Json::of(&head.settings).expect("settings are JSON").as_str(),
                head.resume.to_json().as_str(),
            ])
        })
        .while_("writing what is known of a session")?;
    Ok(())
}
