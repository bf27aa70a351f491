//! What a native socket is told to do: each is a task, and its answer a frame.

use crate::base::ids::IdempotencyKey;
use crate::base::json::Json;
use crate::domain::session::Command;
use crate::domain::session::NewTurn;
use crate::domain::session::Rejection;
use crate::http::error::ApiError;
use crate::http::turns;
use crate::http::turns::Begun;
use crate::protocol::native;
use crate::router::Router;
use crate::router::Target;
use crate::wire::ask::Idempotency;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Request;

/// The idempotency key that a frame brings, or the refusal of the frame.
fn key(client_id: &str) -> Result<IdempotencyKey, String> {
    IdempotencyKey::new(client_id).map_err(|bad| {
        native::error(None, &ApiError::from(Rejection::misnamed("clientId")(bad)).problem())
    })
}

/// Stops the running turn, once; the answer comes when it is over.
pub(super) async fn stop(router: Router, target: Target, client_id: String) -> String {
    let key = match key(&client_id) {
        Ok(key) => key,
        Err(frame) => return frame,
    };
    match turns::stop_turn(&router, &target, None, Some(key)).await {
        Ok((turn, _)) => native::ack(&client_id, 0, &Json::of(&turn).unwrap_or_default()),
        Err(error) => native::error(Some(&client_id), &error.problem()),
    }
}

/// Begins `turn`, once; the answer comes when that is durable.
pub(super) async fn begin(
    router: Router,
    target: Target,
    client_id: String,
    turn: NewTurn,
) -> String {
    let key = match key(&client_id) {
        Ok(key) => key,
        Err(frame) => return frame,
    };
    match turns::begin(&router, &target, turn, Some(key)).await {
        Ok(Begun { turn, after, .. }) => {
            native::ack(&client_id, after + 1, &Json::of(&turn).unwrap_or_default())
        }
        Err(error) => native::error(Some(&client_id), &error.problem()),
    }
}

/// Carries out `command`, once; the answer comes when it is durable.
pub(super) async fn carry_out(
    router: Router,
    target: Target,
    client_id: String,
    command: Command,
) -> String {
    let key = match key(&client_id) {
        Ok(key) => key,
        Err(frame) => return frame,
    };
    let idempotency = Idempotency::new(key, &command);
    let answer = router.ask(&target, Request::Command(command, Some(idempotency))).await;
    let ack =
        |seq, json: &str| native::ack(&client_id, seq, &Json::parse(json).unwrap_or_default());
    let refused = |error: ApiError| native::error(Some(&client_id), &error.problem());
    match answer {
        Ok(Answer::Message { json, seq, .. }) => ack(seq, &json),
        Ok(Answer::Replayed { json, seq, .. }) => ack(seq, &json),
        Ok(_) => refused(ApiError::new("internal", "an answer of the wrong kind")),
        Err(error) => refused(error.into()),
    }
}
