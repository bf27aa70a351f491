//! What becomes of records that the journal does not take.

/// Why an append was not carried out, as far as one can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The disk failed in the middle: the records may or may not come back after a crash.
    #[error("the journal could not be written; whether the change was kept is not known yet")]
    Unknown,
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// Too much waits, or the journal is as large as it may be, or closed. Nothing was stored.
    #[error("the journal takes no more at the moment")]
    Busy,
}

/// Records that are not durable, and why not: all behind the first `durable` of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{durable} records are durable, the others are not: {error}")]
pub struct Refused {
    /// How many are durable.
    pub durable: usize,
    /// What became of the others.
    pub error: AppendError,
}
