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
    /// Whether it is made when something is first written to it, and a view without rows is in its place before.
    pub at_first_use: bool,
}

/// The [`Table`] of this name.
macro_rules! table {
    ($name:literal) => {
        $crate::storage::file::table!($name, false)
    };
    ($name:literal, at_first_use) => {
        $crate::storage::file::table!($name, true)
    };
    ($name:literal, $at_first_use:literal) => {
        $crate::storage::file::Table {
            name: $name,
            select: concat!("SELECT * FROM ", $name),
            empty: concat!("DELETE FROM ", $name),
            at_first_use: $at_first_use,
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
