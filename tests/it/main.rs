//! The integration tests: one binary, a module per topic, the real server as a child process.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod support;
