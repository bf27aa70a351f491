//! What the file of a session holds: its messages and parts, turns, and the items of agents.

mod apply;
mod bounded;
mod check;
mod compact;
mod draft;
mod items;
mod message;
mod page;
mod read;
mod state;
mod tables;
mod turn;

pub use state::Later;
pub use state::SessionFile;
pub use state::SessionTables;

#[cfg(test)]
mod tests;
