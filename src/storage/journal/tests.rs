//! Properties of the journal that need no server: what comes back, what is cut, what is reported.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use crate::base::Key;
use crate::base::ids::tests::name;
use crate::base::ids::tests::session;
use crate::domain::session::EventKind;
use crate::storage::Error;
use crate::storage::journal::DamagePolicy;
use crate::storage::journal::Encoded;
use crate::storage::journal::Entry;
use crate::storage::journal::Idempotent;
use crate::storage::journal::Journal;
use crate::storage::journal::Options;
use crate::storage::journal::Record;
use crate::storage::journal::recover;
use crate::storage::journal::segment;
use crate::storage::journal::segment::Frame;
use crate::storage::journal::segment::Header;

fn record(key: &Key, seq: u64, text: &str) -> Record {
    let idempotent = seq.is_multiple_of(3).then(|| Idempotent {
        key: format!("k{seq}"),
        request: [7; 16],
        status: 201,
        response: seq.is_multiple_of(2).then(|| text.to_owned()),
    });
    let entry =
        Entry { kind: EventKind::Message, recorded_at_ms: 5, frame: text.to_owned(), idempotent };
    let entries = vec![entry.clone(), Entry { idempotent: None, ..entry }];
    Record { key: key.clone(), epoch: 1, first_seq: seq, previous_hash: [1; 16], entries }
}

/// The bytes of a segment with these payloads, written in groups of `group`, on a disk of zeros.
fn written(number: u64, first_lsn: u64, payloads: &[Encoded], group: usize) -> Vec<u8> {
    let mut bytes = Header { number, epoch: 1, first_lsn }.encode().to_vec();
    for (at, encoded) in payloads.iter().enumerate() {
        let begun = at / group * group;
        let frame = Frame {
            length: u32::try_from(encoded.payload.len()).expect("small"),
            crc: encoded.crc,
            lsn: first_lsn + at as u64,
            durable: first_lsn + begun as u64 - 1,
            segment: number,
        };
        frame.put(&encoded.payload, &mut bytes);
    }
    bytes.resize(bytes.len() + 8_192, 0);
    bytes
}

fn scan(segments: &[(u64, &[u8])]) -> recover::Recovered {
    let dir = tempfile::tempdir().expect("a folder");
    for (number, bytes) in segments {
        fs::write(segment::path(dir.path(), *number), bytes).expect("a segment");
    }
    recover::scan(dir.path()).expect("a readable folder")
}

fn payloads(count: u64) -> Vec<Encoded> {
    let key = session("s");
    (0..count)
        .map(|n| {
            record(
                &key,
                2 * n + 1,
                &format!("{{\"n\":{n}}}").repeat(usize::try_from(n % 40).expect("small") + 1),
            )
            .encode()
        })
        .collect()
}

fn options(dir: &Path) -> Options {
    Options {
        dir: dir.join("journal"),
        files_dir: dir.to_owned(),
        segment_bytes: 64 << 10,
        max_bytes: 1 << 30,
        damage: DamagePolicy::Refuse,
    }
}

proptest! {
    #[test]
    fn a_record_survives_its_encoding(seq in 1u64..1_000_000, text in ".{0,200}", workspace in name(), id in name()) {
        let record = record(&Key::session(&workspace, &id), seq, &text);
        let encoded = record.encode();
        prop_assert_eq!(encoded.last_seq, seq + 1);
        for cut in 0..encoded.payload.len().min(64) {
            prop_assert_eq!(Record::decode(&encoded.payload[..cut]), None);
        }
        prop_assert_eq!(Record::decode(&encoded.payload), Some(record));
    }

    #[test]
    fn a_tail_that_was_never_durable_is_cut_wherever_it_tears(
        count in 1u64..30,
        group in 1usize..6,
        lost in prop::collection::vec(any::<bool>(), 64),
    ) {
        let payloads = payloads(count);
        let whole = written(7, 100, &payloads, group);
        // The last group is torn: any of its sectors may be missing.
        let kept = (payloads.len() - 1) / group * group;
        let durable = written(7, 100, &payloads[..kept], group);
        let from = durable.len() - 8_192;
        let mut torn = whole;
        for (sector, lost) in (from / 512..torn.len() / 512).zip(lost.iter().cycle()) {
            let (start, end) = ((sector * 512).max(from), (sector + 1) * 512);
            if *lost && start < end {
                torn[start..end].fill(0);
            }
        }
        let found = scan(&[(7, &torn)]);
        prop_assert_eq!(&found.damage, &[]);
        prop_assert!(found.records.len() >= kept);
        prop_assert!(found.records.len() <= payloads.len());
        prop_assert_eq!(found.next_lsn, 100 + found.records.len() as u64);
    }

    #[test]
    fn a_flipped_bit_is_reported_wherever_it_is(count in 1u64..20, group in 1usize..4, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let payloads = payloads(count);
        let mut bytes = written(7, 100, &payloads, group);
        let end = bytes.len() - 8_192;
        let at = at.index(end);
        bytes[at] ^= 1 << bit;
        let found = scan(&[(7, &bytes)]);
        // Padding and reserved bytes hold nothing; whatever holds something is missed.
        let nothing_lost = found.damage.is_empty() && found.records.len() == payloads.len();
        prop_assert!(nothing_lost || !found.damage.is_empty(), "byte {} of {}: silent", at, end);
    }
}

#[test]
fn records_behind_a_failed_write_are_void() {
    let payloads = payloads(6);
    // Of the first segment records 100 to 102 were durable; 103 and 104 may or may not have reached the disk.
    let first = written(1, 100, &payloads[..5], 1);
    let second = written(2, 103, &payloads[5..], 1);
    let found = scan(&[(1, &first), (2, &second)]);
    assert_eq!(found.damage, []);
    let places: Vec<_> =
        found.records.iter().map(|(_, place)| (place.segment, place.last_seq)).collect();
    assert_eq!(places, [(1, 2), (1, 4), (1, 6), (2, 12)]);
    assert_eq!((found.next_lsn, found.next_segment, found.epoch), (104, 3, 2));
}

#[test]
fn a_segment_that_is_missing_in_the_middle_is_reported() {
    let payloads = payloads(6);
    let first = written(1, 100, &payloads[..2], 1);
    let third = written(3, 104, &payloads[4..], 1);
    let found = scan(&[(1, &first), (3, &third)]);
    assert_eq!(found.damage.iter().map(|damage| damage.missing).collect::<Vec<_>>(), [(102, 104)]);
}

#[test]
fn what_was_appended_is_there_after_a_restart_and_goes_once_it_is_applied() {
    let dir = tempfile::tempdir().expect("a folder");
    let key = session("s");
    let (journal, damage) = Journal::open(&options(dir.path())).expect("a new journal");
    assert_eq!(damage, []);
    // More than one segment holds.
    let texts: Vec<String> = (0..200).map(|n| format!("{n}").repeat(1_000)).collect();
    for (n, text) in texts.iter().enumerate() {
        let appended = journal.append(vec![record(&key, 2 * n as u64 + 1, text).encode()]);
        appended.expect("room").blocking_recv().expect("an answer").expect("durable");
    }
    drop(journal);
    let (journal, damage) = Journal::open(&options(dir.path())).expect("a journal");
    assert_eq!(damage, []);
    let pending = journal.pending(key.hash()).expect("readable");
    let frames: Vec<_> = pending.iter().map(|record| record.entries[0].frame.clone()).collect();
    assert!(frames == texts, "all of it, in order");
    assert!(journal.ledger().segment_count() > 2);
    journal.ledger().applied(key.hash(), 200);
    assert_eq!(journal.pending(key.hash()).expect("readable").len(), 100);
    journal.ledger().applied(key.hash(), 400);
    assert!(!journal.ledger().is_pending(key.hash()));
}

#[test]
fn a_damaged_journal_refuses_to_open_and_says_where() {
    let dir = tempfile::tempdir().expect("a folder");
    let key = session("s");
    let (journal, _) = Journal::open(&options(dir.path())).expect("a new journal");
    for n in 0..3 {
        let appended = journal.append(vec![record(&key, 2 * n + 1, "text").encode()]);
        appended.expect("room").blocking_recv().expect("an answer").expect("durable");
    }
    drop(journal);
    let path = segment::path(&dir.path().join("journal"), 1);
    let mut bytes = fs::read(&path).expect("the first segment");
    bytes[segment::HEADER_BYTES + segment::FRAME_BYTES + 3] ^= 4;
    fs::write(&path, bytes).expect("writable");
    let refused = Journal::open(&options(dir.path())).map(|_| ());
    assert!(
        matches!(&refused, Err(Error::JournalDamaged(damage)) if damage.missing == (1, 3)),
        "{refused:?}"
    );
    let accepting = Options { damage: DamagePolicy::Accept, ..options(dir.path()) };
    let (journal, damage) = Journal::open(&accepting).expect("accepted");
    assert_eq!((damage.len(), journal.ledger().is_pending(key.hash())), (1, false));
}
