//! What a command leads to, and what the rules need for that.

use crate::base::limits::Limits;
use crate::domain::session::Event;
use crate::domain::session::Item;
use crate::domain::session::Message;
use crate::domain::session::Rejection;
use crate::domain::session::Turn;

/// What the rules need of the world.
pub struct Context<'a> {
    /// Unix time in milliseconds.
    pub now_ms: i64,
    /// Makes an id that nobody has.
    pub new_id: &'a dyn Fn() -> String,
    /// The bounds in force.
    pub limits: &'a Limits,
    /// Whether turns may begin; those that wait stay where they are if not.
    pub begins_turns: bool,
}

/// What a command leads to.
#[derive(Debug, PartialEq)]
pub struct Decision {
    /// What happens; empty if the command was carried out before.
    pub events: Vec<Event>,
    /// What the caller hears once the events are durable.
    pub outcome: Outcome,
}

/// What the caller hears.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// The message of the first event.
    Added,
    /// This message, as it is or will be.
    Message(Box<Message>),
    /// The session as it is then; `created` if it is new.
    Session {
        /// Whether this command made it.
        created: bool,
    },
    /// The turn as it is then.
    Turn(Box<Turn>),
    /// Items were added or taken back.
    Items {
        /// How many there are then.
        count: u64,
        /// Those that were added.
        items: Vec<Item>,
    },
    /// The last item was taken back.
    Popped(Option<Item>),
    /// Only that it is done.
    Done,
}

/// Why there is no decision.
#[derive(Debug)]
pub enum Stop<E> {
    /// The session refuses.
    Rejected(Rejection),
    /// The past could not be read.
    View(E),
}

impl<E> From<Rejection> for Stop<E> {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

pub(super) type Decided<E> = Result<Decision, Stop<E>>;

/// Nothing happens: the command was carried out before.
pub(super) fn nothing(outcome: Outcome) -> Decision {
    Decision { events: Vec::new(), outcome }
}
