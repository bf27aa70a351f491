//! The rules: what a command does to a session, or why not.

use crate::base::ids::Name;
use crate::base::json::Json;
use crate::domain::session::Command;
use crate::domain::session::Context;
use crate::domain::session::Decision;
use crate::domain::session::Event;
use crate::domain::session::Outcome;
use crate::domain::session::Rejection;
use crate::domain::session::SessionChanges;
use crate::domain::session::TurnOptions;
use crate::domain::session::View;
use crate::domain::session::agents;
use crate::domain::session::approvals;
use crate::domain::session::decision::Decided;
use crate::domain::session::decision::nothing;
use crate::domain::session::messages;
use crate::domain::session::messages::check_changes;
use crate::domain::session::turns;

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
        Command::AddMessage(new) => messages::add_message(view, new, ctx),
        Command::ReplaceParts { message_id, parts, if_version } => {
            messages::replace_parts(view, message_id, parts, if_version, ctx)
        }
        Command::DeleteMessage { message_id } => messages::delete_message(view, message_id),
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
