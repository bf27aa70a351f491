//! The full check of a file: its structure, every row, the log, and what rows say of each other.

use rusqlite::Connection;

use crate::base::Key;
use crate::domain::kind::LogHead;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::file::Findings;
use crate::storage::file::Table;
use crate::storage::file::Tables;
use crate::storage::file::log::Chain;
use crate::storage::file::outbox;
use crate::storage::schema;
use crate::storage::sum;

/// Checks how the database is built: its pages, its trees, and that each index knows each row.
///
/// # Errors
///
/// [`Error::FileCorrupt`] with what SQLite found; [`Error::Sqlite`] when it could not even look.
pub(super) fn structure(db: &Connection) -> Result<(), Error> {
    let problem: String = db
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .while_("checking its file")?;
    if problem != "ok" {
        return Err(Error::FileCorrupt { problem });
    }
    // An empty file is a whole database without tables, and would be given some.
    let is_ours = db
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'", [], |row| row.get(0))
        .while_("checking its file")?;
    match is_ours {
        true => Ok(()),
        false => Err(Error::FileCorrupt { problem: "it holds no session".to_owned() }),
    }
}

/// Everything that is wrong with the rows of a file in the present schema, up to a handful of findings.
///
/// # Errors
///
/// Whatever kept it from looking; what is wrong with the file is in the list.
pub(super) fn rows<T: Tables>(db: &Connection, key: Option<&Key>) -> Result<Vec<Error>, Error> {
    let mut findings = Findings::default();
    let head = match T::meta(db) {
        Ok((of, head)) => {
            if key.is_some_and(|key| *key != of) {
                findings.0.push(Error::WrongFile);
            }
            Some(head)
        }
        Err(error) => {
            findings.note(Err(error))?;
            None
        }
    };
    findings.note(schema::check(db, T::blank().schema()?, T::blank().tables()))?;
    for table in T::blank().tables() {
        findings.note(sums(db, table))?;
    }
    findings.note(outbox::check(db))?;
    findings.note(log::<T>(db, head))?;
    if head.is_some() {
        T::check(db, &mut findings)?;
    }
    Ok(findings.0)
}

/// Every row of `table` is what was written.
fn sums(db: &Connection, table: &'static Table) -> Result<(), Error> {
    let doing = "reading a table of its file";
    let mut statement = db.prepare(table.select).while_(doing)?;
    let mut rows = statement.query([]).while_(doing)?;
    while let Some(row) = rows.next().while_(doing)? {
        sum::verify(table.name, row).while_(doing)?;
    }
    Ok(())
}

/// The log is a chain that ends where it must.
fn log<T: Tables>(db: &Connection, head: Option<LogHead>) -> Result<(), Error> {
    let doing = "reading the log";
    let log_start = head.map_or(u64::MAX, |head| head.log_start);
    let mut chain = Chain { previous: Some([0; 16]), seq: 0, log_start };
    let mut statement = db.prepare("SELECT * FROM event ORDER BY seq").while_(doing)?;
    let mut rows = statement.query([]).while_(doing)?;
    while let Some(row) = rows.next().while_(doing)? {
        chain.take::<T::Event>(row)?;
    }
    match head {
        Some(head) if head.last_seq != chain.seq => {
            let row = (chain.seq.min(head.last_seq) + 1).to_string();
            Err(Error::RowMissing { table: "event", row })
        }
        _ => Ok(()),
    }
}
