//! Sockets: events out, commands in, one task each. The task only moves bytes; what they mean is elsewhere.
//!
//! Rules that a socket of this stack needs, each learnt from a measurement:
//! a guard before the codec, since actix keeps a whole frame before it looks at its length; a deadline on every send,
//! since a peer that stops reading suspends the sender; `TCP_USER_TIMEOUT` on the listener, since `close` is itself a
//! message behind the others and cannot end such a connection.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::web;
use actix_web::web::Data;
use actix_web::web::Path;
use actix_ws::AggregatedMessage;
use actix_ws::AggregatedMessageStream;
use actix_ws::CloseCode;
use actix_ws::CloseReason;
use actix_ws::Session;
use bytestring::ByteString;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use serde::Deserialize;
use tokio::task::JoinError;
use tokio::task::JoinHandle;

use crate::auth::Caller;
use crate::base::clock;
use crate::base::limits::CLOSE_REASON_BYTES_MAX;
use crate::base::limits::Limit;
use crate::base::limits::Limits;
use crate::base::metric;
use crate::domain::session::Command;
use crate::domain::session::EventKind;
use crate::http::caller::Authenticated;
use crate::http::commands;
use crate::http::error::ApiError;
use crate::http::follow::Follower;
use crate::http::follow::Step;
use crate::http::guard::Guard;
use crate::http::query::Query;
use crate::http::throttle::Throttle;
use crate::http::turns::StartTurn;
use crate::http::upgrade::Bounds;
use crate::http::upgrade::Counted;
use crate::http::upgrade::Unsent;
use crate::http::upgrade::close_code;
use crate::http::upgrade::is_upgrade;
use crate::http::upgrade::repack;
use crate::http::upgrade::upgrade;
use crate::http::upgrade::within;
use crate::protocol::chat;
use crate::protocol::native;
use crate::protocol::native::ClientFrame;
use crate::router::Router;
use crate::router::Target;
use crate::wire::envelope::Backlog;
use crate::wire::feed::Close;
use crate::wire::feed::Frame;
use crate::wire::feed::Next;
use crate::wire::feed::What;

/// Commands of one socket that may be on their way; then it is not read.
const PENDING_MAX: usize = 32;
/// Frames beyond the rate that are answered with an error; then the socket is closed.
const STRIKES_MAX: u32 = 60;

/// `?after`
#[derive(Deserialize, utoipa::IntoParams)]
pub(super) struct SocketQuery {
    /// The last seq that the client has; absent: only what happens from now on.
    after: Option<u64>,
}

/// Opens a socket: events of the session from `after` on, and commands.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/websocket", params(("id" = String, Path), SocketQuery), tag = "events", operation_id = "openSocket",
    responses((status = 101), (status = 426, body = crate::wire::problem::Problem), (status = "4XX", body = crate::wire::problem::Problem))
)]
pub(super) async fn open(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    Query(query): Query<SocketQuery>,
    request: HttpRequest,
    payload: web::Payload,
    router: Data<Router>,
) -> Result<HttpResponse, ApiError> {
    let target = router.target(&caller, &id)?;
    let upgrade = Upgrade { request: &request, payload, router: &router };
    upgrade.run(caller, target, query.after, Dialect::Native).await
}

/// Opens a socket of the chat route: stored messages and changed parts only.
#[utoipa::path(
    get, path = "/chat/{id}/websocket", params(("id" = String, Path)), tag = "chat", operation_id = "openChatSocket",
    responses((status = 101), (status = 426))
)]
pub(super) async fn open_chat(
    Authenticated(caller): Authenticated,
    id: Path<String>,
    request: HttpRequest,
    payload: web::Payload,
    router: Data<Router>,
) -> Result<HttpResponse, ApiError> {
    let target = router.target(&caller, &id)?;
    let upgrade = Upgrade { request: &request, payload, router: &router };
    upgrade.run(caller, target, None, Dialect::Chat).await
}

/// What a socket speaks.
#[derive(Clone, Copy, PartialEq)]
enum Dialect {
    Native,
    Chat,
}

struct Upgrade<'a> {
    request: &'a HttpRequest,
    payload: web::Payload,
    router: &'a Router,
}

impl Upgrade<'_> {
    async fn run(
        self,
        caller: Caller,
        target: Target,
        after: Option<u64>,
        dialect: Dialect,
    ) -> Result<HttpResponse, ApiError> {
        if !is_upgrade(self.request) {
            return Err(ApiError::new("upgrade_required", "send `Upgrade: websocket`"));
        }
        let limits = self.router.limits();
        let absent_ok = dialect == Dialect::Chat;
        // Before the upgrade, so that a refusal is an HTTP answer.
        let (follower, backlog) =
            Follower::begin(self.router, &target, after, absent_ok, "websocket").await?;
        let (payload, verdict) =
            Guard::wrap(self.payload.into_inner(), limits.socket_frame_bytes, limits);
        let payload = repack(self.request, payload)?;
        let (response, session, stream) = upgrade(self.request, payload)?;
        let stream = stream
            .max_frame_size(limits.socket_frame_bytes)
            .aggregate_continuations()
            .max_continuation_size(limits.socket_frame_bytes);
        let now = clock::instant();
        let socket = Socket {
            session,
            follower,
            caller,
            target,
            router: self.router.clone(),
            dialect,
            bounds: Bounds::new(limits, verdict),
            messages: Throttle::new(limits.socket_messages_per_minute, now),
            strikes: 0,
            pending: FuturesOrdered::new(),
            _counted: Counted::open(if absent_ok { "chat" } else { "native" }),
        };
        actix_web::rt::spawn(socket.run(stream, backlog));
        Ok(response)
    }
}

/// Why a socket ends.
enum End {
    /// The client is gone, or does not take a close any more.
    Gone,
    /// With this close.
    Close(u16, String),
}

impl From<(u16, String)> for End {
    fn from((code, reason): (u16, String)) -> Self {
        Self::Close(code, reason)
    }
}

struct Socket {
    session: Session,
    follower: Follower,
    caller: Caller,
    target: Target,
    router: Router,
    dialect: Dialect,
    bounds: Bounds,
    messages: Throttle,
    strikes: u32,
    /// Commands on their way. Each is a task, so it goes on whatever becomes of the socket.
    pending: FuturesOrdered<JoinHandle<String>>,
    _counted: Counted,
}

impl Socket {
    async fn run(mut self, stream: AggregatedMessageStream, backlog: Backlog) {
        let end = match self.talk(stream, backlog).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        if let End::Close(code, mut reason) = end {
            reason.truncate(CLOSE_REASON_BYTES_MAX);
            let reason = CloseReason { code: CloseCode::from(code), description: Some(reason) };
            let close = self.session.close(Some(reason));
            // A peer that does not read does not take a close either; the kernel ends that connection.
            drop(tokio::time::timeout(Duration::from_secs(1), close).await);
        }
    }

    async fn talk(
        &mut self,
        mut stream: AggregatedMessageStream,
        backlog: Backlog,
    ) -> Result<std::convert::Infallible, End> {
        let limits: Limits = self.router.limits().clone();
        if self.dialect == Dialect::Native {
            let after = self.follower.seen();
            let ready = native::ready(self.target.id(), backlog.epoch, backlog.last_seq, after);
            self.send(ready.into(), &limits).await?;
        }
        let frames = self.follower.frames(backlog);
        self.send_frames(frames, &limits).await?;
        let (ping, pong) =
            (Duration::from_millis(limits.ping_ms), Duration::from_millis(limits.pong_ms));
        let mut heard = clock::instant();
        let mut pinged = false;
        loop {
            let quiet = if pinged { ping + pong } else { ping };
            let deadline = tokio::time::Instant::from_std(heard + quiet);
            tokio::select! {
                next = self.follower.wait() => self.follow(next, &limits).await?,
                Some(answer) = self.pending.next(), if !self.pending.is_empty() => {
                    self.answer(answer, &limits).await?;
                }
                message = stream.recv(), if self.pending.len() < PENDING_MAX => {
                    (heard, pinged) = (clock::instant(), false);
                    self.hear(message, &limits).await?;
                }
                () = tokio::time::sleep_until(deadline) => {
                    if pinged {
                        return Err(End::Gone);
                    }
                    pinged = true;
                    let pinged = within(&limits, self.session.ping(b"")).await;
                    self.sent(pinged)?;
                }
            }
        }
    }

    async fn follow(&mut self, next: Next, limits: &Limits) -> Result<(), End> {
        match self.follower.take(next).await {
            Ok(Step::Frames(frames)) => self.send_frames(frames, limits).await,
            Ok(Step::Closed(Close::Deleted)) => {
                Err(End::Close(4404, "the session was deleted".to_owned()))
            }
            Ok(Step::Closed(Close::Restarting)) => {
                Err(End::Close(1012, format!("restarting; resume after {}", self.follower.seen())))
            }
            Err(error) => {
                let error = ApiError::from(error);
                let frame = native::error(None, &error.problem());
                self.send(frame.into(), limits).await?;
                Err(End::Close(1013, format!("resume after {}", self.follower.seen())))
            }
        }
    }

    async fn send_frames(
        &mut self,
        frames: std::collections::VecDeque<Frame>,
        limits: &Limits,
    ) -> Result<(), End> {
        metric::counters().frames("websocket").inc_by(frames.len() as u64);
        for frame in frames {
            match (self.dialect, frame.what) {
                (Dialect::Native, _) => self.send(frame.text, limits).await?,
                (Dialect::Chat, What::Event(number)) => {
                    let kind = EventKind::from_number(number);
                    if let Some(text) = kind.and_then(|kind| chat::socket_frame(kind, &frame.text))
                    {
                        self.send(text.into(), limits).await?;
                    }
                }
                (Dialect::Chat, What::Reset) => {
                    for text in chat::messages_of_reset(&frame.text) {
                        self.send(text.into(), limits).await?;
                    }
                }
                (Dialect::Chat, What::Passing) => {}
            }
        }
        Ok(())
    }

    async fn answer(
        &mut self,
        answer: Result<String, JoinError>,
        limits: &Limits,
    ) -> Result<(), End> {
        let answer = answer.unwrap_or_else(|_| {
            let error = ApiError::new("internal", "the command was lost on its way");
            native::error(None, &error.problem())
        });
        self.send(answer.into(), limits).await
    }

    async fn send(&mut self, text: ByteString, limits: &Limits) -> Result<(), End> {
        let sent = within(limits, self.session.text(text)).await;
        self.sent(sent)
    }

    /// What becomes of the socket after a send.
    fn sent(&self, sent: Result<(), Unsent>) -> Result<(), End> {
        sent.map_err(|unsent| match unsent {
            Unsent::Gone => End::Gone,
            Unsent::Slow => {
                End::Close(4408, format!("too slow; resume after {}", self.follower.seen()))
            }
        })
    }

    async fn hear(
        &mut self,
        message: Option<Result<AggregatedMessage, actix_ws::ProtocolError>>,
        limits: &Limits,
    ) -> Result<(), End> {
        let now = clock::instant();
        match message {
            Some(Ok(AggregatedMessage::Text(text))) => {
                if self.messages.take(now) {
                    return self.obey(&text, limits).await;
                }
                self.strike("too many messages")?;
                let wait = self.messages.wait().as_secs() + 1;
                let detail = format!("too many messages: wait {wait} s");
                let error = ApiError::new(Limit::SocketRate.code(), detail);
                let client_id = ClientFrame::client_id(&text);
                let frame = native::error(client_id.as_deref(), &error.problem());
                self.send(frame.into(), limits).await
            }
            Some(Ok(AggregatedMessage::Binary(_))) => {
                Err(End::Close(1003, "text frames only".to_owned()))
            }
            Some(Ok(AggregatedMessage::Ping(payload))) => {
                self.bounds.control()?;
                let sent = within(limits, self.session.pong(&payload)).await;
                self.sent(sent)
            }
            Some(Ok(AggregatedMessage::Pong(_))) => Ok(self.bounds.control()?),
            Some(Ok(AggregatedMessage::Close(reason))) => {
                // What came before the goodbye is carried out and answered.
                while let Some(answer) = self.pending.next().await {
                    self.answer(answer, limits).await?;
                }
                let code = reason.map_or(1000, |reason| reason.code.into());
                Err(End::Close(code, String::new()))
            }
            Some(Err(error)) => Err(End::Close(close_code(&error), error.to_string())),
            None => Err(self.bounds.stopped().map_or(End::Gone, End::from)),
        }
    }

    fn strike(&mut self, what: &str) -> Result<(), End> {
        metric::counters().limit_hit(Limit::SocketRate);
        self.strikes += 1;
        if self.strikes > STRIKES_MAX {
            return Err(End::Close(4029, what.to_owned()));
        }
        Ok(())
    }

    /// Sends a command on its way; its answer comes when it is durable, in the order of the commands.
    fn command(&mut self, client_id: String, command: Command) {
        let work =
            commands::carry_out(self.router.clone(), self.target.clone(), client_id, command);
        self.pending.push_back(actix_web::rt::spawn(work));
    }

    async fn obey(&mut self, text: &str, limits: &Limits) -> Result<(), End> {
        if self.dialect == Dialect::Chat {
            // Sockets of the chat route only listen.
            return Ok(());
        }
        match ClientFrame::parse(text) {
            Ok(ClientFrame::Ping) => self.send(ByteString::from_static(native::PONG), limits).await,
            Ok(ClientFrame::Typing(state)) => {
                let frame = native::typing(self.caller.user(), state);
                self.router.publish(&self.target, frame.into());
                Ok(())
            }
            Ok(ClientFrame::Send { client_id, message }) => {
                self.command(client_id, Command::AddMessage(*message));
                Ok(())
            }
            Ok(ClientFrame::Parts { client_id, message_id, parts, if_version }) => {
                let command = Command::ReplaceParts { message_id, parts, if_version };
                self.command(client_id, command);
                Ok(())
            }
            Ok(ClientFrame::Turn { client_id, body }) => {
                let start: Result<StartTurn, _> = serde_json::from_str(body.as_str());
                let start = start.map_err(|error| ApiError::invalid(error.to_string()));
                match start.and_then(|start| start.into_turn(&self.router)) {
                    Ok(turn) => {
                        let (router, target) = (self.router.clone(), self.target.clone());
                        let work = commands::begin(router, target, client_id, turn);
                        self.pending.push_back(actix_web::rt::spawn(work));
                        Ok(())
                    }
                    Err(error) => {
                        let frame = native::error(Some(&client_id), &error.problem());
                        self.send(frame.into(), limits).await
                    }
                }
            }
            Ok(ClientFrame::Stop { client_id }) => {
                let work = commands::stop(self.router.clone(), self.target.clone(), client_id);
                self.pending.push_back(actix_web::rt::spawn(work));
                Ok(())
            }
            Err(bad) => {
                let problem = ApiError::invalid(bad.problem).problem();
                let frame = native::error(bad.client_id.as_deref(), &problem);
                self.send(frame.into(), limits).await
            }
        }
    }
}
