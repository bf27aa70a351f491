//! The smallest client that can load the server: one HTTP/1.1 connection, one stream, or one WebSocket.
//!
//! Requests are bytes made beforehand; of an answer only the status and the length are read.
//! No redirects, no TLS, and chunked bodies only where an answer is a stream.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// Enough for every answer of the canonical workload without growing.
const ANSWER_BYTES: usize = 32 * 1024;
/// Longest answer that is read: a longer one means that something else answered.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A small read buffer, as 1,000 sockets live in this process. The library's own default is 128 KiB.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024;
/// How long a connection may take until it can be used.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// A keep-alive connection with one request in flight.
pub(super) struct Http {
    stream: TcpStream,
    received: Vec<u8>,
}

/// What came back for one request.
pub(super) struct Answer<'a> {
    /// The status code.
    pub(super) status: u16,
    /// The body, as long as its head said.
    pub(super) body: &'a [u8],
}

impl Answer<'_> {
    /// An error that shows the beginning of the body, unless the status is 2xx.
    pub(super) fn expect_success(&self) -> anyhow::Result<()> {
        if (200..300).contains(&self.status) {
            return Ok(());
        }
        let shown = &self.body[..self.body.len().min(300)];
        bail!("the server answered {}: {}", self.status, String::from_utf8_lossy(shown))
    }
}

impl Http {
    /// Connects, without Nagle's delay.
    pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = dial(address).await?;
        Ok(Self { stream, received: Vec::with_capacity(ANSWER_BYTES) })
    }

    /// Sends a prepared request and waits for the whole answer.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.stream.write_all(request).await.context("sending a request")?;
        self.received.clear();
        let head = loop {
            self.receive().await?;
            if let Some(head) = parse_head(&self.received)? {
                break head;
            }
        };
        let end = head.bytes + head.body_bytes;
        if end > ANSWER_BYTES_MAX {
            bail!("an answer of {end} bytes is more than {ANSWER_BYTES_MAX}");
        }
        while self.received.len() < end {
            self.receive().await?;
        }
        if self.received.len() > end {
            bail!("{} bytes came that nobody asked for", self.received.len() - end);
        }
        Ok(Answer { status: head.status, body: &self.received[head.bytes..end] })
    }

    /// Sends a prepared request, wants a 2xx, and gives the body as JSON.
    pub(super) async fn json(&mut self, request: &[u8]) -> anyhow::Result<serde_json::Value> {
        let answer = self.exchange(request).await?;
        answer.expect_success()?;
        serde_json::from_slice(answer.body).context("reading an answer as JSON")
    }

    async fn receive(&mut self) -> anyhow::Result<()> {
        if self.received.len() == self.received.capacity() {
            self.received.reserve(ANSWER_BYTES);
        }
        match self.stream.read_buf(&mut self.received).await.context("receiving an answer")? {
            0 => bail!("the server closed the connection in the middle of an exchange"),
            _ => Ok(()),
        }
    }
}

/// A `GET` of `path`, ready to send.
pub(super) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

/// A `POST` of a JSON `body` to `path`, ready to send.
pub(super) fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// An answer that is read while it comes: a chunked body.
pub(super) struct EventStream {
    stream: TcpStream,
    received: Vec<u8>,
    /// Bytes of the chunk that have not come, with the line break behind it.
    left: usize,
    ended: bool,
}

impl EventStream {
    /// Sends a prepared request over a connection of its own, and wants a stream.
    pub(super) async fn open(address: SocketAddr, request: &[u8]) -> anyhow::Result<Self> {
        let mut stream = dial(address).await?;
        stream.write_all(request).await.context("sending a request")?;
        let mut received = Vec::with_capacity(SOCKET_BUFFER_BYTES);
        let end = loop {
            if stream.read_buf(&mut received).await.context("receiving a stream")? == 0 {
                bail!("the server closed the connection instead of answering");
            }
            if let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end;
            }
            ensure!(received.len() <= ANSWER_BYTES, "the head of a stream is too long");
        };
        let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
        let streams = head.contains("\r\ntransfer-encoding: chunked");
        if !head.starts_with("http/1.1 200 ") || !streams {
            bail!("not a stream: {}", String::from_utf8_lossy(&received));
        }
        received.drain(..end + 4);
        Ok(Self { stream, received, left: 0, ended: false })
    }

    /// Waits for more of the body and adds it to `text`; false once there is no more.
    pub(super) async fn read(&mut self, text: &mut Vec<u8>) -> anyhow::Result<bool> {
        let before = text.len();
        loop {
            if !self.ended {
                self.unwrap_chunks(text)?;
            }
            if self.ended || text.len() > before {
                return Ok(text.len() > before);
            }
            let read = self.stream.read_buf(&mut self.received).await;
            if read.context("receiving a stream")? == 0 {
                bail!("the server closed the connection in the middle of a stream");
            }
        }
    }

    fn unwrap_chunks(&mut self, text: &mut Vec<u8>) -> anyhow::Result<()> {
        let mut rest = &self.received[..];
        loop {
            let (data, line_break) = (self.left.saturating_sub(2), self.left.min(2));
            if data > 0 {
                let taken = data.min(rest.len());
                text.extend_from_slice(&rest[..taken]);
                rest = &rest[taken..];
                self.left -= taken;
                if taken < data {
                    break;
                }
            }
            if rest.len() < line_break {
                break;
            }
            rest = &rest[line_break..];
            self.left = 0;
            let Some(end) = rest.windows(2).position(|bytes| bytes == b"\r\n") else { break };
            let digits = str::from_utf8(&rest[..end]).context("reading the length of a chunk")?;
            let length = usize::from_str_radix(digits, 16).context("reading a chunk's length")?;
            rest = &rest[end + 2..];
            if length == 0 {
                self.ended = true;
                break;
            }
            self.left = length + 2;
        }
        let taken = self.received.len() - rest.len();
        self.received.drain(..taken);
        Ok(())
    }
}

/// A WebSocket of one session, past its `ready` frame.
pub(super) struct Socket {
    stream: WebSocketStream<TcpStream>,
}

impl Socket {
    /// Subscribes to `session` and waits until the server says that it listens.
    pub(super) async fn subscribe(address: SocketAddr, session: &str) -> anyhow::Result<Self> {
        let url = format!("ws://{address}/v1/sessions/{session}/websocket");
        let config = WebSocketConfig::default().read_buffer_size(SOCKET_BUFFER_BYTES);
        let stream = dial(address).await?;
        let upgrade = tokio_tungstenite::client_async_with_config(url, stream, Some(config));
        let (stream, _) = timeout(CONNECT_TIMEOUT, upgrade)
            .await
            .context("waiting for a socket")?
            .context("upgrading to a socket")?;
        let mut socket = Self { stream };
        let first =
            timeout(CONNECT_TIMEOUT, socket.text()).await.context("waiting for `ready`")??;
        if !first.contains(r#""type":"ready""#) {
            bail!("the first frame of a socket was not `ready` but {first}");
        }
        Ok(socket)
    }

    /// The next text frame. Pings are answered on the way.
    pub(super) async fn text(&mut self) -> anyhow::Result<String> {
        loop {
            let message = self.stream.next().await.context("the server ended a socket")?;
            match message.context("reading a socket")? {
                Message::Text(text) => return Ok(text.as_str().to_owned()),
                Message::Close(frame) => bail!("the server closed a socket: {frame:?}"),
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}

async fn dial(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .context("waiting for a connection")?
        .context("connecting to the server")?;
    stream.set_nodelay(true).context("setting TCP_NODELAY")?;
    Ok(stream)
}

struct Head {
    status: u16,
    bytes: usize,
    body_bytes: usize,
}

/// The head of an answer, or `None` while it is not complete.
fn parse_head(received: &[u8]) -> anyhow::Result<Option<Head>> {
    let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        if received.len() > ANSWER_BYTES {
            bail!("the head of an answer is longer than {ANSWER_BYTES} bytes");
        }
        return Ok(None);
    };
    let head = str::from_utf8(&received[..end]).context("reading the head of an answer")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("not an HTTP/1.1 answer: {head}"))?;
    let mut body_bytes = None;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            body_bytes = Some(value.trim().parse().context("reading content-length")?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("the bench reads no chunked answers, and this is one: {head}");
        }
    }
    // Only these may come without a length (RFC 9112, section 6.3).
    if body_bytes.is_none() && status != 204 && status != 304 {
        bail!("an answer without a length: {head}");
    }
    Ok(Some(Head { status, bytes: end + 4, body_bytes: body_bytes.unwrap_or(0) }))
}
