//! Checksums of rows. SQLite does not notice a bit that flips on the disk; with these every reader does.
//!
//! The last column of each table is a CRC-32 of the table's name and of the columns before it: what finds every flipped
//! bit, and costs a few nanoseconds a column. It is computed with each write, and compared with each read of a row that
//! somebody is shown or that decides something.

use crc32fast::Hasher;
use rusqlite::CachedStatement;
use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::ToSql;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ToSqlOutput;
use rusqlite::types::Type;
use rusqlite::types::ValueRef;

use crate::storage::Error;
use crate::storage::While;
use crate::storage::error::RowDamage;

/// The checksum of one row, column by column.
///
/// Columns are gathered, since a CRC of few bytes at a time is ten times as slow.
struct Sum {
    hasher: Hasher,
    gathered: [u8; 512],
    length: usize,
}

impl Sum {
    fn of(table: &str) -> Self {
        let mut sum = Self { hasher: Hasher::new(), gathered: [0; 512], length: 0 };
        sum.bytes(3, table.as_bytes());
        sum
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.length + bytes.len() > self.gathered.len() {
            self.hasher.update(&self.gathered[..self.length]);
            self.length = 0;
        }
        match self.gathered.get_mut(self.length..self.length + bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.hasher.update(bytes),
        }
    }

    /// Type and length first, so that no two different rows are the same bytes.
    fn bytes(&mut self, kind: u8, bytes: &[u8]) {
        self.push(&[kind]);
        self.push(&(bytes.len() as u64).to_le_bytes());
        self.push(bytes);
    }

    fn add(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.push(&[0]),
            ValueRef::Integer(number) => {
                self.push(&[1]);
                self.push(&number.to_le_bytes());
            }
            ValueRef::Real(number) => {
                self.push(&[2]);
                self.push(&number.to_le_bytes());
            }
            ValueRef::Text(text) => self.bytes(3, text),
            ValueRef::Blob(blob) => self.bytes(4, blob),
        }
    }

    fn finish(mut self) -> i64 {
        self.hasher.update(&self.gathered[..self.length]);
        i64::from(self.hasher.finalize())
    }
}

/// The `N` columns of `row` before its checksum, which fits them. The statement must select all columns of `table`.
pub(super) fn verified<'row, const N: usize>(
    table: &'static str,
    row: &'row Row<'_>,
) -> rusqlite::Result<[ValueRef<'row>; N]> {
    // A flipped bit in the schema is damage of every row.
    if row.as_ref().column_count() != N + 1 {
        return Err(damaged(table, "any".to_owned(), 0));
    }
    let mut values = [ValueRef::Null; N];
    let mut sum = Sum::of(table);
    for (at, value) in values.iter_mut().enumerate() {
        *value = row.get_ref(at)?;
        sum.add(*value);
    }
    compare(table, row, N, sum)?;
    Ok(values)
}

/// Verifies `row` of `table`, which has all its columns.
pub(super) fn verify(table: &'static str, row: &Row<'_>) -> rusqlite::Result<()> {
    let last = row.as_ref().column_count() - 1;
    let mut sum = Sum::of(table);
    for at in 0..last {
        sum.add(row.get_ref(at)?);
    }
    compare(table, row, last, sum)
}

fn compare(table: &'static str, row: &Row<'_>, at: usize, sum: Sum) -> rusqlite::Result<()> {
    if row.get_ref(at)? == ValueRef::Integer(sum.finish()) {
        return Ok(());
    }
    let row = match row.get_ref(0)? {
        ValueRef::Integer(key) => key.to_string(),
        ValueRef::Text(key) => String::from_utf8_lossy(key).into_owned(),
        _ => "?".to_owned(),
    };
    Err(damaged(table, row, at))
}

fn damaged(table: &'static str, row: String, at: usize) -> rusqlite::Error {
    let damage = RowDamage { table, row };
    rusqlite::Error::FromSqlConversionFailure(at, Type::Integer, Box::new(damage))
}

/// Writes rows of one table.
pub(super) struct Writer<'db> {
    statement: CachedStatement<'db>,
    table: &'static str,
}

impl<'db> Writer<'db> {
    /// One that runs `sql`, whose parameters are all columns of `table` and then their checksum.
    pub(super) fn new(
        connection: &'db Connection,
        table: &'static str,
        sql: &'static str,
    ) -> rusqlite::Result<Self> {
        Ok(Self { statement: connection.prepare_cached(sql)?, table })
    }

    /// Writes a row with these `values`.
    pub(super) fn write(&mut self, values: &[&dyn ToSql]) -> rusqlite::Result<()> {
        let Self { statement, table } = self;
        let mut sum = Sum::of(table);
        for (at, value) in values.iter().enumerate() {
            let value = value.to_sql()?;
            match &value {
                ToSqlOutput::Borrowed(value) => sum.add(*value),
                ToSqlOutput::Owned(value) => sum.add(value.into()),
                _ => return Err(rusqlite::Error::InvalidParameterName((*table).to_owned())),
            }
            statement.raw_bind_parameter(at + 1, value)?;
        }
        statement.raw_bind_parameter(values.len() + 1, sum.finish())?;
        statement.raw_execute()?;
        Ok(())
    }
}

/// Runs `sql` once, as a [`Writer`] does.
pub(super) fn write(
    connection: &Connection,
    table: &'static str,
    sql: &'static str,
    values: &[&dyn ToSql],
) -> rusqlite::Result<()> {
    Writer::new(connection, table, sql)?.write(values)
}

/// Gives `connection` the function with which a migration computes the checksums of rows that have none.
pub(super) fn add_function(connection: &Connection) -> Result<(), Error> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_DIRECTONLY;
    let row_sum = |context: &rusqlite::functions::Context<'_>| {
        let mut sum = Sum::of(context.get_raw(0).as_str()?);
        (1..context.len()).for_each(|at| sum.add(context.get_raw(at)));
        Ok(sum.finish())
    };
    connection
        .create_scalar_function("row_sum", -1, flags, row_sum)
        .while_("setting up a migration")
}
