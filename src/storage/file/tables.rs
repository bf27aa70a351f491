//! What a kind of actor keeps in its file beside the log, and how the log becomes that.

use std::fmt;

use rusqlite::Connection;

use crate::base::Key;
use crate::domain::kind::Event;
use crate::domain::kind::LogHead;
use crate::storage::Error;
use crate::storage::catalogue::Card;
use crate::storage::file::Blank;
use crate::storage::file::Findings;
use crate::storage::file::Place;
use crate::storage::file::Settings;
use crate::storage::file::Tell;

/// The tables of one kind of actor, and what is kept of them in memory while the file is open.
///
/// Everything in them is a function of the events and the times in the log, so that a file that lost its tables is made
/// anew from it.
pub trait Tables: fmt::Debug + Send + Sized + 'static {
    /// What happens in such an actor.
    type Event: Event;

    /// What is needed to write the rows of an event that was put off.
    type Later: fmt::Debug + Send;

    /// The empty databases of this kind, with its schema.
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

    /// Takes `event` in without a row, if its rows can be written later by [`Tables::write`] and nobody is told of it;
    /// `None`, with nothing changed, if they must be written at once, by [`Tables::apply`].
    fn put_off(&mut self, place: Place, event: &Self::Event) -> Option<Self::Later> {
        let _ = (place, event);
        None
    }

    /// Whether the rows of such an event are in tables alone that every file has from the beginning.
    fn is_plain(later: &Self::Later) -> bool {
        let _ = later;
        false
    }

    /// Writes the rows of events that were put off, in their order; those of `event` are there.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`]; this must be dropped then.
    fn write<'a>(
        db: &Connection,
        later: impl Iterator<Item = &'a Self::Later>,
    ) -> Result<(), Error>
    where
        Self::Later: 'a;

    /// What others are told because of `event`, which was just applied: at most 256 letters, which follow from what was
    /// applied alone.
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

    /// What the list of actors should know of it; the next timer is added. `db` is without the rows of events that were
    /// put off; `None`: there is no row.
    fn card(&self, db: Option<&Connection>, key: &Key) -> Card;

    /// The answer inside `frame` to the request that led to it, where none is kept apart.
    fn answer_of(frame: &str) -> &str;
}
