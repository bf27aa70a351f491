//! The integration tests: one binary, a module per topic, the real server as a child process.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod support;

mod api;
mod chat;
mod events;
mod fanout;
mod hostile;
mod hostile_names;
mod lifecycle;
mod limits;
mod openapi;
mod pages;
mod redaction;
mod retries;
mod sessions;
mod sockets;
mod startup;
mod streams;
mod tidy;
