//! Pages of history, by keyset: the cost of a page does not depend on how deep it lies.

use std::sync::Arc;

use crate::domain::session::Direction;
use crate::domain::session::Message;
use crate::domain::session::Page;
use crate::domain::session::SharedPage;
use crate::domain::session::View;
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
                ("SELECT * FROM message WHERE seq < ?1 AND branch = 0 ORDER BY seq DESC LIMIT ?2", seq)
            }
            (Direction::After(seq), false) => {
                ("SELECT * FROM message WHERE seq > ?1 AND branch = 0 ORDER BY seq LIMIT ?2", seq)
            }
            (Direction::Before(seq), true) => (
                "SELECT * FROM message WHERE seq < ?1 AND branch = 0 AND status NOT IN ('streaming', 'deleted')
                  ORDER BY seq DESC LIMIT ?2",
                seq,
            ),
            (Direction::After(seq), true) => (
                "SELECT * FROM message WHERE seq > ?1 AND branch = 0 AND status NOT IN ('streaming', 'deleted')
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

    /// What a model is given: the newest messages up to the one called `until`, about `bytes` of them, and the one called
    /// `draft` as far as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn transcript(
        &self,
        until: &str,
        draft: &str,
        bytes: usize,
    ) -> Result<Vec<Message>, Error> {
        const AT_ONCE: usize = 50;
        let last = self.seq_of_message(until)?.unwrap_or(0);
        let mut messages = Vec::new();
        messages.extend(self.message(draft)?.filter(|message| message.seq > last));
        let (mut before, mut sum) = (last + 1, 0);
        loop {
            let page = self.page(Direction::Before(before), AT_ONCE, false)?;
            for message in page.messages.into_iter().rev() {
                sum += message.content.len();
                sum += message.parts.iter().map(|part| part.json().as_str().len()).sum::<usize>();
                if sum > bytes && messages.len() > 1 {
                    messages.reverse();
                    return Ok(messages);
                }
                before = message.seq;
                if message.id != draft {
                    messages.push(message);
                }
            }
            if !page.more {
                messages.reverse();
                return Ok(messages);
            }
        }
    }

    /// The first `limit` messages of branch `branch`, oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn branch(&self, branch: u64, limit: usize) -> Result<Vec<Message>, Error> {
        let doing = "reading a branch";
        let sql = "SELECT * FROM message WHERE branch = ?1 AND seq < ?1 ORDER BY seq LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql).while_(doing)?;
        let mut rows =
            statement.query(rusqlite::params![read::sql_seq(branch), limit]).while_(doing)?;
        let mut messages = Vec::new();
        while let Some(row) = rows.next().while_(doing)? {
            let (mut message, count) = read::message_at(row).while_(doing)?;
            self.load_parts(&mut message, count)?;
            messages.push(message);
        }
        Ok(messages)
    }

    /// The branches: name, seq of the first message, number of messages.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn branches(&self) -> Result<Vec<(u64, u64, u64)>, Error> {
        let sql = "SELECT branch, min(seq), count(*) FROM message WHERE branch > 0 GROUP BY branch ORDER BY branch";
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| {
                let row = |row: &rusqlite::Row<'_>| {
                    Ok((read::seq_at(row, 0)?, read::seq_at(row, 1)?, read::seq_at(row, 2)?))
                };
                statement.query_map([], row)?.collect()
            })
            .while_("looking for branches")
    }
}
