//! `/v1/sessions/{id}/turns`, `/stop`, `/approvals`, `/branches`: the model from the native API.

use std::collections::HashSet;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web::Data;
use actix_web::web::Path;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::ids::IdempotencyKey;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::domain::session::Command;
use crate::domain::session::Event;
use crate::domain::session::EventKind;
use crate::domain::session::Input;
use crate::domain::session::Message;
use crate::domain::session::NewMessage;
use crate::domain::session::NewTurn;
use crate::domain::session::Rejection;
use crate::domain::session::Turn;
use crate::domain::session::TurnOptions;
use crate::domain::session::TurnState;
use crate::http::answer::Watcher;
use crate::http::body;
use crate::http::body::Body;
use crate::http::body::LargeBody;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;
use crate::http::events::stream_response;
use crate::http::reply;
use crate::model::ToolSpec;
use crate::protocol::Encoder;
use crate::protocol::native::TurnFrames;
use crate::router::Router;
use crate::router::Target;
use crate::wire::ask::Idempotency;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Query as Ask;
use crate::wire::envelope::Request;
use crate::wire::problem::Problem;

/// Most calls of the model in one turn.
const STEPS_MAX: u32 = 100;

type Response = Result<HttpResponse, ApiError>;

/// `POST /v1/sessions/{id}/turns`
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct StartTurn {
    /// What the user says; absent: what is there already is answered again.
    pub message: Option<NewMessage>,
    /// Who answers: `provider/model`.
    pub model: Option<String>,
    /// What the model is told about its task.
    pub system: Option<String>,
    /// Tools that the client runs: `[{name, description?, inputSchema?}]`.
    #[schema(value_type = Option<Vec<Object>>)]
    pub tools: Option<Json>,
    /// Most calls of the model.
    pub max_steps: Option<u32>,
    /// What to do if another turn runs: `reject`, `queue`, `interrupt` or `latest`.
    pub busy: Option<crate::domain::session::Busy>,
}

impl StartTurn {
    /// The turn.
    ///
    /// # Errors
    ///
    /// What cannot be.
    pub(super) fn into_turn(self, router: &Router) -> Result<NewTurn, ApiError> {
        let Self { message, model, system, tools, max_steps, busy } = self;
        let address = model.clone().unwrap_or_else(|| router.default_model().to_owned());
        let input = match message {
            Some(message) => Input::Message { message, edit: false },
            None => Input::Again { after: None },
        };
        let options = TurnOptions { model, system, tools, max_steps, busy };
        check_options(&options)?;
        Ok(NewTurn { input, options, model: address, titled: false })
    }
}

/// Whether turns can be run like that; also those of a session whose settings say so.
pub(super) fn check_options(options: &TurnOptions) -> Result<(), ApiError> {
    if options.max_steps.is_some_and(|steps| steps == 0 || steps > STEPS_MAX) {
        return Err(ApiError::invalid(format!("`maxSteps` must be 1 to {STEPS_MAX}")));
    }
    check_tools(options.tools.as_ref())
}

/// Begins `turn`, once for `key`.
///
/// # Errors
///
/// Why its model will not answer; what the session answers. Nothing is stored then.
pub(super) async fn begin(
    router: &Router,
    target: &Target,
    turn: NewTurn,
    key: Option<IdempotencyKey>,
) -> Result<Begun, ApiError> {
    let text = match &turn.input {
        Input::Message { message, .. } | Input::At { message, .. } => message.content.as_str(),
        Input::Again { .. } | Input::Results { .. } => "",
    };
    let refused = router.check_model(&turn.model, text).err();
    let command = Command::StartTurn(Box::new(turn));
    let once = key.map(|key| Idempotency::new(key, &command));
    let Some(refused) = refused else {
        return begun(router.ask(target, Request::Command(command, once)).await?);
    };
    // A repeat hears its first answer, whatever models there are by now.
    let Some(once) = once else { return Err(refused.into()) };
    match router.ask(target, Request::Query(Ask::Repeat(once))).await {
        Ok(answer @ Answer::Replayed { .. }) => begun(answer),
        Err(Error::KeyReused) => Err(Error::KeyReused.into()),
        _ => Err(refused.into()),
    }
}

/// Whether models can be offered these tools: what is left out in silence is never called, and nobody knows why.
fn check_tools(tools: Option<&Json>) -> Result<(), ApiError> {
    let Some(tools) = tools else { return Ok(()) };
    let problem = |problem: String| ApiError::invalid(format!("`tools` {problem}"));
    let tools: Vec<Object> = serde_json::from_str(tools.as_str()).map_err(|_| {
        problem("must be a list of `{name, description?, inputSchema?}`".to_owned())
    })?;
    if tools.len() > ToolSpec::COUNT_MAX {
        return Err(problem(format!("must be at most {}", ToolSpec::COUNT_MAX)));
    }
    let mut names = HashSet::new();
    for (at, tool) in tools.iter().enumerate() {
        let named = ToolSpec::of_client(tool).filter(|tool| ToolSpec::is_name(&tool.name));
        let ToolSpec { name, schema, .. } = named.ok_or_else(|| {
            let max = ToolSpec::NAME_CHARS_MAX;
            problem(format!("[{at}].name must be 1 to {max} letters, digits, `_` and `-`"))
        })?;
        if !schema.is_object() {
            return Err(problem(format!("[{at}].inputSchema must be a JSON Schema, an object")));
        }
        if !names.insert(name.clone()) {
            return Err(problem(format!("holds `{name}` twice")));
        }
    }
    Ok(())
}

/// A turn that goes on by itself.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Accepted<'a> {
    /// The turn.
    turn_id: &'a str,
    /// The message that it writes.
    message_id: &'a str,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Answered {
    /// The turn as it ended.
    turn: Turn,
    /// The message that it wrote; absent if the turn was given up before it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message>,
}

/// Lets the model answer.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/turns", request_body = StartTurn, params(("id" = String, Path)), tag = "turns", operation_id = "startTurn",
    responses((status = 200, body = Answered), (status = 202, body = Accepted<'static>), (status = "4XX", body = Problem))
)]
pub(super) async fn start(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    request: HttpRequest,
    LargeBody(bytes): LargeBody,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let start: StartTurn = match bytes.is_empty() {
        true => StartTurn::default(),
        false => body::parse(&bytes)?,
    };
    let turn = start.into_turn(&router)?;
    let begun = begin(&router, &target, turn, reply::key(&request)?).await?;
    respond(&router, &target, &request, begun).await
}

/// A turn that a request began, now or when it came first.
pub(super) struct Begun {
    /// The turn, as it began.
    pub turn: Turn,
    /// The seq before the first event of its answer.
    pub after: u64,
    /// Whether the request came before.
    pub replayed: bool,
}

/// The turn that `answer` is about, whether the request came first or again.
///
/// # Errors
///
/// When it is about something else.
pub(super) fn begun(answer: Answer) -> Result<Begun, ApiError> {
    #[derive(Deserialize)]
    struct Place {
        seq: Option<u64>,
    }
    let internal = |what| ApiError::new("internal", what);
    match answer {
        Answer::Turn { turn, seq } => {
            Ok(Begun { turn: *turn, after: seq.saturating_sub(1), replayed: false })
        }
        Answer::Replayed { json, seq, .. } => {
            let unreadable = |error| internal(format!("a stored turn: {error}"));
            let turn = serde_json::from_str(&json).map_err(unreadable)?;
            let place: Place = serde_json::from_str(&json).map_err(unreadable)?;
            let after = place.seq.unwrap_or(seq).saturating_sub(1);
            Ok(Begun { turn, after, replayed: true })
        }
        other => Err(internal(format!("an answer of the wrong kind: {other:?}"))),
    }
}

async fn respond(
    router: &Router,
    target: &Target,
    request: &HttpRequest,
    begun: Begun,
) -> Response {
    let Begun { turn, after, replayed } = begun;
    let says = |name: header::HeaderName, what: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.contains(what))
    };
    let prefer = header::HeaderName::from_static("prefer");
    let mut response = if says(prefer, "respond-async") {
        let (turn_id, message_id) = (turn.id.as_str(), turn.message_id.as_str());
        reply::json(StatusCode::ACCEPTED, &Accepted { turn_id, message_id })
    } else if says(header::ACCEPT, "text/event-stream") {
        let frames = TurnFrames::of(&turn);
        let watcher = Watcher::begin(router, target, after, frames, "sse").await?;
        stream_response().streaming(watcher.into_body())
    } else {
        let (turn, message) = ended(router, target, turn, after).await?;
        reply::json(StatusCode::OK, &Answered { turn, message })
    };
    if replayed {
        reply::mark_replayed(&mut response);
    }
    Ok(response)
}

/// Waits for the end of a turn.
struct Ended {
    id: String,
    attempt: u32,
    turn: Option<Turn>,
}

impl Ended {
    fn heed(&mut self, turn: &Turn) {
        let ends = turn.state.is_over() || turn.state == TurnState::WaitingApproval;
        if turn.id == self.id && turn.attempt >= self.attempt && ends {
            self.turn = Some(turn.clone());
        }
    }
}

impl Encoder for Ended {
    fn turn_id(&self) -> &str {
        &self.id
    }

    fn push(&mut self, kind: EventKind, frame: &str) -> String {
        if kind == EventKind::Turn
            && let Ok(Event::Turn(turn)) = Event::read(kind, frame)
        {
            self.heed(&turn);
        }
        String::new()
    }

    fn reset(&mut self, _: u64, turn: &Turn, _: Option<&Message>) -> String {
        self.heed(turn);
        String::new()
    }

    fn is_done(&self) -> bool {
        self.turn.is_some()
    }

    fn broken(&mut self, _: &str) -> Option<String> {
        Some(String::new())
    }

    fn keep_alive(&self) -> &'static str {
        ""
    }
}

/// The end of `turn`, and the message that it wrote; waits for it if there is none yet.
async fn ended(
    router: &Router,
    target: &Target,
    turn: Turn,
    after: u64,
) -> Result<(Turn, Option<Message>), Error> {
    let wait = Ended { id: turn.id.clone(), attempt: turn.attempt, turn: None };
    let mut watcher = Watcher::begin(router, target, after, wait, "wait").await?;
    while watcher.next().await.is_some() {}
    // Without an end the session is gone, or the server ends.
    let turn = watcher.encoder().turn.clone();
    let turn = turn.ok_or_else(|| watcher.broken().unwrap_or(Error::Reset))?;
    match router.ask(target, Request::Query(Ask::Turn(turn.id.clone()))).await? {
        Answer::Answered { message, .. } => Ok((turn, message.map(|message| *message))),
        _ => Err(Error::Reset),
    }
}

/// Stops the running turn, once for `key`; it is over when this answers. `None`: nothing ran. Also whether this was asked
/// before.
///
/// # Errors
///
/// What the session answers.
pub(super) async fn stop_turn(
    router: &Router,
    target: &Target,
    turn_id: Option<String>,
    key: Option<IdempotencyKey>,
) -> Result<(Option<Turn>, bool), ApiError> {
    let command = Command::StopTurn { turn_id };
    let idempotency = key.map(|key| Idempotency::new(key, &command));
    match router.ask(target, Request::Command(command, idempotency)).await {
        Ok(answer @ (Answer::Turn { .. } | Answer::Replayed { status: 202, .. })) => {
            let Begun { turn, after, replayed } = begun(answer)?;
            Ok((Some(ended(router, target, turn, after).await?.0), replayed))
        }
        Ok(answer) => Ok((None, matches!(answer, Answer::Replayed { .. }))),
        Err(Error::Rejected(rejection)) if *rejection == Rejection::SessionNotFound => {
            Ok((None, false))
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Stopped {
    stopped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    turn: Option<Turn>,
}

/// Stops the running turn: when this answers, the partial answer is stored and a new turn is accepted.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/stop", params(("id" = String, Path)), tag = "turns", operation_id = "stopTurn",
    responses((status = 200, body = Stopped), (status = "4XX", body = Problem))
)]
pub(super) async fn stop(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    request: HttpRequest,
    router: Data<Router>,
) -> Response {
    let target = router.target(&caller, &id)?;
    let (turn, replayed) = stop_turn(&router, &target, None, reply::key(&request)?).await?;
    let mut response = reply::json(StatusCode::OK, &Stopped { stopped: turn.is_some(), turn });
    if replayed {
        reply::mark_replayed(&mut response);
    }
    Ok(response)
}

/// `POST /v1/sessions/{id}/approvals/{approvalId}`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Approve {
    /// Whether the call may run.
    approved: bool,
    /// Why.
    reason: Option<String>,
}

/// Allows or refuses a tool call; the turn goes on when no other call waits.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/approvals/{approval}", request_body = Approve, tag = "turns", operation_id = "approve",
    params(("id" = String, Path), ("approval" = String, Path)),
    responses((status = 200, body = Turn), (status = "4XX", body = Problem))
)]
pub(super) async fn approve(
    Authenticated(caller): Authenticated,
    path: Path<(String, String)>,
    request: HttpRequest,
    Body(bytes): Body,
    router: Data<Router>,
) -> Response {
    let (id, approval_id) = path.into_inner();
    let target = router.target(&caller, &id)?;
    let Approve { approved, reason } = body::parse(&bytes)?;
    let approval_id = reply::name("approval", approval_id)?.into();
    let command = Command::Approve { approval_id, approved, reason };
    let answer = router.ask(&target, reply::once(&request, command)?).await?;
    let Begun { turn, replayed, .. } = begun(answer)?;
    let mut response = reply::json(StatusCode::OK, &turn);
    if replayed {
        reply::mark_replayed(&mut response);
    }
    Ok(response)
}
