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

/// The view without rows that is in the place of `table` of `connection` until that is made.
fn stand_in(connection: &Connection, table: &str) -> rusqlite::Result<Object> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let column = |row: &Row<'_>| Ok(format!("0 AS {}", row.get::<_, String>(0)?));
    let columns: Vec<String> = statement.query_map([table], column)?.collect::<Result<_, _>>()?;
    let sql = format!("CREATE VIEW {table} AS SELECT {} WHERE 0", columns.join(", "));
    Ok(Object("view".to_owned(), table.to_owned(), table.to_owned(), Some(sql)))
}

/// Puts views without rows into the place of these `tables`.
pub(super) fn unmake(
    connection: &Connection,
    tables: impl Iterator<Item = &'static str>,
) -> Result<Vec<Object>, Error> {
    let unmake = |table| {
        let view = stand_in(connection, table)?;
        let sql = format!("DROP TABLE {table}; {}", view.3.as_deref().unwrap_or_default());
        connection.execute_batch(&sql)?;
        Ok::<_, rusqlite::Error>(view)
    };
    tables.map(unmake).collect::<Result<Vec<_>, _>>().while_("making an empty database")
}

/// Makes the tables of `expected` in whose place `views` are, if they are.
pub(super) fn make(
    connection: &Connection,
    expected: &[Object],
    views: &[Object],
) -> Result<(), Error> {
    let doing = "making tables";
    let Some(first) = views.first() else { return Ok(()) };
    let is_view: bool = connection
        .prepare_cached("SELECT count(*) FROM sqlite_schema WHERE name = ?1 AND type = 'view'")
        .and_then(|mut statement| statement.query_row([&first.1], |row| row.get(0)))
        .while_(doing)?;
    if !is_view {
        return Ok(());
    }
    for view in views {
        connection.execute_batch(&format!("DROP VIEW {}", view.1)).while_(doing)?;
    }
    let is_wanted = |object: &&Object| views.iter().any(|view| view.1 == object.2);
    for kind in ["table", "index"] {
        let of_kind = expected.iter().filter(is_wanted).filter(|object| object.0 == kind);
        for sql in of_kind.filter_map(|object| object.3.as_deref()) {
            connection.execute_batch(sql).while_(doing)?;
        }
    }
    Ok(())
}

/// Compares the schema of `connection` with `expected`, or with what it is before the tables in whose place `views` are
/// were made. What else is there is nobody's business.
///
/// # Errors
///
/// [`Error::FileCorrupt`] when something is missing or another.
pub(super) fn check(
    connection: &Connection,
    expected: &[Object],
    views: &[Object],
) -> Result<(), Error> {
    let doing = "reading a schema";
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name = ?1";
    let mut statement = connection.prepare(sql).while_(doing)?;
    let mut called = |name: &str| {
        let found = statement.query_map([name], object);
        found.and_then(Iterator::collect::<Result<Vec<Object>, _>>).while_(doing)
    };
    for wanted in expected {
        let is = called(&wanted.1)?;
        let view = views.iter().find(|view| view.1 == wanted.2);
        let stands_in = match view {
            Some(view) if wanted.1 == view.1 => is == [view.clone()],
            Some(view) => is.is_empty() && called(&view.1)? == [view.clone()],
            None => false,
        };
        if !stands_in && is != [wanted.clone()] {
            let problem = format!("its schema has another `{}` than this program makes", wanted.1);
            return Err(Error::FileCorrupt { problem });
        }
    }
    Ok(())
}
