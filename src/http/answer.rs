//! The stream that answers a request: somebody looks at a turn. The turn goes on if nobody does.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;

use crate::http::follow::Follower;
use crate::http::follow::Step;
use crate::protocol::Encoder;
use crate::router::Router;
use crate::router::Target;
use crate::wire::envelope::Error;
use crate::wire::feed::Frame;

/// A reader of one answer.
pub(super) struct Watcher<E> {
    encoder: E,
    follower: Follower,
    keep_alive: Duration,
    ready: String,
}

impl<E: Encoder + 'static> Watcher<E> {
    /// Reads the log of `target` behind `after`, then what happens, through `encoder`.
    ///
    /// # Errors
    ///
    /// What the actor answers.
    pub(super) async fn begin(
        router: &Router,
        target: &Target,
        after: u64,
        encoder: E,
        transport: &'static str,
    ) -> Result<Self, Error> {
        let (mut follower, backlog) =
            Follower::begin(router, target, Some(after), false, transport).await?;
        let frames = follower.frames(backlog);
        let keep_alive = Duration::from_millis(router.limits().ping_ms);
        let mut watcher = Self { encoder, follower, keep_alive, ready: String::new() };
        watcher.encode(frames);
        Ok(watcher)
    }

    /// The same, with `first` before everything.
    pub(super) fn saying(mut self, first: String) -> Self {
        self.ready.insert_str(0, &first);
        self
    }

    fn encode(&mut self, frames: VecDeque<Frame>) {
        for frame in frames {
            if let Some(kind) = frame.kind {
                self.ready.push_str(&self.encoder.push(kind, &frame.text));
            }
            if self.encoder.is_done() {
                break;
            }
        }
    }

    /// What makes the stream.
    pub(super) fn encoder(&self) -> &E {
        &self.encoder
    }

    /// Waits until there is something to send, or the answer is over; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<String> {
        loop {
            if !self.ready.is_empty() {
                return Some(std::mem::take(&mut self.ready));
            }
            if self.encoder.is_done() {
                return None;
            }
            let Ok(next) = tokio::time::timeout(self.keep_alive, self.follower.wait()).await else {
                let line = self.encoder.keep_alive();
                if line.is_empty() {
                    continue;
                }
                return Some(line.to_owned());
            };
            let Ok(Step::Frames(frames)) = self.follower.take(next).await else { return None };
            self.encode(frames);
        }
    }

    /// As the body of a response.
    pub(super) fn into_body(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(self, |mut watcher| async move {
            let chunk = watcher.next().await?;
            Some((Ok(chunk.into()), watcher))
        })
    }
}
