//! A reader of a session's events: the log from a place on, then what happens; after falling behind, the log again.

use std::collections::VecDeque;
use std::sync::Arc;

use bytestring::ByteString;
use prometheus_client::metrics::gauge::Gauge;

use crate::base::metric;
use crate::protocol::native;
use crate::router::Router;
use crate::router::Target;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Backlog;
use crate::wire::envelope::Error;
use crate::wire::envelope::Request;
use crate::wire::feed::Close;
use crate::wire::feed::Frame;
use crate::wire::feed::Next;
use crate::wire::feed::Queue;
use crate::wire::feed::What;

/// Something for the client.
pub(super) enum Step {
    /// Frames, contiguous with those before.
    Frames(VecDeque<Frame>),
    /// There is nothing more.
    Closed(Close),
}

/// A subscription that never shows a gap. Whatever it gave last is where it goes on.
pub(super) struct Follower {
    router: Router,
    target: Target,
    queue: Arc<Queue>,
    /// The last seq that was given to the client; `None`: only what happens from now on.
    seen: Option<u64>,
    absent_ok: bool,
    open: Gauge,
}

impl Follower {
    /// Subscribes and reads the first part of the log.
    ///
    /// # Errors
    ///
    /// What the actor answers, as that there is no such session.
    pub(super) async fn begin(
        router: &Router,
        target: &Target,
        after: Option<u64>,
        absent_ok: bool,
        transport: &'static str,
    ) -> Result<(Self, Backlog), Error> {
        let limits = router.limits();
        let queue = Queue::new(limits.queue_count, limits.queue_bytes);
        let open = metric::counters().subscribers(transport);
        open.inc();
        let (router, target) = (router.clone(), target.clone());
        let mut follower = Self { router, target, queue, seen: after, absent_ok, open };
        let backlog = follower.subscribe().await?;
        Ok((follower, backlog))
    }

    /// The last seq that was given to the client.
    pub(super) fn seen(&self) -> u64 {
        self.seen.unwrap_or(0)
    }

    async fn subscribe(&mut self) -> Result<Backlog, Error> {
        let (queue, absent_ok) = (Arc::clone(&self.queue), self.absent_ok);
        let request = Request::Subscribe { after: self.seen, queue, absent_ok };
        match self.router.ask(&self.target, request).await? {
            Answer::Subscribed(backlog) => {
                if self.seen.is_none() {
                    self.seen = Some(backlog.last_seq);
                }
                Ok(*backlog)
            }
            _ => Err(Error::Reset),
        }
    }

    /// The frames of a part of the log.
    pub(super) fn frames(&mut self, backlog: Backlog) -> VecDeque<Frame> {
        let frames = frames(self.target.id(), backlog);
        if let Some(seq) = frames.back().and_then(|frame| frame.seq) {
            self.seen = Some(seq);
        }
        frames
    }

    /// Waits for something in the queue. Cancelling it loses nothing.
    pub(super) async fn wait(&self) -> Next {
        self.queue.next().await
    }

    /// Turns what was in the queue into something for the client, reading the log if frames were dropped. Must not be
    /// cancelled.
    ///
    /// # Errors
    ///
    /// What the actor answers to a subscription.
    pub(super) async fn take(&mut self, next: Next) -> Result<Step, Error> {
        match next {
            Next::Closed(why) => Ok(Step::Closed(why)),
            Next::Frames(mut frames) => {
                let seen = self.seen();
                // The log may have given what the queue holds as well.
                frames.retain(|frame| frame.seq.is_none_or(|seq| seq > seen));
                if let Some(seq) = frames.iter().rev().find_map(|frame| frame.seq) {
                    self.seen = Some(seq);
                }
                Ok(Step::Frames(frames))
            }
            Next::Lagging => {
                let backlog = self.subscribe().await?;
                metric::counters().slow_consumer("caught_up");
                Ok(Step::Frames(self.frames(backlog)))
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.queue.abandon();
        self.open.dec();
    }
}

/// The frames of a part of the log of session `id`, behind the state before it where the log does not reach back.
pub(super) fn frames(id: &str, backlog: Backlog) -> VecDeque<Frame> {
    let mut frames = VecDeque::with_capacity(backlog.events.len() + 1);
    if let Some((reason, snapshot)) = &backlog.snapshot {
        let seq = backlog.last_seq;
        let text = native::reset(id, seq, *reason, snapshot).into();
        frames.push_back(Frame { seq: Some(seq), what: What::Reset, text });
    }
    for event in backlog.events {
        let text = ByteString::from(event.frame);
        frames.push_back(Frame { seq: Some(event.seq), what: What::Event(event.number), text });
    }
    frames
}
