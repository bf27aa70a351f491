//! What one actor tells another.

use crate::base::Key;

/// What one actor tells another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tell {
    /// Whom.
    pub to: Key,
    /// If set, an earlier one in the same slot that was not heard yet need not be heard any more.
    pub slot: Option<&'static str>,
    /// What, as the receiver's kind reads it.
    pub body: String,
}

/// A row of the outbox on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its number among those of its sender.
    pub number: u64,
    /// What it says.
    pub body: String,
}
