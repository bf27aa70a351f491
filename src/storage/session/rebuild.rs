//! A damaged file made anew from its own log, where that is whole.
//!
//! Everything but the log and the answers that are kept for repeated requests follows from the log. So damage anywhere
//! else costs nothing; damage of these two is left to an operator, since going on without them would lose what was
//! acknowledged, or do a thing twice.

use std::fs;

use rusqlite::Connection;

use crate::base::Key;
use crate::base::limits::WHOLE_CHECK_BYTES_MAX;
use crate::domain::session::Event;
use crate::domain::session::EventKind;
use crate::storage::Error;
use crate::storage::Folder;
use crate::storage::While;
use crate::storage::describe;
use crate::storage::session::SessionFile;
use crate::storage::session::file;
use crate::storage::session::read;
use crate::storage::session::read::Chain;

impl SessionFile {
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
            if row.redacted && row.kind == EventKind::Items {
                let problem = format!("event {} no longer holds the items of the session", row.seq);
                return Err(Error::FileCorrupt { problem });
            }
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
