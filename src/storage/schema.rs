//! What a database must hold: tables, indexes and views are those that this program's migrations make.

use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite::Row;

use crate::storage::Error;
use crate::storage::While;
use crate::storage::file::StandIn;
use crate::storage::file::Table;

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

/// Puts what stands in for them into the place of those of `tables` that are made later.
pub(super) fn unmake(connection: &Connection, tables: &[Table]) -> Result<(), Error> {
    let doing = "making an empty database";
    for (_, stand_in) in made_later(tables) {
        connection.execute_batch(stand_in.drop_table).while_(doing)?;
        connection.execute_batch(stand_in.create).while_(doing)?;
    }
    Ok(())
}

impl StandIn {
    /// What it is in the schema.
    fn object(&self, name: &str) -> Object {
        let name = name.to_owned();
        Object("view".to_owned(), name.clone(), name, Some(self.create.to_owned()))
    }
}

/// Those of `tables` that are made when something is first written to them, and what stands in for them.
fn made_later(tables: &[Table]) -> impl Iterator<Item = (&Table, &StandIn)> {
    tables.iter().filter_map(|table| Some((table, table.stand_in.as_ref()?)))
}

/// Makes those of `tables` for which something stands in, as they are in `expected`.
pub(super) fn make(
    connection: &Connection,
    tables: &[Table],
    expected: &[Object],
) -> Result<(), Error> {
    let doing = "making tables";
    let Some((first, _)) = made_later(tables).next() else { return Ok(()) };
    let is_view: bool = connection
        .prepare_cached("SELECT count(*) FROM sqlite_schema WHERE name = ?1 AND type = 'view'")
        .and_then(|mut statement| statement.query_row([first.name], |row| row.get(0)))
        .while_(doing)?;
    if !is_view {
        return Ok(());
    }
    for (_, stand_in) in made_later(tables) {
        connection.execute_batch(stand_in.drop).while_(doing)?;
    }
    let is_wanted = |object: &&Object| made_later(tables).any(|(table, _)| table.name == object.2);
    for kind in ["table", "index"] {
        let of_kind = expected.iter().filter(is_wanted).filter(|object| object.0 == kind);
        for sql in of_kind.filter_map(|object| object.3.as_deref()) {
            connection.execute_batch(sql).while_(doing)?;
        }
    }
    Ok(())
}

/// Compares the schema of `connection` with `expected`, or with what it is before those of `tables` are made for which
/// something stands in. What else is there is nobody's business.
///
/// # Errors
///
/// [`Error::FileCorrupt`] when something is missing or another.
pub(super) fn check(
    connection: &Connection,
    expected: &[Object],
    tables: &[Table],
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
        let stands_in = match made_later(tables).find(|(table, _)| table.name == wanted.2) {
            Some((table, stand_in)) => {
                let is_table = wanted.1 == table.name;
                (is_table || is.is_empty()) && called(table.name)? == [stand_in.object(table.name)]
            }
            None => false,
        };
        if !stands_in && is != [wanted.clone()] {
            let problem = format!("its schema has another `{}` than this program makes", wanted.1);
            return Err(Error::FileCorrupt { problem });
        }
    }
    Ok(())
}
