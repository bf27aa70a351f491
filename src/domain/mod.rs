//! The rules of actors, pure: no clock, no randomness, no disk, no network.
//!
//! A command is what somebody wants; [`session::decide`] turns it into events or a rejection; events are what
//! happened and cannot be refused any more. What the rules must know about the past they ask of a [`session::View`],
//! which storage implements.

#[cfg(test)]
pub(crate) mod counter;
pub mod kind;
pub mod kinds;
pub mod session;
pub mod timer;
