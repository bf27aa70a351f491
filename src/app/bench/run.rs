//! The order of a bench: which server is started for which workloads, and how all of it ends.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::app::bench::model::Model;
use crate::app::bench::options::{Options, Workload};
use crate::app::bench::report::{Report, Row, progress};
use crate::app::bench::server::{Scratch, Server, Sleep};
use crate::app::bench::{disk, fan_out, memory, page, restart, sleep, turns, visible, write};

/// What any one workload may take with everything it prepares.
const WORKLOAD_SECONDS_MAX: u64 = 900;

/// Workloads on a server as it is by default.
const AWAKE: [Workload; 7] = [
    Workload::Livez,
    Workload::Hot,
    Workload::Many,
    Workload::New,
    Workload::Visible,
    Workload::Page,
    Workload::FanOut,
];
/// Workloads on a server whose actors sleep soon.
const ASLEEP: [Workload; 3] = [Workload::Wake, Workload::MemorySleeping, Workload::MemorySocket];

/// Runs the canonical workload and prints what it found.
///
/// The servers it starts have ended, and its folder is gone, when this returns.
///
/// # Errors
///
/// If the bench is interrupted, if a workload fails (the others are printed all the same), and,
/// with `--check`, if a target is missed.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let binary = match &options.binary {
        Some(path) => fs::canonicalize(path).with_context(|| path.display().to_string())?,
        None => std::env::current_exe().context("finding this program")?,
    };
    let parent = options.data.as_deref().unwrap_or_else(|| Path::new("."));
    let scratch = Scratch::create(parent)?;
    let bench = Bench { options, binary, scratch };
    // Boxed: the future of all workloads is some kilobytes, and this one's caller may hold it too.
    let result = tokio::select! {
        report = Box::pin(bench.measure()) => Ok(report),
        interrupted = interrupted() => interrupted,
    };
    bench.scratch.remove().await?;
    print(options, &result?)
}

/// What every workload needs to know.
struct Bench<'a> {
    options: &'a Options,
    binary: PathBuf,
    scratch: Scratch,
}

impl Bench<'_> {
    async fn measure(&self) -> Report {
        let mut report = Report::new(self.options);
        if self.options.wants(Workload::Disk) {
            progress("measuring the disk");
            let rows = disk::measure(&self.scratch.join("fdatasync"), write::seconds(self.options));
            report.take("disk", rows);
        }
        if self.options.wants_any(&AWAKE) {
            let done = self.awake(&mut report).await;
            report.take("server", done.map(|()| Vec::new()));
        }
        if self.options.wants(Workload::Turns) {
            let rows = bounded(self.turns()).await;
            report.take("turns", rows);
        }
        if self.options.wants_any(&ASLEEP) {
            let done = self.asleep(&mut report).await;
            report.take("server whose actors sleep", done.map(|()| Vec::new()));
        }
        if self.options.wants(Workload::MemoryOpen) {
            let rows = bounded(self.open()).await;
            report.take("memory-open", rows);
        }
        if self.options.wants(Workload::Restart) {
            let folder = self.scratch.join("restart");
            let rows = bounded(restart::measure(&self.binary, &folder, self.options)).await;
            report.take("restart", rows);
        }
        report
    }

    async fn awake(&self, report: &mut Report) -> anyhow::Result<()> {
        let folder = self.scratch.join("awake");
        let mut server = Server::start(&self.binary, &folder, Sleep::Default).await?;
        let (address, options) = (server.address, self.options);
        progress("measuring /livez");
        // Always: the others are held against it.
        let livez = write::livez(address, options).await.map_err(|error| server.explain(error))?;
        if options.wants(Workload::Livez) {
            report.rows.push(Row::rate("no-op route, GET /livez", &livez));
        }
        for workload in AWAKE {
            if workload == Workload::Livez || !options.wants(workload) {
                continue;
            }
            progress(&format!("measuring {workload}"));
            let rows = bounded(async {
                match workload {
                    Workload::Hot => write::hot(address, options, livez.rate).await,
                    Workload::Many => write::many(address, options, livez.rate).await,
                    Workload::New => write::new(address, options).await,
                    Workload::Visible => {
                        visible::measure(&server, &folder.join("data"), options).await
                    }
                    Workload::Page => page::measure(address, options).await,
                    Workload::FanOut => fan_out::measure(address, options).await,
                    _ => Ok(Vec::new()),
                }
            });
            let rows = rows.await.map_err(|error| server.explain(error));
            report.take(&workload.to_string(), rows);
        }
        server.stop().await
    }

    /// Servers of their own, each of which is told of a model that is here.
    async fn turns(&self) -> anyhow::Result<Vec<Row>> {
        let mut rows = Vec::new();
        for load in turns::LOADS {
            progress(&format!("measuring {} turns", load.0));
            let model = Model::listen().await?;
            let folder = self.scratch.join(&format!("turns-{}", load.0));
            let settings = Some(model.settings());
            let mut server =
                Server::start_with(&self.binary, &folder, Sleep::Default, settings.as_deref())
                    .await?;
            let measured = turns::measure(&server, model, load, self.options).await;
            rows.extend(measured.map_err(|error| server.explain(error))?);
            server.stop().await?;
        }
        Ok(rows)
    }

    async fn asleep(&self, report: &mut Report) -> anyhow::Result<()> {
        for workload in ASLEEP {
            if !self.options.wants(workload) {
                continue;
            }
            progress(&format!("measuring {workload}"));
            // One server each: what one workload leaves in memory is not the next one's.
            let folder = self.scratch.join(&format!("asleep-{workload}"));
            let sleep = Sleep::After(sleep::SLEEP_AFTER);
            let mut server = Server::start(&self.binary, &folder, sleep).await?;
            let rows = bounded(async {
                match workload {
                    Workload::Wake => sleep::wake(&server, self.options).await,
                    Workload::MemorySleeping => memory::sleeping(&server, self.options).await,
                    Workload::MemorySocket => memory::sockets(&server, self.options).await,
                    _ => Ok(Vec::new()),
                }
            });
            let rows = rows.await.map_err(|error| server.explain(error));
            report.take(&workload.to_string(), rows);
            server.stop().await?;
        }
        Ok(())
    }

    /// Two servers on one folder: the first makes the files, the second opens them and keeps them.
    async fn open(&self) -> anyhow::Result<Vec<Row>> {
        progress("measuring memory-open");
        let folder = self.scratch.join("open");
        let sleep = Sleep::After(sleep::SLEEP_AFTER);
        let mut server = Server::start(&self.binary, &folder, sleep).await?;
        let prepared = memory::prepare_open(&server, self.options).await;
        prepared.map_err(|error| server.explain(error))?;
        server.stop().await?;
        let mut server = Server::start(&self.binary, &folder, Sleep::Never).await?;
        let rows = memory::open(&server, self.options).await;
        let rows = rows.map_err(|error| server.explain(error))?;
        server.stop().await?;
        Ok(rows)
    }
}

async fn bounded(
    workload: impl Future<Output = anyhow::Result<Vec<Row>>>,
) -> anyhow::Result<Vec<Row>> {
    let time = Duration::from_secs(WORKLOAD_SECONDS_MAX);
    // Boxed for the same reason as in `run`.
    timeout(time, Box::pin(workload)).await.with_context(|| format!("not done in {time:?}"))?
}

/// Ends, with an error, when a person or a supervisor asks the bench to.
async fn interrupted() -> anyhow::Result<Report> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.context("listening for Ctrl-C")?,
        _ = terminate.recv() => {}
    }
    bail!("interrupted")
}

fn print(options: &Options, report: &Report) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written =
        if options.json { report.write_json(&mut out) } else { report.write_table(&mut out) };
    written.and_then(|()| out.flush()).context("printing the report")?;
    if !report.failures.is_empty() {
        let names: Vec<&str> =
            report.failures.iter().map(|failure| failure.name.as_str()).collect();
        bail!("failed: {}", names.join(", "));
    }
    let missed = report.missed();
    if options.check && !missed.is_empty() {
        bail!("targets missed: {}", missed.join(", "));
    }
    Ok(())
}
