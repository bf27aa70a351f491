//! The stream that answers a request: somebody looks at a turn. The turn goes on if nobody does.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;

use crate::domain::session::EventKind;
use crate::domain::session::Rejection;
use crate::http::error::ApiError;
use crate::http::follow::Follower;
use crate::http::follow::Step;
use crate::protocol::Encoder;
use crate::router::Router;
use crate::router::Target;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Query;
use crate::wire::envelope::Request;
use crate::wire::feed::Close;
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
    /// Why there is nothing more, although the answer goes on.
    broken: Option<Error>,
    /// Whether the connection must break, since nothing else can say so.
    tears: bool,
}

/// The answer goes on, and this stream does not.
#[derive(Debug, thiserror::Error)]
#[error("the stream ended before the answer")]
pub(super) struct Torn;

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
        let (router, target, ready) = (router.clone(), target.clone(), String::new());
        let mut watcher = Self {
            router,
            target,
            encoder,
            follower,
            keep_alive,
            ready,
            broken: None,
            tears: false,
        };
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
                What::Event(number) => match EventKind::from_number(number) {
                    Some(kind) => self.encoder.push(kind, &frame.text),
                    None => continue,
                },
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
            if self.encoder.is_done() || self.broken.is_some() {
                return None;
            }
            let Ok(next) = tokio::time::timeout(self.keep_alive, self.follower.wait()).await else {
                let line = self.encoder.keep_alive();
                if line.is_empty() {
                    continue;
                }
                return Some(line.to_owned());
            };
            let taken = match self.follower.take(next).await {
                Ok(Step::Frames(frames)) => self.encode(frames).await,
                Ok(Step::Closed(Close::Deleted)) => Err(Rejection::Deleted.into()),
                Ok(Step::Closed(Close::Restarting)) => Err(Error::ShuttingDown),
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                let why = ApiError::from(error.clone()).problem().detail;
                match self.encoder.broken(&why) {
                    Some(said) => self.ready.push_str(&said),
                    None => self.tears = true,
                }
                self.broken = Some(error);
            }
        }
    }

    /// Why there was nothing more, if the answer was not over.
    pub(super) fn broken(&self) -> Option<Error> {
        self.broken.clone()
    }

    /// As the body of a response.
    pub(super) fn into_body(self) -> impl Stream<Item = Result<Bytes, Torn>> {
        stream::unfold(self, |mut watcher| async move {
            match watcher.next().await {
                Some(chunk) => Some((Ok(chunk.into()), watcher)),
                None if std::mem::take(&mut watcher.tears) => Some((Err(Torn), watcher)),
                None => None,
            }
        })
    }
}
