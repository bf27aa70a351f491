//! Answers that are kept, so that the repeat of a request hears what was said the first time.

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::ToSql;

use crate::storage::Error;
use crate::storage::While;
use crate::storage::file::ActorFile;
use crate::storage::file::Tables;
use crate::storage::file::log;
use crate::storage::journal::Idempotent;
use crate::storage::sql::number;
use crate::storage::sql::sql_seq;
use crate::storage::sql::unknown;
use crate::storage::sum;

/// Reads and verifies a row of `SELECT * FROM idempotency`: the event, and the answer as it is kept.
pub(in crate::storage) fn kept_at(row: &Row<'_>) -> rusqlite::Result<(u64, Idempotent)> {
    let [key, request, seq, status, response] = sum::verified("idempotency", row)?;
    let kept = Idempotent {
        key: key.as_str()?.to_owned(),
        request: request.as_blob()?.try_into().map_err(|_| unknown(1, request))?,
        status: number(status)?,
        response: response.as_str_or_null()?.map(str::to_owned),
    };
    Ok((number(seq)?, kept))
}

/// Inserts what a repeat of the request that led to event `seq` will be answered.
pub(in crate::storage) fn remember(
    db: &Connection,
    seq: u64,
    kept: &Idempotent,
) -> Result<(), Error> {
    let sql = "INSERT INTO idempotency (key, request, seq, status, response, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let Idempotent { key, request, status, response } = kept;
    let values: &[&dyn ToSql] = &[key, &request.as_slice(), &sql_seq(seq), status, response];
    sum::write(db, "idempotency", sql, values).while_("keeping an answer")
}

impl<T: Tables> ActorFile<T> {
    /// Keeps what a repeat of the request that led to event `seq` will be answered.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; this must be dropped then.
    pub fn remember(&mut self, seq: u64, kept: &Idempotent) -> Result<(), Error> {
        match self.database.keep(seq, kept) {
            true => Ok(()),
            false => remember(self.database.filled()?, seq, kept),
        }
    }

    /// What was answered to the request with idempotency key `key`, and seq of the first event that it led to.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn answered(&self, key: &str) -> Result<Option<(Idempotent, u64)>, Error> {
        let complete = |kept: Idempotent, frame: &str| {
            let response = kept.response.or_else(|| Some(T::answer_of(frame).to_owned()));
            Idempotent { response, ..kept }
        };
        if let Some((seq, kept, frame)) = self.database.kept(key) {
            return Ok(Some((complete(kept, &frame), seq)));
        }
        let Some(db) = self.database.as_is() else { return Ok(None) };
        let found = db
            .prepare_cached("SELECT * FROM idempotency WHERE key = ?1")
            .and_then(|mut statement| statement.query_row([key], kept_at).optional())
            .while_("looking for an earlier answer")?;
        let Some((seq, kept)) = found else { return Ok(None) };
        if kept.response.is_some() {
            return Ok(Some((kept, seq)));
        }
        let missing = || Error::RowMissing { table: "event", row: seq.to_string() };
        let event = log::event::<T::Event>(db, seq)?.ok_or_else(missing)?;
        Ok(Some((complete(kept, &event.body), seq)))
    }
}
