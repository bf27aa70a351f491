//! The OpenAPI document, generated from the handlers and the types that they take and give.

use utoipa::OpenApi;

use crate::http::chat;
use crate::http::conversations;
use crate::http::events;
use crate::http::health;
use crate::http::items;
use crate::http::messages;
use crate::http::sessions;
use crate::http::socket;
use crate::http::turns;
use crate::http::ui;
use crate::http::ui_socket;

#[derive(OpenApi)]
#[openapi(
    info(description = "Durable chat sessions: one actor and one SQLite file per conversation."),
    paths(
        health::live,
        health::ready,
        health::healthy,
        health::version,
        health::metrics,
        health::document,
        health::explain,
        sessions::create,
        sessions::list,
        sessions::read,
        sessions::change,
        sessions::delete,
        messages::add,
        messages::page,
        messages::count,
        messages::read,
        messages::replace_parts,
        messages::delete,
        events::events,
        socket::open,
        socket::open_chat,
        chat::say,
        chat::messages,
        chat::store,
        turns::start,
        turns::stop,
        turns::approve,
        turns::branches,
        turns::branch,
        items::list,
        items::add,
        items::replace,
        items::clear,
        items::pop,
        items::transact,
        conversations::create,
        conversations::read,
        conversations::update,
        conversations::delete,
        conversations::add_items,
        conversations::items,
        conversations::item,
        conversations::delete_item,
        ui::say,
        ui::resume,
        ui::resume_v4,
        ui::stop,
        ui::messages,
        ui::complete,
        ui_socket::open,
    )
)]
struct Document;

/// The OpenAPI document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}
