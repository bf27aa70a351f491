//! The journal as others hold it: opening, appending, reading back, and what happens to records that cannot be read.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TrySendError;

use tokio::sync::oneshot;

use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::ids::KeyHash;
use crate::base::ids::Name;
use crate::base::metric;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::error::At;
use crate::storage::journal::AppendError;
use crate::storage::journal::Damage;
use crate::storage::journal::DamagePolicy;
use crate::storage::journal::Encoded;
use crate::storage::journal::Flaw;
use crate::storage::journal::Ledger;
use crate::storage::journal::Options;
use crate::storage::journal::Record;
use crate::storage::journal::Refused;
use crate::storage::journal::aside;
use crate::storage::journal::aside::Aside;
use crate::storage::journal::aside::AsideRecord;
#[cfg(test)]
use crate::storage::journal::inline::Inline;
use crate::storage::journal::keeper::Keeper;
use crate::storage::journal::keeper::Shared;
use crate::storage::journal::ledger::ASIDE;
use crate::storage::journal::ledger::Noted;
use crate::storage::journal::ledger::Place;
use crate::storage::journal::recover;
use crate::storage::journal::segment;
use crate::storage::journal::segment::FRAME_BYTES;
use crate::storage::journal::segment::Frame;
use crate::storage::journal::writer;
use crate::storage::journal::writer::Submission;

/// What an append comes to.
pub(super) type Appended = oneshot::Receiver<Result<(), Refused>>;

/// The journal of a node. Cheap to clone; the last clone to go ends its threads.
#[derive(Clone)]
pub struct Journal {
    submissions: SyncSender<Submission>,
    ledger: Arc<Ledger>,
    shared: Arc<Shared>,
    options: Arc<Options>,
    epoch: u64,
    is_new: bool,
    // Last, so that the threads end after the channel is closed.
    keeper: Arc<Keeper>,
}

impl Journal {
    /// Opens the journal in `options.dir`, reads what is there and starts its threads.
    ///
    /// A record that cannot be read and is known to be somebody's does not keep it from opening: see [`Journal::flaw`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the folder cannot be read or written; [`Error::JournalDamaged`] when durable records are
    /// missing, nothing says whose they are, and `options.damage` does not accept that. Nothing is changed then.
    pub fn open(options: &Options) -> Result<(Self, Vec<Damage>), Error> {
        let (found, ledger) = find(options)?;
        let shared = Arc::new(Shared::new(found.next_segment, found.segments.last().copied()));
        let (keeper, prepared) =
            Keeper::start(options, found.next_segment, Arc::clone(&ledger), Arc::clone(&shared));
        let submissions = writer::start(
            options.dir.clone(),
            prepared,
            (found.next_lsn, found.epoch),
            Arc::clone(&ledger),
            Arc::clone(&shared),
        )
        .while_("starting the journal thread")?;
        let (options, epoch) = (Arc::new(options.clone()), found.epoch);
        let (is_new, keeper) = (found.segments.is_empty(), Arc::new(keeper));
        let journal = Self { submissions, ledger, shared, options, epoch, is_new, keeper };
        Ok((journal, found.damage))
    }

    /// The same without threads: what is appended is written when [`Inline::write`] is called.
    ///
    /// # Errors
    ///
    /// As [`Journal::open`].
    #[cfg(test)]
    pub(crate) fn open_inline(options: &Options) -> Result<(Self, Inline), Error> {
        let (found, ledger) = find(options)?;
        let shared = Arc::new(Shared::new(found.next_segment, found.segments.last().copied()));
        let keeper = Arc::new(Keeper::idle(options, Arc::clone(&ledger), Arc::clone(&shared)));
        let place = (found.next_lsn, found.epoch);
        let (inline, submissions) = Inline::new(
            options,
            found.next_segment,
            place,
            Arc::clone(&ledger),
            Arc::clone(&shared),
            Arc::clone(&keeper),
        );
        let (options, epoch) = (Arc::new(options.clone()), found.epoch);
        let is_new = found.segments.is_empty();
        let journal = Self { submissions, ledger, shared, options, epoch, is_new, keeper };
        Ok((journal, inline))
    }

    /// Appends `records`, in their order; resolves once all of them are durable, or it is known how many are.
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

    /// Whether there was no segment when it was opened: neither a process that stops nor one that is killed leaves none.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether nothing can be written, or only as long as there is room in the segment that is begun.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.shared.refusing.load(Ordering::Acquire) || self.shared.preparing_fails().is_some()
    }

    /// If nothing could be written, finds out whether that has ended: nobody may be there to try.
    pub fn probe(&self) {
        if self.shared.refusing.load(Ordering::Acquire) {
            self.seal();
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

    /// The records of `hash` with events behind `after`, oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::Flawed`] when one of them cannot be used; [`Error::Io`] when they cannot be read.
    pub fn pending(&self, hash: KeyHash, after: u64) -> Result<Vec<Record>, Error> {
        match self.readable(hash, after)? {
            (records, None) => Ok(records),
            (_, Some(flaw)) => Err(Error::Flawed(Box::new(flaw))),
        }
    }

    /// The records of `hash` with events behind `after`, oldest first, up to the first that cannot be used.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when they cannot be read.
    pub fn readable(
        &self,
        hash: KeyHash,
        after: u64,
    ) -> Result<(Vec<Record>, Option<Flaw>), Error> {
        let mut records = Vec::new();
        for place in self.ledger.places(hash).iter().filter(|place| place.last_seq > after) {
            if let Some(flaw) = &place.flaw {
                return Ok((records, Some(Flaw::clone(flaw))));
            }
            match self.read(hash, place).while_("reading a journal record")? {
                Ok(record) => records.push(record),
                Err(flaw) => return Ok((records, Some(flaw))),
            }
        }
        Ok((records, None))
    }

    /// What is wrong with the records of `hash` behind event `after`, as far as their checksums tell: where the first
    /// is that cannot be read. A session with such a record is quarantined unless its file holds those events.
    #[must_use]
    pub fn flaw(&self, hash: KeyHash, after: u64) -> Option<Flaw> {
        self.ledger.flaw(hash, after).map(|flaw| Flaw::clone(&flaw))
    }

    /// Whether a session with records that cannot be used goes on without them.
    #[must_use]
    pub fn accepts_damage(&self) -> bool {
        self.options.damage == DamagePolicy::Accept
    }

    /// Whether what the journal held of `hash` was set aside.
    #[must_use]
    pub fn is_set_aside(&self, hash: KeyHash) -> bool {
        self.ledger.places(hash).iter().any(|place| place.segment == ASIDE)
    }

    /// Moves all that the journal holds of `hash`, which is quarantined because of `reason`, to a file of its own, so that
    /// segments can be retired without it. It is durable when this returns, and still what [`Journal::pending`] reads.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; then nothing has changed.
    pub fn set_aside(&self, hash: KeyHash, reason: &str) -> Result<(), Error> {
        let places = self.ledger.places(hash);
        if places.iter().all(|place| place.segment == ASIDE) {
            return Ok(());
        }
        let key = self.ledger.key(hash);
        let kind = key.as_ref().map_or(ActorKind::Session, Key::kind);
        let mut aside = Aside {
            kind: kind.as_str().to_owned(),
            workspace: key.as_ref().and_then(|key| Name::new(key.workspace()).ok()),
            session: key.as_ref().map(|key| key.name().clone()),
            reason: reason.to_owned(),
            through_lsn: 0,
            records: Vec::new(),
        };
        let mut bytes = Vec::new();
        let doing = "setting aside what the journal has of a session";
        for place in &places {
            let (record, lsn) = self.raw(hash, place).while_(doing)?;
            aside.through_lsn = aside.through_lsn.max(lsn);
            aside.records.push(AsideRecord {
                offset: bytes.len() as u64,
                bytes: record.len() as u64,
                last_seq: place.last_seq,
                at_ms: place.at_ms,
                flaw: place.flaw.as_ref().map(|flaw| Flaw::clone(flaw)),
            });
            bytes.extend_from_slice(&record);
        }
        let dir = &self.options.quarantine_dir;
        aside::write(dir, hash, &aside, &bytes).while_(doing)?;
        let places = aside::noted(dir, hash).into_iter().map(|noted| noted.place).collect();
        self.ledger.move_to(hash, places);
        Ok(())
    }

    /// Removes what was set aside of `hash`, of which the file durably holds everything.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; it is done again at the next wake.
    pub fn settle(&self, hash: KeyHash) -> Result<(), Error> {
        aside::remove(&self.options.quarantine_dir, hash, false)
            .while_("removing what was set aside of a session")?;
        self.ledger.move_to(hash, Vec::new());
        Ok(())
    }

    /// Gives up what was set aside of `hash` and is not in its file: it is kept as evidence only.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; then nothing has changed.
    pub fn give_up(&self, hash: KeyHash) -> Result<(), Error> {
        aside::accept(&self.options.quarantine_dir, hash)
            .while_("giving up what was set aside of a session")?;
        self.ledger.move_to(hash, Vec::new());
        Ok(())
    }

    /// Forgets everything of `hash`, which was deleted.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; calling it again goes on where it stopped.
    pub fn forget(&self, hash: KeyHash) -> Result<(), Error> {
        aside::remove(&self.options.quarantine_dir, hash, true)
            .while_("removing what was set aside of a session")?;
        self.ledger.applied(hash, u64::MAX);
        Ok(())
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

    fn path(&self, hash: KeyHash, place: &Place) -> PathBuf {
        match place.segment {
            ASIDE => aside::path(&self.options.quarantine_dir, hash),
            number => segment::path(&self.options.dir, number),
        }
    }

    /// The record at `place`, or what is wrong with it.
    fn read(&self, hash: KeyHash, place: &Place) -> io::Result<Result<Record, Flaw>> {
        let (bytes, lsn) = self.raw(hash, place)?;
        let flaw = |first_seq, reason: String| Flaw {
            segment: place.segment,
            offset: place.offset,
            bytes: bytes.len() as u64,
            lsn,
            first_seq,
            last_seq: place.last_seq,
            reason,
        };
        let frame = Frame::read(&bytes);
        let first_seq = frame.and_then(|frame| frame.owner).map_or(place.last_seq, |o| o.first_seq);
        let payload = frame.and_then(|frame| frame.payload(&bytes)).filter(|(_, whole)| *whole);
        let Some((payload, _)) = payload else {
            return Ok(Err(flaw(first_seq, "a checksum does not match".to_owned())));
        };
        Ok(match Record::decode(payload) {
            Ok(record) if record.key.hash() == hash => Ok(record),
            Ok(_) => Err(flaw(first_seq, "it belongs to another session".to_owned())),
            Err(error) => Err(flaw(first_seq, error.to_string())),
        })
    }

    /// The bytes of the record at `place`, as they are, and its place in the log if that can be read.
    fn raw(&self, hash: KeyHash, place: &Place) -> io::Result<(Vec<u8>, u64)> {
        let file = File::open(self.path(hash, place))?;
        let there = file.metadata()?.len().saturating_sub(place.offset);
        let mut head = vec![0; usize::try_from(there).unwrap_or(usize::MAX).min(FRAME_BYTES)];
        file.read_exact_at(&mut head, place.offset)?;
        let frame = Frame::read(&head);
        let (length, lsn) = match (&place.flaw, frame) {
            (Some(flaw), _) => (flaw.bytes, flaw.lsn),
            (None, Some(frame)) => (frame.stride() as u64, frame.lsn),
            (None, None) => (head.len() as u64, 0),
        };
        let mut bytes = vec![0; usize::try_from(length.min(there)).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, place.offset)?;
        Ok((bytes, lsn))
    }
}

/// Reads what is there, makes it durable, and notes in the books what files may lack.
fn find(options: &Options) -> Result<(recover::Recovered, Arc<Ledger>), Error> {
    fs::create_dir_all(&options.dir).at(&options.dir, "cannot be made")?;
    let ledger = Arc::new(Ledger::default());
    let mut covered = HashMap::new();
    for (hash, accepted, aside) in
        aside::list(&options.quarantine_dir).at(&options.quarantine_dir, "cannot be read")?
    {
        // One that cannot be read and waits stands for all there is; one that was accepted for nothing.
        let unread = if accepted { 0 } else { u64::MAX };
        let through = aside.map_or(unread, |aside| aside.through_lsn);
        let covered = covered.entry(hash).or_insert(0);
        *covered = through.max(*covered);
        if !accepted {
            ledger.add(aside::noted(&options.quarantine_dir, hash).into_iter());
        }
    }
    let mut note = |lsn, noted: Noted| {
        // What was set aside is not what the segments still hold of it.
        if covered.get(&noted.hash).is_some_and(|through| lsn <= *through) {
            return;
        }
        if let Some(flaw) = &noted.place.flaw {
            metric::counters().journal_damaged.inc();
            match &noted.key {
                Some(key) => {
                    tracing::error!(session.id = %key.id(), "of session {key:?} {flaw}")
                }
                None => tracing::error!("of the session with hash {} {flaw}", noted.hash),
            }
        }
        ledger.add(std::iter::once(noted));
    };
    let mut found = recover::scan(&options.dir, &mut note).at(&options.dir, "cannot be read")?;
    if found.segments.is_empty() {
        // A journal that begins anew does not begin where it began before: what was set aside would cover it.
        let through = covered.values().copied().filter(|through| *through < u64::MAX).max();
        found.next_lsn = found.next_lsn.max(through.unwrap_or(0) + 1);
    }
    report(&found, options);
    if let (Some(first), DamagePolicy::Refuse) = (found.damage.first(), options.damage) {
        return Err(Error::JournalDamaged(Box::new(first.clone())));
    }
    let settle = || -> io::Result<()> {
        for number in &found.unused {
            fs::remove_file(segment::path(&options.dir, *number))?;
        }
        for number in &found.unreadable {
            // Its loss is accepted: it is evidence now, and the next start does not meet it again.
            let path = segment::path(&options.dir, *number);
            fs::rename(&path, path.with_extension("accepted"))?;
        }
        // What was found may be shown, so it must be durable.
        found
            .segments
            .iter()
            .try_for_each(|number| File::open(segment::path(&options.dir, *number))?.sync_data())
    };
    settle().while_("making the journal durable")?;
    for number in &found.segments {
        ledger.open_segment(*number);
    }
    Ok((found, ledger))
}

/// Says at start what is not as it should be.
fn report(found: &recover::Recovered, options: &Options) {
    for number in &found.headless {
        tracing::error!(
            "the header of journal segment {} is damaged; what it said is known nevertheless, and nothing is lost",
            segment::path(&options.dir, *number).display()
        );
    }
    for damage in &found.damage {
        tracing::error!(
            segment = %damage.segment.display(),
            "durable journal records {} to {} cannot be read from byte {} on, and nothing says whose they are",
            damage.missing.0, damage.missing.1 - 1, damage.offset
        );
        metric::counters().journal_damaged.inc();
    }
}
