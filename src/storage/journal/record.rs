//! What one record holds: the events of one batch of one session, and how that becomes bytes.
//!
//! A record of version 2 begins with a head that has a checksum of its own, so that the record can be told whose it is
//! when the rest of it, or the frame before it, cannot be read any more. Version 1 has no such head and is read only.

use bytestring::ByteString;

use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::ids::KeyHash;
use crate::base::ids::Name;
use crate::domain::kinds;

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
    /// The number of what it is, among the events of its kind of actor.
    pub number: u8,
    /// Unix time in milliseconds.
    pub recorded_at_ms: i64,
    /// The frame.
    pub frame: ByteString,
    /// Set on the first event of a request that had an idempotency key.
    pub idempotent: Option<Idempotent>,
    /// Set on the first event that a letter of another actor led to: whose, and its number.
    pub heard: Option<(KeyHash, u64)>,
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
    /// Seq of the first event.
    pub first_seq: u64,
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
/// 128 bits of BLAKE3 over the hash before, seq, time, number and frame.
#[must_use]
pub fn chain(previous: &[u8; 16], seq: u64, at_ms: i64, number: u8, frame: &str) -> [u8; 16] {
    let mut head = [0; 33];
    head[..16].copy_from_slice(previous);
    head[16..24].copy_from_slice(&seq.to_le_bytes());
    head[24..32].copy_from_slice(&at_ms.to_le_bytes());
    head[32] = number;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&head).update(frame.as_bytes());
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    hash
}

const VERSION: u8 = 2;
const VERSION_1: u8 = 1;
/// Ends each record. A write that a power cut tore lacks a sector; that the last byte is never zero tells such a record
/// from one that was written whole.
const END: u8 = 0xa5;

/// Why a record that is as it was written cannot be used by this program. It says nothing about the log: the session
/// that it belongs to is refused, all others go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotUnderstood {
    /// Another program's version.
    #[error(
        "it has version {0}, which this program does not know: start the sessile that wrote it"
    )]
    Version(u8),
    /// Another program's kind of actor.
    #[error(
        "it is of an actor of kind {0}, which this program does not know: start the sessile that wrote it"
    )]
    Kind(u8),
    /// Another program's kind of event.
    #[error(
        "it has an event of kind {0}, which this program does not know: start the sessile that wrote it"
    )]
    Event(u8),
    /// What it calls its session is no name.
    #[error("what it calls its session is no name")]
    Name,
    /// It begins or ends in the wrong place.
    #[error("it is not made as this program makes records")]
    Form,
}

/// The head of a record: whose it is, without its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    kind: u8,
    workspace: &'a [u8],
    name: &'a [u8],
    /// The life of the node that wrote it.
    pub epoch: u64,
    /// Seq of the first event.
    pub first_seq: u64,
    /// Seq of the last event.
    pub last_seq: u64,
    previous_hash: [u8; 16],
    /// Unix time of the last event, in milliseconds.
    pub at_ms: i64,
}

impl<'a> Head<'a> {
    /// The head at the start of `bytes`, and what is behind it, if its checksum is right.
    pub(super) fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut rest = bytes;
        let [version, kind] = take(&mut rest)?;
        let workspace = take_short(&mut rest)?;
        let name = take_short(&mut rest)?;
        let head = Self {
            kind,
            workspace,
            name,
            epoch: u64::from_le_bytes(take(&mut rest)?),
            first_seq: u64::from_le_bytes(take(&mut rest)?),
            last_seq: u64::from_le_bytes(take(&mut rest)?),
            previous_hash: take(&mut rest)?,
            at_ms: i64::from_le_bytes(take(&mut rest)?),
        };
        let length = bytes.len() - rest.len();
        let crc = u32::from_le_bytes(take(&mut rest)?);
        (version == VERSION && crc == crc32fast::hash(&bytes[..length])).then_some((head, rest))
    }

    /// Whose record it is.
    pub(super) fn key(&self) -> Result<Key, NotUnderstood> {
        let kind = ActorKind::from_number(self.kind).ok_or(NotUnderstood::Kind(self.kind))?;
        Ok(Key::new(kind, name(self.workspace)?, name(self.name)?))
    }

    /// The hash of whose record it is, also of a kind that is not known.
    pub(super) fn hash(&self) -> Option<KeyHash> {
        self.key().ok().map(|key| key.hash())
    }
}

/// The head of a record of version 1, which has no checksum of its own.
pub(super) struct HeadV1<'a> {
    workspace: String,
    name: String,
    /// The life of the node that wrote it.
    pub epoch: u64,
    first_seq: u64,
    previous_hash: [u8; 16],
    count: u32,
    rest: &'a [u8],
}

impl<'a> HeadV1<'a> {
    /// The head at the start of `bytes`, which must be as they were written.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[VERSION_1])?;
        let head = Self {
            workspace: take_text(&mut rest)?,
            name: take_text(&mut rest)?,
            epoch: u64::from_le_bytes(take(&mut rest)?),
            first_seq: u64::from_le_bytes(take(&mut rest)?),
            previous_hash: take(&mut rest)?,
            count: u32::from_le_bytes(take(&mut rest)?),
            rest: &[],
        };
        Some(Self { rest, ..head })
    }

    /// Whose record it is.
    pub(super) fn key(&self) -> Result<Key, NotUnderstood> {
        Ok(Key::session(&name(self.workspace.as_bytes())?, &name(self.name.as_bytes())?))
    }

    /// The hash of whose record it is, whatever that is called.
    pub(super) fn hash(&self) -> KeyHash {
        KeyHash::of(ActorKind::Session, &self.workspace, &self.name)
    }

    /// Seq of the last event.
    pub(super) fn last_seq(&self) -> u64 {
        (self.first_seq + u64::from(self.count)).saturating_sub(1)
    }
}

fn name(bytes: &[u8]) -> Result<Name, NotUnderstood> {
    let text = std::str::from_utf8(bytes).map_err(|_| NotUnderstood::Name)?;
    Name::new(text).map_err(|_| NotUnderstood::Name)
}

impl Record {
    /// Turns it into bytes.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        let frames: usize = self.entries.iter().map(|entry| entry.frame.len() + 32).sum();
        let mut out = Vec::with_capacity(frames + 256);
        let last_seq = self.first_seq + self.entries.len() as u64 - 1;
        let at_ms = self.entries.last().map_or(0, |entry| entry.recorded_at_ms);
        out.extend_from_slice(&[VERSION, self.key.kind() as u8]);
        put_short(&mut out, self.key.workspace());
        put_short(&mut out, self.key.id());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.first_seq.to_le_bytes());
        out.extend_from_slice(&last_seq.to_le_bytes());
        out.extend_from_slice(&self.previous_hash);
        out.extend_from_slice(&at_ms.to_le_bytes());
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        for entry in &self.entries {
            out.push(entry.number);
            out.extend_from_slice(&entry.recorded_at_ms.to_le_bytes());
            put_text(&mut out, &entry.frame);
            if let Some((sender, number)) = entry.heard {
                out.push(3);
                out.extend_from_slice(&sender.0);
                out.extend_from_slice(&number.to_le_bytes());
                continue;
            }
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
        out.push(END);
        let crc = crc32fast::hash(&out);
        let (key, first_seq) = (self.key.clone(), self.first_seq);
        Encoded { key, first_seq, last_seq, at_ms, payload: out, crc }
    }

    /// Reads what [`Record::encode`] wrote, or an earlier version of it.
    ///
    /// # Errors
    ///
    /// [`NotUnderstood`] when neither wrote `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotUnderstood> {
        match bytes.first() {
            Some(&VERSION) => Self::decode_2(bytes),
            Some(&VERSION_1) => Self::decode_1(bytes),
            Some(&version) => Err(NotUnderstood::Version(version)),
            None => Err(NotUnderstood::Form),
        }
    }

    fn decode_2(bytes: &[u8]) -> Result<Self, NotUnderstood> {
        let (head, mut rest) = Head::read(bytes).ok_or(NotUnderstood::Form)?;
        let key = head.key()?;
        let count = head.last_seq.checked_sub(head.first_seq).ok_or(NotUnderstood::Form)? + 1;
        let entry = |_| take_entry(key.kind(), &mut rest);
        let entries = (0..count).map(entry).collect::<Result<Vec<_>, NotUnderstood>>()?;
        let Head { epoch, first_seq, previous_hash, .. } = head;
        let record = Self { key, epoch, first_seq, previous_hash, entries };
        if rest == [END] { Ok(record) } else { Err(NotUnderstood::Form) }
    }

    fn decode_1(bytes: &[u8]) -> Result<Self, NotUnderstood> {
        let head = HeadV1::read(bytes).ok_or(NotUnderstood::Form)?;
        let (key, mut rest) = (head.key()?, head.rest);
        let entry = |_| take_entry(key.kind(), &mut rest);
        let entries = (0..head.count).map(entry).collect::<Result<Vec<_>, NotUnderstood>>()?;
        let HeadV1 { epoch, first_seq, previous_hash, .. } = head;
        let record = Self { key, epoch, first_seq, previous_hash, entries };
        let whole = rest.is_empty() && !record.entries.is_empty();
        if whole { Ok(record) } else { Err(NotUnderstood::Form) }
    }

    /// Seq of its last event.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.first_seq + self.entries.len() as u64 - 1
    }
}

fn take_entry(kind: ActorKind, rest: &mut &[u8]) -> Result<Entry, NotUnderstood> {
    let [number] = take(rest).ok_or(NotUnderstood::Form)?;
    if !kinds::knows(kind, number) {
        return Err(NotUnderstood::Event(number));
    }
    take_event(number, rest).ok_or(NotUnderstood::Form)
}

fn take_event(number: u8, rest: &mut &[u8]) -> Option<Entry> {
    let recorded_at_ms = i64::from_le_bytes(take(rest)?);
    let frame = take_text(rest)?.into();
    let form = take::<1>(rest)?[0];
    let mut heard = None;
    let idempotent = match form {
        0 => None,
        3 => {
            let sender = KeyHash(take(rest)?);
            heard = Some((sender, u64::from_le_bytes(take(rest)?)));
            None
        }
        1 | 2 => Some(Idempotent {
            key: take_text(rest)?,
            request: take(rest)?,
            status: u16::from_le_bytes(take(rest)?),
            response: if form == 2 { Some(take_text(rest)?) } else { None },
        }),
        _ => return None,
    };
    Some(Entry { number, recorded_at_ms, frame, idempotent, heard })
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("batches are bounded far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// A name: its length takes one byte.
fn put_short(out: &mut Vec<u8>, name: &str) {
    out.push(u8::try_from(name.len()).expect("names have 255 bytes at most"));
    out.extend_from_slice(name.as_bytes());
}

fn take_short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let [length] = take(rest)?;
    let (text, tail) = rest.split_at_checked(usize::from(length))?;
    *rest = tail;
    Some(text)
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
