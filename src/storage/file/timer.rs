//! Timers of an actor: rows that say what is due when.

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;

use crate::storage::Error;
use crate::storage::While;
use crate::storage::file::ActorFile;
use crate::storage::file::Tables;
use crate::storage::sql::number;
use crate::storage::sum;

/// A timer that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Its name in the actor.
    pub id: String,
    /// What it is for.
    pub kind: String,
    /// Tries that failed before.
    pub attempt: u32,
    /// What else it has to know; a JSON object.
    pub payload: String,
}

impl<T: Tables> ActorFile<T> {
    /// When the next timer is due, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn next_timer_ms(&self) -> Result<Option<i64>, Error> {
        self.database.as_is().map_or(Ok(None), next)
    }

    /// The timer called `id`, if it is set.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn timer(&self, id: &str) -> Result<Option<Timer>, Error> {
        Ok(find(self.db()?, id)?.map(|(timer, _)| timer))
    }

    /// Timers that are due at `now_ms`, the most urgent first.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn due_timers(&self, now_ms: i64) -> Result<Vec<Timer>, Error> {
        let sql = "SELECT * FROM timer WHERE fire_at_ms <= ?1 ORDER BY fire_at_ms";
        self.db()?
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_map([now_ms], timer_at)?.collect())
            .while_("looking for timers")
    }

    /// Removes a timer that was carried out, or is dead.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; this must be dropped then, and the timer fires again.
    pub fn remove_timer(&mut self, id: &str) -> Result<(), Error> {
        remove(self.begin()?, id)
    }

    /// Sets when a timer whose try number `attempt` failed is due again.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; this must be dropped then, and the timer fires again at once.
    pub fn retry_timer(&mut self, id: &str, attempt: u32, at_ms: i64) -> Result<(), Error> {
        let db = self.begin()?;
        match find(db, id)? {
            Some((timer, _)) => put(db, &Timer { attempt, ..timer }, at_ms),
            None => Ok(()),
        }
    }
}

/// When the next timer of the file is due.
pub(super) fn next(connection: &Connection) -> Result<Option<i64>, Error> {
    let sql = "SELECT min(fire_at_ms) FROM timer";
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .while_("looking for timers")
}

/// Reads and verifies a row of `SELECT * FROM timer`.
fn timer_at(row: &Row<'_>) -> rusqlite::Result<Timer> {
    let [id, kind, _, attempt, payload] = sum::verified("timer", row)?;
    let (id, kind) = (id.as_str()?.to_owned(), kind.as_str()?.to_owned());
    let payload = payload.as_str()?.to_owned();
    Ok(Timer { id, kind, attempt: number(attempt)?, payload })
}

/// Sets `timer`, which may be there already.
pub(in crate::storage) fn put(
    connection: &Connection,
    timer: &Timer,
    at_ms: i64,
) -> Result<(), Error> {
    let sql = "INSERT OR REPLACE INTO timer (id, kind, fire_at_ms, attempt, payload, sum)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let Timer { id, kind, attempt, payload } = timer;
    sum::write(connection, "timer", sql, &[id, kind, &at_ms, attempt, payload])
        .while_("setting a timer")
}

/// The timer called `id`, and when it is due.
pub(in crate::storage) fn find(
    connection: &Connection,
    id: &str,
) -> Result<Option<(Timer, i64)>, Error> {
    connection
        .prepare_cached("SELECT * FROM timer WHERE id = ?1")
        .and_then(|mut statement| {
            let found = |row: &Row<'_>| Ok((timer_at(row)?, row.get(2)?));
            statement.query_row([id], found).optional()
        })
        .while_("looking for timers")
}

/// Removes the timer called `id`, if it is there.
pub(in crate::storage) fn remove(connection: &Connection, id: &str) -> Result<(), Error> {
    connection
        .prepare_cached("DELETE FROM timer WHERE id = ?1")
        .and_then(|mut statement| statement.execute([id]))
        .while_("removing a timer")?;
    Ok(())
}
