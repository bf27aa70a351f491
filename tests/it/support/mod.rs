//! What every integration test needs: a real server in a child process, and clients for it.

pub mod agents;
pub mod client;
pub mod clock;
pub mod fault;
pub mod hostile_provider;
pub mod ledger;
pub mod provider_words;
pub mod scripted;
pub mod server;
pub mod socket;
pub mod strict;
pub mod strict_server;
pub mod stub;

pub use server::Server;
