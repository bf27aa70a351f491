//! Tools of MCP servers: connects, lists, calls, and connects again when a server went away.

mod result;
mod server;
mod transport;

pub(super) use server::Server;
