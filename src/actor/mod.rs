//! The runtime: actors of any kind, each with one writer, and nothing leaves one before it is durable.
//!
//! **Shape.** A shard is an actix actor on a thread of its own, a shell around a core without threads or clocks. The core
//! holds the cells of the actors whose hash falls to it; a cell is an actor: its mailbox, its file, its subscribers. Cells
//! share the mailbox machinery of their shard because that is what makes them cheap: everything that came in while the
//! shard was busy is one turn of the shard, and the batches of all its cells go to the journal as one submission and come
//! back with one wake-up.
//!
//! **Kinds.** `hosted.rs` is what a kind gives the runtime, `host.rs` what the runtime sees of it, `kinds.rs` the way from
//! one to the other; `session/` is the first kind.
//!
//! **The write path**, as the code has it (`core.rs`, `host.rs`, `batch.rs`):
//!
//! ```text
//! deliver -> cell's mailbox -> [turn of the shard] decide + apply each command -> journal
//!   -> [durable] gate: answer callers, publish frames, start effects -> commit, about once a second
//! ```
//!
//! While a batch is on its way to the journal its cell takes nothing else, reads included: what they would see is not
//! durable yet. What arrives meanwhile is the next batch.
//!
//! **Failure.** If the journal refuses or does not know, the cell forgets its file and everything applied since the
//! last commit; the next command wakes it from the file and the journal, which together know what is true. A panic
//! or a damaged file puts one cell into quarantine and leaves the others alone.
//!
//! **Sleep.** A cell without work for some seconds moves its log into its file and closes it; what stays is its
//! subscribers, if it has any. Sockets belong to the front and keep nothing awake.

mod batch;
mod cell;
mod core;
#[cfg(test)]
mod counter;
mod delivery;
mod found;
mod host;
mod hosted;
mod hub;
mod input;
mod job;
mod kinds;
mod life;
mod listing;
mod node;
mod output;
mod rules;
mod sender;
mod session;
mod shard;
mod shared;
#[cfg(test)]
mod simulation;
mod start;
mod stop;
mod subscribe;
mod tasks;
mod tell;
mod timers;
mod wake;
mod work;

pub use node::Node;
pub use session::Engine;
pub use shared::Options;
