//! What every integration test needs: a real server in a child process, and clients for it.

pub mod server;

pub use server::Server;
