//! How a subscription begins: the log up to a durable end, and from then on every frame.

use std::sync::Arc;

use crate::actor::hosted::FileOf;
use crate::actor::hosted::Hosted;
use crate::actor::hub::Hub;
use crate::actor::rules::Rules;
use crate::base::limits::Limit;
use crate::base::metric;
use crate::storage;
use crate::wire::ask::AnswerOf;
use crate::wire::ask::Backlog;
use crate::wire::ask::Error;
use crate::wire::ask::Reason;
use crate::wire::ask::Refusal;
use crate::wire::feed::Queue;

/// The log behind `after`, and everything that happens into `queue`; of an actor that may be absent if `absent_ok`.
pub(super) fn subscribe<K: Hosted>(
    file: &FileOf<K>,
    hub: &mut Hub,
    (after, absent_ok): (Option<u64>, bool),
    queue: &Arc<Queue>,
    rules: &Rules<'_>,
) -> Result<AnswerOf<K>, storage::Error> {
    if !file.log().exists() && !absent_ok {
        return Ok(Err(Refusal::Absent.into()));
    }
    if hub.len() >= rules.limits.subscribers_count && !hub.has(queue) {
        hub.prune();
        if hub.len() >= rules.limits.subscribers_count {
            metric::counters().limit_hit(Limit::Subscribers);
            return Ok(Err(Error::Overloaded(Limit::Subscribers)));
        }
    }
    let backlog = backlog::<K>(file, after, rules.epoch)?;
    if !backlog.more {
        hub.add(queue);
    }
    Ok(Ok(K::subscribed(backlog)))
}

/// The log after `after`, or the actor as it is where the log does not reach back that far.
pub(super) fn backlog<K: Hosted>(
    file: &FileOf<K>,
    after: Option<u64>,
    epoch: u64,
) -> Result<Backlog<K::Snapshot>, storage::Error> {
    let log = file.log();
    let last_seq = log.last_seq;
    let mut backlog = Backlog { epoch, last_seq, snapshot: None, events: Vec::new(), more: false };
    let Some(after) = after else { return Ok(backlog) };
    let reason = if after < log.log_start {
        Some(Reason::LogTrimmed)
    } else if after > last_seq {
        Some(Reason::AheadOfLog)
    } else {
        None
    };
    if let Some(reason) = reason {
        backlog.snapshot = Some((reason, K::snapshot(file)?));
        return Ok(backlog);
    }
    backlog.events = file.events(after)?;
    let reached = backlog.events.last().map_or(after, |event| event.seq);
    backlog.more = reached < last_seq;
    Ok(backlog)
}
