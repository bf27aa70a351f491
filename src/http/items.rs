//! `/v1/sessions/{id}/items`: the session store of agents.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::web::Path;
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::ids::IdempotencyKey;
use crate::base::json::Json;
use crate::domain::session::Command;
use crate::domain::session::Item;
use crate::domain::session::ItemsCommand;
use crate::domain::session::Rejection;
use crate::http::body;
use crate::http::body::LargeBody;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;
use crate::http::query::Query;
use crate::http::reply;
use crate::router::Router;
use crate::router::Target;
use crate::wire::ask::Idempotency;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Query as Ask;
use crate::wire::envelope::Request;

type Response = Result<HttpResponse, ApiError>;

/// Items, each as it was sent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Items {
    /// Oldest first.
    #[schema(value_type = Vec<Object>)]
    items: Vec<Json>,
}

/// How many items there are now.
#[derive(Serialize, ToSchema)]
pub(super) struct ItemCount {
    count: u64,
}

/// The item that was taken back.
#[derive(Serialize, ToSchema)]
pub(super) struct Popped {
    /// As it was sent; `null` if there was none.
    #[schema(value_type = Option<Object>)]
    item: Option<Json>,
}

/// `?limit`
#[derive(Deserialize, utoipa::IntoParams)]
pub(super) struct ItemsQuery {
    /// The latest so many; none if it is not positive.
    limit: Option<i64>,
}

fn bodies(items: Vec<Item>) -> Vec<Json> {
    items.into_iter().map(|item| item.body).collect()
}

/// Reads the items, oldest first. Many come in pieces as they are read: whoever takes items back meanwhile shortens the
/// list, and one that takes back what was sent already ends it as a broken answer.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/items", params(("id" = String, Path), ItemsQuery), tag = "items", operation_id = "listItems",
    responses((status = 200, body = Items))
)]
pub(super) async fn list(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    Query(query): Query<ItemsQuery>,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let limit = match query.limit {
        None => usize::MAX,
        Some(limit) => usize::try_from(limit).unwrap_or(0),
    };
    let (items, count) = match router.ask(&target, Request::Query(Ask::Items { limit })).await {
        Ok(Answer::Items { items, count, more: true }) => (items, count),
        Ok(Answer::Items { items, .. }) => {
            return Ok(reply::json(StatusCode::OK, &Items { items: bodies(items) }));
        }
        Err(Error::Rejected(rejection)) if *rejection == Rejection::SessionNotFound => {
            return Ok(reply::json(StatusCode::OK, &Items { items: Vec::new() }));
        }
        Err(error) => return Err(error.into()),
        Ok(other) => return Ok(reply::unexpected(&other)),
    };
    let left = usize::try_from(count).unwrap_or(limit).min(limit) - items.len();
    let rest = Rest { router, target, page: items, left, begun: false };
    Ok(reply::streamed(stream::try_unfold(Some(rest), Rest::next)))
}

/// A list of items that is written page by page, so that a slow reader holds one page.
struct Rest {
    router: Data<Router>,
    target: Target,
    /// What is written next.
    page: Vec<Item>,
    /// How many come behind it.
    left: usize,
    /// Whether something was written.
    begun: bool,
}

impl Rest {
    /// Writes the page; reads the next one.
    async fn next(rest: Option<Self>) -> Result<Option<(Bytes, Option<Self>)>, Error> {
        let Some(mut rest) = rest else { return Ok(None) };
        let mut text = String::from(if rest.begun { "" } else { "{\"items\":[" });
        for item in &rest.page {
            text.push_str(if rest.begun { "," } else { "" });
            text.push_str(item.body.as_str());
            rest.begun = true;
        }
        let last = rest.page.pop().filter(|_| rest.left > 0);
        rest.page = Vec::new();
        if let Some(last) = last {
            let ask = Ask::ItemsFrom { after: Some(last.id), newer: true, limit: rest.left };
            match rest.router.ask(&rest.target, Request::Query(ask)).await? {
                Answer::Items { items, .. } => {
                    rest.left = rest.left.saturating_sub(items.len());
                    rest.page = items;
                }
                _ => return Err(Error::Reset),
            }
        }
        if rest.page.is_empty() {
            text.push_str("]}");
            return Ok(Some((text.into(), None)));
        }
        Ok(Some((text.into(), Some(rest))))
    }
}

async fn change(router: &Router, target: &Target, request: Request) -> Result<Answer, Error> {
    match router.ask(target, request).await {
        // Nothing to take back is not an error: agents clear and pop before they begin, with keys.
        Err(Error::Rejected(rejection)) if *rejection == Rejection::SessionNotFound => {
            Ok(Answer::Popped(None))
        }
        other => other,
    }
}

fn answered(answer: Answer, target: &Target) -> HttpResponse {
    match answer {
        Answer::Items { count, .. } => reply::json(StatusCode::OK, &ItemCount { count }),
        Answer::Popped(item) => {
            reply::json(StatusCode::OK, &Popped { item: item.map(|item| item.body) })
        }
        other => reply::changed(other, target.id()),
    }
}

/// Adds items at the end, all of them or none; creates the session if it is new.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/items", request_body = Items, params(("id" = String, Path)), tag = "items", operation_id = "addItems",
    responses((status = 200, body = ItemCount))
)]
pub(super) async fn add(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    request: HttpRequest,
    LargeBody(bytes): LargeBody,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let Items { items } = body::parse(&bytes)?;
    let command = Command::ChangeItems(ItemsCommand::Append(items));
    let answer = change(&router, &target, reply::once(&request, command)?).await?;
    Ok(answered(answer, &target))
}

/// Replaces all items at once.
#[utoipa::path(
    put, path = "/v1/sessions/{id}/items", request_body = Items, params(("id" = String, Path)), tag = "items", operation_id = "replaceItems",
    responses((status = 200, body = ItemCount))
)]
pub(super) async fn replace(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    request: HttpRequest,
    LargeBody(bytes): LargeBody,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let Items { items } = body::parse(&bytes)?;
    let command = Command::ChangeItems(ItemsCommand::Replace(items));
    let answer = change(&router, &target, reply::once(&request, command)?).await?;
    Ok(answered(answer, &target))
}

/// Takes all items back; the session stays.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}/items", params(("id" = String, Path)), tag = "items", operation_id = "clearItems",
    responses((status = 204))
)]
pub(super) async fn clear(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    request: HttpRequest,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let command = Command::ChangeItems(ItemsCommand::Clear);
    let answer = change(&router, &target, reply::once(&request, command)?).await?;
    let mut response = HttpResponse::NoContent().finish();
    if matches!(answer, Answer::Replayed { .. }) {
        reply::mark_replayed(&mut response);
    }
    Ok(response)
}

/// Takes the newest item back.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/items/pop", params(("id" = String, Path)), tag = "items", operation_id = "popItem",
    responses((status = 200, body = Popped))
)]
pub(super) async fn pop(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    request: HttpRequest,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let command = Command::ChangeItems(ItemsCommand::Pop);
    let answer = change(&router, &target, reply::once(&request, command)?).await?;
    Ok(answered(answer, &target))
}

/// `POST .../items/transactions`
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operation {
    /// Names the change: the same again has no second effect.
    operation_id: String,
    /// The change.
    transaction: Transaction,
}

/// `{type: append_items, items}` or `{type: replace_suffix, expectedSuffix, replacement}`
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Transaction {
    /// `append_items` or `replace_suffix`.
    r#type: String,
    /// To be added at the end.
    #[schema(value_type = Option<Vec<Object>>)]
    items: Option<Vec<Json>>,
    /// What the items must end with.
    #[schema(value_type = Option<Vec<Object>>)]
    expected_suffix: Option<Vec<Json>>,
    /// What takes its place.
    #[schema(value_type = Option<Vec<Object>>)]
    replacement: Option<Vec<Json>>,
}

/// What is kept of the request that made the change.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tried {
    tried_with: Option<String>,
}

/// Whether the change was made now.
#[derive(Serialize, ToSchema)]
pub(super) struct Applied {
    /// False if it was made before.
    applied: bool,
}

/// Changes the items once for each operation id.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/items/transactions", request_body = Operation, params(("id" = String, Path)), tag = "items", operation_id = "changeItems",
    responses((status = 200, body = Applied), (status = 409))
)]
pub(super) async fn transact(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    request: HttpRequest,
    LargeBody(bytes): LargeBody,
    router: Data<Router>,
) -> Response {
    let (target, tried_with) = (router.target(&caller, &id)?, reply::key(&request)?);
    let Operation { operation_id, transaction } = body::parse(&bytes)?;
    let operation_id = reply::name("operationId", operation_id)?;
    let Transaction { r#type: kind, items, expected_suffix, replacement } = transaction;
    let command = match (kind.as_str(), items, expected_suffix, replacement) {
        ("append_items", Some(items), None, None) => ItemsCommand::Append(items),
        ("replace_suffix", None, Some(expected), Some(replacement)) => {
            ItemsCommand::ReplaceSuffix { expected, replacement }
        }
        _ => {
            let detail = "`transaction` is {type: append_items, items} or {type: replace_suffix, expectedSuffix, replacement}";
            return Err(ApiError::invalid(detail));
        }
    };
    let command = Command::ChangeItems(command);
    let operation = IdempotencyKey::step("operation", &operation_id);
    let once = Idempotency {
        tried_with: tried_with.clone(),
        ..Idempotency::unordered(operation, &command)
    };
    let (applied, replayed) = match router.ask(&target, Request::Command(command, Some(once))).await
    {
        // Another request finds the operation done; the same one once more hears its first answer.
        Ok(Answer::Replayed { json, .. }) => {
            let first: Tried = serde_json::from_str(&json).unwrap_or_default();
            let same =
                tried_with.is_some_and(|key| first.tried_with.as_deref() == Some(key.as_str()));
            (same, same)
        }
        Ok(Answer::Items { .. }) => (true, false),
        Ok(other) => return Ok(reply::unexpected(&other)),
        Err(Error::KeyReused) => {
            let detail = "the operation id was used for another change";
            return Err(ApiError::new("operation_reused", detail));
        }
        // A session without items ends with nothing.
        Err(Error::Rejected(rejection)) if *rejection == Rejection::SessionNotFound => {
            return Err(ApiError::from(Rejection::SuffixMismatch));
        }
        Err(error) => return Err(error.into()),
    };
    let mut response = reply::json(StatusCode::OK, &Applied { applied });
    if replayed {
        reply::mark_replayed(&mut response);
    }
    Ok(response)
}
