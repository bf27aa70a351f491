//! Pages of history, by keyset: the cost of a page does not depend on how deep it lies.

use std::sync::Arc;

use crate::domain::session::Direction;
use crate::domain::session::Message;
use crate::domain::session::Page;
use crate::domain::session::Role;
use crate::domain::session::SharedPage;
use crate::domain::session::Status;
use crate::domain::session::View;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::session::SessionFile;
use crate::storage::session::bounded::Bounded;
use crate::storage::session::message::MessageRow;
use crate::storage::session::state::Tail;
use crate::storage::sql::sql_seq;

impl SessionFile {
    /// The latest page of at most `limit` messages, as [`SessionFile::page`] bounds it. Whoever asks again before something happens gets the same one:
    /// every tab that opens a conversation asks for it.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn latest(&mut self, limit: usize) -> Result<Arc<SharedPage>, Error> {
        let last_seq = self.tables.head.last_seq;
        if let Some(tail) = &self.tables.tail
            && (tail.last_seq, tail.limit) == (last_seq, limit)
        {
            return Ok(Arc::clone(&tail.page));
        }
        let page = SharedPage::new(self.page(Direction::Before(u64::MAX), limit, false)?);
        self.tables.tail = Some(Tail { last_seq, limit, page: Arc::clone(&page) });
        Ok(page)
    }

    /// The page of at most `limit` messages and [`PAGE_BYTES_MAX`] in `direction`; without those that are being written
    /// or were deleted if `settled`.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn page(&self, direction: Direction, limit: usize, settled: bool) -> Result<Page, Error> {
        let doing = "reading a page of messages";
        let (sql, from, step, first) = match direction {
            Direction::Before(seq) => (
                "SELECT * FROM message WHERE seq <= ?1 AND branch = 0 ORDER BY seq DESC",
                seq,
                -1,
                (seq == u64::MAX).then_some(self.message_count() - 1),
            ),
            Direction::After(seq) => (
                "SELECT * FROM message WHERE seq >= ?1 AND branch = 0 ORDER BY seq",
                seq,
                1,
                (seq == 0).then_some(0),
            ),
        };
        let mut statement = self.db()?.prepare_cached(sql).while_(doing)?;
        let mut rows = statement.query([sql_seq(from)]).while_(doing)?;
        let (mut messages, mut place) = (Bounded::of(limit), first);
        let missing = |place: i64| {
            let row = format!("at position {place}");
            Err(Error::RowMissing { table: "message", row })
        };
        while !messages.more {
            let Some(row) = rows.next().while_(doing)? else {
                // No message is missing before the first one, and none behind the last.
                match place {
                    Some(place) if place != if step < 0 { -1 } else { self.message_count() } => {
                        return missing(place);
                    }
                    _ => break,
                }
            };
            let row = MessageRow::at(row).while_(doing)?;
            let at = i64::try_from(row.position).unwrap_or(i64::MAX);
            if let Some(place) = place.filter(|place| *place != at) {
                return missing(place);
            }
            place = Some(at + step);
            let unsettled = matches!(row.message.status, Status::Streaming | Status::Deleted);
            // The one that the page begins behind shows where its neighbour must be.
            if row.message.seq != from && !(settled && unsettled) {
                messages.take(self.with_parts(row)?, Message::bytes);
            }
        }
        let Bounded { taken: mut messages, more, .. } = messages;
        if matches!(direction, Direction::Before(_)) {
            messages.reverse();
        }
        Ok(Page { messages, more })
    }

    fn message_count(&self) -> i64 {
        i64::try_from(self.tables.head.message_count).unwrap_or(i64::MAX)
    }

    /// What a model is given: the newest messages up to the one called `until`, about `bytes` of them, and the one called
    /// `draft` as far as it is. An answer stands behind what it answers, also if it came later because its turn had to wait.
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
        let last = self.seq_of_message(until)?.unwrap_or(0);
        // Newest first.
        let mut messages = Vec::new();
        if let Some(written) = self.message(draft)?.filter(|message| message.seq > last) {
            let (from, to) = (last + 1, written.seq);
            messages.push(written);
            if self.seq_behind(last)? != Some(to) {
                self.newest(from, to, |message| {
                    messages.extend((message.role == Role::Assistant).then_some(message));
                    true
                })?;
            }
        }
        let (later, mut sum) = (messages.len(), 0);
        self.newest(0, last + 1, |message| {
            sum += message.bytes();
            let fits = sum <= bytes || messages.len() <= later;
            messages.extend((fits && message.id != draft).then_some(message));
            fits
        })?;
        messages.reverse();
        self.in_pairs(messages)
    }

    /// Hands the messages with a seq from `from` to below `to` over, newest first, as long as `take` wants more.
    fn newest(
        &self,
        from: u64,
        to: u64,
        mut take: impl FnMut(Message) -> bool,
    ) -> Result<(), Error> {
        const AT_ONCE: usize = 50;
        let mut before = to;
        loop {
            let page = self.page(Direction::Before(before), AT_ONCE, false)?;
            for message in page.messages.into_iter().rev() {
                before = message.seq;
                if before < from || !take(message) {
                    return Ok(());
                }
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Puts answers directly behind what they answer.
    fn in_pairs(&self, messages: Vec<Message>) -> Result<Vec<Message>, Error> {
        let waited = |two: &[Message]| two.iter().all(|message| message.role == Role::User);
        if !messages.windows(2).any(waited) {
            return Ok(messages);
        }
        let mut pairs: Vec<Message> = Vec::with_capacity(messages.len());
        for message in messages {
            let turn = match &message.turn_id {
                Some(id) if message.role == Role::Assistant => self.turn(id)?,
                _ => None,
            };
            let asked =
                turn.and_then(|turn| pairs.iter().rposition(|message| message.id == turn.input_id));
            let place = asked.map_or(pairs.len(), |asked| asked + 1);
            pairs.insert(place, message);
        }
        Ok(pairs)
    }

    /// At most `limit` messages and [`PAGE_BYTES_MAX`] of branch `branch` with a seq above `after`, oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn branch(&self, branch: u64, after: u64, limit: usize) -> Result<Page, Error> {
        let doing = "reading a branch";
        let sql = "SELECT * FROM message WHERE branch = ?1 AND seq < ?1 AND seq > ?2 ORDER BY seq";
        let mut statement = self.db()?.prepare_cached(sql).while_(doing)?;
        let mut rows = statement.query([branch, after].map(sql_seq)).while_(doing)?;
        let mut messages = Bounded::of(limit);
        while !messages.more
            && let Some(row) = rows.next().while_(doing)?
        {
            messages.take(self.with_parts(MessageRow::at(row).while_(doing)?)?, Message::bytes);
        }
        Ok(Page { messages: messages.taken, more: messages.more })
    }

    /// The branches: name, seq of the first message, number of messages.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when the file cannot be read.
    pub fn branches(&self) -> Result<Vec<(u64, u64, u64)>, Error> {
        let doing = "looking for branches";
        let sql = "SELECT * FROM message WHERE branch > 0 ORDER BY branch, seq";
        let mut statement = self.db()?.prepare_cached(sql).while_(doing)?;
        let mut rows = statement.query([]).while_(doing)?;
        let mut branches: Vec<(u64, u64, u64)> = Vec::new();
        while let Some(row) = rows.next().while_(doing)? {
            let MessageRow { message, branch, .. } = MessageRow::at(row).while_(doing)?;
            match branches.last_mut() {
                Some((last, _, count)) if *last == branch => *count += 1,
                _ => branches.push((branch, message.seq, 1)),
            }
        }
        Ok(branches)
    }
}
