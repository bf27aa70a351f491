//! Pages of history, by keyset: the cost of a page does not depend on how deep it lies.

use crate::domain::session::Direction;
use crate::domain::session::Page;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::session::SessionFile;
use crate::storage::session::read;

impl SessionFile {
    /// The page of at most `limit` messages in `direction`; without those that are being written or were deleted
    /// if `settled`.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn page(&self, direction: Direction, limit: usize, settled: bool) -> Result<Page, Error> {
        let doing = "reading a page of messages";
        let (sql, from) = match (direction, settled) {
            (Direction::Before(seq), false) => {
                ("SELECT * FROM message WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2", seq)
            }
            (Direction::After(seq), false) => {
                ("SELECT * FROM message WHERE seq > ?1 ORDER BY seq LIMIT ?2", seq)
            }
            (Direction::Before(seq), true) => (
                "SELECT * FROM message WHERE seq < ?1 AND status NOT IN ('streaming', 'deleted')
                  ORDER BY seq DESC LIMIT ?2",
                seq,
            ),
            (Direction::After(seq), true) => (
                "SELECT * FROM message WHERE seq > ?1 AND status NOT IN ('streaming', 'deleted')
                  ORDER BY seq LIMIT ?2",
                seq,
            ),
        };
        let mut statement = self.connection.prepare_cached(sql).while_(doing)?;
        let mut rows =
            statement.query(rusqlite::params![read::sql_seq(from), limit + 1]).while_(doing)?;
        let mut messages = Vec::new();
        while let Some(row) = rows.next().while_(doing)? {
            let (mut message, count) = read::message_at(row).while_(doing)?;
            self.load_parts(&mut message, count)?;
            messages.push(message);
        }
        let more = messages.len() > limit;
        messages.truncate(limit);
        if matches!(direction, Direction::Before(_)) {
            messages.reverse();
        }
        Ok(Page { messages, more })
    }
}
