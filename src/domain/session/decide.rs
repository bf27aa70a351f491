//! The rules: what a command does to a session, or why not.

use std::borrow::Cow;

use serde::Deserialize;
use serde::Serialize;

use crate::base::Classify;
use crate::base::Kind;
use crate::base::ids::Name;
use crate::base::ids::NotAName;
use crate::base::json::Json;
use crate::base::limits::Limit;
use crate::base::limits::Limits;
use crate::domain::session::Command;
use crate::domain::session::Event;
use crate::domain::session::Item;
use crate::domain::session::Message;
use crate::domain::session::NewMessage;
use crate::domain::session::Part;
use crate::domain::session::SessionChanges;
use crate::domain::session::Status;
use crate::domain::session::Turn;
use crate::domain::session::TurnOptions;
use crate::domain::session::View;
use crate::domain::session::agents;
use crate::domain::session::approvals;
use crate::domain::session::turns;

/// What the rules need of the world.
pub struct Context<'a> {
    /// Unix time in milliseconds.
    pub now_ms: i64,
    /// Makes an id that nobody has.
    pub new_id: &'a dyn Fn() -> String,
    /// The bounds in force.
    pub limits: &'a Limits,
    /// Whether turns may begin; those that wait stay where they are if not.
    pub begins_turns: bool,
}

/// What a command leads to.
#[derive(Debug, PartialEq)]
pub struct Decision {
    /// What happens; empty if the command was carried out before.
    pub events: Vec<Event>,
    /// What the caller hears once the events are durable.
    pub outcome: Outcome,
}

/// What the caller hears.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// The message of the first event.
    Added,
    /// This message, as it is or will be.
    Message(Box<Message>),
    /// The session as it is then; `created` if it is new.
    Session {
        /// Whether this command made it.
        created: bool,
    },
    /// The turn as it is then.
    Turn(Box<Turn>),
    /// Items were added or taken back.
    Items {
        /// How many there are then.
        count: u64,
        /// Those that were added.
        items: Vec<Item>,
    },
    /// The last item was taken back.
    Popped(Option<Item>),
    /// Only that it is done.
    Done,
}

/// The session's own "no". Nothing changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum Rejection {
    /// Nothing ever happened under this id.
    #[error("there is no such session")]
    SessionNotFound,
    /// The session has ended, its id stays taken.
    #[error("the session was deleted")]
    Deleted,
    /// No message has this id.
    #[error("there is no such message in the session")]
    MessageNotFound,
    /// The id belongs to another message.
    #[error("a message with this id and another content exists")]
    MessageExists,
    /// Somebody changed the message since.
    #[error("the message has version {is}, not {expected}")]
    VersionConflict {
        /// The version it has.
        is: u32,
        /// The version the caller saw.
        expected: u32,
    },
    /// The model is writing this message, or it is deleted.
    #[error("a message that is {} cannot be changed", status.as_str())]
    MessageNotEditable {
        /// Why not.
        status: Status,
    },
    /// A value is not acceptable.
    #[error("`{field}` {problem}")]
    Invalid {
        /// Which field.
        field: Cow<'static, str>,
        /// What is wrong with it.
        problem: Cow<'static, str>,
    },
    /// A bound was hit.
    #[error("`{}` is {is}, {max} is allowed", limit.name())]
    Limit {
        /// Which bound.
        limit: Limit,
        /// What was asked for.
        is: usize,
        /// What is allowed.
        max: usize,
    },
    /// The turn is not the one that runs.
    #[error("the turn is over")]
    TurnOver,
    /// No turn has this id.
    #[error("there is no such turn in the session")]
    TurnNotFound,
    /// Another turn runs.
    #[error("another answer is being written in this session: wait for it or stop it")]
    TurnActive,
    /// The message is not the last one, or does not wait for anything.
    #[error("this is not the last answer of the session, or it cannot go on")]
    NotContinuable,
    /// A tool call has no result yet.
    #[error("tool call `{tool_call_id}` waits for its result or approval")]
    ToolWaits {
        /// The call.
        tool_call_id: String,
    },
    /// Nothing waits for this approval.
    #[error("there is no such approval, or it was answered")]
    ApprovalNotFound,
    /// The items do not end as expected.
    #[error("the items do not end with `expectedSuffix`")]
    SuffixMismatch,
    /// No item has this id.
    #[error("there is no such item in the session")]
    ItemNotFound,
}

impl Rejection {
    /// What `field` says is not acceptable.
    #[must_use]
    pub fn invalid(field: &'static str, problem: &'static str) -> Self {
        Self::Invalid { field: Cow::Borrowed(field), problem: Cow::Borrowed(problem) }
    }

    /// Nothing can be called what `field` says.
    pub fn misnamed(field: &'static str) -> impl FnOnce(NotAName) -> Self {
        move |NotAName| Self::invalid(field, NotAName::RULE)
    }
}

impl Classify for Rejection {
    fn kind(&self) -> Kind {
        match self {
            Self::SessionNotFound
            | Self::Deleted
            | Self::MessageNotFound
            | Self::TurnNotFound
            | Self::ApprovalNotFound
            | Self::ItemNotFound => Kind::NotFound,
            Self::TurnActive
            | Self::NotContinuable
            | Self::ToolWaits { .. }
            | Self::SuffixMismatch
            | Self::MessageExists
            | Self::VersionConflict { .. }
            | Self::MessageNotEditable { .. }
            | Self::TurnOver => Kind::Conflict,
            Self::Invalid { .. } | Self::Limit { .. } => Kind::Invalid,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::SessionNotFound => "session_not_found",
            Self::Deleted => "actor.deleted",
            Self::MessageNotFound => "message_not_found",
            Self::MessageExists => "message_exists",
            Self::VersionConflict { .. } => "version_conflict",
            Self::MessageNotEditable { .. } => "message_not_editable",
            Self::Invalid { .. } => "invalid",
            Self::Limit { limit, .. } => limit.code(),
            Self::TurnOver => "turn_over",
            Self::TurnNotFound => "turn_not_found",
            Self::TurnActive => "turn_active",
            Self::NotContinuable => "not_continuable",
            Self::ToolWaits { .. } => "tool_waits",
            Self::ApprovalNotFound => "approval_not_found",
            Self::SuffixMismatch => "suffix_mismatch",
            Self::ItemNotFound => "item_not_found",
        }
    }
}

/// Why there is no decision.
#[derive(Debug)]
pub enum Stop<E> {
    /// The session refuses.
    Rejected(Rejection),
    /// The past could not be read.
    View(E),
}

impl<E> From<Rejection> for Stop<E> {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

pub(super) type Decided<E> = Result<Decision, Stop<E>>;

/// Decides what `command` does. Carried out before, it does nothing, so that a retry is harmless.
///
/// # Errors
///
/// [`Stop::Rejected`] when the session refuses; [`Stop::View`] when the past could not be read.
pub fn decide<V: View>(view: &V, command: Command, ctx: &Context<'_>) -> Decided<V::Error> {
    let head = view.head();
    if head.deleted {
        return match command {
            Command::Delete => Ok(nothing(Outcome::Done)),
            _ => Err(Rejection::Deleted.into()),
        };
    }
    if !head.exists() && !command.may_create() {
        return Err(Rejection::SessionNotFound.into());
    }
    match command {
        Command::Create { changes, project_id } => create(view, changes, project_id, ctx),
        Command::Change(changes) => change(view, changes, ctx),
        Command::Delete => Ok(Decision { events: vec![deleted(view)], outcome: Outcome::Done }),
        Command::AddMessage(new) => add_message(view, new, ctx),
        Command::ReplaceParts { message_id, parts, if_version } => {
            replace_parts(view, message_id, parts, if_version, ctx)
        }
        Command::DeleteMessage { message_id } => delete_message(view, message_id),
        Command::StartTurn(new) => turns::start(view, *new, ctx),
        Command::Write { turn_id, attempt, pieces } => {
            turns::write(view, &turn_id, attempt, pieces, ctx)
        }
        Command::EndTurn { turn_id, attempt, ending } => {
            turns::end(view, &turn_id, attempt, *ending, ctx)
        }
        Command::StopTurn { turn_id } => turns::stop(view, turn_id.as_ref(), ctx),
        Command::Approve { approval_id, approved, reason } => {
            approvals::approve(view, &approval_id, approved, reason)
        }
        Command::ExpireApprovals { turn_id } => approvals::expire(view, &turn_id, ctx),
        Command::ChangeItems(change) => agents::change(view, change, ctx),
        Command::Reconcile => turns::reconcile(view, ctx),
    }
}

pub(super) fn nothing(outcome: Outcome) -> Decision {
    Decision { events: Vec::new(), outcome }
}

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

fn check_changes(changes: &SessionChanges, limits: &Limits) -> Result<(), Rejection> {
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

fn create<V: View>(
    view: &V,
    changes: SessionChanges,
    project_id: Option<String>,
    ctx: &Context<'_>,
) -> Decided<V::Error> {
    check_changes(&changes, ctx.limits)?;
    if let Some(id) = &project_id {
        Name::new(id.as_str()).map_err(Rejection::misnamed("projectId"))?;
    }
    if view.head().exists() {
        return Ok(nothing(Outcome::Session { created: false }));
    }
    let event = Event::Session {
        title: changes.title.unwrap_or_default(),
        project_id,
        metadata: changes.metadata.unwrap_or_default(),
        settings: changes.settings.unwrap_or_default(),
        deleted: false,
    };
    Ok(Decision { events: vec![event], outcome: Outcome::Session { created: true } })
}

fn change<V: View>(view: &V, changes: SessionChanges, ctx: &Context<'_>) -> Decided<V::Error> {
    check_changes(&changes, ctx.limits)?;
    let head = view.head();
    let title = changes.title.unwrap_or_else(|| head.title.clone());
    let metadata = changes.metadata.unwrap_or_else(|| head.metadata.clone());
    let settings = changes.settings.unwrap_or_else(|| head.settings.clone());
    let outcome = Outcome::Session { created: false };
    if title == head.title && metadata == head.metadata && settings == head.settings {
        return Ok(nothing(outcome));
    }
    let project_id = head.project_id.clone();
    let event = Event::Session { title, project_id, metadata, settings, deleted: false };
    Ok(Decision { events: vec![event], outcome })
}

fn deleted<V: View>(view: &V) -> Event {
    let project_id = view.head().project_id.clone();
    // What the session held goes with it, its title and metadata too.
    let (metadata, settings) = (Json::default(), TurnOptions::default());
    Event::Session { title: String::new(), project_id, metadata, settings, deleted: true }
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

fn add_message<V: View>(view: &V, new: NewMessage, ctx: &Context<'_>) -> Decided<V::Error> {
    check_message(&new, ctx.limits)?;
    if let Some(old) = sent_before(view, &new)? {
        return Ok(nothing(Outcome::Message(Box::new(old))));
    }
    let message = stored(new, view.head().last_seq + 1, ctx);
    Ok(Decision { events: vec![Event::Message(message)], outcome: Outcome::Added })
}

fn replace_parts<V: View>(
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

fn delete_message<V: View>(view: &V, message_id: String) -> Decided<V::Error> {
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
