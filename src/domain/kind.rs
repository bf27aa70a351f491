//! What every kind of actor has, whatever its rules are: a history of events, each with a number and a frame.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use serde::de::Error as _;

use crate::base::ids::ActorKind;

/// Something that happened in an actor. It is stored, journalled, broadcast and replayed as the same bytes: its frame.
pub trait Event: fmt::Debug + Sized {
    /// The kind of actor that it happens in.
    const KIND: ActorKind;

    /// The number of the events of which one may be the last of all.
    const ENDING: u8;

    /// The number of what it is, in records of the journal. A disk format: add, never change.
    fn number(&self) -> u8;

    /// What events with this number are called: the `type` of their frames, and the column `kind`.
    fn name_of(number: u8) -> Option<&'static str>;

    /// The number of events that are called `name`.
    fn number_of(name: &str) -> Option<u8> {
        (0..=u8::MAX).find(|number| Self::name_of(*number) == Some(name))
    }

    /// Its frame at place `seq`: one line of JSON.
    fn encode(&self, seq: u64) -> String;

    /// Reads a frame that [`Event::encode`] wrote for an event with this number.
    ///
    /// # Errors
    ///
    /// [`Undecodable`] when it did not.
    fn decode(number: u8, frame: &str) -> Result<Self, Undecodable>;

    /// The first place that it stands for, of one that stands in the log for events that were removed.
    fn covers_from(&self) -> Option<u64> {
        None
    }

    /// What is to be done about it beyond its rows.
    fn consequence(&self) -> Consequence {
        Consequence::Nothing
    }
}

/// What an event means to those who hold the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// It is a row like others.
    Nothing,
    /// It is the last one: the actor has ended, and its file goes.
    Ends,
    /// It takes something back that the journal still holds.
    Redacts,
}

/// A stored frame could not be read; `source` says where it stops making sense.
#[derive(Debug, thiserror::Error)]
#[error("reading a stored {name} event")]
pub struct Undecodable {
    name: &'static str,
    #[source]
    source: serde_json::Error,
}

impl Undecodable {
    /// The frame of an event called `name` does not read as `source` says.
    #[must_use]
    pub fn new(name: &'static str, source: serde_json::Error) -> Self {
        Self { name, source }
    }

    /// No event of this kind of actor has this number.
    #[must_use]
    pub fn unknown(number: u8) -> Self {
        Self {
            name: "unknown",
            source: serde_json::Error::custom(format!("its number is {number}")),
        }
    }
}

/// An event as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Its place.
    pub seq: u64,
    /// The number of what it is.
    pub number: u8,
    /// Its frame.
    pub frame: String,
}

/// How far a log goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogHead {
    /// Seq of the last event; 0 if nothing ever happened, so the actor does not exist.
    pub last_seq: u64,
    /// Checksum of the last event, chained over all before it.
    pub last_hash: [u8; 16],
    /// Events up to this seq may be gone without a frame that stands for them; the log is whole after it.
    pub log_start: u64,
    /// Unix time of the last event, in milliseconds.
    pub updated_at_ms: i64,
}

impl LogHead {
    /// Whether anything ever happened.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.last_seq > 0
    }
}
