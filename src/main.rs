//! The program: reads the command line and maps the result to an exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use sessile::app::cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Nothing is left to tell if standard error is gone as well.
            drop(writeln!(std::io::stderr(), "sessile: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
