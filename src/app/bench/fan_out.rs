//! Fan-out: messages published at a fixed pace, and when each of N sockets has them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::app::bench::client::{Http, Socket, post};
use crate::app::bench::clock::now;
use crate::app::bench::load::Latency;
use crate::app::bench::memory;
use crate::app::bench::options::Options;
use crate::app::bench::report::{Row, progress};

/// Sockets, and messages published per second: at most 20,000 frames arrive per second, which
/// leaves this client, on its one thread, time to see each when it comes.
const STEPS: [(u32, u16); 4] = [(1, 500), (10, 500), (100, 200), (1_000, 20)];
/// Comes before the time of publishing, in the content of each message.
const MARK: &str = "published at ";
/// How long the last frames may take.
const GRACE: Duration = Duration::from_secs(30);

/// Publishes to 1, 10, 100 and 1,000 sockets.
pub(super) async fn measure(address: SocketAddr, options: &Options) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (sockets, per_second) in STEPS {
        progress(&format!("fan-out to sockets: {sockets}"));
        rows.push(one_step(address, options, sockets, per_second).await?);
    }
    Ok(rows)
}

async fn one_step(
    address: SocketAddr,
    options: &Options,
    sockets: u32,
    per_second: u16,
) -> anyhow::Result<Row> {
    memory::require_files(sockets)?;
    let session = format!("fan-out-{sockets}");
    // All times are told from here; they travel in the messages.
    let epoch = now();
    let mut publisher = Http::connect(address).await?;
    publisher.json(&publication(&session, epoch)).await?;

    let messages = u32::from(per_second) * u32::from(options.seconds);
    let mut subscribers = JoinSet::new();
    for _ in 0..sockets {
        let socket = Socket::subscribe(address, &session).await?;
        subscribers.spawn(receive(socket, epoch, messages));
    }
    let start = now();
    let publish = publish(publisher, &session, epoch, per_second, messages);
    let deliver = async {
        let mut micros = Vec::new();
        while let Some(done) = subscribers.join_next().await {
            micros.append(&mut done.context("a subscriber of the bench")??);
        }
        anyhow::Ok(micros)
    };
    let time = Duration::from_secs(options.seconds.into()) * 3 + GRACE;
    let both = async { tokio::try_join!(publish, deliver) };
    let ((), micros) = timeout(time, both)
        .await
        .with_context(|| format!("not all frames came to {sockets} sockets in {time:?}"))??;
    let rate = micros.len() as f64 / now().duration_since(start).as_secs_f64();
    let name = match sockets {
        1 => format!("fan-out to 1 socket, {per_second} messages/s"),
        _ => format!("fan-out to {sockets} sockets, {per_second} messages/s"),
    };
    Ok(Row::new(name, rate, "frames/s").with_latency(&Latency::from_micros(micros)))
}

/// Publishes `messages`, one every so often. If one takes longer, the next ones follow at once.
async fn publish(
    mut client: Http,
    session: &str,
    epoch: Instant,
    per_second: u16,
    messages: u32,
) -> anyhow::Result<()> {
    let mut pace = interval(Duration::from_secs(1) / u32::from(per_second));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..messages {
        pace.tick().await;
        client.exchange(&publication(session, epoch)).await?.expect_success()?;
    }
    Ok(())
}

fn publication(session: &str, epoch: Instant) -> Vec<u8> {
    let micros = now().duration_since(epoch).as_micros();
    let body = format!(
        r#"{{"role":"user","content":"{MARK}{micros} microseconds, a message of the usual length, with a comma or two, and a full stop."}}"#
    );
    post(&format!("/v1/sessions/{session}/messages"), &body)
}

/// Waits for `messages` publications and tells how old each was, in microseconds.
async fn receive(mut socket: Socket, epoch: Instant, messages: u32) -> anyhow::Result<Vec<u32>> {
    let mut micros = Vec::new();
    for _ in 0..messages {
        let frame = socket.text().await?;
        let seen = now().duration_since(epoch).as_micros();
        let sent: u128 = frame
            .find(MARK)
            .map(|at| &frame[at + MARK.len()..])
            .and_then(|rest| rest.split_once(' '))
            .and_then(|(digits, _)| digits.parse().ok())
            .with_context(|| format!("a frame that was not published here: {frame}"))?;
        micros.push(u32::try_from(seen.saturating_sub(sent)).unwrap_or(u32::MAX));
    }
    Ok(micros)
}
