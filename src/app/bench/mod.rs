//! `sessile bench`: the canonical workload against a server of its own, in numbers a person can check.
//!
//! # What it does
//!
//! It starts this same binary as a child process, on loopback, with an empty data folder on the
//! disk that is asked about, and is that server's only client. Every figure comes from outside the
//! process under measure: answers that arrived, frames that were delivered, memory that the kernel
//! counts. Nothing is read from the server but `/metrics`, and that only to know when its actors
//! sleep.
//!
//! # Why not wrk, criterion, or a crate for load
//!
//! wrk cannot open a socket, wait for a sleeping actor, or read memory, and is not there on a
//! user's machine. `benches/peers` does use it, where a second server must be measured by the same
//! client. The client here is as plain as HTTP/1.1 allows (a prepared request, a status, a length),
//! so that most of what it measures is the server. It still runs on one thread and shares the
//! machine: on two cores its own work is part of every figure, and most of all of fan-out, where it
//! receives each frame that the server sends. Compare figures of one run with each other; the two
//! limits that are measured beside them (`GET /livez`, the disk's own fdatasync) make that possible.
//!
//! # What must stay true
//!
//! * **Bounded.** Every loop ends by count or by time, and every workload within
//!   `WORKLOAD_SECONDS_MAX`. The child ends with the bench, also after an error or Ctrl-C, and the
//!   folder that was made is removed.
//! * **Errors are not figures.** One status that is not 2xx, or one frame that does not come, and
//!   the workload is reported as failed and the bench ends with an error. A server that refuses
//!   quickly must not look fast.
//! * **Closed loop for rates, open loop for fan-out.** A rate is what N connections get when each
//!   waits for its answer. Publishing keeps its own pace, so that a slow delivery is seen as
//!   latency, and is not hidden by publishing less.
//! * **Turns are timed on one clock.** 50 turns, then 200, stream 50 deltas/s each, from a model on
//!   loopback that is part of this process to readers of `/api/chat` that are too; each delta carries
//!   its number and the time of sending. The starts are spread, so turns are not in step. Every delta
//!   must come once and in order, and the pace must be kept. At least 10 s are measured, whatever
//!   `--seconds` says.
//! * **Memory is a slope.** One fifth of the sessions come first and the allocator settles; what
//!   the others add is divided by their number. So neither the process itself nor what the
//!   allocator keeps for reuse is charged to a session. It is resident memory: buffers that the
//!   kernel holds for a socket are not in it, nor is the page cache.
//! * **A start is looked at from outside.** Its time counts from the start of the process, CPU and memory are what the
//!   kernel says of it, and how many sessions it looked at is what it counted itself. The sessions were touched until
//!   the moment of the kill: some are in memory, most asleep, and the journal has all of them.
//! * **Cold means asleep.** The session's actor is gone and its file closed; the file may still be
//!   in the page cache.

mod client;
mod clock;
mod disk;
mod fan_out;
mod load;
mod memory;
mod model;
mod options;
mod page;
mod report;
mod restart;
mod run;
mod server;
mod sleep;
mod turns;
mod visible;
mod write;

pub use options::{Options, Workload};
pub use run::run;
