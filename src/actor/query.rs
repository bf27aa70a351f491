//! What is read of a session, and what its subscribers begin with.

use crate::actor::batch::Rules;
use crate::actor::hub::Hub;
use crate::base::limits::Limit;
use crate::base::limits::PAGE_DEFAULT;
use crate::base::metric;
use crate::domain::session::Direction;
use crate::domain::session::Rejection;
use crate::domain::session::SharedPage;
use crate::domain::session::View;
use crate::storage;
use crate::storage::session::SessionFile;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Backlog;
use crate::wire::envelope::Error;
use crate::wire::envelope::Idempotency;
use crate::wire::envelope::Query;
use crate::wire::envelope::Reason;
use crate::wire::envelope::Snapshot;
use crate::wire::feed::Queue;

/// What `query` asks of the session.
///
/// Nothing of it may be told before everything in the file is durable.
pub(super) fn query_file(
    file: &mut SessionFile,
    query: Query,
) -> Result<Result<Answer, Error>, storage::Error> {
    let head = file.head();
    if !head.exists() {
        return Ok(Err(Rejection::SessionNotFound.into()));
    }
    let answer = match query {
        Query::Session | Query::Wake => {
            Answer::Session { head: Box::new(head.clone()), created: false }
        }
        Query::Count => Answer::Count(head.message_count),
        Query::Message(id) => match file.message(&id)? {
            Some(message) => Answer::Found(Box::new(message)),
            None => return Ok(Err(Rejection::MessageNotFound.into())),
        },
        Query::Page { direction: Direction::Before(u64::MAX), limit, settled: false } => {
            Answer::Page(file.latest(limit)?)
        }
        Query::Page { direction, limit, settled } => {
            Answer::Page(SharedPage::new(file.page(direction, limit, settled)?))
        }
        Query::PageFrom { id, newer, limit, settled } => match file.seq_of_message(&id)? {
            Some(seq) => {
                let direction = if newer { Direction::After(seq) } else { Direction::Before(seq) };
                Answer::Page(SharedPage::new(file.page(direction, limit, settled)?))
            }
            None => return Ok(Err(Rejection::MessageNotFound.into())),
        },
        Query::Transcript { until, draft, bytes } => {
            Answer::Transcript(file.transcript(&until, &draft, bytes)?)
        }
        Query::Branches => Answer::Branches(file.branches()?),
        Query::Branch { branch, after, limit } => {
            Answer::Page(SharedPage::new(file.branch(branch, after, limit)?))
        }
        Query::Items { limit } => {
            let (items, more) = file.latest_items(limit)?;
            Answer::Items { count: file.head().item_count, items, more }
        }
        Query::Item(id) => match file.item(&id)? {
            Some(item) => {
                let count = file.head().item_count;
                Answer::Items { count, items: vec![item], more: false }
            }
            None => return Ok(Err(Rejection::ItemNotFound.into())),
        },
        Query::ItemsFrom { after, newer, limit } => {
            let after = match after.map(|id| file.item(&id)).transpose()? {
                None => None,
                Some(Some(item)) => Some(item.sequence),
                Some(None) => return Ok(Err(Rejection::ItemNotFound.into())),
            };
            let (items, more) = file.items_from(after, newer, limit)?;
            Answer::Items { count: file.head().item_count, items, more }
        }
        Query::Turn(id) => match file.answer(&id)? {
            Some((turn, seq, message)) => {
                Answer::Answered { turn: Box::new(turn), seq, message: message.map(Box::new) }
            }
            None => return Ok(Err(Rejection::TurnNotFound.into())),
        },
        Query::Repeat(idempotency) => match answered(file, &idempotency)? {
            Some(answer) => return Ok(answer),
            None => Answer::Done { seq: file.head().last_seq },
        },
        Query::Events { after } => Answer::Subscribed(Box::new(backlog(file, Some(after))?)),
    };
    Ok(Ok(answer))
}

/// What a request with this key hears that came before, if one did.
pub(super) fn answered(
    file: &SessionFile,
    idempotency: &Idempotency,
) -> Result<Option<Result<Answer, Error>>, storage::Error> {
    let Some((earlier, seq)) = file.answered(idempotency.key.as_str())? else { return Ok(None) };
    if earlier.request != idempotency.request {
        return Ok(Some(Err(Error::KeyReused)));
    }
    let json = earlier.response.unwrap_or_default().into();
    Ok(Some(Ok(Answer::Replayed { status: earlier.status, json, seq })))
}

/// The log behind `after`, and everything that happens into `queue`; of a session that may be absent if `absent_ok`.
pub(super) fn subscribe(
    file: &SessionFile,
    hub: &mut Hub,
    (after, absent_ok): (Option<u64>, bool),
    queue: &std::sync::Arc<Queue>,
    rules: &Rules<'_>,
) -> Result<Result<Answer, Error>, storage::Error> {
    if !file.head().exists() && !absent_ok {
        return Ok(Err(Rejection::SessionNotFound.into()));
    }
    if hub.len() >= rules.limits.subscribers_count && !hub.has(queue) {
        hub.prune();
        if hub.len() >= rules.limits.subscribers_count {
            metric::counters().limit_hit(Limit::Subscribers);
            return Ok(Err(Error::Overloaded(Limit::Subscribers)));
        }
    }
    let backlog = backlog(file, after)?;
    if !backlog.more {
        hub.add(queue);
    }
    Ok(Ok(Answer::Subscribed(Box::new(backlog))))
}

/// The log after `after`, or the session as it is where the log does not reach back that far.
fn backlog(file: &SessionFile, after: Option<u64>) -> Result<Backlog, storage::Error> {
    let head = file.head();
    let last_seq = head.last_seq;
    let mut backlog = Backlog { last_seq, snapshot: None, events: Vec::new(), more: false };
    let Some(after) = after else { return Ok(backlog) };
    let reason = if after < head.log_start {
        Some(Reason::LogTrimmed)
    } else if after > last_seq {
        Some(Reason::AheadOfLog)
    } else {
        None
    };
    if let Some(reason) = reason {
        let page = file.page(Direction::Before(u64::MAX), PAGE_DEFAULT, false)?;
        backlog.snapshot = Some(Snapshot { reason, head: Box::new(head.clone()), page });
        return Ok(backlog);
    }
    backlog.events = file.events(after)?;
    let reached = backlog.events.last().map_or(after, |event| event.seq);
    backlog.more = reached < last_seq;
    Ok(backlog)
}
