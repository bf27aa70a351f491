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

/// Most bytes that an answer says, for each byte that one part of it may have: it has several, and what goes back unseen.
const TOLD_FACTOR: usize = 4;
/// Most bytes on the wire, for the same: a word comes in an envelope of a hundred times its size.
const WIRE_FACTOR: usize = 128;
/// How long a server may be silent that has said all but that it is done. Some say neither that nor close the connection.
const DONE_TIME: Duration = Duration::from_secs(5);

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
        told_bytes: 0,
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
    /// Bytes of what was said.
    told_bytes: usize,
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
    shape: Shape,
    /// What has come but is not looked at.
    chunk: Bytes,
    bytes_left: usize,
}

/// What comes, whatever the headers say.
enum Shape {
    /// Nothing but white space so far.
    Unknown,
    /// Events.
    Stream,
    /// A whole answer as JSON: the server does not stream. This is what came of it.
    Whole(Vec<u8>),
}

/// What was read.
enum Read {
    Event(sse::Event),
    /// The stream is over; an event that its end cut off.
    End(Option<sse::Event>),
    /// A whole answer.
    Whole(String),
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
                self.told_bytes += event.weight();
                if self.told_bytes > self.call.bounds.bytes.saturating_mul(TOLD_FACTOR) {
                    self.phase = Phase::Over;
                    return Some(Err(too_large()));
                }
                self.said |= !matches!(event, ModelEvent::Ping);
                if matches!(event, ModelEvent::Finish { .. }) {
                    self.phase = Phase::Over;
                }
                return Some(Ok(event));
            }
            if let Some(mut error) = self.failure.take() {
                self.phase = Phase::Over;
                error.message = clean(&self.call.keys, &error.message);
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
                if let Err(Failure::Refused(refusal)) = &asked
                    && refusal.may_be_about_files()
                    && let Some(plain) = self.call.plain.take()
                {
                    let (provider, error) = (&self.call.provider, &refusal.error);
                    tracing::warn!(model.provider = %provider, "{error}; it is asked without the files");
                    self.call.body = plain;
                    return Ok(());
                }
                let response = asked.map_err(|failure| self.judge(failure))?;
                let bytes_left = self.call.bounds.bytes.saturating_mul(WIRE_FACTOR);
                let parser = sse::Parser::new(EVENT_BYTES_MAX.min(bytes_left));
                let (chunk, shape) = (Bytes::new(), Shape::Unknown);
                let reading = Reading { response, parser, shape, chunk, bytes_left };
                self.phase = Phase::Read(Box::new(reading));
                Ok(())
            }
            Phase::Read(reading) => {
                // Comments alone do not keep an answer open of which all is said.
                let done = self.dialect.may_be_over().then(|| Instant::now() + DONE_TIME);
                let until = done.map_or(deadline, |done| done.min(deadline));
                let read = read(reading, &self.call, until).await;
                match read {
                    Ok(Read::Event(event)) => self.dialect.take(&event),
                    Ok(Read::End(None)) => self.dialect.end(),
                    Ok(Read::End(Some(event))) => match self.dialect.take(&event) {
                        // It was cut off.
                        Err(error) if error.kind == FailureKind::Protocol => self.dialect.end(),
                        Err(error) => Err(error),
                        Ok(()) => self.dialect.end(),
                    },
                    Ok(Read::Whole(body)) => self.dialect.whole(&body).map_err(|error| {
                        let kind = match error.kind {
                            FailureKind::Other => FailureKind::Protocol,
                            kind => kind,
                        };
                        ModelError { kind, ..error }
                    }),
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
    /// If the provider asks for a pause that is longer than the longest silence that the request allows, or than
    /// [`retry::PAUSE_ASKED_MAX`], it is not waited for; whoever asked knows better what to do with it.
    async fn recover(&mut self, trouble: Trouble, deadline: Instant) -> Option<ModelError> {
        let (error, after) = match trouble {
            Trouble::Final(error) => return Some(error),
            Trouble::Again(error, after) => (error, after),
        };
        let longest = self.call.bounds.idle.min(retry::PAUSE_ASKED_MAX);
        let too_long = after.is_some_and(|after| after > longest);
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

/// What comes next, at the latest by `deadline`.
async fn read(reading: &mut Reading, call: &Call, deadline: Instant) -> Result<Read, ModelError> {
    loop {
        if let Some(event) = reading.event()? {
            return Ok(Read::Event(event));
        }
        // A timeout alone does not end a stream that always has more.
        if Instant::now() >= deadline {
            return Err(too_slow(call));
        }
        let patience = (Instant::now() + call.bounds.idle).min(deadline);
        let chunk = match timeout_at(patience, reading.response.chunk()).await {
            Err(_) => return Err(too_slow(call)),
            Ok(Err(_)) => return Err(interrupted()),
            Ok(Ok(None)) => return reading.end(),
            Ok(Ok(Some(chunk))) => chunk,
        };
        let whole = matches!(&reading.shape, Shape::Whole(body)
            if body.len() + chunk.len() > call.bounds.bytes.saturating_mul(TOLD_FACTOR));
        let left = reading.bytes_left.checked_sub(chunk.len()).filter(|_| !whole);
        let Some(left) = left else {
            return Err(too_large());
        };
        reading.bytes_left = left;
        reading.chunk = chunk;
    }
}

impl Reading {
    /// The next event of what has come; `None` if more must come first.
    fn event(&mut self) -> Result<Option<sse::Event>, ModelError> {
        if let Shape::Unknown = self.shape {
            let blank = self.chunk.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            match self.chunk.get(blank) {
                None => {}
                Some(b'{') => self.shape = Shape::Whole(Vec::new()),
                Some(_) => self.shape = Shape::Stream,
            }
        }
        if let Shape::Whole(body) = &mut self.shape {
            body.extend_from_slice(&std::mem::take(&mut self.chunk));
            return Ok(None);
        }
        let mut rest: &[u8] = &self.chunk;
        let event = self.parser.next(&mut rest);
        let taken = self.chunk.len() - rest.len();
        drop(self.chunk.split_to(taken));
        event.map_err(unreadable)
    }

    /// What the end of the connection makes of what has come.
    fn end(&mut self) -> Result<Read, ModelError> {
        if let Shape::Whole(body) = &mut self.shape {
            let body = String::from_utf8(std::mem::take(body));
            return body.map(Read::Whole).map_err(|_| unreadable(sse::Error::NotText));
        }
        self.parser.finish().map(Read::End).map_err(unreadable)
    }
}

fn too_large() -> ModelError {
    ModelError::new(FailureKind::Limit, "the answer is too large")
}

fn unreadable(error: sse::Error) -> ModelError {
    match error {
        sse::Error::TooLarge(_) => ModelError::new(FailureKind::Limit, error.to_string()),
        sse::Error::NotText => protocol(error.to_string()),
    }
}

/// Whether a stream that broke may be asked for again, provided that nothing was said.
fn transient(error: ModelError) -> Trouble {
    match error.kind {
        FailureKind::Unavailable | FailureKind::Interrupted => Trouble::Again(error, None),
        _ => Trouble::Final(error),
    }
}
