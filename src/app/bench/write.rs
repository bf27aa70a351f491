//! Rates of writing, and of the no-op route that they are held against.

use std::net::SocketAddr;
use std::time::Duration;

use crate::app::bench::client::{get, post};
use crate::app::bench::load;
use crate::app::bench::load::{Limit, Measured, Source};
use crate::app::bench::options::Options;
use crate::app::bench::report::{Judged, Row};

/// Sessions of the workload with many of them.
pub(super) const SESSIONS: u32 = 1_000;
/// Step from one session to the next: it has no factor in common with `SESSIONS`, so all are met.
const STRIDE: u32 = 619;
/// Files that the workload of new sessions may leave in the data folder.
const NEW_SESSIONS_MAX: u64 = 200_000;
/// What the slowest preparation may take.
const PREPARE_TIME: Duration = Duration::from_secs(300);
const WARM_UP: Duration = Duration::from_millis(500);

/// A message of about 120 characters.
pub(super) const MESSAGE: &str = r#"{"role":"user","content":"The question is as long as questions usually are: two lines on a narrow screen, a comma or two, and a full stop."}"#;

/// A request that appends [`MESSAGE`] to `session`.
pub(super) fn append_to(session: &str) -> Vec<u8> {
    post(&format!("/v1/sessions/{session}/messages"), MESSAGE)
}

/// `GET /livez`: what the front and this client can do when nothing is asked of them.
pub(super) async fn livez(address: SocketAddr, options: &Options) -> anyhow::Result<Measured> {
    timed(address, options, &load::repeat(get("/livez"))).await
}

/// Durable appends to one session; `livez` is the rate of the no-op route.
pub(super) async fn hot(
    address: SocketAddr,
    options: &Options,
    livez: f64,
) -> anyhow::Result<Vec<Row>> {
    let measured = timed(address, options, &load::repeat(append_to("hot"))).await?;
    let judged = Judged::at_least(measured.rate / livez, "of livez", 0.5);
    Ok(vec![Row::rate("append, one hot session", &measured).with_judged(Some(judged))])
}

/// Durable appends to 1,000 sessions in turn.
pub(super) async fn many(
    address: SocketAddr,
    options: &Options,
    livez: f64,
) -> anyhow::Result<Vec<Row>> {
    let source = to_many("many");
    send_exactly(address, options, u64::from(SESSIONS), &source).await?;
    let measured = timed(address, options, &source).await?;
    let judged = Judged::at_least(measured.rate / livez, "of livez", 0.3);
    Ok(vec![Row::rate("append, 1,000 sessions", &measured).with_judged(Some(judged))])
}

/// Appends to 1,000 sessions in turn, called `prefix` and a number.
pub(super) fn to_many(prefix: &str) -> Source {
    let requests = (0..SESSIONS).map(|n| append_to(&format!("{prefix}-{}", n * STRIDE % SESSIONS)));
    load::rotate(requests.collect())
}

/// The first message of sessions that nobody has named before. Bounded by count too: each is a file.
pub(super) async fn new(address: SocketAddr, options: &Options) -> anyhow::Result<Vec<Row>> {
    let source = load::make(|n| append_to(&format!("new-{n}")));
    let limit = Limit { time: seconds(options), requests: NEW_SESSIONS_MAX };
    let measured = load::run(address, options.connections, limit, &source).await?;
    Ok(vec![Row::rate("first message, new sessions", &measured)])
}

/// Warms up, then runs `source` for the time that was asked for.
pub(super) async fn timed(
    address: SocketAddr,
    options: &Options,
    source: &Source,
) -> anyhow::Result<Measured> {
    let warm = Limit { time: WARM_UP, requests: u64::MAX };
    load::run(address, options.connections, warm, source).await?;
    let limit = Limit { time: seconds(options), requests: u64::MAX };
    load::run(address, options.connections, limit, source).await
}

/// Sends the first `count` requests of `source`.
///
/// # Errors
///
/// As [`load::run`], and if the time for preparations is over first.
pub(super) async fn send_exactly(
    address: SocketAddr,
    options: &Options,
    count: u64,
    source: &Source,
) -> anyhow::Result<()> {
    let limit = Limit { time: PREPARE_TIME, requests: count };
    let done = load::run(address, options.connections, limit, source).await?;
    anyhow::ensure!(
        done.answers == count,
        "only {} of {count} requests were answered in {PREPARE_TIME:?}",
        done.answers
    );
    Ok(())
}

/// The length of a timed run.
pub(super) fn seconds(options: &Options) -> Duration {
    Duration::from_secs(options.seconds.into())
}
