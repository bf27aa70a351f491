//! Closed-loop load: N connections, each sending its next request when the last one is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::app::bench::client::Http;
use crate::app::bench::clock::{micros_since, now};

/// How long the last answers may take after the time is up.
const GRACE: Duration = Duration::from_secs(30);

/// Makes the n-th request of a run; called from every connection.
pub(super) type Source = Arc<dyn Fn(u64) -> Arc<[u8]> + Send + Sync>;

/// When a run ends: at the first of the two.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// Time after which no request is started.
    pub(super) time: Duration,
    /// Requests that are started at most.
    pub(super) requests: u64,
}

/// What a run gave.
#[derive(Debug)]
pub(super) struct Measured {
    /// Answers per second.
    pub(super) rate: f64,
    /// Answers, all of them 2xx.
    pub(super) answers: u64,
    /// How long each took.
    pub(super) latency: Latency,
}

/// Sorted durations.
#[derive(Debug)]
pub(super) struct Latency {
    micros: Vec<u32>,
}

impl Latency {
    /// Sorts what was recorded, in any order, in microseconds.
    pub(super) fn from_micros(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        Self { micros }
    }

    /// The duration that `permille` of 1,000 do not exceed, in milliseconds; 0 if there are none.
    pub(super) fn ms_at(&self, permille: usize) -> f64 {
        let last = self.micros.len().saturating_sub(1);
        self.micros.get(last * permille / 1_000).map_or(0.0, |micros| f64::from(*micros) / 1e3)
    }
}

/// Sends the same request again and again.
pub(super) fn repeat(request: Vec<u8>) -> Source {
    let request: Arc<[u8]> = request.into();
    Arc::new(move |_| Arc::clone(&request))
}

/// Sends each of `requests` in turn, and then from the beginning.
pub(super) fn rotate(requests: Vec<Vec<u8>>) -> Source {
    let requests: Vec<Arc<[u8]>> = requests.into_iter().map(Into::into).collect();
    let count = requests.len().max(1);
    Arc::new(move |n| {
        // A remainder by a length fits where the length did.
        let at = usize::try_from(n % count as u64).unwrap_or(0);
        Arc::clone(&requests[at])
    })
}

/// Makes every request when it is sent.
pub(super) fn make(request: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) -> Source {
    Arc::new(move |n| request(n).into())
}

/// Runs `source` over `connections` until `limit`.
///
/// # Errors
///
/// The first answer that is not 2xx, and the first failure of a connection; the run then ends.
pub(super) async fn run(
    address: SocketAddr,
    connections: u16,
    limit: Limit,
    source: &Source,
) -> anyhow::Result<Measured> {
    let mut clients = Vec::with_capacity(connections.into());
    for _ in 0..connections {
        clients.push(Http::connect(address).await?);
    }
    let next = Arc::new(AtomicU64::new(0));
    let start = now();
    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn(one_connection(client, start, limit, Arc::clone(&next), Arc::clone(source)));
    }
    // Dropping the set, here on the first error, ends what still runs.
    let collect = async {
        let mut micros = Vec::new();
        while let Some(done) = tasks.join_next().await {
            micros.append(&mut done.context("a connection of the bench")??);
        }
        anyhow::Ok(micros)
    };
    let micros =
        timeout(limit.time + GRACE, collect).await.context("waiting for last answers")??;
    let seconds = now().duration_since(start).as_secs_f64();
    let answers = micros.len() as u64;
    let latency = Latency::from_micros(micros);
    Ok(Measured { rate: answers as f64 / seconds, answers, latency })
}

async fn one_connection(
    mut client: Http,
    start: Instant,
    limit: Limit,
    next: Arc<AtomicU64>,
    source: Source,
) -> anyhow::Result<Vec<u32>> {
    let mut micros = Vec::new();
    loop {
        let before = now();
        if before.duration_since(start) >= limit.time {
            break;
        }
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= limit.requests {
            break;
        }
        let request = source(n);
        client.exchange(&request).await?.expect_success()?;
        micros.push(micros_since(before));
    }
    Ok(micros)
}
