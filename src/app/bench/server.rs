//! The server under measure: a child process that ends with the bench, whatever happens.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use crate::app::bench::client::{Http, get};

/// What the server prints before its address.
const READY: &str = "sessile listening on http://";
/// Prefix of settings in the environment: those of the caller must not change what is measured.
const SETTINGS_PREFIX: &str = "SESSILE_";
/// The setting for how long an actor is idle before it sleeps, in milliseconds.
const SLEEP_AFTER_MS: &str = "SESSILE__ACTOR__SLEEP_AFTER_MS";
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
/// Lines of the server's log that an error shows.
const LOG_LINES_SHOWN: usize = 12;

/// Ticks per second of the times in `/proc/PID/stat`: the same on every Linux.
const TICKS: f64 = 100.0;

/// When the actors of a server go to sleep.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sleep {
    /// As the defaults say.
    Default,
    /// After this long.
    After(Duration),
    /// Not while the bench looks.
    Never,
}

/// A running server.
pub(super) struct Server {
    /// Where it listens.
    pub(super) address: SocketAddr,
    child: Child,
    log: PathBuf,
    // Kept open: a server whose standard output is closed could fail when it writes there.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts `binary` on a free port of loopback with its data in `folder`, made if missing.
    pub(super) async fn start(binary: &Path, folder: &Path, sleep: Sleep) -> anyhow::Result<Self> {
        Self::start_with(binary, folder, sleep, None).await
    }

    /// The same with `settings`, the text of a TOML file.
    pub(super) async fn start_with(
        binary: &Path,
        folder: &Path,
        sleep: Sleep,
        settings: Option<&str>,
    ) -> anyhow::Result<Self> {
        let data = folder.join("data");
        fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
        let log = folder.join("log");
        let errors = fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let mut command = Command::new(binary);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data);
        command.current_dir(folder).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        for name in inherited_settings() {
            command.env_remove(name);
        }
        if let Some(settings) = settings {
            let file = folder.join("settings.toml");
            fs::write(&file, settings).with_context(|| format!("writing {}", file.display()))?;
            command.arg("--config").arg(file);
        }
        match sleep {
            Sleep::Default => {}
            Sleep::After(idle) => {
                command.env(SLEEP_AFTER_MS, idle.as_millis().to_string());
            }
            Sleep::Never => {
                command.env(SLEEP_AFTER_MS, "86400000");
            }
        }
        let mut child =
            command.spawn().with_context(|| format!("starting {}", binary.display()))?;
        let stdout = child.stdout.take().context("the server has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let address = timeout(START_TIMEOUT, read_address(&mut lines))
            .await
            .unwrap_or_else(|_| bail!("it did not say where it listens in {START_TIMEOUT:?}"))
            .with_context(|| format!("the server did not start{}", tail_of(&log)))?;
        Ok(Self { address, child, log, _stdout: lines })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("the server has ended")
    }

    /// Adds to `error` what the server logged last, if the server has ended.
    pub(super) fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        match self.child.try_wait() {
            Ok(None) => error,
            Ok(Some(status)) => {
                error.context(format!("the server ended with {status}{}", tail_of(&self.log)))
            }
            Err(unknown) => error.context(format!("the server cannot be asked: {unknown}")),
        }
    }

    /// Actors of sessions that are in memory, as `/metrics` says.
    pub(super) async fn active_sessions(&self) -> anyhow::Result<f64> {
        self.metric("sessile_actors{", &[r#"kind="session""#, r#"state="active""#]).await
    }

    /// Events that it has made durable since it started, as `/metrics` says.
    pub(super) async fn events_stored(&self) -> anyhow::Result<f64> {
        self.metric("sessile_events_appended_total ", &[]).await
    }

    /// Sessions that it looked at because of its start, by how; as `/metrics` says.
    pub(super) async fn caught_up_sessions(&self, how: &str) -> anyhow::Result<f64> {
        let label = format!("how=\"{how}\"");
        // A series that was never counted may be absent.
        Ok(self.metric("sessile_caught_up_sessions_total{", &[&label]).await.unwrap_or(0.0))
    }

    /// Sessions that it must look at still because of its start, as `/metrics` says.
    pub(super) async fn sessions_behind(&self) -> anyhow::Result<f64> {
        self.metric("sessile_catch_up_pending_sessions ", &[]).await
    }

    /// The sum of the lines of `/metrics` that begin with `name` and have all of `labels`.
    async fn metric(&self, name: &str, labels: &[&str]) -> anyhow::Result<f64> {
        let mut client = Http::connect(self.address).await?;
        let answer = client.exchange(&get("/metrics")).await?;
        answer.expect_success()?;
        let text = str::from_utf8(answer.body).context("reading /metrics")?;
        let mut sum = None;
        for line in text.lines().filter(|line| line.starts_with(name)) {
            if labels.iter().all(|label| line.contains(label)) {
                let value = line.rsplit(' ').next().unwrap_or_default();
                let value: f64 = value.parse().with_context(|| format!("reading {line}"))?;
                sum = Some(sum.unwrap_or(0.0) + value);
            }
        }
        sum.with_context(|| format!("no {name}{} in /metrics", labels.join(",")))
    }

    /// Ends it as a crash does.
    pub(super) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("killing the server")
    }

    /// Asks it to end, waits, and if need be kills it.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.child.id() {
            // The standard library can only kill. A server that is killed has to replay its
            // journal, and that is not what the next start is to measure.
            let asked = Command::new("kill").arg("-TERM").arg(pid.to_string()).status().await;
            let asked = asked.is_ok_and(|status| status.success());
            if asked && timeout(STOP_TIMEOUT, self.child.wait()).await.is_ok() {
                return Ok(());
            }
        }
        self.child.kill().await.context("killing the server")
    }
}

/// A folder of the bench's own that is removed at the end.
pub(super) struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// Makes a new folder in `parent`, which is made too if it is missing.
    pub(super) fn create(parent: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        let parent =
            fs::canonicalize(parent).with_context(|| format!("resolving {}", parent.display()))?;
        let folder = parent.join(format!("sessile-bench-{}", std::process::id()));
        // Not `create_dir_all`: what is already there is not ours to remove.
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// A place in it, not made yet.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Removes it. A server that was just killed may still be writing, so this tries for a while.
    pub(super) async fn remove(self) -> anyhow::Result<()> {
        let mut tries_left = 50;
        loop {
            match fs::remove_dir_all(&self.folder) {
                Ok(()) => return Ok(()),
                Err(_) if tries_left > 0 => tries_left -= 1,
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("removing {}", self.folder.display()));
                }
            }
            sleep(POLL).await;
        }
    }
}

async fn read_address(lines: &mut Lines<BufReader<ChildStdout>>) -> anyhow::Result<SocketAddr> {
    while let Some(line) = lines.next_line().await.context("reading its standard output")? {
        if let Some(address) = line.trim().strip_prefix(READY) {
            let address = address.trim_end_matches('/');
            return address.parse().with_context(|| format!("it listens on {address:?}"));
        }
    }
    bail!("its standard output ended without an address")
}

fn inherited_settings() -> Vec<OsString> {
    std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| name.to_string_lossy().starts_with(SETTINGS_PREFIX))
        .collect()
}

/// The last lines of a log, as the end of a sentence; empty if there are none.
fn tail_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
    if shown.is_empty() { String::new() } else { format!("; its log ends:\n{}", shown.join("\n")) }
}

/// CPU time of a process so far, in seconds.
pub(super) fn cpu_s(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    // Behind the name, which is in brackets: fields 14 and 15 are the times (man 5 proc).
    let fields: Vec<&str> = text
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let (user, system) = (ticks(11), ticks(12));
    Ok((user.context("no user time")? + system.context("no system time")?) / TICKS)
}
