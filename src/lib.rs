//! sessile: the stateful backend of AI chat in one binary. One durable actor and one SQLite file per conversation.
//!
//! Modules are layers, lowest first; imports point down only (ARCHITECTURE.md, "Layers").

pub mod base;

pub mod auth;
pub mod config;
pub mod domain;
pub mod model;
pub mod tool;

pub mod storage;
pub mod wire;

pub mod actor;

pub mod protocol;
pub mod router;

pub mod http;

pub mod app;
