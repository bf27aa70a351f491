//! What happens to every request: who may send it from a browser, and how long it took.

use actix_web::Error;
use actix_web::HttpResponse;
use actix_web::body::EitherBody;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceRequest;
use actix_web::dev::ServiceResponse;
use actix_web::http::Method;
use actix_web::http::Uri;
use actix_web::http::header;
use actix_web::http::header::HeaderValue;
use actix_web::middleware::Next;
use percent_encoding::percent_decode_str;

use crate::auth::Origin;
use crate::base::clock;
use crate::base::metric;
use crate::base::metric::HttpLabel;
use crate::http::error::ApiError;

/// The pattern of a route, put beside it so that nobody has to match the path again.
pub(super) struct Pattern(pub &'static str);

/// The method as a label: a closed set, whatever clients send.
fn method_name(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

/// What a page of another port of this machine may read of an answer.
const EXPOSED: &str =
    "x-session-id, idempotent-replayed, x-cursor-ignored, x-has-more, retry-after";
/// How long a browser may remember what it may do, in seconds.
const PREFLIGHT_S: &str = "3600";

/// Refuses pages of other machines while there are no credentials, tells browsers what pages of this machine may do
/// (CORS), and measures the request.
///
/// The few CORS headers are written here, and only for requests that have an `Origin`: the usual crate adds them to
/// every answer, which costs a backend that is called by programs.
pub(super) async fn watch<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let headers = request.headers();
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    if text(header::ORIGIN).is_some_and(|origin| !Origin::is_local(origin)) {
        let detail =
            "this page may not use the server: it has no credentials and serves this machine only";
        return Err(ApiError::new("forbidden_origin", detail).into());
    }
    if text(header::HOST).is_some_and(|host| !Origin::is_local_host(host)) {
        let detail =
            "the server has no credentials and answers to names of this machine only, as localhost";
        return Err(ApiError::new("forbidden_origin", detail).into());
    }
    let origin = headers.get(header::ORIGIN).cloned();
    let preflight = origin.is_some() && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight && request.method() == Method::OPTIONS {
        let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        request.into_response(preflight_answer(wanted)).map_into_right_body()
    } else {
        measure(request, next).await?.map_into_left_body()
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    Ok(response)
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

async fn measure<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    if let Some(uri) = legible(request.uri()) {
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
    }
    let method = method_name(request.method());
    let started = clock::instant();
    let response = next.call(request).await?;
    let label = HttpLabel {
        http_request_method: method,
        http_route: response.request().app_data::<Pattern>().map_or("other", |pattern| pattern.0),
        http_response_status_code: response.status().as_u16(),
    };
    metric::counters().http(&label, started.elapsed().as_secs_f64());
    Ok(response)
}
