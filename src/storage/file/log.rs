//! The log in a file: rows of events, chained by their checksums.

use bytestring::ByteString;
use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::ToSql;

use crate::domain::kind::Event;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::journal::chain;
use crate::storage::sql::number;
use crate::storage::sql::sql_seq;
use crate::storage::sql::unknown;
use crate::storage::sum;

/// In the column `redacted`: the body stands for events that were removed, the hash is that of the last of them.
pub(in crate::storage) const COVERS: i64 = 2;

/// A row of `event`.
#[derive(Debug)]
pub(in crate::storage) struct EventRow<B> {
    pub seq: u64,
    pub recorded_at_ms: i64,
    /// The number of what it is.
    pub number: u8,
    pub body: B,
    pub hash: [u8; 16],
    /// 0: as it was written; 1: emptied later; [`COVERS`]: in place of others.
    pub redacted: i64,
}

impl EventRow<String> {
    /// Reads and verifies a row of `SELECT * FROM event`, of an actor with events `E`.
    pub(in crate::storage) fn at<E: Event>(row: &Row<'_>) -> rusqlite::Result<Self> {
        let [seq, recorded_at_ms, kind, body, hash, redacted] = sum::verified("event", row)?;
        let hash = hash.as_blob()?.try_into().map_err(|_| unknown(4, hash))?;
        Ok(Self {
            seq: number(seq)?,
            recorded_at_ms: recorded_at_ms.as_i64()?,
            number: E::number_of(kind.as_str()?).ok_or_else(|| unknown(2, kind))?,
            body: body.as_str()?.to_owned(),
            hash,
            redacted: redacted.as_i64()?,
        })
    }

    /// The same, with a borrowed body.
    pub(in crate::storage) fn borrowed(&self) -> EventRow<&str> {
        let Self { seq, recorded_at_ms, number, ref body, hash, redacted } = *self;
        EventRow { seq, recorded_at_ms, number, body, hash, redacted }
    }
}

impl EventRow<String> {
    /// The same, with a body that may be shared.
    pub(super) fn shared(self) -> EventRow<ByteString> {
        let Self { seq, recorded_at_ms, number, body, hash, redacted } = self;
        EventRow { seq, recorded_at_ms, number, body: body.into(), hash, redacted }
    }
}

impl EventRow<ByteString> {
    /// The same, with a borrowed body.
    pub(super) fn borrowed(&self) -> EventRow<&str> {
        let Self { seq, recorded_at_ms, number, ref body, hash, redacted } = *self;
        EventRow { seq, recorded_at_ms, number, body, hash, redacted }
    }
}

/// Writes the row of an event.
fn put<E: Event>(writer: &mut sum::Writer<'_>, row: &EventRow<&str>) -> rusqlite::Result<()> {
    let EventRow { seq, recorded_at_ms, number, body, hash, redacted } = row;
    let name = E::name_of(*number).unwrap_or_default();
    let values: &[&dyn ToSql] =
        &[&sql_seq(*seq), recorded_at_ms, &name, body, &hash.as_slice(), redacted];
    writer.write(values)
}

/// Inserts the events themselves.
pub(super) fn insert_all<'a, E: Event>(
    db: &Connection,
    mut rows: impl Iterator<Item = EventRow<&'a str>>,
) -> Result<(), Error> {
    let sql = "INSERT INTO event (seq, recorded_at_ms, kind, body, hash, redacted, sum)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    sum::Writer::new(db, "event", sql)
        .and_then(|mut writer| rows.try_for_each(|row| put::<E>(&mut writer, &row)))
        .while_("inserting events")
}

/// Writes the row of an event that is there already.
pub(in crate::storage) fn rewrite<E: Event>(
    db: &Connection,
    row: &EventRow<&str>,
) -> Result<(), Error> {
    let sql = "UPDATE event SET recorded_at_ms = ?2, kind = ?3, body = ?4, hash = ?5, redacted = ?6, sum = ?7
                WHERE seq = ?1";
    sum::Writer::new(db, "event", sql)
        .and_then(|mut writer| put::<E>(&mut writer, row))
        .while_("rewriting an event")
}

/// Event `seq`, verified.
pub(in crate::storage) fn event<E: Event>(
    db: &Connection,
    seq: u64,
) -> Result<Option<EventRow<String>>, Error> {
    db.prepare_cached("SELECT * FROM event WHERE seq = ?1")
        .and_then(|mut s| s.query_row([sql_seq(seq)], EventRow::at::<E>).optional())
        .while_("reading an event")
}

/// Verifies that events follow on each other as they are read.
pub(super) struct Chain {
    /// Checksum of the event before; `None` where it is not known.
    pub previous: Option<[u8; 16]>,
    /// Its seq.
    pub seq: u64,
    /// Up to here events may be missing: they were compacted away.
    pub log_start: u64,
}

impl Chain {
    /// Takes the event in the next `row` of `SELECT * FROM event`.
    pub(super) fn take<E: Event>(&mut self, row: &Row<'_>) -> Result<EventRow<String>, Error> {
        let event = EventRow::at::<E>(row).while_("reading an event")?;
        let EventRow { seq, recorded_at_ms, number, ref body, hash, redacted } = event;
        // What stands for removed events is no hole.
        let from = match redacted == COVERS {
            true => {
                let event = E::decode(number, body)?;
                event.covers_from().ok_or(Error::EventCorrupt { seq })?
            }
            false => seq,
        };
        if seq <= self.seq || (from > self.seq + 1 && from - 1 > self.log_start) {
            return Err(Error::RowMissing { table: "event", row: (self.seq + 1).to_string() });
        }
        let follows = seq == self.seq + 1 && redacted == 0;
        if let Some(previous) = self.previous.filter(|_| follows)
            && chain(&previous, seq, recorded_at_ms, number, body) != hash
        {
            return Err(Error::EventCorrupt { seq });
        }
        (self.previous, self.seq) = (Some(hash), seq);
        Ok(event)
    }
}
