//! The disk model's own test: hand-made traces whose images are known.

use std::ops::Range;

use super::Disk;
use super::Image;
use super::Loss;
use crate::support::fault::trace::Op;
use crate::support::fault::trace::Synced;
use crate::support::fault::trace::Trace;
use crate::support::ledger::chance::Chance;

/// Writes traces down.
struct Pen<'a> {
    bytes: &'a mut Vec<u8>,
    ops: &'a mut Vec<Op>,
}

impl Pen<'_> {
    fn create(&mut self, file: u32, path: &str) {
        self.ops.push(Op::Open { file, path: path.to_owned(), created: true, truncated: false });
    }

    fn write(&mut self, file: u32, at: u64, data: &[u8]) {
        let range: Range<usize> = self.bytes.len()..self.bytes.len() + data.len();
        self.bytes.extend(data);
        self.ops.push(Op::Write { file, at, data: range });
    }

    fn sync(&mut self, what: Synced) {
        let token = u64::try_from(self.ops.len()).unwrap();
        self.ops.push(Op::SyncBegin { what, token });
        self.ops.push(Op::SyncEnd { token, failed: false });
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.ops.push(Op::Rename { from: from.to_owned(), to: to.to_owned() });
    }
}

fn disk(write: impl FnOnce(&mut Pen<'_>)) -> Disk {
    let trace = Trace::of(|bytes, ops| write(&mut Pen { bytes, ops }));
    let mut disk = Disk::new(Chance::new(2));
    for _ in &trace.ops {
        disk.step(&trace);
    }
    disk
}

#[track_caller]
fn leaves(loss: Loss, files: &[(&str, &[u8])], write: impl FnOnce(&mut Pen<'_>)) {
    let image = disk(write).image(loss, &mut Chance::new(1));
    let want: Image =
        files.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect();
    assert_eq!(image, want);
}

#[test]
fn what_is_synced_stays_and_what_is_not_goes() {
    leaves(Loss::Everything, &[("a", b"sync")], |pen| {
        pen.create(1, "a");
        pen.write(1, 0, b"sync");
        pen.sync(Synced::File(1));
        pen.write(1, 4, b"lost");
        pen.create(2, "b");
        pen.write(2, 0, b"lost");
    });
}

#[test]
fn a_write_during_a_sync_is_not_durable() {
    leaves(Loss::Everything, &[("a", b"1")], |pen| {
        pen.create(1, "a");
        pen.write(1, 0, b"1");
        pen.ops.push(Op::SyncBegin { what: Synced::File(1), token: 9 });
        pen.write(1, 1, b"2");
        pen.ops.push(Op::SyncEnd { token: 9, failed: false });
    });
}

#[test]
fn a_failed_sync_makes_nothing_durable() {
    leaves(Loss::Everything, &[], |pen| {
        pen.create(1, "a");
        pen.ops.push(Op::SyncBegin { what: Synced::File(1), token: 9 });
        pen.ops.push(Op::SyncEnd { token: 9, failed: true });
    });
}

#[test]
fn a_sync_after_a_failed_one_does_not_bring_back_what_that_lost() {
    let mut kept = 0;
    for seed in 0..60 {
        let trace = Trace::of(|bytes, ops| {
            let mut pen = Pen { bytes, ops };
            pen.create(1, "a");
            pen.write(1, 0, b"x");
            pen.ops.push(Op::SyncBegin { what: Synced::File(1), token: 9 });
            pen.ops.push(Op::SyncEnd { token: 9, failed: true });
            pen.sync(Synced::File(1));
        });
        let mut disk = Disk::new(Chance::new(seed));
        for _ in &trace.ops {
            disk.step(&trace);
        }
        let image = disk.image(Loss::Everything, &mut Chance::new(1));
        kept += usize::from(image[0].1 == b"x");
    }
    assert!((10..50).contains(&kept), "{kept}");
}

#[test]
fn a_rename_needs_a_sync_of_the_folder_or_of_the_file() {
    let replaced = |pen: &mut Pen<'_>| {
        pen.create(1, "a");
        pen.write(1, 0, b"old");
        pen.create(2, "b");
        pen.write(2, 0, b"new");
        pen.sync(Synced::Everything);
        pen.rename("b", "a");
    };
    leaves(Loss::Everything, &[("a", b"old"), ("b", b"new")], replaced);
    leaves(Loss::Everything, &[("a", b"new")], |pen| {
        replaced(pen);
        pen.sync(Synced::Folder(".".to_owned()));
    });
    leaves(Loss::Everything, &[("a", b"new")], |pen| {
        replaced(pen);
        pen.sync(Synced::File(2));
    });
}

#[test]
fn an_unlinked_file_comes_back_unless_the_folder_is_synced() {
    let unlinked = |pen: &mut Pen<'_>| {
        pen.ops.push(Op::CreateFolder { path: "d".to_owned() });
        pen.create(1, "d/a");
        pen.write(1, 0, b"text");
        pen.sync(Synced::File(1));
        pen.ops.push(Op::Unlink { path: "d/a".to_owned() });
    };
    leaves(Loss::Everything, &[("d/", b""), ("d/a", b"text")], unlinked);
    leaves(Loss::Everything, &[("d/", b"")], |pen| {
        unlinked(pen);
        pen.sync(Synced::Folder("d".to_owned()));
    });
}

#[test]
fn a_synced_file_brings_the_folders_that_lead_to_it() {
    leaves(Loss::Everything, &[("d/", b""), ("d/e/", b""), ("d/e/a", b"")], |pen| {
        for path in ["d", "d/e", "other"] {
            pen.ops.push(Op::CreateFolder { path: path.to_owned() });
        }
        pen.create(1, "d/e/a");
        pen.sync(Synced::File(1));
    });
}

#[test]
fn lost_writes_leave_the_names() {
    leaves(Loss::Writes, &[("a", b"old"), ("b", b"")], |pen| {
        pen.create(1, "a");
        pen.write(1, 0, b"old");
        pen.create(2, "c");
        pen.sync(Synced::Everything);
        pen.write(1, 0, b"new");
        pen.write(2, 0, b"new");
        pen.rename("c", "b");
    });
}

#[test]
fn a_lost_tail_is_every_prefix() {
    let disk = disk(|pen| {
        pen.create(1, "a");
        pen.sync(Synced::File(1));
        for at in 0..3 {
            pen.write(1, at, b"x");
        }
    });
    let mut chance = Chance::new(1);
    let mut seen: Vec<usize> =
        (0..100).map(|_| disk.image(Loss::Tail, &mut chance)[0].1.len()).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [0, 1, 2, 3]);
}

#[test]
fn torn_writes_keep_or_lose_whole_sectors() {
    let disk = disk(|pen| {
        pen.create(1, "a");
        pen.write(1, 0, &[b'o'; 2048]);
        pen.sync(Synced::File(1));
        pen.write(1, 100, &[b'n'; 1900]);
    });
    let mut chance = Chance::new(1);
    let mut torn = 0;
    for _ in 0..200 {
        let image = disk.image(Loss::Anything, &mut chance);
        let sectors: Vec<u8> = image[0].1.chunks(512).map(|sector| sector[200]).collect();
        assert!(image[0].1[..100].iter().chain(&image[0].1[2000..]).all(|byte| *byte == b'o'));
        assert!(image[0].1[512..1024].iter().all(|byte| *byte == image[0].1[512]));
        torn += usize::from(sectors.contains(&b'o') && sectors.contains(&b'n'));
    }
    assert!(torn > 20, "{torn}");
}
