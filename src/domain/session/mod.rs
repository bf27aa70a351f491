//! A chat session: its messages and parts, the turns of the model, and the events that are its history.

mod command;
mod decide;
mod event;
mod history;
mod message;
mod turn;
mod view;

pub use command::Command;
pub use command::NewMessage;
pub use command::SessionChanges;
pub use decide::Context;
pub use decide::Decision;
pub use decide::Outcome;
pub use decide::Rejection;
pub use decide::Stop;
pub use decide::decide;
pub use event::Event;
pub use event::EventKind;
pub use event::Undecodable;
pub use event::message_of;
pub use history::Direction;
pub use history::Page;
pub use history::SharedPage;
pub use history::StoredEvent;
pub use message::Message;
pub use message::Part;
pub use message::Role;
pub use message::Status;
pub use turn::Turn;
pub use turn::TurnState;
pub use view::Head;
pub use view::Session;
pub use view::View;

#[cfg(test)]
mod tests;
