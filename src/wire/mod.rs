//! What others see: requests and answers, frames, page tokens, problems. No I/O, no decisions.

pub mod ask;
pub mod cursor;
pub mod envelope;
pub mod feed;
pub mod problem;
pub mod rest;
