//! What a database must hold: tables, indexes and views are those that this program's migrations make.

use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::Row;

use crate::storage::Error;
use crate::storage::While;

/// Type, name, table and SQL of what is in a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object(String, String, String, Option<String>);

fn object(row: &Row<'_>) -> rusqlite::Result<Object> {
    Ok(Object(row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

/// What `migrate` makes of an empty database.
pub(super) fn made_by<T>(
    migrate: impl FnOnce(&mut Connection) -> Result<T, Error>,
) -> Result<Vec<Object>, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let doing = "making an empty database";
    let mut connection = Connection::open_in_memory_with_flags(flags).while_(doing)?;
    migrate(&mut connection)?;
    connection
        .prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema")
        .and_then(|mut statement| statement.query_map([], object)?.collect())
        .while_(doing)
}

/// Compares the schema of `connection` with `expected`. What else is there is nobody's business.
///
/// # Errors
///
/// [`Error::FileCorrupt`] when something is missing or another.
pub(super) fn check(connection: &Connection, expected: &[Object]) -> Result<(), Error> {
    let doing = "reading a schema";
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name = ?1";
    let mut statement = connection.prepare(sql).while_(doing)?;
    for wanted in expected {
        let is: Result<Vec<Object>, _> =
            statement.query_map([&wanted.1], object).and_then(Iterator::collect);
        if is.while_(doing)? != [wanted.clone()] {
            let problem = format!("its schema has another `{}` than this program makes", wanted.1);
            return Err(Error::FileCorrupt { problem });
        }
    }
    Ok(())
}
