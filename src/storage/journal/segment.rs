//! The bytes of a segment: its header and the frames around records. Reading and writing files is done elsewhere.

use std::path::Path;
use std::path::PathBuf;

use crate::base::ids::KeyHash;

/// Bytes of a segment's header.
pub(super) const HEADER_BYTES: usize = 64;
/// Bytes before each payload.
pub(super) const FRAME_BYTES: usize = 72;
/// Bytes before each payload of the first version.
const FRAME_BYTES_V1: usize = 40;
/// Records begin at multiples of this.
const ALIGN: usize = 8;
/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

const SEGMENT_MAGIC: &[u8; 8] = b"SESSILEJ";
const MAGIC: &[u8; 4] = b"SSJ2";
const MAGIC_V1: &[u8; 4] = b"SSJR";
const MAGIC_BEGIN: &[u8] = b"SSJ";
const FORMAT: u32 = 1;
/// A magic has 14 bits that are set. A place with fewer is one where nothing was written and a bit was flipped since.
const BLANK_BITS_MAX: u32 = 7;

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Number of the segment; also its file name.
    pub number: u64,
    /// The life of the node that wrote it; grows with each start.
    pub epoch: u64,
    /// Place of the first record. Records at or behind it in earlier segments are void.
    pub first_lsn: u64,
}

impl Header {
    /// As bytes.
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[16..24].copy_from_slice(&self.number.to_le_bytes());
        out[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        out[32..40].copy_from_slice(&self.first_lsn.to_le_bytes());
        let crc = crc32fast::hash(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// From bytes; `None` if they are no header, as of a segment that was prepared and never used.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let sound = bytes[..8] == *SEGMENT_MAGIC
            && bytes[8..12] == FORMAT.to_le_bytes()
            && bytes[60..] == crc32fast::hash(&bytes[..60]).to_le_bytes();
        sound.then(|| Self {
            number: number(&bytes[16..24]),
            epoch: number(&bytes[24..32]),
            first_lsn: number(&bytes[32..40]),
        })
    }

    /// The header that `bytes` are but for one bit.
    pub(super) fn repair(bytes: &[u8]) -> Option<Self> {
        let mut bytes: [u8; HEADER_BYTES] = bytes.try_into().ok()?;
        (0..HEADER_BYTES * 8).find_map(|bit| {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let header = Self::decode(&bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
            header
        })
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

/// Whose record a frame holds. The payload says it as well: either is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// The session.
    pub hash: KeyHash,
    /// Seq of its first event.
    pub first_seq: u64,
    /// Seq of its last event.
    pub last_seq: u64,
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Bytes of the payload.
    pub length: u32,
    /// CRC-32 of the payload.
    pub crc: u32,
    /// Place in the log: one more than the record before.
    pub lsn: u64,
    /// The last place that was durable when this was written.
    pub durable: u64,
    /// The segment it was written for.
    pub segment: u64,
    /// Whose record it is; `None` in the first version.
    pub owner: Option<Owner>,
}

impl Frame {
    /// Appends frame, `payload` and padding to `out`.
    pub(super) fn put(self, payload: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let magic = if self.owner.is_some() { MAGIC } else { MAGIC_V1 };
        out.extend_from_slice(magic);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
        out.extend_from_slice(&self.lsn.to_le_bytes());
        out.extend_from_slice(&self.durable.to_le_bytes());
        out.extend_from_slice(&self.segment.to_le_bytes());
        if let Some(owner) = self.owner {
            out.extend_from_slice(&owner.hash.0);
            out.extend_from_slice(&owner.first_seq.to_le_bytes());
            out.extend_from_slice(&owner.last_seq.to_le_bytes());
        }
        let crc = crc32fast::hash(&out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(payload);
        out.resize(out.len().next_multiple_of(ALIGN), 0);
    }

    /// The frame at the start of `bytes`, if it is whole. The magic is not looked at: a checksum that is right says more.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let whole = |length: usize| {
            let head = bytes.get(..length)?;
            (word(&head[4..8]) == crc32fast::hash(&head[8..])).then_some(head)
        };
        let head = whole(FRAME_BYTES).or_else(|| whole(FRAME_BYTES_V1))?;
        let owner = head.get(40..FRAME_BYTES).map(|owner| Owner {
            hash: KeyHash(owner[..16].try_into().expect("sixteen bytes")),
            first_seq: number(&owner[16..24]),
            last_seq: number(&owner[24..]),
        });
        let (length, crc) = (word(&head[8..12]), word(&head[12..16]));
        let (lsn, durable, segment) =
            (number(&head[16..24]), number(&head[24..32]), number(&head[32..40]));
        // Zeros have a right checksum too.
        (lsn > 0).then_some(Self { length, crc, lsn, durable, segment, owner })
    }

    /// Its payload, from the `bytes` that it begins; the second value says whether the checksum is right.
    pub(super) fn payload(self, bytes: &[u8]) -> Option<(&[u8], bool)> {
        let payload = bytes.get(self.head()..self.head() + self.length as usize)?;
        Some((payload, crc32fast::hash(payload) == self.crc))
    }

    fn head(self) -> usize {
        if self.owner.is_some() { FRAME_BYTES } else { FRAME_BYTES_V1 }
    }

    /// Bytes from its start to the start of the next.
    pub(super) fn stride(self) -> usize {
        (self.head() + self.length as usize).next_multiple_of(ALIGN)
    }
}

/// Bytes that a payload of `length` bytes takes in a segment.
pub(super) fn stride(length: usize) -> usize {
    (FRAME_BYTES + length).next_multiple_of(ALIGN)
}

/// The payload of a frame whose head cannot be read, as far as `bytes`, which the frame begins, go.
pub(super) fn payload_behind(bytes: &[u8]) -> &[u8] {
    bytes.get(FRAME_BYTES..).unwrap_or_default()
}

/// The next frame at or behind `from` that was written for segment `segment`, and where it begins.
pub(super) fn find(bytes: &[u8], from: usize, segment: u64) -> Option<(usize, Frame)> {
    let from = from.min(bytes.len());
    memchr::memmem::find_iter(&bytes[from..], MAGIC_BEGIN).map(|at| from + at).find_map(|at| {
        let rest = &bytes[at..];
        let magic = rest.starts_with(MAGIC) || rest.starts_with(MAGIC_V1);
        let frame = (magic && at.is_multiple_of(ALIGN)).then(|| Frame::read(rest)).flatten()?;
        (frame.segment == segment).then_some((at, frame))
    })
}

/// Whether nothing was ever written at `from`.
pub(super) fn is_blank(bytes: &[u8], from: usize) -> bool {
    let head = bytes.get(from..).unwrap_or_default();
    let head = head.get(..FRAME_BYTES).unwrap_or(head);
    head.iter().map(|byte| byte.count_ones()).sum::<u32>() <= BLANK_BITS_MAX
}

/// Whether what stands at `from` is what a power cut leaves of a write.
///
/// Segments hold zeros before they are written, and disks write whole sectors: a torn write lacks at least one, which is
/// zero still. A frame that has something in each of its sectors was written whole, and was changed later.
pub(super) fn is_torn(bytes: &[u8], from: usize) -> bool {
    let rest = bytes.get(from..).unwrap_or_default();
    let frame = Frame::read(rest);
    let length = frame.map_or(FRAME_BYTES, |frame| frame.head() + frame.length as usize);
    if length > rest.len() {
        return true;
    }
    // A record of the first version may end with a zero, so only what is its own is looked at. Behind a later one is
    // nothing, or the next.
    let is_old = frame.is_some_and(|frame| frame.owner.is_none());
    let behind = if is_old { from + length } else { bytes.len() };
    let mut start = from;
    while start < from + length {
        let end = start / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES;
        if bytes[start..end.min(behind)].iter().all(|byte| *byte == 0) {
            return true;
        }
        start = end;
    }
    false
}

/// Path of segment `number`.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:012}.seg"))
}

/// The number in the name of a segment's file.
pub(super) fn number_of(path: &Path) -> Option<u64> {
    if path.extension()? != "seg" {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}
