//! The routes of the AI SDK: `useChat` of v4 to v7 works with these unchanged.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web::Data;
use actix_web::web::Path;
use serde::Deserialize;
use serde::Serialize;

use crate::auth::Caller;
use crate::base::ids;
use crate::domain::session::Command;
use crate::domain::session::Direction;
use crate::domain::session::Head;
use crate::domain::session::Input;
use crate::domain::session::NewMessage;
use crate::domain::session::NewTurn;
use crate::domain::session::Rejection;
use crate::domain::session::Role;
use crate::domain::session::Status;
use crate::domain::session::Turn;
use crate::domain::session::TurnOptions;
use crate::http::answer::Watcher;
use crate::http::body;
use crate::http::body::LargeBody;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;
use crate::http::query::Query;
use crate::http::reply;
use crate::http::turns;
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

/// Messages of a chat that are given at once; a client that has more of them reads pages.
const MESSAGES_MAX: usize = 1_000;

/// `?protocol`
#[derive(Deserialize, utoipa::IntoParams)]
pub(super) struct ProtocolQuery {
    /// `v4`, `ui` or `text`; by default what the body looks like.
    #[param(inline)]
    protocol: Option<Protocol>,
}

/// A turn that was begun, and where its log begins.
pub(super) struct Begun {
    pub turn: Turn,
    pub after: u64,
}

/// Carries out what a client of the AI SDK posts.
///
/// # Errors
///
/// Why nothing was begun; nothing is stored then.
pub(super) async fn begin(
    router: &Router,
    target: &Target,
    request: UiRequest,
    protocol: Protocol,
) -> Result<Begun, ApiError> {
    let model = request.model.clone().unwrap_or_else(|| router.default_model().to_owned());
    router.check_model(&model, &request.text())?;
    let input = request.into_input(protocol).map_err(ApiError::invalid)?;
    start(router, target, input, TurnOptions::default(), model).await
}

/// Begins a turn.
pub(super) async fn start(
    router: &Router,
    target: &Target,
    input: Input,
    options: TurnOptions,
    model: String,
) -> Result<Begun, ApiError> {
    let turn = NewTurn { input, options, model, titled: true };
    let command = Command::StartTurn(Box::new(turn));
    match router.ask(target, Request::Command(command, None)).await? {
        Answer::Turn { turn, seq } => Ok(Begun { turn: *turn, after: seq - 1 }),
        other => Err(ApiError::new("internal", format!("an answer of the wrong kind: {other:?}"))),
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
    LargeBody(bytes): LargeBody,
    router: Data<Router>,
) -> Response {
    let request: UiRequest = body::parse(&bytes)?;
    let id = request.session_id.clone().or_else(|| request.id.clone());
    let id = id.filter(|id| !id.is_empty()).unwrap_or_else(ids::fresh);
    let target = router.target(&caller, &id)?;
    let protocol = query.protocol.unwrap_or_else(|| request.protocol());
    let begun = begin(&router, &target, request, protocol).await?;
    stream(&router, &target, begun, protocol).await
}

async fn stream(router: &Router, target: &Target, begun: Begun, protocol: Protocol) -> Response {
    let Begun { turn, after } = begun;
    let chunks = Chunks::of(&turn);
    match protocol {
        Protocol::Ui => send(router, target, after, Sse(chunks), protocol).await,
        Protocol::V4 => {
            let lines = Lines::new(chunks, turn.message_id);
            send(router, target, after, lines, protocol).await
        }
        Protocol::Text => send(router, target, after, Text(chunks), protocol).await,
    }
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
        Ok(Answer::Found(message)) => Ok(Some(Begun { turn, after: message.seq - 1 })),
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
    LargeBody(bytes): LargeBody,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let request: StopRequest = match bytes.is_empty() {
        true => StopRequest::default(),
        false => body::parse(&bytes)?,
    };
    let stopped = turns::stop_turn(&router, &target, request.active_stream_id).await?;
    Ok(reply::json(StatusCode::OK, &Stopped { stopped: stopped.is_some() }))
}

/// The messages of a chat.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = UiMessages)]
pub(super) struct Messages {
    /// As `useChat` takes them, oldest first.
    #[schema(value_type = Vec<Object>)]
    messages: Vec<UiMessage>,
    /// Whether an answer is being written.
    active: bool,
}

/// The messages of a chat, without the one that is being written: resuming brings that one.
#[utoipa::path(
    get, path = "/api/chat/{id}/messages", params(("id" = String, Path)), tag = "ai-sdk", operation_id = "uiMessages",
    responses((status = 200, body = Messages))
)]
pub(super) async fn messages(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let all =
        Ask::Page { direction: Direction::Before(u64::MAX), limit: MESSAGES_MAX, settled: false };
    let messages = match router.ask(&target, Request::Query(all)).await {
        Ok(Answer::Page(page)) => page.page.messages.clone(),
        Err(Error::Rejected(rejection)) if *rejection == Rejection::SessionNotFound => Vec::new(),
        Err(error) => return Err(error.into()),
        Ok(other) => return Ok(reply::unexpected(&other)),
    };
    let active = messages.iter().any(|message| message.status == Status::Streaming);
    let shown = |status| !matches!(status, Status::Streaming | Status::Deleted);
    let messages = messages.into_iter().filter(|m| shown(m.status)).map(UiMessage::from).collect();
    Ok(reply::json(StatusCode::OK, &Messages { messages, active }))
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
    LargeBody(bytes): LargeBody,
    router: Data<Router>,
) -> Response {
    let Completion { prompt, model } = body::parse(&bytes)?;
    if prompt.trim().is_empty() {
        return Err(ApiError::invalid("`prompt` is empty"));
    }
    let target = fresh(&router, &caller)?;
    let model = model.unwrap_or_else(|| router.default_model().to_owned());
    router.check_model(&model, &prompt)?;
    let message = NewMessage {
        id: None,
        role: Role::User,
        content: prompt,
        parts: Vec::new(),
        metadata: None,
    };
    let input = Input::Message { message, edit: false };
    let begun = start(&router, &target, input, TurnOptions::default(), model).await?;
    stream(&router, &target, begun, query.protocol.unwrap_or(Protocol::Ui)).await
}

fn fresh(router: &Router, caller: &Caller) -> Result<Target, Rejection> {
    router.target(caller, &ids::fresh())
}
