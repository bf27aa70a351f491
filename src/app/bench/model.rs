//! A model on loopback that says something at a steady pace: what the turns workload has answered.
//!
//! It speaks chat completions and puts into each delta its number and the time of sending.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::app::bench::clock::micros_since;

/// Bytes of the text of one delta: about as long as four tokens.
pub(super) const DELTA_BYTES: usize = 20;
/// Longest question that is read.
const QUESTION_BYTES_MAX: usize = 64 * 1024;
/// How long a question may take to arrive.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(20);
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                    transfer-encoding: chunked\r\nconnection: close\r\n\r\n";
const LAST_CHUNK: &str = "0\r\n\r\n";

/// How each answer goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Times are told from here.
    pub(super) epoch: Instant,
    /// Deltas per second.
    pub(super) per_second: u16,
    /// Deltas of an answer.
    pub(super) deltas: u32,
}

/// A model that is listening.
pub(super) struct Model {
    /// Where it listens.
    pub(super) address: SocketAddr,
    listener: TcpListener,
}

impl Model {
    /// Takes a free port of loopback.
    pub(super) async fn listen() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening as a model")?;
        let address = listener.local_addr().context("asking where the model listens")?;
        Ok(Self { address, listener })
    }

    /// Settings of a server that asks it, as the provider `bench`.
    pub(super) fn settings(&self) -> String {
        format!(
            "[models]\nproxy = false\n\n[models.compatible.bench]\nbase_url = \"http://{}/v1\"\nkey_env = \"\"\n",
            self.address
        )
    }

    /// Answers exactly `answers` questions, each at its own pace from when it came.
    ///
    /// # Errors
    ///
    /// What went wrong with any of them.
    pub(super) async fn answer(self, answers: u32, pace: Pace) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        for _ in 0..answers {
            let (stream, _) = self.listener.accept().await.context("accepting a question")?;
            tasks.spawn(answer(stream, pace));
        }
        while let Some(done) = tasks.join_next().await {
            done.context("an answer of the bench's model")??;
        }
        Ok(())
    }
}

async fn answer(mut stream: TcpStream, pace: Pace) -> anyhow::Result<()> {
    stream.set_nodelay(true).context("setting TCP_NODELAY")?;
    timeout(QUESTION_TIMEOUT, read_question(&mut stream)).await.context("a question")??;
    let mut bytes = HEAD.as_bytes().to_vec();
    push_event(&mut bytes, &chunk(r#"{"role":"assistant","content":""}"#, "null"));
    let mut ticks = interval(Duration::from_secs(1) / u32::from(pace.per_second));
    // What is late is sent at once, so that the pace stays what was asked for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..pace.deltas {
        ticks.tick().await;
        let text = delta(number, micros_since(pace.epoch));
        push_event(&mut bytes, &chunk(&format!(r#"{{"content":"{text}"}}"#), "null"));
        stream.write_all(&bytes).await.context("sending a delta")?;
        bytes.clear();
    }
    push_event(&mut bytes, &chunk("{}", r#""stop""#));
    push_event(&mut bytes, "[DONE]");
    bytes.extend_from_slice(LAST_CHUNK.as_bytes());
    stream.write_all(&bytes).await.context("ending an answer")?;
    stream.shutdown().await.context("closing an answer")
}

async fn read_question(stream: &mut TcpStream) -> anyhow::Result<()> {
    let mut received = Vec::new();
    loop {
        if stream.read_buf(&mut received).await.context("receiving a question")? == 0 {
            bail!("the server closed the connection in the middle of a question");
        }
        ensure!(received.len() <= QUESTION_BYTES_MAX, "a question of {} bytes", received.len());
        let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            continue;
        };
        let head = str::from_utf8(&received[..end]).context("reading a question")?;
        ensure!(head.starts_with("POST /v1/chat/completions "), "not a question: {head}");
        let length = head.lines().filter_map(|line| line.split_once(':'));
        let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let (_, length) = length.next().context("a question without a length")?;
        let length: usize = length.trim().parse().context("reading content-length")?;
        if received.len() >= end + 4 + length {
            return Ok(());
        }
    }
}

fn chunk(delta: &str, finish_reason: &str) -> String {
    format!(
        r#"{{"id":"bench","object":"chat.completion.chunk","created":0,"model":"steady","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish_reason}}}]}}"#
    )
}

/// One event, in an HTTP chunk of its own, as servers of models send them.
fn push_event(bytes: &mut Vec<u8>, data: &str) {
    let length = "data: ".len() + data.len() + "\n\n".len();
    bytes.extend_from_slice(format!("{length:x}\r\ndata: {data}\n\n\r\n").as_bytes());
}

/// The text of a delta, [`DELTA_BYTES`] long.
fn delta(number: u32, micros: u32) -> String {
    format!("{number:07} {micros:011} ")
}

/// The number of a delta and the time at which it was sent.
pub(super) fn parse_delta(text: &[u8]) -> Option<(u32, u32)> {
    let text = str::from_utf8(text).ok().filter(|text| text.len() == DELTA_BYTES)?;
    let (number, micros) = text.strip_suffix(' ')?.split_once(' ')?;
    Some((number.parse().ok()?, micros.parse().ok()?))
}
