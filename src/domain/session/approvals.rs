//! The rules of tool calls that wait for somebody outside: for a result, or for leave to run.

use crate::base::json::Object;
use crate::domain::session::Context;
use crate::domain::session::Decision;
use crate::domain::session::Draft;
use crate::domain::session::Event;
use crate::domain::session::Growing;
use crate::domain::session::Message;
use crate::domain::session::Outcome;
use crate::domain::session::Part;
use crate::domain::session::Rejection;
use crate::domain::session::Role;
use crate::domain::session::Status;
use crate::domain::session::Stop;
use crate::domain::session::ToolAnswer;
use crate::domain::session::Turn;
use crate::domain::session::TurnState;
use crate::domain::session::View;
use crate::domain::session::decision::Decided;
use crate::domain::session::decision::nothing;
use crate::domain::session::plan::Plan;
use crate::domain::session::plan::next;

/// A tool call that somebody outside must answer.
pub(super) struct Waiting {
    pub(super) id: String,
    /// The approval that it waits for; `None`: it waits for its result.
    pub(super) approval: Option<String>,
}

impl Waiting {
    /// The call that `part` shows, if it waits.
    pub(super) fn of(part: &Part) -> Option<Self> {
        let members = part.members();
        if members.text("type").as_deref() != Some("tool-call") {
            return None;
        }
        let id = members.text("toolCallId")?;
        let approval = members.get("approval").and_then(Object::read);
        match (members.text("state")?.as_str(), approval) {
            ("pending", Some(approval)) if approval.get("approved").is_none() => {
                Some(Self { id, approval: approval.text("id") })
            }
            ("running", None) => Some(Self { id, approval: None }),
            _ => None,
        }
    }

    /// What the answer makes of the call, and whether it is a refusal.
    pub(super) fn answered(&self, answer: &ToolAnswer) -> Option<(Object, bool)> {
        let fields = Object::default().with("toolCallId", &self.id);
        if let Some(approval) = &self.approval {
            let approved = answer.approved?;
            let mut said = Object::default().with("id", approval).with("approved", &approved);
            if let Some(reason) = &answer.reason {
                said = said.with("reason", reason);
            }
            let state = if approved { "running" } else { "error" };
            return Some((fields.with("approval", &said).with("state", &state), !approved));
        }
        match (&answer.output, &answer.error) {
            (Some(output), _) => {
                Some((fields.with("toolOutput", output).with("state", &"complete"), false))
            }
            (None, Some(error)) => {
                Some((fields.with("errorText", error).with("state", &"error"), false))
            }
            (None, None) => None,
        }
    }
}

/// What becomes of a call that nobody answers any more.
pub(super) fn given_up(call_id: &str, why: &str) -> Object {
    Object::default().with("toolCallId", &call_id).with("state", &"error").with("errorText", &why)
}

/// Goes on with the last answer: what the client says to the calls that wait, all of them.
pub(super) fn go_on<V: View>(
    view: &V,
    id: Option<&String>,
    results: &[ToolAnswer],
) -> Result<Plan, Stop<V::Error>> {
    let last = view.message_before(u64::MAX).map_err(Stop::View)?;
    let last = last
        .filter(|last| {
            last.role == Role::Assistant
                && last.status == Status::Complete
                && id.is_none_or(|id| *id == last.id)
        })
        .ok_or(Rejection::NotContinuable)?;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for (at, part) in last.parts.iter().enumerate() {
        let Some(call) = Waiting::of(part) else { continue };
        let answer = results.iter().find(|answer| answer.tool_call_id == call.id);
        let Some((fields, denied)) = answer.and_then(|answer| call.answered(answer)) else {
            return Err(Rejection::ToolWaits { tool_call_id: call.id }.into());
        };
        let update = Event::PartUpdate { message_id: last.id.clone(), part: at, fields };
        if denied { after.push(update) } else { before.push(update) }
    }
    if before.is_empty() && after.is_empty() {
        // Nothing waited: the client sent it twice, or makes it up.
        return Err(Rejection::NotContinuable.into());
    }
    let earlier = match &last.turn_id {
        Some(id) => view.turn(id).map_err(Stop::View)?,
        None => None,
    };
    let input_id = match &earlier {
        Some(turn) => turn.input_id.clone(),
        None => {
            let input = view.message_before(last.seq).map_err(Stop::View)?;
            input.map_or_else(|| last.id.clone(), |input| input.id)
        }
    };
    Ok(Plan { before, after, input_id, message_id: Some(last.id), earlier })
}

/// Why nobody can answer a call any more.
pub(super) const WENT_ON: &str = "nobody answered the call before the conversation went on";

/// Why a call without a result never gets one, after a turn that ended so.
pub(super) fn never(state: TurnState) -> Option<&'static str> {
    match state {
        TurnState::Stopped => Some("the answer was stopped before the call had a result"),
        TurnState::Interrupted => Some("a restart of the server cut the call off"),
        TurnState::Failed => Some("the answer failed before the call had a result"),
        _ => None,
    }
}

/// Gives up the calls of the last answer that wait for somebody, as something else is said or it is stopped; then it has
/// `status`.
pub(super) fn give_up<V: View>(
    view: &V,
    status: Option<Status>,
    ctx: &Context<'_>,
) -> Result<Vec<Event>, Stop<V::Error>> {
    let last = view.message_before(u64::MAX).map_err(Stop::View)?;
    // An answer of a turn: what an agent keeps is the agent's.
    let mine = |last: &Message| last.role == Role::Assistant && last.turn_id.is_some();
    let Some(mut message) = last.filter(mine) else { return Ok(Vec::new()) };
    let mut draft = Draft::new(message.id.clone(), message.seq);
    draft.replace(&message.parts);
    let mut events = Vec::new();
    for (part, stored) in message.parts.iter().enumerate() {
        let Some(call) = Waiting::of(stored) else { continue };
        let fields = given_up(&call.id, WENT_ON);
        draft.update(part, &fields);
        events.push(Event::PartUpdate { message_id: message.id.clone(), part, fields });
    }
    if events.is_empty() && status.is_none_or(|status| status == message.status) {
        return Ok(events);
    }
    message.parts = draft.parts();
    message.status = status.unwrap_or(message.status);
    message.version += 1;
    message.updated_at_ms = ctx.now_ms;
    events.push(Event::Message(message));
    Ok(events)
}

/// Answers one approval; the turn goes on when it was the last that was open.
pub(super) fn approve<V: View>(
    view: &V,
    approval_id: &str,
    approved: bool,
    reason: Option<String>,
) -> Decided<V::Error> {
    let active = view.head().active_turn.as_ref();
    let waits = active.filter(|turn| turn.state == TurnState::WaitingApproval);
    let turn = waits.cloned().ok_or(Rejection::ApprovalNotFound)?;
    let message = view.message(&turn.message_id).map_err(Stop::View)?;
    let message = message.ok_or(Rejection::ApprovalNotFound)?;
    let (mut found, mut open) = (None, 0);
    for (at, part) in message.parts.iter().enumerate() {
        let Some(call) = Waiting::of(part) else { continue };
        if call.approval.as_deref() == Some(approval_id) {
            found = Some((at, call));
        } else {
            open += 1;
        }
    }
    let (part, call) = found.ok_or(Rejection::ApprovalNotFound)?;
    let tool_call_id = call.id.clone();
    let answer =
        ToolAnswer { tool_call_id, output: None, error: None, approved: Some(approved), reason };
    let (fields, _) = call.answered(&answer).ok_or(Rejection::ApprovalNotFound)?;
    let mut events = vec![Event::PartUpdate { message_id: message.id, part, fields }];
    let turn = match open {
        0 => Turn {
            state: TurnState::Running,
            attempt: turn.attempt + 1,
            finish_reason: None,
            expires_at_ms: None,
            ..turn
        },
        _ => turn,
    };
    if open == 0 {
        events.push(Event::Turn(turn.clone()));
    }
    Ok(Decision { events, outcome: Outcome::Turn(Box::new(turn)) })
}

/// Ends a turn whose approvals nobody answered in time.
pub(super) fn expire<V: View>(view: &V, turn_id: &str, ctx: &Context<'_>) -> Decided<V::Error> {
    let active = view.head().active_turn.as_ref();
    let waits = |turn: &&Turn| turn.id == turn_id && turn.state == TurnState::WaitingApproval;
    let Some(turn) = active.filter(waits).cloned() else { return Ok(nothing(Outcome::Done)) };
    let begun = view.message(&turn.message_id).map_err(Stop::View)?;
    let mut message = begun.ok_or(Rejection::MessageNotFound)?;
    let mut draft = Draft::new(message.id.clone(), message.seq);
    draft.parts = message.parts.iter().map(Growing::stored).collect();
    let mut events = Vec::new();
    for (part, stored) in message.parts.iter().enumerate() {
        let Some(call) = Waiting::of(stored).filter(|call| call.approval.is_some()) else {
            continue;
        };
        let said = Object::default()
            .with("id", &call.approval)
            .with("approved", &false)
            .with("reason", &"nobody answered in time");
        let fields = Object::default()
            .with("toolCallId", &call.id)
            .with("approval", &said)
            .with("state", &"error");
        draft.update(part, &fields);
        events.push(Event::PartUpdate { message_id: message.id.clone(), part, fields });
    }
    message.parts = draft.parts();
    message.status = Status::Stopped;
    message.version += 1;
    message.updated_at_ms = ctx.now_ms;
    events.push(Event::Message(message));
    let error = Some("nobody answered the approval in time".to_owned());
    events.push(Event::Turn(Turn { state: TurnState::Stopped, error, ..turn }));
    events.extend(next(view, ctx)?);
    Ok(Decision { events, outcome: Outcome::Done })
}
