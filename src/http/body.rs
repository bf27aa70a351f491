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
use crate::http::error::ApiError;
use crate::router::Router;

/// A body as it came.
///
/// actix puts no limit on how long a body may take, so this does: on each pause and on the whole.
pub(super) struct Body(pub Bytes);

impl FromRequest for Body {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = take(request, payload, |limits| limits.body_bytes);
        Box::pin(body.map(|bytes| bytes.map(Body)))
    }
}

/// A body that may hold a whole conversation, or files.
pub(super) struct LargeBody(pub Bytes);

impl FromRequest for LargeBody {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = take(request, payload, |limits| limits.turn_body_bytes);
        Box::pin(body.map(|bytes| bytes.map(LargeBody)))
    }
}

fn take(
    request: &HttpRequest,
    payload: &mut Payload,
    max: fn(&Limits) -> usize,
) -> impl Future<Output = Result<Bytes, ApiError>> + 'static {
    let payload = payload.take();
    let router = request.app_data::<web::Data<Router>>().cloned();
    let length = request
        .headers()
        .get("content-length")
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    async move {
        let router = router.ok_or_else(|| ApiError::new("internal", "the router is missing"))?;
        read(payload, length, router.limits(), max(router.limits())).await
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
    max: usize,
) -> Result<Bytes, ApiError> {
    if length.is_some_and(|length| length > max) {
        return Err(too_large(max));
    }
    let started = clock::instant();
    let (idle, total) =
        (Duration::from_millis(limits.body_idle_ms), Duration::from_millis(limits.body_total_ms));
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
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
        if first.as_ref().map_or(0, Bytes::len) + rest.len() + chunk.len() > max {
            return Err(too_large(max));
        }
        if first.is_none() {
            first = Some(chunk);
        } else {
            rest.extend_from_slice(&chunk);
        }
        if started.elapsed() > total {
            return Err(too_slow());
        }
    }
    let first = first.unwrap_or_default();
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
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
    // The plain reader is faster; the one that keeps the path is for telling what is wrong.
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| ApiError::invalid(format!("the body is not acceptable: {error}")))?;
    reader
        .end()
        .map_err(|error| ApiError::invalid(format!("the body is not acceptable: {error}")))?;
    Ok(value)
}
