//! `/v1/sessions/{id}/events`: the log as JSON, as a long poll, and as a stream of server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web::Data;
use actix_web::web::Path;
use bytes::Bytes;
use bytes::BytesMut;
use futures_util::stream;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::metric;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;
use crate::http::follow;
use crate::http::follow::Follower;
use crate::http::follow::Step;
use crate::http::query::Query;
use crate::http::reply;
use crate::router::Router;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Query as Ask;
use crate::wire::envelope::Request;
use crate::wire::feed::Frame;
use crate::wire::problem::Problem;
use crate::wire::rest::EventPage;

/// Longest `wait`, in seconds.
const WAIT_S_MAX: u64 = 60;
/// Bytes of one chunk of a stream, but for a single larger event.
const CHUNK_BYTES: usize = 64 << 10;
/// First bytes of a stream: proxies and clients see at once that it is open.
const OPEN: &[u8] = b": open\n\n";
const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// `?after&wait`
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// The last seq that the client has; absent: 0, so everything.
    after: Option<u64>,
    /// Seconds to wait for an event if there is none; at most 60.
    wait: Option<u64>,
}

/// Reads the log: as a stream with `Accept: text/event-stream`, else as JSON.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/events", tag = "events", operation_id = "readEvents",
    params(("id" = String, Path), EventsQuery, ("Last-Event-ID" = Option<u64>, Header, description = "wins over `after`")),
    responses((status = 200, body = EventPage<'static>), (status = "4XX", body = Problem))
)]
pub(super) async fn events(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    Query(query): Query<EventsQuery>,
    request: HttpRequest,
    router: Data<Router>,
) -> Result<HttpResponse, ApiError> {
    let target = router.target(&caller, &id)?;
    let headers = request.headers();
    let after = match headers.get("Last-Event-ID") {
        Some(value) => {
            let seq = value.to_str().ok().and_then(|value| value.parse().ok());
            Some(seq.ok_or_else(|| ApiError::invalid("`Last-Event-ID` must be a seq"))?)
        }
        None => query.after,
    };
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    if accept.contains("text/event-stream") {
        let after = Some(after.unwrap_or(0));
        if request.method() == Method::HEAD {
            router.ask(&target, Request::Query(Ask::Session)).await?;
            return Ok(stream_response().streaming(stream::empty::<Result<Bytes, Infallible>>()));
        }
        let (follower, backlog) = Follower::begin(&router, &target, after, false, "sse").await?;
        return Ok(stream_events(follower, backlog, router.limits().ping_ms));
    }
    let after = after.unwrap_or(0);
    // Nobody waits for the head of an answer.
    let wait = query.wait.filter(|_| request.method() != Method::HEAD);
    let (mut frames, mut last_seq) = match wait {
        None => match router.ask(&target, Request::Query(Ask::Events { after })).await? {
            Answer::Subscribed(backlog) => {
                let last_seq = backlog.last_seq;
                (follow::frames(target.id(), *backlog), last_seq)
            }
            other => return Ok(reply::unexpected(&other)),
        },
        Some(_) => (VecDeque::new(), 0),
    };
    if let Some(seconds) = wait {
        let (mut follower, backlog) =
            Follower::begin(&router, &target, Some(after), false, "poll").await?;
        last_seq = backlog.last_seq;
        frames = follower.frames(backlog);
        let patience = Duration::from_secs(seconds.min(WAIT_S_MAX));
        let until = tokio::time::Instant::now() + patience;
        // What is stored nowhere, as that somebody types, is not what is waited for.
        while frames.is_empty()
            && let Ok(next) = tokio::time::timeout_at(until, follower.wait()).await
            && let Step::Frames(new) = follower.take(next).await?
        {
            frames = new.into_iter().filter(|frame| frame.seq.is_some()).collect();
            last_seq = follower.seen();
        }
    }
    // As they are stored: what was accepted once is deeper in a frame than it was in a request.
    let events = frames.iter().map(|frame| serde_json::from_str(&frame.text));
    let events: Vec<&RawValue> = events
        .collect::<Result<_, _>>()
        .map_err(|error| ApiError::new("internal", format!("a stored event: {error}")))?;
    Ok(reply::json(StatusCode::OK, &EventPage { events, last_seq }))
}

/// Headers of every stream: not cached, not buffered by proxies.
pub(super) fn stream_response() -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("X-Accel-Buffering", "no"));
    response
}

struct Reader {
    follower: Follower,
    frames: VecDeque<Frame>,
    opened: bool,
    ended: bool,
    keep_alive: Duration,
}

fn stream_events(
    mut follower: Follower,
    backlog: crate::wire::envelope::Backlog,
    ping_ms: u64,
) -> HttpResponse {
    let frames = follower.frames(backlog);
    let keep_alive = Duration::from_millis(ping_ms);
    let reader = Reader { follower, frames, opened: false, ended: false, keep_alive };
    // The body is asked for more only when the socket takes it, so a slow reader holds its queue and nothing else.
    let body = stream::unfold(reader, |mut reader| async move {
        let chunk = reader.chunk().await?;
        Some((Ok::<_, Infallible>(chunk), reader))
    });
    stream_response().streaming(body)
}

impl Reader {
    async fn chunk(&mut self) -> Option<Bytes> {
        if !self.opened {
            self.opened = true;
            return Some(Bytes::from_static(OPEN));
        }
        while self.frames.is_empty() {
            if self.ended {
                return None;
            }
            let Ok(next) = tokio::time::timeout(self.keep_alive, self.follower.wait()).await else {
                return Some(Bytes::from_static(KEEP_ALIVE));
            };
            match self.follower.take(next).await {
                Ok(Step::Frames(frames)) => self.frames = frames,
                // The client reconnects with the last id it saw.
                Ok(Step::Closed(_)) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    let problem = serde_json::to_string(&ApiError::from(error).problem());
                    let problem = problem.expect("problems are plain JSON");
                    return Some(format!("event: error\ndata: {problem}\n\n").into());
                }
            }
        }
        let mut out = BytesMut::with_capacity(CHUNK_BYTES.min(self.frames.len() * 512));
        let mut count = 0;
        while let Some(frame) = self.frames.front() {
            if count > 0 && out.len() + frame.text.len() > CHUNK_BYTES {
                break;
            }
            if let Some(seq) = frame.seq {
                out.extend_from_slice(b"id: ");
                out.extend_from_slice(seq.to_string().as_bytes());
                out.extend_from_slice(b"\n");
            }
            // A frame is one line: JSON without line breaks between its tokens.
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(frame.text.as_bytes());
            out.extend_from_slice(b"\n\n");
            count += 1;
            self.frames.pop_front();
        }
        metric::counters().frames("sse").inc_by(count);
        Some(out.freeze())
    }
}
