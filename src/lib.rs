//! sessile: the stateful backend of AI chat in one binary. One durable actor and one SQLite file per conversation.
//!
//! Modules are layers, lowest first; imports point down only (ARCHITECTURE.md, "Layers").

pub mod actor;
pub mod base;
pub mod domain;
pub mod model;
pub mod storage;
