//! Request bodies: bounded in bytes and in time, and read as JSON that names the field that is wrong.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use actix_web::FromRequest;
use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::web;
use bytes::Bytes;
use bytes::BytesMut;
use futures_util::FutureExt;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use crate::base::clock;
use crate::base::json;
use crate::base::limits::Limit;
use crate::base::limits::Limits;
use crate::base::metric;
use crate::base::told;
use crate::http::error::ApiError;
use crate::http::history::LastMessage;
use crate::http::history::Overflow;
use crate::router::Router;

/// A body as it came.
///
/// actix puts no limit on how long a body may take, so this does: on each pause and on the whole.
pub(super) struct Body(pub Bytes);

impl FromRequest for Body {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = take(request, payload, Kind::Plain);
        Box::pin(body.map(|bytes| bytes.map(Body)))
    }
}

/// A body that may hold files.
pub(super) struct LargeBody(pub Bytes);

/// A body of a client that sends the whole conversation each time: without the messages before the last one, which the
/// server has.
pub(super) struct HistoryBody(pub Bytes);

impl FromRequest for HistoryBody {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = take(request, payload, Kind::History);
        Box::pin(body.map(|bytes| bytes.map(HistoryBody)))
    }
}

/// What a body may hold.
#[derive(Clone, Copy)]
enum Kind {
    Plain,
    Large,
    History,
}

impl FromRequest for LargeBody {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = take(request, payload, Kind::Large);
        Box::pin(body.map(|bytes| bytes.map(LargeBody)))
    }
}

fn take(
    request: &HttpRequest,
    payload: &mut Payload,
    kind: Kind,
) -> impl Future<Output = Result<Bytes, ApiError>> + 'static {
    let payload = payload.take();
    let router = request.app_data::<web::Data<Router>>().cloned();
    let length = request
        .headers()
        .get("content-length")
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    async move {
        let router = router.ok_or_else(|| ApiError::new("internal", "the router is missing"))?;
        read(payload, length, router.limits(), kind).await
    }
}

fn too_large(max: usize) -> ApiError {
    metric::counters().limit_hit(Limit::Body);
    ApiError::new(Limit::Body.code(), format!("the body is larger than {max} bytes"))
}

fn too_slow() -> ApiError {
    metric::counters().limit_hit(Limit::BodyTime);
    ApiError::new(Limit::BodyTime.code(), "the body came too slowly and was given up")
}

async fn read(
    mut payload: Payload,
    length: Option<usize>,
    limits: &Limits,
    kind: Kind,
) -> Result<Bytes, ApiError> {
    let max = match kind {
        Kind::Plain => limits.body_bytes,
        Kind::Large => limits.turn_body_bytes,
        Kind::History => limits.history_body_bytes,
    };
    if length.is_some_and(|length| length > max) {
        return Err(too_large(max));
    }
    let started = clock::instant();
    let (idle, total) =
        (Duration::from_millis(limits.body_idle_ms), Duration::from_millis(limits.body_total_ms));
    let mut held = match kind {
        Kind::Plain | Kind::Large => Held::Whole(Bytes::new(), BytesMut::new()),
        Kind::History => Held::Last(LastMessage::new(limits.turn_body_bytes)),
    };
    let mut taken = 0;
    loop {
        // Most bodies are there with their head: no timer for those.
        let chunk = match payload.next().now_or_never() {
            Some(chunk) => chunk,
            None => {
                let patience = idle.min(total.saturating_sub(started.elapsed()));
                tokio::time::timeout(patience, payload.next()).await.map_err(|_| too_slow())?
            }
        };
        let Some(chunk) = chunk else { break };
        let chunk =
            chunk.map_err(|error| ApiError::invalid(format!("the body broke off: {error}")))?;
        taken += chunk.len();
        if taken > max {
            return Err(too_large(max));
        }
        held.add(chunk)?;
        if started.elapsed() > total {
            return Err(too_slow());
        }
    }
    held.finish()
}

/// What is kept of a body while it comes.
enum Held {
    /// All of it; most come in one piece, which is not copied.
    Whole(Bytes, BytesMut),
    /// What is not history.
    Last(LastMessage),
}

impl Held {
    fn add(&mut self, chunk: Bytes) -> Result<(), ApiError> {
        match self {
            Self::Whole(first, rest) if first.is_empty() && rest.is_empty() => *first = chunk,
            Self::Whole(_, rest) => rest.extend_from_slice(&chunk),
            Self::Last(last) => last.add(&chunk).map_err(|Overflow { max }| too_large(max))?,
        }
        Ok(())
    }

    fn finish(self) -> Result<Bytes, ApiError> {
        match self {
            Self::Whole(first, rest) if rest.is_empty() => Ok(first),
            Self::Whole(first, rest) => {
                let mut whole = BytesMut::with_capacity(first.len() + rest.len());
                whole.extend_from_slice(&first);
                whole.extend_from_slice(&rest);
                Ok(whole.freeze())
            }
            Self::Last(last) => {
                last.finish().map(Bytes::from).map_err(|Overflow { max }| too_large(max))
            }
        }
    }
}

/// Reads `body` as JSON.
///
/// # Errors
///
/// `invalid`, with the path of the field that is wrong.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    json::check_depth(body).map_err(|problem| {
        metric::counters().limit_hit(Limit::Depth);
        ApiError::invalid(problem)
    })?;
    if body.is_empty() {
        return Err(ApiError::invalid("the body is empty: send JSON"));
    }
    // A reader of members would take a list for their values, in their order.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Err(ApiError::invalid("the body must be an object, not a list"));
    }
    // The plain reader is faster; the one that keeps the path is for telling what is wrong.
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| ApiError::invalid(told::at("the body", &error)))?;
    reader.end().map_err(|error| ApiError::invalid(told::of("the body", &error)))?;
    Ok(value)
}
