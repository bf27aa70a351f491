//! Large answers, written piece by piece.
//!
//! An answer that is given as a whole is copied into the buffer of its connection and stays there for as long as the
//! reader takes. Here the bytes stay where they are, once for all who read the same page, and a reader that takes nothing
//! of them for a minute loses them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use actix_web::body::SizedStream;
use bytes::Bytes;
use futures_util::Stream;

use crate::base::metric;

/// Answers of so many bytes need not be written in pieces.
pub(super) const BYTES_MIN: usize = 256 << 10;
/// Bytes of a piece.
const PIECE_BYTES: usize = 64 << 10;
/// How long a reader may take nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// `bytes` as the body of an answer.
pub(super) fn body(bytes: Bytes) -> SizedStream<Pieces> {
    let length = bytes.len() as u64;
    SizedStream::new(length, pieces(bytes))
}

/// The pieces of `bytes`.
pub(super) fn pieces(bytes: Bytes) -> Pieces {
    Pieces::of(bytes, PATIENCE)
}

/// What is left to be written; `None` once it was given up.
type Left = Mutex<Option<Bytes>>;

/// The pieces of an answer.
pub(super) struct Pieces(Arc<Left>);

/// The reader took nothing for too long.
#[derive(Debug, thiserror::Error)]
#[error("the answer was not read in time")]
pub(super) struct TooSlow;

fn locked(left: &Left) -> MutexGuard<'_, Option<Bytes>> {
    left.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pieces {
    fn of(bytes: Bytes, patience: Duration) -> Self {
        let left = Arc::new(Mutex::new(Some(bytes)));
        actix_web::rt::spawn(watch(Arc::downgrade(&left), patience));
        Self(left)
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, TooSlow>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(match &mut *locked(&self.0) {
            None => Some(Err(TooSlow)),
            Some(left) if left.is_empty() => None,
            Some(left) => Some(Ok(left.split_to(left.len().min(PIECE_BYTES)))),
        })
    }
}

/// Lets go of what is left once nothing of it was taken for so long: nobody else could, since a connection that cannot be
/// written to does not ask for more.
async fn watch(answer: Weak<Left>, patience: Duration) {
    let mut before = usize::MAX;
    loop {
        tokio::time::sleep(patience).await;
        let Some(answer) = answer.upgrade() else { return };
        let mut left = locked(&answer);
        let now = left.as_ref().map_or(0, Bytes::len);
        // The last piece is in the buffer of the connection.
        if now == 0 {
            return;
        }
        if now == before {
            *left = None;
            metric::counters().slow_consumer("closed");
            return;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[actix_web::test]
    async fn all_of_it_comes_and_who_takes_nothing_loses_the_rest() {
        let bytes = Bytes::from(vec![b'x'; 3 * PIECE_BYTES + 7]);
        let pieces: Vec<_> = Pieces::of(bytes.clone(), PATIENCE).collect().await;
        assert_eq!(pieces.len(), 4);
        let all: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.expect("a piece")).collect();
        assert_eq!(all, bytes);

        let held = bytes.slice(..);
        drop(bytes);
        let mut slow = Pieces::of(held, Duration::from_millis(1));
        slow.next().await.expect("a piece").expect("in time");
        while locked(&slow.0).is_some() {
            tokio::task::yield_now().await;
        }
        assert!(matches!(slow.next().await, Some(Err(TooSlow))));
    }
}
