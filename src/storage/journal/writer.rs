//! The thread that writes: takes whatever waits, writes it in one go, syncs once, and answers everybody.

use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::base::clock;
use crate::base::metric;
use crate::storage::journal::AppendError;
use crate::storage::journal::Encoded;
use crate::storage::journal::Ledger;
use crate::storage::journal::Refused;
use crate::storage::journal::keeper::GROWTH;
use crate::storage::journal::keeper::Prepared;
use crate::storage::journal::keeper::Shared;
use crate::storage::journal::ledger::Noted;
use crate::storage::journal::ledger::Place;
use crate::storage::journal::segment;
use crate::storage::journal::segment::Frame;
use crate::storage::journal::segment::HEADER_BYTES;
use crate::storage::journal::segment::Header;
use crate::storage::journal::segment::Owner;

/// Submissions that wait for the writer; each shard has a few at most.
const SUBMISSIONS_MAX: usize = 1_024;
/// Bytes that are written before a sync, however much waits.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// How long the writer waits for a segment before callers hear that there is none.
const SEGMENT_WAIT: Duration = Duration::from_secs(2);
/// Segments are ended early, for what was deleted, no more often than this.
const SEAL_PAUSE: Duration = Duration::from_secs(1);
/// How often is looked whether one may be.
const SEAL_LOOK: Duration = Duration::from_millis(20);
/// After a failure nothing is tried for this long, so that a sick disk is not hammered.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);

/// What is asked of the writer.
pub(super) enum Submission {
    Append(Vec<Encoded>, oneshot::Sender<Result<(), Refused>>),
    Seal,
    Finish(oneshot::Sender<()>),
}

/// Starts the thread with place and life of the next record; it ends when the sender goes.
pub(super) fn start(
    dir: PathBuf,
    prepared: Receiver<Prepared>,
    (next_lsn, epoch): (u64, u64),
    ledger: Arc<Ledger>,
    shared: Arc<Shared>,
) -> io::Result<SyncSender<Submission>> {
    let (submissions, receiver) = sync_channel(SUBMISSIONS_MAX);
    let mut writer = Writer::new(dir, prepared, (next_lsn, epoch), ledger, shared);
    let work = move || writer.run(&receiver);
    thread::Builder::new().name("journal".to_owned()).spawn(work)?;
    Ok(submissions)
}

struct Segment {
    number: u64,
    file: File,
    bytes: u64,
    /// Where the next frame goes; 0 while the header is not written.
    offset: u64,
}

pub(super) struct Writer {
    dir: PathBuf,
    prepared: Receiver<Prepared>,
    current: Option<Segment>,
    next_lsn: u64,
    epoch: u64,
    ledger: Arc<Ledger>,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
    failed: Option<(Instant, AppendError)>,
    /// Whether the segment holds something that was deleted.
    seal_wanted: bool,
    /// When a segment was last ended early.
    sealed: Option<Instant>,
    /// One that was taken and is not used yet.
    spare: Option<Prepared>,
}

impl Writer {
    pub(super) fn new(
        dir: PathBuf,
        prepared: Receiver<Prepared>,
        (next_lsn, epoch): (u64, u64),
        ledger: Arc<Ledger>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            dir,
            prepared,
            current: None,
            next_lsn,
            epoch,
            ledger,
            shared,
            buffer: Vec::new(),
            failed: None,
            seal_wanted: false,
            sealed: None,
            spare: None,
        }
    }

    fn run(&mut self, submissions: &Receiver<Submission>) {
        loop {
            let first = match self.seal_wanted.then_some(SEAL_LOOK) {
                None => submissions.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(pause) => submissions.recv_timeout(pause),
            };
            if matches!(first, Err(RecvTimeoutError::Disconnected)) {
                return;
            }
            let (mut records, mut waiting, mut bytes) = (Vec::new(), Vec::new(), 0);
            let (mut next, mut seal, mut finish) = (first.ok(), false, None);
            while let Some(submission) = next.take() {
                match submission {
                    Submission::Seal => seal = true,
                    Submission::Finish(done) => finish = Some(done),
                    Submission::Append(new, done) => {
                        bytes +=
                            new.iter().map(|r| segment::stride(r.payload.len())).sum::<usize>();
                        waiting.push((new.len(), done));
                        records.extend(new);
                    }
                }
                if bytes >= GROUP_BYTES_MAX {
                    break;
                }
                next = submissions.try_recv().ok();
            }
            let result = self.write_all(&records);
            let mut before = 0;
            for (count, done) in waiting {
                // Each hears of its own records: a group may end in the middle of one append.
                let refused =
                    |Refused { durable, error }: Refused| match durable.saturating_sub(before) {
                        durable if durable >= count => Ok(()),
                        durable => Err(Refused { durable, error }),
                    };
                // A caller that went away does not care.
                let _gone = done.send(result.or_else(refused));
                before += count;
            }
            let refusing = self.shared.refusing.load(Ordering::Acquire);
            let at_once = (seal && refusing) || (finish.is_some() && self.holds_records());
            self.seal_wanted |= seal;
            if (at_once || self.may_seal())
                && let Err(error) = self.roll()
            {
                tracing::warn!(error = %error, "a journal segment could not be ended");
            }
            if let Some(done) = finish {
                self.finish();
                // Who waits may have given up.
                let _gone = done.send(());
                return;
            }
        }
    }

    /// Whether a segment that somebody wants ended may be: not too often, since each costs a new one, and only if that is
    /// there, since everybody waits meanwhile.
    fn may_seal(&mut self) -> bool {
        if !self.seal_wanted || self.sealed.is_some_and(|at| at.elapsed() < SEAL_PAUSE) {
            return false;
        }
        if !self.holds_records() {
            self.seal_wanted = false;
            return false;
        }
        self.spare = self.spare.take().or_else(|| self.prepared.try_recv().ok());
        self.spare.is_some()
    }

    /// Whether the newest segment with a durable header may hold records.
    pub(super) fn holds_records(&self) -> bool {
        let headed = self.shared.headed.load(Ordering::Acquire) > 0;
        self.current.as_ref().map_or(headed, |segment| segment.offset > HEADER_BYTES as u64)
    }

    /// Ends the newest segment and begins the next with a header alone: that counts places and lives on when all before
    /// it are gone.
    pub(super) fn roll(&mut self) -> io::Result<()> {
        // The one before is used on if there is no other.
        let segment = self.next_segment()?;
        (self.seal_wanted, self.sealed) = (false, Some(clock::instant()));
        if let Some(current) = &self.current
            && current.offset < current.bytes / GROWTH
        {
            self.shared.segment_bytes.fetch_min(current.bytes / GROWTH, Ordering::AcqRel);
        }
        let current = self.current.insert(segment);
        let (number, epoch, first_lsn) = (current.number, self.epoch, self.next_lsn);
        let header = Header { number, epoch, first_lsn }.encode();
        let written = current.file.write_all_at(&header, 0).and_then(|()| current.file.sync_data());
        if written.is_err() {
            self.abandon();
            return written;
        }
        current.offset = HEADER_BYTES as u64;
        self.shared.headed.store(number, Ordering::Release);
        self.shared.urgent.store(number, Ordering::Release);
        self.shared.refusing.store(false, Ordering::Release);
        self.shared.wake();
        Ok(())
    }

    /// Leaves nothing behind that the next process would only read through: zeros.
    fn finish(&mut self) {
        self.shared.finished.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(segment) = self.current.take() {
            drop(segment.file.set_len(segment.offset.max(HEADER_BYTES as u64)));
        }
        let spare = self.spare.take();
        let others = std::iter::from_fn(|| self.prepared.recv_timeout(SEGMENT_WAIT).ok());
        for prepared in spare.into_iter().chain(others) {
            drop(fs::remove_file(segment::path(&self.dir, prepared.number)));
        }
    }

    pub(super) fn write_all(&mut self, all: &[Encoded]) -> Result<(), Refused> {
        let mut records = all;
        let refused =
            |left: &[Encoded], error| Err(Refused { durable: all.len() - left.len(), error });
        if let Some((since, error)) = self.failed
            && since.elapsed() < FAILURE_PAUSE
        {
            return refused(records, error);
        }
        self.failed = None;
        let (mut tries, mut touched) = (2, false);
        while !records.is_empty() {
            if let Err(error) = self.make_room(&records[0]) {
                tracing::error!(error = %error, "the journal has no segment to write to");
                // What was not begun is not stored: that much is known.
                let error = match error.kind() {
                    io::ErrorKind::TimedOut => AppendError::Busy,
                    kind => failure(kind),
                };
                return refused(records, self.refuse(error));
            }
            touched = true;
            let result = self.write_some(records);
            match result {
                Ok(written) => records = &records[written..],
                Err(error) => {
                    // What the disk holds of it is unknown, so the segment is never touched again: the header of the
                    // next one declares everything behind the last durable record void.
                    self.abandon();
                    tries -= 1;
                    tracing::error!(error = %error, "writing the journal failed");
                    metric::counters().journal_errors.inc();
                    if tries == 0 {
                        return refused(records, self.refuse(failure(error.kind())));
                    }
                }
            }
        }
        if touched {
            self.shared.refusing.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Keeps that records could not be written.
    fn refuse(&mut self, error: AppendError) -> AppendError {
        self.failed = Some((clock::instant(), error));
        self.shared.refusing.store(true, Ordering::Release);
        error
    }

    /// Begins a segment if there is none with room for `first`.
    fn make_room(&mut self, first: &Encoded) -> io::Result<()> {
        let first = segment::stride(first.payload.len()) as u64;
        let full = |s: &Segment| s.offset > HEADER_BYTES as u64 && s.offset + first > s.bytes;
        if let Some(current) = self.current.as_ref().filter(|current| full(current)) {
            // Those that fill are worth their zeros.
            self.shared.segment_bytes.fetch_max(current.bytes * GROWTH, Ordering::AcqRel);
            self.abandon();
            self.shared.wake();
        }
        if self.current.is_none() {
            self.current = Some(self.next_segment()?);
        }
        Ok(())
    }

    /// Writes as many of `records` as the segment takes, at least one, and syncs; returns how many.
    fn write_some(&mut self, records: &[Encoded]) -> io::Result<usize> {
        let Some(segment) = &mut self.current else { unreachable!("there is room") };
        self.buffer.clear();
        if segment.offset == 0 {
            let (number, epoch, first_lsn) = (segment.number, self.epoch, self.next_lsn);
            self.buffer.extend_from_slice(&Header { number, epoch, first_lsn }.encode());
        }
        let mut places = Vec::with_capacity(records.len());
        for record in records {
            let offset = segment.offset + self.buffer.len() as u64;
            let end = offset + segment::stride(record.payload.len()) as u64;
            // A record that is larger than a whole segment makes its file grow, which is slow but right.
            if end > segment.bytes && !places.is_empty() {
                break;
            }
            let frame = Frame {
                length: u32::try_from(record.payload.len()).map_err(io::Error::other)?,
                crc: record.crc,
                lsn: self.next_lsn + places.len() as u64,
                durable: self.next_lsn - 1,
                segment: segment.number,
                owner: Some(Owner {
                    hash: record.key.hash(),
                    first_seq: record.first_seq,
                    last_seq: record.last_seq,
                }),
            };
            frame.put(&record.payload, &mut self.buffer);
            let (last_seq, at_ms) = (record.last_seq, record.at_ms);
            let place = Place { segment: segment.number, offset, last_seq, at_ms, flaw: None };
            places.push(Noted { hash: record.key.hash(), key: Some(record.key.clone()), place });
        }
        let started = clock::instant();
        segment.file.write_all_at(&self.buffer, segment.offset)?;
        segment.file.sync_data()?;
        metric::counters().journal_sync.observe(started.elapsed().as_secs_f64());
        segment.offset += self.buffer.len() as u64;
        self.shared.headed.store(segment.number, Ordering::Release);
        let written = places.len();
        self.next_lsn += written as u64;
        self.shared.writes.fetch_add(1, Ordering::Release);
        self.ledger.add(places.into_iter());
        Ok(written)
    }

    fn next_segment(&mut self) -> io::Result<Segment> {
        let deadline = clock::instant() + SEGMENT_WAIT;
        let prepared = loop {
            if let Some(prepared) = self.spare.take() {
                break prepared;
            }
            if let Ok(prepared) = self.prepared.recv_timeout(Duration::from_millis(20)) {
                break prepared;
            }
            if let Some(error) = self.shared.preparing_fails() {
                return Err(error.into());
            }
            // All that there may be are needed still: by sessions whose files are not up to date.
            if clock::instant() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
        };
        let Prepared { number, file, bytes } = prepared;
        self.ledger.open_segment(number);
        self.shared.active.store(number, Ordering::Release);
        Ok(Segment { number, file, bytes, offset: 0 })
    }

    fn abandon(&mut self) {
        if let Some(segment) = self.current.take() {
            self.shared.active.store(segment.number + 1, Ordering::Release);
        }
    }
}

/// What a failed write means to callers.
fn failure(kind: io::ErrorKind) -> AppendError {
    match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::Full,
        _ => AppendError::Unknown,
    }
}
