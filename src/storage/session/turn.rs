//! The rows of turns.

use rusqlite::Connection;
use rusqlite::OptionalExtension;
use rusqlite::Row;
use rusqlite::params;

use crate::base::json::Json;
use crate::domain::session::Head;
use crate::domain::session::Message;
use crate::domain::session::Role;
use crate::domain::session::Status;
use crate::domain::session::Turn;
use crate::domain::session::TurnState;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::session::apply;
use crate::storage::session::read;
use crate::storage::session::read::sql_seq;

/// How long after the end of an answer its deltas stay in the log, in milliseconds.
const DELTAS_KEPT_MS: i64 = 5 * 60 * 1_000;
/// Name of the timer that compacts the log.
const COMPACT: &str = "compact";
/// Kind of the timers of approvals; each is called after its turn.
const APPROVAL: &str = "approval";

fn turn_at(row: &Row<'_>) -> rusqlite::Result<Turn> {
    let body = row.get_ref(0)?.as_str()?;
    serde_json::from_str(body).map_err(|_| read::unknown(0, body))
}

/// The turn that is running, stopping or waiting for an approval.
pub(super) fn active(connection: &Connection) -> Result<Option<Turn>, Error> {
    connection
        .prepare_cached(
            "SELECT body FROM turn WHERE state IN ('queued', 'running', 'waiting_approval', 'stopping')
                AND state <> 'queued' ORDER BY seq DESC LIMIT 1",
        )
        .and_then(|mut statement| statement.query_row([], turn_at).optional())
        .while_("looking for a turn that runs")
}

/// Turns that wait, in their order.
pub(super) fn queued(connection: &Connection) -> Result<Vec<Turn>, Error> {
    connection
        .prepare_cached(
            "SELECT body FROM turn WHERE state IN ('queued', 'running', 'waiting_approval', 'stopping')
                AND state = 'queued' ORDER BY seq",
        )
        .and_then(|mut statement| statement.query_map([], turn_at)?.collect())
        .while_("reading the turns that wait")
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
    let body = Json::of(turn).expect("turns are plain JSON");
    connection
        .prepare_cached(
            "INSERT INTO turn (id, seq, state, input_id, message_id, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET state = excluded.state, body = excluded.body",
        )
        .and_then(|mut statement| {
            let (id, state) = (&turn.id, turn.state.as_str());
            let Turn { input_id, message_id, .. } = turn;
            statement.execute(params![id, sql_seq(seq), state, input_id, message_id, body.as_str()])
        })
        .while_(doing)?;
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
        set_timer(connection, &turn.id, APPROVAL, turn.expires_at_ms.unwrap_or(at_ms))?;
    } else {
        remove_timer(connection, &turn.id)?;
    }
    match turn.state {
        TurnState::Running => begin_message(connection, head, seq, turn, at_ms)?,
        state if state.is_over() => {
            set_timer(connection, COMPACT, COMPACT, at_ms + DELTAS_KEPT_MS)?;
        }
        _ => {}
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
    let goes_on = connection
        .prepare_cached(
            "UPDATE message SET status = 'streaming', turn_id = ?2, updated_at_ms = ?3
              WHERE id = ?1 AND branch = 0",
        )
        .and_then(|mut s| s.execute(params![turn.message_id, turn.id, at_ms]))
        .while_("going on with an answer")?;
    if goes_on > 0 {
        return Ok(());
    }
    let answer = Message {
        id: turn.message_id.clone(),
        seq,
        version: 1,
        role: Role::Assistant,
        content: String::new(),
        parts: Vec::new(),
        metadata: None,
        turn_id: Some(turn.id.clone()),
        status: Status::Streaming,
        created_at: at_ms.div_euclid(1_000),
        created_at_ms: at_ms,
        updated_at_ms: at_ms,
    };
    apply::insert_message(connection, &answer)?;
    head.message_count += 1;
    Ok(())
}

fn set_timer(connection: &Connection, id: &str, kind: &str, at_ms: i64) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT INTO timer (id, kind, fire_at_ms, payload) VALUES (?1, ?2, ?3, '{}')
             ON CONFLICT DO UPDATE SET fire_at_ms = excluded.fire_at_ms, attempt = 0",
        )
        .and_then(|mut statement| statement.execute(params![id, kind, at_ms]))
        .while_("setting a timer")?;
    Ok(())
}

fn remove_timer(connection: &Connection, id: &str) -> Result<(), Error> {
    connection
        .prepare_cached("DELETE FROM timer WHERE id = ?1")
        .and_then(|mut statement| statement.execute([id]))
        .while_("removing a timer")?;
    Ok(())
}
