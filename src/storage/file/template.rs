//! The empty file that every new one of its kind is a copy of, and the migrations that make it.

use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite_migration::M;
use rusqlite_migration::Migrations;

use crate::storage::Error;
use crate::storage::While;
use crate::storage::file::Table;
use crate::storage::schema;
use crate::storage::sum;

/// The version that this program writes.
pub(super) fn version(steps: &[M<'_>]) -> i64 {
    i64::try_from(steps.len()).expect("a handful of steps")
}

/// The version that the file has.
pub(super) fn version_of(connection: &Connection) -> Result<i64, Error> {
    connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .while_("reading the schema version")
}

/// Brings a file to the present schema, step by step, each in a transaction of its own; whether that changed it.
///
/// # Errors
///
/// [`Error::TooNew`] for a file of a newer program; [`Error::Sqlite`] when a step fails, the file then keeps the
/// version before it.
pub(super) fn migrate(
    connection: &mut Connection,
    steps: &'static [M<'static>],
) -> Result<bool, Error> {
    let (is, known) = (version_of(connection)?, version(steps));
    if is > known {
        return Err(Error::TooNew { is, known });
    }
    if is == known {
        return Ok(false);
    }
    sum::add_function(connection)?;
    let spill = |connection: &Connection, sql| {
        connection.execute_batch(sql).while_("setting up a migration")
    };
    // A step rewrites whole tables: what does not fit the cache goes into the log, however large the file is.
    spill(connection, "PRAGMA cache_spill = ON")?;
    Migrations::from_slice(steps).to_latest(connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => {
            Error::Sqlite { doing: "migrating the schema", source: err }
        }
        other => Error::FileCorrupt { problem: other.to_string() },
    })?;
    spill(connection, "PRAGMA cache_spill = OFF")?;
    Ok(true)
}

/// The bytes of an empty file in the present schema, without those of `tables` that are made later.
///
/// # Errors
///
/// [`Error::Sqlite`] when SQLite cannot make it, which only a broken build does.
pub(super) fn bytes(steps: &'static [M<'static>], tables: &[Table]) -> Result<Vec<u8>, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_in_memory_with_flags(flags).while_("opening a database in memory")?;
    migrate(&mut connection, steps)?;
    schema::unmake(&connection, tables)?;
    // Without the pages that only the steps needed.
    connection.execute_batch("VACUUM").while_("making the template small")?;
    Ok(connection.serialize("main").while_("serialising the template")?.to_vec())
}

/// Marks a serialised database as one in WAL mode; in memory SQLite only knows the other mode.
///
/// Bytes 18 and 19 are the write and read version: 1 rollback journal, 2 WAL. Source: SQLite's file format, 1.3.
pub(super) fn set_wal(bytes: &mut [u8]) {
    bytes[18..20].fill(2);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::file::Tables as _;
    use crate::storage::session::SessionTables;

    #[test]
    fn people_find_messages_and_items_under_common_names() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, SessionTables::blank().steps()).unwrap();
        let insert = "INSERT INTO item (sequence, id, body, message_id, created_at_ms) VALUES (1, 'i', '{}', NULL, 2500)";
        connection.execute(insert, ()).unwrap();
        let row = connection.query_row(
            "SELECT id, item_data, sequence, created_at, session_id IS NULL FROM session_items",
            (),
            |row| {
                let texts: (String, String) = (row.get(0)?, row.get(1)?);
                let numbers: (i64, i64, bool) = (row.get(2)?, row.get(3)?, row.get(4)?);
                Ok((texts, numbers))
            },
        );
        assert_eq!(row.unwrap(), (("i".to_owned(), "{}".to_owned()), (1, 2, true)));
    }
}
