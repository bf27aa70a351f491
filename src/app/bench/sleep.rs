//! Sessions that sleep: how to get them, and how long the first page of one takes.

use std::ops::Range;
use std::time::Duration;

use anyhow::{bail, ensure};
use tokio::time::sleep;

use crate::app::bench::client::{Http, get};
use crate::app::bench::clock::{micros_since, now};
use crate::app::bench::load;
use crate::app::bench::load::Latency;
use crate::app::bench::options::Options;
use crate::app::bench::report::{Judged, Row, progress};
use crate::app::bench::server::Server;
use crate::app::bench::write::{append_to, send_exactly};

/// Idle time after which the actors of these workloads sleep.
pub(super) const SLEEP_AFTER: Duration = Duration::from_millis(500);
/// How long all actors may take to go to sleep.
const ASLEEP_TIMEOUT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(200);
/// Messages of a session that is woken: more than a page.
const MESSAGES: u64 = 30;

/// The first page of sessions that sleep, one after the other on one connection.
pub(super) async fn wake(server: &Server, options: &Options) -> anyhow::Result<Vec<Row>> {
    progress(&format!("putting {} sessions to sleep", options.wakes));
    fill(server, options, "wake", 0..options.wakes, MESSAGES).await?;
    until_asleep(server).await?;
    let mut client = Http::connect(server.address).await?;
    client.exchange(&get("/livez")).await?.expect_success()?;
    let mut micros = Vec::new();
    for n in 0..options.wakes {
        let request = get(&format!("/v1/sessions/wake-{n}/messages?limit=25"));
        let before = now();
        let answer = client.exchange(&request).await?;
        micros.push(micros_since(before));
        answer.expect_success()?;
        ensure!(answer.body.len() > 25 * 100, "a page of only {} bytes", answer.body.len());
    }
    let latency = Latency::from_micros(micros);
    let median = latency.ms_at(500);
    let row = Row::new("first page of a cold session, median", median, "ms").with_latency(&latency);
    Ok(vec![row.with_judged(Some(Judged::at_most(median, "ms", 2.0)))])
}

/// Makes sessions `NAME-N` with `messages` each, a few at a time.
pub(super) async fn fill(
    server: &Server,
    options: &Options,
    name: &'static str,
    sessions: Range<u32>,
    messages: u64,
) -> anyhow::Result<()> {
    let first = u64::from(sessions.start);
    let count = u64::from(sessions.end - sessions.start) * messages;
    let source = load::make(move |n| append_to(&format!("{name}-{}", first + n / messages)));
    send_exactly(server.address, options, count, &source).await
}

/// Waits until no session has an actor.
///
/// # Errors
///
/// If some are still active after a while.
pub(super) async fn until_asleep(server: &Server) -> anyhow::Result<()> {
    let start = now();
    loop {
        let active = server.active_sessions().await?;
        if active == 0.0 {
            return Ok(());
        }
        if now().duration_since(start) >= ASLEEP_TIMEOUT {
            bail!("{active} sessions are still awake after {ASLEEP_TIMEOUT:?}");
        }
        sleep(POLL).await;
    }
}
