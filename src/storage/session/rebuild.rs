//! A damaged file made anew from its own log, where that is whole.
//!
//! Everything but the log and the answers that are kept for repeated requests follows from the log. So damage anywhere
//! else costs nothing; damage of these two is left to an operator, since going on without them would lose what was
//! acknowledged, or do a thing twice.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use crate::base::Key;
use crate::base::limits::WHOLE_CHECK_BYTES_MAX;
use crate::domain::session::Event;
use crate::storage::Error;
use crate::storage::Folder;
use crate::storage::While;
use crate::storage::describe;
use crate::storage::seal;
use crate::storage::session::SessionFile;
use crate::storage::session::check;
use crate::storage::session::file;
use crate::storage::session::read;
use crate::storage::session::read::Chain;
use crate::storage::session::template;

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

impl SessionFile {
    /// Checks the file at `path`, of whatever session, changing nothing; with `online` somebody may be writing to it.
    ///
    /// # Errors
    ///
    /// What kept it from looking; what is wrong with the file is in the answer.
    pub fn verify(path: &Path, online: bool) -> Result<Verified, Error> {
        // Without a log nobody writes to the file: then it is read as it is, and nothing is put beside it.
        if seal::has_log(path).while_("looking at a session file")? {
            return verify(&file::connect(path)?);
        }
        let verified = file::look(path).and_then(|connection| verify(&connection));
        match verified {
            // Unless somebody has just begun.
            Ok(verified) if online && !verified.findings.is_empty() => {
                verify(&file::connect(path)?)
            }
            verified => verified,
        }
    }

    /// Makes the file of `key` anew, in which `damage` was found, and opens it. Its log must reach to event `least`.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when its log is not whole either; the file is as it was then.
    pub fn repair(key: &Key, folder: &Folder, damage: Error, least: u64) -> Result<Self, Error> {
        let path = folder.session(key.hash());
        let file = folder.relative(&path).to_owned();
        match Self::rebuild(key, folder, least) {
            Ok(()) => {
                tracing::warn!(session.id = %key.id(), "session {key:?} was made anew from its log and has lost nothing: {}", describe(&damage));
                Self::open(key, &path)
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
    pub fn rebuild(key: &Key, folder: &Folder, least: u64) -> Result<(), Error> {
        let path = folder.session(key.hash());
        let bytes = fs::metadata(&path).while_("looking at a damaged session file")?.len();
        if bytes > WHOLE_CHECK_BYTES_MAX {
            let problem = "it is too large to be made anew in memory".to_owned();
            return Err(Error::FileCorrupt { problem });
        }
        let damaged = file::connect(&path)?;
        let mut new = Self::create(key)?;
        new.take_log(&damaged, least)?;
        new.take_answers(&damaged)?;
        new.commit()?;
        drop(damaged);
        let rebuilt = folder.rebuilt(key.hash());
        folder.write_whole(&rebuilt, &new.sealed()?)?;
        folder.sync(&rebuilt)?;
        folder.finish_rebuild(key.hash())
    }

    /// Applies the events of `damaged`, as they are there: what was redacted stays redacted.
    fn take_log(&mut self, damaged: &Connection, least: u64) -> Result<(), Error> {
        let doing = "reading the log of a damaged file";
        // The row that says how far the log goes may be what is damaged.
        let least = read::meta(damaged).map_or(least, |(_, head)| head.last_seq.max(least));
        let mut chain = Chain { previous: Some([0; 16]), seq: 0, log_start: 0 };
        let mut statement = damaged.prepare("SELECT * FROM event ORDER BY seq").while_(doing)?;
        let mut rows = statement.query([]).while_(doing)?;
        while let Some(row) = rows.next().while_(doing)? {
            let row = chain.take(row)?;
            let event = Event::decode(row.kind, &row.body)?;
            self.take(&event, &row.borrowed())?;
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
            let (seq, kept) = read::kept_at(row).while_(doing)?;
            self.remember(seq, &kept)?;
        }
        Ok(())
    }
}

fn verify(connection: &Connection) -> Result<Verified, Error> {
    let (of, last_seq) =
        read::meta(connection).ok().map(|(key, head)| (key, head.last_seq)).unzip();
    let broken = |finding| Verified {
        key: None,
        last_seq,
        findings: vec![finding],
        can_be_made_anew: false,
        is_old: false,
    };
    // All in one look: what is written meanwhile is not seen.
    connection.execute_batch("BEGIN").while_("looking at a session file")?;
    let damaged = match check::structure(connection) {
        Ok(()) => None,
        Err(error) if error.is_damage() => Some(error),
        Err(error) => return Err(error),
    };
    let version = template::version_of(connection);
    let is_old = version.as_ref().is_ok_and(|is| *is < template::version());
    let findings = match (damaged, version) {
        (Some(damage), _) => vec![damage],
        (None, Ok(is)) if is > template::version() => {
            return Err(Error::TooNew { is, known: template::version() });
        }
        (None, Ok(_)) if is_old => Vec::new(),
        (None, Ok(_)) => check::rows(connection, None)?,
        (None, Err(error)) => return Ok(broken(error)),
    };
    let rebuilds = || {
        let mut new = SessionFile::create(of.as_ref()?).ok()?;
        new.take_log(connection, 0).and_then(|()| new.take_answers(connection)).ok()
    };
    let can_be_made_anew = !findings.is_empty() && rebuilds().is_some();
    Ok(Verified { key: of, last_seq, findings, can_be_made_anew, is_old })
}
