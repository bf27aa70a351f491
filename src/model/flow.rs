//! An answer over HTTP from its request to its end: asks, asks again, reads, and stops at every bound.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use reqwest::Response;
use tokio::time::Instant;
use tokio::time::sleep_until;
use tokio::time::timeout_at;

use crate::model::Answer;
use crate::model::FailureKind;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::assembly::interrupted;
use crate::model::assembly::protocol;
use crate::model::dialect::Dialect;
use crate::model::http::Call;
use crate::model::http::Client;
use crate::model::http::Failure;
use crate::model::http::clean;
use crate::model::http::too_slow;
use crate::model::retry;
use crate::model::retry::Patience;
use crate::model::retry::RETRIES_COUNT_MAX;
use crate::model::sse;

/// Largest event of a stream, in bytes. The last event of a response repeats all of it, with its tools.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// A way to talk with a provider: how often one asks, and how its answers are read.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// What 429 means.
    pub(super) patience: Patience,
    /// A reader for one answer.
    pub(super) dialect: fn() -> Box<dyn Dialect>,
}

/// The answer to `call`. Nothing is sent before it is polled.
pub(super) fn answer(client: Client, call: Call, manner: Manner) -> Answer {
    let flow = Flow {
        client,
        deadline: None,
        phase: Phase::Ask,
        repetitions: 0,
        said: false,
        failure: None,
        dialect: (manner.dialect)(),
        manner,
        call,
    };
    Box::pin(stream::unfold(Box::new(flow), |mut flow| async move {
        let item = flow.next().await?;
        Some((item, flow))
    }))
}

/// The answer to a request that cannot even be sent.
pub(super) fn failed(error: ModelError) -> Answer {
    Box::pin(stream::iter([Err(error)]))
}

struct Flow {
    client: Client,
    call: Call,
    manner: Manner,
    /// End of the whole answer, repetitions included. Known once it is asked for.
    deadline: Option<Instant>,
    phase: Phase,
    repetitions: u32,
    /// Something was said, be it only that the answer begins, so nothing may be asked again.
    said: bool,
    /// What is said after everything that came before it.
    failure: Option<ModelError>,
    dialect: Box<dyn Dialect>,
}

enum Phase {
    Ask,
    Read(Box<Reading>),
    Over,
}

struct Reading {
    response: Response,
    parser: sse::Parser,
    /// What has come but is not looked at.
    chunk: Bytes,
    bytes_left: usize,
}

/// What went wrong, and whether asking again may help.
enum Trouble {
    /// It may, after this pause, or after one of our choice.
    Again(ModelError, Option<Duration>),
    Final(ModelError),
}

impl Flow {
    async fn next(&mut self) -> Option<Result<ModelEvent, ModelError>> {
        loop {
            if matches!(self.phase, Phase::Over) {
                return None;
            }
            if let Some(event) = self.dialect.next() {
                self.said |= !matches!(event, ModelEvent::Ping);
                if matches!(event, ModelEvent::Finish { .. }) {
                    self.phase = Phase::Over;
                }
                return Some(Ok(event));
            }
            if let Some(mut error) = self.failure.take() {
                self.phase = Phase::Over;
                error.message = clean(self.call.key.as_ref(), &error.message);
                return Some(Err(error));
            }
            let deadline =
                *self.deadline.get_or_insert_with(|| Instant::now() + self.call.bounds.total);
            if let Err(trouble) = self.step(deadline).await {
                self.failure = self.recover(trouble, deadline).await;
            }
        }
    }

    /// Gets on by one request or one event.
    async fn step(&mut self, deadline: Instant) -> Result<(), Trouble> {
        match &mut self.phase {
            Phase::Ask => {
                let asked = self.client.ask(&self.call, deadline).await;
                let response = asked.map_err(|failure| self.judge(failure))?;
                let bytes_left = self.call.bounds.bytes;
                let parser = sse::Parser::new(EVENT_BYTES_MAX.min(bytes_left));
                let reading = Reading { response, parser, chunk: Bytes::new(), bytes_left };
                self.phase = Phase::Read(Box::new(reading));
                Ok(())
            }
            Phase::Read(reading) => {
                let read = read(reading, &self.call, deadline).await;
                match read {
                    Ok(Some(event)) => self.dialect.take(&event),
                    Ok(None) => self.dialect.end(),
                    // An answer that is whole stays so, even if the connection does not end as it should.
                    Err(error) => self.dialect.end().map_err(|_| error),
                }
                .map_err(transient)
            }
            Phase::Over => Ok(()),
        }
    }

    fn judge(&self, failure: Failure) -> Trouble {
        match failure {
            Failure::Refused(refusal) if refusal.is_worth_retrying(self.manner.patience) => {
                let after = refusal.error.retry_after;
                Trouble::Again(refusal.error, after)
            }
            Failure::Refused(refusal) => Trouble::Final(refusal.error),
            Failure::Unreached(error) => Trouble::Again(error, None),
            Failure::Final(error) => Trouble::Final(error),
        }
    }

    /// Waits and makes ready to ask again, or gives back why that is no use.
    ///
    /// If the provider asks for a pause that is longer than the longest silence that the request allows, it is not waited
    /// for; whoever asked knows better what to do with it.
    async fn recover(&mut self, trouble: Trouble, deadline: Instant) -> Option<ModelError> {
        let (error, after) = match trouble {
            Trouble::Final(error) => return Some(error),
            Trouble::Again(error, after) => (error, after),
        };
        let too_long = after.is_some_and(|after| after > self.call.bounds.idle);
        if self.said || too_long || self.repetitions >= RETRIES_COUNT_MAX {
            return Some(error);
        }
        let pause = after.unwrap_or_else(|| {
            // Two of these differ: it is what hash maps are seeded with.
            retry::pause(self.repetitions, RandomState::new().hash_one(self.repetitions))
        });
        let until = Instant::now().checked_add(pause).filter(|until| *until < deadline);
        let Some(until) = until else { return Some(error) };
        tracing::debug!(
            model.provider = %self.call.provider,
            "{} is asked again in {} ms", self.call.provider, pause.as_millis()
        );
        self.phase = Phase::Ask;
        self.repetitions += 1;
        self.dialect = (self.manner.dialect)();
        sleep_until(until).await;
        None
    }
}

/// The next event; `None` at the end of the stream.
async fn read(
    reading: &mut Reading,
    call: &Call,
    deadline: Instant,
) -> Result<Option<sse::Event>, ModelError> {
    loop {
        let mut rest: &[u8] = &reading.chunk;
        let event = reading.parser.next(&mut rest);
        let taken = reading.chunk.len() - rest.len();
        drop(reading.chunk.split_to(taken));
        match event {
            Ok(Some(event)) => return Ok(Some(event)),
            Ok(None) => {}
            Err(error @ sse::Error::TooLarge(_)) => {
                return Err(ModelError::new(FailureKind::Limit, error.to_string()));
            }
            Err(error @ sse::Error::NotText) => return Err(protocol(error.to_string())),
        }
        // A timeout alone does not end a stream that always has more.
        if Instant::now() >= deadline {
            return Err(too_slow(call));
        }
        let patience = (Instant::now() + call.bounds.idle).min(deadline);
        let chunk = match timeout_at(patience, reading.response.chunk()).await {
            Err(_) => return Err(too_slow(call)),
            Ok(Err(_)) => return Err(interrupted()),
            Ok(Ok(None)) => return Ok(None),
            Ok(Ok(Some(chunk))) => chunk,
        };
        let Some(left) = reading.bytes_left.checked_sub(chunk.len()) else {
            let problem = format!("the answer is larger than {} bytes", call.bounds.bytes);
            return Err(ModelError::new(FailureKind::Limit, problem));
        };
        reading.bytes_left = left;
        reading.chunk = chunk;
    }
}

/// Whether a stream that broke may be asked for again, provided that nothing was said.
fn transient(error: ModelError) -> Trouble {
    match error.kind {
        FailureKind::Unavailable | FailureKind::Interrupted => Trouble::Again(error, None),
        _ => Trouble::Final(error),
    }
}
