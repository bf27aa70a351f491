//! Whether a write-ahead log of SQLite is as it was written.
//!
//! SQLite takes a log up to the first frame that does not fit its checksum: that is where a power cut may have stopped a
//! write. A flipped bit looks the same, and everything behind it is dropped without a word. But a log that was cut off
//! ends there; one in which a bit flipped goes on, or its last frame is there in full and almost right.

use std::fs;
use std::io;
use std::path::Path;

/// Source: SQLite's file format, 4.1 and 4.2.
const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The checksums of a log with this magic number read words with the highest byte first, of the one before not.
const BIG_ENDIAN_MAGIC: u32 = 0x377f_0683;
const MAGIC: u32 = 0x377f_0682;
const PAGE_BYTES_MAX: usize = 65_536;

/// Whether every frame that the log at `path` was given can be read; true if there is none.
///
/// After a power cut a log that nobody damaged may look damaged, so this is a reason to look, never damage by itself.
pub(super) fn is_intact(path: &Path) -> io::Result<bool> {
    let log = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        log => log?,
    };
    let Some((header, frames)) = log.split_at_checked(HEADER_BYTES) else { return Ok(true) };
    let magic = word(header, 0, true);
    let page = usize::try_from(word(header, 8, true)).unwrap_or(usize::MAX);
    let big_endian = magic == BIG_ENDIAN_MAGIC;
    let mut sum = sum((0, 0), &header[..24], big_endian);
    let fits = sum == (word(header, 24, true), word(header, 28, true));
    if !fits || !(big_endian || magic == MAGIC) || page > PAGE_BYTES_MAX {
        return Ok(frames.is_empty());
    }
    let salt = salt_at(header, 16);
    let mut frames = frames.chunks_exact(FRAME_HEADER_BYTES + page);
    for frame in frames.by_ref() {
        let next = self::sum(self::sum(sum, &frame[..8], big_endian), &frame[24..], big_endian);
        let says = (word(frame, 16, true), word(frame, 20, true));
        if salt_at(frame, 8) == salt && next == says {
            sum = next;
            continue;
        }
        // Behind the end there may be frames of the log's earlier lives, with other salts.
        let mine = |frame: &[u8]| (salt_at(frame, 8) ^ salt).count_ones() <= 1;
        return Ok(!mine(frame) && !frames.any(mine));
    }
    Ok(true)
}

fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let word = bytes[at..at + 4].try_into().expect("four bytes");
    if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
}

fn salt_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at, true)) << 32 | u64::from(word(bytes, at + 4, true))
}

/// SQLite's checksum of `bytes` behind those that `before` is of.
fn sum(before: (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    bytes.chunks_exact(8).fold(before, |(a, b), pair| {
        let a = a.wrapping_add(word(pair, 0, big_endian)).wrapping_add(b);
        (a, b.wrapping_add(word(pair, 4, big_endian)).wrapping_add(a))
    })
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn each_bit_of_a_log_counts_and_an_early_end_does_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, log) = (dir.path().join("x.db"), dir.path().join("x.db-wal"));
        let writer = Connection::open(&path).expect("a database");
        writer
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x);
                 INSERT INTO t VALUES ('a'); INSERT INTO t VALUES ('b'); INSERT INTO t VALUES ('c');
                 PRAGMA wal_checkpoint; INSERT INTO t VALUES ('d'); INSERT INTO t VALUES ('e');",
            )
            .expect("it writes");
        let whole = fs::read(&log).expect("readable");
        assert!(is_intact(&log).expect("readable"));
        // Behind the two frames of this life are those of the one before: nobody reads them.
        let in_use = HEADER_BYTES + 2 * (FRAME_HEADER_BYTES + 4_096);
        assert!(whole.len() > in_use);
        for at in (0..in_use).step_by(61).chain(0..HEADER_BYTES + FRAME_HEADER_BYTES) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&log, flipped).expect("writable");
            assert!(!is_intact(&log).expect("readable"), "byte {at}");
        }
        for end in [0, 10, HEADER_BYTES, HEADER_BYTES + 100, in_use - 1] {
            fs::write(&log, &whole[..end]).expect("writable");
            assert!(is_intact(&log).expect("readable"), "{end} bytes");
        }
    }
}
