//! `/api/chat/ws`: the socket of `WebSocketChatTransport`. One socket carries many requests.

use std::cell::RefCell;
use std::cell::RefMut;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::web;
use actix_web::web::Data;
use actix_ws::AggregatedMessage;
use actix_ws::CloseCode;
use actix_ws::CloseReason;
use actix_ws::Session;
use tokio::sync::mpsc;

use crate::auth::Caller;
use crate::base::clock;
use crate::base::ids::IdempotencyKey;
use crate::base::limits::Limit;
use crate::base::limits::Limits;
use crate::base::metric;
use crate::domain::session::EventKind;
use crate::domain::session::Message;
use crate::domain::session::Rejection;
use crate::domain::session::Turn;
use crate::http::answer::Watcher;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;
use crate::http::guard::Guard;
use crate::http::history::LastMessage;
use crate::http::throttle::Throttle;
use crate::http::turns;
use crate::http::turns::Begun;
use crate::http::ui;
use crate::http::upgrade::Bounds;
use crate::http::upgrade::Counted;
use crate::http::upgrade::Unsent;
use crate::http::upgrade::close_code;
use crate::http::upgrade::is_upgrade;
use crate::http::upgrade::repack;
use crate::http::upgrade::upgrade;
use crate::http::upgrade::within;
use crate::protocol::Encoder;
use crate::protocol::ui::Chunk;
use crate::protocol::ui::Chunks;
use crate::protocol::ui::Protocol;
use crate::protocol::ui::SocketFrame;
use crate::protocol::ui::SocketReply;
use crate::protocol::ui::UiRequest;
use crate::router::Router;
use crate::router::Target;
use crate::wire::envelope::Error;

/// Requests of one socket that are answered at the same time.
const REQUESTS_MAX: usize = 32;
/// Frames that wait for the socket; then those who make them wait.
const WAITING_MAX: usize = 64;
/// Frames beyond the rate that are answered with an error; then the socket is closed.
const STRIKES_MAX: u32 = 60;

/// Opens a socket.
#[utoipa::path(
    get, path = "/api/chat/ws", tag = "ai-sdk", operation_id = "uiSocket",
    responses((status = 101), (status = 426))
)]
pub(super) async fn open(
    Authenticated(caller): Authenticated,
    request: HttpRequest,
    payload: web::Payload,
    router: Data<Router>,
) -> Result<HttpResponse, ApiError> {
    if !is_upgrade(&request) {
        return Err(ApiError::new("upgrade_required", "send `Upgrade: websocket`"));
    }
    let limits = router.limits();
    // A frame may carry the history as well, of which only the last message is looked at.
    let frame_max = limits.history_body_bytes;
    let (payload, verdict) = Guard::wrap(payload.into_inner(), frame_max, limits);
    let payload = repack(&request, payload)?;
    let (response, session, stream) = upgrade(&request, payload)?;
    let stream =
        stream.max_frame_size(frame_max).aggregate_continuations().max_continuation_size(frame_max);
    let router = Router::clone(&router);
    actix_web::rt::spawn(async move {
        let now = clock::instant();
        let rate = Throttle::new(router.limits().socket_messages_per_minute, now);
        let (frames, waiting) = mpsc::channel(WAITING_MAX);
        let open = Rc::default();
        let bounds = Bounds::new(router.limits(), verdict);
        let (count, strikes) = (0, 0);
        let socket = Socket { session, router, caller, open, count, frames, bounds, rate, strikes };
        let counted = Counted::open("ui");
        socket.run(stream, waiting).await;
        drop(counted);
    });
    Ok(response)
}

/// Requests that are being answered, by their names.
type Open = Rc<RefCell<HashMap<String, Following>>>;

/// A request that is being answered.
struct Following {
    /// Tells it from a later request of the same name.
    number: u64,
    stage: Stage,
}

/// How far it is.
enum Stage {
    /// Its turn is not known yet.
    Asked,
    /// Its turn is to be stopped as soon as it is known.
    Aborted,
    /// It follows this turn.
    Follows(Target, String),
}

struct Socket {
    session: Session,
    router: Router,
    caller: Caller,
    open: Open,
    /// Requests so far.
    count: u64,
    frames: mpsc::Sender<String>,
    bounds: Bounds,
    rate: Throttle,
    /// Frames beyond the rate.
    strikes: u32,
}

/// What a request asks for.
enum Wanted {
    /// As a `POST`, with its idempotency key.
    Send(Box<UiRequest>, Option<String>),
    /// The answer that is being written in this chat.
    Resume(String),
}

/// Code and reason of a close.
type Close = (u16, String);

impl Socket {
    async fn run(
        mut self,
        mut stream: actix_ws::AggregatedMessageStream,
        mut waiting: mpsc::Receiver<String>,
    ) {
        let limits: Limits = self.router.limits().clone();
        let (ping, pong) =
            (Duration::from_millis(limits.ping_ms), Duration::from_millis(limits.pong_ms));
        let (mut heard, mut pinged) = (clock::instant(), false);
        let mut closing = self.router.closing();
        let close = loop {
            let quiet = if pinged { ping + pong } else { ping };
            let deadline = tokio::time::Instant::from_std(heard + quiet);
            tokio::select! {
                Some(frame) = waiting.recv() => {
                    if let Err(unsent) = within(&limits, self.session.text(frame)).await {
                        break after(unsent);
                    }
                }
                message = stream.recv() => {
                    (heard, pinged) = (clock::instant(), false);
                    match self.hear(message).await {
                        Ok(()) => {}
                        Err(close) => break close,
                    }
                }
                _ = closing.wait_for(|closing| *closing) => {
                    while let Ok(frame) = waiting.try_recv() {
                        if within(&limits, self.session.text(frame)).await.is_err() {
                            break;
                        }
                    }
                    break Some((1012, "restarting; resume".to_owned()));
                }
                () = tokio::time::sleep_until(deadline) => {
                    if pinged {
                        break None;
                    }
                    if let Err(unsent) = within(&limits, self.session.ping(b"")).await {
                        break after(unsent);
                    }
                    pinged = true;
                }
            }
        };
        // A socket that closes is no stop: whatever runs goes on, its readers end.
        self.open.borrow_mut().clear();
        if let Some((code, reason)) = close {
            let reason = CloseReason { code: CloseCode::from(code), description: Some(reason) };
            let close = self.session.close(Some(reason));
            drop(tokio::time::timeout(Duration::from_secs(1), close).await);
        }
    }

    async fn hear(
        &mut self,
        message: Option<Result<AggregatedMessage, actix_ws::ProtocolError>>,
    ) -> Result<(), Option<Close>> {
        match message {
            Some(Ok(AggregatedMessage::Text(text))) => {
                if !self.rate.take(clock::instant()) {
                    return self.refuse(&text).await;
                }
                let max = self.router.limits().turn_body_bytes;
                let Ok(text) = LastMessage::of(&text, max) else {
                    metric::counters().limit_hit(Limit::Body);
                    let problem = format!("the last message is larger than {max} bytes");
                    return self.error(&text, &problem).await;
                };
                match SocketFrame::parse(&text) {
                    Ok(frame) => match self.obey(frame) {
                        Ok(()) => Ok(()),
                        Err(problem) => self.error(&text, problem).await,
                    },
                    Err(problem) if SocketFrame::is_known(&text) => {
                        self.error(&text, &problem).await
                    }
                    Err(problem) => Err(Some((1008, shortened(problem)))),
                }
            }
            Some(Ok(AggregatedMessage::Binary(_))) => {
                Err(Some((1003, "text frames only".to_owned())))
            }
            Some(Ok(AggregatedMessage::Ping(payload))) => {
                self.bounds.control().map_err(Some)?;
                within(self.router.limits(), self.session.pong(&payload)).await.map_err(after)
            }
            Some(Ok(AggregatedMessage::Pong(_))) => self.bounds.control().map_err(Some),
            Some(Ok(AggregatedMessage::Close(reason))) => {
                Err(Some((reason.map_or(1000, |reason| reason.code.into()), String::new())))
            }
            Some(Err(error)) => Err(Some((close_code(&error), shortened(error.to_string())))),
            None => Err(self.bounds.stopped()),
        }
    }

    /// A frame beyond the rate: whoever sent it is told, unless it goes on like this.
    async fn refuse(&mut self, text: &str) -> Result<(), Option<Close>> {
        metric::counters().limit_hit(Limit::SocketRate);
        self.strikes += 1;
        let wait = self.rate.wait().as_secs() + 1;
        if self.strikes > STRIKES_MAX {
            return Err(Some((4029, "too many messages".to_owned())));
        }
        self.error(text, &format!("too many messages: wait {wait} s")).await
    }

    /// Refuses the request that a frame makes; a frame that makes none ends the socket.
    async fn error(&mut self, text: &str, problem: &str) -> Result<(), Option<Close>> {
        let Some(request_id) = SocketFrame::request_id(text) else {
            return Err(Some((1008, shortened(problem.to_owned()))));
        };
        let frame = SocketReply::Error(problem).json(&request_id);
        within(self.router.limits(), self.session.text(frame)).await.map_err(after)
    }

    /// Does what a frame says.
    ///
    /// # Errors
    ///
    /// Why not.
    fn obey(&mut self, frame: SocketFrame) -> Result<(), &'static str> {
        match frame {
            SocketFrame::Abort { request_id } => {
                let mut open = self.open.borrow_mut();
                match open.remove(&request_id) {
                    Some(Following { stage: Stage::Follows(target, turn_id), .. }) => {
                        actix_web::rt::spawn(stop(self.router.clone(), target, turn_id));
                    }
                    // Its name is not free before its task is over.
                    Some(Following { number, .. }) => {
                        open.insert(request_id, Following { number, stage: Stage::Aborted });
                    }
                    None => {}
                }
            }
            SocketFrame::Send { request_id, request, key } => {
                self.follow(request_id, Wanted::Send(request, key))?;
            }
            SocketFrame::Resume { request_id, id } => {
                self.follow(request_id, Wanted::Resume(id))?;
            }
        }
        Ok(())
    }

    fn follow(&mut self, request_id: String, wanted: Wanted) -> Result<(), &'static str> {
        self.count += 1;
        let number = self.count;
        {
            let mut open = self.open.borrow_mut();
            if open.contains_key(&request_id) {
                return Err("a request with this `requestId` is being answered");
            }
            if open.len() >= REQUESTS_MAX {
                return Err("too many requests are being answered: wait for one of them");
            }
            open.insert(request_id.clone(), Following { number, stage: Stage::Asked });
        }
        let task = Task {
            number,
            router: self.router.clone(),
            caller: self.caller.clone(),
            open: Rc::clone(&self.open),
            frames: self.frames.clone(),
            request_id,
        };
        actix_web::rt::spawn(async move {
            if let Err(error) = task.answer(wanted).await {
                let text = error.problem().detail;
                task.say(&SocketReply::Error(&text)).await;
            }
            if task.entry().is_some() {
                task.open.borrow_mut().remove(&task.request_id);
            }
        });
        Ok(())
    }
}

/// The close that is due after a send.
fn after(unsent: Unsent) -> Option<Close> {
    match unsent {
        Unsent::Gone => None,
        Unsent::Slow => Some((4408, "too slow; resume".to_owned())),
    }
}

/// Stops a turn that nobody waits for any more.
async fn stop(router: Router, target: Target, turn_id: String) {
    if let Err(error) = turns::stop_turn(&router, &target, Some(turn_id), None).await {
        tracing::debug!("a turn could not be stopped: {error}");
    }
}

fn shortened(mut reason: String) -> String {
    let mut end = reason.len().min(crate::base::limits::CLOSE_REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    reason
}

/// One request of a socket.
struct Task {
    router: Router,
    caller: Caller,
    open: Open,
    frames: mpsc::Sender<String>,
    request_id: String,
    number: u64,
}

impl Task {
    /// Its own entry, if it is there still.
    fn entry(&self) -> Option<RefMut<'_, Following>> {
        let entry = RefMut::filter_map(self.open.borrow_mut(), |open| {
            open.get_mut(&self.request_id).filter(|following| following.number == self.number)
        });
        entry.ok()
    }

    /// Whether somebody waits for the answer.
    fn is_wanted(&self) -> bool {
        self.entry().is_some_and(|following| !matches!(following.stage, Stage::Aborted))
    }

    /// False once nobody waits for the answer.
    async fn say(&self, reply: &SocketReply<'_>) -> bool {
        self.is_wanted() && self.frames.send(reply.json(&self.request_id)).await.is_ok()
    }

    async fn answer(&self, wanted: Wanted) -> Result<(), ApiError> {
        let target = |id: &str| self.router.target(&self.caller, id);
        let resumes = matches!(wanted, Wanted::Resume(_));
        let (target, begun) = match wanted {
            Wanted::Send(request, key) => {
                let key = key.as_deref().map(IdempotencyKey::new).transpose();
                let key = key.map_err(Rejection::misnamed("Idempotency-Key"))?;
                let id = request.session_id.clone().or_else(|| request.id.clone());
                let id = id.filter(|id| !id.is_empty());
                let id = id.unwrap_or_else(|| ui::unnamed(&self.caller, key.as_ref()));
                let target = target(&id)?;
                let begun = ui::begin(&self.router, &target, *request, Protocol::Ui, key).await?;
                (target, Some(begun))
            }
            Wanted::Resume(id) => {
                let target = target(&id)?;
                let begun = ui::running(&self.router, &target).await?;
                (target, begun)
            }
        };
        let Some(Begun { turn, after, .. }) = begun else {
            self.say(&SocketReply::NoActive).await;
            return Ok(());
        };
        let aborted = self.entry().is_some_and(|mut following| {
            let stage = Stage::Follows(target.clone(), turn.id.clone());
            matches!(std::mem::replace(&mut following.stage, stage), Stage::Aborted)
        });
        if aborted {
            stop(self.router.clone(), target, turn.id).await;
            return Ok(());
        }
        if resumes && !self.say(&SocketReply::Start).await {
            return Ok(());
        }
        let (chunks, request_id) = (Chunks::of(&turn), self.request_id.clone());
        let encoder = Frames { chunks, request_id, sequence: 0 };
        let mut watcher =
            Watcher::begin(&self.router, &target, after, encoder, "ui-socket").await?;
        while let Some(lines) = watcher.next().await {
            for line in lines.lines() {
                if !self.is_wanted() || self.frames.send(line.to_owned()).await.is_err() {
                    return Ok(());
                }
            }
        }
        if watcher.encoder().is_done() {
            self.say(&SocketReply::End).await;
            Ok(())
        } else {
            Err(watcher.broken().unwrap_or(Error::Reset).into())
        }
    }
}

/// The frames of one answer, a line each.
struct Frames {
    chunks: Chunks,
    request_id: String,
    sequence: u64,
}

impl Frames {
    fn lines(&mut self, chunks: Vec<Chunk>) -> String {
        let mut out = String::new();
        for chunk in chunks {
            out.push_str(&SocketReply::Chunk(self.sequence, &chunk.json()).json(&self.request_id));
            out.push('\n');
            self.sequence += 1;
        }
        out
    }
}

impl Encoder for Frames {
    fn turn_id(&self) -> &str {
        self.chunks.turn_id()
    }

    fn push(&mut self, kind: EventKind, frame: &str) -> String {
        let chunks = self.chunks.push(kind, frame);
        self.lines(chunks)
    }

    fn reset(&mut self, _: u64, turn: &Turn, message: Option<&Message>) -> String {
        let chunks = self.chunks.reset(turn, message);
        self.lines(chunks)
    }

    fn is_done(&self) -> bool {
        self.chunks.is_done()
    }

    fn broken(&mut self, _: &str) -> Option<String> {
        Some(String::new())
    }

    fn keep_alive(&self) -> &'static str {
        ""
    }
}
