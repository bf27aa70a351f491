//! `/v1/conversations`: OpenAI's Conversations API. A conversation is the session of the same id, its items are the rows
//! of the items API, its metadata is the session's.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::web::Path;
use serde::Deserialize;

use crate::base::ids;
use crate::base::ids::IdempotencyKey;
use crate::base::json::Json;
use crate::base::limits::Limit;
use crate::domain::session::Command;
use crate::domain::session::Item;
use crate::domain::session::ItemsCommand;
use crate::domain::session::Rejection;
use crate::domain::session::SessionChanges;
use crate::http::body;
use crate::http::body::Body;
use crate::http::body::LargeBody;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;
use crate::http::messages::Order;
use crate::http::query::Query;
use crate::http::reply;
use crate::http::sessions;
use crate::protocol::conversations as shapes;
use crate::protocol::conversations::Conversation;
use crate::protocol::conversations::CreateConversation;
use crate::protocol::conversations::CreateItems;
use crate::protocol::conversations::DeletedConversation;
use crate::protocol::conversations::ItemList;
use crate::protocol::conversations::UpdateConversation;
use crate::router::Router;
use crate::router::Target;
use crate::wire::ask::Idempotency;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Query as Ask;
use crate::wire::envelope::Request;

type Response = Result<HttpResponse, ApiError>;

fn unexpected(answer: &Answer) -> ApiError {
    tracing::error!("an answer of the wrong kind: {answer:?}");
    ApiError::new("internal", "the session gave an answer of the wrong kind")
}

/// The conversation of `target`, as it is.
async fn conversation(router: &Router, target: &Target) -> Result<Conversation, ApiError> {
    match router.ask(target, Request::Query(Ask::Session)).await? {
        Answer::Session { head, .. } => Ok(Conversation::of(target.id(), &head)),
        other => Err(unexpected(&other)),
    }
}

/// Sends `command`, once for `key`.
async fn change(
    router: &Router,
    target: &Target,
    command: Command,
    key: Option<IdempotencyKey>,
) -> Result<Answer, ApiError> {
    let once = key.map(|key| Idempotency::new(key, &command));
    Ok(router.ask(target, Request::Command(command, once)).await?)
}

/// The conversation that a change of it answers, now or when it came first.
fn changed(target: &Target, answer: &Answer) -> Response {
    match answer {
        Answer::Session { head, .. } => {
            Ok(reply::json(StatusCode::OK, &Conversation::of(target.id(), head)))
        }
        Answer::Replayed { json, .. } => {
            let conversation = Conversation::replayed(target.id(), json);
            let conversation = conversation.map_err(|error| {
                ApiError::new("internal", format!("a stored conversation: {error}"))
            })?;
            Ok(replayed(reply::json(StatusCode::OK, &conversation)))
        }
        other => Err(unexpected(other)),
    }
}

fn replayed(mut response: HttpResponse) -> HttpResponse {
    reply::mark_replayed(&mut response);
    response
}

/// Refuses items that would be refused once they are on their way, so that no conversation is made for them.
fn check_items(router: &Router, items: &[Json]) -> Result<(), ApiError> {
    shapes::check_items(items).map_err(|problem| ApiError::of("items", problem))?;
    let largest = items.iter().map(|item| item.as_str().len()).max().unwrap_or(0);
    let max = router.limits().item_bytes;
    if largest > max {
        let rejection = Rejection::Limit { limit: Limit::Item, is: largest, max };
        return Err(Error::from(rejection).into());
    }
    Ok(())
}

fn check_metadata(metadata: Json) -> Result<Json, ApiError> {
    shapes::check_metadata(metadata).map_err(|problem| ApiError::of("metadata", problem))
}

/// Makes a conversation.
#[utoipa::path(
    post, path = "/v1/conversations", request_body = CreateConversation, tag = "conversations", operation_id = "createConversation",
    responses((status = 200, body = Conversation), (status = "4XX"))
)]
pub(super) async fn create(
    Authenticated(caller): Authenticated,
    request: HttpRequest,
    LargeBody(bytes): LargeBody,
    router: Data<Router>,
) -> Response {
    let wanted =
        if bytes.is_empty() { CreateConversation::default() } else { body::parse(&bytes)? };
    let items = wanted.items.unwrap_or_default();
    check_items(&router, &items)?;
    let metadata = wanted.metadata.map(check_metadata).transpose()?;
    let key = reply::key(&request)?;
    // The key names the conversation, so that a repeat finds the one that it made.
    let id = match &key {
        Some(key) => {
            let seed = [caller.workspace(), caller.user(), "conversation", key.as_str()];
            shapes::new_id(Some(&seed))
        }
        None => shapes::new_id(None),
    };
    let target = router.target(&caller, &id)?;
    let changes = SessionChanges { metadata, ..SessionChanges::default() };
    let command = Command::Create { changes, project_id: None };
    let once = key.clone().map(|key| Idempotency::new(key, &command).and(&items));
    let made = router.ask(&target, Request::Command(command, once)).await?;
    if !items.is_empty() {
        let key = key.map(|key| IdempotencyKey::step("items", key.as_str()));
        let command = Command::ChangeItems(ItemsCommand::Append(items));
        change(&router, &target, command, key).await?;
    }
    changed(&target, &made)
}

/// Reads a conversation.
#[utoipa::path(
    get, path = "/v1/conversations/{id}", params(("id" = String, Path)), tag = "conversations", operation_id = "readConversation",
    responses((status = 200, body = Conversation), (status = "4XX"))
)]
pub(super) async fn read(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    Ok(reply::json(StatusCode::OK, &conversation(&router, &target).await?))
}

/// Replaces the metadata.
#[utoipa::path(
    post, path = "/v1/conversations/{id}", request_body = UpdateConversation, params(("id" = String, Path)), tag = "conversations", operation_id = "updateConversation",
    responses((status = 200, body = Conversation), (status = "4XX"))
)]
pub(super) async fn update(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    request: HttpRequest,
    Body(bytes): Body,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let UpdateConversation { metadata } = body::parse(&bytes)?;
    let metadata = Some(check_metadata(metadata)?);
    let command = Command::Change(SessionChanges { metadata, ..SessionChanges::default() });
    changed(&target, &change(&router, &target, command, reply::key(&request)?).await?)
}

/// Deletes a conversation and, unlike OpenAI, its items with it.
#[utoipa::path(
    delete, path = "/v1/conversations/{id}", params(("id" = String, Path)), tag = "conversations", operation_id = "deleteConversation",
    responses((status = 200, body = DeletedConversation), (status = "4XX"))
)]
pub(super) async fn delete(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    request: HttpRequest,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let keyed = reply::key(&request)?.is_some();
    let answer = sessions::delete_once(&router, &target, keyed).await?;
    let response = reply::json(StatusCode::OK, &DeletedConversation::of(target.id()));
    Ok(if matches!(answer, Answer::Replayed { .. }) { replayed(response) } else { response })
}

/// Adds items at the end, all of them or none; answers them with their ids.
#[utoipa::path(
    post, path = "/v1/conversations/{id}/items", request_body = CreateItems, params(("id" = String, Path)), tag = "conversations", operation_id = "createConversationItems",
    responses((status = 200, body = ItemList), (status = "4XX"))
)]
pub(super) async fn add_items(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    request: HttpRequest,
    LargeBody(bytes): LargeBody,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let CreateItems { items } = body::parse(&bytes)?;
    check_items(&router, &items)?;
    let key = reply::key(&request)?;
    // Items would make the session that they are for. Once there is one, it is there for good or refuses them.
    conversation(&router, &target).await?;
    let (items, made) = match &key {
        Some(key) => named(items, &target, key),
        None => (items, Vec::new()),
    };
    let command = Command::ChangeItems(ItemsCommand::Append(items));
    match change(&router, &target, command, key).await? {
        Answer::Items { items, .. } => {
            Ok(reply::json(StatusCode::OK, &ItemList::of(&items, false)))
        }
        Answer::Replayed { .. } => {
            let added = still_there(&router, &target, made).await?;
            Ok(replayed(reply::json(StatusCode::OK, &ItemList::of(&added, false))))
        }
        other => Err(unexpected(&other)),
    }
}

/// `items` with ids that follow from `key`, so that a repeat finds what it added; and all their ids.
fn named(items: Vec<Json>, target: &Target, key: &IdempotencyKey) -> (Vec<Json>, Vec<String>) {
    let seed = |at: usize| ids::derived(&[target.id(), key.as_str(), &at.to_string()]);
    items.into_iter().enumerate().map(|(at, item)| shapes::with_id(&item, &seed(at))).unzip()
}

/// Those of the items called `ids` that were not taken back since.
async fn still_there(
    router: &Router,
    target: &Target,
    ids: Vec<String>,
) -> Result<Vec<Item>, ApiError> {
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        match router.ask(target, Request::Query(Ask::Item(id))).await {
            Ok(Answer::Items { items, .. }) => found.extend(items),
            Err(Error::Rejected(rejection)) if *rejection == Rejection::ItemNotFound => {}
            Err(error) => return Err(error.into()),
            Ok(other) => return Err(unexpected(&other)),
        }
    }
    Ok(found)
}

/// `?limit&order&after`
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ItemsQuery {
    /// 1 to 100; 20 if absent. Fewer come where they are large.
    #[param(value_type = Option<u32>)]
    limit: Option<String>,
    /// `desc`: newest first, which is the default; `asc`: oldest first.
    #[param(inline)]
    order: Option<Order>,
    /// The id of an item: the page behind it, in the order that is asked for.
    after: Option<String>,
}

/// Lists the items, page by page. `include` is taken and has no effect: every item is whole.
#[utoipa::path(
    get, path = "/v1/conversations/{id}/items", params(("id" = String, Path), ItemsQuery), tag = "conversations", operation_id = "listConversationItems",
    responses((status = 200, body = ItemList), (status = "4XX"))
)]
pub(super) async fn items(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    Query(query): Query<ItemsQuery>,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let ItemsQuery { limit, order, after } = query;
    let limit = match limit {
        None => shapes::PAGE_DEFAULT,
        Some(limit) => {
            let number = limit.parse().ok().filter(|limit| (1..=shapes::PAGE_MAX).contains(limit));
            number.ok_or_else(|| {
                let max = shapes::PAGE_MAX;
                ApiError::of("limit", format!("`limit` must be a number from 1 to {max}"))
            })?
        }
    };
    let newer = order == Some(Order::Asc);
    let after = after.filter(|after| !after.is_empty());
    let ask = Ask::ItemsFrom { after, newer, limit };
    match router.ask(&target, Request::Query(ask)).await? {
        Answer::Items { items, more, .. } => {
            Ok(reply::json(StatusCode::OK, &ItemList::of(&items, more)))
        }
        other => Err(unexpected(&other)),
    }
}

/// Reads an item.
#[utoipa::path(
    get, path = "/v1/conversations/{id}/items/{item}", params(("id" = String, Path), ("item" = String, Path)), tag = "conversations", operation_id = "readConversationItem",
    responses((status = 200, description = "The item.", body = Object), (status = "4XX"))
)]
pub(super) async fn item(
    Authenticated(caller): Authenticated,
    path: Path<(String, String)>,
    router: Data<Router>,
) -> Response {
    let (id, item_id) = path.into_inner();
    let target = router.target(&caller, &id)?;
    let item_id = reply::name("item", item_id)?;
    match router.ask(&target, Request::Query(Ask::Item(item_id.into()))).await? {
        Answer::Items { items, .. } if items.len() == 1 => {
            Ok(reply::json(StatusCode::OK, &shapes::shown(&items[0])))
        }
        other => Err(unexpected(&other)),
    }
}

/// Takes an item out; answers the conversation.
#[utoipa::path(
    delete, path = "/v1/conversations/{id}/items/{item}", params(("id" = String, Path), ("item" = String, Path)), tag = "conversations", operation_id = "deleteConversationItem",
    responses((status = 200, body = Conversation), (status = "4XX"))
)]
pub(super) async fn delete_item(
    Authenticated(caller): Authenticated,
    path: Path<(String, String)>,
    request: HttpRequest,
    router: Data<Router>,
) -> Response {
    let (id, item_id) = path.into_inner();
    let target = router.target(&caller, &id)?;
    let item_id = reply::name("item", item_id)?;
    let command = Command::ChangeItems(ItemsCommand::Remove(item_id.into()));
    let answer = change(&router, &target, command, reply::key(&request)?).await?;
    let response = reply::json(StatusCode::OK, &conversation(&router, &target).await?);
    Ok(if matches!(answer, Answer::Replayed { .. }) { replayed(response) } else { response })
}
