//! The timers of a session: what each is for, and what is to be done when it is due.

use crate::domain::session::Command;
use crate::domain::session::Head;
use crate::domain::session::TurnState;

/// What a timer is for; its name is a disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerKind {
    /// An approval expires; the timer is called after its turn.
    Approval,
    /// Text that grew leaves the log.
    Compact,
}

impl TimerKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Approval, Self::Compact];

    /// Its name in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approval => "approval",
            Self::Compact => "compact",
        }
    }

    /// The kind that is called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// What is to be done about a timer that is due.
#[derive(Debug)]
pub enum DueTimer {
    /// This, which takes it away.
    Command(Command),
    /// The log is compacted, which sees to the timer.
    Compact,
    /// Nothing: what it waited for is over.
    Nothing,
}

/// What is to be done about the timer of `kind` called `id`, which is due in a session with this `head`.
#[must_use]
pub fn due(head: &Head, kind: TimerKind, id: &str) -> DueTimer {
    match kind {
        TimerKind::Compact => DueTimer::Compact,
        TimerKind::Approval => match &head.active_turn {
            Some(turn) if turn.id == id && turn.state == TurnState::WaitingApproval => {
                DueTimer::Command(Command::ExpireApprovals { turn_id: id.to_owned() })
            }
            _ => DueTimer::Nothing,
        },
    }
}
