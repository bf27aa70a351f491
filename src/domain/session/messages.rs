//! The rules of messages, and the bounds of what clients send.

use crate::base::json::Json;
use crate::base::limits::Limit;
use crate::base::limits::Limits;
use crate::domain::session::Context;
use crate::domain::session::Decision;
use crate::domain::session::Event;
use crate::domain::session::Message;
use crate::domain::session::NewMessage;
use crate::domain::session::Outcome;
use crate::domain::session::Part;
use crate::domain::session::Rejection;
use crate::domain::session::SessionChanges;
use crate::domain::session::Status;
use crate::domain::session::Stop;
use crate::domain::session::View;
use crate::domain::session::decision::Decided;
use crate::domain::session::decision::nothing;

pub(super) fn within(limit: Limit, is: usize, max: usize) -> Result<(), Rejection> {
    if is > max { Err(Rejection::Limit { limit, is, max }) } else { Ok(()) }
}

fn check_metadata(metadata: Option<&Json>, limits: &Limits) -> Result<(), Rejection> {
    let Some(json) = metadata else { return Ok(()) };
    if !json.is_object() {
        return Err(Rejection::invalid("metadata", "must be an object"));
    }
    within(Limit::Metadata, json.as_str().len(), limits.metadata_bytes)
}

pub(super) fn check_changes(changes: &SessionChanges, limits: &Limits) -> Result<(), Rejection> {
    let title_bytes = changes.title.as_ref().map_or(0, String::len);
    within(Limit::Title, title_bytes, limits.title_bytes)?;
    check_metadata(changes.metadata.as_ref(), limits)
}

fn check_parts(parts: &[Part], limits: &Limits) -> Result<(), Rejection> {
    within(Limit::Parts, parts.len(), limits.parts_count)?;
    let largest = parts.iter().map(|part| part.json().as_str().len()).max().unwrap_or(0);
    within(Limit::Part, largest, limits.part_bytes)
}

pub(super) fn check_message(new: &NewMessage, limits: &Limits) -> Result<(), Rejection> {
    check_parts(&new.parts, limits)?;
    check_around(new, limits)
}

/// As [`check_message`], of a message that may hold files.
pub(super) fn check_question(new: &NewMessage, limits: &Limits) -> Result<(), Rejection> {
    within(Limit::Parts, new.parts.len(), limits.parts_count)?;
    let largest = new.parts.iter().map(|part| part.json().as_str().len()).max().unwrap_or(0);
    within(Limit::File, largest, limits.file_bytes)?;
    check_around(new, limits)
}

fn check_around(new: &NewMessage, limits: &Limits) -> Result<(), Rejection> {
    if new.id.as_ref().is_some_and(|id| id.as_str() == "count") {
        // A part of a path: `/messages/count` is how many there are.
        let problem = "must not be `count`, by which the number of messages is asked for";
        return Err(Rejection::invalid("id", problem));
    }
    within(Limit::Content, new.content.len(), limits.content_bytes)?;
    check_metadata(new.metadata.as_ref(), limits)
}

pub(super) fn stored(new: NewMessage, seq: u64, ctx: &Context<'_>) -> Message {
    Message {
        id: new.id.map_or_else(ctx.new_id, String::from),
        seq,
        version: 1,
        role: new.role,
        content: new.content,
        parts: new.parts,
        metadata: new.metadata,
        turn_id: None,
        status: Status::Complete,
        created_at: ctx.now_ms.div_euclid(1000),
        created_at_ms: ctx.now_ms,
        updated_at_ms: ctx.now_ms,
    }
}

/// The message that `new` made when it was sent before.
fn sent_before<V: View>(view: &V, new: &NewMessage) -> Result<Option<Message>, Stop<V::Error>> {
    let Some(id) = &new.id else { return Ok(None) };
    let Some(old) = view.message(id).map_err(Stop::View)? else { return Ok(None) };
    let same = old.role == new.role
        && old.content == new.content
        && old.metadata == new.metadata
        && (old.parts == new.parts || old.version > 1);
    if same { Ok(Some(old)) } else { Err(Rejection::MessageExists.into()) }
}

pub(super) fn add_message<V: View>(
    view: &V,
    new: NewMessage,
    ctx: &Context<'_>,
) -> Decided<V::Error> {
    check_message(&new, ctx.limits)?;
    if let Some(old) = sent_before(view, &new)? {
        return Ok(nothing(Outcome::Message(Box::new(old))));
    }
    let message = stored(new, view.head().last_seq + 1, ctx);
    Ok(Decision { events: vec![Event::Message(message)], outcome: Outcome::Added })
}

pub(super) fn replace_parts<V: View>(
    view: &V,
    message_id: String,
    parts: Vec<Part>,
    if_version: Option<u32>,
    ctx: &Context<'_>,
) -> Decided<V::Error> {
    check_parts(&parts, ctx.limits)?;
    let mut message = editable(view, &message_id)?;
    if let Some(expected) = if_version
        && expected != message.version
    {
        return Err(Rejection::VersionConflict { is: message.version, expected }.into());
    }
    message.version += 1;
    message.updated_at_ms = ctx.now_ms;
    message.parts.clone_from(&parts);
    let event = Event::MessageParts { message_id, version: message.version, parts, from: None };
    Ok(Decision { events: vec![event], outcome: Outcome::Message(Box::new(message)) })
}

fn editable<V: View>(view: &V, id: &str) -> Result<Message, Stop<V::Error>> {
    let message = view.message(id).map_err(Stop::View)?.ok_or(Rejection::MessageNotFound)?;
    match message.status {
        Status::Complete | Status::Stopped | Status::Interrupted | Status::Failed => Ok(message),
        status @ (Status::Streaming | Status::Deleted) => {
            Err(Rejection::MessageNotEditable { status }.into())
        }
    }
}

pub(super) fn delete_message<V: View>(view: &V, message_id: String) -> Decided<V::Error> {
    let message = view.message(&message_id).map_err(Stop::View)?;
    let message = message.ok_or(Rejection::MessageNotFound)?;
    match message.status {
        Status::Deleted => Ok(nothing(Outcome::Done)),
        status @ Status::Streaming => Err(Rejection::MessageNotEditable { status }.into()),
        Status::Complete | Status::Stopped | Status::Interrupted | Status::Failed => {
            let events = vec![Event::MessageDeleted { message_id }];
            Ok(Decision { events, outcome: Outcome::Done })
        }
    }
}
