//! What the document is made of.

use serde_json::Value;
use utoipa::OpenApi;

use crate::http::branches;
use crate::http::chat;
use crate::http::conversations;
use crate::http::error;
use crate::http::events;
use crate::http::health;
use crate::http::items;
use crate::http::messages;
use crate::http::openapi::finish::finish;
use crate::http::pages;
use crate::http::sessions;
use crate::http::socket;
use crate::http::turns;
use crate::http::ui;
use crate::http::ui_socket;
use crate::wire::problem::Problem;

#[derive(OpenApi)]
#[openapi(
    info(description = "Durable chat sessions: one actor and one SQLite file per conversation.\n\nWherever `GET` is taken, so is `HEAD`. Every writing request takes an `Idempotency-Key`: a repeat hears the first answer. Names of sessions, messages and items are percent-encoded in paths."),
    servers((url = "/", description = "This server.")),
    tags(
        (name = "sessions", description = "Make, list, read, change and delete sessions."),
        (name = "messages", description = "The history of a session."),
        (name = "events", description = "The log of a session: everything that happened, in order."),
        (name = "turns", description = "Let a model answer."),
        (name = "items", description = "The session store of agents."),
        (name = "conversations", description = "OpenAI's Conversations over the same sessions."),
        (name = "ai-sdk", description = "What the AI SDK's clients ask for."),
        (name = "chat", description = "The chat route: a message, and the answer as a stream."),
        (name = "health", description = "Probes, version, metrics, documents."),
    ),
    components(schemas(
        Problem,
        error::UiError<'static>,
        error::ChatError<'static>,
        error::OpenAiError<'static>,
    )),
    paths(
        pages::index,
        pages::read,
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
        branches::branches,
        branches::branch,
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
pub fn document() -> Value {
    let mut document = serde_json::to_value(Document::openapi()).expect("a plain document");
    finish(&mut document);
    document
}
