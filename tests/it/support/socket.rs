//! WebSocket clients of the server under test: a well-behaved one, and raw bytes for those that are not.

use crate::support::Server;
use crate::support::client::segment;
use crate::support::clock::SOON;
use crate::support::clock::within;
use futures_util::SinkExt;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::net::TcpStream;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderName;
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// A socket that the server accepted.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The sub-protocol that the server chose.
    pub protocol: Option<String>,
}

/// What a socket hears.
#[derive(Debug)]
pub enum Heard {
    /// A text frame, which is always JSON.
    Frame(Value),
    /// The end, with the code of the close frame if there was one.
    Closed(Option<u16>),
}

/// An upgrade that the server refused.
#[derive(Debug)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The body of the answer.
    pub body: String,
}

impl Socket {
    /// Opens a socket on `path`, which must work.
    pub async fn open(server: &Server, path: &str) -> Self {
        Self::try_open(server, path, &[]).await.unwrap()
    }

    /// Opens a socket on `path` with these headers.
    pub async fn try_open(
        server: &Server,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Refused> {
        let mut request = server.ws_url(path).into_client_request().unwrap();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        match within(SOON, "an upgrade is answered", connect_async(request)).await {
            Ok((stream, response)) => {
                let protocol = response.headers().get("sec-websocket-protocol");
                let protocol = protocol.map(|value| value.to_str().unwrap().to_owned());
                Ok(Self { stream, protocol })
            }
            Err(tungstenite::Error::Http(response)) => {
                let status = response.status().as_u16();
                let body = response.into_body().unwrap_or_default();
                Err(Refused { status, body: String::from_utf8(body).unwrap() })
            }
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Opens a native socket that starts live; gives its `ready` frame too.
    pub async fn live(server: &Server, session: &str) -> (Self, Value) {
        let path = format!("/v1/sessions/{}/websocket", segment(session));
        let mut socket = Self::open(server, &path).await;
        let ready = socket.frame().await;
        assert_eq!(ready["type"], "ready", "{ready}");
        (socket, ready)
    }

    /// Opens a native socket that continues after `after`; gives its `ready` frame too.
    pub async fn after(server: &Server, session: &str, after: u64) -> (Self, Value) {
        let path = format!("/v1/sessions/{}/websocket?after={after}", segment(session));
        let mut socket = Self::open(server, &path).await;
        let ready = socket.frame().await;
        assert_eq!(ready["type"], "ready", "{ready}");
        (socket, ready)
    }

    /// The next thing that the server says; control frames are passed over.
    pub async fn hear(&mut self) -> Heard {
        loop {
            match within(2 * SOON, "a frame on a socket", self.stream.next()).await {
                Some(Ok(Message::Text(text))) => {
                    let frame = serde_json::from_str(text.as_str());
                    return Heard::Frame(frame.unwrap_or_else(|_| panic!("not JSON: {text}")));
                }
                Some(Ok(Message::Close(frame))) => {
                    return Heard::Closed(frame.map(|frame| u16::from(frame.code)));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("an unexpected frame: {other:?}"),
                Some(Err(_)) | None => return Heard::Closed(None),
            }
        }
    }

    /// The next text frame as it is, for those that count every microsecond; `None` at the end.
    pub async fn text(&mut self) -> Option<String> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Some(text.as_str().to_owned()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    }

    /// The next frame; fails when the socket is closed instead.
    pub async fn frame(&mut self) -> Value {
        match self.hear().await {
            Heard::Frame(frame) => frame,
            Heard::Closed(code) => panic!("closed with {code:?} instead of a frame"),
        }
    }

    /// The next frame of this type; others are passed over.
    pub async fn until(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.frame().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Frames up to the end, and the code of the close frame.
    pub async fn rest(&mut self) -> (Vec<Value>, Option<u16>) {
        let mut frames = Vec::new();
        loop {
            match self.hear().await {
                Heard::Frame(frame) => frames.push(frame),
                Heard::Closed(code) => return (frames, code),
            }
        }
    }

    /// Sends one frame.
    pub async fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends text that need not be JSON.
    pub async fn send_text(&mut self, text: &str) {
        assert!(self.offer_text(text).await, "closed instead of taking {text}");
    }

    /// Sends text if the server still takes it: false when it is closing or closed.
    pub async fn offer_text(&mut self, text: &str) -> bool {
        let sent = self.stream.send(Message::text(text));
        within(SOON, "a frame goes out", sent).await.is_ok()
    }

    /// Sends a binary frame.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) {
        let sent = self.stream.send(Message::binary(bytes));
        within(SOON, "a frame goes out", sent).await.unwrap();
    }

    /// Waits for the answer to a ping: whatever came before it is in the list.
    pub async fn ping(&mut self) -> Vec<Value> {
        self.send(&json!({ "type": "ping" })).await;
        let mut before = Vec::new();
        loop {
            let frame = self.frame().await;
            if frame["type"] == "pong" {
                return before;
            }
            before.push(frame);
        }
    }
}

/// A TCP connection whose bytes the test writes itself.
pub struct Raw {
    /// The connection.
    pub stream: TcpStream,
}

impl Raw {
    /// Connects.
    pub async fn connect(server: &Server) -> Self {
        Self::connect_with(server, None).await
    }

    /// Connects with a receive buffer of this size, which the kernel doubles.
    pub async fn connect_with(server: &Server, receive_bytes: Option<u32>) -> Self {
        let address: SocketAddr = server.base.strip_prefix("http://").unwrap().parse().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let stream = within(SOON, "a connection", socket.connect(address)).await.unwrap();
        Self { stream }
    }

    /// Connects and upgrades to a WebSocket, which must work.
    pub async fn upgrade(server: &Server, path: &str, receive_bytes: Option<u32>) -> Self {
        let mut raw = Self::connect_with(server, receive_bytes).await;
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        raw.stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            // Byte by byte: what follows the head belongs to whoever reads next.
            let byte = within(SOON, "the head of an upgrade", raw.stream.read_u8()).await;
            answer.push(byte.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        raw
    }

    /// Sends these bytes as one HTTP request; gives the status (0 if there was no answer) and the whole answer.
    pub async fn exchange(server: &Server, request: &[u8]) -> (u16, String) {
        let mut raw = Self::connect(server).await;
        raw.offer(request).await;
        raw.answer().await
    }

    /// Writes these bytes, or as many as the server takes: it may refuse, answer and close before it saw all.
    pub async fn offer(&mut self, bytes: &[u8]) {
        within(2 * SOON, "bytes go out", self.stream.write_all(bytes)).await.ok();
    }

    /// Says that no more bytes will come.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.ok();
    }

    /// Reads what the server says until it closes; the request should have said `connection: close`.
    pub async fn answer(&mut self) -> (u16, String) {
        let answer = String::from_utf8_lossy(&self.drain().await).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or(0), answer)
    }

    /// Reads to the end, however the server ends it.
    pub async fn drain(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 65_536];
        loop {
            match within(2 * SOON, "the server closes", self.stream.read(&mut chunk)).await {
                Ok(0) | Err(_) => return bytes,
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Offers one client frame, masked with zeroes so that the payload stays readable.
    pub async fn offer_frame(&mut self, fin: bool, opcode: u8, payload: &[u8]) {
        let mut frame = frame_head(fin, opcode, payload.len() as u64);
        frame.extend_from_slice(payload);
        self.offer(&frame).await;
    }
}

/// The head of a client frame that announces `length` bytes, masked with zeroes.
pub fn frame_head(fin: bool, opcode: u8, length: u64) -> Vec<u8> {
    let mut head = vec![if fin { 0x80 | opcode } else { opcode }];
    if let Ok(short) = u8::try_from(length)
        && short < 126
    {
        head.push(0x80 | short);
    } else if let Ok(medium) = u16::try_from(length) {
        head.push(0x80 | 126);
        head.extend_from_slice(&medium.to_be_bytes());
    } else {
        head.push(0x80 | 127);
        head.extend_from_slice(&length.to_be_bytes());
    }
    head.extend_from_slice(&[0; 4]);
    head
}

/// Splits what a server wrote into its complete frames: opcode and payload.
pub fn server_frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((opcode, length, head)) = server_head(bytes) {
        let Some(payload) = bytes.get(head..head + length) else { break };
        frames.push((opcode, payload.to_vec()));
        bytes = &bytes[head + length..];
    }
    frames
}

/// Opcode, payload length and head length of the frame that `bytes` begins with.
fn server_head(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert!(second & 0x80 == 0, "a server does not mask");
    let opcode = first & 0x0f;
    match second {
        126 => {
            let length = u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap());
            Some((opcode, usize::from(length), 4))
        }
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap());
            Some((opcode, usize::try_from(length).unwrap(), 10))
        }
        short => Some((opcode, usize::from(short), 2)),
    }
}

/// The code in the close frame among these, if there is one.
pub fn close_code(frames: &[(u8, Vec<u8>)]) -> Option<u16> {
    let (_, payload) = frames.iter().find(|(opcode, _)| *opcode == 8)?;
    Some(u16::from_be_bytes(payload.get(..2)?.try_into().unwrap()))
}
