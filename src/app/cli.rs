//! The command line: `serve`, which is also what no verb means, and what can be done beside it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clap::Parser;
use clap::Subcommand;

use crate::app;
use crate::app::bench;
use crate::app::verify;
use crate::config::effective;
use crate::config::load;
use crate::config::markdown;
use crate::config::read;

/// The stateful backend of AI chat: one durable actor and one SQLite file per conversation.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve sessions over HTTP, WebSocket and SSE. The same as no verb.
    Serve(Serve),
    /// Measure this build on this machine: bounded, on loopback, with a server of its own.
    Bench(bench::Options),
    /// Check a data folder, or one session, also beside a running server: 0 whole, 1 damaged, 2 not checked.
    Verify {
        #[command(flatten)]
        options: verify::Options,
        /// Id of a session, or path of a session file; without it everything is checked
        #[arg(allow_hyphen_values = true)]
        session: Option<String>,
    },
    /// Print the path of a session's SQLite file.
    Path {
        #[command(flatten)]
        options: verify::Options,
        /// Id of the session
        #[arg(allow_hyphen_values = true)]
        session: String,
    },
    /// Print the settings in force and where each comes from; secrets are not among them.
    Config(Settings),
    /// Ask a running server whether it is ready; exit code 0 or 1.
    Health(Health),
}

#[derive(Args, Debug)]
struct Settings {
    /// A TOML file with settings
    #[arg(long, value_name = "FILE", env = "SESSILE_CONFIG")]
    config: Option<PathBuf>,
    /// Print the reference of all settings instead, as in docs/configuration.md
    #[arg(long)]
    markdown: bool,
}

#[derive(Args, Debug)]
struct Health {
    /// Where it accepts [default: `http.listen` of the settings]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// A TOML file with settings
    #[arg(long, value_name = "FILE", env = "SESSILE_CONFIG")]
    config: Option<PathBuf>,
}

/// Every setting is also a key of the file and an environment variable, as `SESSILE__HTTP__LISTEN`. Flags win over the
/// environment, the environment over the file, the file over the defaults.
#[derive(Args, Debug, Default)]
struct Serve {
    /// Address to accept on; port 0 takes a free one [default: 127.0.0.1:8080] [env: `SESSILE__HTTP__LISTEN`]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The data folder, made if it is new [default: ./data] [env: `SESSILE__STORAGE__DATA`]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// A TOML file with settings
    #[arg(long, value_name = "FILE", env = "SESSILE_CONFIG")]
    config: Option<PathBuf>,
    /// Start although durable records are missing from a damaged journal [env: `SESSILE__JOURNAL__ACCEPT_DAMAGE`]
    #[arg(long)]
    accept_journal_damage: bool,
    /// Open the address in a browser once the server accepts
    #[arg(long)]
    open: bool,
}

/// Runs what the command line asks for.
///
/// # Errors
///
/// Whatever it fails with, with what to do about it.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let system = actix_web::rt::System::new();
    match cli.verb {
        Some(Verb::Bench(options)) => system.block_on(bench::run(&options))?,
        Some(Verb::Config(settings)) => print_settings(&settings)?,
        Some(Verb::Health(health)) => {
            let flags = [("http.listen", health.listen)];
            let config = load(health.config.as_deref(), &flags).context("reading the settings")?;
            system.block_on(app::health::check(config.http.listen))?;
        }
        Some(Verb::Serve(serve)) => system.block_on(start(serve))?,
        Some(Verb::Verify { options, session }) => {
            return Ok(verify::run(&options, session.as_deref()));
        }
        Some(Verb::Path { options, session }) => verify::path(&options, &session)?,
        None => system.block_on(start(cli.serve))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print_settings(settings: &Settings) -> anyhow::Result<()> {
    let text = match settings.markdown {
        true => markdown(),
        false => {
            let read = read(settings.config.as_deref(), &[]);
            let (config, layers) = read.context("reading the settings")?;
            effective(&config, &layers)
        }
    };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

async fn start(serve: Serve) -> anyhow::Result<()> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let flags = [
        ("http.listen", serve.listen),
        ("storage.data", serve.data.map(text)),
        ("journal.accept_damage", serve.accept_journal_damage.then(|| "true".to_owned())),
    ];
    let config = load(serve.config.as_deref(), &flags).context("reading the settings")?;
    app::init(&config.log);
    app::serve(config, serve.open).await
}
