//! Every route, as data: the router is made of this table, and tests walk it.

use actix_web::FromRequest;
use actix_web::Handler;
use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::Responder;
use actix_web::Route;
use actix_web::guard;
use actix_web::web;
use actix_web::web::ServiceConfig;

use crate::http::branches;
use crate::http::chat;
use crate::http::conversations;
use crate::http::error::ApiError;
use crate::http::events;
use crate::http::health;
use crate::http::items;
use crate::http::messages;
use crate::http::middleware::Pattern;
use crate::http::pages;
use crate::http::sessions;
use crate::http::socket;
use crate::http::turns;
use crate::http::ui;
use crate::http::ui_socket;

/// One method of one path.
struct Endpoint {
    method: &'static str,
    path: &'static str,
    route: Route,
}

fn on<F, Args>(method: &'static str, path: &'static str, handler: F) -> Endpoint
where
    F: Handler<Args>,
    F::Output: Responder + 'static,
    Args: FromRequest + 'static,
{
    let route = web::route();
    // What can be read can be asked for by its head; the middleware keeps the body.
    let route = match method {
        "GET" => route.guard(guard::Any(guard::Get()).or(guard::Head())),
        "POST" => route.guard(guard::Post()),
        "PUT" => route.guard(guard::Put()),
        "PATCH" => route.guard(guard::Patch()),
        _ => route.guard(guard::Delete()),
    };
    Endpoint { method, path, route: route.to(handler) }
}

/// The routes of the AI SDK at a base.
macro_rules! ui_routes {
    ($base:literal) => {
        [
            on("POST", $base, ui::say),
            on("GET", $base, ui::resume_v4),
            on("GET", concat!($base, "/ws"), ui_socket::open),
            on("GET", concat!($base, "/{id}/stream"), ui::resume),
            on("POST", concat!($base, "/{id}/stop"), ui::stop),
            on("GET", concat!($base, "/{id}/messages"), ui::messages),
        ]
    };
}

/// Every route on one screen; of two that fit a request, the first.
fn table() -> Vec<Endpoint> {
    let mut table = vec![
        // A path is compared with one after the other, so what is asked for most comes first.
        on("POST", "/v1/sessions/{id}/messages", messages::add),
        on("GET", "/v1/sessions/{id}/messages", messages::page),
        on("GET", "/", pages::index),
        on("GET", "/docs/{name}", pages::read),
        on("GET", "/livez", health::live),
        on("GET", "/readyz", health::ready),
        on("GET", "/healthz", health::healthy),
        on("GET", "/version", health::version),
        on("GET", "/metrics", health::metrics),
        on("GET", "/openapi.json", health::document),
        on("GET", "/problems/{code}", health::explain),
        on("POST", "/v1/sessions", sessions::create),
        on("GET", "/v1/sessions", sessions::list),
        on("GET", "/v1/sessions/{id}", sessions::read),
        on("PATCH", "/v1/sessions/{id}", sessions::change),
        on("DELETE", "/v1/sessions/{id}", sessions::delete),
        on("GET", "/v1/sessions/{id}/messages/count", messages::count),
        on("GET", "/v1/sessions/{id}/messages/{mid}", messages::read),
        on("DELETE", "/v1/sessions/{id}/messages/{mid}", messages::delete),
        on("PUT", "/v1/sessions/{id}/messages/{mid}/parts", messages::replace_parts),
        on("GET", "/v1/sessions/{id}/events", events::events),
        on("GET", "/v1/sessions/{id}/websocket", socket::open),
        on("POST", "/v1/sessions/{id}/turns", turns::start),
        on("POST", "/v1/sessions/{id}/stop", turns::stop),
        on("POST", "/v1/sessions/{id}/approvals/{approval}", turns::approve),
        on("GET", "/v1/sessions/{id}/branches", branches::branches),
        on("GET", "/v1/sessions/{id}/branches/{branch}", branches::branch),
        on("GET", "/v1/sessions/{id}/items", items::list),
        on("POST", "/v1/sessions/{id}/items", items::add),
        on("PUT", "/v1/sessions/{id}/items", items::replace),
        on("DELETE", "/v1/sessions/{id}/items", items::clear),
        on("POST", "/v1/sessions/{id}/items/pop", items::pop),
        on("POST", "/v1/sessions/{id}/items/transactions", items::transact),
        on("POST", "/v1/conversations", conversations::create),
        on("GET", "/v1/conversations/{id}", conversations::read),
        on("POST", "/v1/conversations/{id}", conversations::update),
        on("DELETE", "/v1/conversations/{id}", conversations::delete),
        on("GET", "/v1/conversations/{id}/items", conversations::items),
        on("POST", "/v1/conversations/{id}/items", conversations::add_items),
        on("GET", "/v1/conversations/{id}/items/{item}", conversations::item),
        on("DELETE", "/v1/conversations/{id}/items/{item}", conversations::delete_item),
        on("POST", "/chat/{id}", chat::say),
        on("GET", "/chat/{id}/messages", chat::messages),
        on("POST", "/chat/{id}/messages", chat::store),
        on("GET", "/chat/{id}/websocket", socket::open_chat),
        on("POST", "/api/completion", ui::complete),
    ];
    table.extend(ui_routes!("/api/chat"));
    table.extend(ui_routes!("/api/builder/chat"));
    table
}

/// Method and path of every route. `HEAD` is taken wherever `GET` is.
#[must_use]
pub fn endpoints() -> Vec<(&'static str, &'static str)> {
    table().into_iter().map(|endpoint| (endpoint.method, endpoint.path)).collect()
}

/// Makes the router of the table.
pub(super) fn routes(config: &mut ServiceConfig) {
    let mut paths: Vec<(&'static str, Vec<Endpoint>)> = Vec::new();
    for endpoint in table() {
        match paths.iter_mut().find(|(path, _)| *path == endpoint.path) {
            Some((_, endpoints)) => endpoints.push(endpoint),
            None => paths.push((endpoint.path, vec![endpoint])),
        }
    }
    for (path, endpoints) in paths {
        let mut resource = web::resource(path).app_data(Pattern(path));
        let mut allow = Vec::new();
        for Endpoint { method, route, .. } in endpoints {
            allow.push(method);
            if method == "GET" {
                allow.push("HEAD");
            }
            resource = resource.route(route);
        }
        let allow = allow.join(", ");
        config.service(resource.default_service(web::route().to(move || {
            let error = ApiError::method_not_allowed(allow.clone());
            async move { HttpResponse::from_error(error) }
        })));
    }
    config.default_service(web::route().to(route_not_found));
}

async fn route_not_found(request: HttpRequest) -> HttpResponse {
    let detail = format!("there is nothing at {}; see /openapi.json", request.path());
    HttpResponse::from_error(ApiError::new("route_not_found", detail))
}
