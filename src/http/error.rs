//! The one place where errors become bytes.

use std::fmt;

use actix_web::HttpResponse;
use actix_web::ResponseError;
use actix_web::http::StatusCode;
use actix_web::http::header;

use crate::base::Classify;
use crate::base::ids;
use crate::domain::session::Rejection;
use crate::model::FailureKind;
use crate::model::ModelError;
use crate::wire::envelope;
use crate::wire::problem;
use crate::wire::problem::Problem;

/// An error on its way to a client.
#[derive(Debug)]
pub(super) struct ApiError {
    code: &'static str,
    detail: String,
    /// In place of the status of the code.
    status: Option<u16>,
}

impl ApiError {
    pub(super) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), status: None }
    }

    /// The request is not acceptable.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new("invalid", detail)
    }

    /// Its HTTP status.
    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status.unwrap_or_else(|| problem::find(self.code).status))
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The problem document; logged here, once.
    pub(super) fn problem(&self) -> Problem {
        let correlation_id = ids::fresh();
        let status = self.status();
        if status.is_server_error() {
            tracing::warn!(error.code = self.code, request.id = correlation_id, "{}", self.detail);
        } else {
            tracing::debug!(error.code = self.code, request.id = correlation_id, "{}", self.detail);
        }
        Problem::new(self.code, self.detail.clone(), correlation_id)
    }
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

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status());
        if problem::find(self.code).overloaded {
            response.insert_header((header::RETRY_AFTER, "1"));
        }
        if self.code == "upgrade_required" {
            response.insert_header((header::UPGRADE, "websocket"));
        }
        response.content_type("application/problem+json").json_body(&self.problem())
    }
}

/// `json` of actix sets a content type of its own.
trait JsonBody {
    fn json_body(&mut self, value: &impl serde::Serialize) -> HttpResponse;
}

impl JsonBody for actix_web::HttpResponseBuilder {
    fn json_body(&mut self, value: &impl serde::Serialize) -> HttpResponse {
        self.body(serde_json::to_string(value).expect("problems are plain JSON"))
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
            _ => "model_failed",
        };
        Self { code, detail: error.message, status: error.status }
    }
}

/// An error in the shape that AI SDK applications show: `{"error": {"code", "message"}}`, short, since those
/// applications show the whole body to their users.
#[derive(Debug)]
pub(super) struct UiError(pub ApiError);

impl fmt::Display for UiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl ResponseError for UiError {
    fn status_code(&self) -> StatusCode {
        self.0.status()
    }

    fn error_response(&self) -> HttpResponse {
        let problem = self.0.problem();
        let mut response = HttpResponse::build(self.0.status());
        if problem.overloaded {
            response.insert_header((header::RETRY_AFTER, "1"));
        }
        let error = serde_json::json!({ "code": problem.code, "message": problem.detail });
        response.json(serde_json::json!({ "error": error }))
    }
}

impl<E: Into<ApiError>> From<E> for UiError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// An error in the shape of the chat route: `{"error": "..."}`.
#[derive(Debug)]
pub(super) struct ChatError(pub ApiError);

impl fmt::Display for ChatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl ResponseError for ChatError {
    fn status_code(&self) -> StatusCode {
        self.0.status()
    }

    fn error_response(&self) -> HttpResponse {
        let problem = self.0.problem();
        let mut response = HttpResponse::build(self.0.status());
        if problem.overloaded {
            response.insert_header((header::RETRY_AFTER, "1"));
        }
        if self.0.code == "upgrade_required" {
            response.insert_header((header::UPGRADE, "websocket"));
        }
        response.json(serde_json::json!({ "error": problem.detail }))
    }
}

impl<E: Into<ApiError>> From<E> for ChatError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// An error in the shape of OpenAI's API: `{"error": {"message", "type", "param", "code"}}`.
#[derive(Debug)]
pub(super) struct OpenAiError {
    error: ApiError,
    param: Option<&'static str>,
}

impl OpenAiError {
    /// The request is not acceptable because of `param`.
    pub(super) fn of(param: &'static str, detail: impl Into<String>) -> Self {
        Self { error: ApiError::invalid(detail), param: Some(param) }
    }

    fn status(&self) -> StatusCode {
        match self.error.status() {
            // OpenAI does not tell what was deleted from what never was, and neither do its clients.
            StatusCode::GONE => StatusCode::NOT_FOUND,
            status => status,
        }
    }
}

impl fmt::Display for OpenAiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl ResponseError for OpenAiError {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse {
        let problem = self.error.problem();
        let status = self.status();
        let mut response = HttpResponse::build(status);
        if problem.overloaded {
            response.insert_header((header::RETRY_AFTER, "1"));
        }
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let error = serde_json::json!({
            "message": problem.detail, "type": kind, "param": self.param, "code": problem.code,
        });
        response.json(serde_json::json!({ "error": error }))
    }
}

impl<E: Into<ApiError>> From<E> for OpenAiError {
    fn from(error: E) -> Self {
        Self { error: error.into(), param: None }
    }
}
