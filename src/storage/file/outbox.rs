//! What an actor tells others: rows that are written with the events that they follow from, and go once they were heard.
//!
//! A row follows from its event alone, so it is durable when that is, and comes back when a file is made anew. That it was
//! heard is in the receiver's log: each of its events that came of a letter says whose and which. So a letter is sent at
//! least once, and heard once, whatever dies in between; the sender forgets it when the receiver says how far it has heard.
//! Both tables are made when they are first used: most actors tell nobody anything.

use std::collections::BTreeMap;

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::ToSql;
use rusqlite::params;

use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::ids::KeyHash;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::file::ActorFile;
use crate::storage::file::Tables;
use crate::storage::sql::name;
use crate::storage::sql::number;
use crate::storage::sql::sql_seq;
use crate::storage::sql::unknown;
use crate::storage::sum;

/// Letters that may follow from one event; their numbers are those of the event times this, and on.
const PER_EVENT: u64 = 256;
/// Letters that are read at once, and about how many bytes.
const LETTERS_MAX: usize = 128;
const LETTERS_BYTES: usize = 64 << 10;

const CREATE: &str = "
    CREATE TABLE IF NOT EXISTS outbox (
      number    INTEGER PRIMARY KEY,          -- grows: the order in which the receiver hears
      kind      TEXT    NOT NULL,             -- of the receiver, as its workspace and name
      workspace TEXT    NOT NULL,
      name      TEXT    NOT NULL,
      slot      TEXT,                         -- of two in one slot only the later one is worth hearing
      body      TEXT    NOT NULL,
      sum       INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS inbox (
      sender    BLOB    PRIMARY KEY,
      number    INTEGER NOT NULL,             -- of the last letter that was heard
      sum       INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// What one actor tells another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tell {
    /// Whom.
    pub to: Key,
    /// If set, an earlier one in the same slot that was not heard yet need not be heard any more.
    pub slot: Option<&'static str>,
    /// What, as the receiver's kind reads it.
    pub body: String,
}

/// A row of the outbox on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its number among those of its sender.
    pub number: u64,
    /// What it says.
    pub body: String,
}

/// What a file owes: to whom, and how many.
#[derive(Debug, Default)]
pub(super) struct Debts {
    receivers: BTreeMap<KeyHash, (Key, usize)>,
    /// Whether the tables are there.
    has_tables: bool,
}

fn receiver_at(row: &Row<'_>) -> rusqlite::Result<(Letter, Key)> {
    let [letter, kind, workspace, id, _, body] = sum::verified("outbox", row)?;
    let kind = ActorKind::from_name(kind.as_str()?).ok_or_else(|| unknown(1, kind))?;
    let letter = Letter { number: number(letter)?, body: body.as_str()?.to_owned() };
    Ok((letter, Key::new(kind, name(2, workspace)?, name(3, id)?)))
}

impl Debts {
    /// What the file owes.
    pub(super) fn load(db: &Connection) -> Result<Self, Error> {
        let doing = "looking for an outbox";
        let has_tables = db
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'outbox')")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .while_(doing)?;
        let mut debts = Self { receivers: BTreeMap::new(), has_tables };
        if !has_tables {
            return Ok(debts);
        }
        let mut statement = db.prepare("SELECT * FROM outbox ORDER BY number").while_(doing)?;
        let mut rows = statement.query([]).while_(doing)?;
        while let Some(row) = rows.next().while_(doing)? {
            let (_, to) = receiver_at(row).while_(doing)?;
            debts.receivers.entry(to.hash()).or_insert((to, 0)).1 += 1;
        }
        Ok(debts)
    }

    pub(super) fn make_tables(&mut self, db: &Connection) -> Result<(), Error> {
        if !self.has_tables {
            db.execute_batch(CREATE).while_("making an outbox")?;
            self.has_tables = true;
        }
        Ok(())
    }

    /// Writes what follows from event `seq`.
    pub(super) fn post(
        &mut self,
        db: &Connection,
        seq: u64,
        tells: Vec<Tell>,
    ) -> Result<(), Error> {
        let doing = "writing to an outbox";
        for (at, Tell { to, slot, body }) in (0..PER_EVENT).zip(tells) {
            self.make_tables(db)?;
            let (kind, workspace, id) = (to.kind().as_str(), to.workspace(), to.id());
            let mut gone = 0;
            if let Some(slot) = slot {
                let sql = "DELETE FROM outbox WHERE slot = ?1 AND kind = ?2 AND workspace = ?3 AND name = ?4";
                let mut statement = db.prepare_cached(sql).while_(doing)?;
                gone = statement.execute(params![slot, kind, workspace, id]).while_(doing)?;
            }
            let sql = "INSERT INTO outbox (number, kind, workspace, name, slot, body, sum)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let letter = sql_seq(seq * PER_EVENT + at);
            let values: &[&dyn ToSql] = &[&letter, &kind, &workspace, &id, &slot, &body];
            sum::write(db, "outbox", sql, values).while_(doing)?;
            let owed = self.receivers.entry(to.hash()).or_insert((to, 0));
            owed.1 = owed.1 + 1 - gone.min(owed.1);
        }
        Ok(())
    }
}

/// Verifies both tables, if they are there.
pub(super) fn check(db: &Connection) -> Result<(), Error> {
    let doing = "reading an outbox";
    if !Debts::load(db)?.has_tables {
        return Ok(());
    }
    for (table, sql) in [("outbox", "SELECT * FROM outbox"), ("inbox", "SELECT * FROM inbox")] {
        let mut statement = db.prepare(sql).while_(doing)?;
        let mut rows = statement.query([]).while_(doing)?;
        while let Some(row) = rows.next().while_(doing)? {
            sum::verify(table, row).while_(doing)?;
        }
    }
    Ok(())
}

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
        let mut statement = self.connection.prepare_cached(sql).while_(doing)?;
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
        self.begin()?;
        let doing = "clearing an outbox";
        let sql =
            "DELETE FROM outbox WHERE kind = ?1 AND workspace = ?2 AND name = ?3 AND number <= ?4";
        let mut statement = self.connection.prepare_cached(sql).while_(doing)?;
        let values = params![to.kind().as_str(), to.workspace(), to.id(), sql_seq(through)];
        let gone = statement.execute(values).while_(doing)?;
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
            .connection
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
        self.debts.make_tables(&self.connection)?;
        let sql = "INSERT OR REPLACE INTO inbox (sender, number, sum) VALUES (?1, ?2, ?3)";
        let values: &[&dyn ToSql] = &[&sender.0.as_slice(), &sql_seq(number)];
        sum::write(&self.connection, "inbox", sql, values).while_("noting what was heard")
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
