//! Where the log goes: standard error, for people or for programs.

use std::io;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::Log;
use crate::config::LogFormat;
use crate::config::environment;

/// Starts logging; once per process.
///
/// Colours are for terminals, and not for those who set `NO_COLOR`. What libraries say through the `log` crate is left
/// out: such lines carry paths of the machine that built the program.
pub fn init(log: &Log) {
    let filter = EnvFilter::try_new(log.directives()).unwrap_or_else(|_| EnvFilter::new("info"));
    let plain = environment("NO_COLOR").is_some_and(|value| !value.is_empty());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // Nobody reads the log, or its disk is full: that is no reason to fail what was being logged.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal() && !plain);
    // A second start in the same process, as in tests, keeps the first.
    drop(match log.format {
        LogFormat::Text => tracing::subscriber::set_global_default(subscriber.finish()),
        LogFormat::Json => tracing::subscriber::set_global_default(subscriber.json().finish()),
    });
}
