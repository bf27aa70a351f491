//! What a kind of actor keeps in its file beside the log, and how the log becomes that.

use std::fmt;

use rusqlite::Connection;
use rusqlite_migration::M;

use crate::base::Key;
use crate::domain::kind::Event;
use crate::domain::kind::LogHead;
use crate::storage::Error;
use crate::storage::catalogue::Card;
use crate::storage::file::Blank;
use crate::storage::file::Tell;
use crate::storage::file::check::Findings;

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
}

/// Where an event stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its place in the log.
    pub seq: u64,
    /// Unix time in milliseconds.
    pub at_ms: i64,
}

/// The tables of one kind of actor, and what is kept of them in memory while the file is open.
///
/// Everything in them is a function of the events and the times in the log, so that a file that lost its tables is made
/// anew from it.
pub trait Tables: fmt::Debug + Send + Sized + 'static {
    /// What happens in such an actor.
    type Event: Event;

    /// Steps from nothing to the present schema; `user_version` counts them.
    const STEPS: &'static [M<'static>];

    /// Every table that the steps make.
    const TABLES: &'static [Table];

    /// The empty databases of this kind.
    fn blank() -> &'static Blank;

    /// Of an actor to which nothing has happened.
    fn new(settings: &Settings) -> Self;

    /// Whose file it is, and how far its log goes, without the hash of the last event: what its one row `meta` says.
    ///
    /// # Errors
    ///
    /// [`Error::RowMissing`] or [`Error::RowCorrupt`] when it does not say that.
    fn meta(db: &Connection) -> Result<(Key, LogHead), Error>;

    /// Of the actor in the file, whose log ends at `log`.
    ///
    /// # Errors
    ///
    /// [`Error::RowCorrupt`] and the like when the rows are not what was written.
    fn load(db: &Connection, log: LogHead, settings: &Settings) -> Result<Self, Error>;

    /// How far the log goes.
    fn log(&self) -> LogHead;

    /// Notes that the log goes on to `to`.
    fn advance(&mut self, to: LogHead);

    /// Brings the rows up to `event`. It cannot be refused.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; this must be dropped then.
    fn apply(&mut self, db: &Connection, place: Place, event: &Self::Event) -> Result<(), Error>;

    /// What others are told because of `event`, which was just applied; it follows from what was applied alone.
    fn tells(&self, event: &Self::Event) -> Vec<Tell> {
        let _ = event;
        Vec::new()
    }

    /// Writes what is only in memory so far, and the row `meta`; before each commit.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; this must be dropped then.
    fn save(&mut self, db: &Connection, key: &Key) -> Result<(), Error>;

    /// Notes what rows say of each other and does not fit.
    ///
    /// # Errors
    ///
    /// Whatever kept it from looking.
    fn check(db: &Connection, findings: &mut Findings) -> Result<(), Error>;

    /// What the list of actors should know of it; the next timer is added.
    fn card(&self, db: &Connection, key: &Key) -> Card;

    /// The answer inside `frame` to the request that led to it, where none is kept apart.
    fn answer_of(frame: &str) -> &str;
}
