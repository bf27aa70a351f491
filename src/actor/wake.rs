//! Opening an actor's file on a thread that may block, with whatever the journal holds beyond it.

use std::fs;
use std::panic;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::path::PathBuf;

use crate::actor::found::Found;
use crate::actor::listing::note;
use crate::actor::shared::Shared;
use crate::base::Key;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::catalogue::Card;
use crate::storage::describe;
use crate::storage::file;
use crate::storage::file::AnyFile;
use crate::storage::journal::Flaw;
use crate::storage::journal::Record;
use crate::storage::kinds;

/// Whether nothing ever happened under `key`, as far as can be told without waiting.
pub(super) fn is_new(shared: &Shared, key: &Key) -> Result<bool, Error> {
    let (folder, hash) = (&shared.folder, key.hash());
    Ok(!shared.journal.ledger().is_pending(hash)
        && !folder.has(&folder.file(key))?
        && !folder.has(&folder.tombstone(key))?
        && shared.catalogue.knows(hash) == Some(false))
}

/// Finds the actor `key`, brings its file up to date from the journal and verifies both.
///
/// What the journal has of a session that cannot be opened is set aside, whatever the reason, so that the journal can go
/// on without it: it is read from there once the reason is gone.
pub(super) fn open(shared: &Shared, key: &Key) -> Result<Found, Error> {
    let (folder, journal, hash) = (&shared.folder, &shared.journal, key.hash());
    let claim = folder.claim(hash);
    if folder.has(&folder.tombstone(key))? {
        finish_deletion(shared, key)?;
        return Ok(Found::Gone);
    }
    folder.finish_rebuild(key)?;
    // What is noted is durable, and the journal keeps it until the file has it: with both there is nothing less.
    let known = shared.catalogue.last_seq(hash)?.unwrap_or(0);
    let is_pending = journal.ledger().is_pending(hash);
    if !is_pending && !folder.has(&folder.file(key))? {
        return if known == 0 { Ok(Found::Absent) } else { Err(Error::Behind { file: 0, known }) };
    }
    let panicked =
        |_| Err(Error::FileCorrupt { problem: "opening it panicked; see the log".to_owned() });
    let found = panic::catch_unwind(AssertUnwindSafe(|| bring_up(shared, key, known)));
    let found = found.unwrap_or_else(panicked);
    let found = found.map_err(|error| seen_from_outside(error, &folder.file(key)));
    if let Err(error) = &found
        && is_pending
        && !error.is_shortage()
    {
        journal.set_aside(hash, &describe(error)).unwrap_or_else(|error| {
            tracing::warn!(session.id = %key.id(), "{key:?} keeps the journal: {}", describe(&error));
        });
    }
    found.map(|found| match found {
        Found::File(file) => Found::File(file.claimed(claim)),
        other => other,
    })
}

/// `error`, or why the file at `path` cannot be opened at all: SQLite does not say that there are no more descriptors.
fn seen_from_outside(error: Error, path: &Path) -> Error {
    let looked = fs::File::open(path).map(drop).while_("opening its file");
    looked.err().filter(Error::is_shortage).unwrap_or(error)
}

fn bring_up(shared: &Shared, key: &Key, known: u64) -> Result<Found, Error> {
    let (folder, journal, hash) = (&shared.folder, &shared.journal, key.hash());
    let (path, files) = (folder.file(key), kinds::files(key.kind()));
    let opened = match folder.has(&path)? {
        true => (files.open)(key, &path, &shared.files),
        false => Ok((files.create)(key, &shared.files)),
    };
    let mut file = match opened {
        Err(error) if error.is_damage() => repair(shared, key, error, known)?,
        other => other?,
    };
    let (pending, mut flaw) = journal.readable(hash, file.log().last_seq)?;
    if let Some(flaw) = &flaw
        && !journal.accepts_damage()
    {
        return Err(Error::Flawed(Box::new(flaw.clone())));
    }
    let ended = match replay(&mut *file, &pending) {
        // What is missing was accepted when nothing said whose it is.
        Err(Error::Gap { file, journal: first }) if journal.accepts_damage() => {
            flaw = Some(Flaw::missing(file + 1, first - 1));
            false
        }
        replayed => replayed?,
    };
    // One that has something to tell still does that first.
    if ended && file.receivers().is_empty() {
        drop(file);
        finish_deletion(shared, key)?;
        return Ok(Found::Gone);
    }
    let file_seq = file.log().last_seq;
    if file_seq < known && flaw.is_none() {
        return Err(Error::Behind { file: file_seq, known });
    }
    if flaw.is_some() || journal.is_set_aside(hash) {
        return end_quarantine(shared, key, file, flaw);
    }
    // Before the books say so: segments may go then, and the catalogue must know what they said.
    note(shared, &*file, None);
    journal.ledger().applied(hash, committed(&*file));
    Ok(Found::File(file))
}

/// Ends the quarantine of a session whose file has everything, or goes on without what is lost, as the operator accepts.
fn end_quarantine(
    shared: &Shared,
    key: &Key,
    mut file: Box<dyn AnyFile>,
    flaw: Option<Flaw>,
) -> Result<Found, Error> {
    let (folder, journal, hash) = (&shared.folder, &shared.journal, key.hash());
    // What was set aside is the only copy of what the file may not durably hold, and the list must not know more.
    match file.log().exists() {
        true => {
            file = file.into_file(folder)?;
            file.checkpoint()?;
            folder.sync_all()?;
            // The row only ever grows, and it may know more than is left.
            shared.catalogue.note(Card::gone(key.clone()));
            shared.catalogue.flush()?;
            note(shared, &*file, None);
        }
        false => shared.catalogue.note(Card::gone(key.clone())),
    }
    shared.catalogue.flush()?;
    let last_seq = file.log().last_seq;
    match flaw {
        Some(flaw) => {
            journal.set_aside(hash, &flaw.to_string())?;
            journal.give_up(hash)?;
            tracing::warn!(
                session.id = %key.id(),
                "the damage of {key:?} is accepted: it goes on behind event {last_seq}, and what it had behind \
                 that is in {} as it was found; {flaw}", folder.quarantine().display()
            );
        }
        None => {
            journal.settle(hash)?;
            tracing::warn!(
                session.id = %key.id(),
                "{key:?} is whole again up to event {last_seq} and is no longer quarantined"
            );
        }
    }
    Ok(if file.log().exists() { Found::File(file) } else { Found::Absent })
}

/// Makes the damaged file of `key` anew, from the journal if that has everything, otherwise from its own log.
fn repair(
    shared: &Shared,
    key: &Key,
    damage: Error,
    known: u64,
) -> Result<Box<dyn AnyFile>, Error> {
    let files = kinds::files(key.kind());
    let (pending, flaw) = shared.journal.readable(key.hash(), 0)?;
    // As after a power cut in the middle of the first write.
    if flaw.is_none() && pending.first().is_some_and(|record| record.first_seq == 1) {
        tracing::warn!(session.id = %key.id(), "{key:?} is made anew from the journal: {}", describe(&damage));
        shared.folder.remove_damaged(key)?;
        return Ok((files.create)(key, &shared.files));
    }
    // What the file must have, if the journal is to go on from there.
    let least = pending.first().map_or(known, |record| known.min(record.first_seq - 1));
    (files.repair)(key, &shared.folder, &shared.files, damage, least)
}

/// Looks at the file of `key`, which the journal may be ahead of: if it holds everything, that is noted. False if it
/// lacks something or cannot be used, so that the session must wake.
///
/// The file is checked as a whole, as [`open`] does, since the journal forgets then what could repair it. One that is in
/// use is left to its actor.
pub(super) fn settle(shared: &Shared, key: &Key) -> Result<bool, Error> {
    let (folder, ledger, hash) = (&shared.folder, shared.journal.ledger(), key.hash());
    let Some(claim) = folder.try_claim(hash) else { return Ok(false) };
    let Some(last_seq) = ledger.last_seq(hash) else { return Ok(true) };
    if shared.journal.is_set_aside(hash) {
        return Ok(false);
    }
    if folder.has(&folder.tombstone(key))? {
        finish_deletion(shared, key)?;
        return Ok(true);
    }
    let path = folder.file(key);
    if !folder.has(&path)? {
        return Ok(false);
    }
    (kinds::files(key.kind()).check)(&path)?;
    let Some(card) = (kinds::files(key.kind()).card)(&path, Some(&claim))? else {
        return Ok(false);
    };
    let known = shared.catalogue.last_seq(hash)?.unwrap_or(0);
    if card.key != *key || card.last_seq < last_seq.max(known) || card.unfinished {
        return Ok(false);
    }
    let file_seq = card.last_seq;
    shared.catalogue.note_found(card);
    if folder.has(&folder.tombstone(key))? {
        // It was deleted meanwhile.
        shared.catalogue.note(Card::gone(key.clone()));
    }
    ledger.applied(hash, file_seq);
    Ok(true)
}

/// Finds out whose the records are that do not say it any more. Those that nobody knows are set aside, under their hash.
pub(super) fn name_all(shared: &Shared) {
    for hash in shared.journal.ledger().nameless() {
        let owner = |path: PathBuf| file::owner(&path, hash).ok();
        let listed = shared.catalogue.key(hash).ok().flatten();
        let known = listed.or_else(|| shared.folder.files_of(hash).find_map(owner));
        if let Some(key) = known {
            shared.journal.ledger().name(&key);
            continue;
        }
        let reason =
            "its records cannot be read, and neither list nor file says which session it is";
        tracing::error!("the session with hash {hash} is quarantined: {reason}");
        shared.journal.set_aside(hash, reason).unwrap_or_else(|error| {
            tracing::warn!("the session with hash {hash} keeps the journal: {}", describe(&error));
        });
    }
}

/// Applies what the file lacks; true if the actor ended in it.
fn replay(file: &mut dyn AnyFile, pending: &[Record]) -> Result<bool, Error> {
    for record in pending {
        file.replay(record)?;
    }
    Ok(file.is_ended())
}

/// The last event that the file itself holds.
fn committed(file: &dyn AnyFile) -> u64 {
    let open = file.open_transaction().map_or(0, |open| open.events as u64);
    if file.is_in_memory() { 0 } else { file.log().last_seq - open }
}

/// Removes the file of a session that was deleted, and it from the list; safe to repeat.
pub(super) fn finish_deletion(shared: &Shared, key: &Key) -> Result<(), Error> {
    shared.folder.remove_file(key)?;
    // Behind the mark: whoever reads the file meanwhile and notes it sees the mark afterwards, or this is noted later.
    shared.catalogue.note(Card::gone(key.clone()));
    shared.journal.forget(key.hash())
}

/// Deletes a session that cannot be opened. No event can say so, so the mark that it is gone must be durable.
pub(super) fn delete_unreadable(shared: &Shared, key: &Key) -> Result<(), Error> {
    finish_deletion(shared, key)?;
    shared.folder.sync(&shared.folder.tombstone(key))
}
