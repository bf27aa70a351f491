//! Turns: answers of models that come at a steady pace, and how much later a reader has each delta.
//!
//! The model and all readers live in this process, so both ends read the same clock. A delta's latency is the time from just
//! before the model writes it to its socket until the reader's read of the answer returns: the server's parsing, its wait for
//! others to share a sync with, the sync, and the way to the reader. The work of this process is part of it.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::app::bench::client::{EventStream, post};
use crate::app::bench::clock::{micros_since, now};
use crate::app::bench::load::Latency;
use crate::app::bench::memory;
use crate::app::bench::model::{DELTA_BYTES, Model, Pace, parse_delta};
use crate::app::bench::options::Options;
use crate::app::bench::report::{Judged, Row};
use crate::app::bench::server::{Server, cpu_s};

/// Turns that run at once, and how late a delta may be in the middle and at most but for 1 %, in milliseconds.
pub(super) const LOADS: [(u32, f64, f64); 2] = [(50, 2.0, 10.0), (200, 8.0, 30.0)];
/// Deltas that each model sends per second.
const PER_SECOND: u16 = 50;
/// Seconds that are measured at least: fewer would be a few hundred syncs.
const SECONDS_MIN: u16 = 10;
/// Time over which the turns start, so that they are not in step.
const SPREAD: Duration = Duration::from_secs(1);
/// From here on is measured: all turns run, and their sessions are made.
const WARM_UP: Duration = Duration::from_millis(1_500);
/// Seconds of each answer beyond those that are measured.
const SECONDS_MORE: u16 = 2;
/// A step between starts, as a part of the spread, whose multiples fall everywhere (the golden ratio).
const START_STEP: f64 = 0.618_033_988_749_895;
/// Part of the pace that must be kept, or the figure is of another load.
const KEPT_MIN: f64 = 0.98;
/// How long the last deltas may take.
const GRACE: Duration = Duration::from_secs(30);

/// Starts of lines that a reader looks at. It is one of our own server, so the keys are in its order.
const TEXT_DELTA: &[u8] = br#"data: {"type":"text-delta""#;
const DELTA_KEY: &[u8] = br#","delta":""#;
const FINISH: &[u8] = br#"data: {"type":"finish","#;
const DONE: &[u8] = b"data: [DONE]";

/// What one reader saw.
#[derive(Default)]
struct Seen {
    deltas: u32,
    finished: bool,
    done: bool,
    /// Latencies of deltas that were sent while it was measured.
    micros: Vec<u32>,
}

/// Runs so many turns; `model` is the one that `server` was told of.
pub(super) async fn measure(
    server: &Server,
    model: Model,
    (turns, median_max, most_max): (u32, f64, f64),
    options: &Options,
) -> anyhow::Result<Vec<Row>> {
    memory::require_files(2 * turns)?;
    let seconds = options.seconds.max(SECONDS_MIN);
    let time = Duration::from_secs(seconds.into());
    let deltas = u32::from(PER_SECOND) * u32::from(seconds + SECONDS_MORE);
    let pace = Pace { epoch: now(), per_second: PER_SECOND, deltas };
    let mut readers = JoinSet::new();
    for n in 0..turns {
        readers.spawn(read(server.address, n, pace, WARM_UP + time));
    }
    let read_all = async {
        let mut micros = Vec::new();
        while let Some(done) = readers.join_next().await {
            micros.append(&mut done.context("a reader of the bench")??);
        }
        anyhow::Ok(micros)
    };
    let count_events = async {
        sleep(WARM_UP).await;
        let (start, before, used) = (now(), server.events_stored().await?, cpu_s(server.pid()?)?);
        sleep(time).await;
        let (after, used) = (server.events_stored().await?, cpu_s(server.pid()?)? - used);
        let seconds = now().duration_since(start).as_secs_f64();
        anyhow::Ok(((after - before) / seconds, used / seconds))
    };
    let all = async { tokio::try_join!(model.answer(turns, pace), read_all, count_events) };
    let limit = time + WARM_UP + GRACE;
    // Boxed: it is large, and so is what the caller holds.
    let ((), micros, (events, used)) = timeout(limit, Box::pin(all))
        .await
        .with_context(|| format!("not all turns were over in {limit:?}"))??;

    let rate = micros.len() as f64 / time.as_secs_f64();
    let asked = f64::from(turns * u32::from(PER_SECOND));
    ensure!(rate >= asked * KEPT_MIN, "only {rate:.0} of {asked} deltas/s could be sent");
    let latency = Latency::from_micros(micros);
    let (median, most) = (latency.ms_at(500), latency.ms_at(990));
    let name = format!("{turns} turns, {PER_SECOND} deltas/s each, model to reader");
    let late = format!("{turns} turns, the latest deltas but for 1 %");
    let cpu = format!("server CPU per second of a turn, of {turns}");
    Ok(vec![
        Row::new(name, median, "ms")
            .with_latency(&latency)
            .with_judged(Some(Judged::at_most(median, "ms", median_max))),
        Row::new(late, most, "ms").with_judged(Some(Judged::at_most(most, "ms", most_max))),
        Row::new(format!("deltas delivered to {turns} turns"), rate, "/s"),
        Row::new(format!("events stored for {turns} turns"), events, "/s"),
        Row::new(cpu, used / f64::from(turns) * 1e3, "ms"),
    ])
}

/// Starts a turn in a session of its own, reads its answer to the end, and tells how late its deltas were.
async fn read(
    address: std::net::SocketAddr,
    n: u32,
    pace: Pace,
    until: Duration,
) -> anyhow::Result<Vec<u32>> {
    sleep(SPREAD.mul_f64((f64::from(n) * START_STEP).fract())).await;
    let body = format!(
        r#"{{"id":"turns-{n}","trigger":"submit-message","model":"bench/steady","messages":[{{"id":"question-{n}","role":"user","parts":[{{"type":"text","text":"Say something, and take your time."}}]}}]}}"#
    );
    let mut stream = EventStream::open(address, &post("/api/chat", &body)).await?;
    let (mut seen, mut text) = (Seen::default(), Vec::new());
    let measured = micros_of(WARM_UP)..micros_of(until);
    while stream.read(&mut text).await? {
        let at = micros_since(pace.epoch);
        let mut rest = &text[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            take(line, at, &measured, &mut seen)
                .with_context(|| format!("turn {n}: {}", String::from_utf8_lossy(line)))?;
        }
        let taken = text.len() - rest.len();
        text.drain(..taken);
    }
    let Seen { deltas, finished, done, micros } = seen;
    ensure!(finished && done, "the answer of turn {n} broke off after {deltas} deltas");
    ensure!(deltas == pace.deltas, "turn {n}: {deltas} of {} deltas came", pace.deltas);
    Ok(micros)
}

fn micros_of(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Looks at one line that came at `at`.
fn take(
    line: &[u8],
    at: u32,
    measured: &std::ops::Range<u32>,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    if line.starts_with(TEXT_DELTA) {
        let key = line.windows(DELTA_KEY.len()).position(|bytes| bytes == DELTA_KEY);
        let text = key.map(|key| &line[key + DELTA_KEY.len()..]);
        let text = text.and_then(|text| text.strip_suffix(br#""}"#)).context("no delta in it")?;
        for delta in text.chunks(DELTA_BYTES) {
            let (number, sent) = parse_delta(delta).context("a delta that nobody sent")?;
            ensure!(number == seen.deltas, "delta {number} came after {} others", seen.deltas);
            seen.deltas += 1;
            if measured.contains(&sent) {
                seen.micros.push(at.saturating_sub(sent));
            }
        }
    } else if line.starts_with(br#"data: {"type":"error""#) {
        bail!("the turn failed");
    } else {
        seen.finished |= line.starts_with(FINISH);
        seen.done |= line == DONE;
    }
    Ok(())
}
