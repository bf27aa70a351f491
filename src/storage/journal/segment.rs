//! The bytes of a segment: its header and the frames around records. Reading and writing files is done elsewhere.

use std::path::Path;
use std::path::PathBuf;

/// Bytes of a segment's header.
pub(super) const HEADER_BYTES: usize = 64;
/// Bytes before each payload.
pub(super) const FRAME_BYTES: usize = 40;
/// Records begin at multiples of this.
const ALIGN: usize = 8;

const SEGMENT_MAGIC: &[u8; 8] = b"SESSILEJ";
const FRAME_MAGIC: &[u8; 4] = b"SSJR";
const FORMAT: u32 = 1;

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
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
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
}

impl Frame {
    /// Appends frame, `payload` and padding to `out`.
    pub(super) fn put(self, payload: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(FRAME_MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
        out.extend_from_slice(&self.lsn.to_le_bytes());
        out.extend_from_slice(&self.durable.to_le_bytes());
        out.extend_from_slice(&self.segment.to_le_bytes());
        let crc = crc32fast::hash(&out[start + 8..start + FRAME_BYTES]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(payload);
        out.resize(out.len().next_multiple_of(ALIGN), 0);
    }

    /// Length of the payload of the frame whose first bytes are `head`, if those are whole.
    pub(super) fn length_of(head: &[u8]) -> Option<usize> {
        let head = head.get(..FRAME_BYTES)?;
        let whole =
            head[..4] == *FRAME_MAGIC && head[4..8] == crc32fast::hash(&head[8..]).to_le_bytes();
        let length = u32::from_le_bytes(head[8..12].try_into().expect("four bytes"));
        whole.then(|| usize::try_from(length).ok()).flatten()
    }

    /// The frame and payload at the start of `bytes`, if both are whole.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        Self::length_of(bytes)?;
        let head = &bytes[..FRAME_BYTES];
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let frame = Self {
            length: word(8),
            crc: word(12),
            lsn: number(&head[16..24]),
            durable: number(&head[24..32]),
            segment: number(&head[32..40]),
        };
        let payload = bytes.get(FRAME_BYTES..FRAME_BYTES + frame.length as usize)?;
        (crc32fast::hash(payload) == frame.crc).then_some((frame, payload))
    }

    /// Bytes from its start to the start of the next.
    pub(super) fn stride(self) -> usize {
        stride(self.length as usize)
    }
}

/// Bytes that a payload of `length` bytes takes in a segment.
pub(super) fn stride(length: usize) -> usize {
    (FRAME_BYTES + length).next_multiple_of(ALIGN)
}

/// The next place at or behind `from` where a whole frame begins, looking at every aligned place.
pub(super) fn find(bytes: &[u8], from: usize) -> Option<usize> {
    (from.next_multiple_of(ALIGN)..bytes.len())
        .step_by(ALIGN)
        .find(|&at| bytes[at..].starts_with(FRAME_MAGIC) && Frame::read(&bytes[at..]).is_some())
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
