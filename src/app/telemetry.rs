//! Where the log goes: standard error, for people or for programs.

use std::io;
use std::io::IsTerminal;
use std::io::Write;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::event::poll;
use tracing_subscriber::EnvFilter;

use crate::base::metric;
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
        .with_writer(|| Patient)
        // Nobody reads the log, or its disk is full: that is no reason to fail what was being logged.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal() && !plain);
    // A second start in the same process, as in tests, keeps the first.
    drop(match log.format {
        LogFormat::Text => tracing::subscriber::set_global_default(subscriber.finish()),
        LogFormat::Json => tracing::subscriber::set_global_default(subscriber.json().finish()),
    });
}

/// Bytes that a pipe takes without waiting when it says that it takes any: `PIPE_BUF` of Linux.
const AT_ONCE_BYTES: usize = 4_096;

/// Standard error, as far as it takes lines at once. A reader that is stuck, as a log collector that hangs or a terminal
/// that is held with Ctrl-S, loses lines and stops nothing.
struct Patient;

impl Write for Patient {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut to = io::stderr().lock();
        for piece in line.chunks(AT_ONCE_BYTES) {
            let mut fds = [PollFd::new(&to, PollFlags::OUT)];
            // What cannot be asked, or has no reader any more, is written to and says so itself.
            if matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0)) {
                metric::counters().log_dropped.inc();
                break;
            }
            to.write_all(piece)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
