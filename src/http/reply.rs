//! From what an actor answers to a response.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::HttpResponseBuilder;
use actix_web::http::StatusCode;
use actix_web::http::header;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::TryStreamExt;
use serde::Serialize;

use crate::base::ids::IdempotencyKey;
use crate::base::ids::Name;
use crate::domain::session::Command;
use crate::domain::session::Rejection;
use crate::http::error::ApiError;
use crate::http::large;
use crate::wire::ask::Idempotency;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Request;

/// Header that marks the stored answer to an earlier request.
const REPLAYED: &str = "Idempotent-Replayed";

/// A JSON response.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> HttpResponse {
    match serde_json::to_vec(value) {
        Ok(body) => whole(status, body.into()),
        Err(error) => HttpResponse::from_error(ApiError::new("internal", error.to_string())),
    }
}

/// A response whose JSON is made already.
pub(super) fn bytes(body: Bytes) -> HttpResponse {
    whole(StatusCode::OK, body)
}

fn whole(status: StatusCode, body: Bytes) -> HttpResponse {
    match body.len() > large::BYTES_MIN {
        true => builder(status).body(large::body(body)),
        false => builder(status).body(body),
    }
}

/// A response whose JSON is made while it is read.
pub(super) fn streamed(body: impl Stream<Item = Result<Bytes, Error>> + 'static) -> HttpResponse {
    let pieces = body
        .map_err(Box::<dyn std::error::Error>::from)
        .map_ok(|bytes| large::pieces(bytes).map_err(Box::<dyn std::error::Error>::from))
        .try_flatten();
    builder(StatusCode::OK).streaming(pieces)
}

fn builder(status: StatusCode) -> HttpResponseBuilder {
    let mut builder = HttpResponse::build(status);
    builder.insert_header((header::CONTENT_TYPE, "application/json"));
    builder
}

/// The response to a change of the session `id`.
pub(super) fn changed(answer: Answer, id: &str) -> HttpResponse {
    match answer {
        Answer::Message { json, created, replayed, .. } => {
            let mut builder = builder(if created { StatusCode::CREATED } else { StatusCode::OK });
            if replayed {
                builder.insert_header((REPLAYED, "true"));
            }
            builder.body(json.into_bytes())
        }
        Answer::Replayed { status, json, .. } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            let mut builder = builder(status);
            builder.insert_header((REPLAYED, "true"));
            if status == StatusCode::NO_CONTENT {
                builder.finish()
            } else {
                builder.body(json.into_bytes())
            }
        }
        Answer::Session { head, created } => {
            json(if created { StatusCode::CREATED } else { StatusCode::OK }, &head.session(id))
        }
        Answer::Done { .. } => HttpResponse::NoContent().finish(),
        other => unexpected(&other),
    }
}

/// Marks the stored answer to an earlier request.
pub(super) fn mark_replayed(response: &mut HttpResponse) {
    let name = header::HeaderName::from_static("idempotent-replayed");
    response.headers_mut().insert(name, header::HeaderValue::from_static("true"));
}

/// The response to an answer of a kind that the request cannot have.
pub(super) fn unexpected(answer: &Answer) -> HttpResponse {
    let error = ApiError::new("internal", "the session gave an answer of the wrong kind");
    tracing::error!("an answer of the wrong kind: {answer:?}");
    HttpResponse::from_error(error)
}

/// The idempotency key of `request`, if it has one.
///
/// The header may be quoted, as the expired draft has it, or bare, as everybody sends it.
pub(super) fn key(request: &HttpRequest) -> Result<Option<IdempotencyKey>, ApiError> {
    let Some(value) = request.headers().get("Idempotency-Key") else { return Ok(None) };
    // Bytes that are no UTF-8 are no key either.
    let key = std::str::from_utf8(value.as_bytes()).unwrap_or_default();
    let key = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
    let key = IdempotencyKey::new(key).map_err(Rejection::misnamed("Idempotency-Key"))?;
    Ok(Some(key))
}

/// What a segment of the path names, where it is not a session.
pub(super) fn name(field: &'static str, segment: String) -> Result<Name, Rejection> {
    Name::new(segment).map_err(Rejection::misnamed(field))
}

/// The request to carry out `command`, once for its key.
pub(super) fn once(request: &HttpRequest, command: Command) -> Result<Request, ApiError> {
    let idempotency = key(request)?.map(|key| Idempotency::new(key, &command));
    Ok(Request::Command(command, idempotency))
}
