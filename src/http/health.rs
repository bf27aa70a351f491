//! Whether the server lives and is ready, what it is, and what it counts.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web;
use actix_web::web::Data;
use actix_web::web::Path;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::metric;
use crate::http::error::ApiError;
use crate::http::openapi;
use crate::http::reply;
use crate::router::Router;
use crate::wire::problem;

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).body("ok")
}

/// Writes are possible.
#[utoipa::path(get, path = "/readyz", tag = "health", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn ready(router: Data<Router>) -> HttpResponse {
    let (mut response, text) = match router.is_ready() {
        true => (HttpResponse::Ok(), "ok"),
        false => (HttpResponse::ServiceUnavailable(), "not ready"),
    };
    response.insert_header((header::CACHE_CONTROL, "no-store")).body(text)
}

/// The same as `/readyz`, for those who look here.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn healthy(router: Data<Router>) -> HttpResponse {
    ready(router).await
}

/// What is running.
#[derive(Serialize, ToSchema)]
pub(super) struct Version {
    name: &'static str,
    version: &'static str,
}

/// What is running.
#[utoipa::path(get, path = "/version", tag = "health", responses((status = 200, body = Version)))]
pub(super) async fn version() -> HttpResponse {
    let version = Version { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") };
    reply::json(StatusCode::OK, &version)
}

/// What the server counts, in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(router: Data<Router>) -> HttpResponse {
    let read = move || {
        router.measure();
        metric::counters().encode()
    };
    match web::block(read).await {
        Ok(text) => HttpResponse::Ok()
            .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
            .body(text),
        Err(_) => HttpResponse::from_error(ApiError::new("internal", "no thread for it")),
    }
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "health", responses((status = 200, body = Object)))]
pub(super) async fn document() -> HttpResponse {
    reply::json(StatusCode::OK, &openapi::document())
}

/// What an error code means.
#[derive(Serialize, ToSchema)]
pub(super) struct Explanation {
    code: &'static str,
    status: u16,
    title: &'static str,
    advice: &'static str,
}

/// Explains an error code.
#[utoipa::path(
    get, path = "/problems/{code}", params(("code" = String, Path)), tag = "health",
    responses((status = 200, body = Explanation), (status = 404, body = problem::Problem))
)]
pub(super) async fn explain(code: Path<String>) -> Result<HttpResponse, ApiError> {
    let known = problem::find(&code);
    if known.code != code.as_str() {
        return Err(ApiError::new("code_not_found", "there is no such error code"));
    }
    let problem::Code { code, status, title, advice, .. } = *known;
    Ok(reply::json(StatusCode::OK, &Explanation { code, status, title, advice }))
}
