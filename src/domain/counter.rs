//! The kind of actor of the tests: a number that grows, at once or later. It shows what a kind has to bring.

use serde::Deserialize;
use serde::Serialize;

use crate::base::ids::ActorKind;
use crate::domain::kind;
use crate::domain::kind::Consequence;
use crate::domain::kind::Undecodable;

/// What happens to a counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Event {
    /// It grew; `timer`: because that was due; `from`: because another one said so.
    Grew { by: u64, timer: Option<String>, from: Option<String> },
    /// It tells another one to grow.
    Told { to: String, by: u64 },
    /// It tells another one its value, of which only the latest matters.
    Reported { to: String },
    /// Another one reported its value.
    Heard { from: String, value: u64 },
    /// It is to grow later.
    Set { timer: String, by: u64, at_ms: i64 },
    /// It has ended.
    Ended,
}

const NAMES: [&str; 6] = ["grew", "set", "ended", "told", "reported", "heard"];

impl kind::Event for Event {
    const KIND: ActorKind = ActorKind::Counter;
    const ENDING: u8 = 3;

    fn number(&self) -> u8 {
        match self {
            Self::Grew { .. } => 1,
            Self::Set { .. } => 2,
            Self::Ended => 3,
            Self::Told { .. } => 4,
            Self::Reported { .. } => 5,
            Self::Heard { .. } => 6,
        }
    }

    fn name_of(number: u8) -> Option<&'static str> {
        NAMES.get(usize::from(number).checked_sub(1)?).copied()
    }

    fn encode(&self, _: u64) -> String {
        serde_json::to_string(self).expect("numbers and names")
    }

    fn decode(_: u8, frame: &str) -> Result<Self, Undecodable> {
        serde_json::from_str(frame).map_err(|error| Undecodable::new("counter", error))
    }

    fn consequence(&self) -> Consequence {
        match self {
            Self::Ended => Consequence::Ends,
            _ => Consequence::Nothing,
        }
    }
}
