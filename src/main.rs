//! The program: reads the command line and maps the result to an exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use sessile::app::cli;
use sessile::base::process;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match process::become_another(std::env::args_os()) {
        None => {}
        Some(Ok(())) => return ExitCode::SUCCESS,
        Some(Err(error)) => {
            drop(writeln!(std::io::stderr(), "sessile: the program cannot be run: {error}"));
            return ExitCode::from(127);
        }
    }
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Nothing is left to tell if standard error is gone as well.
            drop(writeln!(std::io::stderr(), "sessile: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
