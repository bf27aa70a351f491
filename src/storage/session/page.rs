//! Pages of history, by keyset: the cost of a page does not depend on how deep it lies.

use std::sync::Arc;

use crate::domain::session::Direction;
use crate::domain::session::Page;
use crate::domain::session::SharedPage;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::session::SessionFile;
use crate::storage::session::read;

/// The latest page, as long as nothing happens.
#[derive(Debug)]
pub(super) struct Tail {
    last_seq: u64,
    limit: usize,
    page: Arc<SharedPage>,
}

impl SessionFile {
    /// The latest page of at most `limit` messages. Whoever asks again before something happens gets the same one:
    /// every tab that opens a conversation asks for it.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn latest(&mut self, limit: usize) -> Result<Arc<SharedPage>, Error> {
        let last_seq = self.head.last_seq;
        if let Some(tail) = &self.tail
            && (tail.last_seq, tail.limit) == (last_seq, limit)
        {
            return Ok(Arc::clone(&tail.page));
        }
        let page = SharedPage::new(self.page(Direction::Before(u64::MAX), limit, false)?);
        self.tail = Some(Tail { last_seq, limit, page: Arc::clone(&page) });
        Ok(page)
    }

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
