//! How events become rows. Applying cannot be refused: whatever the rules let happen has its place here.

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::ToSql;
use rusqlite::params;

use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::domain::kind::Event as _;
use crate::domain::session::Event;
use crate::domain::session::EventKind;
use crate::domain::session::Head;
use crate::domain::session::Message;
use crate::domain::session::Status;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::file;
use crate::storage::file::Place;
use crate::storage::file::log;
use crate::storage::file::log::EventRow;
use crate::storage::journal::Idempotent;
use crate::storage::session::draft;
use crate::storage::session::items;
use crate::storage::session::message;
use crate::storage::session::message::MessageRow;
use crate::storage::session::turn;
use crate::storage::sql::sql_seq;
use crate::storage::sum;

/// More events than one command leads to.
const COMMAND_EVENTS_MAX: u64 = 10_000;

/// Brings the projections up to `event`, which stands at `place`.
pub(super) fn project(
    connection: &Connection,
    head: &mut Head,
    place: Place,
    event: &Event,
) -> Result<(), Error> {
    let Place { seq, at_ms } = place;
    if head.last_seq == 0 {
        head.created_at_ms = at_ms;
    }
    match event {
        Event::Message(message) => finish_message(connection, message)?,
        Event::MessageParts { message_id, version, parts, from } => {
            let mut row = called(connection, message_id)?;
            message::replace_parts(connection, row.message.seq, parts)?;
            // A frame that stands for text that grew is no change of its own.
            if from.is_none() {
                (row.message.version, row.message.updated_at_ms) = (*version, at_ms);
            }
            row.part_count = parts.len();
            row.update(connection)?;
        }
        // What a turn writes is kept in the draft, see `draft.rs`; this is a part of a message that rests.
        Event::PartUpdate { message_id, part, fields } => {
            let row = called(connection, message_id)?;
            draft::update_stored(connection, row.message.seq, *part, fields)?;
        }
        Event::PartDelta { .. } => {}
        Event::MessageDeleted { message_id } => {
            let gone = redact(connection, message_id, at_ms)?;
            head.item_count = head.item_count.saturating_sub(gone as u64);
        }
        Event::Session { title, project_id, metadata, settings, deleted } => {
            head.settings.clone_from(settings);
            head.title.clone_from(title);
            head.project_id.clone_from(project_id);
            head.metadata.clone_from(metadata);
            head.deleted = *deleted;
        }
        Event::Turn(turn) => turn::project(connection, head, seq, turn, at_ms)?,
        Event::Branch { from } => {
            let gone = set_aside(connection, *from, seq)?;
            head.message_count = head.message_count.saturating_sub(gone as u64);
        }
        Event::Items(change) => items::project(connection, head, change, at_ms)?,
    }
    Ok(())
}

fn called(connection: &Connection, id: &str) -> Result<MessageRow, Error> {
    MessageRow::called(connection, id)?
        .ok_or_else(|| Error::RowMissing { table: "message", row: id.to_owned() })
}

/// Takes the messages from `from` on out of the history, into branch `branch`; how many they were.
fn set_aside(connection: &Connection, from: u64, branch: u64) -> Result<usize, Error> {
    let rows: Vec<MessageRow> = connection
        .prepare_cached("SELECT * FROM message WHERE seq >= ?1 AND branch = 0")
        .and_then(|mut s| s.query_map([sql_seq(from)], MessageRow::at)?.collect())
        .while_("setting messages aside")?;
    let gone = rows.len();
    for row in rows {
        MessageRow { branch, ..row }.update(connection)?;
    }
    Ok(gone)
}

/// The answer of a turn as it was in the end.
fn finish_message(connection: &Connection, message: &Message) -> Result<(), Error> {
    let mut row = MessageRow::of(connection, message.seq)?;
    message::replace_parts(connection, message.seq, &message.parts)?;
    row.part_count = message.parts.len();
    row.message.content.clone_from(&message.content);
    row.message.metadata.clone_from(&message.metadata);
    row.message.status = message.status;
    row.message.version = message.version;
    row.message.updated_at_ms = message.updated_at_ms;
    row.update(connection)
}

/// Takes the content of a message out of every row that holds it; its places in both orders stay. How many items went.
fn redact(connection: &Connection, id: &str, at_ms: i64) -> Result<usize, Error> {
    let doing = "redacting a message";
    let mut row = called(connection, id)?;
    let (seq, edited) = (row.message.seq, row.message.version > 1);
    message::replace_parts(connection, seq, &[])?;
    row.part_count = 0;
    row.message.content.clear();
    row.message.metadata = None;
    row.message.status = Status::Deleted;
    row.message.version += 1;
    row.message.updated_at_ms = at_ms;
    row.update(connection)?;
    // A message that was never changed is in one event only, and its items in the one before those of their messages;
    // of others every later event may speak.
    let last = if edited { i64::MAX } else { sql_seq(seq) };
    let first = items_before(connection, seq)?.unwrap_or_else(|| sql_seq(seq));
    let mut select = connection
        .prepare_cached("SELECT * FROM event WHERE seq BETWEEN ?1 AND ?2 AND instr(body, ?3) > 0")
        .while_(doing)?;
    let rows = select
        .query_map(params![first, last, serde_json::json!(id).to_string()], EventRow::at::<Event>)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .while_(doing)?;
    let mut gone = 0;
    for row in rows {
        let event = Event::decode(row.number, &row.body)?;
        if let Event::Items(change) = &event {
            let shown = change.items.iter().filter(|item| item.message_id.as_deref() == Some(id));
            gone += items::remove(connection, shown.map(|item| item.sequence), id)?;
        }
        let Some(emptied) = emptied(event, id, at_ms) else {
            continue;
        };
        let body = emptied.encode(row.seq);
        let redacted = row.redacted.max(1);
        log::rewrite::<Event>(connection, &EventRow { body: &body, redacted, ..row.borrowed() })?;
        empty_answers(connection, row.seq, at_ms)?;
    }
    Ok(gone)
}

/// The event with the items that messages up to event `seq` show, if it was carried out together with them.
fn items_before(connection: &Connection, seq: u64) -> Result<Option<i64>, Error> {
    let sql = "SELECT seq, kind FROM event WHERE seq BETWEEN ?1 AND ?2 AND kind <> 'message' ORDER BY seq DESC LIMIT 1";
    let first = seq.saturating_sub(COMMAND_EVENTS_MAX);
    let is =
        |row: &Row<'_>| Ok((row.get(0)?, row.get_ref(1)?.as_str()? == EventKind::Items.as_str()));
    let before = connection
        .prepare_cached(sql)
        .and_then(|mut s| s.query_row(params![sql_seq(first), sql_seq(seq) - 1], is).optional())
        .while_("looking for the items of a message")?;
    Ok(before.and_then(|(seq, is_items): (i64, bool)| is_items.then_some(seq)))
}

/// Takes what messages and items say out of the answers that are kept for event `seq`.
fn empty_answers(connection: &Connection, seq: u64, at_ms: i64) -> Result<(), Error> {
    let doing = "emptying an answer";
    let answers: Vec<_> = connection
        .prepare_cached("SELECT * FROM idempotency WHERE seq = ?1 AND response IS NOT NULL")
        .and_then(|mut s| s.query_map([sql_seq(seq)], file::kept_at)?.collect())
        .while_(doing)?;
    // A turn that was accepted says nothing of what was said.
    for (_, kept) in answers.into_iter().filter(|(_, kept)| kept.status != 202) {
        connection
            .prepare_cached("DELETE FROM idempotency WHERE key = ?1")
            .and_then(|mut statement| statement.execute([&kept.key]))
            .while_(doing)?;
        let response = kept.response.as_deref().map(|answer| emptied_answer(answer, at_ms));
        file::remember(connection, seq, &Idempotent { response, ..kept })?;
    }
    Ok(())
}

/// `answer` in its own shape, without what a message or an item in it says.
fn emptied_answer(answer: &str, at_ms: i64) -> String {
    if let Ok(message) = serde_json::from_str(answer) {
        return Json::of(&without_content(message, at_ms)).unwrap_or_default().as_str().to_owned();
    }
    match Json::parse(answer).ok().as_ref().and_then(Object::read) {
        Some(popped) if popped.get("item").is_some() => r#"{"item":null}"#.to_owned(),
        // How many items there are says nothing of them.
        Some(counted) if counted.get("count").is_some() => answer.to_owned(),
        _ => "{}".to_owned(),
    }
}

fn without_content(message: Message, at_ms: i64) -> Message {
    Message {
        content: String::new(),
        parts: Vec::new(),
        metadata: None,
        status: Status::Deleted,
        updated_at_ms: at_ms,
        ..message
    }
}

/// `event` without what message `id` said; `None` if it is about something else.
fn emptied(event: Event, id: &str, at_ms: i64) -> Option<Event> {
    match event {
        Event::Message(message) if message.id == id => {
            Some(Event::Message(without_content(message, at_ms)))
        }
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
    let sql = "INSERT OR REPLACE INTO meta (id, kind, workspace, name, title, project_id, metadata, message_count,
                                            last_seq, log_start, created_at_ms, updated_at_ms, item_count,
                                            settings, resume, sum)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
    let settings = Json::of(&head.settings).expect("settings are JSON");
    let resume = head.resume.to_json();
    let values: &[&dyn ToSql] = &[
        &1,
        &ActorKind::Session.as_str(),
        &key.workspace(),
        &key.id(),
        &head.title,
        &head.project_id,
        &head.metadata.as_str(),
        &sql_seq(head.message_count),
        &sql_seq(head.last_seq),
        &sql_seq(head.log_start),
        &head.created_at_ms,
        &head.updated_at_ms,
        &sql_seq(head.item_count),
        &settings.as_str(),
        &resume.as_str(),
    ];
    sum::write(connection, "meta", sql, values).while_("writing what is known of a session")
}
