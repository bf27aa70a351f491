//! Opening a session's file on a thread that may block, with whatever the journal holds beyond it.

use crate::actor::node::Shared;
use crate::base::Key;
use crate::storage::Error;
use crate::storage::describe;
use crate::storage::journal::Record;
use crate::storage::session::SessionFile;

/// What there is of a session.
pub(super) enum Found {
    /// Nothing ever happened under this id.
    Absent,
    /// It was deleted.
    Gone,
    /// Here it is.
    File(Box<SessionFile>),
}

/// Finds the session `key`, brings its file up to date from the journal and verifies both.
pub(super) fn open(shared: &Shared, key: &Key) -> Result<Found, Error> {
    let (folder, hash) = (&shared.folder, key.hash());
    let pending = shared.journal.pending(hash)?;
    if folder.has(&folder.tombstone(hash))? {
        finish_deletion(shared, key)?;
        return Ok(Found::Gone);
    }
    folder.finish_rebuild(hash)?;
    let path = folder.session(hash);
    let has_file = folder.has(&path)?;
    if !has_file && pending.is_empty() {
        return Ok(Found::Absent);
    }
    let opened = match has_file {
        true => SessionFile::open(key, &path),
        false => SessionFile::create(key),
    };
    let mut file = match opened {
        Err(error) if error.is_damage() => repair(shared, key, error, &pending)?,
        other => other?,
    };
    if replay(&mut file, &pending)? {
        drop(file);
        finish_deletion(shared, key)?;
        return Ok(Found::Gone);
    }
    shared.journal.ledger().applied(hash, committed(&file));
    Ok(Found::File(Box::new(file)))
}

/// Makes the damaged file of `key` anew, from the journal if that has everything, otherwise from its own log.
fn repair(
    shared: &Shared,
    key: &Key,
    damage: Error,
    pending: &[Record],
) -> Result<SessionFile, Error> {
    // As after a power cut in the middle of the first write.
    if pending.first().is_some_and(|record| record.first_seq == 1) {
        tracing::warn!(session.id = %key.id(), "session {key:?} is made anew from the journal: {}", describe(&damage));
        shared.folder.remove_damaged(key.hash())?;
        return SessionFile::create(key);
    }
    SessionFile::repair(key, &shared.folder, damage)
}

/// Applies what the file lacks; true if the session ended in it.
fn replay(file: &mut SessionFile, pending: &[Record]) -> Result<bool, Error> {
    for record in pending {
        file.replay(record)?;
    }
    Ok(file.head().deleted)
}

/// The last event that the file itself holds.
fn committed(file: &SessionFile) -> u64 {
    let open = file.open_transaction().map_or(0, |open| open.events as u64);
    if file.is_in_memory() { 0 } else { file.head().last_seq - open }
}

/// Removes the file of a session that was deleted; safe to repeat.
pub(super) fn finish_deletion(shared: &Shared, key: &Key) -> Result<(), Error> {
    shared.folder.remove_session(key.hash())?;
    shared.journal.ledger().applied(key.hash(), u64::MAX);
    Ok(())
}

/// Deletes a session that cannot be opened. No event can say so, so the mark that it is gone must be durable.
pub(super) fn delete_unreadable(shared: &Shared, key: &Key) -> Result<(), Error> {
    finish_deletion(shared, key)?;
    shared.folder.sync(&shared.folder.tombstone(key.hash()))
}
