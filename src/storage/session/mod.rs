//! What the file of a session holds: its messages and parts, turns, and the items of agents.

mod apply;
mod check;
mod compact;
mod draft;
mod items;
mod message;
mod page;
mod read;
mod tables;
mod turn;

pub use tables::SessionFile;
pub use tables::SessionTables;

#[cfg(test)]
mod tests;
