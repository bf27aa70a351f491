//! Answers that are kept, so that the repeat of a request hears what was said the first time.

use rusqlite::OptionalExtension;

use crate::storage::Error;
use crate::storage::While;
use crate::storage::file::ActorFile;
use crate::storage::file::Tables;
use crate::storage::file::kept;
use crate::storage::file::log;
use crate::storage::journal::Idempotent;

impl<T: Tables> ActorFile<T> {
    /// Keeps what a repeat of the request that led to event `seq` will be answered.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; this must be dropped then.
    pub fn remember(&mut self, seq: u64, answer: &Idempotent) -> Result<(), Error> {
        match self.database.keep(seq, answer) {
            true => Ok(()),
            false => kept::remember(self.database.filled()?, seq, answer),
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
            .and_then(|mut statement| statement.query_row([key], kept::kept_at).optional())
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
