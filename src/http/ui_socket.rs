//! `/api/chat/ws`: the socket of `WebSocketChatTransport`. One socket carries many requests.

use std::cell::RefCell;
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
use crate::base::ids;
use crate::base::limits::Limits;
use crate::domain::session::EventKind;
use crate::http::answer::Watcher;
use crate::http::caller::Authenticated;
use crate::http::error::ApiError;
use crate::http::guard::Guard;
use crate::http::throttle::Throttle;
use crate::http::turns;
use crate::http::ui;
use crate::http::ui::Begun;
use crate::http::upgrade::Counted;
use crate::http::upgrade::is_upgrade;
use crate::http::upgrade::repack;
use crate::protocol::Encoder;
use crate::protocol::ui::Chunks;
use crate::protocol::ui::Protocol;
use crate::protocol::ui::SocketFrame;
use crate::protocol::ui::SocketReply;
use crate::protocol::ui::UiRequest;
use crate::router::Router;
use crate::router::Target;

/// Requests of one socket that are answered at the same time.
const REQUESTS_MAX: usize = 32;
/// Frames that wait for the socket; then those who make them wait.
const WAITING_MAX: usize = 64;

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
    let (frame_max, fragments_max) = (limits.turn_body_bytes, limits.socket_fragments_count);
    let (payload, _) = Guard::wrap(payload.into_inner(), frame_max, fragments_max);
    let payload = repack(&request, payload)?;
    let (response, session, stream) = actix_ws::handle(&request, payload)
        .map_err(|error| ApiError::invalid(format!("the upgrade is not acceptable: {error}")))?;
    let stream =
        stream.max_frame_size(frame_max).aggregate_continuations().max_continuation_size(frame_max);
    let router = Router::clone(&router);
    actix_web::rt::spawn(async move {
        let now = clock::instant();
        let rate = Throttle::new(router.limits().socket_messages_per_minute, now);
        let (frames, waiting) = mpsc::channel(WAITING_MAX);
        let socket = Socket { session, router, caller, open: Rc::default(), frames, rate };
        let counted = Counted::open("ui");
        socket.run(stream, waiting).await;
        drop(counted);
    });
    Ok(response)
}

/// Requests that are being answered, and the turns that they follow once they are known.
type Open = Rc<RefCell<HashMap<String, Option<(Target, String)>>>>;

struct Socket {
    session: Session,
    router: Router,
    caller: Caller,
    open: Open,
    frames: mpsc::Sender<String>,
    rate: Throttle,
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
        let stuck = Duration::from_millis(limits.socket_stuck_ms);
        let (mut heard, mut pinged) = (clock::instant(), false);
        let close = loop {
            let quiet = if pinged { ping + pong } else { ping };
            let deadline = tokio::time::Instant::from_std(heard + quiet);
            tokio::select! {
                Some(frame) = waiting.recv() => {
                    match tokio::time::timeout(stuck, self.session.text(frame)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => break None,
                        Err(_) => break Some((4408, "too slow; resume".to_owned())),
                    }
                }
                message = stream.recv() => {
                    (heard, pinged) = (clock::instant(), false);
                    match self.hear(message).await {
                        Ok(()) => {}
                        Err(close) => break close,
                    }
                }
                () = tokio::time::sleep_until(deadline) => {
                    if pinged || self.session.ping(b"").await.is_err() {
                        break None;
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
                    return Err(Some((4029, "too many messages".to_owned())));
                }
                match SocketFrame::parse(&text) {
                    Ok(frame) => self.obey(frame),
                    Err(problem) => Err(Some((1008, shortened(problem)))),
                }
            }
            Some(Ok(AggregatedMessage::Binary(_))) => {
                Err(Some((1003, "text frames only".to_owned())))
            }
            Some(Ok(AggregatedMessage::Ping(payload))) => {
                self.session.pong(&payload).await.map_err(|_| None)
            }
            Some(Ok(AggregatedMessage::Pong(_))) => Ok(()),
            Some(Ok(AggregatedMessage::Close(reason))) => {
                Err(Some((reason.map_or(1000, |reason| reason.code.into()), String::new())))
            }
            Some(Err(error)) => Err(Some((1002, shortened(error.to_string())))),
            None => Err(None),
        }
    }

    fn obey(&mut self, frame: SocketFrame) -> Result<(), Option<Close>> {
        match frame {
            SocketFrame::Abort { request_id } => {
                let aborted = self.open.borrow_mut().remove(&request_id).flatten();
                if let Some((target, turn_id)) = aborted {
                    let router = self.router.clone();
                    actix_web::rt::spawn(async move {
                        let stopped = turns::stop_turn(&router, &target, Some(turn_id)).await;
                        if let Err(error) = stopped {
                            tracing::debug!("a turn could not be stopped: {error}");
                        }
                    });
                }
            }
            SocketFrame::Send { request_id, request } => {
                self.follow(request_id, Some(request), None)?
            }
            SocketFrame::Resume { request_id, id } => self.follow(request_id, None, Some(id))?,
        }
        Ok(())
    }

    fn follow(
        &self,
        request_id: String,
        request: Option<Box<UiRequest>>,
        id: Option<String>,
    ) -> Result<(), Option<Close>> {
        {
            let mut open = self.open.borrow_mut();
            if open.len() >= REQUESTS_MAX || open.contains_key(&request_id) {
                let problem = "too many requests at once, or one `requestId` twice";
                return Err(Some((1008, problem.to_owned())));
            }
            open.insert(request_id.clone(), None);
        }
        let task = Task {
            router: self.router.clone(),
            caller: self.caller.clone(),
            open: Rc::clone(&self.open),
            frames: self.frames.clone(),
            request_id,
        };
        actix_web::rt::spawn(async move {
            let resumes = request.is_none();
            let id = id.or_else(|| request.as_ref()?.id.clone());
            if let Err(error) = task.answer(id, request, resumes).await {
                let text = error.problem().detail;
                task.say(&SocketReply::Error(&text)).await;
            }
            task.open.borrow_mut().remove(&task.request_id);
        });
        Ok(())
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
}

impl Task {
    /// False once nobody waits for the answer.
    async fn say(&self, reply: &SocketReply<'_>) -> bool {
        let wanted = self.open.borrow().contains_key(&self.request_id);
        wanted && self.frames.send(reply.json(&self.request_id)).await.is_ok()
    }

    async fn answer(
        &self,
        id: Option<String>,
        request: Option<Box<UiRequest>>,
        resumes: bool,
    ) -> Result<(), ApiError> {
        let id = id.unwrap_or_else(ids::fresh);
        let target = self.router.target(&self.caller, &id)?;
        let begun = match request {
            Some(request) => Some(ui::begin(&self.router, &target, *request, Protocol::Ui).await?),
            None => ui::running(&self.router, &target).await?,
        };
        let Some(Begun { turn, after }) = begun else {
            self.say(&SocketReply::NoActive).await;
            return Ok(());
        };
        if let Some(of) = self.open.borrow_mut().get_mut(&self.request_id) {
            *of = Some((target.clone(), turn.id.clone()));
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
                let wanted = self.open.borrow().contains_key(&self.request_id);
                if !wanted || self.frames.send(line.to_owned()).await.is_err() {
                    return Ok(());
                }
            }
        }
        if watcher.encoder().is_done() {
            self.say(&SocketReply::End).await;
            Ok(())
        } else {
            Err(ApiError::new("shutting_down", "the connection to the session ended: resume"))
        }
    }
}

/// The frames of one answer, a line each.
struct Frames {
    chunks: Chunks,
    request_id: String,
    sequence: u64,
}

impl Encoder for Frames {
    fn push(&mut self, kind: EventKind, frame: &str) -> String {
        let mut out = String::new();
        for chunk in self.chunks.push(kind, frame) {
            out.push_str(&SocketReply::Chunk(self.sequence, &chunk.json()).json(&self.request_id));
            out.push('\n');
            self.sequence += 1;
        }
        out
    }

    fn is_done(&self) -> bool {
        self.chunks.is_done()
    }

    fn keep_alive(&self) -> &'static str {
        ""
    }
}
