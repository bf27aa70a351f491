//! The full check of a session file: its structure, every row, the log, and what rows say of each other.

use std::sync::OnceLock;

use rusqlite::Connection;

use crate::base::Classify;
use crate::base::Key;
use crate::base::Kind;
use crate::domain::session::Head;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::schema;
use crate::storage::schema::Object;
use crate::storage::session::message::MessageRow;
use crate::storage::session::read;
use crate::storage::session::read::Chain;
use crate::storage::session::template;
use crate::storage::sum;

/// Findings after which a check gives up: the rest of such a file is no better.
const FINDINGS_MAX: usize = 10;

/// Every table, and how to read it whole.
const TABLES: &[(&str, &str)] = &[
    ("meta", "SELECT * FROM meta"),
    ("event", "SELECT * FROM event"),
    ("message", "SELECT * FROM message"),
    ("part", "SELECT * FROM part"),
    ("turn", "SELECT * FROM turn"),
    ("idempotency", "SELECT * FROM idempotency"),
    ("timer", "SELECT * FROM timer"),
    ("item", "SELECT * FROM item"),
];

/// Checks how the database is built: its pages, its trees, and that each index knows each row.
///
/// # Errors
///
/// [`Error::FileCorrupt`] with what SQLite found; [`Error::Sqlite`] when it could not even look.
pub(super) fn structure(connection: &Connection) -> Result<(), Error> {
    let problem: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .while_("checking a session file")?;
    if problem != "ok" {
        return Err(Error::FileCorrupt { problem });
    }
    // An empty file is a whole database without tables, and would be given some.
    let is_session = connection
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'", [], |row| row.get(0))
        .while_("checking a session file")?;
    match is_session {
        true => Ok(()),
        false => Err(Error::FileCorrupt { problem: "it holds no session".to_owned() }),
    }
}

/// Everything that is wrong with the rows of a file in the present schema, up to a handful of findings.
///
/// # Errors
///
/// Whatever kept it from looking; what is wrong with the file is in the list.
pub(super) fn rows(connection: &Connection, key: Option<&Key>) -> Result<Vec<Error>, Error> {
    let mut findings = Findings(Vec::new());
    let head = match read::meta(connection) {
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
    findings.note(schema::check(connection, expected_schema()?))?;
    for (table, sql) in TABLES {
        findings.note(sums(connection, table, sql))?;
    }
    findings.note(log(connection, head.as_ref()))?;
    if let Some(head) = &head {
        findings.note(history(connection, head))?;
        findings.note(items(connection, head))?;
    }
    Ok(findings.0)
}

struct Findings(Vec<Error>);

impl Findings {
    /// Notes damage; any other error is handed back.
    fn note(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            Err(error) if error.kind() == Kind::Corrupt => {
                let text = error.to_string();
                let known = self.0.iter().any(|found| found.to_string() == text);
                if !known && self.0.len() < FINDINGS_MAX {
                    self.0.push(error);
                }
                Ok(())
            }
            other => other,
        }
    }
}

fn expected_schema() -> Result<&'static [Object], Error> {
    static SCHEMA: OnceLock<Vec<Object>> = OnceLock::new();
    if let Some(schema) = SCHEMA.get() {
        return Ok(schema);
    }
    let made = schema::made_by(template::migrate)?;
    Ok(SCHEMA.get_or_init(|| made))
}

/// Every row of `table` is what was written.
fn sums(connection: &Connection, table: &'static str, sql: &'static str) -> Result<(), Error> {
    let doing = "reading a table of a session file";
    let mut statement = connection.prepare(sql).while_(doing)?;
    let mut rows = statement.query([]).while_(doing)?;
    while let Some(row) = rows.next().while_(doing)? {
        sum::verify(table, row).while_(doing)?;
    }
    Ok(())
}

/// The log is a chain that ends where it must.
fn log(connection: &Connection, head: Option<&Head>) -> Result<(), Error> {
    let doing = "reading the log";
    let log_start = head.map_or(u64::MAX, |head| head.log_start);
    let mut chain = Chain { previous: Some([0; 16]), seq: 0, log_start };
    let mut statement = connection.prepare("SELECT * FROM event ORDER BY seq").while_(doing)?;
    let mut rows = statement.query([]).while_(doing)?;
    while let Some(row) = rows.next().while_(doing)? {
        chain.take(row)?;
    }
    match head {
        Some(head) if head.last_seq != chain.seq => {
            let row = (chain.seq.min(head.last_seq) + 1).to_string();
            Err(Error::RowMissing { table: "event", row })
        }
        _ => Ok(()),
    }
}

/// No message of the history is missing, and none of its parts.
fn history(connection: &Connection, head: &Head) -> Result<(), Error> {
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
        let count: usize = parts.query_row([read::sql_seq(seq)], |row| row.get(0)).while_(doing)?;
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

fn items(connection: &Connection, head: &Head) -> Result<(), Error> {
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
