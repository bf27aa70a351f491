//! Timers of a session: rows that say what is due when.

use rusqlite::OptionalExtension;
use rusqlite::params;

use crate::storage::Error;
use crate::storage::While;
use crate::storage::session::SessionFile;

/// A timer that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Its name in the session.
    pub id: String,
    /// What it is for.
    pub kind: String,
    /// Tries that failed before.
    pub attempt: u32,
}

impl SessionFile {
    /// When the next timer is due, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn next_timer_ms(&self) -> Result<Option<i64>, Error> {
        let doing = "looking for timers";
        let sql = "SELECT min(fire_at_ms) FROM timer";
        let mut statement = self.connection.prepare_cached(sql).while_(doing)?;
        let due = statement.query_row([], |row| row.get(0)).optional();
        Ok(due.while_(doing)?.flatten())
    }

    /// Timers that are due at `now_ms`, the most urgent first.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn due_timers(&self, now_ms: i64) -> Result<Vec<Timer>, Error> {
        let sql = "SELECT id, kind, attempt FROM timer WHERE fire_at_ms <= ?1 ORDER BY fire_at_ms";
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Timer { id: row.get(0)?, kind: row.get(1)?, attempt: row.get(2)? })
        };
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_map([now_ms], read)?.collect())
            .while_("looking for timers")
    }

    /// Removes a timer that was carried out, or is dead.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; this must be dropped then, and the timer fires again.
    pub fn remove_timer(&mut self, id: &str) -> Result<(), Error> {
        self.begin()?;
        self.connection
            .prepare_cached("DELETE FROM timer WHERE id = ?1")
            .and_then(|mut statement| statement.execute([id]))
            .while_("removing a timer")?;
        Ok(())
    }

    /// Sets when a timer whose try number `attempt` failed is due again.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; this must be dropped then, and the timer fires again at once.
    pub fn retry_timer(&mut self, id: &str, attempt: u32, at_ms: i64) -> Result<(), Error> {
        self.begin()?;
        self.connection
            .prepare_cached("UPDATE timer SET attempt = ?2, fire_at_ms = ?3 WHERE id = ?1")
            .and_then(|mut statement| statement.execute(params![id, attempt, at_ms]))
            .while_("setting a timer again")?;
        Ok(())
    }
}
