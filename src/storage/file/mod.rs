//! The file of one actor, whatever its kind: how it comes to be, how events become rows, how its log is read.
//!
//! A transaction stays open over many batches and is committed about once a second, so that a commit's cost is shared
//! by what happened meanwhile. That is safe because the journal holds every event first: whatever the open transaction
//! loses is replayed. Other programs that read the file therefore see it about a second late.
//!
//! A new actor lives in memory for its first seconds; its file is written in one go afterwards. Making three files and
//! their directory entries takes longer than everything else that a first message needs.
//!
//! Every file has a log of events, answers that are kept for repeated requests, timers, and one row that says whose it
//! is. What else is in it is its kind's: see [`Tables`].

mod actor_file;
mod answers;
mod any;
mod blank;
mod check;
mod database;
mod findings;
mod kept;
mod letter;
mod letters;
pub(super) mod log;
mod outbox;
mod reads;
mod rebuild;
mod table;
mod tables;
mod template;
pub(super) mod timer;

pub use actor_file::ActorFile;
pub use actor_file::OpenTransaction;
pub use any::AnyFile;
pub use any::card;
pub use any::last_seq;
pub use any::owner;
pub use blank::Blank;
pub use findings::Findings;
pub use letter::Letter;
pub use letter::Tell;
pub use rebuild::Verified;
pub use rebuild::verify;
pub use table::Place;
pub use table::Settings;
pub use table::StandIn;
pub use table::Table;
pub(crate) use table::table;
pub use tables::Tables;
pub use timer::Timer;

pub(super) use kept::kept_at;
pub(super) use kept::remember;
