//! The rows of turns.

use std::iter;

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;

use crate::base::json::Json;
use crate::domain::session::Head;
use crate::domain::session::Status;
use crate::domain::session::TimerKind;
use crate::domain::session::Turn;
use crate::domain::session::TurnState;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::file::Timer;
use crate::storage::file::timer;
use crate::storage::session::message;
use crate::storage::session::message::MessageRow;
use crate::storage::sql::number;
use crate::storage::sql::sql_seq;
use crate::storage::sql::unknown;
use crate::storage::sum;

/// Reads and verifies a row of `SELECT * FROM turn`.
fn turn_at(row: &Row<'_>) -> rusqlite::Result<(u64, Turn)> {
    let [_, seq, _, _, _, body] = sum::verified("turn", row)?;
    let turn = serde_json::from_str(body.as_str()?).map_err(|_| unknown(5, body))?;
    Ok((number(seq)?, turn))
}

/// The turn that is running, stopping or waiting for an approval.
pub(super) fn active(connection: &Connection) -> Result<Option<Turn>, Error> {
    connection
        .prepare_cached(
            "SELECT * FROM turn WHERE state IN ('queued', 'running', 'waiting_approval', 'stopping')
                AND state <> 'queued' ORDER BY seq DESC LIMIT 1",
        )
        .and_then(|mut statement| statement.query_row([], turn_at).optional())
        .while_("looking for a turn that runs")
        .map(|found| found.map(|(_, turn)| turn))
}

/// Turns that wait, in their order.
pub(super) fn queued(connection: &Connection) -> Result<Vec<Turn>, Error> {
    connection
        .prepare_cached(
            "SELECT * FROM turn WHERE state IN ('queued', 'running', 'waiting_approval', 'stopping')
                AND state = 'queued' ORDER BY seq",
        )
        .and_then(|mut statement| statement.query_map([], |row| Ok(turn_at(row)?.1))?.collect())
        .while_("reading the turns that wait")
}

/// The turn called `id`, behind the seq of the event that announced it.
pub(super) fn find(connection: &Connection, id: &str) -> Result<Option<(u64, Turn)>, Error> {
    connection
        .prepare_cached("SELECT * FROM turn WHERE id = ?1")
        .and_then(|mut statement| statement.query_row([id], turn_at).optional())
        .while_("looking for a turn")
}

/// Whether turns wait.
pub(super) fn any_queued(connection: &Connection) -> Result<bool, Error> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM turn
              WHERE state IN ('queued', 'running', 'waiting_approval', 'stopping') AND state = 'queued')",
        )
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .while_("looking for turns that wait")
}

/// Brings the rows up to event `seq`: `turn` as it is from now on.
pub(super) fn project(
    connection: &Connection,
    head: &mut Head,
    seq: u64,
    turn: &Turn,
    at_ms: i64,
) -> Result<(), Error> {
    let doing = "noting a turn";
    let announced = find(connection, &turn.id)?.map_or(seq, |(announced, _)| announced);
    let body = Json::of(turn).expect("turns are plain JSON");
    let Turn { id, input_id, message_id, state, .. } = turn;
    let sql = "INSERT OR REPLACE INTO turn (id, seq, state, input_id, message_id, body, sum)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let values: &[&dyn rusqlite::ToSql] =
        &[id, &sql_seq(announced), &state.as_str(), input_id, message_id, &body.as_str()];
    sum::write(connection, "turn", sql, values).while_(doing)?;
    let mine = head.active_turn.as_ref().is_some_and(|active| active.id == turn.id);
    match turn.state {
        TurnState::Queued => {}
        TurnState::Running | TurnState::Stopping | TurnState::WaitingApproval => {
            head.active_turn = Some(turn.clone());
        }
        _ if mine => head.active_turn = None,
        _ => {}
    }
    if turn.state == TurnState::WaitingApproval {
        set_approval(connection, &turn.id, turn.expires_at_ms.unwrap_or(at_ms))?;
    } else {
        timer::remove(connection, &turn.id)?;
    }
    if turn.state == TurnState::Running {
        begin_message(connection, head, seq, turn, at_ms)?;
    }
    if let (Some(model), Some(resume)) = (&turn.model, &turn.resume) {
        head.resume.set(model, Json::string(resume));
    }
    Ok(())
}

/// The message that the turn writes: a new one, or one that goes on.
fn begin_message(
    connection: &Connection,
    head: &mut Head,
    seq: u64,
    turn: &Turn,
    at_ms: i64,
) -> Result<(), Error> {
    if let Some(mut row) = MessageRow::called(connection, &turn.message_id)? {
        row.message.status = Status::Streaming;
        row.message.turn_id = Some(turn.id.clone());
        row.message.updated_at_ms = at_ms;
        return row.update(connection);
    }
    let position = head.begin_message(at_ms);
    message::insert_all(connection, iter::once((&turn.answer(seq, at_ms), position)))
}

/// Sets when nobody may answer any more what turn `id` waits for.
fn set_approval(connection: &Connection, id: &str, at_ms: i64) -> Result<(), Error> {
    let (id, kind) = (id.to_owned(), TimerKind::Approval.as_str().to_owned());
    timer::put(connection, &Timer { id, kind, attempt: 0, payload: "{}".to_owned() }, at_ms)
}
