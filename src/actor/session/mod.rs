//! Sessions as actors: what their commands, queries and turns need of the runtime.

mod engine;
mod hosted;
mod list;
mod query;
mod turn;

pub use engine::Engine;
#[cfg(test)]
pub(super) use hosted::TurnTask;
