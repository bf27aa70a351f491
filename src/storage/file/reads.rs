//! Reading the log of a file.

use rusqlite::params;

use crate::base::limits::REPLAY_BYTES_MAX;
use crate::base::limits::REPLAY_EVENTS_MAX;
use crate::domain::kind::StoredEvent;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::file::ActorFile;
use crate::storage::file::Tables;
use crate::storage::file::log::Chain;
use crate::storage::file::log::EventRow;
use crate::storage::file::log::event;
use crate::storage::sql::sql_seq;

impl<T: Tables> ActorFile<T> {
    /// Events after `after`, oldest first, at most [`REPLAY_EVENTS_MAX`] and about [`REPLAY_BYTES_MAX`] bytes; each is
    /// verified, and none is missing.
    ///
    /// # Errors
    ///
    /// [`Error::EventCorrupt`] or [`Error::RowCorrupt`] when one is not what was written, [`Error::RowMissing`] when one
    /// is not there; [`Error::Sqlite`] when the file cannot be read.
    pub fn events(&self, after: u64) -> Result<Vec<StoredEvent>, Error> {
        let doing = "reading the log";
        let previous = match after {
            0 => Some([0; 16]),
            after => match event::<T::Event>(self.db()?, after) {
                // It was not asked for.
                Err(Error::RowCorrupt { .. }) => None,
                found => found?.map(|event| event.hash),
            },
        };
        let log = self.tables.log();
        let mut chain = Chain { previous, seq: after, log_start: log.log_start };
        let mut statement = self
            .db()?
            .prepare_cached("SELECT * FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2")
            .while_(doing)?;
        let mut rows = statement.query(params![sql_seq(after), REPLAY_EVENTS_MAX]).while_(doing)?;
        let (mut events, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next().while_(doing)? {
            let EventRow { seq, number, body: frame, .. } = chain.take::<T::Event>(row)?;
            bytes += frame.len();
            if bytes > REPLAY_BYTES_MAX && !events.is_empty() {
                return Ok(events);
            }
            events.push(StoredEvent { seq, number, frame });
        }
        if events.len() < REPLAY_EVENTS_MAX && chain.seq < log.last_seq {
            return Err(Error::RowMissing { table: "event", row: (chain.seq + 1).to_string() });
        }
        Ok(events)
    }
}

#[cfg(test)]
impl<T: Tables> ActorFile<T> {
    /// Every row of every table, as text, with what is in memory written to them.
    pub(crate) fn rows(&mut self) -> Result<Vec<String>, String> {
        let read = |file: &mut Self| {
            let key = file.key().clone();
            file.begin()?;
            let db = file.database.begun()?;
            file.tables.save(db, &key)?;
            let mut found = Vec::new();
            file.debts.make_tables(db)?;
            let all = T::blank().tables().iter().map(|table| (table.name, table.select));
            for (name, select) in all.chain([("inbox", "SELECT * FROM inbox")]) {
                let doing = "reading a table";
                let mut statement = db.prepare(select).while_(doing)?;
                let columns = statement.column_count();
                let mut rows = statement.query([]).while_(doing)?;
                while let Some(row) = rows.next().while_(doing)? {
                    let value = |at| format!("{:?}", row.get_ref(at).expect("a column"));
                    let values: Vec<String> = (0..columns).map(value).collect();
                    found.push(format!("{name}: {}", values.join(", ")));
                }
            }
            Ok::<_, Error>(found)
        };
        read(self).map_err(|error| error.to_string())
    }
}
