//! The thread that writes: takes whatever waits, writes it in one go, syncs once, and answers everybody.

use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TrySendError;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::base::clock;
use crate::base::ids::KeyHash;
use crate::base::metric;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::error::At;
use crate::storage::journal::Damage;
use crate::storage::journal::DamagePolicy;
use crate::storage::journal::Encoded;
use crate::storage::journal::Ledger;
use crate::storage::journal::Record;
use crate::storage::journal::keeper::Keeper;
use crate::storage::journal::keeper::Prepared;
use crate::storage::journal::keeper::Shared;
use crate::storage::journal::ledger::Place;
use crate::storage::journal::recover;
use crate::storage::journal::segment;
use crate::storage::journal::segment::FRAME_BYTES;
use crate::storage::journal::segment::Frame;
use crate::storage::journal::segment::HEADER_BYTES;
use crate::storage::journal::segment::Header;

/// Submissions that wait for the writer; each shard has a few at most.
const SUBMISSIONS_MAX: usize = 1_024;
/// Bytes that are written before a sync, however much waits.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// How long the writer waits for a segment before callers hear that there is none.
const SEGMENT_WAIT: Duration = Duration::from_secs(2);
/// After a failure nothing is tried for this long, so that a sick disk is not hammered.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the segments.
    pub dir: PathBuf,
    /// Any folder on the file system of the session files.
    pub files_dir: PathBuf,
    /// Size of a segment.
    pub segment_bytes: u64,
    /// Size of all segments at which writers wait.
    pub max_bytes: u64,
    /// What to do about damage.
    pub damage: DamagePolicy,
}

/// Why an append was not carried out, as far as one can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The disk failed in the middle: the records may or may not come back after a crash.
    #[error("the journal could not be written; whether the change was kept is not known yet")]
    Unknown,
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// Too much waits, or the journal is closed.
    #[error("the journal takes no more at the moment")]
    Busy,
}

/// What an append comes to.
pub(super) type Appended = oneshot::Receiver<Result<(), AppendError>>;

enum Submission {
    Append(Vec<Encoded>, oneshot::Sender<Result<(), AppendError>>),
    Seal,
    Finish(oneshot::Sender<()>),
}

/// The journal of a node. Cheap to clone; the last clone to go ends its threads.
#[derive(Clone)]
pub struct Journal {
    submissions: SyncSender<Submission>,
    ledger: Arc<Ledger>,
    shared: Arc<Shared>,
    dir: Arc<PathBuf>,
    epoch: u64,
    // Last, so that the threads end after the channel is closed.
    keeper: Arc<Keeper>,
}

impl Journal {
    /// Opens the journal in `options.dir`, reads what is there and starts its threads.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the folder cannot be read or written; [`Error::JournalDamaged`] when durable records are
    /// missing and `options.damage` does not accept that. Nothing is changed then.
    pub fn open(options: &Options) -> Result<(Self, Vec<Damage>), Error> {
        let doing = |what| move |source| Error::Io { doing: what, source };
        fs::create_dir_all(&options.dir).at(&options.dir, "cannot be made")?;
        let found = recover::scan(&options.dir).at(&options.dir, "cannot be read")?;
        for damage in &found.damage {
            tracing::error!(
                segment = %damage.segment.display(),
                "durable journal records {} to {} cannot be read from byte {} on",
                damage.missing.0, damage.missing.1 - 1, damage.offset
            );
            metric::counters().journal_damaged.inc();
        }
        if let (Some(first), DamagePolicy::Refuse) = (found.damage.first(), options.damage) {
            return Err(Error::JournalDamaged(Box::new(first.clone())));
        }
        let ledger = Arc::new(Ledger::default());
        for number in &found.segments {
            ledger.open_segment(*number);
        }
        ledger.add(found.records.into_iter());
        let shared = Arc::new(Shared::new(found.next_segment, found.segments.last().copied()));
        let (keeper, prepared) =
            Keeper::start(options, found.next_segment, Arc::clone(&ledger), Arc::clone(&shared));
        let (submissions, receiver) = sync_channel(SUBMISSIONS_MAX);
        let mut writer = Writer {
            dir: options.dir.clone(),
            prepared,
            current: None,
            next_lsn: found.next_lsn,
            epoch: found.epoch,
            ledger: Arc::clone(&ledger),
            shared: Arc::clone(&shared),
            buffer: Vec::new(),
            failed: None,
        };
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(doing("starting the journal thread"))?;
        let dir = Arc::new(options.dir.clone());
        let journal =
            Self { submissions, ledger, shared, dir, epoch: found.epoch, keeper: Arc::new(keeper) };
        Ok((journal, found.damage))
    }

    /// Appends `records` as a whole; resolves once all of them are durable.
    ///
    /// One append is in flight per session: the order between two appends of one session is the caller's to keep.
    ///
    /// # Errors
    ///
    /// [`AppendError::Busy`] at once, with nothing written.
    pub fn append(&self, records: Vec<Encoded>) -> Result<Appended, AppendError> {
        let (done, appended) = oneshot::channel();
        match self.submissions.try_send(Submission::Append(records, done)) {
            Ok(()) => Ok(appended),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(AppendError::Busy),
        }
    }

    /// Ends the newest segment that holds records, so that what it holds can be retired soon; used after something was
    /// deleted, and when the sessions of an earlier process are up to date.
    pub fn seal(&self) {
        // A full queue means that segments fill quickly anyway.
        drop(self.submissions.try_send(Submission::Seal));
    }

    /// Ends the journal of a process that stops: takes nothing more, and retires what is in the session files. Of a
    /// journal that nobody needs a header is left, so that places and lives are counted on.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when that does not work; then more is left, and the next process reads it.
    pub fn finish(&self) -> Result<(), Error> {
        let (done, finished) = oneshot::channel();
        if self.submissions.send(Submission::Finish(done)).is_ok() {
            // Without an answer the disk fails, and the next process reads what there is.
            drop(finished.blocking_recv());
        }
        self.keeper.retire().while_("retiring the journal")
    }

    /// The records of `hash` that its file may not hold, oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a segment cannot be read; [`Error::JournalCorrupt`] when a record in it was damaged since.
    pub fn pending(&self, hash: KeyHash) -> Result<Vec<Record>, Error> {
        self.ledger.places(hash).into_iter().map(|place| read(&self.dir, place)).collect()
    }

    /// The books.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The life of the node: grows with each start.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Sets what is called before segments go (`flush`) and when they cannot go because of sessions (`urge`).
    pub fn set_hooks(&self, hooks: crate::storage::journal::Hooks) {
        self.shared.set_hooks(hooks);
    }
}

fn read(dir: &Path, place: Place) -> Result<Record, Error> {
    let path = segment::path(dir, place.segment);
    let io = |source| Error::Io { doing: "reading a journal record", source };
    let file = File::open(&path).map_err(io)?;
    let mut head = [0; FRAME_BYTES];
    file.read_exact_at(&mut head, place.offset).map_err(io)?;
    let length = u32::from_le_bytes(head[8..12].try_into().expect("four bytes"));
    let whole = file.metadata().map_err(io)?.len().saturating_sub(place.offset);
    let corrupt = || Error::JournalCorrupt { segment: place.segment, offset: place.offset };
    let bytes = FRAME_BYTES as u64 + u64::from(length);
    if bytes > whole {
        return Err(corrupt());
    }
    let mut buffer = vec![0; usize::try_from(bytes).map_err(|_| corrupt())?];
    file.read_exact_at(&mut buffer, place.offset).map_err(io)?;
    let (_, payload) = Frame::read(&buffer).ok_or_else(corrupt)?;
    Record::decode(payload).ok_or_else(corrupt)
}

struct Segment {
    number: u64,
    file: File,
    bytes: u64,
    /// Where the next frame goes; 0 while the header is not written.
    offset: u64,
}

struct Writer {
    dir: PathBuf,
    prepared: Receiver<Prepared>,
    current: Option<Segment>,
    next_lsn: u64,
    epoch: u64,
    ledger: Arc<Ledger>,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
    failed: Option<(Instant, AppendError)>,
}

impl Writer {
    fn run(&mut self, submissions: &Receiver<Submission>) {
        while let Ok(first) = submissions.recv() {
            let (mut records, mut waiting, mut bytes) = (Vec::new(), Vec::new(), 0);
            let (mut next, mut seal, mut finish) = (Some(first), false, None);
            while let Some(submission) = next.take() {
                match submission {
                    Submission::Seal => seal = true,
                    Submission::Finish(done) => finish = Some(done),
                    Submission::Append(new, done) => {
                        bytes +=
                            new.iter().map(|r| segment::stride(r.payload.len())).sum::<usize>();
                        records.extend(new);
                        waiting.push(done);
                    }
                }
                if bytes >= GROUP_BYTES_MAX {
                    break;
                }
                next = submissions.try_recv().ok();
            }
            let result = self.write_all(&records);
            for done in waiting {
                // A caller that went away does not care.
                let _gone = done.send(result);
            }
            if (seal || finish.is_some())
                && self.holds_records()
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

    /// Whether the newest segment with a durable header may hold records.
    fn holds_records(&self) -> bool {
        let headed = self.shared.headed.load(Ordering::Acquire) > 0;
        self.current.as_ref().map_or(headed, |segment| segment.offset > HEADER_BYTES as u64)
    }

    /// Ends the newest segment and begins the next with a header alone: that counts places and lives on when all before
    /// it are gone.
    fn roll(&mut self) -> io::Result<()> {
        self.abandon();
        let segment = self.next_segment()?;
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
        while let Ok(prepared) = self.prepared.recv_timeout(SEGMENT_WAIT) {
            drop(fs::remove_file(segment::path(&self.dir, prepared.number)));
        }
    }

    fn write_all(&mut self, mut records: &[Encoded]) -> Result<(), AppendError> {
        if let Some((since, error)) = self.failed
            && since.elapsed() < FAILURE_PAUSE
        {
            return Err(error);
        }
        self.failed = None;
        let mut tries = 2;
        while !records.is_empty() {
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
                        let error = match error.kind() {
                            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                                AppendError::Full
                            }
                            _ => AppendError::Unknown,
                        };
                        self.failed = Some((clock::instant(), error));
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes as many of `records` as the segment takes, at least one, and syncs; returns how many.
    fn write_some(&mut self, records: &[Encoded]) -> io::Result<usize> {
        let first = segment::stride(records[0].payload.len()) as u64;
        let full = |s: &Segment| s.offset > HEADER_BYTES as u64 && s.offset + first > s.bytes;
        if self.current.as_ref().is_some_and(full) {
            self.abandon();
            self.shared.wake();
        }
        if self.current.is_none() {
            self.current = Some(self.next_segment()?);
        }
        let Some(segment) = &mut self.current else { unreachable!("it was just opened") };
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
            };
            frame.put(&record.payload, &mut self.buffer);
            let (last_seq, at_ms) = (record.last_seq, record.at_ms);
            let place = Place { segment: segment.number, offset, last_seq, at_ms };
            places.push((record.key.clone(), place));
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
            if let Ok(prepared) = self.prepared.recv_timeout(Duration::from_millis(20)) {
                break prepared;
            }
            if let Some(error) = self.shared.preparing_fails() {
                return Err(error.into());
            }
            if clock::instant() > deadline {
                return Err(io::ErrorKind::StorageFull.into());
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
