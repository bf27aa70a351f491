//! The file of one session: how it comes to be, how events become rows, how history is read.
//!
//! A session's transaction stays open over many batches and is committed about once a second, so that a commit's cost
//! is shared by what happened meanwhile. That is safe because the journal holds every event first: whatever the open
//! transaction loses is replayed. Other programs that read the file therefore see it about a second late.
//!
//! A new session lives in memory for its first seconds; its file is written in one go afterwards. Making three files
//! and their directory entries takes longer than everything else that a first message needs.

mod apply;
mod blank;
mod check;
mod compact;
mod draft;
mod file;
mod items;
mod message;
mod page;
mod read;
mod rebuild;
mod template;
mod timer;
mod turn;

pub use blank::trim;
pub use file::OpenTransaction;
pub use file::SessionFile;
pub use read::card;
pub use read::owner;
pub use rebuild::Verified;
pub use timer::Timer;

#[cfg(test)]
mod tests;
