//! Where the log goes: standard error, for people or for programs.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::config::Log;
use crate::config::LogFormat;

/// Starts logging; once per process.
pub fn init(log: &Log) {
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second start in the same process, as in tests, keeps the first.
    drop(match log.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    });
}
