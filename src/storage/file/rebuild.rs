//! A damaged file made anew from its own log, where that is whole.
//!
//! Everything but the log, the answers that are kept for repeated requests, and what was heard of others, follows from
//! the log. So damage anywhere else costs nothing; damage of these is left to an operator, since going on without them would lose what was
//! acknowledged, or do a thing twice.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use crate::base::Key;
use crate::base::limits::WHOLE_CHECK_BYTES_MAX;
use crate::domain::kind::Event;
use crate::storage::Error;
use crate::storage::Folder;
use crate::storage::While;
use crate::storage::describe;
use crate::storage::file::ActorFile;
use crate::storage::file::Settings;
use crate::storage::file::Tables;
use crate::storage::file::actor_file::connect;
use crate::storage::file::actor_file::look;
use crate::storage::file::check;
use crate::storage::file::kept;
use crate::storage::file::log::Chain;
use crate::storage::file::template;
use crate::storage::seal;

/// What a check of a session file found.
#[derive(Debug)]
pub struct Verified {
    /// Whose file it says it is.
    pub key: Option<Key>,
    /// Its last event, if it says that.
    pub last_seq: Option<u64>,
    /// What is wrong with it.
    pub findings: Vec<Error>,
    /// Whether all that is wrong follows from its log, and will be made anew.
    pub can_be_made_anew: bool,
    /// Whether it was written by an earlier version, and has no checksums of its rows yet.
    pub is_old: bool,
}

impl<T: Tables> ActorFile<T> {
    /// Makes the file of `key` anew, in which `damage` was found, and opens it. Its log must reach to event `least`.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when its log is not whole either; the file is as it was then.
    pub fn repair(
        key: &Key,
        folder: &Folder,
        settings: &Settings,
        damage: Error,
        least: u64,
    ) -> Result<Self, Error> {
        let path = folder.file(key);
        let file = folder.relative(&path).to_owned();
        match Self::rebuild(key, folder, settings, least) {
            Ok(()) => {
                tracing::warn!(session.id = %key.id(), "{key:?} was made anew from its log and has lost nothing: {}", describe(&damage));
                Self::open(key, &path, settings)
            }
            Err(why) => {
                tracing::error!(session.id = %key.id(), "{} cannot be made anew: {}", file.display(), describe(&why));
                Err(Error::Damaged { file, source: Box::new(damage) })
            }
        }
    }

    /// Puts a new file into the place of the damaged one of `key`, if its log is whole at least up to event `least`.
    ///
    /// # Errors
    ///
    /// What stands against it; the damaged file is as it was then.
    pub fn rebuild(
        key: &Key,
        folder: &Folder,
        settings: &Settings,
        least: u64,
    ) -> Result<(), Error> {
        let path = folder.file(key);
        let bytes = fs::metadata(&path).while_("looking at a damaged session file")?.len();
        if bytes > WHOLE_CHECK_BYTES_MAX {
            let problem = "it is too large to be made anew in memory".to_owned();
            return Err(Error::FileCorrupt { problem });
        }
        let damaged = connect(&path)?;
        let mut new = Self::create(key, settings);
        new.take_log(&damaged, least)?;
        new.take_answers(&damaged)?;
        new.take_inbox(&damaged)?;
        new.commit()?;
        drop(damaged);
        let rebuilt = folder.rebuilt(key);
        folder.write_whole(&rebuilt, &new.sealed()?)?;
        folder.sync(&rebuilt)?;
        folder.finish_rebuild(key)
    }

    /// Applies the events of `damaged`, as they are there: what was redacted stays redacted.
    fn take_log(&mut self, damaged: &Connection, least: u64) -> Result<(), Error> {
        let doing = "reading the log of a damaged file";
        // The row that says how far the log goes may be what is damaged.
        let least = T::meta(damaged).map_or(least, |(_, log)| log.last_seq.max(least));
        let mut chain = Chain { previous: Some([0; 16]), seq: 0, log_start: 0 };
        let mut statement = damaged.prepare("SELECT * FROM event ORDER BY seq").while_(doing)?;
        let mut rows = statement.query([]).while_(doing)?;
        while let Some(row) = rows.next().while_(doing)? {
            let row = chain.take::<T::Event>(row)?;
            let event = T::Event::decode(row.number, &row.body)?;
            self.take(&event, row.shared())?;
        }
        match chain.seq > 0 && chain.seq >= least {
            true => Ok(()),
            false => Err(Error::RowMissing { table: "event", row: (chain.seq + 1).to_string() }),
        }
    }

    /// Copies the answers that are kept for repeated requests: all of them, or it fails.
    fn take_answers(&mut self, damaged: &Connection) -> Result<(), Error> {
        let doing = "reading the answers that a damaged file keeps";
        let problem: String = damaged
            .query_row("PRAGMA integrity_check('idempotency')", [], |row| row.get(0))
            .while_(doing)?;
        if problem != "ok" {
            return Err(Error::FileCorrupt { problem });
        }
        let mut statement = damaged.prepare("SELECT * FROM idempotency").while_(doing)?;
        let mut rows = statement.query([]).while_(doing)?;
        while let Some(row) = rows.next().while_(doing)? {
            let (seq, answer) = kept::kept_at(row).while_(doing)?;
            self.remember(seq, &answer)?;
        }
        Ok(())
    }
}

/// Checks the file at `path`, of whatever actor, changing nothing; with `online` somebody may be writing to it.
///
/// # Errors
///
/// What kept it from looking; what is wrong with the file is in the answer.
pub fn verify<T: Tables>(path: &Path, online: bool) -> Result<Verified, Error> {
    // Without a log nobody writes to the file: then it is read as it is, and nothing is put beside it.
    if seal::has_log(path).while_("looking at its file")? {
        return rows::<T>(&connect(path)?);
    }
    let verified = look(path).and_then(|connection| rows::<T>(&connection));
    match verified {
        // Unless somebody has just begun.
        Ok(verified) if online && !verified.findings.is_empty() => rows::<T>(&connect(path)?),
        verified => verified,
    }
}

fn rows<T: Tables>(connection: &Connection) -> Result<Verified, Error> {
    let (of, last_seq) = T::meta(connection).ok().map(|(key, head)| (key, head.last_seq)).unzip();
    let broken = |finding| Verified {
        key: None,
        last_seq,
        findings: vec![finding],
        can_be_made_anew: false,
        is_old: false,
    };
    // All in one look: what is written meanwhile is not seen.
    connection.execute_batch("BEGIN").while_("looking at its file")?;
    let damaged = match check::structure(connection) {
        Ok(()) => None,
        Err(error) if error.is_damage() => Some(error),
        Err(error) => return Err(error),
    };
    let version = template::version_of(connection);
    let is_old = version.as_ref().is_ok_and(|is| *is < template::version(T::blank().steps()));
    let findings = match (damaged, version) {
        (Some(damage), _) => vec![damage],
        (None, Ok(is)) if is > template::version(T::blank().steps()) => {
            return Err(Error::TooNew { is, known: template::version(T::blank().steps()) });
        }
        (None, Ok(_)) if is_old => Vec::new(),
        (None, Ok(_)) => check::rows::<T>(connection, None)?,
        (None, Err(error)) => return Ok(broken(error)),
    };
    let rebuilds = || {
        let mut new = ActorFile::<T>::create(of.as_ref()?, &Settings::default());
        new.take_log(connection, 0)
            .and_then(|()| new.take_answers(connection))
            .and_then(|()| new.take_inbox(connection))
            .ok()
    };
    let can_be_made_anew = !findings.is_empty() && rebuilds().is_some();
    Ok(Verified { key: of, last_seq, findings, can_be_made_anew, is_old })
}
