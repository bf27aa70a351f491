//! A chat session: its messages and parts, the turns of the model, and the events that are its history.

mod agents;
mod approvals;
mod command;
mod decide;
mod draft;
mod event;
mod history;
mod items;
mod message;
mod title;
mod turn;
mod turns;
mod view;

pub use command::Command;
pub use command::Input;
pub use command::ItemsCommand;
pub use command::NewMessage;
pub use command::NewTurn;
pub use command::Piece;
pub use command::SessionChanges;
pub use command::ToolAnswer;
pub use decide::Context;
pub use decide::Decision;
pub use decide::Outcome;
pub use decide::Rejection;
pub use decide::Stop;
pub use decide::decide;
pub use draft::Draft;
pub use draft::Growing;
pub use event::Event;
pub use event::EventKind;
pub use event::message_of;
pub use history::Direction;
pub use history::Page;
pub use history::SharedPage;
pub use items::Item;
pub use items::ItemsChange;
pub use items::made_id;
pub use items::same_items;
pub use message::Message;
pub use message::Part;
pub use message::Role;
pub use message::Status;
pub use turn::Busy;
pub use turn::Counted;
pub use turn::Ending;
pub use turn::Turn;
pub use turn::TurnOptions;
pub use turn::TurnState;
pub use turn::Usage;
pub use view::Head;
pub use view::Session;
pub use view::View;

#[cfg(test)]
pub(crate) mod tests;
