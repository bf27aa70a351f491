//! What one record holds: the events of one batch of one session, and how that becomes bytes.

use crate::base::Key;
use crate::base::ids::Name;
use crate::domain::session::EventKind;

/// The answer to a request with an idempotency key, kept so that a repeat hears the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Idempotent {
    /// The key, as the client sent it.
    pub key: String,
    /// Hash of the request.
    pub request: [u8; 16],
    /// HTTP status of the answer.
    pub status: u16,
    /// Body of the answer; `None`: the message of the event.
    pub response: Option<String>,
}

/// One event on its way to the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What kind of event.
    pub kind: EventKind,
    /// Unix time in milliseconds.
    pub recorded_at_ms: i64,
    /// The frame.
    pub frame: String,
    /// Set on the first event of a request that had an idempotency key.
    pub idempotent: Option<Idempotent>,
}

/// The events of one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Whose.
    pub key: Key,
    /// The life of the node that wrote it.
    pub epoch: u64,
    /// Seq of the first event.
    pub first_seq: u64,
    /// Chained checksum of the event before the first.
    pub previous_hash: [u8; 16],
    /// The events, in order.
    pub entries: Vec<Entry>,
}

/// A record as bytes, with what the journal must know of it.
#[derive(Debug)]
pub struct Encoded {
    /// Whose.
    pub key: Key,
    /// Seq of the last event.
    pub last_seq: u64,
    /// Unix time of the last event, in milliseconds.
    pub at_ms: i64,
    /// The bytes.
    pub payload: Vec<u8>,
    /// CRC-32 of the bytes.
    pub crc: u32,
}

/// Checksum of an event, chained over all before it: a change of any of them changes it.
///
/// 128 bits of BLAKE3 over the hash before, seq, time, kind and frame.
#[must_use]
pub fn chain(previous: &[u8; 16], seq: u64, at_ms: i64, kind: EventKind, frame: &str) -> [u8; 16] {
    let mut head = [0; 33];
    head[..16].copy_from_slice(previous);
    head[16..24].copy_from_slice(&seq.to_le_bytes());
    head[24..32].copy_from_slice(&at_ms.to_le_bytes());
    head[32] = kind as u8;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&head).update(frame.as_bytes());
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    hash
}

const VERSION: u8 = 1;

impl Record {
    /// Turns it into bytes.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        let frames: usize = self.entries.iter().map(|entry| entry.frame.len() + 32).sum();
        let mut out = Vec::with_capacity(frames + 128);
        out.push(VERSION);
        put_text(&mut out, self.key.workspace());
        put_text(&mut out, self.key.id());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.first_seq.to_le_bytes());
        out.extend_from_slice(&self.previous_hash);
        put_length(&mut out, self.entries.len());
        for entry in &self.entries {
            out.push(entry.kind as u8);
            out.extend_from_slice(&entry.recorded_at_ms.to_le_bytes());
            put_text(&mut out, &entry.frame);
            let Some(idempotent) = &entry.idempotent else {
                out.push(0);
                continue;
            };
            out.push(if idempotent.response.is_some() { 2 } else { 1 });
            put_text(&mut out, &idempotent.key);
            out.extend_from_slice(&idempotent.request);
            out.extend_from_slice(&idempotent.status.to_le_bytes());
            if let Some(response) = &idempotent.response {
                put_text(&mut out, response);
            }
        }
        let last_seq = self.first_seq + self.entries.len() as u64 - 1;
        let crc = crc32fast::hash(&out);
        let at_ms = self.entries.last().map_or(0, |entry| entry.recorded_at_ms);
        Encoded { key: self.key.clone(), last_seq, at_ms, payload: out, crc }
    }

    /// Reads what [`Record::encode`] wrote; `None` if it did not.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        if take::<1>(&mut rest)? != [VERSION] {
            return None;
        }
        let workspace = Name::new(take_text(&mut rest)?).ok()?;
        let name = Name::new(take_text(&mut rest)?).ok()?;
        let epoch = u64::from_le_bytes(take(&mut rest)?);
        let first_seq = u64::from_le_bytes(take(&mut rest)?);
        let previous_hash = take(&mut rest)?;
        let count = u32::from_le_bytes(take(&mut rest)?);
        let entries = (0..count).map(|_| take_entry(&mut rest)).collect::<Option<Vec<_>>>()?;
        let key = Key::session(&workspace, &name);
        (rest.is_empty() && !entries.is_empty()).then_some(Self {
            key,
            epoch,
            first_seq,
            previous_hash,
            entries,
        })
    }
}

fn take_entry(rest: &mut &[u8]) -> Option<Entry> {
    let kind = EventKind::from_number(take::<1>(rest)?[0])?;
    let recorded_at_ms = i64::from_le_bytes(take(rest)?);
    let frame = take_text(rest)?;
    let form = take::<1>(rest)?[0];
    let idempotent = match form {
        0 => None,
        1 | 2 => Some(Idempotent {
            key: take_text(rest)?,
            request: take(rest)?,
            status: u16::from_le_bytes(take(rest)?),
            response: if form == 2 { Some(take_text(rest)?) } else { None },
        }),
        _ => return None,
    };
    Some(Entry { kind, recorded_at_ms, frame, idempotent })
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("batches are bounded far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(u32::from_le_bytes(take(rest)?)).ok()?;
    let text = rest.get(..length)?;
    *rest = &rest[length..];
    String::from_utf8(text.to_vec()).ok()
}
