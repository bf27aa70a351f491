//! Reads WebSocket frame headers ahead of the codec, and stops what would be too large or too fragmented.
//!
//! actix-http keeps the bytes of a whole frame before it compares its length with the limit: one
//! socket that announces 1 GiB and sends it would take 1 GiB of memory. Here the announced length is enough to stop.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::Instant;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;

use crate::base::clock;
use crate::base::limits::Limit;
use crate::base::limits::Limits;

/// What the guard stopped, if anything.
pub(super) type Verdict = Rc<Cell<Option<Limit>>>;

/// The bytes of a socket, up to the first frame that breaks a bound.
pub(super) struct Guard {
    payload: Payload,
    scan: Scan,
    verdict: Verdict,
    /// How long a message may take to come, as a request's body may.
    patience: Duration,
    /// When the message began that is not whole yet: what came of it is kept.
    begun: Option<Instant>,
}

impl Guard {
    /// Guards `payload`, whose frames have at most `frame_bytes`; what it stopped is told in the verdict.
    pub(super) fn wrap(
        payload: Payload,
        frame_bytes: usize,
        limits: &Limits,
    ) -> (Payload, Verdict) {
        let verdict = Verdict::default();
        let scan = Scan::new(frame_bytes as u64, limits.socket_fragments_count);
        let patience = Duration::from_millis(limits.body_total_ms);
        let guard = Self { payload, scan, verdict: Rc::clone(&verdict), patience, begun: None };
        (Payload::Stream { payload: Box::pin(guard) }, verdict)
    }
}

impl Stream for Guard {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.verdict.get().is_some() {
            return Poll::Ready(None);
        }
        let chunk = match Pin::new(&mut self.payload).poll_next(cx) {
            Poll::Ready(Some(Ok(chunk))) => chunk,
            other => return other,
        };
        let mut scanned = self.scan.push(&chunk);
        // Whoever sends nothing any more is asked, and closed by that.
        if self.begun.is_some_and(|begun| begun.elapsed() > self.patience) {
            scanned = Err(Limit::BodyTime);
        }
        if let Err(limit) = scanned {
            self.verdict.set(Some(limit));
            return Poll::Ready(None);
        }
        let begun = self.begun.unwrap_or_else(clock::instant);
        self.begun = self.scan.is_inside().then_some(begun);
        Poll::Ready(Some(Ok(chunk)))
    }
}

/// Finds the headers in a stream of frames. Source: RFC 6455, 5.2.
struct Scan {
    frame_bytes_max: u64,
    fragments_max: usize,
    /// The header so far: at most 2 bytes, 8 of length, 4 of mask.
    header: [u8; 14],
    have: usize,
    /// Bytes of payload still to come.
    skip: u64,
    fragments: usize,
}

impl Scan {
    fn new(frame_bytes_max: u64, fragments_max: usize) -> Self {
        Self { frame_bytes_max, fragments_max, header: [0; 14], have: 0, skip: 0, fragments: 0 }
    }

    /// Whether a message has begun that is not whole.
    fn is_inside(&self) -> bool {
        self.skip > 0 || self.fragments > 0
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<(), Limit> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if self.have >= 2 && self.have == self.header_bytes() {
                self.frame()?;
                self.have = 0;
            }
        }
        Ok(())
    }

    fn length_bytes(&self) -> usize {
        match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn header_bytes(&self) -> usize {
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        2 + self.length_bytes() + mask
    }

    fn frame(&mut self) -> Result<(), Limit> {
        let length = match self.length_bytes() {
            0 => u64::from(self.header[1] & 0x7f),
            count => {
                self.header[2..2 + count].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
            }
        };
        if length > self.frame_bytes_max {
            return Err(Limit::Frame);
        }
        self.skip = length;
        let (last, control) = (self.header[0] & 0x80 != 0, self.header[0] & 0x08 != 0);
        if control {
            return Ok(());
        }
        self.fragments += 1;
        if self.fragments > self.fragments_max {
            return Err(Limit::Fragments);
        }
        if last {
            self.fragments = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut out = vec![first];
        match length {
            0..126 => out.push(0x80 | u8::try_from(length).expect("below 126")),
            126..0x1_0000 => {
                out.push(0x80 | 126);
                out.extend_from_slice(&u16::try_from(length).expect("two bytes").to_be_bytes());
            }
            _ => {
                out.push(0x80 | 127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&[1, 2, 3, 4]);
        out.extend(std::iter::repeat_n(0xff, length));
        out
    }

    #[test]
    fn an_announced_length_is_enough_to_stop() {
        let header = [0x81, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4];
        assert_eq!(Scan::new(1 << 20, 64).push(&header), Err(Limit::Frame));
    }

    #[test]
    fn fragments_are_counted_until_the_last() {
        let mut scan = Scan::new(100, 3);
        for _ in 0..10 {
            assert_eq!(
                scan.push(
                    &[frame(0x01, 0), frame(0x89, 4), frame(0x00, 5), frame(0x80, 0)].concat()
                ),
                Ok(())
            );
        }
        let flood: Vec<u8> = std::iter::repeat_n(frame(0x00, 0), 4).flatten().collect();
        assert_eq!(scan.push(&flood), Err(Limit::Fragments));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_chunks_are_cut(
            lengths in prop::collection::vec(0usize..70_000, 1..6),
            cut in 1usize..5_000,
        ) {
            let bytes: Vec<u8> = lengths.iter().flat_map(|length| frame(0x82, *length)).collect();
            let largest = *lengths.iter().max().expect("at least one") as u64;
            let run = |max| {
                let mut scan = Scan::new(max, 64);
                bytes.chunks(cut).try_for_each(|chunk| scan.push(chunk))
            };
            prop_assert_eq!(run(largest), Ok(()));
            if largest > 0 {
                prop_assert_eq!(run(largest - 1), Err(Limit::Frame));
            }
        }
    }
}
