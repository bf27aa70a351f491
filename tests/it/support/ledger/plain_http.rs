//! A blocking HTTP/1.1 and WebSocket client on plain sockets. It never retries and has no pool, so that a test knows
//! of each request whether it was surely not sent or may have been carried out.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tokio_tungstenite::tungstenite;
use tungstenite::Message;
use tungstenite::WebSocket;

/// Longer than any answer may take; a request that runs into it counts as unknown.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection to one server, opened when it is needed.
pub struct Client {
    address: String,
    open: Option<BufReader<TcpStream>>,
}

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// `Idempotent-Replayed: true` was there.
    pub replayed: bool,
    /// The body; a JSON string if it is not JSON.
    pub body: Value,
}

/// No answer.
#[derive(Debug)]
pub enum Trouble {
    /// No connection: surely not carried out.
    NotSent,
    /// Perhaps carried out, perhaps not.
    Unknown,
}

struct Head {
    status: u16,
    replayed: bool,
    length: Option<usize>,
    chunked: bool,
    close: bool,
}

impl Client {
    /// A client of the server at `base`, `http://ADDR`.
    pub fn new(base: &str) -> Self {
        Self { address: base.strip_prefix("http://").unwrap().to_owned(), open: None }
    }

    /// Sends a request without a body.
    pub fn get(&mut self, path: &str) -> Result<Answer, Trouble> {
        self.call("GET", path, None, None)
    }

    /// Sends a request and waits for the whole answer.
    pub fn call(
        &mut self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, Trouble> {
        let mut wire = match self.open.take() {
            Some(wire) => wire,
            None => self.connect().map_err(|_| Trouble::NotSent)?,
        };
        let request = request(&self.address, method, path, key, body, "application/json");
        let head = exchange(&mut wire, &request).map_err(|_| Trouble::Unknown)?;
        let bytes = read_body(&mut wire, &head).map_err(|_| Trouble::Unknown)?;
        if !head.close {
            self.open = Some(wire);
        }
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(Answer { status: head.status, replayed: head.replayed, body })
    }

    /// Sends a request that is answered by server-sent events, on a connection of its own.
    pub fn stream(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Events, Trouble> {
        let mut wire = self.connect().map_err(|_| Trouble::NotSent)?;
        let request = request(&self.address, method, path, None, body, "text/event-stream");
        let head = exchange(&mut wire, &request).map_err(|_| Trouble::Unknown)?;
        Ok(Events { status: head.status, chunked: head.chunked, wire, text: Vec::new() })
    }

    /// Opens a WebSocket.
    pub fn socket(&self, path: &str) -> io::Result<WebSocket<TcpStream>> {
        let wire = self.connect()?.into_inner();
        let url = format!("ws://{}{path}", self.address);
        Ok(tungstenite::client::client(url, wire).map_err(|_| io::ErrorKind::ConnectionAborted)?.0)
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let wire = TcpStream::connect(&self.address)?;
        wire.set_nodelay(true)?;
        wire.set_read_timeout(Some(PATIENCE))?;
        wire.set_write_timeout(Some(PATIENCE))?;
        Ok(BufReader::new(wire))
    }
}

/// The next JSON frame of a socket; `None` when it is closed or breaks.
pub fn next_frame(socket: &mut WebSocket<TcpStream>) -> Option<Value> {
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// An answer of server-sent events.
pub struct Events {
    pub status: u16,
    chunked: bool,
    wire: BufReader<TcpStream>,
    text: Vec<u8>,
}

impl Events {
    /// The `data` of the next event; `None` when the stream ends or breaks.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.text.drain(..end + 2).collect();
                if let Some(data) = event_data(&event) {
                    return Some(data);
                }
            }
            let more =
                if self.chunked { read_chunk(&mut self.wire) } else { read_some(&mut self.wire) };
            match more {
                Ok(bytes) if !bytes.is_empty() => self.text.extend(bytes),
                Ok(_) | Err(_) => return None,
            }
        }
    }
}

/// The JSON in the `data` field of one server-sent event, if it has one; null for the mark at the end.
pub fn event_data(event: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(event).unwrap();
    let data = text.lines().find_map(|line| line.strip_prefix("data:"))?;
    match data.trim_start() {
        "[DONE]" => Some(Value::Null),
        json => Some(serde_json::from_str(json).unwrap()),
    }
}

fn request(
    address: &str,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: Option<&Value>,
    accept: &str,
) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\n");
    if let Some(key) = key {
        text += &format!("Idempotency-Key: {key}\r\n");
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    if !body.is_empty() {
        text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    (text + "\r\n" + &body).into_bytes()
}

fn exchange(wire: &mut BufReader<TcpStream>, request: &[u8]) -> io::Result<Head> {
    wire.get_mut().write_all(request)?;
    let status = read_line(wire)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    let mut head = Head { status, replayed: false, length: None, chunked: false, close: false };
    loop {
        let line = read_line(wire)?.to_ascii_lowercase();
        let Some((name, value)) = line.split_once(':') else { return Ok(head) };
        match (name, value.trim()) {
            ("content-length", length) => head.length = length.parse().ok(),
            ("transfer-encoding", "chunked") => head.chunked = true,
            ("idempotent-replayed", "true") => head.replayed = true,
            ("connection", "close") => head.close = true,
            _ => {}
        }
    }
}

fn read_body(wire: &mut BufReader<TcpStream>, head: &Head) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if head.chunked {
        loop {
            let chunk = read_chunk(wire)?;
            if chunk.is_empty() {
                return Ok(body);
            }
            body.extend(chunk);
        }
    }
    let length = if head.status == 204 { 0 } else { head.length.unwrap_or(0) };
    body.resize(length, 0);
    wire.read_exact(&mut body)?;
    Ok(body)
}

/// The next chunk; empty for the last one.
fn read_chunk(wire: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let line = read_line(wire)?;
    let size = line.split(';').next().and_then(|hex| usize::from_str_radix(hex.trim(), 16).ok());
    let mut chunk = vec![0; size.ok_or(io::ErrorKind::InvalidData)?];
    wire.read_exact(&mut chunk)?;
    read_line(wire)?;
    Ok(chunk)
}

fn read_some(wire: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let bytes = wire.fill_buf()?.to_vec();
    wire.consume(bytes.len());
    Ok(bytes)
}

fn read_line(wire: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if wire.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}
