//! The letters of a file: those that wait, those that were heard.

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::ToSql;
use rusqlite::params;

use crate::base::Key;
use crate::base::ids::KeyHash;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::file::ActorFile;
use crate::storage::file::Letter;
use crate::storage::file::Tables;
use crate::storage::file::outbox::receiver_at;
use crate::storage::sql::number;
use crate::storage::sql::sql_seq;
use crate::storage::sum;

/// Letters that are read at once, and about how many bytes.
const LETTERS_MAX: usize = 128;
const LETTERS_BYTES: usize = 64 << 10;

impl<T: Tables> ActorFile<T> {
    /// Those who have not heard everything yet that this actor tells them.
    #[must_use]
    pub fn receivers(&self) -> Vec<Key> {
        self.debts.receivers.values().map(|(to, _)| to.clone()).collect()
    }

    /// How many letters are not known to be heard.
    #[must_use]
    pub fn letters_count(&self) -> usize {
        self.debts.receivers.values().map(|(_, count)| count).sum()
    }

    /// The next letters to `to`, in their order.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn letters(&self, to: &Key) -> Result<Vec<Letter>, Error> {
        let doing = "reading an outbox";
        let sql = "SELECT * FROM outbox WHERE kind = ?1 AND workspace = ?2 AND name = ?3 ORDER BY number LIMIT ?4";
        let mut statement = self.db()?.prepare_cached(sql).while_(doing)?;
        let values = params![to.kind().as_str(), to.workspace(), to.id(), LETTERS_MAX];
        let mut rows = statement.query(values).while_(doing)?;
        let (mut letters, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next().while_(doing)? {
            let (letter, _) = receiver_at(row).while_(doing)?;
            bytes += letter.body.len();
            if bytes > LETTERS_BYTES && !letters.is_empty() {
                break;
            }
            letters.push(letter);
        }
        Ok(letters)
    }

    /// `to` has heard everything up to letter `through`; those go.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; this must be dropped then, and they are sent again.
    pub fn heard(&mut self, to: &Key, through: u64) -> Result<(), Error> {
        let doing = "clearing an outbox";
        let sql =
            "DELETE FROM outbox WHERE kind = ?1 AND workspace = ?2 AND name = ?3 AND number <= ?4";
        let values = params![to.kind().as_str(), to.workspace(), to.id(), sql_seq(through)];
        let clear = |db: &Connection| db.prepare_cached(sql)?.execute(values);
        let gone = clear(self.begin()?).while_(doing)?;
        self.debts.has_cleared = true;
        if let Some((_, count)) = self.debts.receivers.get_mut(&to.hash()) {
            *count -= gone.min(*count);
            if *count == 0 {
                self.debts.receivers.remove(&to.hash());
            }
        }
        Ok(())
    }

    /// The number of the last letter of `sender` that was heard; 0 if none was.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn heard_of(&self, sender: KeyHash) -> Result<u64, Error> {
        if !self.debts.has_tables {
            return Ok(0);
        }
        let heard = |row: &Row<'_>| {
            let [_, last] = sum::verified("inbox", row)?;
            Ok(number(last)?)
        };
        let found = self
            .db()?
            .prepare_cached("SELECT * FROM inbox WHERE sender = ?1")
            .and_then(|mut statement| statement.query_row([sender.0], heard).optional())
            .while_("looking for what was heard")?;
        Ok(found.unwrap_or(0))
    }

    /// Notes that letter `number` of `sender` was heard.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; this must be dropped then.
    pub fn hear(&mut self, sender: KeyHash, number: u64) -> Result<(), Error> {
        let db = self.database.begun()?;
        self.debts.make_tables(db)?;
        let sql = "INSERT OR REPLACE INTO inbox (sender, number, sum) VALUES (?1, ?2, ?3)";
        let values: &[&dyn ToSql] = &[&sender.0.as_slice(), &sql_seq(number)];
        sum::write(db, "inbox", sql, values).while_("noting what was heard")
    }
}

impl<T: Tables> ActorFile<T> {
    /// Copies what was heard from a damaged file: all of it, or it fails.
    pub(super) fn take_inbox(&mut self, damaged: &Connection) -> Result<(), Error> {
        let doing = "reading the inbox of a damaged file";
        let is_there: bool = damaged
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'inbox'", [], |row| {
                row.get(0)
            })
            .while_(doing)?;
        if !is_there {
            return Ok(());
        }
        let mut statement = damaged.prepare("SELECT * FROM inbox").while_(doing)?;
        let mut rows = statement.query([]).while_(doing)?;
        while let Some(row) = rows.next().while_(doing)? {
            let [sender, last] = sum::verified("inbox", row).while_(doing)?;
            let sender = sender.as_blob().ok().and_then(|hash| hash.try_into().ok());
            let number = number(last).map_err(rusqlite::Error::from).while_(doing)?;
            self.hear(KeyHash(sender.ok_or(Error::WrongFile)?), number)?;
        }
        Ok(())
    }
}
