//! What a process that starts finds in the journal: whole records, a torn tail that is cut, or damage that is reported.
//!
//! A record says whose it is at two places, each with a checksum of its own: in the frame before it and at its own
//! beginning. So a change of one of them leaves the other, and the damage stays with one session. Segments are read one
//! at a time, and nothing here changes them.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::Key;
use crate::base::ids::KeyHash;
use crate::storage::journal::Damage;
use crate::storage::journal::Flaw;
use crate::storage::journal::NotUnderstood;
use crate::storage::journal::Record;
use crate::storage::journal::ledger::Noted;
use crate::storage::journal::ledger::Place;
use crate::storage::journal::record::Head;
use crate::storage::journal::record::HeadV1;
use crate::storage::journal::segment;
use crate::storage::journal::segment::Frame;
use crate::storage::journal::segment::HEADER_BYTES;
use crate::storage::journal::segment::Header;
use crate::storage::journal::segment::Owner;

/// What the journal held, beside its records.
pub(super) struct Recovered {
    /// Place of the next record.
    pub next_lsn: u64,
    /// Number of the next segment.
    pub next_segment: u64,
    /// The life of the node that begins.
    pub epoch: u64,
    /// Segments that are there, oldest first.
    pub segments: Vec<u64>,
    /// Those of them whose header cannot be read; what it said is known nevertheless, and nothing is lost.
    pub headless: Vec<u64>,
    /// Segments that were prepared and never used, or cut off while their first record was written.
    pub unused: Vec<u64>,
    /// Segments of which nothing can be read.
    pub unreadable: Vec<u64>,
    /// What is missing and nobody knows whose it is.
    pub damage: Vec<Damage>,
}

/// Reads every segment in `dir` and gives each record, in the order of the log, to `note` with its place in the log.
pub(super) fn scan(dir: &Path, note: &mut dyn FnMut(u64, Noted)) -> io::Result<Recovered> {
    let mut numbers: Vec<u64> = Vec::new();
    for entry in fs::read_dir(dir)? {
        numbers.extend(segment::number_of(&entry?.path()));
    }
    numbers.sort_unstable();
    let mut recovered = Recovered {
        next_lsn: 1,
        next_segment: 1,
        epoch: 1,
        segments: Vec::new(),
        headless: Vec::new(),
        unused: Vec::new(),
        unreadable: Vec::new(),
        damage: Vec::new(),
    };
    let mut headers = Vec::new();
    for number in numbers {
        let path = segment::path(dir, number);
        match header(&path, number)? {
            Begins::Here(header) => headers.push(header),
            Begins::Somewhere(header) => {
                headers.push(header);
                recovered.headless.push(number);
            }
            Begins::Nowhere => recovered.unused.push(number),
            Begins::Unreadable => {
                recovered.next_segment = number + 1;
                recovered.unreadable.push(number);
                recovered.damage.push(Damage { segment: path, offset: 0, missing: (0, 1) });
            }
        }
    }
    let mut keys = HashMap::new();
    for (at, header) in headers.iter().enumerate() {
        let path = segment::path(dir, header.number);
        let bytes = fs::read(&path)?;
        let limit = headers.get(at + 1).map(|next| next.first_lsn);
        let mut segment =
            Segment { path, header: *header, bytes: &bytes, keys: &mut keys, damage: Vec::new() };
        recovered.next_lsn = segment.scan(limit, note);
        recovered.damage.append(&mut segment.damage);
        recovered.segments.push(header.number);
        recovered.next_segment = recovered.next_segment.max(header.number + 1);
        recovered.epoch = recovered.epoch.max(header.epoch + 1);
    }
    Ok(recovered)
}

enum Begins {
    Here(Header),
    /// As its bytes but one bit say, or its first record.
    Somewhere(Header),
    Nowhere,
    Unreadable,
}

/// The header of the segment at `path`; one that cannot be read is inferred from the first record.
fn header(path: &Path, number: u64) -> io::Result<Begins> {
    let mut head = Vec::with_capacity(HEADER_BYTES);
    File::open(path)?.take(HEADER_BYTES as u64).read_to_end(&mut head)?;
    if let Some(header) = Header::decode(&head).filter(|header| header.number == number) {
        return Ok(Begins::Here(header));
    }
    if let Some(header) = Header::repair(&head).filter(|header| header.number == number) {
        return Ok(Begins::Somewhere(header));
    }
    let bytes = fs::read(path)?;
    // The header is in one sector: it was written whole, or there are zeros.
    let blank = segment::is_blank(&bytes, 0);
    let Some((at, frame)) = segment::find(&bytes, HEADER_BYTES, number) else {
        let empty = bytes.iter().skip(HEADER_BYTES).all(|byte| *byte == 0);
        return Ok(if blank || empty { Begins::Nowhere } else { Begins::Unreadable });
    };
    if blank && known_durable(&bytes, at, number) < frame.lsn {
        return Ok(Begins::Nowhere);
    }
    // What is before the first record that can be read is one that cannot.
    let first_lsn = if at == HEADER_BYTES { frame.lsn } else { frame.lsn - 1 };
    let epoch = frame.payload(&bytes[at..]).and_then(|(payload, _)| match frame.owner {
        Some(_) => Some(Head::read(payload)?.0.epoch),
        None => Some(HeadV1::read(payload)?.epoch),
    });
    Ok(Begins::Somewhere(Header { number, epoch: epoch.unwrap_or(0), first_lsn }))
}

struct Segment<'a> {
    path: PathBuf,
    header: Header,
    bytes: &'a [u8],
    /// The sessions of all segments so far: most records are of one that is known.
    keys: &'a mut HashMap<KeyHash, Key>,
    damage: Vec<Damage>,
}

impl Segment<'_> {
    /// Reads every record below `limit`, which must be there; without one, every record that is there. Gives the place
    /// in the log behind the last.
    fn scan(&mut self, limit: Option<u64>, note: &mut dyn FnMut(u64, Noted)) -> u64 {
        let number = self.header.number;
        let (mut offset, mut lsn) = (HEADER_BYTES, self.header.first_lsn);
        while limit.is_none_or(|limit| lsn < limit) {
            let rest = self.bytes.get(offset..).unwrap_or_default();
            let frame = Frame::read(rest).filter(|f| f.segment == number && f.lsn == lsn);
            let found = frame.and_then(|frame| Some((frame, frame.payload(rest)?)));
            if let Some((frame, (payload, true))) = found {
                if let Some(noted) = self.whole(offset, frame, payload) {
                    note(lsn, noted);
                } else {
                    self.lost(offset, (lsn, lsn + 1));
                }
                (offset, lsn) = (offset + frame.stride(), lsn + 1);
                continue;
            }
            let must_be_there = match limit {
                Some(limit) => limit - 1,
                None => known_durable(self.bytes, offset, number),
            };
            let written =
                !segment::is_blank(self.bytes, offset) && !segment::is_torn(self.bytes, offset);
            if must_be_there < lsn && !written {
                break;
            }
            // The next one that can be read is behind all that is missing.
            let next = match found {
                Some((frame, _)) => Some((offset + frame.stride(), lsn + 1)),
                None => segment::find(self.bytes, offset, number)
                    .map(|(at, frame)| (at, frame.lsn))
                    .filter(|(_, next)| *next > lsn && limit.is_none_or(|limit| *next < limit)),
            };
            let (end, next_lsn) = next.unwrap_or_else(|| {
                (self.end(offset), limit.unwrap_or(lsn + 1).max(must_be_there + 1).max(lsn + 1))
            });
            let mut missing = (lsn, next_lsn);
            let owner = frame.and_then(|frame| frame.owner);
            if end > offset
                && let Some(noted) = self.flawed(offset, end, lsn, owner)
            {
                note(lsn, noted);
                missing.0 += 1;
            }
            if missing.0 < missing.1 {
                self.lost(offset, missing);
            }
            (offset, lsn) = (end, next_lsn);
        }
        lsn
    }

    /// Where the bytes that begin at `offset` end, if no record follows.
    fn end(&self, offset: usize) -> usize {
        let rest = self.bytes.get(offset..).unwrap_or_default();
        let length = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        (offset + length.max(8)).next_multiple_of(8)
    }

    fn lost(&mut self, offset: usize, missing: (u64, u64)) {
        let segment = self.path.clone();
        self.damage.push(Damage { segment, offset: offset as u64, missing });
    }

    /// A record that is as it was written; `None` if nothing says whose it is.
    fn whole(&mut self, offset: usize, frame: Frame, payload: &[u8]) -> Option<Noted> {
        let (segment, offset) = (self.header.number, offset as u64);
        let place = |last_seq, at_ms| Place { segment, offset, last_seq, at_ms, flaw: None };
        let Some(owner) = frame.owner else {
            let head = HeadV1::read(payload)?;
            let record = Record::decode(payload).ok();
            let at_ms = record.and_then(|record| Some(record.entries.last()?.recorded_at_ms));
            let place = place(head.last_seq(), at_ms.unwrap_or(0));
            return Some(Noted { hash: head.hash(), key: head.key().ok(), place });
        };
        // What this program does not understand is found out by whoever wants the session.
        let head = Head::read(payload).map(|(head, _)| head);
        let place = place(owner.last_seq, head.map_or(0, |head| head.at_ms));
        Some(Noted { hash: owner.hash, key: self.key(owner.hash, head), place })
    }

    fn key(&mut self, hash: KeyHash, head: Option<Head<'_>>) -> Option<Key> {
        if let Some(key) = self.keys.get(&hash) {
            return Some(key.clone());
        }
        let key = head?.key().ok().filter(|key| key.hash() == hash)?;
        self.keys.insert(hash, key.clone());
        Some(key)
    }

    /// A record that is not as it was written, from `offset` to `end`; `None` if nothing says whose it is.
    fn flawed(
        &mut self,
        offset: usize,
        end: usize,
        lsn: u64,
        owner: Option<Owner>,
    ) -> Option<Noted> {
        let rest = self.bytes.get(offset..).unwrap_or_default();
        let head = Head::read(segment::payload_behind(rest)).map(|(head, _)| head);
        let owner = owner.or_else(|| {
            let head = head?;
            let (first_seq, last_seq) = (head.first_seq, head.last_seq);
            Some(Owner { hash: head.hash()?, first_seq, last_seq })
        })?;
        let reason = match head {
            Some(_) => "a checksum does not match",
            None => "the checksum of its beginning does not match",
        };
        let flaw = Flaw {
            segment: self.header.number,
            offset: offset as u64,
            bytes: (end - offset) as u64,
            lsn,
            first_seq: owner.first_seq,
            last_seq: owner.last_seq,
            reason: reason.to_owned(),
        };
        let place = Place {
            segment: self.header.number,
            offset: offset as u64,
            last_seq: owner.last_seq,
            at_ms: head.map_or(0, |head| head.at_ms),
            flaw: Some(Arc::new(flaw)),
        };
        let key = self.key(owner.hash, head);
        Some(Noted { hash: owner.hash, key, place })
    }
}

/// The highest place that any frame of the segment from `from` on knew to be durable; 0 if there is none.
fn known_durable(bytes: &[u8], from: usize, number: u64) -> u64 {
    let (mut at, mut highest) = (from, 0);
    while let Some((next, frame)) = segment::find(bytes, at, number) {
        // What such a frame knew about itself and later ones is nothing: they may be the torn tail.
        highest = highest.max(frame.durable);
        at = next + frame.stride();
    }
    highest
}

/// What a segment holds, for whoever checks a data folder.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The segment.
    pub path: PathBuf,
    /// Whether its header is as it was written; if not, nothing is lost.
    pub has_header: bool,
    /// Records in it that are as they were written.
    pub whole: u64,
    /// The first and the last event of each session with such a record.
    pub reached: HashMap<KeyHash, (u64, u64)>,
    /// Those that are as they were written, but not as this program writes them.
    pub not_understood: Vec<(KeyHash, Option<Key>, NotUnderstood)>,
    /// Records that are not as they were written, and whose they are.
    pub flaws: Vec<(KeyHash, Option<Key>, Flaw)>,
    /// What is missing and nobody knows whose it is.
    pub damage: Vec<Damage>,
}

/// Reads every record of the journal in `dir`, changing nothing; also while a server uses it.
///
/// # Errors
///
/// When the folder or a segment cannot be read.
pub fn check(dir: &Path) -> io::Result<Vec<Checked>> {
    let mut notes = Vec::new();
    let recovered = scan(dir, &mut |_, noted| notes.push(noted))?;
    let mut checked: Vec<Checked> = Vec::new();
    let numbers = recovered.segments.iter().copied();
    for number in numbers {
        let path = segment::path(dir, number);
        // A segment may have been retired meanwhile, and then nobody needs it.
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            bytes => bytes?,
        };
        let damage = recovered.damage.iter().filter(|damage| damage.segment == path);
        let damage = damage.cloned().collect();
        let has_header = !recovered.headless.contains(&number);
        let (not_understood, flaws, reached) = (Vec::new(), Vec::new(), HashMap::new());
        let mut this =
            Checked { path, has_header, whole: 0, reached, not_understood, flaws, damage };
        for noted in notes.iter().filter(|noted| noted.place.segment == number) {
            let (hash, key) = (noted.hash, noted.key.clone());
            if let Some(flaw) = &noted.place.flaw {
                this.flaws.push((hash, key, Flaw::clone(flaw)));
                continue;
            }
            let rest = usize::try_from(noted.place.offset).ok().and_then(|at| bytes.get(at..));
            let payload = rest.and_then(|rest| Frame::read(rest)?.payload(rest));
            match payload.map(|(payload, _)| Record::decode(payload)) {
                Some(Err(error)) => this.not_understood.push((hash, key, error)),
                whole => {
                    this.whole += 1;
                    let last_seq = noted.place.last_seq;
                    let first_seq = whole.and_then(Result::ok).map_or(last_seq, |r| r.first_seq);
                    let (first, last) = this.reached.entry(hash).or_insert((first_seq, last_seq));
                    (*first, *last) = (first_seq.min(*first), last_seq.max(*last));
                }
            }
        }
        checked.push(this);
    }
    let nowhere = |damage: &&Damage| !checked.iter().any(|this| this.path == damage.segment);
    let strays: Vec<_> = recovered.damage.iter().filter(nowhere).cloned().collect();
    checked.extend(strays.into_iter().map(|damage| Checked {
        path: damage.segment.clone(),
        has_header: false,
        whole: 0,
        reached: HashMap::new(),
        not_understood: Vec::new(),
        flaws: Vec::new(),
        damage: vec![damage],
    }));
    Ok(checked)
}
