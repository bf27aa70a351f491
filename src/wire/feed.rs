//! Frames on their way from an actor to a client, in a queue that is bounded and never waited for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bytestring::ByteString;
use tokio::sync::Notify;

use crate::base::limits::Limit;
use crate::base::metric;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An event of the log, with the number of what it is.
    Event(u8),
    /// The state at its seq, where the log does not reach back: whoever reads frames must take it in place of events.
    Reset,
    /// What is never stored, as typing.
    Passing,
}

/// Something on its way to a client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its place in the log; `None` for what is never stored.
    pub seq: Option<u64>,
    /// What it is.
    pub what: What,
    /// The JSON.
    pub text: ByteString,
}

impl Frame {
    /// What is never stored.
    #[must_use]
    pub fn passing(text: ByteString) -> Self {
        Self { seq: None, what: What::Passing, text }
    }
}

/// Why a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The session was deleted.
    Deleted,
    /// The server restarts.
    Restarting,
}

/// What a subscriber finds in its queue.
#[derive(Debug)]
pub enum Next {
    /// Frames, in order.
    Frames(VecDeque<Frame>),
    /// It fell behind and its queue was dropped: it must subscribe again after the last frame that it has.
    Lagging,
    /// There is nothing more.
    Closed(Close),
}

struct Inner {
    frames: VecDeque<Frame>,
    bytes: usize,
    lagging: bool,
    closed: Option<Close>,
    abandoned: bool,
}

/// The frames that wait for one subscriber, bounded by number and bytes.
pub struct Queue {
    inner: Mutex<Inner>,
    ready: Notify,
    count_max: usize,
    bytes_max: usize,
}

impl Queue {
    /// A queue that holds at most `count_max` frames and `bytes_max` bytes. It takes frames once subscribed.
    #[must_use]
    pub fn new(count_max: usize, bytes_max: usize) -> Arc<Self> {
        let inner = Inner {
            frames: VecDeque::new(),
            bytes: 0,
            // Until the first subscription is carried out.
            lagging: true,
            closed: None,
            abandoned: false,
        };
        Arc::new(Self { inner: Mutex::new(inner), ready: Notify::new(), count_max, bytes_max })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a frame, or marks the subscriber as lagging if there is no room. False if nobody reads any more.
    #[must_use]
    pub fn push(&self, frame: &Frame) -> bool {
        let mut inner = self.inner();
        if inner.abandoned || inner.closed.is_some() {
            return false;
        }
        if inner.lagging {
            return true;
        }
        let full = inner.frames.len() >= self.count_max
            || (inner.bytes + frame.text.len() > self.bytes_max && !inner.frames.is_empty());
        if full {
            inner.lagging = true;
            inner.frames = VecDeque::new();
            inner.bytes = 0;
            metric::counters().limit_hit(Limit::Queue);
            metric::counters().slow_consumer("lagging");
        } else {
            inner.bytes += frame.text.len();
            inner.frames.push_back(frame.clone());
        }
        drop(inner);
        self.ready.notify_one();
        true
    }

    /// From now on the queue takes frames again.
    pub fn resume(&self) {
        self.inner().lagging = false;
    }

    /// Makes the subscriber subscribe again, once it has what is in the queue.
    pub fn lag(&self) {
        self.inner().lagging = true;
        self.ready.notify_one();
    }

    /// Ends the subscription, behind what is in the queue.
    pub fn close(&self, why: Close) {
        self.inner().closed = Some(why);
        self.ready.notify_one();
    }

    /// Tells the actor that nobody reads any more.
    pub fn abandon(&self) {
        let mut inner = self.inner();
        inner.abandoned = true;
        inner.frames = VecDeque::new();
    }

    /// Whether nobody reads any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.inner().abandoned
    }

    /// Waits for something to happen. Cancelling it loses nothing.
    pub async fn next(&self) -> Next {
        loop {
            {
                let mut inner = self.inner();
                if !inner.frames.is_empty() {
                    inner.bytes = 0;
                    return Next::Frames(std::mem::take(&mut inner.frames));
                }
                if let Some(why) = inner.closed {
                    return Next::Closed(why);
                }
                if inner.lagging {
                    return Next::Lagging;
                }
            }
            self.ready.notified().await;
        }
    }
}
