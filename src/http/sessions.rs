//! `/v1/sessions`: make, list, read, change and delete sessions.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::web::Path;
use serde::Deserialize;

use crate::base::ids;
use crate::base::limits::PAGE_DEFAULT;
use crate::domain::session::Command;
use crate::domain::session::Rejection;
use crate::domain::session::Session;
use crate::domain::session::SessionChanges;
use crate::http::body;
use crate::http::body::Body;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;
use crate::http::messages::page_limit;
use crate::http::query::Query;
use crate::http::reply;
use crate::http::turns;
use crate::router::Router;
use crate::router::Target;
use crate::wire::cursor;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Query as Ask;
use crate::wire::envelope::Request;
use crate::wire::problem::Problem;
use crate::wire::rest::CreateSession;
use crate::wire::rest::SessionPage;

type Response = Result<HttpResponse, ApiError>;

/// Makes a session, or finds the one that has this id.
#[utoipa::path(
    post, path = "/v1/sessions", request_body = CreateSession, tag = "sessions", operation_id = "createSession",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 bytes of UTF-8 without control characters")),
    responses((status = 201, body = Session), (status = 200, body = Session), (status = "4XX", body = Problem))
)]
pub(super) async fn create(
    Authenticated(caller): Authenticated,
    request: HttpRequest,
    Body(bytes): Body,
    router: Data<Router>,
) -> Response {
    let CreateSession { id, title, project_id, metadata, settings } = body::parse(&bytes)?;
    let key = reply::key(&request)?;
    // Without an id the key names the session, so that a repeat finds the one that it made.
    let id = match (&id, &key) {
        (Some(id), _) => id.clone(),
        (None, Some(key)) => ids::derived(&[caller.workspace(), caller.user(), key.as_str()]),
        (None, None) => ids::fresh(),
    };
    let target = router.target(&caller, &id)?;
    let changes = SessionChanges { title, metadata, settings };
    check(&router, &changes)?;
    let command = Command::Create { changes, project_id };
    let answer = router.ask(&target, reply::once(&request, command)?).await?;
    Ok(reply::changed(answer, target.id()))
}

/// Refuses settings that no turn can be run with.
fn check(router: &Router, changes: &SessionChanges) -> Result<(), ApiError> {
    let Some(settings) = &changes.settings else { return Ok(()) };
    if let Some(model) = &settings.model {
        router.check_address(model)?;
    }
    turns::check_options(settings)
}

/// `?limit&cursor`
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// 1 to 200; 25 if absent.
    #[param(value_type = Option<u32>)]
    limit: Option<String>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Lists sessions, newest activity first.
#[utoipa::path(
    get, path = "/v1/sessions", params(ListQuery), tag = "sessions", operation_id = "listSessions",
    responses((status = 200, body = SessionPage), (status = "4XX", body = Problem))
)]
pub(super) async fn list(
    Authenticated(caller): Authenticated,
    Query(query): Query<ListQuery>,
    router: Data<Router>,
) -> Response {
    let limit = page_limit(query.limit.as_deref(), PAGE_DEFAULT)?;
    let unknown = || ApiError::new("cursor_unknown", "the cursor is not one of this list");
    let behind =
        query.cursor.map(|token| cursor::decode_list(&token).ok_or_else(unknown)).transpose()?;
    let mut found = router.list(&caller, behind, limit + 1).await?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let next_cursor =
        found.last().filter(|_| has_more).map(|(_, place)| cursor::encode_list(place.0, place.1));
    let items = found.into_iter().map(|(session, _)| session).collect();
    Ok(reply::json(StatusCode::OK, &SessionPage { items, next_cursor, has_more }))
}

/// Reads a session.
#[utoipa::path(
    get, path = "/v1/sessions/{id}", params(("id" = String, Path)), tag = "sessions", operation_id = "readSession",
    responses((status = 200, body = Session), (status = "4XX", body = Problem))
)]
pub(super) async fn read(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let answer = router.ask(&target, Request::Query(Ask::Session)).await?;
    Ok(reply::changed(answer, target.id()))
}

/// Changes title or metadata.
#[utoipa::path(
    patch, path = "/v1/sessions/{id}", params(("id" = String, Path)), request_body = SessionChanges, tag = "sessions", operation_id = "changeSession",
    responses((status = 200, body = Session), (status = "4XX", body = Problem))
)]
pub(super) async fn change(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    request: HttpRequest,
    Body(bytes): Body,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let changes = body::parse(&bytes)?;
    check(&router, &changes)?;
    let command = Command::Change(changes);
    let answer = router.ask(&target, reply::once(&request, command)?).await?;
    Ok(reply::changed(answer, target.id()))
}

/// Deletes a session: its file goes, its subscribers are told, its id stays taken.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}", params(("id" = String, Path)), tag = "sessions", operation_id = "deleteSession",
    responses((status = 204), (status = "4XX", body = Problem))
)]
pub(super) async fn delete(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    request: HttpRequest,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let keyed = reply::key(&request)?.is_some();
    let answer = delete_once(&router, &target, keyed).await?;
    Ok(reply::changed(answer, target.id()))
}

/// Deletes a session. Nothing is left of it, not even what its keys were used for: with a key, of whatever request, the
/// answer to a repeat is that it is deleted.
///
/// # Errors
///
/// What the session answers.
pub(super) async fn delete_once(
    router: &Router,
    target: &Target,
    keyed: bool,
) -> Result<Answer, Error> {
    match router.ask(target, Request::Command(Command::Delete, None)).await {
        Err(Error::Rejected(rejection)) if keyed && *rejection == Rejection::Deleted => {
            Ok(Answer::Replayed { status: 204, json: "".into(), seq: 0 })
        }
        other => other,
    }
}
