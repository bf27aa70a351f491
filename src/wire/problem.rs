//! Errors as clients see them: RFC 9457 problem documents with a stable `code`, and the list of all codes.

use serde::Serialize;
use utoipa::ToSchema;

/// A problem document.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Where the code is explained.
    pub r#type: String,
    /// What the code means.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time, and what to do.
    pub detail: String,
    /// Stable name of the cause.
    pub code: &'static str,
    /// Whether the same request may succeed later; with the same idempotency key it is carried out once.
    pub retryable: bool,
    /// Whether the server has too much to do: wait before a retry.
    pub overloaded: bool,
    /// Whether the cause is another node or service.
    pub remote: bool,
    /// Finds the request in the server's log.
    pub correlation_id: String,
}

/// What a code means: public API, explained in `docs/errors.md` and at `/problems/{code}`.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// Stable name.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
    /// What it means.
    pub title: &'static str,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Whether to wait before that.
    pub overloaded: bool,
    /// What to do.
    pub advice: &'static str,
}

const fn code(code: &'static str, status: u16, title: &'static str, advice: &'static str) -> Code {
    Code { code, status, title, retryable: false, overloaded: false, advice }
}

const fn retry(code: &'static str, status: u16, title: &'static str, advice: &'static str) -> Code {
    Code { code, status, title, retryable: true, overloaded: false, advice }
}

const fn wait(code: &'static str, status: u16, title: &'static str, advice: &'static str) -> Code {
    Code { code, status, title, retryable: true, overloaded: true, advice }
}

/// Every code there is.
pub const CODES: &[Code] = &[
    code("invalid", 400, "The request is not acceptable", "Change what `detail` names."),
    code(
        "cursor_unknown",
        400,
        "The cursor is not of this session",
        "Start again from the newest page.",
    ),
    code(
        "forbidden_origin",
        403,
        "The page that sent the request is not of this machine",
        "Serve the page from this machine, or through a proxy that asks for credentials: docs/deployment.md.",
    ),
    code(
        "session_not_found",
        404,
        "There is no such session",
        "Create it, or send it a first message.",
    ),
    code(
        "message_not_found",
        404,
        "There is no such message in the session",
        "Read the history again.",
    ),
    code("code_not_found", 404, "There is no such error code", "See docs/errors.md."),
    code("document_not_found", 404, "There is no such document", "See / for those that there are."),
    code("route_not_found", 404, "There is nothing at this path", "See /openapi.json."),
    code("method_not_allowed", 405, "The path does not take this method", "See /openapi.json."),
    retry("body_timeout", 408, "The body came too slowly", "Send it in one go."),
    code("message_exists", 409, "The message id is taken by another message", "Use another id."),
    code("version_conflict", 409, "Somebody changed the message", "Read it again, then decide."),
    code(
        "message_not_editable",
        409,
        "The message cannot be changed now",
        "Wait until it is complete; a deleted one stays deleted.",
    ),
    code("turn_in_progress", 409, "Too many turns wait in this session", "Wait until one is over."),
    code("turn_not_found", 404, "There is no such turn in the session", "Read the session again."),
    code("turn_over", 409, "The turn is over", "Nothing: it was completed, failed or superseded."),
    retry(
        "turn_active",
        409,
        "Another answer is being written",
        "Wait for it, stop it, or ask with `busy`.",
    ),
    code(
        "not_continuable",
        409,
        "The answer cannot go on",
        "Only the last answer can, after tool calls of the client or approvals.",
    ),
    code("tool_waits", 409, "A tool call has no result yet", "Send the results of all calls."),
    code("approval_not_found", 404, "Nothing waits for this approval", "Read the session again."),
    code("item_not_found", 404, "There is no such item", "Read the items again."),
    code("suffix_mismatch", 409, "The items do not end as expected", "Read the items again."),
    code(
        "operation_reused",
        409,
        "The operation id was used for another change",
        "Use a new id for a new change.",
    ),
    code(
        "model_not_configured",
        503,
        "The server is not set up for this model",
        "Do what `detail` says, or ask for another model.",
    ),
    retry("model_failed", 502, "The model could not be asked", "Try again later."),
    code("actor.deleted", 410, "The session was deleted", "Use another id."),
    code("too_large", 413, "Something is larger than allowed", "Make smaller what `detail` names."),
    code(
        "unsupported_media_type",
        415,
        "The body is in a form that is not read",
        "Send JSON, not packed.",
    ),
    code(
        "idempotency_key_reused",
        422,
        "The idempotency key was used for another request",
        "Use a new key for a new request.",
    ),
    code("upgrade_required", 426, "The path speaks WebSocket only", "Send an upgrade request."),
    wait("rate_limited", 429, "Too many messages", "Send more slowly."),
    retry("internal", 500, "The server made a mistake", "Report it with the correlation id."),
    wait(
        "overloaded.queue_count",
        503,
        "Too many commands wait for the session",
        "Wait as long as Retry-After says.",
    ),
    wait(
        "overloaded.queue_bytes",
        503,
        "Too many bytes wait for the session",
        "Wait as long as Retry-After says.",
    ),
    wait(
        "overloaded.queue_age",
        503,
        "The command waited too long",
        "Wait as long as Retry-After says.",
    ),
    wait("too_many_subscribers", 503, "The session has too many subscribers", "Close some."),
    retry(
        "actor.reset",
        503,
        "The session had to be reloaded",
        "Retry with the same idempotency key.",
    ),
    retry(
        "outcome_unknown",
        503,
        "Whether the change was kept is not known",
        "Retry with the same idempotency key.",
    ),
    retry(
        "quarantined",
        503,
        "The session cannot be opened",
        "Do what `detail` says, or delete it; no other session is touched.",
    ),
    wait(
        "starting",
        503,
        "The server is still looking through its sessions",
        "Wait as long as Retry-After says; sessions can be used meanwhile.",
    ),
    wait("shutting_down", 503, "The server is shutting down", "Retry, it may be back soon."),
    wait("storage_full", 507, "The disk is full", "Free space; nothing has to be restarted."),
    code(
        "session_full",
        507,
        "The session has reached its largest size",
        "Go on in a new session, or raise `limits.session_bytes`: a file does not become smaller by deleting.",
    ),
];

/// What `name` means; `internal` for a name that is not listed.
#[must_use]
pub fn find(name: &str) -> &'static Code {
    let by_name = |name: &str| CODES.iter().find(|code| code.code == name);
    by_name(name).or_else(|| by_name("internal")).expect("`internal` is listed")
}

impl Problem {
    /// The document for `code` with what happened this time.
    #[must_use]
    pub fn new(code: &str, detail: String, correlation_id: String) -> Self {
        let Code { code, status, title, retryable, overloaded, .. } = *find(code);
        Self {
            r#type: format!("/problems/{code}"),
            title,
            status,
            detail,
            code,
            retryable,
            overloaded,
            remote: false,
            correlation_id,
        }
    }
}
