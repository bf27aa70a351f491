//! What edits and new answers have replaced.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::web::Path;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::limits::PAGE_MAX;
use crate::domain::session::Page;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;
use crate::http::messages::page_limit;
use crate::http::query::Query;
use crate::http::reply;
use crate::router::Router;
use crate::wire::cursor;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Query as Ask;
use crate::wire::envelope::Request;
use crate::wire::problem::Problem;
use crate::wire::rest::MessagePage;

type Response = Result<HttpResponse, ApiError>;

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Branch {
    /// Names it.
    id: u64,
    /// Seq of its first message: what is before it in the history is before it here.
    from: u64,
    /// How many messages it has of its own.
    message_count: u64,
}

/// What edits and new answers have replaced.
#[derive(Serialize, ToSchema)]
pub(super) struct Branches {
    /// The oldest first.
    items: Vec<Branch>,
}

/// `?limit&after`
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct BranchQuery {
    /// 1 to 200; 200 if absent. Fewer come where they are large.
    #[param(value_type = Option<u32>)]
    limit: Option<String>,
    /// `nextCursor` of the page before.
    after: Option<String>,
}

/// Lists what edits and new answers have replaced.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/branches", params(("id" = String, Path)), tag = "turns", operation_id = "listBranches",
    responses((status = 200, body = Branches), (status = "4XX", body = Problem))
)]
pub(super) async fn branches(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    match router.ask(&target, Request::Query(Ask::Branches)).await? {
        Answer::Branches(branches) => {
            let branch = |(id, from, message_count)| Branch { id, from, message_count };
            let items: Vec<Branch> = branches.into_iter().map(branch).collect();
            Ok(reply::json(StatusCode::OK, &Branches { items }))
        }
        other => Ok(reply::unexpected(&other)),
    }
}

/// Reads the messages of a branch, oldest first, page by page.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/branches/{branch}", params(("id" = String, Path), ("branch" = u64, Path), BranchQuery), tag = "turns", operation_id = "readBranch",
    responses((status = 200, body = MessagePage<'static>), (status = "4XX", body = Problem))
)]
pub(super) async fn branch(
    Authenticated(caller): Authenticated,
    path: Path<(String, u64)>,
    Query(query): Query<BranchQuery>,
    router: Data<Router>,
) -> Response {
    let (id, branch) = path.into_inner();
    let target = router.target(&caller, &id)?;
    let limit = page_limit(query.limit.as_deref(), PAGE_MAX)?;
    let after = match query.after.filter(|after| !after.is_empty()) {
        Some(after) => cursor::decode(target.key(), &after).ok_or_else(|| {
            ApiError::new(
                "cursor_unknown",
                "`after` takes the `nextCursor` of a page of this session",
            )
        })?,
        None => 0,
    };
    match router.ask(&target, Request::Query(Ask::Branch { branch, after, limit })).await? {
        Answer::Page(page) => {
            let Page { messages, more } = &page.page;
            let next = messages.last().map(|last| cursor::encode(target.key(), last.seq));
            let page = MessagePage {
                items: messages.into(),
                has_more: *more,
                next_cursor: next,
                prev_cursor: None,
            };
            Ok(reply::json(StatusCode::OK, &page))
        }
        other => Ok(reply::unexpected(&other)),
    }
}
