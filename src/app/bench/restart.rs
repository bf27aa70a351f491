//! Starts: after a crash with many sessions touched, again after that, and after a clean stop.
//!
//! What counts is told by the server itself (`/metrics`) and by the kernel (`/proc`); the times are those of a client.

use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::bail;
use tokio::time::sleep;

use crate::app::bench::client::Http;
use crate::app::bench::client::get;
use crate::app::bench::clock::micros_since;
use crate::app::bench::clock::now;
use crate::app::bench::load::Latency;
use crate::app::bench::options::Options;
use crate::app::bench::report::Judged;
use crate::app::bench::report::Row;
use crate::app::bench::report::progress;
use crate::app::bench::server::Server;
use crate::app::bench::server::Sleep;
use crate::app::bench::server::cpu_s;
use crate::app::bench::sleep::SLEEP_AFTER;
use crate::app::bench::sleep::fill;

/// Messages of each session.
const MESSAGES: u64 = 2;
/// Sessions whose first page is asked for right after the start.
const PAGES: u32 = 200;
/// How long bringing the sessions up to date may take.
const CAUGHT_UP_TIMEOUT: Duration = Duration::from_secs(300);
/// The journal is looked at this often, and must not change for as long, before the server is killed again.
const POLL: Duration = Duration::from_millis(200);

/// A start that was looked at.
struct Started {
    server: Server,
    http: Http,
    listens_ms: f64,
    ready_ms: f64,
    list_ms: f64,
}

/// Touches many sessions, kills the server, and starts it three times.
pub(super) async fn measure(
    binary: &Path,
    folder: &Path,
    options: &Options,
) -> anyhow::Result<Vec<Row>> {
    let count = options.touched;
    progress(&format!("touching {count} sessions"));
    let server = Server::start(binary, folder, Sleep::After(SLEEP_AFTER)).await?;
    fill(&server, options, "touched", 0..count, MESSAGES).await?;
    server.kill().await?;

    progress("starting after kill -9");
    let mut rows = Vec::new();
    let mut started = Started::look(binary, folder).await?;
    rows.extend(started.rows("after kill -9", count));
    rows.push(pages(&mut started.http, count).await?);
    let took = started.caught_up().await?;
    let pid = started.server.pid()?;
    rows.push(Row::new("all sessions up to date after", took, "s"));
    rows.push(Row::new("CPU of the start with it", cpu_s(pid)?, "s"));
    rows.push(Row::new("read from files with it", read_mib(pid)?, "MiB"));
    rows.push(Row::new("peak memory with it", peak_mib(pid)?, "MiB"));
    rows.push(Row::new("sessions woken for it", started.looked_at("wake").await?, ""));
    started.journal_is_empty(folder).await?;
    started.server.kill().await?;

    progress("starting after kill -9 again");
    let mut started = Started::look(binary, folder).await?;
    rows.extend(started.rows("after kill -9 again", count));
    rows.push(started.idle("sessions looked at again").await?);
    started.server.stop().await?;

    progress("starting after SIGTERM");
    let mut started = Started::look(binary, folder).await?;
    rows.extend(started.rows("after SIGTERM", count));
    rows.push(started.idle("sessions looked at after SIGTERM").await?);
    let pid = started.server.pid()?;
    rows.push(Row::new("CPU of the start after SIGTERM", cpu_s(pid)?, "s"));
    started.server.stop().await?;
    Ok(rows)
}

/// First pages of sessions that nobody has looked at since the start, in no order.
async fn pages(http: &mut Http, count: u32) -> anyhow::Result<Row> {
    let mut micros = Vec::new();
    for n in 0..PAGES.min(count) {
        // A step that shares no factor with the count comes to each once.
        let session = (u64::from(n) * 7_919) % u64::from(count);
        let request = get(&format!("/v1/sessions/touched-{session}/messages?limit=25"));
        let before = now();
        let answer = http.exchange(&request).await?;
        micros.push(micros_since(before));
        answer.expect_success()?;
    }
    let latency = Latency::from_micros(micros);
    let worst = latency.ms_at(1_000);
    let row = Row::new("first page while that goes on, worst", worst, "ms").with_latency(&latency);
    Ok(row.with_judged(Some(Judged::at_most(worst, "ms", 50.0))))
}

impl Started {
    async fn look(binary: &Path, folder: &Path) -> anyhow::Result<Self> {
        let begun = now();
        let server = Server::start(binary, folder, Sleep::After(SLEEP_AFTER)).await?;
        let listens_ms = ms_since(begun);
        let mut http = Http::connect(server.address).await?;
        http.exchange(&get("/readyz")).await?.expect_success()?;
        let ready_ms = ms_since(begun);
        http.exchange(&get("/v1/sessions?limit=25")).await?.expect_success()?;
        let list_ms = ms_since(begun);
        Ok(Self { server, http, listens_ms, ready_ms, list_ms })
    }

    fn rows(&self, when: &str, count: u32) -> Vec<Row> {
        let row =
            |what: &str, ms: f64| Row::new(format!("{what} {when}, {count} sessions"), ms, "ms");
        let bounded = |row: Row, ms: f64| row.with_judged(Some(Judged::at_most(ms, "ms", 300.0)));
        vec![
            row("it listens", self.listens_ms),
            bounded(row("/readyz is 200", self.ready_ms), self.ready_ms),
            bounded(row("the first list is there", self.list_ms), self.list_ms),
        ]
    }

    async fn looked_at(&self, how: &str) -> anyhow::Result<f64> {
        self.server.caught_up_sessions(how).await
    }

    /// How many sessions the start looked at: none.
    async fn idle(&mut self, name: &str) -> anyhow::Result<Row> {
        sleep(Duration::from_secs(2)).await;
        let mut looked_at = 0.0;
        for how in ["file", "wake", "list", "rebuild"] {
            looked_at += self.looked_at(how).await?;
        }
        let row = Row::new(name, looked_at, "");
        Ok(row.with_judged(Some(Judged::at_most(looked_at, "", 0.0))))
    }

    /// Waits until all sessions are up to date; the seconds since now.
    async fn caught_up(&self) -> anyhow::Result<f64> {
        let begun = now();
        while self.server.sessions_behind().await? > 0.0 {
            if now().duration_since(begun) > CAUGHT_UP_TIMEOUT {
                bail!("not up to date after {CAUGHT_UP_TIMEOUT:?}");
            }
            sleep(POLL).await;
        }
        Ok(ms_since(begun) / 1e3)
    }

    /// Waits until the journal keeps no segment of before.
    async fn journal_is_empty(&self, folder: &Path) -> anyhow::Result<()> {
        let journal = folder.join("data/journal");
        let begun = now();
        let mut before = Vec::new();
        loop {
            let mut names = Vec::new();
            for entry in fs::read_dir(&journal).context("reading the journal's folder")? {
                names.push(entry?.file_name());
            }
            names.sort_unstable();
            // One with a header, one that is prepared.
            if names.len() <= 2 && names == before {
                return Ok(());
            }
            if now().duration_since(begun) > CAUGHT_UP_TIMEOUT {
                bail!("the journal keeps {names:?}");
            }
            before = names;
            sleep(POLL).await;
        }
    }
}

fn ms_since(begun: Instant) -> f64 {
    f64::from(micros_since(begun)) / 1e3
}

/// What a process has read with system calls, from disk or cache, in MiB.
fn read_mib(pid: u32) -> anyhow::Result<f64> {
    field(&format!("/proc/{pid}/io"), "rchar:").map(|bytes| bytes / f64::from(1 << 20))
}

/// The most memory that was resident at once, in MiB.
fn peak_mib(pid: u32) -> anyhow::Result<f64> {
    field(&format!("/proc/{pid}/status"), "VmHWM:").map(|kib| kib / 1_024.0)
}

fn field(path: &str, name: &str) -> anyhow::Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|digits| digits.parse().ok())
        .with_context(|| format!("no {name} in {path}"))
}
