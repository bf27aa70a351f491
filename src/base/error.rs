//! The closed set of error kinds: each tells the caller what it can do. What an error says is up to its module.

/// What the caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Change the request.
    Invalid,
    /// Ask for permission.
    Forbidden,
    /// Look somewhere else.
    NotFound,
    /// Read again, then decide.
    Conflict,
    /// Come back later, more slowly.
    Overloaded,
    /// Nothing; the operator must act.
    Corrupt,
    /// Retry with the same idempotency key.
    Unavailable,
}

/// Implemented by every error that can reach a client.
pub trait Classify {
    /// What the caller can do.
    fn kind(&self) -> Kind;
    /// Stable name of the cause; public API, listed in `docs/errors.md`.
    fn code(&self) -> &'static str;
}
