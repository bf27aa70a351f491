//! What the rows of a session say of each other.

use rusqlite::Connection;

use crate::domain::session::Head;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::session::message::MessageRow;
use crate::storage::sql::sql_seq;

/// No message of the history is missing, and none of its parts.
pub(super) fn history(connection: &Connection, head: &Head) -> Result<(), Error> {
    let doing = "reading the history";
    let mut statement = connection.prepare("SELECT * FROM message ORDER BY seq").while_(doing)?;
    let mut parts =
        connection.prepare("SELECT count(*) FROM part WHERE message_seq = ?1").while_(doing)?;
    let mut rows = statement.query([]).while_(doing)?;
    let mut position = 0;
    let missing = |table, row: u64| Err(Error::RowMissing { table, row: row.to_string() });
    while let Some(row) = rows.next().while_(doing)? {
        let row = MessageRow::at(row).while_(doing)?;
        let seq = row.message.seq;
        let count: usize = parts.query_row([sql_seq(seq)], |row| row.get(0)).while_(doing)?;
        if count != row.part_count {
            return missing("part", seq);
        }
        if row.branch == 0 {
            if row.position != position {
                return missing("message", seq);
            }
            position += 1;
        }
    }
    match position == head.message_count {
        true => Ok(()),
        false => Err(Error::RowMissing { table: "message", row: "at the end".to_owned() }),
    }
}

/// No item is missing.
pub(super) fn items(connection: &Connection, head: &Head) -> Result<(), Error> {
    let count: u64 = connection
        .query_row("SELECT count(*) FROM item", [], |row| row.get(0))
        .while_("counting items")?;
    match count == head.item_count {
        true => Ok(()),
        false => {
            let row = format!("{} of {}", count + 1, head.item_count);
            Err(Error::RowMissing { table: "item", row })
        }
    }
}
