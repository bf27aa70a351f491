//! The routes of the AI SDK: `useChat` of v4 to v7 works with these unchanged.

use std::collections::VecDeque;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web::Data;
use actix_web::web::Path;
use serde::Deserialize;
use serde::Serialize;

use crate::auth::Caller;
use crate::base::ids;
use crate::base::ids::IdempotencyKey;
use crate::base::limits::PAGE_BYTES_MAX;
use crate::base::limits::PAGE_MAX;
use crate::domain::session::Direction;
use crate::domain::session::Head;
use crate::domain::session::Input;
use crate::domain::session::Message;
use crate::domain::session::NewMessage;
use crate::domain::session::NewTurn;
use crate::domain::session::Rejection;
use crate::domain::session::Role;
use crate::domain::session::Status;
use crate::domain::session::TurnOptions;
use crate::http::answer::Watcher;
use crate::http::body;
use crate::http::body::HistoryBody;
use crate::http::body::LargeBody;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;
use crate::http::messages::page_limit;
use crate::http::messages::page_query;
use crate::http::query::Query;
use crate::http::reply;
use crate::http::turns;
use crate::http::turns::Begun;
use crate::protocol::Encoder;
use crate::protocol::ui::Chunks;
use crate::protocol::ui::Lines;
use crate::protocol::ui::Protocol;
use crate::protocol::ui::Sse;
use crate::protocol::ui::Text;
use crate::protocol::ui::UiMessage;
use crate::protocol::ui::UiRequest;
use crate::router::Router;
use crate::router::Target;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Query as Ask;
use crate::wire::envelope::Request;

type Response = Result<HttpResponse, ApiError>;

/// Messages that are read at once.
const AT_ONCE: usize = 25;

/// `?protocol`
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ProtocolQuery {
    /// `v4`, `ui` or `text`; by default what the body looks like.
    #[param(inline)]
    protocol: Option<Protocol>,
}

/// Carries out what a client of the AI SDK posts, once for `key`.
///
/// # Errors
///
/// Why nothing was begun; nothing is stored then.
pub(super) async fn begin(
    router: &Router,
    target: &Target,
    request: UiRequest,
    protocol: Protocol,
    key: Option<IdempotencyKey>,
) -> Result<Begun, ApiError> {
    let options = request.options();
    let model = options.model.clone().unwrap_or_else(|| router.default_model().to_owned());
    let input = request.into_input(protocol).map_err(ApiError::invalid)?;
    turns::begin(router, target, NewTurn { input, options, model, titled: true }, key).await
}

/// The id of a session that a request does not name: its key does, so that a repeat finds what it began.
pub(super) fn unnamed(caller: &Caller, key: Option<&IdempotencyKey>) -> String {
    match key {
        Some(key) => ids::derived(&[caller.workspace(), caller.user(), "chat", key.as_str()]),
        None => ids::fresh(),
    }
}

/// Begins an answer and streams it, in the protocol that the client speaks.
#[utoipa::path(
    post, path = "/api/chat", request_body = UiRequest, params(ProtocolQuery), tag = "ai-sdk", operation_id = "uiChat",
    responses((status = 200, description = "a UI message stream, or data stream lines of v4"), (status = "4XX"))
)]
pub(super) async fn say(
    Authenticated(caller): Authenticated,
    Query(query): Query<ProtocolQuery>,
    http: HttpRequest,
    HistoryBody(bytes): HistoryBody,
    router: Data<Router>,
) -> Response {
    let key = reply::key(&http)?;
    let request: UiRequest = body::parse(&bytes)?;
    let id = request.session_id.clone().or_else(|| request.id.clone());
    let id = id.filter(|id| !id.is_empty()).unwrap_or_else(|| unnamed(&caller, key.as_ref()));
    let target = router.target(&caller, &id)?;
    let protocol = query.protocol.unwrap_or_else(|| request.protocol());
    let begun = begin(&router, &target, request, protocol, key).await?;
    stream(&router, &target, begun, protocol).await
}

async fn stream(router: &Router, target: &Target, begun: Begun, protocol: Protocol) -> Response {
    let Begun { turn, after, replayed } = begun;
    let chunks = Chunks::of(&turn);
    let mut response = match protocol {
        Protocol::Ui => send(router, target, after, Sse(chunks), protocol).await?,
        Protocol::V4 => {
            let lines = Lines::new(chunks, turn.message_id);
            send(router, target, after, lines, protocol).await?
        }
        Protocol::Text => send(router, target, after, Text(chunks), protocol).await?,
    };
    if replayed {
        reply::mark_replayed(&mut response);
    }
    Ok(response)
}

async fn send(
    router: &Router,
    target: &Target,
    after: u64,
    encoder: impl Encoder + 'static,
    protocol: Protocol,
) -> Response {
    let mut watcher = Watcher::begin(router, target, after, encoder, "ui").await?;
    if protocol == Protocol::Ui {
        watcher = watcher.saying(": stream-open\n\n".to_owned());
    }
    Ok(response(protocol, target).streaming(watcher.into_body()))
}

fn response(protocol: Protocol, target: &Target) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    let content_type = match protocol {
        Protocol::Ui => {
            response.insert_header(("x-vercel-ai-ui-message-stream", "v1"));
            "text/event-stream"
        }
        Protocol::V4 => {
            response.insert_header(("x-vercel-ai-data-stream", "v1"));
            "text/plain; charset=utf-8"
        }
        Protocol::Text => "text/plain; charset=utf-8",
    };
    response
        .content_type(content_type)
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header(("x-accel-buffering", "no"));
    response.insert_header(("x-session-id", target.name().in_header()));
    response
}

async fn head(router: &Router, target: &Target) -> Result<Option<Head>, ApiError> {
    match router.ask(target, Request::Query(Ask::Session)).await {
        Ok(Answer::Session { head, .. }) => Ok(Some(*head)),
        Err(Error::Rejected(rejection)) if *rejection == Rejection::SessionNotFound => Ok(None),
        Err(error) => Err(error.into()),
        Ok(other) => {
            Err(ApiError::new("internal", format!("an answer of the wrong kind: {other:?}")))
        }
    }
}

/// The turn that is being written, and where the log of its message begins; `None` if nothing runs.
///
/// # Errors
///
/// What the session answers.
pub(super) async fn running(router: &Router, target: &Target) -> Result<Option<Begun>, ApiError> {
    let active = head(router, target).await?.and_then(|head| head.active_turn);
    let Some(turn) = active.filter(|turn| turn.state.is_active()) else { return Ok(None) };
    let id = turn.message_id.clone();
    match router.ask(target, Request::Query(Ask::Message(id))).await {
        Ok(Answer::Found(message)) => {
            Ok(Some(Begun { turn, after: message.seq - 1, replayed: false }))
        }
        // It was removed meanwhile, with the session perhaps.
        Ok(_) | Err(Error::Rejected(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Streams the answer that is being written, from its start; 204 if there is none.
#[utoipa::path(
    get, path = "/api/chat/{id}/stream", params(("id" = String, Path), ProtocolQuery), tag = "ai-sdk", operation_id = "uiResume",
    responses((status = 200, description = "a UI message stream"), (status = 204))
)]
pub(super) async fn resume(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    Query(query): Query<ProtocolQuery>,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    match running(&router, &target).await? {
        None => Ok(HttpResponse::NoContent().finish()),
        Some(begun) => {
            stream(&router, &target, begun, query.protocol.unwrap_or(Protocol::Ui)).await
        }
    }
}

/// `?chatId`
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResumeV4 {
    /// The chat; v4 does not encode it.
    chat_id: Option<String>,
}

/// As `/stream`, for v4; an empty body if nothing runs.
#[utoipa::path(
    get, path = "/api/chat", params(ResumeV4), tag = "ai-sdk", operation_id = "uiResumeV4",
    responses((status = 200, description = "data stream lines"))
)]
pub(super) async fn resume_v4(
    Authenticated(caller): Authenticated,
    Query(query): Query<ResumeV4>,
    router: Data<Router>,
) -> Response {
    let id = query.chat_id.ok_or_else(|| ApiError::invalid("`chatId` is missing"))?;
    let target = router.target(&caller, &id)?;
    match running(&router, &target).await? {
        None => Ok(response(Protocol::V4, &target).finish()),
        Some(begun) => stream(&router, &target, begun, Protocol::V4).await,
    }
}

/// `POST /api/chat/{id}/stop`
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct StopRequest {
    /// The turn to stop; absent: whichever runs.
    active_stream_id: Option<String>,
}

/// Whether something was stopped.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = UiStopped)]
pub(super) struct Stopped {
    /// False if nothing ran.
    stopped: bool,
}

/// Stops the answer that is being written; what it said is stored when this answers.
#[utoipa::path(
    post, path = "/api/chat/{id}/stop", request_body = StopRequest, params(("id" = String, Path)), tag = "ai-sdk", operation_id = "uiStop",
    responses((status = 200, body = Stopped))
)]
pub(super) async fn stop(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    http: HttpRequest,
    LargeBody(bytes): LargeBody,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let request: StopRequest = match bytes.is_empty() {
        true => StopRequest::default(),
        false => body::parse(&bytes)?,
    };
    let (turn_id, key) = (request.active_stream_id, reply::key(&http)?);
    let (turn, replayed) = turns::stop_turn(&router, &target, turn_id, key).await?;
    let mut response = reply::json(StatusCode::OK, &Stopped { stopped: turn.is_some() });
    if replayed {
        reply::mark_replayed(&mut response);
    }
    Ok(response)
}

/// The messages of a chat.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UiMessages)]
pub(super) struct Messages {
    /// As `useChat` takes them, oldest first.
    #[schema(value_type = Vec<Object>)]
    messages: Vec<UiMessage>,
    /// Whether an answer is being written.
    active: bool,
    /// Whether there are older ones.
    has_more: bool,
}

/// `?limit&before`
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct MessagesQuery {
    /// 1 to 200; 200 if absent. Fewer come where they are large.
    #[param(value_type = Option<u32>)]
    limit: Option<String>,
    /// The id of a message: only older ones.
    before: Option<String>,
}

/// The latest messages of a chat, oldest first, without the one that is being written: resuming brings that one. If
/// `hasMore`, there are older ones: read on with the id of the first as `before`.
#[utoipa::path(
    get, path = "/api/chat/{id}/messages", params(("id" = String, Path), MessagesQuery), tag = "ai-sdk", operation_id = "uiMessages",
    responses((status = 200, body = Messages))
)]
pub(super) async fn messages(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    Query(query): Query<MessagesQuery>,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let MessagesQuery { limit, before } = query;
    let limit = page_limit(limit.as_deref(), PAGE_MAX)?;
    Ok(reply::json(StatusCode::OK, &page(&router, &target, before, limit).await?))
}

/// The latest messages before the one called `before`, oldest first: at most `limit` and [`PAGE_BYTES_MAX`], one at
/// least.
async fn page(
    router: &Router,
    target: &Target,
    before: Option<String>,
    limit: usize,
) -> Result<Messages, ApiError> {
    let (mut found, mut bytes, mut active) = (VecDeque::new(), 0, false);
    let done = |found: VecDeque<Message>, active, has_more| {
        let messages = found.into_iter().map(UiMessage::from).collect();
        Ok(Messages { messages, active, has_more })
    };
    let mut query = page_query(target, before.filter(|id| !id.is_empty()), false, AT_ONCE, false);
    loop {
        let page = match router.ask(target, Request::Query(query)).await {
            Ok(Answer::Page(page)) => page,
            Err(Error::Rejected(rejection)) if *rejection == Rejection::SessionNotFound => {
                return done(found, active, false);
            }
            Err(Error::Rejected(rejection)) if *rejection == Rejection::MessageNotFound => {
                let detail = "`before` takes the id of a message of this chat";
                return Err(ApiError::new("cursor_unknown", detail));
            }
            Err(error) => return Err(error.into()),
            Ok(other) => {
                return Err(ApiError::new("internal", format!("of the wrong kind: {other:?}")));
            }
        };
        for message in page.page.messages.iter().rev() {
            active |= message.status == Status::Streaming;
            if matches!(message.status, Status::Streaming | Status::Deleted) {
                continue;
            }
            bytes += message.bytes();
            if found.len() == limit || (bytes > PAGE_BYTES_MAX && !found.is_empty()) {
                return done(found, active, true);
            }
            found.push_front(message.clone());
        }
        match page.page.messages.first() {
            Some(oldest) if page.page.more => {
                let direction = Direction::Before(oldest.seq);
                query = Ask::Page { direction, limit: AT_ONCE, settled: false };
            }
            _ => return done(found, active, false),
        }
    }
}

/// `POST /api/completion`
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct Completion {
    /// What is to be completed.
    prompt: String,
    /// Who is to answer: `provider/model`.
    model: Option<String>,
}

/// Answers a prompt in a session of its own, for `useCompletion`.
#[utoipa::path(
    post, path = "/api/completion", request_body = Completion, params(ProtocolQuery), tag = "ai-sdk", operation_id = "uiCompletion",
    responses((status = 200, description = "a UI message stream, or plain text"))
)]
pub(super) async fn complete(
    Authenticated(caller): Authenticated,
    Query(query): Query<ProtocolQuery>,
    http: HttpRequest,
    LargeBody(bytes): LargeBody,
    router: Data<Router>,
) -> Response {
    let Completion { prompt, model } = body::parse(&bytes)?;
    if prompt.trim().is_empty() {
        return Err(ApiError::invalid("`prompt` is empty"));
    }
    let key = reply::key(&http)?;
    let target = router.target(&caller, &unnamed(&caller, key.as_ref()))?;
    let model = model.unwrap_or_else(|| router.default_model().to_owned());
    let message = NewMessage {
        id: None,
        role: Role::User,
        content: prompt,
        parts: Vec::new(),
        metadata: None,
    };
    let input = Input::Message { message, edit: false };
    let turn = NewTurn { input, options: TurnOptions::default(), model, titled: true };
    let begun = turns::begin(&router, &target, turn, key).await?;
    stream(&router, &target, begun, query.protocol.unwrap_or(Protocol::Ui)).await
}
