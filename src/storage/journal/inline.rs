//! The journal of tests that decide themselves when something is written: the same writer, on the caller's thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TrySendError;
use std::sync::mpsc::sync_channel;

use crate::storage::journal::Encoded;
use crate::storage::journal::Ledger;
use crate::storage::journal::Options;
use crate::storage::journal::Refused;
use crate::storage::journal::keeper::Keeper;
use crate::storage::journal::keeper::Prepared;
use crate::storage::journal::keeper::Shared;
use crate::storage::journal::keeper::prepare;
use crate::storage::journal::writer::Submission;
use crate::storage::journal::writer::Writer;

/// Writes what is appended, when it is told to.
pub(crate) struct Inline {
    dir: PathBuf,
    bytes: u64,
    writer: Writer,
    /// Segments for the writer; there is always one.
    segments: SyncSender<Prepared>,
    next: u64,
    /// Ready, while the writer has another one before it.
    spare: Option<Prepared>,
    submissions: Receiver<Submission>,
    keeper: Arc<Keeper>,
}

impl Inline {
    pub(super) fn new(
        options: &Options,
        next: u64,
        place: (u64, u64),
        ledger: Arc<Ledger>,
        shared: Arc<Shared>,
        keeper: Arc<Keeper>,
    ) -> (Self, SyncSender<Submission>) {
        let (segments, prepared) = sync_channel(1);
        let (submit, submissions) = sync_channel(1_024);
        let (dir, bytes) = (options.dir.clone(), options.segment_bytes);
        let writer = Writer::new(dir.clone(), prepared, place, ledger, shared);
        (Self { dir, bytes, writer, segments, next, spare: None, submissions, keeper }, submit)
    }

    fn prepare(&mut self) {
        let spare = self.spare.take().unwrap_or_else(|| {
            let (number, bytes) = (self.next, self.bytes);
            self.next += 1;
            let file = prepare(&self.dir, number, bytes, &AtomicBool::new(false));
            Prepared { number, file: file.expect("a disk that works"), bytes }
        });
        if let Err(TrySendError::Full(spare)) = self.segments.try_send(spare) {
            self.spare = Some(spare);
        }
    }

    /// Makes `records` durable.
    pub(crate) fn write(&mut self, records: &[Encoded]) -> Result<(), Refused> {
        for (durable, record) in records.iter().enumerate() {
            // Each may need a segment of its own.
            self.prepare();
            let written = self.writer.write_all(std::slice::from_ref(record));
            written.map_err(|refused| Refused { durable, ..refused })?;
        }
        Ok(())
    }

    /// Ends segments for whoever asked for that, and removes those that nobody needs.
    pub(crate) fn retire(&mut self) {
        let seals = self.submissions.try_iter().filter(|s| matches!(s, Submission::Seal)).count();
        if seals > 0 && self.writer.holds_records() {
            self.prepare();
            self.writer.roll().expect("a disk that works");
        }
        self.keeper.retire().expect("a disk that works");
    }
}
