//! The front: routes, bodies, streams and sockets. Stateless: whatever it holds is gone with the connection.
//!
//! Handlers extract, translate, route and translate back; they decide nothing. Errors become bytes in `error.rs` only.

mod answer;
mod body;
mod branches;
mod caller;
mod chat;
mod commands;
mod conversations;
mod error;
mod events;
mod follow;
mod guard;
mod health;
mod history;
mod items;
mod large;
mod messages;
mod middleware;
mod openapi;
mod pages;
mod query;
mod reply;
mod routes;
mod server;
mod sessions;
mod socket;
mod throttle;
mod turns;
mod ui;
mod ui_socket;
mod upgrade;

pub use openapi::document;
pub use routes::endpoints;
pub use server::Server;
pub use server::bind;
