//! A table of a file, the place of an event in it, and how files are kept.

/// How files are kept, whatever their kind.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long text that grew stays in the log as it grew, after its end, in milliseconds.
    pub deltas_kept_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { deltas_kept_ms: 5 * 60 * 1_000 }
    }
}

/// A table, how it is read whole, and how it is emptied.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Reads every column of every row.
    pub select: &'static str,
    /// Removes every row. Without a condition, SQLite clears whole pages.
    pub empty: &'static str,
    /// What is in its place until something is first written to it, if it is made only then.
    pub stand_in: Option<StandIn>,
}

/// A view of the name and the columns of a table, without rows.
#[derive(Debug)]
pub struct StandIn {
    /// Makes it.
    pub create: &'static str,
    /// Removes it.
    pub drop: &'static str,
    /// Removes the table.
    pub drop_table: &'static str,
}

/// The [`Table`] of this name; with columns, one that is made when something is first written to it.
macro_rules! table {
    ($name:literal) => {
        $crate::storage::file::table!($name, None)
    };
    ($name:literal: $first:literal $(, $column:literal)*) => {
        $crate::storage::file::table!(
            $name,
            Some($crate::storage::file::StandIn {
                create: concat!(
                    "CREATE VIEW ", $name, " AS SELECT 0 AS ", $first, $(", 0 AS ", $column,)* " WHERE 0"
                ),
                drop: concat!("DROP VIEW ", $name),
                drop_table: concat!("DROP TABLE ", $name),
            })
        )
    };
    ($name:literal, $stand_in:expr) => {
        $crate::storage::file::Table {
            name: $name,
            select: concat!("SELECT * FROM ", $name),
            empty: concat!("DELETE FROM ", $name),
            stand_in: $stand_in,
        }
    };
}

pub(crate) use table;

/// Where an event stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its place in the log.
    pub seq: u64,
    /// Unix time in milliseconds.
    pub at_ms: i64,
}
