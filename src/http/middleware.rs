//! What happens to every request: its name, who may send it from a browser, how long it took, how an error looks.

use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use actix_web::Error;
use actix_web::HttpResponse;
use actix_web::body::BodySize;
use actix_web::body::BoxBody;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceRequest;
use actix_web::dev::ServiceResponse;
use actix_web::http::ConnectionType;
use actix_web::http::Method;
use actix_web::http::Uri;
use actix_web::http::Version;
use actix_web::http::header;
use actix_web::http::header::HeaderMap;
use actix_web::http::header::HeaderName;
use actix_web::http::header::HeaderValue;
use actix_web::middleware::Next;
use bytes::Bytes;
use percent_encoding::percent_decode_str;

use crate::auth::Origin;
use crate::base::clock;
use crate::base::ids;
use crate::base::metric;
use crate::base::metric::HttpLabel;
use crate::http::error::ApiError;
use crate::http::error::Shape;

/// The pattern of a route, put beside it so that nobody has to match the path again.
pub(super) struct Pattern(pub &'static str);

/// The method as a label: a closed set, whatever clients send.
fn method_name(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

/// Names a request in its answer, in errors as `correlationId`, and in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest name of a request that is taken from a client.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// What a page of another port of this machine may read of an answer.
const EXPOSED: &str =
    "x-session-id, x-request-id, idempotent-replayed, x-cursor-ignored, x-has-more, retry-after";
/// How long a browser may remember what it may do, in seconds.
const PREFLIGHT_S: &str = "3600";

/// Names the request, refuses pages of other machines while there are no credentials, tells browsers what pages of this
/// machine may do (CORS), measures, and gives errors the shape of the route.
///
/// The few CORS headers are written here, and only for requests that have an `Origin`: the usual crate adds them to
/// every answer, which costs a backend that is called by programs.
pub(super) async fn watch(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = clock::instant();
    let (method, version) = (request.method().clone(), request.version());
    let id = request_id(request.headers());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let refused = refusal(&method, request.headers(), origin.as_ref());
    let shown_to = origin.clone().filter(|_| refused.is_none());
    let mut response = if let Some(error) = refused {
        // Not `into_response`, which forgets the error.
        ServiceResponse::new(request.into_parts().0, HttpResponse::from_error(error))
    } else if origin.is_some()
        && method == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        request.into_response(preflight_answer(wanted))
    } else {
        if let Some(uri) = legible(request.uri()) {
            request.match_info_mut().get_mut().update(&uri);
            request.head_mut().uri = uri;
        }
        next.call(request).await?
    };
    if let Some(answer) = error_answer(&response, &id) {
        response = response.into_response(answer);
    }
    if method == Method::HEAD {
        response = response.map_body(|_, body| BoxBody::new(Kept(body.size())));
    }
    if version < Version::HTTP_11 && matches!(response.response().body().size(), BodySize::Stream) {
        // There are no chunks before HTTP/1.1: the end of the connection is the end of the body.
        let head = response.response_mut().head_mut();
        head.no_chunking(true);
        head.set_connection_type(ConnectionType::Close);
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    if let Some(origin) = shown_to {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    measure(&response, method_name(&method), started.elapsed().as_secs_f64(), &id);
    Ok(response)
}

/// The name that the client gave the request, if it is one that can be shown, or a fresh one.
fn request_id(headers: &HeaderMap) -> String {
    let is_fine = |id: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(&byte);
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(plain)
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(is_fine);
    given.map_or_else(fresh_id, ToOwned::to_owned)
}

/// A name that no other request has: which process, and which of its requests.
fn fresh_id() -> String {
    static PROCESS: LazyLock<String> = LazyLock::new(|| ids::fresh().replace('-', ""));
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    [PROCESS.as_str(), "-", &count.to_string()].concat()
}

/// Why a request with these headers is not looked at.
fn refusal(method: &Method, headers: &HeaderMap, origin: Option<&HeaderValue>) -> Option<ApiError> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    if origin.is_some_and(|origin| !Origin::is_local(origin.to_str().unwrap_or("?"))) {
        let detail =
            "this page may not use the server: it has no credentials and serves this machine only";
        return Some(ApiError::new("forbidden_origin", detail));
    }
    if text(header::HOST).is_some_and(|host| !Origin::is_local_host(host)) {
        let detail =
            "the server has no credentials and answers to names of this machine only, as localhost";
        return Some(ApiError::new("forbidden_origin", detail));
    }
    if matches!(*method, Method::GET | Method::HEAD) {
        return None; // Whatever their headers say of a body, none is read.
    }
    let encoding = text(header::CONTENT_ENCODING).map(str::trim).unwrap_or_default();
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
        let detail = format!(
            "a body with `Content-Encoding: {encoding}` is not unpacked: send it as it is, without that header"
        );
        return Some(ApiError::new("unsupported_media_type", detail));
    }
    let kind = text(header::CONTENT_TYPE).map(str::trim).unwrap_or_default();
    if kind.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("multipart/")) {
        let detail = "forms with several parts are not read: send JSON, with `Content-Type: application/json`";
        return Some(ApiError::new("unsupported_media_type", detail));
    }
    None
}

/// The answer to a request that failed, in the shape of its route.
fn error_answer(response: &ServiceResponse<BoxBody>, id: &str) -> Option<HttpResponse> {
    let error = response.response().error()?.as_error::<ApiError>()?;
    let request = response.request();
    let shape = Shape::of(request.path());
    Some(match foreign_type(request.headers()) {
        None => error.respond(shape, id.to_owned()),
        Some(kind) => {
            let hint = format!(" (bodies are read as JSON; this one came as `{kind}`)");
            error.clone().hinted(&hint).respond(shape, id.to_owned())
        }
    })
}

/// The type of a body that says that it is no JSON. Types that clients put on any text by themselves say nothing.
fn foreign_type(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let name = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let usual = ["application/json", "application/x-www-form-urlencoded", "text/plain", ""];
    let is_json = usual.contains(&name.as_str()) || name.ends_with("+json");
    (!is_json || kind.to_ascii_lowercase().contains("charset=utf-16")).then_some(kind)
}

fn preflight_answer(wanted: Option<HeaderValue>) -> HttpResponse {
    let mut answer = HttpResponse::NoContent();
    answer
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE"))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_S));
    if let Some(wanted) = wanted {
        answer.insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, wanted));
    }
    answer.finish()
}

/// What is asked for when a path is not UTF-8: the same with NUL in place of the bytes that are wrong, which no name
/// may hold. So each route refuses it as it refuses any other bad name. The framework would put U+FFFD there, which is
/// a name, and one for many.
fn legible(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    memchr::memchr(b'%', path.as_bytes())?;
    let is_legible = |text: &str| percent_decode_str(text).decode_utf8().is_ok();
    if is_legible(path) {
        return None;
    }
    let segments = path.split('/').map(|segment| if is_legible(segment) { segment } else { "%00" });
    let mut path = segments.collect::<Vec<_>>().join("/");
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

fn measure(response: &ServiceResponse<BoxBody>, method: &'static str, seconds: f64, id: &str) {
    let http_route = response.request().app_data::<Pattern>().map_or("other", |pattern| pattern.0);
    let status = response.status().as_u16();
    let label =
        HttpLabel { http_request_method: method, http_route, http_response_status_code: status };
    metric::counters().http(&label, seconds);
    tracing::debug!(
        request.id = id,
        duration_ms = (seconds * 1e6).round() / 1e3,
        "{method} {http_route} {status}"
    );
}

/// The body of an answer to `HEAD`: as long as it would be, and nothing of it.
struct Kept(BodySize);

impl MessageBody for Kept {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Bytes, Self::Error>>> {
        std::task::Poll::Ready(None)
    }
}
