//! The rows of answers that are kept for repeated requests.

use rusqlite::Connection;
use rusqlite::Row;
use rusqlite::ToSql;

use crate::storage::Error;
use crate::storage::While;
use crate::storage::journal::Idempotent;
use crate::storage::sql::number;
use crate::storage::sql::sql_seq;
use crate::storage::sql::unknown;
use crate::storage::sum;

/// Reads and verifies a row of `SELECT * FROM idempotency`: the event, and the answer as it is kept.
pub(in crate::storage) fn kept_at(row: &Row<'_>) -> rusqlite::Result<(u64, Idempotent)> {
    let [key, request, seq, status, response] = sum::verified("idempotency", row)?;
    let kept = Idempotent {
        key: key.as_str()?.to_owned(),
        request: request.as_blob()?.try_into().map_err(|_| unknown(1, request))?,
        status: number(status)?,
        response: response.as_str_or_null()?.map(str::to_owned),
    };
    Ok((number(seq)?, kept))
}

/// Inserts what a repeat of the request that led to event `seq` will be answered.
pub(in crate::storage) fn remember(
    db: &Connection,
    seq: u64,
    kept: &Idempotent,
) -> Result<(), Error> {
    let sql = "INSERT INTO idempotency (key, request, seq, status, response, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let Idempotent { key, request, status, response } = kept;
    let values: &[&dyn ToSql] = &[key, &request.as_slice(), &sql_seq(seq), status, response];
    sum::write(db, "idempotency", sql, values).while_("keeping an answer")
}
