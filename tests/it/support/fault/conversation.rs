//! What clients asked and what they were told, read back from the socket bytes of a trace, with the time of each.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::ops::Range;

use serde_json::Value;

use super::trace::Op;
use super::trace::Trace;
use crate::support::ledger::plain_http::event_data;

/// One request and what came back. Times are indices of operations.
#[derive(Debug)]
pub struct Exchange {
    /// When its first byte had arrived.
    pub asked: usize,
    pub method: String,
    pub path: String,
    pub key: Option<String>,
    pub sent: Value,
    /// When the first byte of the answer was sent, if one was.
    pub answered: Option<usize>,
    pub status: u16,
    pub body: Value,
    /// Events or socket frames of the server, each with the time of its first byte.
    pub frames: Vec<(usize, Value)>,
    /// Socket frames of the client.
    pub said: Vec<(usize, Value)>,
}

impl Exchange {
    /// The session in the path of a `/v1/sessions/{id}/...` or `/chat/{id}` route.
    pub fn session(&self) -> Option<&str> {
        let path = self.path.split('?').next().unwrap();
        let rest = path.strip_prefix("/v1/sessions/").or_else(|| path.strip_prefix("/chat/"))?;
        rest.split('/').next()
    }

    /// What follows the session in the path, as in `messages`.
    pub fn leaf(&self) -> &str {
        let path = self.path.split('?').next().unwrap();
        path.rsplit('/').next().unwrap()
    }

    /// The `after` in the query.
    pub fn after(&self) -> u64 {
        self.path
            .split_once("after=")
            .map_or(0, |(_, seq)| seq.split('&').next().unwrap().parse().unwrap())
    }
}

/// One direction of a connection.
#[derive(Default)]
struct Tape {
    bytes: Vec<u8>,
    /// From which offset on the bytes were sent at which time.
    marks: Vec<(usize, usize)>,
    at: usize,
}

/// A request or answer head.
struct Head {
    time: usize,
    first: String,
    fields: BTreeMap<String, String>,
}

/// All exchanges of a trace in the order in which they were asked.
pub fn exchanges(trace: &Trace) -> Vec<Exchange> {
    let mut asked: BTreeMap<u32, Tape> = BTreeMap::new();
    let mut told: HashMap<u32, Tape> = HashMap::new();
    let mut offered: HashMap<u32, (usize, Range<usize>)> = HashMap::new();
    for (time, op) in trace.ops.iter().enumerate() {
        match op {
            Op::Received { socket, data } => {
                asked.entry(*socket).or_default().push(time, trace.data(data))
            }
            Op::Send { socket, data } => {
                offered.insert(*socket, (time, data.clone()));
            }
            Op::Sent { socket, bytes } => {
                let (time, data) = offered.remove(socket).unwrap();
                told.entry(*socket).or_default().push(time, &trace.data(&data)[..*bytes]);
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (socket, tape) in &mut asked {
        let mut answers = told.remove(socket).unwrap_or_default();
        while let Some(mut exchange) = tape.request() {
            answers.answer(&mut exchange);
            if exchange.status == 101 {
                exchange.said = tape.socket_frames();
            }
            found.push(exchange);
        }
    }
    found.sort_by_key(|exchange| exchange.asked);
    found
}

impl Tape {
    fn push(&mut self, time: usize, bytes: &[u8]) {
        self.marks.push((self.bytes.len(), time));
        self.bytes.extend(bytes);
    }

    /// When the byte at `offset` was sent.
    fn time(&self, offset: usize) -> usize {
        let mark = self.marks.partition_point(|(from, _)| *from <= offset);
        self.marks[mark - 1].1
    }

    fn take(&mut self, bytes: usize) -> Option<Range<usize>> {
        let range = self.at..self.at.checked_add(bytes)?;
        self.bytes.get(range.clone())?;
        self.at = range.end;
        Some(range)
    }

    fn take_until(&mut self, end: &[u8]) -> Option<Range<usize>> {
        let length = self.bytes[self.at..].windows(end.len()).position(|window| window == end)?;
        self.take(length + end.len())
    }

    fn json(&self, range: Range<usize>) -> Value {
        serde_json::from_slice(&self.bytes[range]).unwrap_or(Value::Null)
    }

    fn head(&mut self) -> Option<Head> {
        let range = self.take_until(b"\r\n\r\n")?;
        let time = self.time(range.start);
        let text = std::str::from_utf8(&self.bytes[range]).ok()?;
        let mut lines = text.lines();
        let first = lines.next()?.to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Some(Head { time, first, fields: lines.filter_map(field).collect() })
    }

    fn request(&mut self) -> Option<Exchange> {
        let head = self.head()?;
        let mut words = head.first.split(' ');
        let method = words.next()?.to_owned();
        let path = words.next()?.to_owned();
        let length = head.fields.get("content-length").map_or(0, |length| length.parse().unwrap());
        // A body that is still on its way when the trace ends is one that nobody has read.
        let sent = self.take(length).map_or(Value::Null, |range| self.json(range));
        let key = head.fields.get("idempotency-key").cloned();
        let asked = head.time;
        let (answered, status, body) = (None, 0, Value::Null);
        Some(Exchange {
            asked,
            method,
            path,
            key,
            sent,
            answered,
            status,
            body,
            frames: vec![],
            said: vec![],
        })
    }

    fn answer(&mut self, exchange: &mut Exchange) {
        let Some(head) = self.head() else { return };
        exchange.answered = Some(head.time);
        exchange.status = head.first.split(' ').nth(1).unwrap().parse().unwrap();
        if exchange.status == 101 {
            exchange.frames = self.socket_frames();
        } else if head.fields.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            let mut content = self.chunks();
            if head
                .fields
                .get("content-type")
                .is_some_and(|kind| kind.starts_with("text/event-stream"))
            {
                exchange.frames = content.events();
            } else {
                exchange.body = content.json(0..content.bytes.len());
            }
        } else if let Some(length) = head.fields.get("content-length") {
            exchange.body =
                self.take(length.parse().unwrap()).map_or(Value::Null, |range| self.json(range));
        }
    }

    /// The chunks from here to the last one or to the end, put together.
    fn chunks(&mut self) -> Tape {
        let mut content = Tape::default();
        while let Some(line) = self.take_until(b"\r\n") {
            let hex = std::str::from_utf8(&self.bytes[line]).unwrap();
            let size = usize::from_str_radix(hex.trim().split(';').next().unwrap(), 16).unwrap();
            let time = self.time(self.at.min(self.bytes.len() - 1));
            let Some(chunk) = self.take(size + 2) else { break };
            if size == 0 {
                break;
            }
            content.push(time, &self.bytes[chunk.start..chunk.end - 2]);
        }
        content
    }

    fn events(&mut self) -> Vec<(usize, Value)> {
        let mut events = Vec::new();
        while let Some(range) = self.take_until(b"\n\n") {
            let time = self.time(range.start);
            events.extend(event_data(&self.bytes[range]).map(|data| (time, data)));
        }
        events
    }

    /// The text frames from here on; those of clients are masked.
    fn socket_frames(&mut self) -> Vec<(usize, Value)> {
        let mut frames = Vec::new();
        while let Some((time, opcode, payload)) = self.socket_frame() {
            if opcode == 1 {
                frames.push((time, serde_json::from_slice(&payload).unwrap()));
            }
        }
        frames
    }

    fn socket_frame(&mut self) -> Option<(usize, u8, Vec<u8>)> {
        let head = self.take(2)?;
        let (first, second) = (self.bytes[head.start], self.bytes[head.start + 1]);
        assert_eq!(first & 0x70, 0, "no extension was asked for");
        let short = second & 0x7f;
        let extra = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let extra = self.take(extra)?;
        let long = self.bytes[extra.clone()].iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
        let mask = self.take(if second & 0x80 == 0 { 0 } else { 4 })?;
        let payload = self.take(if extra.is_empty() { usize::from(short) } else { long })?;
        let mask = &self.bytes[mask];
        let unmask =
            |(at, byte): (usize, &u8)| byte ^ if mask.is_empty() { 0 } else { mask[at % 4] };
        let payload = self.bytes[payload].iter().enumerate().map(unmask).collect();
        Some((self.time(head.start), first & 0x0f, payload))
    }
}
