//! What happens to every request: who may send it from a browser, and how long it took.

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceRequest;
use actix_web::dev::ServiceResponse;
use actix_web::http::Method;
use actix_web::http::header;
use actix_web::middleware::Next;

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

/// Refuses pages of other machines while there are no credentials, and measures the request.
pub(super) async fn watch<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let headers = request.headers();
    let text =
        |name| headers.get(name).map(|value: &header::HeaderValue| value.to_str().unwrap_or("?"));
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
