//! The OpenAPI document: generated from the handlers and the types that they take and give, then made complete with what
//! all routes have in common (`finish.rs`) and with the frames of streams and sockets (`frames.json`).
//!
//! Frames are written down rather than derived: an event's frame is made by hand where it is stored, so that its bytes
//! never change by accident. The tests hold the schemas against frames that the program makes.

mod document;
mod finish;

#[cfg(test)]
mod tests;

pub use document::document;
