//! `/v1/sessions/{id}/messages`: add, read, change and redact messages.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::web::Path;
use serde::Deserialize;

use crate::base::limits::PAGE_DEFAULT;
use crate::base::limits::PAGE_MAX;
use crate::domain::session::Command;
use crate::domain::session::Direction;
use crate::domain::session::Message;
use crate::domain::session::NewMessage;
use crate::domain::session::Page;
use crate::domain::session::Rejection;
use crate::http::body;
use crate::http::body::Body;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;
use crate::http::query::Query;
use crate::http::reply;
use crate::router::Router;
use crate::router::Target;
use crate::wire::cursor;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Query as Ask;
use crate::wire::envelope::Request;
use crate::wire::problem::Problem;
use crate::wire::rest::Count;
use crate::wire::rest::MessagePage;
use crate::wire::rest::ReplaceParts;

type Response = Result<HttpResponse, ApiError>;

/// Adds a message; creates the session if it is new.
///
/// Safe to repeat: with the same `Idempotency-Key` or the same `id` nothing is added twice.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/messages", request_body = NewMessage, tag = "messages", operation_id = "addMessage",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 bytes of UTF-8 without control characters")),
    responses((status = 201, body = Message), (status = 200, body = Message), (status = "4XX", body = Problem))
)]
pub(super) async fn add(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    request: HttpRequest,
    Body(bytes): Body,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let command = Command::AddMessage(body::parse(&bytes)?);
    let answer = router.ask(&target, reply::once(&request, command)?).await?;
    Ok(reply::changed(answer, target.id()))
}

/// `?limit&before&after&order`
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// 1 to 200; 25 if absent.
    #[param(value_type = Option<u32>)]
    limit: Option<String>,
    /// A message id or a cursor: the page of older messages that ends before it.
    before: Option<String>,
    /// A message id or a cursor: the page of newer messages that begins behind it.
    after: Option<String>,
    /// `asc`: oldest first, which is the default; `desc`: newest first.
    #[param(inline)]
    order: Option<Order>,
}

#[derive(Clone, Copy, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Order {
    Asc,
    Desc,
}

/// Reads a page of history; by default the latest.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/messages", params(("id" = String, Path), PageQuery), tag = "messages", operation_id = "listMessages",
    responses((status = 200, body = MessagePage<'static>), (status = "4XX", body = Problem))
)]
pub(super) async fn page(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    Query(query): Query<PageQuery>,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let PageQuery { limit, before, after, order } = query;
    let limit = page_limit(limit.as_deref(), PAGE_DEFAULT)?;
    let (anchor, newer) = match (before, after) {
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid("`before` and `after` cannot be used together"));
        }
        (None, Some(after)) => (Some(after), true),
        (before, None) => (before, false),
    };
    let ask = page_query(&target, anchor, newer, limit, false);
    let page = match router.ask(&target, Request::Query(ask)).await {
        Ok(Answer::Page(page)) => page,
        Ok(other) => return Ok(reply::unexpected(&other)),
        Err(Error::Rejected(rejection)) if *rejection == Rejection::MessageNotFound => {
            let detail = "`before` and `after` take the id of a message of this session, or a cursor from a page of it";
            return Err(ApiError::new("cursor_unknown", detail));
        }
        Err(error) => return Err(error.into()),
    };
    let newest_first = order == Some(Order::Desc);
    let encode = |page: &Page| {
        let page = to_page(&target, page, newer, newest_first);
        serde_json::to_vec(&page).expect("a page is plain JSON")
    };
    // Only the usual order is shared between readers.
    Ok(reply::bytes(match newest_first {
        true => encode(&page.page).into(),
        false => page.encoded(encode),
    }))
}

/// The size of a page that a client asks for; `default` if it does not.
pub(super) fn page_limit(limit: Option<&str>, default: usize) -> Result<usize, ApiError> {
    let Some(limit) = limit else { return Ok(default) };
    let number = limit.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
    number
        .ok_or_else(|| ApiError::invalid(format!("`limit` must be a number from 1 to {PAGE_MAX}")))
}

/// The query for the page at `anchor`, which is a message id or a cursor.
pub(super) fn page_query(
    target: &Target,
    anchor: Option<String>,
    newer: bool,
    limit: usize,
    settled: bool,
) -> Ask {
    let Some(anchor) = anchor else {
        let direction = Direction::Before(u64::MAX);
        return Ask::Page { direction, limit, settled };
    };
    match cursor::decode(target.key(), &anchor) {
        Some(seq) if newer => Ask::Page { direction: Direction::After(seq), limit, settled },
        Some(seq) => Ask::Page { direction: Direction::Before(seq), limit, settled },
        None => Ask::PageFrom { id: anchor, newer, limit, settled },
    }
}

fn to_page<'a>(
    target: &Target,
    page: &'a Page,
    newer: bool,
    newest_first: bool,
) -> MessagePage<'a> {
    let token = |message: &Message| cursor::encode(target.key(), message.seq);
    // A page at either end still has a cursor towards newer messages: more may come.
    let next_cursor = page.messages.last().map(token);
    let prev_cursor = page.messages.first().filter(|_| page.more || newer).map(token);
    let items = match newest_first {
        true => page.messages.iter().rev().cloned().collect(),
        false => page.messages.as_slice().into(),
    };
    MessagePage { items, has_more: page.more, next_cursor, prev_cursor }
}

/// Counts the messages.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/messages/count", params(("id" = String, Path)), tag = "messages", operation_id = "countMessages",
    responses((status = 200, body = Count), (status = "4XX", body = Problem))
)]
pub(super) async fn count(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    match router.ask(&target, Request::Query(Ask::Count)).await? {
        Answer::Count(count) => Ok(reply::json(StatusCode::OK, &Count { count })),
        other => Ok(reply::unexpected(&other)),
    }
}

/// Reads a message.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/messages/{mid}", params(("id" = String, Path), ("mid" = String, Path)), tag = "messages", operation_id = "readMessage",
    responses((status = 200, body = Message), (status = "4XX", body = Problem))
)]
pub(super) async fn read(
    Authenticated(caller): Authenticated,
    path: Path<(String, String)>,
    router: Data<Router>,
) -> Response {
    let (id, message_id) = path.into_inner();
    let target = router.target(&caller, &id)?;
    let message_id = reply::name("message", message_id)?.into();
    match router.ask(&target, Request::Query(Ask::Message(message_id))).await? {
        Answer::Found(message) => Ok(reply::json(StatusCode::OK, &message)),
        other => Ok(reply::unexpected(&other)),
    }
}

/// Replaces the parts of a message.
#[utoipa::path(
    put, path = "/v1/sessions/{id}/messages/{mid}/parts", request_body = ReplaceParts, tag = "messages", operation_id = "replaceParts",
    params(("id" = String, Path), ("mid" = String, Path)),
    responses((status = 200, body = Message), (status = "4XX", body = Problem))
)]
pub(super) async fn replace_parts(
    Authenticated(caller): Authenticated,
    path: Path<(String, String)>,
    request: HttpRequest,
    Body(bytes): Body,
    router: Data<Router>,
) -> Response {
    let (id, message_id) = path.into_inner();
    let target = router.target(&caller, &id)?;
    let message_id = reply::name("message", message_id)?.into();
    let ReplaceParts { parts, if_version } = body::parse(&bytes)?;
    let command = Command::ReplaceParts { message_id, parts, if_version };
    let answer = router.ask(&target, reply::once(&request, command)?).await?;
    Ok(reply::changed(answer, target.id()))
}

/// Redacts a message: its content goes everywhere, its place in the order stays.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}/messages/{mid}", params(("id" = String, Path), ("mid" = String, Path)), tag = "messages", operation_id = "deleteMessage",
    responses((status = 204), (status = "4XX", body = Problem))
)]
pub(super) async fn delete(
    Authenticated(caller): Authenticated,
    path: Path<(String, String)>,
    request: HttpRequest,
    router: Data<Router>,
) -> Response {
    let (id, message_id) = path.into_inner();
    let target = router.target(&caller, &id)?;
    let message_id = reply::name("message", message_id)?.into();
    let command = Command::DeleteMessage { message_id };
    let answer = router.ask(&target, reply::once(&request, command)?).await?;
    Ok(reply::changed(answer, target.id()))
}
