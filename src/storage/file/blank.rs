//! Databases in memory for new actors, each used again once its actor is in a file.
//!
//! Reading the schema and preparing statements takes longer than writing the rows of a new session. So a database that
//! served one is emptied and kept for another, with its statements. It is kept only if it is, byte for byte, the empty
//! one that it began as: nothing of a session can come into another one.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;

use rusqlite::Connection;
use rusqlite::OpenFlags;
use rusqlite_migration::M;

use crate::storage::Error;
use crate::storage::While;
use crate::storage::file::Table;
use crate::storage::file::template;
use crate::storage::schema;
use crate::storage::schema::Object;

const SETTINGS: &str = "
    PRAGMA journal_mode = OFF;
    PRAGMA cache_size = -32;
    PRAGMA secure_delete = ON;
    PRAGMA trusted_schema = OFF;
    PRAGMA temp_store = MEMORY;
";
/// Size of a page: SQLite's default.
const PAGE_BYTES: usize = 4_096;
/// Prepared statements that a connection keeps: those that write, and those that empty it.
const STATEMENTS_MAX: usize = 40;
/// Databases that wait for a session: as many as begin while those of the seconds before get their files.
const KEPT_MAX: usize = 1_024;
/// Of those that nobody wanted for a while, one in so many goes.
const TRIMMED: usize = 4;

#[derive(Debug)]
struct Kept {
    waiting: Vec<Connection>,
    /// The fewest that waited since [`trim`] looked.
    fewest: usize,
}

impl Kept {
    /// Those that go.
    fn trimmed(&mut self) -> Vec<Connection> {
        let waiting = self.waiting.len();
        let left = waiting - self.fewest.min(waiting).div_ceil(TRIMMED);
        self.fewest = left;
        self.waiting.split_off(left)
    }
}

/// The empty databases of one kind of actor: what every new file is a copy of, and those that wait for an actor.
#[derive(Debug)]
pub struct Blank {
    steps: &'static [M<'static>],
    tables: &'static [Table],
    /// With every table.
    full: Shape,
    /// Without those that are made when something is first written to them.
    slim: Shape,
    schema: OnceLock<Vec<Object>>,
}

/// One of the two ways in which a file begins.
#[derive(Debug)]
struct Shape {
    kept: Mutex<Kept>,
    template: OnceLock<Vec<u8>>,
}

impl Shape {
    const fn new() -> Self {
        let kept = Mutex::new(Kept { waiting: Vec::new(), fewest: 0 });
        Self { kept, template: OnceLock::new() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blank {
    /// Those that `steps` make from nothing, which `user_version` counts, with these `tables`.
    #[must_use]
    pub const fn new(steps: &'static [M<'static>], tables: &'static [Table]) -> Self {
        Self { steps, tables, full: Shape::new(), slim: Shape::new(), schema: OnceLock::new() }
    }

    /// What makes the schema.
    pub(super) fn steps(&self) -> &'static [M<'static>] {
        self.steps
    }

    /// Every table that the steps make.
    pub(super) fn tables(&self) -> &'static [Table] {
        self.tables
    }

    /// The bytes of an empty file in the present schema, made once per process.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when SQLite cannot make it, which only a broken build does.
    fn template<'a>(&self, shape: &'a Shape) -> Result<&'a [u8], Error> {
        if let Some(bytes) = shape.template.get() {
            return Ok(bytes);
        }
        let is_slim = std::ptr::eq(shape, &raw const self.slim);
        let made = template::bytes(self.steps, if is_slim { self.tables } else { &[] })?;
        Ok(shape.template.get_or_init(|| made))
    }

    /// Makes the tables in `db` that nobody needed yet.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`].
    pub(super) fn fill(&self, db: &Connection) -> Result<(), Error> {
        schema::make(db, self.tables, self.schema()?)
    }

    /// What is in the schema of such a file.
    pub(super) fn schema(&self) -> Result<&[Object], Error> {
        if let Some(schema) = self.schema.get() {
            return Ok(schema);
        }
        let made = schema::made_by(|connection| template::migrate(connection, self.steps))?;
        Ok(self.schema.get_or_init(|| made))
    }

    /// An empty database, `full` or without the tables that are made later.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when memory does not suffice.
    pub(super) fn take(&self, full: bool) -> Result<Connection, Error> {
        let shape = if full { &self.full } else { &self.slim };
        let waiting = {
            let mut kept = shape.kept();
            let waiting = kept.waiting.pop();
            kept.fewest = kept.fewest.min(kept.waiting.len());
            waiting
        };
        if let Some(connection) = waiting {
            return Ok(connection);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let doing = "making a database in memory";
        let mut connection = Connection::open_in_memory_with_flags(flags).while_(doing)?;
        let template = self.template(shape)?;
        connection.deserialize_read_exact("main", template, template.len(), false).while_(doing)?;
        connection.execute_batch(SETTINGS).while_(doing)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        Ok(connection)
    }

    /// Keeps `connection`, whose actor is in a file, for another one, if it can be emptied.
    pub(super) fn give_back(&self, connection: Connection) {
        if let Ok(Some(shape)) = self.empty(&connection) {
            let mut kept = shape.kept();
            if kept.waiting.len() < KEPT_MAX {
                kept.waiting.push(connection);
            }
        }
    }

    /// Gives memory back for which there was no need since the last call; to be called every second or so.
    pub fn trim(&self) {
        for shape in [&self.full, &self.slim] {
            let unwanted = shape.kept().trimmed();
            // Not under the lock: closing them takes a while.
            drop(unwanted);
        }
    }

    /// Empties the database; of which shape it is again, if of one.
    fn empty(&self, connection: &Connection) -> Result<Option<&Shape>, Error> {
        let doing = "emptying a database in memory";
        let pages: usize = connection
            .prepare_cached("PRAGMA page_count")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .while_(doing)?;
        let is_slim = pages * PAGE_BYTES == self.template(&self.slim)?.len();
        connection.execute_batch("BEGIN").while_(doing)?;
        for table in self.tables.iter().filter(|table| !is_slim || table.stand_in.is_none()) {
            let mut statement = connection.prepare_cached(table.empty).while_(doing)?;
            statement.execute([]).while_(doing)?;
        }
        connection.execute_batch("COMMIT").while_(doing)?;
        let bytes = connection.serialize("main").while_(doing)?;
        let shape = if is_slim { &self.slim } else { &self.full };
        Ok(is_blank(&bytes, self.template(shape)?).then_some(shape))
    }
}

/// Whether `bytes` are those of `template`, but for what says how often they were changed, and by which SQLite. Source:
/// SQLite's file format, 1.3.
fn is_blank(bytes: &[u8], template: &[u8]) -> bool {
    bytes.len() == template.len()
        && bytes[..24] == template[..24]
        && bytes[28..92] == template[28..92]
        && bytes[100..] == template[100..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::file::Tables as _;
    use crate::storage::session::SessionTables;

    #[test]
    fn every_table_is_emptied_and_what_is_left_is_the_template() {
        let blank = SessionTables::blank();
        let connection = blank.take(true).expect("a database");
        let tables: Vec<String> = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")
            .and_then(|mut s| s.query_map([], |row| row.get(0))?.collect())
            .expect("its tables");
        for table in &tables {
            let is = |known: &&Table| known.name == table;
            let known = blank.tables().iter().find(is).expect(table);
            assert_eq!(known.empty.strip_prefix("DELETE FROM "), Some(table.as_str()));
            assert_eq!(known.select.strip_prefix("SELECT * FROM "), Some(table.as_str()));
        }
        assert_eq!(tables.len(), blank.tables().len());

        let secret = "something that one session said";
        let write = |count: usize| {
            for n in 0..count {
                let sql =
                    "INSERT INTO item (sequence, id, body, created_at_ms) VALUES (?1, ?2, ?2, 0)";
                connection
                    .execute(sql, rusqlite::params![n, format!("{secret} {n}")])
                    .expect("written");
            }
        };
        let holds = |connection: &Connection| {
            let bytes = connection.serialize("main").expect("its bytes");
            bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
        };
        write(5);
        assert!(holds(&connection));
        assert!(blank.empty(&connection).expect("emptied").is_some(), "it is as it was");
        assert!(!holds(&connection));
        // One that grew has pages that no template has.
        write(500);
        assert!(blank.empty(&connection).expect("emptied").is_none());
    }

    #[test]
    fn what_stands_in_for_a_table_has_its_columns_and_nothing_else_differs() {
        let blank = SessionTables::blank();
        let (full, slim) = (blank.take(true).expect("memory"), blank.take(false).expect("memory"));
        let columns = |db: &Connection, table: &Table| {
            let statement = db.prepare(table.select).expect("a table or a view");
            statement.column_names().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        for table in blank.tables() {
            assert_eq!(columns(&slim, table), columns(&full, table), "{}", table.name);
        }
        let (schema, views) = (blank.schema().expect("made"), blank.tables());
        assert_eq!(views.iter().filter(|table| table.stand_in.is_some()).count(), 5);
        schema::check(&full, schema, views).expect("full");
        schema::check(&slim, schema, views).expect("slim");
        slim.execute_batch("DROP VIEW turn").expect("dropped");
        assert!(schema::check(&slim, schema, views).is_err(), "neither table nor view");
        let slim = blank.take(false).expect("memory");
        blank.fill(&slim).expect("memory");
        schema::check(&slim, schema, &[]).expect("as if it had been full");
    }

    #[test]
    fn what_nobody_wants_goes_and_what_is_wanted_stays() {
        let mut kept = Kept { waiting: Vec::new(), fewest: 0 };
        let count = |kept: &Kept| kept.waiting.len();
        kept.waiting = (0..8).map(|_| Connection::open_in_memory().expect("a database")).collect();
        // All of them were wanted a moment ago.
        assert_eq!((kept.trimmed().len(), count(&kept)), (0, 8));
        // Two are taken and come back: the others were not needed.
        kept.fewest = 6;
        assert_eq!((kept.trimmed().len(), count(&kept)), (2, 6));
        for left in [4, 3, 2, 1, 0, 0] {
            kept.trimmed();
            assert_eq!(count(&kept), left);
        }
    }
}
