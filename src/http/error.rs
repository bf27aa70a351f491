//! The one place where errors become bytes, each route's in the shape that its clients read.

use std::fmt;

use actix_web::HttpResponse;
use actix_web::HttpResponseBuilder;
use actix_web::ResponseError;
use actix_web::http::StatusCode;
use actix_web::http::header;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::Classify;
use crate::base::ids;
use crate::domain::session::Rejection;
use crate::model::FailureKind;
use crate::model::ModelError;
use crate::wire::envelope;
use crate::wire::problem;
use crate::wire::problem::Problem;

/// An error on its way to a client.
///
/// Handlers, extractors and the router give it; the middleware makes it an answer in the shape of the route.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    code: &'static str,
    detail: String,
    /// In place of the status of the code.
    status: Option<u16>,
    /// The member of the request that is wrong.
    param: Option<&'static str>,
    /// The methods that the path takes.
    allow: Option<String>,
}

/// How the clients of a route read errors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    /// A problem document.
    Native,
    /// `{"error": {"code", "message"}}`, short, since AI SDK applications show the whole body to their user.
    Ui,
    /// `{"error": "..."}`, and `Not found` as text where there is no route.
    Chat,
    /// `{"error": {"message", "type", "param", "code"}}`
    OpenAi,
}

impl Shape {
    /// The shape of errors at `path`.
    pub(super) fn of(path: &str) -> Self {
        let below = |base: &str| {
            path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match path {
            _ if below("/v1/conversations") => Self::OpenAi,
            _ if below("/api") => Self::Ui,
            _ if below("/chat") => Self::Chat,
            _ => Self::Native,
        }
    }
}

/// An error of the AI SDK's routes.
#[derive(Serialize, ToSchema)]
pub(super) struct UiError<'a> {
    error: UiErrorBody<'a>,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
pub(super) struct UiErrorBody<'a> {
    /// Stable name of the cause, explained at `/problems/{code}`.
    code: &'a str,
    /// What happened this time, and what to do.
    message: &'a str,
}

/// An error of the chat route.
#[derive(Serialize, ToSchema)]
pub(super) struct ChatError<'a> {
    /// What happened, and what to do.
    error: &'a str,
}

/// An error of the conversations.
#[derive(Serialize, ToSchema)]
pub(super) struct OpenAiError<'a> {
    error: OpenAiErrorBody<'a>,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
pub(super) struct OpenAiErrorBody<'a> {
    /// What happened this time, and what to do.
    message: &'a str,
    /// `invalid_request_error`, `rate_limit_error` or `server_error`.
    r#type: &'static str,
    /// The member of the request that is wrong.
    param: Option<&'static str>,
    /// Stable name of the cause, explained at `/problems/{code}`.
    code: &'a str,
}

impl ApiError {
    pub(super) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), status: None, param: None, allow: None }
    }

    /// The request is not acceptable.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new("invalid", detail)
    }

    /// The request is not acceptable because of its member `param`.
    pub(super) fn of(param: &'static str, detail: impl Into<String>) -> Self {
        Self { param: Some(param), ..Self::invalid(detail) }
    }

    /// The path takes only the methods `allow`.
    pub(super) fn method_not_allowed(allow: String) -> Self {
        let error = Self::new("method_not_allowed", format!("use {allow}"));
        Self { allow: Some(allow), ..error }
    }

    /// The same, with `hint` behind what happened if the request was not acceptable.
    pub(super) fn hinted(mut self, hint: &str) -> Self {
        if self.code == "invalid" {
            self.detail.push_str(hint);
        }
        self
    }

    /// Its HTTP status.
    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status.unwrap_or_else(|| problem::find(self.code).status))
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The problem document, for streams and sockets; logged here, once.
    pub(super) fn problem(&self) -> Problem {
        self.log_as(ids::fresh())
    }

    fn log_as(&self, correlation_id: String) -> Problem {
        if self.status().is_server_error() {
            tracing::warn!(error.code = self.code, request.id = correlation_id, "{}", self.detail);
        } else {
            tracing::debug!(error.code = self.code, request.id = correlation_id, "{}", self.detail);
        }
        Problem::new(self.code, self.detail.clone(), correlation_id)
    }

    /// The answer to the request `id`; logged here, once.
    pub(super) fn respond(&self, shape: Shape, id: String) -> HttpResponse {
        let problem = self.log_as(id);
        let unrouted = matches!(self.code, "route_not_found" | "method_not_allowed");
        let mut status = self.status();
        if shape == Shape::Chat && unrouted {
            return HttpResponse::NotFound()
                .content_type("text/plain; charset=utf-8")
                .body("Not found");
        }
        if shape == Shape::OpenAi && status == StatusCode::GONE {
            // OpenAI does not tell what was deleted from what never was, and neither do its clients.
            status = StatusCode::NOT_FOUND;
        }
        let mut response = HttpResponse::build(status);
        if problem.overloaded {
            response.insert_header((header::RETRY_AFTER, "1"));
        }
        if self.code == "upgrade_required" {
            response.insert_header((header::UPGRADE, "websocket"));
        }
        if let Some(allow) = &self.allow {
            response.insert_header((header::ALLOW, allow.as_str()));
        }
        let (code, message) = (problem.code, problem.detail.as_str());
        match shape {
            Shape::Native => {
                response.content_type("application/problem+json");
                plain(&mut response, &problem)
            }
            Shape::Ui => json(&mut response, &UiError { error: UiErrorBody { code, message } }),
            Shape::Chat => json(&mut response, &ChatError { error: message }),
            Shape::OpenAi => {
                let r#type = match status {
                    StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
                    status if status.is_server_error() => "server_error",
                    _ => "invalid_request_error",
                };
                let error = OpenAiErrorBody { message, r#type, param: self.param, code };
                json(&mut response, &OpenAiError { error })
            }
        }
    }
}

fn json(response: &mut HttpResponseBuilder, value: &impl Serialize) -> HttpResponse {
    response.content_type("application/json");
    plain(response, value)
}

fn plain(response: &mut HttpResponseBuilder, value: &impl Serialize) -> HttpResponse {
    response.body(serde_json::to_string(value).expect("errors are plain JSON"))
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    /// Without a body: the middleware, which knows the route and the request's id, makes the answer.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status())
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        Self::new(rejection.code(), rejection.to_string())
    }
}

impl From<envelope::Error> for ApiError {
    fn from(error: envelope::Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> Self {
        let code = match error.kind {
            FailureKind::Configuration => "model_not_configured",
            // Nobody was asked: the request names a model that cannot be.
            FailureKind::Request if error.status.is_none() => "invalid",
            _ => "model_failed",
        };
        Self { status: error.status, ..Self::new(code, error.message) }
    }
}
