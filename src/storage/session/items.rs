//! The rows of an agent's items.

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::params;

use crate::domain::session::Head;
use crate::domain::session::Item;
use crate::domain::session::ItemsChange;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::session::bounded::Bounded;
use crate::storage::sql::json;
use crate::storage::sql::number;
use crate::storage::sql::sql_seq;
use crate::storage::sql::unknown;
use crate::storage::sum;

/// Brings the rows up to `change`.
pub(super) fn project(
    connection: &Connection,
    head: &mut Head,
    change: &ItemsChange,
    at_ms: i64,
) -> Result<(), Error> {
    let doing = "changing items";
    let mut gone = 0;
    if let Some(from) = change.cut_from {
        gone += connection
            .prepare_cached("DELETE FROM item WHERE sequence >= ?1")
            .and_then(|mut statement| statement.execute([sql_seq(from)]))
            .while_(doing)?;
    }
    if let Some(sequence) = change.removed {
        gone += connection
            .prepare_cached("DELETE FROM item WHERE sequence = ?1")
            .and_then(|mut statement| statement.execute([sql_seq(sequence)]))
            .while_(doing)?;
    }
    for Item { sequence, id, body, message_id } in &change.items {
        let sql = "INSERT INTO item (sequence, id, body, message_id, created_at_ms, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let values: &[&dyn rusqlite::ToSql] =
            &[&sql_seq(*sequence), id, &body.as_str(), message_id, &at_ms];
        sum::write(connection, "item", sql, values).while_(doing)?;
    }
    head.item_count = (head.item_count + change.items.len() as u64).saturating_sub(gone as u64);
    Ok(())
}

/// Removes those of the items at `sequences` that message `id` shows still; how many they were.
pub(super) fn remove(
    connection: &Connection,
    sequences: impl Iterator<Item = u64>,
    id: &str,
) -> Result<usize, Error> {
    let mut gone = 0;
    for sequence in sequences {
        gone += connection
            .prepare_cached("DELETE FROM item WHERE sequence = ?1 AND message_id = ?2")
            .and_then(|mut statement| statement.execute(params![sql_seq(sequence), id]))
            .while_("removing the items of a message")?;
    }
    Ok(gone)
}

/// Reads and verifies a row of `SELECT * FROM item`.
fn item_at(row: &rusqlite::Row<'_>) -> rusqlite::Result<Item> {
    let [sequence, id, body, message_id, _] = sum::verified("item", row)?;
    Ok(Item {
        sequence: number(sequence)?,
        id: id.as_str()?.to_owned(),
        body: json(2, body)?.ok_or_else(|| unknown(2, body))?,
        message_id: message_id.as_str_or_null()?.map(str::to_owned),
    })
}

/// A page of at most `limit` items behind `sequence` (oldest first) or before it (newest first), and whether there are
/// more.
pub(super) fn page(
    connection: &Connection,
    sequence: u64,
    newer: bool,
    limit: usize,
) -> Result<(Vec<Item>, bool), Error> {
    let doing = "reading a page of items";
    let sql = match newer {
        true => "SELECT * FROM item WHERE sequence > ?1 ORDER BY sequence",
        false => "SELECT * FROM item WHERE sequence < ?1 ORDER BY sequence DESC",
    };
    let mut statement = connection.prepare_cached(sql).while_(doing)?;
    let mut rows = statement.query([sql_seq(sequence)]).while_(doing)?;
    let mut items = Bounded::of(limit);
    while !items.more
        && let Some(row) = rows.next().while_(doing)?
    {
        items.take(item_at(row).while_(doing)?, |item| item.body.as_str().len());
    }
    Ok((items.taken, items.more))
}

/// The last `limit` items, oldest first.
pub(super) fn latest(connection: &Connection, limit: usize) -> Result<Vec<Item>, Error> {
    let mut items: Vec<Item> = connection
        .prepare_cached("SELECT * FROM item ORDER BY sequence DESC LIMIT ?1")
        .and_then(|mut statement| {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            statement.query_map([limit], item_at)?.collect()
        })
        .while_("reading items")?;
    items.reverse();
    Ok(items)
}

/// The sequence before the last `limit` items.
pub(super) fn before_latest(connection: &Connection, limit: usize) -> Result<u64, Error> {
    let Ok(limit) = i64::try_from(limit) else { return Ok(0) };
    let before = connection
        .prepare_cached("SELECT sequence FROM item ORDER BY sequence DESC LIMIT 1 OFFSET ?1")
        .and_then(|mut statement| statement.query_row([limit], |row| row.get(0)).optional())
        .while_("looking for an item by its place")?;
    Ok(before.unwrap_or(0))
}

/// The item called `id`.
pub(super) fn find(connection: &Connection, id: &str) -> Result<Option<Item>, Error> {
    connection
        .prepare_cached("SELECT * FROM item WHERE id = ?1 ORDER BY sequence LIMIT 1")
        .and_then(|mut statement| statement.query_row([id], item_at).optional())
        .while_("looking for an item")
}
