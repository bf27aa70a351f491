//! The session's own "no".

use std::borrow::Cow;

use serde::Deserialize;
use serde::Serialize;

use crate::base::Classify;
use crate::base::Kind;
use crate::base::ids::NotAName;
use crate::base::limits::Limit;
use crate::domain::session::Status;

/// The session's own "no". Nothing changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum Rejection {
    /// Nothing ever happened under this id.
    #[error("there is no such session")]
    SessionNotFound,
    /// The session has ended, its id stays taken.
    #[error("the session was deleted")]
    Deleted,
    /// No message has this id.
    #[error("there is no such message in the session")]
    MessageNotFound,
    /// The id belongs to another message.
    #[error("a message with this id and another content exists")]
    MessageExists,
    /// Somebody changed the message since.
    #[error("the message has version {is}, not {expected}")]
    VersionConflict {
        /// The version it has.
        is: u32,
        /// The version the caller saw.
        expected: u32,
    },
    /// The model is writing this message, or it is deleted.
    #[error("a message that is {} cannot be changed", status.as_str())]
    MessageNotEditable {
        /// Why not.
        status: Status,
    },
    /// A value is not acceptable.
    #[error("`{field}` {problem}")]
    Invalid {
        /// Which field.
        field: Cow<'static, str>,
        /// What is wrong with it.
        problem: Cow<'static, str>,
    },
    /// A bound was hit.
    #[error("`{}` is {is}, {max} is allowed", limit.name())]
    Limit {
        /// Which bound.
        limit: Limit,
        /// What was asked for.
        is: usize,
        /// What is allowed.
        max: usize,
    },
    /// The turn is not the one that runs.
    #[error("the turn is over")]
    TurnOver,
    /// No turn has this id.
    #[error("there is no such turn in the session")]
    TurnNotFound,
    /// Another turn runs.
    #[error("another answer is being written in this session: wait for it or stop it")]
    TurnActive,
    /// The message is not the last one, or does not wait for anything.
    #[error("this is not the last answer of the session, or it cannot go on")]
    NotContinuable,
    /// A tool call has no result yet.
    #[error("tool call `{tool_call_id}` waits for its result or approval")]
    ToolWaits {
        /// The call.
        tool_call_id: String,
    },
    /// Nothing waits for this approval.
    #[error("there is no such approval, or it was answered")]
    ApprovalNotFound,
    /// The items do not end as expected.
    #[error("the items do not end with `expectedSuffix`")]
    SuffixMismatch,
    /// No item has this id.
    #[error("there is no such item in the session")]
    ItemNotFound,
}

impl Rejection {
    /// What `field` says is not acceptable.
    #[must_use]
    pub fn invalid(field: &'static str, problem: &'static str) -> Self {
        Self::Invalid { field: Cow::Borrowed(field), problem: Cow::Borrowed(problem) }
    }

    /// Nothing can be called what `field` says.
    pub fn misnamed(field: &'static str) -> impl FnOnce(NotAName) -> Self {
        move |NotAName| Self::invalid(field, NotAName::RULE)
    }
}

impl Classify for Rejection {
    fn kind(&self) -> Kind {
        match self {
            Self::SessionNotFound
            | Self::Deleted
            | Self::MessageNotFound
            | Self::TurnNotFound
            | Self::ApprovalNotFound
            | Self::ItemNotFound => Kind::NotFound,
            Self::TurnActive
            | Self::NotContinuable
            | Self::ToolWaits { .. }
            | Self::SuffixMismatch
            | Self::MessageExists
            | Self::VersionConflict { .. }
            | Self::MessageNotEditable { .. }
            | Self::TurnOver => Kind::Conflict,
            Self::Invalid { .. } | Self::Limit { .. } => Kind::Invalid,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::SessionNotFound => "session_not_found",
            Self::Deleted => "actor.deleted",
            Self::MessageNotFound => "message_not_found",
            Self::MessageExists => "message_exists",
            Self::VersionConflict { .. } => "version_conflict",
            Self::MessageNotEditable { .. } => "message_not_editable",
            Self::Invalid { .. } => "invalid",
            Self::Limit { limit, .. } => limit.code(),
            Self::TurnOver => "turn_over",
            Self::TurnNotFound => "turn_not_found",
            Self::TurnActive => "turn_active",
            Self::NotContinuable => "not_continuable",
            Self::ToolWaits { .. } => "tool_waits",
            Self::ApprovalNotFound => "approval_not_found",
            Self::SuffixMismatch => "suffix_mismatch",
            Self::ItemNotFound => "item_not_found",
        }
    }
}
