//! What an actor tells others: rows that are written with the events that they follow from, and go once they were heard.
//!
//! A row follows from its event alone, so it is durable when that is, and comes back when a file is made anew. That it was
//! heard is in the receiver's log: each of its events that came of a letter says whose and which. So a letter is sent at
//! least once, and heard once, whatever dies in between; the sender forgets it when the receiver says how far it has heard.
//! Both tables are made when they are first used: most actors tell nobody anything.

use std::collections::BTreeMap;

use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::ToSql;
use rusqlite::params;

use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::ids::KeyHash;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::file::Letter;
use crate::storage::file::Tell;
use crate::storage::sql::name;
use crate::storage::sql::number;
use crate::storage::sql::sql_seq;
use crate::storage::sql::unknown;
use crate::storage::sum;

/// Letters that may follow from one event; their numbers are those of the event times this, and on.
const PER_EVENT: u64 = 256;

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
    -- Serves the search for the letters to one receiver.
    CREATE INDEX IF NOT EXISTS outbox_to ON outbox (kind, workspace, name, number);
    CREATE TABLE IF NOT EXISTS inbox (
      sender    BLOB    PRIMARY KEY,
      number    INTEGER NOT NULL,             -- of the last letter that was heard
      sum       INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// What a file owes: to whom, and how many.
#[derive(Debug, Default)]
pub(super) struct Debts {
    pub(super) receivers: BTreeMap<KeyHash, (Key, usize)>,
    /// Whether the tables are there.
    pub(super) has_tables: bool,
    /// Whether letters went that are there again if what is not committed is lost.
    pub(super) has_cleared: bool,
}

pub(super) fn receiver_at(row: &Row<'_>) -> rusqlite::Result<(Letter, Key)> {
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
        let mut debts = Self { has_tables, ..Self::default() };
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
        debug_assert!(tells.len() as u64 <= PER_EVENT, "an event tells {} things", tells.len());
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
