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
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Query;
use crate::wire::envelope::Request;
use crate::wire::feed::Frame;
use crate::wire::feed::What;

/// A reader of one answer.
pub(super) struct Watcher<E> {
    router: Router,
    target: Target,
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
        let (router, target) = (router.clone(), target.clone());
        let mut watcher =
            Self { router, target, encoder, follower, keep_alive, ready: String::new() };
        watcher.encode(frames).await?;
        Ok(watcher)
    }

    /// The same, with `first` before everything.
    pub(super) fn saying(mut self, first: String) -> Self {
        self.ready.insert_str(0, &first);
        self
    }

    async fn encode(&mut self, frames: VecDeque<Frame>) -> Result<(), Error> {
        for frame in frames {
            let said = match frame.what {
                What::Event(kind) => self.encoder.push(kind, &frame.text),
                What::Reset => {
                    let id = self.encoder.turn_id().to_owned();
                    match self.router.ask(&self.target, Request::Query(Query::Turn(id))).await? {
                        Answer::Answered { turn, message, .. } => {
                            let seq = frame.seq.unwrap_or_default();
                            self.encoder.reset(seq, &turn, message.as_deref())
                        }
                        _ => return Err(Error::Reset),
                    }
                }
                What::Passing => continue,
            };
            self.ready.push_str(&said);
            if self.encoder.is_done() {
                break;
            }
        }
        Ok(())
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
            if self.encode(frames).await.is_err() {
                return None;
            }
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
