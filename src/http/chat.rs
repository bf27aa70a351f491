//! `/chat/{id}`: the chat route, in its own shapes.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderName;
use actix_web::http::header::HeaderValue;
use actix_web::web::Data;
use actix_web::web::Path;
use serde::Deserialize;

use crate::base::limits::PAGE_DEFAULT;
use crate::base::limits::PAGE_MAX;
use crate::base::told;
use crate::domain::session::Busy;
use crate::domain::session::Command;
use crate::domain::session::Input;
use crate::domain::session::NewMessage;
use crate::domain::session::NewTurn;
use crate::domain::session::Rejection;
use crate::domain::session::Role;
use crate::domain::session::TurnOptions;
use crate::http::answer::Watcher;
use crate::http::body;
use crate::http::body::Body;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;
use crate::http::events::stream_response;
use crate::http::messages::page_query;
use crate::http::query::Query;
use crate::http::reply;
use crate::http::turns;
use crate::protocol::chat::ChatMessage;
use crate::protocol::chat::NewChatMessage;
use crate::protocol::chat::Say;
use crate::protocol::chat::Stream;
use crate::protocol::chat::parse_parts;
use crate::router::Router;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Request;

type Response = Result<HttpResponse, ApiError>;

/// Stores what the user says, then streams the answer.
#[utoipa::path(
    post, path = "/chat/{id}", request_body = Say, params(("id" = String, Path)), tag = "chat", operation_id = "chat",
    responses((status = 200, description = "a stream of server-sent events"), (status = 400))
)]
pub(super) async fn say(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    http: HttpRequest,
    Body(bytes): Body,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let Say { content } = body::parse(&bytes)?;
    let content = content.unwrap_or_default();
    if content.trim().is_empty() {
        return Err(ApiError::invalid("Message content required"));
    }
    let message =
        NewMessage { id: None, role: Role::User, content, parts: Vec::new(), metadata: None };
    // This route never refuses: a second question waits for its place.
    let options = TurnOptions { busy: Some(Busy::Queue), ..TurnOptions::default() };
    let input = Input::Message { message, edit: false };
    let model = router.chat_model().to_owned();
    let turn = NewTurn { input, options, model, titled: false };
    let begun = turns::begin(&router, &target, turn, reply::key(&http)?).await?;
    let (encoder, first) = Stream::begin(&begun.turn);
    let watcher = Watcher::begin(&router, &target, begun.after, encoder, "chat").await?;
    let mut response = stream_response().streaming(watcher.saying(first).into_body());
    if begun.replayed {
        reply::mark_replayed(&mut response);
    }
    Ok(response)
}

/// `?limit&before`
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ChatQuery {
    /// 25 if absent, 0 or no number; at most 200.
    limit: Option<String>,
    /// The id of a message: older ones only. An unknown one is ignored.
    before: Option<String>,
}

/// Reads a page of messages, oldest first; `x-has-more` says whether there are older ones.
#[utoipa::path(
    get, path = "/chat/{id}/messages", params(("id" = String, Path), ChatQuery), tag = "chat", operation_id = "chatMessages",
    responses((status = 200, body = Vec<ChatMessage>))
)]
pub(super) async fn messages(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    Query(query): Query<ChatQuery>,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let limit = query.limit.and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0);
    let limit = limit.unwrap_or(PAGE_DEFAULT).min(PAGE_MAX);
    let ask = |before| Request::Query(page_query(&target, before, false, limit, true));
    let mut ignored = false;
    let mut answer = router.ask(&target, ask(query.before)).await;
    if let Err(Error::Rejected(rejection)) = &answer
        && **rejection == Rejection::MessageNotFound
    {
        ignored = true;
        answer = router.ask(&target, ask(None)).await;
    }
    let (messages, more) = match answer {
        Ok(Answer::Page(page)) => (page.page.messages.clone(), page.page.more),
        Ok(other) => return Ok(reply::unexpected(&other)),
        Err(Error::Rejected(rejection)) if *rejection == Rejection::SessionNotFound => {
            (Vec::new(), false)
        }
        Err(error) => return Err(error.into()),
    };
    let messages: Vec<ChatMessage> = messages.into_iter().map(ChatMessage::from).collect();
    let mut response = reply::json(StatusCode::OK, &messages);
    let mut say = |name, yes| {
        let value = HeaderValue::from_static(if yes { "true" } else { "false" });
        response.headers_mut().insert(HeaderName::from_static(name), value);
    };
    say("x-has-more", more);
    if ignored {
        say("x-cursor-ignored", true);
    }
    Ok(response)
}

/// Stores a message.
#[utoipa::path(
    post, path = "/chat/{id}/messages", request_body = NewChatMessage, params(("id" = String, Path)), tag = "chat", operation_id = "storeChatMessage",
    responses((status = 200, body = ChatMessage), (status = 400))
)]
pub(super) async fn store(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    http: HttpRequest,
    Body(bytes): Body,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let NewChatMessage { role, content, parts } = body::parse(&bytes)?;
    let parts = parts.as_deref().map(parse_parts).transpose();
    let parts = parts.map_err(|error| ApiError::invalid(told::of("`parts`", &error)))?;
    let parts = parts.unwrap_or_default();
    let message = NewMessage { id: None, role, content, parts, metadata: None };
    let request = reply::once(&http, Command::AddMessage(message))?;
    let (json, replayed) = match router.ask(&target, request).await? {
        Answer::Message { json, .. } => (json, false),
        Answer::Replayed { json, .. } => (json, true),
        other => return Ok(reply::unexpected(&other)),
    };
    let message: crate::domain::session::Message = serde_json::from_str(&json)
        .map_err(|error| ApiError::new("internal", format!("a stored message: {error}")))?;
    let mut response = reply::json(StatusCode::OK, &ChatMessage::from(message));
    if replayed {
        reply::mark_replayed(&mut response);
    }
    Ok(response)
}
