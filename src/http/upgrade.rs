//! What every socket needs before and after it is one.

use std::time::Duration;

use actix_web::FromRequest;
use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web;
use futures_util::FutureExt;
use prometheus_client::metrics::gauge::Gauge;

use crate::base::clock;
use crate::base::limits::Limit;
use crate::base::limits::Limits;
use crate::base::metric;
use crate::http::error::ApiError;
use crate::http::guard::Verdict;
use crate::http::throttle::Throttle;

/// The sub-protocol of the native socket.
const OWN_PROTOCOL: &str = "sessile.v1";

/// A socket that is counted while it is open.
pub(super) struct Counted(Gauge);

impl Counted {
    /// A socket that speaks `dialect`.
    pub(super) fn open(dialect: &'static str) -> Self {
        let gauge = metric::counters().sockets(dialect);
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The bounds of a socket that hold whatever its frames say, and the code and reason of the close beyond them.
pub(super) struct Bounds {
    verdict: Verdict,
    controls: Throttle,
}

impl Bounds {
    /// Those of `limits`; `verdict` tells what the [`crate::http::guard::Guard`] of this socket stopped.
    pub(super) fn new(limits: &Limits, verdict: Verdict) -> Self {
        let controls = Throttle::new(limits.socket_controls_per_minute, clock::instant());
        Self { verdict, controls }
    }

    /// A ping or a pong came.
    pub(super) fn control(&mut self) -> Result<(), (u16, String)> {
        if self.controls.take(clock::instant()) {
            return Ok(());
        }
        metric::counters().limit_hit(Limit::SocketRate);
        Err((4029, "too many pings or pongs".to_owned()))
    }

    /// Nothing comes any more: the close that is due if that is because of a frame.
    pub(super) fn stopped(&self) -> Option<(u16, String)> {
        let limit = self.verdict.get()?;
        metric::counters().limit_hit(limit);
        Some((4009, format!("beyond the limit {}", limit.name())))
    }
}

/// Why something was not sent.
pub(super) enum Unsent {
    /// The client is gone.
    Gone,
    /// It takes nothing.
    Slow,
}

/// Waits for a send, but not for ever: a peer that does not read is cut off and resumes later.
pub(super) async fn within(
    limits: &Limits,
    sent: impl Future<Output = Result<(), actix_ws::Closed>>,
) -> Result<(), Unsent> {
    match tokio::time::timeout(Duration::from_millis(limits.socket_stuck_ms), sent).await {
        Ok(sent) => sent.map_err(|_| Unsent::Gone),
        Err(_) => {
            metric::counters().limit_hit(Limit::Stuck);
            metric::counters().slow_consumer("closed");
            Err(Unsent::Slow)
        }
    }
}

/// The code with which a socket is closed after this error.
pub(super) fn close_code(error: &actix_ws::ProtocolError) -> u16 {
    match error {
        actix_ws::ProtocolError::Overflow => 4009,
        // How `actix-ws` says that the fragments of a message are too large together.
        actix_ws::ProtocolError::Io(error) if error.to_string().contains("continuation size") => {
            4009
        }
        _ => 1002,
    }
}

/// Whether `request` asks for a socket.
pub(super) fn is_upgrade(request: &HttpRequest) -> bool {
    let upgrade = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// Makes a socket of a request, in the sub-protocol `sessile.v1` if the client offers it, else in the first that it
/// offers: a browser ends a socket for which it offered some and none was taken, and some carry a token there.
///
/// # Errors
///
/// When the request asks for no socket of this kind.
pub(super) fn upgrade(
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<(HttpResponse, actix_ws::Session, actix_ws::MessageStream), ApiError> {
    let offered: Vec<&str> = request
        .headers()
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .filter(|name| !name.is_empty())
        .collect();
    let own = offered.iter().find(|name| **name == OWN_PROTOCOL);
    let taken: Vec<&str> = own.or_else(|| offered.first()).copied().into_iter().collect();
    actix_ws::handle_with_protocols(request, payload, &taken)
        .map_err(|error| ApiError::invalid(format!("the upgrade is not acceptable: {error}")))
}

/// A payload as the extractor that `actix-ws` takes.
pub(super) fn repack(
    request: &HttpRequest,
    mut payload: actix_web::dev::Payload,
) -> Result<web::Payload, ApiError> {
    let taken = web::Payload::from_request(request, &mut payload);
    let internal = || ApiError::new("internal", "a payload could not be taken");
    taken.now_or_never().and_then(Result::ok).ok_or_else(internal)
}
