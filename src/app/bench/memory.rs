//! Memory of the server, as the kernel counts it, per sleeping session, idle socket, open session.
//!
//! Always as a slope: what the later four fifths add to the first one.

use std::fs;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::app::bench::client::{Socket, get};
use crate::app::bench::clock::now;
use crate::app::bench::load;
use crate::app::bench::options::Options;
use crate::app::bench::report::{Judged, Row, progress};
use crate::app::bench::server::Server;
use crate::app::bench::sleep::{fill, until_asleep};
use crate::app::bench::write::{append_to, send_exactly};

/// Time between two looks at the memory.
const POLL: Duration = Duration::from_millis(500);
/// Looks in a row that must agree.
const LOOKS: usize = 4;
/// How long memory may take to come to rest. After that the last look counts.
const REST_TIMEOUT: Duration = Duration::from_secs(30);
/// Files that this process, and the server, have open besides the sockets.
const FILES_BESIDE: u32 = 100;

/// Memory per sleeping session: one message each, the actor gone.
pub(super) async fn sleeping(server: &Server, options: &Options) -> anyhow::Result<Vec<Row>> {
    progress(&format!("putting {} sessions to sleep", options.sleepers));
    let first = options.sleepers / 5;
    fill(server, options, "sleeper", 0..first, 1).await?;
    let before = asleep_and_at_rest(server).await?;
    fill(server, options, "sleeper", first..options.sleepers, 1).await?;
    let after = asleep_and_at_rest(server).await?;
    let each = slope(before, after, f64::from(options.sleepers - first));
    Ok(vec![row("memory of a sleeping session", each, 1.0)])
}

/// Memory per socket that listens to a sleeping session of its own.
pub(super) async fn sockets(server: &Server, options: &Options) -> anyhow::Result<Vec<Row>> {
    progress(&format!("opening {} sockets", options.sockets));
    require_files(options.sockets)?;
    fill(server, options, "listened", 0..options.sockets, 1).await?;
    until_asleep(server).await?;
    let first = options.sockets / 5;
    let mut listeners = JoinSet::new();
    listen(server, &mut listeners, 0..first).await?;
    let before = asleep_and_at_rest(server).await?;
    listen(server, &mut listeners, first..options.sockets).await?;
    let after = asleep_and_at_rest(server).await?;
    if let Some(ended) = listeners.try_join_next() {
        return Err(ended.context("a listener of the bench")?.context("an idle socket ended"));
    }
    let each = slope(before, after, f64::from(options.sockets - first));
    Ok(vec![row("memory of an idle socket", each, 16.0)])
}

/// Memory per open session: woken from its file, read, and written to.
///
/// `server` keeps its actors awake, and its folder holds what [`prepare_open`] made.
pub(super) async fn open(server: &Server, options: &Options) -> anyhow::Result<Vec<Row>> {
    progress(&format!("opening {} sessions", options.open));
    let first = options.open / 5;
    open_sessions(server, options, 0..first).await?;
    let (before, active_before) = (at_rest(server).await?, server.active_sessions().await?);
    open_sessions(server, options, first..options.open).await?;
    let (after, active_after) = (at_rest(server).await?, server.active_sessions().await?);
    let opened = active_after - active_before;
    let wanted = f64::from(options.open - first);
    ensure!(opened >= wanted / 2.0, "{wanted} sessions were opened and only {opened} stayed open");
    Ok(vec![row("memory of an open session", slope(before, after, opened), 128.0)])
}

/// Makes the sessions for [`open`] on a server whose actors sleep soon.
pub(super) async fn prepare_open(server: &Server, options: &Options) -> anyhow::Result<()> {
    fill(server, options, "open", 0..options.open, 30).await?;
    until_asleep(server).await
}

/// An error with advice, unless this process may have `sockets` open.
pub(super) fn require_files(sockets: u32) -> anyhow::Result<()> {
    let limits = fs::read_to_string("/proc/self/limits").context("reading the limit of files")?;
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("no limit of files in /proc/self/limits")?;
    // "unlimited" is no number, and no limit.
    let allowed = soft.parse().unwrap_or(u32::MAX);
    let needed = sockets.saturating_add(FILES_BESIDE);
    ensure!(needed <= allowed, "{needed} open files are needed and {allowed} allowed: ulimit -n");
    Ok(())
}

async fn listen(
    server: &Server,
    listeners: &mut JoinSet<anyhow::Error>,
    sessions: Range<u32>,
) -> anyhow::Result<()> {
    for n in sessions {
        let mut socket = Socket::subscribe(server.address, &format!("listened-{n}")).await?;
        // Reading is what answers pings; a frame would mean that the socket is not idle.
        listeners.spawn(async move {
            match socket.text().await {
                Ok(frame) => anyhow::anyhow!("a frame came to an idle socket: {frame}"),
                Err(error) => error,
            }
        });
    }
    Ok(())
}

async fn open_sessions(
    server: &Server,
    options: &Options,
    sessions: Range<u32>,
) -> anyhow::Result<()> {
    let mut requests = Vec::new();
    for n in sessions {
        let session = format!("open-{n}");
        requests.push(get(&format!("/v1/sessions/{session}/messages?limit=25")));
        requests.push(append_to(&session));
    }
    let count = requests.len() as u64;
    send_exactly(server.address, options, count, &load::rotate(requests)).await
}

async fn asleep_and_at_rest(server: &Server) -> anyhow::Result<f64> {
    until_asleep(server).await?;
    at_rest(server).await
}

/// Resident memory in KiB, once it has stopped changing by more than a thousandth.
async fn at_rest(server: &Server) -> anyhow::Result<f64> {
    let pid = server.pid()?;
    let start = now();
    let mut looks = vec![resident(pid)?];
    loop {
        sleep(POLL).await;
        let last = resident(pid)?;
        looks.push(last);
        let recent = &looks[looks.len().saturating_sub(LOOKS)..];
        let still = recent.iter().all(|look| (look - last).abs() <= last / 1e3);
        let over = now().duration_since(start) >= REST_TIMEOUT;
        if over || (recent.len() == LOOKS && still) {
            return Ok(last);
        }
    }
}

/// Resident memory of a process in KiB.
fn resident(pid: u32) -> anyhow::Result<f64> {
    // Exact; `statm` and `status` are counted per thread and lag behind (man 5 proc).
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Rss:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|digits| digits.parse().ok())
        .with_context(|| format!("no Rss in {path}"))
}

fn slope(before: f64, after: f64, count: f64) -> f64 {
    ((after - before) / count).max(0.0)
}

fn row(name: &'static str, each: f64, bound: f64) -> Row {
    Row::new(name, each, "KiB").with_judged(Some(Judged::at_most(each, "KiB", bound)))
}
