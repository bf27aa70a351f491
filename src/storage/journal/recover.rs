//! What a process that starts finds in the journal: whole records, a torn tail that is cut, or damage that is reported.

use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::base::Key;
use crate::storage::journal::Record;
use crate::storage::journal::ledger::Place;
use crate::storage::journal::segment;
use crate::storage::journal::segment::FRAME_BYTES;
use crate::storage::journal::segment::Frame;
use crate::storage::journal::segment::HEADER_BYTES;
use crate::storage::journal::segment::Header;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Durable records that cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment that should hold them.
    pub segment: PathBuf,
    /// Where it stops making sense.
    pub offset: u64,
    /// Places in the log that are missing: first and one behind the last.
    pub missing: (u64, u64),
}

/// What to do about [`Damage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamagePolicy {
    /// Refuse to start.
    Refuse,
    /// Start without the records; the files may hold what they said.
    Accept,
}

/// What the journal held.
pub(super) struct Recovered {
    /// Every record, in the order of the log.
    pub records: Vec<(Key, Place)>,
    /// Place of the next record.
    pub next_lsn: u64,
    /// Number of the next segment.
    pub next_segment: u64,
    /// The life of the node that begins.
    pub epoch: u64,
    /// Segments that are there.
    pub segments: Vec<u64>,
    /// What is missing.
    pub damage: Vec<Damage>,
}

struct Found {
    path: PathBuf,
    header: Header,
    bytes: Vec<u8>,
}

/// Reads every segment in `dir` and makes what it found durable, so that it may be shown.
pub(super) fn scan(dir: &Path) -> io::Result<Recovered> {
    let mut numbers: Vec<u64> = Vec::new();
    for entry in fs::read_dir(dir)? {
        numbers.extend(segment::number_of(&entry?.path()));
    }
    numbers.sort_unstable();
    let mut recovered = Recovered {
        records: Vec::new(),
        next_lsn: 1,
        next_segment: 1,
        epoch: 1,
        segments: Vec::new(),
        damage: Vec::new(),
    };
    let mut found = Vec::new();
    for number in numbers {
        let path = segment::path(dir, number);
        let bytes = fs::read(&path)?;
        match Header::decode(&bytes).filter(|header| header.number == number) {
            Some(header) => found.push(Found { path, header, bytes }),
            None => match headless(&bytes, number) {
                Some(missing) => {
                    recovered.next_segment = number + 1;
                    recovered.damage.push(Damage { segment: path, offset: 0, missing });
                }
                // Prepared and never used, or cut off while its first record was written.
                None => fs::remove_file(&path)?,
            },
        }
    }
    for (at, current) in found.iter().enumerate() {
        let limit = found.get(at + 1).map(|next| next.header.first_lsn);
        scan_segment(current, limit, &mut recovered);
        File::open(&current.path)?.sync_data()?;
        recovered.segments.push(current.header.number);
        recovered.next_segment = recovered.next_segment.max(current.header.number + 1);
        recovered.epoch = recovered.epoch.max(current.header.epoch + 1);
    }
    Ok(recovered)
}

fn scan_segment(current: &Found, limit: Option<u64>, recovered: &mut Recovered) {
    let Found { path, header, bytes } = current;
    let (mut offset, mut lsn) = (HEADER_BYTES, header.first_lsn);
    while limit.is_none_or(|limit| lsn < limit) {
        let Some((frame, payload)) = bytes.get(offset..).and_then(Frame::read) else { break };
        if frame.segment != header.number || frame.lsn != lsn {
            break;
        }
        let Some(record) = Record::decode(payload) else { break };
        let last_seq = record.first_seq + record.entries.len() as u64 - 1;
        let at_ms = record.entries.last().map_or(0, |entry| entry.recorded_at_ms);
        let place = Place { segment: header.number, offset: offset as u64, last_seq, at_ms };
        recovered.records.push((record.key, place));
        offset += frame.stride();
        lsn += 1;
    }
    recovered.next_lsn = lsn;
    let durable = match limit {
        Some(limit) => limit - 1,
        None if is_torn(bytes, offset) => known_durable(bytes, offset, header.number),
        None => known_durable(bytes, offset, header.number).max(lsn),
    };
    if durable >= lsn {
        let missing = (lsn, durable + 1);
        recovered.damage.push(Damage { segment: path.clone(), offset: offset as u64, missing });
        recovered.next_lsn = durable + 1;
    }
}

/// Whether what stands at `from` is what a power cut leaves of a write, or nothing at all.
///
/// Segments hold zeros before they are written, and disks write whole sectors: a torn write lacks at least one, which
/// is zero still. A frame that has something in each of its sectors was written whole, and was changed later.
fn is_torn(bytes: &[u8], from: usize) -> bool {
    let Some(head) = bytes.get(from..from + FRAME_BYTES) else { return true };
    let length = Frame::length_of(head).unwrap_or(0);
    let Some(frame) = bytes.get(from..from + FRAME_BYTES + length) else { return true };
    let first = SECTOR_BYTES - from % SECTOR_BYTES;
    let (start, rest) = frame.split_at(first.min(frame.len()));
    std::iter::once(start).chain(rest.chunks(SECTOR_BYTES)).any(|part| part.iter().all(|b| *b == 0))
}

/// The highest place that any later frame of the segment knew to be durable; 0 if there is none.
fn known_durable(bytes: &[u8], from: usize, number: u64) -> u64 {
    let (mut at, mut highest) = (from, 0);
    while let Some(next) = segment::find(bytes, at) {
        if let Some((frame, _)) = Frame::read(&bytes[next..]) {
            if frame.segment == number {
                // What such a frame knew about itself and later ones is nothing: they may be the torn tail.
                highest = highest.max(frame.durable);
            }
            at = next + frame.stride();
        }
    }
    highest
}

/// Records of a segment without a header that were durable: their places.
fn headless(bytes: &[u8], number: u64) -> Option<(u64, u64)> {
    // The header is in one sector: it was written whole, or there are zeros.
    let changed = bytes.iter().take(HEADER_BYTES).any(|byte| *byte != 0);
    let first = segment::find(bytes, HEADER_BYTES);
    let frame = first.and_then(|at| Some((at, Frame::read(&bytes[at..])?.0)));
    match frame.filter(|(_, frame)| frame.segment == number) {
        None => changed.then_some((0, 1)),
        Some((at, frame)) => {
            let durable = known_durable(bytes, at, number).max(if changed { frame.lsn } else { 0 });
            (durable >= frame.lsn).then_some((frame.lsn, durable + 1))
        }
    }
}
