//! What reading a session's history gives.

use std::sync::Arc;
use std::sync::OnceLock;

use bytes::Bytes;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

use crate::domain::session::Message;

/// Where a page lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Messages with a lower seq, the nearest first.
    Before(u64),
    /// Messages with a higher seq, the nearest first.
    After(u64),
}

/// A page of history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// Its messages, oldest first.
    pub messages: Vec<Message>,
    /// Whether there are more in the same direction.
    pub more: bool,
}

/// A page that several readers get, and the bytes that the first of them made of it.
#[derive(Debug)]
pub struct SharedPage {
    /// The page.
    pub page: Page,
    encoded: OnceLock<Bytes>,
}

impl SharedPage {
    /// Shares `page`.
    #[must_use]
    pub fn new(page: Page) -> Arc<Self> {
        Arc::new(Self { page, encoded: OnceLock::new() })
    }

    /// The bytes of it; `encode` makes them if nobody has. Every caller must encode alike.
    pub fn encoded(&self, encode: impl FnOnce(&Page) -> Vec<u8>) -> Bytes {
        self.encoded.get_or_init(|| encode(&self.page).into()).clone()
    }
}

/// The page itself: the bytes are made anew where it arrives.
impl Serialize for SharedPage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.page.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedPage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { page: Page::deserialize(deserializer)?, encoded: OnceLock::new() })
    }
}
