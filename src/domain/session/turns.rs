//! The rules of turns: when one begins, what it may write, how it ends.

use crate::base::json::Json;
use crate::base::json::Object;
use crate::base::limits::Limit;
use crate::base::limits::QUEUED_TURNS_MAX;
use crate::domain::session::Busy;
use crate::domain::session::Context;
use crate::domain::session::Counted;
use crate::domain::session::Decision;
use crate::domain::session::Ending;
use crate::domain::session::Event;
use crate::domain::session::Growing;
use crate::domain::session::Input;
use crate::domain::session::Message;
use crate::domain::session::NewMessage;
use crate::domain::session::NewTurn;
use crate::domain::session::Outcome;
use crate::domain::session::Piece;
use crate::domain::session::Rejection;
use crate::domain::session::Role;
use crate::domain::session::Status;
use crate::domain::session::Stop;
use crate::domain::session::Turn;
use crate::domain::session::TurnState;
use crate::domain::session::Usage;
use crate::domain::session::View;
use crate::domain::session::approvals;
use crate::domain::session::decision::Decided;
use crate::domain::session::decision::nothing;
use crate::domain::session::messages::check_question;
use crate::domain::session::messages::stored;
use crate::domain::session::messages::within;
use crate::domain::session::plan::Plan;
use crate::domain::session::plan::next;
use crate::domain::session::title;

/// Begins a turn, or lets it wait for its place.
pub(super) fn start<V: View>(view: &V, new: NewTurn, ctx: &Context<'_>) -> Decided<V::Error> {
    let NewTurn { input, options, model, titled } = new;
    let head = view.head();
    let asked = options.clone();
    let options = options.or(&head.settings);
    let active = head.active_turn.as_ref();
    let running = active.filter(|turn| turn.state.is_active());
    if let Some(turn) = running
        && is_sent_again(view, turn, &input)?
    {
        return Ok(nothing(Outcome::Turn(Box::new(turn.clone()))));
    }
    let busy = options.busy.unwrap_or_default();
    let mut events = Vec::new();
    if let Some(turn) = running {
        if busy == Busy::Reject || !is_new(view, &input)? {
            return Err(Rejection::TurnActive.into());
        }
        make_way(view, turn, busy, &mut events)?;
    }
    let waits = active.filter(|turn| turn.state == TurnState::WaitingApproval);
    let resumes = matches!(input, Input::Results { .. });
    if let Some(turn) = waits.filter(|_| !resumes) {
        events.push(Event::Turn(Turn { state: TurnState::Stopped, ..turn.clone() }));
    }
    if running.is_none() && !resumes {
        let status = waits.map(|_| Status::Stopped);
        events.extend(approvals::give_up(view, status, ctx)?);
    }
    let mut ctx_seq = head.last_seq + events.len() as u64;
    if titled && let Some(titled) = title::given_by(head, &input) {
        events.push(titled);
        ctx_seq += 1;
    }
    let says_model = asked.model.is_some();
    let model = options.model.clone().unwrap_or(model);
    let plan = plan(view, input, ctx_seq, ctx)?;
    let turn =
        match waits.filter(|turn| resumes && plan.message_id.as_ref() == Some(&turn.message_id)) {
            Some(turn) => next_attempt(turn),
            None => Turn {
                options: match &plan.earlier {
                    // What the client does not say again holds until the answer is whole.
                    Some(earlier) => asked.or(&earlier.options),
                    None => options,
                },
                model: match plan.earlier {
                    Some(earlier) if !says_model => earlier.model,
                    _ => Some(model),
                },
                id: (ctx.new_id)(),
                state: if running.is_some() { TurnState::Queued } else { TurnState::Running },
                input_id: plan.input_id,
                message_id: plan.message_id.unwrap_or_else(|| (ctx.new_id)()),
                attempt: 1,
                finish_reason: None,
                expires_at_ms: None,
                usage: None,
                error: None,
                error_status: None,
                resume: None,
            },
        };
    let orphans = orphans(view, &plan.before)?;
    events.extend(plan.before);
    events.extend(orphans);
    events.push(Event::Turn(turn.clone()));
    events.extend(plan.after);
    Ok(Decision { events, outcome: Outcome::Turn(Box::new(turn)) })
}

/// A turn that waited and runs again.
fn next_attempt(turn: &Turn) -> Turn {
    let (state, attempt) = (TurnState::Running, turn.attempt + 1);
    Turn { state, attempt, finish_reason: None, expires_at_ms: None, ..turn.clone() }
}

/// Whether the client sent the message again that is being answered, as after a broken connection.
fn is_sent_again<V: View>(view: &V, turn: &Turn, input: &Input) -> Result<bool, Stop<V::Error>> {
    let Input::Message { message, edit: true } = input else { return Ok(false) };
    if message.id.as_deref() != Some(turn.input_id.as_str()) {
        return Ok(false);
    }
    let old = view.message(&turn.input_id).map_err(Stop::View)?;
    Ok(old.is_some_and(|old| old.content == message.content && old.parts == message.parts))
}

/// Gives up the turns that wait to answer a message that is set aside.
fn orphans<V: View>(view: &V, before: &[Event]) -> Result<Vec<Event>, Stop<V::Error>> {
    let cut = before.iter().find_map(|event| match event {
        Event::Branch { from } => Some(*from),
        _ => None,
    });
    let Some(cut) = cut else { return Ok(Vec::new()) };
    let mut orphans = Vec::new();
    for turn in view.queued_turns().map_err(Stop::View)? {
        let input = view.message(&turn.input_id).map_err(Stop::View)?;
        if input.is_none_or(|input| input.seq >= cut) {
            let error = Some("the message that it was to answer was replaced".to_owned());
            orphans.push(Event::Turn(Turn { state: TurnState::Stopped, error, ..turn }));
        }
    }
    Ok(orphans)
}

/// Whether the input only adds a message: nothing else can wait, since what it means may change meanwhile.
fn is_new<V: View>(view: &V, input: &Input) -> Result<bool, Stop<V::Error>> {
    Ok(match input {
        Input::Message { message: NewMessage { id: Some(id), .. }, .. } => {
            view.message(id).map_err(Stop::View)?.is_none()
        }
        Input::Message { .. } => true,
        Input::At { position, .. } => view.seq_at(*position).map_err(Stop::View)?.is_none(),
        Input::Again { .. } | Input::Results { .. } => false,
    })
}

/// What happens to the turn that runs and to those that wait.
fn make_way<V: View>(
    view: &V,
    running: &Turn,
    busy: Busy,
    events: &mut Vec<Event>,
) -> Result<(), Stop<V::Error>> {
    let waiting = view.queued_turns().map_err(Stop::View)?;
    if busy == Busy::Latest {
        events.extend(waiting.into_iter().map(superseded));
    } else {
        within(Limit::Turns, waiting.len() + 1, QUEUED_TURNS_MAX)?;
    }
    if busy == Busy::Interrupt && running.state == TurnState::Running {
        events.push(Event::Turn(Turn { state: TurnState::Stopping, ..running.clone() }));
    }
    Ok(())
}

fn superseded(turn: Turn) -> Event {
    let error = Some("a later turn took its place".to_owned());
    Event::Turn(Turn { state: TurnState::Stopped, error, ..turn })
}

fn plan<V: View>(
    view: &V,
    input: Input,
    last_seq: u64,
    ctx: &Context<'_>,
) -> Result<Plan, Stop<V::Error>> {
    match input {
        Input::Message { message, edit } => {
            let known = match &message.id {
                Some(id) => view.message(id).map_err(Stop::View)?,
                None => None,
            };
            match known {
                None => add(message, None, last_seq, ctx),
                Some(old) if edit && old.role == Role::User => {
                    add(message, Some(old.seq), last_seq, ctx)
                }
                Some(_) => Err(Rejection::MessageExists.into()),
            }
        }
        Input::At { position, message } => {
            let from = view.seq_at(position).map_err(Stop::View)?;
            add(message, from, last_seq, ctx)
        }
        Input::Again { after } => again(view, after),
        Input::Results { message_id, results } => {
            approvals::go_on(view, message_id.as_ref(), &results)
        }
    }
}

fn add<E>(
    message: NewMessage,
    from: Option<u64>,
    last_seq: u64,
    ctx: &Context<'_>,
) -> Result<Plan, Stop<E>> {
    check_question(&message, ctx.limits)?;
    let message = NewMessage { role: Role::User, ..message };
    let mut before: Vec<Event> = from.map(|from| Event::Branch { from }).into_iter().collect();
    let message = stored(message, last_seq + before.len() as u64 + 1, ctx);
    let input_id = message.id.clone();
    before.push(Event::Message(message));
    Ok(Plan::answering(input_id, before))
}

fn again<V: View>(view: &V, after: Option<String>) -> Result<Plan, Stop<V::Error>> {
    let last = match after {
        Some(id) => view.message(&id).map_err(Stop::View)?.ok_or(Rejection::MessageNotFound)?,
        None => {
            let last = view.message_before(u64::MAX).map_err(Stop::View)?;
            match last {
                Some(answer) if answer.role == Role::Assistant => {
                    view.message_before(answer.seq).map_err(Stop::View)?
                }
                other => other,
            }
            .ok_or(Rejection::MessageNotFound)?
        }
    };
    let from = view.seq_behind(last.seq).map_err(Stop::View)?;
    let before = from.map(|from| Event::Branch { from }).into_iter().collect();
    Ok(Plan::answering(last.id, before))
}

fn running<V: View>(view: &V, turn_id: &str, attempt: u32) -> Result<Turn, Rejection> {
    let active = view.head().active_turn.as_ref();
    active
        .filter(|turn| turn.id == turn_id && turn.attempt == attempt && turn.state.is_active())
        .cloned()
        .ok_or(Rejection::TurnOver)
}

/// Adds to the answer of a turn.
pub(super) fn write<V: View>(
    view: &V,
    turn_id: &str,
    attempt: u32,
    pieces: Vec<Piece>,
    ctx: &Context<'_>,
) -> Decided<V::Error> {
    let turn = running(view, turn_id, attempt)?;
    let draft = view.draft().ok_or(Rejection::TurnOver)?;
    let message_id = || turn.message_id.clone();
    // Bytes of text in each part, with what this adds.
    let mut texts: Vec<usize> = draft.parts.iter().map(|part| part.text().len()).collect();
    let mut events = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match piece {
            Piece::Update { part, fields } => {
                if part > texts.len() {
                    return Err(Rejection::TurnOver.into());
                }
                let text = fields.text("content").map(|text| text.len());
                match texts.get_mut(part) {
                    Some(bytes) => *bytes = text.unwrap_or(*bytes),
                    None if fields.get("type").is_none() => {
                        let problem = "of a new part must hold a `type`";
                        return Err(Rejection::invalid("fields", problem).into());
                    }
                    None => texts.push(text.unwrap_or(0)),
                }
                let bytes = fields.iter().map(|(_, value)| value.as_str().len()).sum();
                within(Limit::Answer, bytes, ctx.limits.answer_bytes)?;
                events.push(Event::PartUpdate { message_id: message_id(), part, fields });
            }
            Piece::Delta { part, text } => {
                let Some(bytes) = texts.get_mut(part) else {
                    return Err(Rejection::TurnOver.into());
                };
                let offset = *bytes;
                *bytes += text.len();
                within(Limit::Answer, *bytes, ctx.limits.answer_bytes)?;
                let event =
                    Event::PartDelta { message_id: message_id(), part, offset, delta: text };
                events.push(event);
            }
        }
    }
    within(Limit::Parts, texts.len(), ctx.limits.answer_parts_count)?;
    Ok(Decision { events, outcome: Outcome::Done })
}

/// Ends a turn as its task says, and begins the next one that waits.
pub(super) fn end<V: View>(
    view: &V,
    turn_id: &str,
    attempt: u32,
    ending: Ending,
    ctx: &Context<'_>,
) -> Decided<V::Error> {
    let turn = running(view, turn_id, attempt)?;
    let Ending { state, finish_reason, usage, error, error_status, resume } = ending;
    // Who asked it to stop hears that it stopped, even if it was just done.
    let state = match (turn.state, state) {
        (TurnState::Stopping, TurnState::Completed | TurnState::WaitingApproval) => {
            TurnState::Stopped
        }
        (_, state) => state,
    };
    let usage = sum(turn.usage, usage);
    let finish_reason = Some(finish_reason);
    let waits = state == TurnState::WaitingApproval;
    let patience = i64::try_from(ctx.limits.approval_ms).unwrap_or(i64::MAX);
    let expires_at_ms = waits.then(|| ctx.now_ms.saturating_add(patience));
    let turn =
        Turn { state, finish_reason, expires_at_ms, usage, error, error_status, resume, ..turn };
    let goes_on = !waits && !view.queued_turns().map_err(Stop::View)?.is_empty();
    let never = approvals::never(state).or_else(|| goes_on.then_some(approvals::WENT_ON));
    let mut events = finish(view, turn, never, ctx)?;
    if !waits {
        events.extend(next(view, ctx)?);
    }
    Ok(Decision { events, outcome: Outcome::Done })
}

fn sum(earlier: Option<Usage>, now: Option<Usage>) -> Option<Usage> {
    match (earlier, now) {
        (Some(earlier), Some(now)) => Some(Usage {
            input_tokens: earlier.input_tokens.saturating_add(now.input_tokens),
            output_tokens: earlier.output_tokens.saturating_add(now.output_tokens),
        }),
        (earlier, now) => now.or(earlier),
    }
}

/// What the models said that this attempt took by now, as its parts keep it.
fn counted<V: View>(view: &V, turn: &Turn) -> Option<Usage> {
    let parts = view.draft()?.parts.iter().filter_map(Growing::counted);
    let own = parts.filter(|counted| counted.turn_id == turn.id && counted.attempt == turn.attempt);
    let usage = own.map(|counted| {
        let Counted { input_tokens, output_tokens, .. } = counted;
        Some(Usage { input_tokens, output_tokens })
    });
    usage.fold(None, sum)
}

/// Asks the running turn to end, and gives up those that wait.
pub(super) fn stop<V: View>(
    view: &V,
    turn_id: Option<&String>,
    ctx: &Context<'_>,
) -> Decided<V::Error> {
    let active = view.head().active_turn.as_ref();
    let waiting = view.queued_turns().map_err(Stop::View)?;
    if let Some(turn) = waiting.iter().find(|turn| Some(&turn.id) == turn_id) {
        let turn = Turn { state: TurnState::Stopped, ..turn.clone() };
        let events = vec![Event::Turn(turn.clone())];
        return Ok(Decision { events, outcome: Outcome::Turn(Box::new(turn)) });
    }
    let Some(turn) = active.filter(|turn| turn_id.is_none_or(|id| *id == turn.id)) else {
        return Ok(nothing(Outcome::Done));
    };
    let mut events: Vec<Event> = waiting
        .into_iter()
        .map(|turn| Event::Turn(Turn { state: TurnState::Stopped, ..turn }))
        .collect();
    let turn = match turn.state {
        TurnState::Running => Turn { state: TurnState::Stopping, ..turn.clone() },
        TurnState::WaitingApproval => {
            events.extend(approvals::give_up(view, Some(Status::Stopped), ctx)?);
            Turn { state: TurnState::Stopped, ..turn.clone() }
        }
        _ => return Ok(Decision { events, outcome: Outcome::Turn(Box::new(turn.clone())) }),
    };
    events.push(Event::Turn(turn.clone()));
    Ok(Decision { events, outcome: Outcome::Turn(Box::new(turn)) })
}

/// Makes the rows true again after a restart: no task of this process writes the turn that they call running.
pub(super) fn reconcile<V: View>(view: &V, ctx: &Context<'_>) -> Decided<V::Error> {
    let mut events = Vec::new();
    if let Some(turn) = view.head().active_turn.clone() {
        if turn.state == TurnState::WaitingApproval {
            return Ok(nothing(Outcome::Done));
        }
        let nothing_said = view.draft().is_some_and(|draft| draft.parts.is_empty());
        let again = turn.state == TurnState::Running
            && nothing_said
            && turn.attempt <= ctx.limits.turn_retries_count;
        if again && !ctx.begins_turns {
            return Ok(nothing(Outcome::Done));
        }
        if again {
            // Nothing came of it yet, so nothing was paid for that could be paid for twice.
            events.push(Event::Turn(Turn { attempt: turn.attempt + 1, ..turn }));
            return Ok(Decision { events, outcome: Outcome::Done });
        }
        let state = match turn.state {
            TurnState::Stopping => TurnState::Stopped,
            _ => TurnState::Interrupted,
        };
        let usage = sum(turn.usage, counted(view, &turn));
        let finish_reason = Some("other".to_owned());
        let turn = Turn { state, finish_reason, usage, ..turn };
        events = finish(view, turn, approvals::never(state), ctx)?;
    }
    events.extend(next(view, ctx)?);
    Ok(Decision { events, outcome: Outcome::Done })
}

/// The answer of `turn` as it was in the end, and the turn's own end; `never` is why calls get no result any more.
fn finish<V: View>(
    view: &V,
    turn: Turn,
    never: Option<&str>,
    ctx: &Context<'_>,
) -> Result<Vec<Event>, Stop<V::Error>> {
    let begun = view.message(&turn.message_id).map_err(Stop::View)?;
    let mut message = begun.ok_or(Rejection::MessageNotFound)?;
    let mut draft = view.draft().cloned().unwrap_or_default();
    let mut events = Vec::new();
    // What is open stays so for ever: text is whole, and a call has no result unless somebody may still bring it.
    let closed = |part: &Growing| match part.kind().as_str() {
        "text" | "reasoning" => Some(Object::default().with("state", &"complete")),
        "tool-call" => approvals::given_up(&part.member("toolCallId")?, never?).into(),
        _ => None,
    };
    let open = draft.parts.iter().enumerate().filter(|(_, part)| part.is_open());
    let closed: Vec<_> = open.filter_map(|(at, part)| Some((at, closed(part)?))).collect();
    for (part, fields) in closed {
        draft.update(part, &fields);
        events.push(Event::PartUpdate { message_id: message.id.clone(), part, fields });
    }
    message.content = draft.content();
    message.parts = draft.parts();
    message.metadata = Some(metadata(&message, &turn));
    message.status = turn.state.of_message();
    message.version += 1;
    message.updated_at_ms = ctx.now_ms;
    events.push(Event::Message(message));
    events.push(Event::Turn(turn));
    Ok(events)
}

/// What every client learns of the answer beside its text.
fn metadata(message: &Message, turn: &Turn) -> Json {
    let mut metadata = message.metadata.as_ref().and_then(Object::read).unwrap_or_default();
    if let Some(model) = &turn.model {
        metadata.set("model", Json::string(model));
    }
    if let Some(usage) = &turn.usage {
        metadata = metadata.with("usage", usage);
    }
    if let Some(reason) = &turn.finish_reason {
        metadata.set("finishReason", Json::string(reason));
    }
    metadata.to_json()
}
