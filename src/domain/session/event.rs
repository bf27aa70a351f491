//! What happened in a session. An event is stored, journalled, broadcast and replayed as the same bytes: its frame.

use serde::Deserialize;
use serde::Serialize;

use crate::base::ids::ActorKind;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::domain::kind;
use crate::domain::kind::Consequence;
use crate::domain::kind::Undecodable;
use crate::domain::session::ItemsChange;
use crate::domain::session::Message;
use crate::domain::session::Part;
use crate::domain::session::Turn;
use crate::domain::session::TurnOptions;

/// Names of the events; also the `type` of their frames. A wire format: add, never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum EventKind {
    /// A message was stored.
    Message = 1,
    /// The parts of a message were replaced.
    MessageParts = 2,
    /// Text grew.
    PartDelta = 3,
    /// The content of a message was removed.
    MessageDeleted = 4,
    /// The session was made, changed or deleted.
    Session = 5,
    /// A turn changed its state.
    Turn = 6,
    /// Members of a part were given new values.
    PartUpdate = 7,
    /// The end of the history was set aside.
    Branch = 8,
    /// The items of an agent changed.
    Items = 9,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Message,
        Self::MessageParts,
        Self::PartDelta,
        Self::MessageDeleted,
        Self::Session,
        Self::Turn,
        Self::PartUpdate,
        Self::Branch,
        Self::Items,
    ];

    /// The `type` of its frames.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::MessageParts => "message-parts",
            Self::PartDelta => "part-delta",
            Self::MessageDeleted => "message-deleted",
            Self::Session => "session",
            Self::Turn => "turn",
            Self::PartUpdate => "part-update",
            Self::Branch => "branch",
            Self::Items => "items",
        }
    }

    /// The kind whose frames have `type` `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind with this number in a journal record.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A message was stored: a new one, or the answer of a turn as it was in the end.
    Message(Message),
    /// The parts of a message were replaced; or what stands in the log for text that grew, once that was removed.
    MessageParts {
        /// Which message.
        message_id: String,
        /// Its version from now on.
        version: u32,
        /// The parts.
        parts: Vec<Part>,
        /// Of a frame that stands for removed ones: seq of the first of them; its own seq is that of the last.
        from: Option<u64>,
    },
    /// Text grew.
    PartDelta {
        /// Which message.
        message_id: String,
        /// Which of its parts.
        part: usize,
        /// Bytes of text before this.
        offset: usize,
        /// What was added.
        delta: String,
    },
    /// The content of a message was removed.
    MessageDeleted {
        /// Which message.
        message_id: String,
    },
    /// The session as it is from now on.
    Session {
        /// Shown in lists.
        title: String,
        /// The project it belongs to.
        project_id: Option<String>,
        /// What the client attached to it.
        metadata: Json,
        /// How its turns are run, where they do not say.
        settings: TurnOptions,
        /// Whether it has ended.
        deleted: bool,
    },
    /// A turn as it is from now on.
    Turn(Turn),
    /// Members of a part were given new values; the part is new if it has none yet.
    PartUpdate {
        /// Which message.
        message_id: String,
        /// Which of its parts.
        part: usize,
        /// The members.
        fields: Object,
    },
    /// The messages from `from` on are no longer in the history. The event's own seq names the branch.
    Branch {
        /// Seq of the first of them.
        from: u64,
    },
    /// The items of an agent changed.
    Items(ItemsChange),
}

// One struct per shape. Not an internally tagged enum: serde buffers those, and `RawValue` cannot be read from a buffer.
#[derive(Serialize, Deserialize)]
struct MessageFrame<M> {
    r#type: Tag,
    seq: u64,
    message: M,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartsFrame<I, P> {
    r#type: Tag,
    seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    message_id: I,
    version: u32,
    parts: P,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeltaFrame<S> {
    r#type: Tag,
    seq: u64,
    message_id: S,
    part: usize,
    offset: usize,
    delta: S,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeletedFrame<I> {
    r#type: Tag,
    seq: u64,
    message_id: I,
}

#[derive(Serialize, Deserialize)]
struct SessionFrame<S> {
    r#type: Tag,
    seq: u64,
    session: S,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionBody<S, M> {
    title: S,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    project_id: Option<S>,
    metadata: M,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settings: Option<TurnOptions>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
}

#[derive(Serialize, Deserialize)]
struct TurnFrame<T> {
    r#type: Tag,
    seq: u64,
    turn: T,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateFrame<I, F> {
    r#type: Tag,
    seq: u64,
    message_id: I,
    part: usize,
    fields: F,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BranchFrame {
    r#type: Tag,
    seq: u64,
    /// Not `from`, which readers take for the first seq that a frame stands for; older files say it.
    #[serde(alias = "from")]
    first_seq: u64,
}

#[derive(Serialize, Deserialize)]
struct ItemsFrame<C> {
    r#type: Tag,
    seq: u64,
    change: C,
}

/// The `type` of a frame; not looked at when reading, since the kind is stored beside the frame.
struct Tag(EventKind);

impl Serialize for Tag {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        EventKind::from_name(&name)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown event type `{name}`")))
    }
}

impl Event {
    /// Its name.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Message(_) => EventKind::Message,
            Self::MessageParts { .. } => EventKind::MessageParts,
            Self::PartDelta { .. } => EventKind::PartDelta,
            Self::MessageDeleted { .. } => EventKind::MessageDeleted,
            Self::Session { .. } => EventKind::Session,
            Self::Turn(_) => EventKind::Turn,
            Self::PartUpdate { .. } => EventKind::PartUpdate,
            Self::Branch { .. } => EventKind::Branch,
            Self::Items(_) => EventKind::Items,
        }
    }

    /// Its frame at place `seq`: one line of JSON.
    #[must_use]
    pub fn encode(&self, seq: u64) -> String {
        let tag = Tag(self.kind());
        let frame = match self {
            Self::Message(message) => {
                serde_json::to_string(&MessageFrame { r#type: tag, seq, message })
            }
            Self::MessageParts { message_id, version, parts, from } => {
                let (version, from) = (*version, *from);
                let frame = PartsFrame { r#type: tag, seq, from, message_id, version, parts };
                serde_json::to_string(&frame)
            }
            Self::PartDelta { message_id, part, offset, delta } => {
                let (part, offset) = (*part, *offset);
                serde_json::to_string(&DeltaFrame {
                    r#type: tag,
                    seq,
                    message_id,
                    part,
                    offset,
                    delta,
                })
            }
            Self::MessageDeleted { message_id } => {
                serde_json::to_string(&DeletedFrame { r#type: tag, seq, message_id })
            }
            Self::Session { title, project_id, metadata, settings, deleted } => {
                let (project_id, deleted) = (project_id.as_ref(), *deleted);
                let settings = (!settings.is_empty()).then(|| settings.clone());
                let session = SessionBody { title, project_id, metadata, settings, deleted };
                serde_json::to_string(&SessionFrame { r#type: tag, seq, session })
            }
            Self::Turn(turn) => serde_json::to_string(&TurnFrame { r#type: tag, seq, turn }),
            Self::PartUpdate { message_id, part, fields } => {
                let part = *part;
                serde_json::to_string(&UpdateFrame { r#type: tag, seq, message_id, part, fields })
            }
            Self::Branch { from } => {
                serde_json::to_string(&BranchFrame { r#type: tag, seq, first_seq: *from })
            }
            Self::Items(change) => serde_json::to_string(&ItemsFrame { r#type: tag, seq, change }),
        };
        frame.expect("strings, numbers and raw JSON always serialise")
    }

    /// Reads a frame that [`Event::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`Undecodable`] when it did not.
    pub fn read(kind: EventKind, frame: &str) -> Result<Self, Undecodable> {
        let read = || {
            Ok(match kind {
                EventKind::Message => {
                    Self::Message(serde_json::from_str::<MessageFrame<Message>>(frame)?.message)
                }
                EventKind::MessageParts => {
                    let frame: PartsFrame<String, Vec<Part>> = serde_json::from_str(frame)?;
                    let PartsFrame { message_id, version, parts, from, .. } = frame;
                    Self::MessageParts { message_id, version, parts, from }
                }
                EventKind::PartDelta => {
                    let frame: DeltaFrame<String> = serde_json::from_str(frame)?;
                    let DeltaFrame { message_id, part, offset, delta, .. } = frame;
                    Self::PartDelta { message_id, part, offset, delta }
                }
                EventKind::MessageDeleted => {
                    let frame: DeletedFrame<String> = serde_json::from_str(frame)?;
                    Self::MessageDeleted { message_id: frame.message_id }
                }
                EventKind::Session => {
                    let frame: SessionFrame<SessionBody<String, Json>> =
                        serde_json::from_str(frame)?;
                    let SessionBody { title, project_id, metadata, settings, deleted } =
                        frame.session;
                    let settings = settings.unwrap_or_default();
                    Self::Session { title, project_id, metadata, settings, deleted }
                }
                EventKind::Turn => Self::Turn(serde_json::from_str::<TurnFrame<Turn>>(frame)?.turn),
                EventKind::PartUpdate => {
                    let frame: UpdateFrame<String, Object> = serde_json::from_str(frame)?;
                    let UpdateFrame { message_id, part, fields, .. } = frame;
                    Self::PartUpdate { message_id, part, fields }
                }
                EventKind::Branch => {
                    Self::Branch { from: serde_json::from_str::<BranchFrame>(frame)?.first_seq }
                }
                EventKind::Items => {
                    Self::Items(serde_json::from_str::<ItemsFrame<ItemsChange>>(frame)?.change)
                }
            })
        };
        read().map_err(|source| Undecodable::new(kind.as_str(), source))
    }
}

impl kind::Event for Event {
    const KIND: ActorKind = ActorKind::Session;
    const ENDING: u8 = EventKind::Session as u8;

    fn number(&self) -> u8 {
        self.kind() as u8
    }

    fn name_of(number: u8) -> Option<&'static str> {
        EventKind::from_number(number).map(EventKind::as_str)
    }

    fn number_of(name: &str) -> Option<u8> {
        EventKind::from_name(name).map(|kind| kind as u8)
    }

    fn encode(&self, seq: u64) -> String {
        Self::encode(self, seq)
    }

    fn decode(number: u8, frame: &str) -> Result<Self, Undecodable> {
        let kind = EventKind::from_number(number).ok_or_else(|| Undecodable::unknown(number))?;
        Self::read(kind, frame)
    }

    fn covers_from(&self) -> Option<u64> {
        match self {
            Self::MessageParts { from, .. } => *from,
            _ => None,
        }
    }

    fn consequence(&self) -> Consequence {
        match self {
            Self::Session { deleted: true, .. } => Consequence::Ends,
            Self::MessageDeleted { .. } => Consequence::Redacts,
            _ => Consequence::Nothing,
        }
    }
}

/// The JSON of the message inside the frame of a `message` event, without decoding it.
#[must_use]
pub fn message_of(frame: &str) -> &str {
    let start = frame.find("\"message\":").map_or(0, |at| at + "\"message\":".len());
    &frame[start..frame.len() - 1]
}
