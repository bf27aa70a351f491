//! Compaction: the text of an answer that ended a while ago leaves the log as it grew, and one frame takes its place.
//!
//! Each run of neighbouring deltas of an answer becomes one `message-parts` event. It has the seq and the checksum of the
//! last of them, so the chain goes on behind it, and names in `from` the first seq that it stands for, so a reader sees
//! no gap. Its parts are those with which the answer ended: what the log said, not what became of the message since.
//! What is removed follows from the log and the times in it alone, whenever the timer fires.

use rusqlite::Connection;
use rusqlite::params;
use serde::Deserialize;

use crate::domain::session::Event;
use crate::domain::session::EventKind;
use crate::domain::session::Message;
use crate::domain::session::TimerKind;
use crate::domain::session::Turn;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::file::Timer;
use crate::storage::file::log;
use crate::storage::file::log::EventRow;
use crate::storage::file::timer;
use crate::storage::session::SessionFile;
use crate::storage::sql::sql_seq;

/// The one timer of its kind, called so; its payload says from which seq on there is something to do.
const TIMER: &str = TimerKind::Compact.as_str();
/// Deltas that one firing of the timer looks at before it lets the session go on.
const AT_ONCE: usize = 10_000;
/// An answer stays as it is if its frames would be larger than this each and than its deltas: one of many short texts
/// between large results would grow.
const FRAME_BYTES: usize = 4 << 10;
/// About what a row costs beside its body.
const ROW_BYTES: usize = 40;

/// Notes that `turn` is over, and when its deltas are due.
pub(super) fn schedule(connection: &Connection, turn: &Turn, due_ms: i64) -> Result<(), Error> {
    let doing = "setting the timer of the compaction";
    let from: Option<u64> = connection
        .prepare_cached("SELECT min(seq) FROM message WHERE id = ?1")
        .and_then(|mut statement| statement.query_row([&turn.message_id], |row| row.get(0)))
        .while_(doing)?;
    // A turn that was given up while it waited wrote nothing.
    let Some(from) = from else { return Ok(()) };
    set(connection, due_ms, from)
}

/// Sets the timer, or brings it forward: it is due when the first of what is to be done is.
fn set(connection: &Connection, due_ms: i64, from: u64) -> Result<(), Error> {
    let (due_ms, from) = match timer::find(connection, TIMER)? {
        Some((timer, is)) => (due_ms.min(is), from.min(from_of(&timer))),
        None => (due_ms, from),
    };
    let (id, kind) = (TIMER.to_owned(), TIMER.to_owned());
    let payload = format!("{{\"from\":{from}}}");
    timer::put(connection, &Timer { id, kind, attempt: 0, payload }, due_ms)
}

/// From which seq on there is something to do.
fn from_of(timer: &Timer) -> u64 {
    #[derive(Deserialize)]
    struct Payload {
        #[serde(default)]
        from: u64,
    }
    serde_json::from_str::<Payload>(&timer.payload).map_or(0, |payload| payload.from)
}

/// Neighbouring deltas of one answer.
struct Run {
    message_id: String,
    first: u64,
    last: u64,
    bytes: usize,
}

/// What is to be done later.
#[derive(Clone, Copy)]
struct Later {
    due_ms: i64,
    from: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeltaId {
    message_id: String,
}

#[derive(Deserialize)]
struct MessageId {
    message: Id,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

/// What a walk through the log found.
#[derive(Default)]
struct Found {
    /// Runs whose answer has not ended yet.
    open: Vec<Run>,
    /// Runs that are due, and the frames that take their place.
    due: Vec<(Run, String)>,
    later: Option<Later>,
}

impl Found {
    fn delta(&mut self, seq: u64, message_id: String, bytes: usize) {
        match self.open.last_mut() {
            Some(run) if run.last + 1 == seq && run.message_id == message_id => {
                run.last = seq;
                run.bytes += bytes;
            }
            _ => self.open.push(Run { message_id, first: seq, last: seq, bytes }),
        }
    }

    /// The runs of the answer that ended.
    fn ended(&mut self, message_id: &str) -> Vec<Run> {
        let (ended, open) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|run: &Run| run.message_id == message_id);
        self.open = open;
        ended
    }

    fn later(&mut self, due_ms: i64, from: u64) {
        let earlier = self.later.unwrap_or(Later { due_ms, from });
        self.later =
            Some(Later { due_ms: due_ms.min(earlier.due_ms), from: from.min(earlier.from) });
    }
}

/// The frames that take the place of all `runs` of an answer, if that is worth it.
fn frames(runs: Vec<Run>, ended: &Message) -> Vec<(Run, String)> {
    let frame = |run: &Run| {
        let event = Event::MessageParts {
            message_id: ended.id.clone(),
            version: ended.version,
            parts: ended.parts.clone(),
            from: Some(run.first),
        };
        event.encode(run.last)
    };
    let before: usize = runs.iter().map(|run| run.bytes).sum();
    let max = before.max(runs.len() * FRAME_BYTES);
    // All are of about the same size: one tells whether the others need be made.
    if runs.first().is_none_or(|run| frame(run).len() * runs.len() > max) {
        return Vec::new();
    }
    runs.into_iter().map(|run| (frame(&run), run)).map(|(frame, run)| (run, frame)).collect()
}

impl SessionFile {
    /// Replaces the deltas of answers that have been over for as long as they are kept; sets the timer again for the rest.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`], [`Error::Undecodable`]; this must be dropped then.
    pub fn compact(&mut self) -> Result<(), Error> {
        let Some((timer, due_ms)) = timer::find(self.begin()?, TIMER)? else { return Ok(()) };
        let found = self.walk(due_ms, from_of(&timer))?;
        for (run, frame) in &found.due {
            self.replace(run, frame)?;
        }
        self.remove_timer(TIMER)?;
        if let Some(Later { due_ms, from }) = found.later {
            set(self.db()?, due_ms, from)?;
        }
        Ok(())
    }

    /// Looks for deltas from seq `from` on that are due at `due_ms`.
    fn walk(&self, due_ms: i64, from: u64) -> Result<Found, Error> {
        let doing = "looking for deltas";
        let until_ms = due_ms.saturating_sub(self.tables.deltas_kept_ms);
        // A message that goes on is compacted once it is over.
        let busy = self.tables.head.active_turn.as_ref().map(|turn| turn.message_id.as_str());
        let mut statement = self
            .db()?
            .prepare_cached(
                "SELECT * FROM event WHERE seq >= ?1 AND kind IN ('part-delta', 'message') ORDER BY seq",
            )
            .while_(doing)?;
        let mut rows = statement.query([sql_seq(from)]).while_(doing)?;
        let (mut found, mut count) = (Found::default(), 0);
        while let Some(row) = rows.next().while_(doing)? {
            let EventRow { seq, recorded_at_ms: at_ms, number, body, .. } =
                EventRow::at::<Event>(row).while_(doing)?;
            let corrupt = |_| Error::EventCorrupt { seq };
            if number == EventKind::PartDelta as u8 {
                let delta: DeltaId = serde_json::from_str(&body).map_err(corrupt)?;
                found.delta(seq, delta.message_id, body.len() + ROW_BYTES);
                count += 1;
                continue;
            }
            if found.open.is_empty() {
                continue;
            }
            let message: MessageId = serde_json::from_str(&body).map_err(corrupt)?;
            let runs = found.ended(&message.message.id);
            if runs.is_empty() || busy == Some(message.message.id.as_str()) {
                continue;
            }
            if at_ms > until_ms {
                found.later(at_ms.saturating_add(self.tables.deltas_kept_ms), runs[0].first);
                continue;
            }
            if let Event::Message(message) = Event::read(EventKind::Message, &body)? {
                found.due.extend(frames(runs, &message));
            }
            if count >= AT_ONCE {
                let from = found.open.first().map_or(seq, |run| run.first);
                found.later(due_ms, from);
                break;
            }
        }
        Ok(found)
    }

    fn replace(&self, run: &Run, frame: &str) -> Result<(), Error> {
        let doing = "replacing deltas";
        let missing = || Error::RowMissing { table: "event", row: run.last.to_string() };
        let last = log::event::<Event>(self.db()?, run.last)?.ok_or_else(missing)?;
        let (number, redacted) = (EventKind::MessageParts as u8, log::COVERS);
        let row = EventRow { number, body: frame, redacted, ..last.borrowed() };
        log::rewrite::<Event>(self.db()?, &row)?;
        self.db()?
            .prepare_cached("DELETE FROM event WHERE seq >= ?1 AND seq < ?2")
            .and_then(|mut s| s.execute(params![sql_seq(run.first), sql_seq(run.last)]))
            .while_(doing)?;
        Ok(())
    }
}
