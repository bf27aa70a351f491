//! Rows of the catalogue: read, written, and checked.

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::ToSql;

use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::ids::KeyHash;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::catalogue::Card;
use crate::storage::sql::name;
use crate::storage::sql::number;
use crate::storage::sql::sql_seq;
use crate::storage::sql::unknown;
use crate::storage::sum;

/// Seq of the last event of the session `hash`, as far as the catalogue knows.
pub(super) fn last_seq(reader: &Connection, hash: KeyHash) -> Result<Option<u64>, Error> {
    let found = reader
        .prepare_cached("SELECT * FROM actor WHERE hash = ?1")
        .and_then(|mut statement| statement.query_row([hash.0], card_at).optional())
        .while_("looking for a session in the catalogue");
    match found {
        // It has no witness then, which is no reason to refuse it.
        Err(Error::RowCorrupt { .. }) => Ok(None),
        found => Ok(found?.map(|card| card.last_seq)),
    }
}

/// Writes `cards`, all or none.
pub(super) fn write<'a>(
    writer: &mut Connection,
    cards: impl Iterator<Item = &'a Card>,
) -> Result<(), Error> {
    let doing = "writing the catalogue";
    let transaction = writer.transaction().while_(doing)?;
    for card in cards {
        let hash = card.key.hash().0;
        if card.ended {
            let sql = "DELETE FROM actor WHERE hash = ?1";
            transaction.prepare_cached(sql).and_then(|mut s| s.execute([hash])).while_(doing)?;
            continue;
        }
        // Never older than it is: a file may have been looked at before the last event.
        let sql = "INSERT INTO actor (hash, kind, workspace, name, summary, last_seq, created_at_ms, updated_at_ms,
                                      next_timer_ms, unfinished, sum)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                   ON CONFLICT (hash) DO UPDATE
                      SET summary = excluded.summary, last_seq = excluded.last_seq,
                          created_at_ms = excluded.created_at_ms, updated_at_ms = excluded.updated_at_ms,
                          next_timer_ms = excluded.next_timer_ms, unfinished = excluded.unfinished, sum = excluded.sum
                    WHERE excluded.last_seq >= actor.last_seq";
        let values: &[&dyn ToSql] = &[
            &hash.as_slice(),
            &card.key.kind().as_str(),
            &card.key.workspace(),
            &card.key.id(),
            &card.summary,
            &sql_seq(card.last_seq),
            &card.created_at_ms,
            &card.updated_at_ms,
            &card.next_timer_ms,
            &card.unfinished,
        ];
        sum::write(&transaction, "actor", sql, values).while_(doing)?;
    }
    transaction.commit().while_(doing)
}

/// Everything that can be wrong with the catalogue; `version` is the present one.
pub(super) fn check(connection: &Connection, version: usize) -> Result<(), Error> {
    structure(connection)?;
    let is: usize = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .while_("checking the catalogue")?;
    // An earlier version has no checksums yet.
    if is == version { all(connection) } else { Ok(()) }
}

/// Checks how the database is built.
pub(super) fn structure(connection: &Connection) -> Result<(), Error> {
    let problem: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .while_("checking the catalogue")?;
    if problem == "ok" { Ok(()) } else { Err(Error::FileCorrupt { problem }) }
}

/// Verifies every row.
pub(super) fn all(connection: &Connection) -> Result<(), Error> {
    let doing = "checking the catalogue";
    let mut statement = connection.prepare("SELECT * FROM actor").while_(doing)?;
    let mut rows = statement.query([]).while_(doing)?;
    while let Some(row) = rows.next().while_(doing)? {
        sum::verify("actor", row).while_(doing)?;
    }
    Ok(())
}

/// How far each session goes whose row is what was written.
pub(super) fn reached(connection: &Connection) -> Result<Vec<(Key, u64)>, Error> {
    let doing = "reading the catalogue";
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'actor')";
    let is_present: bool = connection.query_row(sql, [], |row| row.get(0)).while_(doing)?;
    // Before the first start of this version, sessions alone have a table.
    let sql = match is_present {
        true => "SELECT * FROM actor",
        false => "SELECT * FROM session",
    };
    let mut statement = connection.prepare(sql).while_(doing)?;
    let mut rows = statement.query([]).while_(doing)?;
    let mut reached = Vec::new();
    while let Some(row) = rows.next().while_(doing)? {
        let found = match is_present {
            true => card_at(row).map(|card| (card.key, card.last_seq)),
            false => session_at(row),
        };
        reached.extend(found.ok());
    }
    Ok(reached)
}

/// A row of the table that there was before `actor`: which session, and its last event.
fn session_at(row: &Row<'_>) -> rusqlite::Result<(Key, u64)> {
    let [_, workspace, id, _, _, _, _, last_seq, _, _, _, _, _, _] = sum::verified("session", row)?;
    Ok((Key::session(&name(1, workspace)?, &name(2, id)?), number(last_seq)?))
}

/// Removes every row that is not what was written, and notes that some sessions may be missing.
pub(super) fn mend(writer: &mut Connection) -> Result<(), Error> {
    let doing = "mending the catalogue";
    let transaction = writer.transaction().while_(doing)?;
    transaction.execute("UPDATE state SET complete = 0", []).while_(doing)?;
    let mut damaged: Vec<Vec<u8>> = Vec::new();
    {
        let mut statement = transaction.prepare("SELECT * FROM actor").while_(doing)?;
        let mut rows = statement.query([]).while_(doing)?;
        while let Some(row) = rows.next().while_(doing)? {
            if card_at(row).is_err() {
                damaged.push(row.get(0).while_(doing)?);
            }
        }
    }
    for hash in damaged {
        let sql = "DELETE FROM actor WHERE hash = ?1";
        transaction.execute(sql, [hash]).while_(doing)?;
    }
    transaction.commit().while_(doing)
}

/// The session that a row of `SELECT * FROM actor` is about.
pub(super) fn key_at(row: &Row<'_>) -> rusqlite::Result<Key> {
    card_at(row).map(|card| card.key)
}

/// Reads and verifies a row of `SELECT * FROM actor`.
pub(super) fn card_at(row: &Row<'_>) -> rusqlite::Result<Card> {
    let [_, kind, workspace, id, summary, last_seq, created, updated, next_timer_ms, unfinished] =
        sum::verified("actor", row)?;
    let kind = ActorKind::from_name(kind.as_str()?).ok_or_else(|| unknown(1, kind))?;
    Ok(Card {
        key: Key::new(kind, name(2, workspace)?, name(3, id)?),
        summary: summary.as_str()?.to_owned(),
        last_seq: number(last_seq)?,
        created_at_ms: created.as_i64()?,
        updated_at_ms: updated.as_i64()?,
        next_timer_ms: next_timer_ms.as_i64_or_null()?,
        unfinished: unfinished.as_i64()? != 0,
        ended: false,
    })
}
