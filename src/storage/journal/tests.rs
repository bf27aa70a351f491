//! Properties of the journal that need no server: what comes back, what is cut, what is reported.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use crate::base::Key;
use crate::base::ids::tests::name;
use crate::base::ids::tests::session;
use crate::domain::session::EventKind;
use crate::storage::Error;
use crate::storage::journal::AppendError;
use crate::storage::journal::Damage;
use crate::storage::journal::DamagePolicy;
use crate::storage::journal::Encoded;
use crate::storage::journal::Entry;
use crate::storage::journal::Idempotent;
use crate::storage::journal::Journal;
use crate::storage::journal::Options;
use crate::storage::journal::Record;
use crate::storage::journal::ledger::Noted;
use crate::storage::journal::recover;
use crate::storage::journal::recover::Recovered;
use crate::storage::journal::segment;
use crate::storage::journal::segment::Frame;
use crate::storage::journal::segment::Header;
use crate::storage::journal::segment::Owner;

fn record(key: &Key, seq: u64, text: &str) -> Record {
    let idempotent = seq.is_multiple_of(3).then(|| Idempotent {
        key: format!("k{seq}"),
        request: [7; 16],
        status: 201,
        response: seq.is_multiple_of(2).then(|| text.to_owned()),
    });
    let entry = Entry {
        number: EventKind::Message as u8,
        recorded_at_ms: 5,
        frame: text.into(),
        idempotent,
        heard: None,
    };
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
            owner: Some(Owner {
                hash: encoded.key.hash(),
                first_seq: encoded.first_seq,
                last_seq: encoded.last_seq,
            }),
        };
        frame.put(&encoded.payload, &mut bytes);
    }
    bytes.resize(bytes.len() + 8_192, 0);
    bytes
}

/// What a start finds.
struct Found {
    records: Vec<(u64, Noted)>,
    next_lsn: u64,
    next_segment: u64,
    epoch: u64,
    damage: Vec<Damage>,
}

fn scan(segments: &[(u64, &[u8])]) -> Found {
    let dir = tempfile::tempdir().expect("a folder");
    for (number, bytes) in segments {
        fs::write(segment::path(dir.path(), *number), bytes).expect("a segment");
    }
    scan_in(dir.path())
}

fn scan_in(dir: &Path) -> Found {
    let mut records = Vec::new();
    let found = recover::scan(dir, &mut |lsn, noted| records.push((lsn, noted)));
    let Recovered { next_lsn, next_segment, epoch, damage, .. } = found.expect("a readable folder");
    Found { records, next_lsn, next_segment, epoch, damage }
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
        quarantine_dir: dir.join("quarantine"),
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
            prop_assert!(Record::decode(&encoded.payload[..cut]).is_err());
        }
        prop_assert_eq!(Record::decode(&encoded.payload), Ok(record.clone()));

        // And a restart: what the journal holds is found under the same key.
        let bytes = written(1, 1, &[encoded], 1);
        let found = scan(&[(1, &bytes)]);
        prop_assert_eq!(&found.damage, &[]);
        prop_assert_eq!(found.records[0].1.key.as_ref(), Some(&record.key));
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
        found.records.iter().map(|(_, n)| (n.place.segment, n.place.last_seq)).collect();
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
    let pending = journal.pending(key.hash(), 0).expect("readable");
    let frames: Vec<_> = pending.iter().map(|record| record.entries[0].frame.clone()).collect();
    assert!(frames == texts, "all of it, in order");
    assert!(journal.ledger().segment_count() > 2);
    journal.ledger().applied(key.hash(), 200);
    assert_eq!(journal.pending(key.hash(), 0).expect("readable").len(), 100);
    journal.ledger().applied(key.hash(), 400);
    assert!(!journal.ledger().is_pending(key.hash()));
}

/// Appends records of two events each, the first of them with seq 1.
fn append(journal: &Journal, key: &Key, texts: &[&str]) {
    for (n, text) in texts.iter().enumerate() {
        let appended = journal.append(vec![record(key, 2 * n as u64 + 1, text).encode()]);
        appended.expect("room").blocking_recv().expect("an answer").expect("durable");
    }
}

fn flip(path: &Path, byte: usize) {
    let mut bytes = fs::read(path).expect("a file");
    bytes[byte] ^= 4;
    fs::write(path, bytes).expect("writable");
}

#[test]
fn every_single_bit_touches_one_session_at_most_and_nothing_is_given_as_right_that_is_not() {
    let keys = [session("one"), session("two words"), session("dr\u{ed}")];
    let encoded = |range: std::ops::Range<u64>| -> Vec<Encoded> {
        let record_of =
            |n| record(&keys[usize::try_from(n % 3).expect("small")], 2 * (n / 3) + 1, "{}");
        range.map(|n| record_of(n).encode()).collect()
    };
    let (sealed, last) = (encoded(0..4), encoded(4..9));
    // In groups of two: the last one was alone and may never have been durable, as far as the others know.
    let segments = [written(1, 10, &sealed, 2), written(2, 14, &last, 2)];
    let all: Vec<&Encoded> = sealed.iter().chain(&last).collect();
    let ends = segments.each_ref().map(|bytes| bytes.len() - 8_192 + 128);
    let dir = tempfile::tempdir().expect("a folder");
    let write = |at: usize, bytes: &[u8]| {
        fs::write(segment::path(dir.path(), at as u64 + 1), bytes).expect("a segment");
    };
    let mut flawed = 0;
    for (at, end) in ends.into_iter().enumerate() {
        segments.iter().enumerate().for_each(|(at, bytes)| write(at, bytes));
        for bit in 0..end * 8 {
            let mut changed = segments.clone();
            changed[at][bit / 8] ^= 1 << (bit % 8);
            write(at, &changed[at]);
            let found = scan_in(dir.path());
            let place = format!("bit {} of byte {} of segment {}", bit % 8, bit / 8, at + 1);
            assert_eq!(found.damage, [], "{place}");
            assert_eq!(found.records.len(), all.len(), "{place}");
            assert_eq!(found.next_lsn, 19, "{place}");
            for ((lsn, noted), encoded) in found.records.iter().zip(&all) {
                let (key, hash) = (noted.key.as_ref(), encoded.key.hash());
                let is = (
                    *lsn - 10,
                    noted.hash,
                    noted.place.last_seq,
                    key.is_none_or(|key| *key == encoded.key),
                );
                let lsn =
                    all.iter().position(|one| std::ptr::eq(*one, *encoded)).expect("itself") as u64;
                assert_eq!(is, (lsn, hash, encoded.last_seq, true), "{place}");
                let segment = usize::try_from(noted.place.segment - 1).expect("small");
                let rest = &changed[segment][usize::try_from(noted.place.offset).expect("small")..];
                if noted.place.flaw.is_none() {
                    let frame = Frame::read(rest).expect("a whole frame");
                    assert_eq!(
                        frame.payload(rest),
                        Some((encoded.payload.as_slice(), true)),
                        "{place}"
                    );
                }
            }
            let flaws =
                found.records.iter().filter(|(_, noted)| noted.place.flaw.is_some()).count();
            assert!(flaws <= 1, "{place}");
            flawed += flaws;
        }
    }
    assert!(flawed > 10_000, "{flawed} flips hit a record");
}

#[test]
fn a_journal_of_the_first_version_is_read() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = options(dir.path());
    fs::create_dir(&options.dir).expect("a folder");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal-v1");
    for entry in fs::read_dir(fixture).expect("a folder") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, options.dir.join(path.file_name().expect("a name"))).expect("copied");
    }
    let (journal, damage) = Journal::open(&options).expect("an old journal");
    assert_eq!(damage, []);
    for id in ["plain", "a b", "\u{e9}"] {
        let key = session(id);
        let records = journal.pending(key.hash(), 0).expect("readable");
        let texts: Vec<_> =
            records.iter().map(|r| (r.key.clone(), r.entries[1].frame.to_string())).collect();
        let expected = (0..6).map(|n| (key.clone(), format!("{{\"id\":\"{id}\",\"n\":{n}}}")));
        assert_eq!(texts, expected.collect::<Vec<_>>());
        // And it goes on in the format of today.
        let more = record(&key, 13, "{}");
        journal
            .append(vec![more.encode()])
            .expect("room")
            .blocking_recv()
            .expect("an answer")
            .expect("durable");
        assert_eq!(journal.pending(key.hash(), 12).expect("readable"), [more]);
    }
}

#[test]
fn what_a_session_cannot_be_opened_with_is_set_aside_and_the_others_go_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = options(dir.path());
    let (hurt, well) = (session("hurt"), session("well"));
    let (journal, _) = Journal::open(&options).expect("a new journal");
    append(&journal, &hurt, &["a", "b", "c"]);
    append(&journal, &well, &["a", "b", "c"]);
    drop(journal);
    let path = segment::path(&options.dir, 1);
    let stride = segment::stride(record(&hurt, 1, "a").encode().payload.len());
    flip(&path, segment::HEADER_BYTES + stride + segment::FRAME_BYTES + 3);

    let (journal, damage) = Journal::open(&options).expect("one record is no reason not to start");
    assert_eq!(damage, []);
    assert_eq!(journal.pending(well.hash(), 0).expect("readable").len(), 3);
    let flaw = journal.flaw(hurt.hash(), 0).expect("what is wrong");
    let at = (segment::HEADER_BYTES + stride) as u64;
    assert_eq!((flaw.segment, flaw.offset, flaw.first_seq, flaw.last_seq), (1, at, 3, 4));
    let pending = journal.pending(hurt.hash(), 0);
    assert!(matches!(&pending, Err(Error::Flawed(found)) if **found == flaw), "{pending:?}");
    assert_eq!(
        journal.flaw(hurt.hash(), 4),
        None,
        "a file that holds the events needs no record of them"
    );
    assert_eq!(journal.pending(hurt.hash(), 4).expect("readable").len(), 1);

    journal.set_aside(hurt.hash(), "a test").expect("a disk");
    journal.ledger().applied(well.hash(), 6);
    assert_eq!(journal.ledger().holding_oldest(), [], "nobody keeps the segment");
    drop(journal);
    for _ in 0..2 {
        let (journal, _) = Journal::open(&options).expect("a journal");
        assert!(journal.is_set_aside(hurt.hash()) && !journal.is_set_aside(well.hash()));
        assert_eq!(journal.flaw(hurt.hash(), 0).as_ref(), Some(&flaw), "the place is remembered");
        let (whole, found) = journal.readable(hurt.hash(), 0).expect("readable");
        assert_eq!((whole.len(), found.as_ref()), (1, Some(&flaw)));
        // Also once the segment is gone.
        drop(journal);
        if path.try_exists().expect("a folder") {
            fs::remove_file(&path).expect("a segment");
        }
    }
    let (journal, _) = Journal::open(&options).expect("a journal");
    journal.give_up(hurt.hash()).expect("a disk");
    assert!(!journal.ledger().is_pending(hurt.hash()));
    append(&journal, &hurt, &["a", "b"]);
    drop(journal);
    let (journal, _) = Journal::open(&options).expect("a journal");
    assert_eq!(journal.pending(hurt.hash(), 0).expect("what came since").len(), 2);
    journal.forget(hurt.hash()).expect("a disk");
    let left = fs::read_dir(&options.quarantine_dir).expect("a folder").count();
    assert_eq!((left, journal.ledger().is_pending(hurt.hash())), (0, false));
}

#[test]
fn a_record_that_is_not_understood_is_no_damage_of_the_log() {
    let (odd, well) = (session("odd"), session("well"));
    let whole = record(&well, 1, "text").encode();
    let change = |change: fn(&mut Encoded)| {
        let mut encoded = record(&odd, 1, "text").encode();
        change(&mut encoded);
        encoded.crc = crc32fast::hash(&encoded.payload);
        encoded
    };
    let cases = [
        change(|encoded| encoded.payload[0] = 9),
        // A kind of event that does not exist, behind a head that is right.
        change(|encoded| {
            let at = encoded.payload.iter().rposition(|byte| *byte == EventKind::Message as u8);
            encoded.payload[at.expect("its kind")] = 200;
        }),
        change(|encoded| encoded.payload.truncate(100)),
    ];
    for odd_one in cases {
        let hash = odd_one.key.hash();
        let bytes = written(1, 1, &[odd_one, record(&well, 3, "x").encode()], 1);
        let dir = tempfile::tempdir().expect("a folder");
        let options = options(dir.path());
        fs::create_dir(&options.dir).expect("a folder");
        fs::write(segment::path(&options.dir, 1), &bytes).expect("a segment");
        let checked = super::check(&options.dir).expect("readable");
        assert_eq!((checked[0].whole, checked[0].not_understood.len()), (1, 1), "{checked:?}");
        let (journal, damage) = Journal::open(&options).expect("it says nothing about the log");
        assert_eq!(damage, []);
        assert_eq!(journal.pending(well.hash(), 0).expect("readable").len(), 1);
        let refused = journal.pending(hash, 0);
        assert!(matches!(refused, Err(Error::Flawed(_))), "{refused:?}");
    }
    assert_eq!(Record::decode(&whole.payload).expect("its own").key, well);
}

#[test]
fn a_start_with_a_full_journal_still_writes_and_a_full_journal_is_no_full_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { segment_bytes: 4 << 10, max_bytes: 0, ..options(folder.path()) };
    let (text, mut seq) = ("x".repeat(3 << 10), 1);
    let mut write = |journal: &Journal| {
        let records = vec![record(&session("s"), seq, &text).encode()];
        seq += 2;
        journal.append(records).expect("taken").blocking_recv().expect("an answer")
    };
    for life in 0..3 {
        let (journal, damage) = Journal::open(&options).expect("opens");
        assert_eq!(damage, [], "life {life}");
        // Four there may be, or two more that every process gets, and one may be prepared meanwhile. Nothing is retired:
        // nobody applies the records.
        let least = if life == 0 { 4 } else { 2 };
        let written = (0..).take_while(|_| {
            let failed = journal.is_failing();
            let result = write(&journal);
            assert!(
                result.is_ok() || result.is_err_and(|refused| refused.error == AppendError::Busy),
                "life {life}: {result:?}"
            );
            assert!(!failed, "life {life}: it did not fail before");
            result.is_ok()
        });
        let written = written.count();
        assert!((least..least + 2).contains(&written), "life {life}: {written}");
        assert!(journal.is_failing(), "life {life}: it is full");
    }
}

#[test]
fn a_journal_refuses_to_open_where_nothing_says_whose_the_records_were() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = options(dir.path());
    let key = session("s");
    let (journal, _) = Journal::open(&options).expect("a new journal");
    append(&journal, &key, &["a", "b", "c"]);
    drop(journal);
    // Both places that say whose the first record is.
    let path = segment::path(&options.dir, 1);
    flip(&path, segment::HEADER_BYTES + 50);
    flip(&path, segment::HEADER_BYTES + segment::FRAME_BYTES + 3);
    let refused = Journal::open(&options).map(|_| ());
    assert!(
        matches!(&refused, Err(Error::JournalDamaged(damage)) if damage.missing == (1, 2)),
        "{refused:?}"
    );
    let accepting = Options { damage: DamagePolicy::Accept, ..options };
    let (journal, damage) = Journal::open(&accepting).expect("accepted");
    assert_eq!(
        (damage.len(), journal.ledger().is_pending(key.hash())),
        (1, true),
        "the rest is read"
    );
}

#[test]
fn a_segment_of_which_nothing_can_be_read_is_accepted_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let options = options(dir.path());
    let (journal, _) = Journal::open(&options).expect("a new journal");
    append(&journal, &session("s"), &["a", "b"]);
    drop(journal);
    let path = segment::path(&options.dir, 1);
    let bytes = fs::metadata(&path).expect("a segment").len();
    fs::write(&path, vec![0xff; usize::try_from(bytes).expect("small")]).expect("written");
    let refused = Journal::open(&options).map(|_| ());
    assert!(matches!(refused, Err(Error::JournalDamaged(_))), "{refused:?}");
    let accepting = Options { damage: DamagePolicy::Accept, ..options.clone() };
    let (journal, damage) = Journal::open(&accepting).expect("accepted");
    assert_eq!(damage.len(), 1);
    append(&journal, &session("t"), &["c"]);
    drop(journal);
    let (_, damage) = Journal::open(&options).expect("as before the damage");
    assert_eq!(damage, []);
    assert!(path.with_extension("accepted").is_file(), "it is kept as evidence");
}
