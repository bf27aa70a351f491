//! Everything on disk: the journal, the session files, the node's catalogue. The only user of SQLite.
//!
//! What is durable is decided by the journal alone; a session file may lag behind it and is brought up to date from
//! it. Nothing here awaits: callers choose the thread.

pub mod catalogue;
mod claim;
#[cfg(test)]
pub(crate) mod counter;
pub mod disk;
mod error;
pub mod file;
pub mod folder;
pub mod journal;
pub mod kinds;
mod schema;
mod seal;
pub mod session;
mod sql;
mod sum;
pub mod verify;
mod wal;

pub use error::Error;
pub use error::While;
pub use error::describe;
pub use folder::Folder;

#[cfg(test)]
mod tests;
