//! Every route.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::ResponseError;
use actix_web::http::header;
use actix_web::web;
use actix_web::web::ServiceConfig;
use actix_web::web::delete;
use actix_web::web::get;
use actix_web::web::patch;
use actix_web::web::post;
use actix_web::web::put;

use crate::http::chat;
use crate::http::conversations;
use crate::http::error::ApiError;
use crate::http::events;
use crate::http::health;
use crate::http::items;
use crate::http::messages;
use crate::http::middleware::Pattern;
use crate::http::sessions;
use crate::http::socket;
use crate::http::turns;
use crate::http::ui;
use crate::http::ui_socket;

/// Every route on one screen.
#[expect(clippy::too_many_lines, reason = "all of them in one place")]
pub(super) fn routes(config: &mut ServiceConfig) {
    let path = |path: &'static str, allow: &'static str, routes: Vec<actix_web::Route>| {
        let resource = web::resource(path).app_data(Pattern(path));
        let resource = routes.into_iter().fold(resource, actix_web::Resource::route);
        resource.default_service(web::route().to(move || method_not_allowed(allow)))
    };
    config
        .service(path("/livez", "GET", vec![get().to(health::live)]))
        .service(path("/readyz", "GET", vec![get().to(health::ready)]))
        .service(path("/healthz", "GET", vec![get().to(health::healthy)]))
        .service(path("/version", "GET", vec![get().to(health::version)]))
        .service(path("/metrics", "GET", vec![get().to(health::metrics)]))
        .service(path("/openapi.json", "GET", vec![get().to(health::document)]))
        .service(path("/problems/{code}", "GET", vec![get().to(health::explain)]))
        .service(path(
            "/v1/sessions",
            "GET, POST",
            vec![post().to(sessions::create), get().to(sessions::list)],
        ))
        .service(path(
            "/v1/sessions/{id}/messages",
            "GET, POST",
            vec![post().to(messages::add), get().to(messages::page)],
        ))
        .service(path("/v1/sessions/{id}/messages/count", "GET", vec![get().to(messages::count)]))
        .service(path(
            "/v1/sessions/{id}/messages/{mid}",
            "GET, DELETE",
            vec![get().to(messages::read), delete().to(messages::delete)],
        ))
        .service(path(
            "/v1/sessions/{id}/messages/{mid}/parts",
            "PUT",
            vec![put().to(messages::replace_parts)],
        ))
        .service(path("/v1/sessions/{id}/turns", "POST", vec![post().to(turns::start)]))
        .service(path("/v1/sessions/{id}/stop", "POST", vec![post().to(turns::stop)]))
        .service(path(
            "/v1/sessions/{id}/approvals/{approval}",
            "POST",
            vec![post().to(turns::approve)],
        ))
        .service(path("/v1/sessions/{id}/branches", "GET", vec![get().to(turns::branches)]))
        .service(path("/v1/sessions/{id}/branches/{branch}", "GET", vec![get().to(turns::branch)]))
        .service(path(
            "/v1/sessions/{id}/items",
            "GET, POST, PUT, DELETE",
            vec![
                get().to(items::list),
                post().to(items::add),
                put().to(items::replace),
                delete().to(items::clear),
            ],
        ))
        .service(path("/v1/sessions/{id}/items/pop", "POST", vec![post().to(items::pop)]))
        .service(path(
            "/v1/sessions/{id}/items/transactions",
            "POST",
            vec![post().to(items::transact)],
        ))
        .service(path("/v1/conversations", "POST", vec![post().to(conversations::create)]))
        .service(path(
            "/v1/conversations/{id}",
            "GET, POST, DELETE",
            vec![
                get().to(conversations::read),
                post().to(conversations::update),
                delete().to(conversations::delete),
            ],
        ))
        .service(path(
            "/v1/conversations/{id}/items",
            "GET, POST",
            vec![get().to(conversations::items), post().to(conversations::add_items)],
        ))
        .service(path(
            "/v1/conversations/{id}/items/{item}",
            "GET, DELETE",
            vec![get().to(conversations::item), delete().to(conversations::delete_item)],
        ))
        .service(path("/v1/sessions/{id}/events", "GET", vec![get().to(events::events)]))
        .service(path("/v1/sessions/{id}/websocket", "GET", vec![get().to(socket::open)]))
        .service(path(
            "/v1/sessions/{id}",
            "GET, PATCH, DELETE",
            vec![
                get().to(sessions::read),
                patch().to(sessions::change),
                delete().to(sessions::delete),
            ],
        ))
        .service(
            web::scope("/chat")
                .app_data(Pattern("/chat"))
                .route("/{id}", post().to(chat::say))
                .route("/{id}/messages", get().to(chat::messages))
                .route("/{id}/messages", post().to(chat::store))
                .route("/{id}/websocket", get().to(socket::open_chat))
                .default_service(web::route().to(chat::not_found)),
        )
        .service(path("/api/completion", "POST", vec![post().to(ui::complete)]))
        .configure(|config| ui_routes(config, "/api/chat"))
        .configure(|config| ui_routes(config, "/api/builder/chat"))
        .default_service(web::route().to(route_not_found));
}

/// The routes of the AI SDK at `base`.
fn ui_routes(config: &mut ServiceConfig, base: &'static str) {
    config.service(
        web::scope(base)
            .app_data(Pattern(base))
            .route("", post().to(ui::say))
            .route("", get().to(ui::resume_v4))
            .route("/ws", get().to(ui_socket::open))
            .route("/{id}/stream", get().to(ui::resume))
            .route("/{id}/stop", post().to(ui::stop))
            .route("/{id}/messages", get().to(ui::messages))
            .default_service(web::route().to(ui::not_found)),
    );
}

async fn route_not_found(request: HttpRequest) -> HttpResponse {
    ApiError::new("route_not_found", format!("there is nothing at {}", request.path()))
        .error_response()
}

async fn method_not_allowed(allow: &'static str) -> HttpResponse {
    let error = ApiError::new("method_not_allowed", format!("use {allow}"));
    let mut response = error.error_response();
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allow));
    response
}
