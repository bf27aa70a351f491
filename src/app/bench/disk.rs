//! The disk's own limit: how often it makes 4 KiB durable, one at a time.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::app::bench::clock::{micros_since, now};
use crate::app::bench::load::Latency;
use crate::app::bench::report::Row;

const BLOCK_BYTES: usize = 4 * 1024;
const BLOCKS: u64 = 8 * 1024;

/// The rate of [`sync`] as a figure.
pub(super) fn measure(file: &Path, time: Duration) -> anyhow::Result<Vec<Row>> {
    let (rate, latency) = sync(file, time)?;
    Ok(vec![Row::new("disk, fdatasync of 4 KiB", rate, "/s").with_latency(&latency)])
}

/// Overwrites blocks of a file that has all its blocks already, each followed by fdatasync: how many per second, and how long
/// each took.
///
/// Blocks this thread; nothing else runs meanwhile.
pub(super) fn sync(file: &Path, time: Duration) -> anyhow::Result<(f64, Latency)> {
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .with_context(|| format!("making {}", file.display()))?;
    let block = [0x5e; BLOCK_BYTES];
    for _ in 0..BLOCKS {
        opened.write_all(&block).context("filling the file for fdatasync")?;
    }
    opened.sync_all().context("syncing the file for fdatasync")?;

    let mut micros = Vec::new();
    let start = now();
    for at in (0..BLOCKS).cycle() {
        let before = now();
        if before.duration_since(start) >= time {
            break;
        }
        opened.write_all_at(&block, at * BLOCK_BYTES as u64).context("writing 4 KiB")?;
        opened.sync_data().context("making 4 KiB durable")?;
        micros.push(micros_since(before));
    }
    let rate = micros.len() as f64 / now().duration_since(start).as_secs_f64();
    std::fs::remove_file(file).context("removing the file for fdatasync")?;
    Ok((rate, Latency::from_micros(micros)))
}
