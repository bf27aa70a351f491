//! The integration tests: one binary, a module per topic, the real server as a child process.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![expect(unreachable_pub, reason = "a test binary has nothing that others could reach")]

mod support;

mod ai_sdk;
mod api;
mod broken_off;
mod chat;
mod cli_providers;
mod compaction;
mod conversations;
mod crash;
mod damage;
mod drains;
mod edge;
mod events;
mod fanout;
mod faults;
mod flips;
mod hostile;
mod hostile_names;
mod lifecycle;
mod limits;
mod model_servers;
mod names;
mod once;
mod openapi;
mod pages;
mod power;
mod providers;
mod redaction;
mod restarts;
mod retries;
mod sessions;
mod sockets;
mod startup;
mod streams;
mod tidy;
mod turn_hostile;
mod turn_kills;
mod turns;
mod verify;
