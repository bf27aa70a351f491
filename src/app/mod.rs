//! Composition: settings become actors and a server; how both start and stop; the verbs of the command line.

pub mod bench;
pub mod cli;
mod health;
mod run;
mod telemetry;
mod verify;

pub use run::serve;
pub use telemetry::init;
