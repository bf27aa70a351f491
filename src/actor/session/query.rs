//! What is read of a session.

use crate::actor::batch::answered;
use crate::actor::subscribe::backlog;
use crate::domain::session::Direction;
use crate::domain::session::Rejection;
use crate::domain::session::SharedPage;
use crate::domain::session::View;
use crate::storage;
use crate::storage::session::SessionFile;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Query;
use crate::wire::envelope::SessionKind;

/// What `query` asks of the session.
///
/// Nothing of it may be told before everything in the file is durable.
pub(super) fn query(
    file: &mut SessionFile,
    query: Query,
    epoch: u64,
) -> Result<Result<Answer, Error>, storage::Error> {
    let head = file.head();
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
        Query::Repeat(idempotency) => match answered::<SessionKind>(file, &idempotency)? {
            Some(answer) => return Ok(answer),
            None => Answer::Done { seq: file.head().last_seq },
        },
        Query::Events { after } => {
            let backlog = backlog::<SessionKind>(file, Some(after), epoch)?;
            Answer::Subscribed(Box::new(backlog))
        }
    };
    Ok(Ok(answer))
}
