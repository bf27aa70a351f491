//! The native frames that are not events, and what clients send over a socket.

use serde::Deserialize;
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::base::ids::Name;
use crate::base::json;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::base::told;
use crate::domain::session::Event;
use crate::domain::session::EventKind;
use crate::domain::session::Message;
use crate::domain::session::NewMessage;
use crate::domain::session::Part;
use crate::domain::session::Role;
use crate::domain::session::Session;
use crate::domain::session::Turn;
use crate::domain::session::TurnState;
use crate::protocol::Encoder;
use crate::wire::ask::Reason;
use crate::wire::envelope::Snapshot;
use crate::wire::problem::Problem;

fn line(frame: &impl Serialize) -> String {
    serde_json::to_string(frame).expect("frames are plain JSON")
}

/// The first frame of a socket.
#[must_use]
pub fn ready(session_id: &str, epoch: u64, last_seq: u64, after: u64) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Ready<'a> {
        r#type: &'static str,
        session_id: &'a str,
        epoch: u64,
        last_seq: u64,
        after: u64,
    }
    line(&Ready { r#type: "ready", session_id, epoch, last_seq, after })
}

/// The state at `seq`, for a reader whom the log cannot serve any more.
#[must_use]
pub fn reset(id: &str, seq: u64, reason: Reason, snapshot: &Snapshot) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct State<'a> {
        session: Session,
        messages: &'a [Message],
        has_more: bool,
    }
    #[derive(Serialize)]
    struct Reset<'a> {
        r#type: &'static str,
        seq: u64,
        reason: Reason,
        snapshot: State<'a>,
    }
    let session = snapshot.head.session(id);
    let state = State { session, messages: &snapshot.page.messages, has_more: snapshot.page.more };
    line(&Reset { r#type: "reset", seq, reason, snapshot: state })
}

/// The answer to a client's frame.
#[must_use]
pub fn ack(client_id: &str, seq: u64, result: &Json) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Ack<'a> {
        r#type: &'static str,
        client_id: &'a str,
        seq: u64,
        result: &'a Json,
    }
    line(&Ack { r#type: "ack", client_id, seq, result })
}

/// The refusal of a client's frame.
#[must_use]
pub fn error(client_id: Option<&str>, error: &Problem) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Failed<'a> {
        r#type: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        client_id: Option<&'a str>,
        error: &'a Problem,
    }
    line(&Failed { r#type: "error", client_id, error })
}

/// Somebody types; stored nowhere.
#[must_use]
pub fn typing(user: &str, state: bool) -> String {
    #[derive(Serialize)]
    struct Typing<'a> {
        r#type: &'static str,
        user: &'a str,
        state: bool,
    }
    line(&Typing { r#type: "typing", user, state })
}

/// The answer to a ping.
pub const PONG: &str = r#"{"type":"pong"}"#;

/// What a client sends over a socket.
#[derive(Debug)]
pub enum ClientFrame {
    /// As `POST messages`; `clientId` is the idempotency key.
    Send {
        /// Names the frame and its answer.
        client_id: String,
        /// The message.
        message: Box<NewMessage>,
    },
    /// As `PUT parts`.
    Parts {
        /// Names the frame and its answer.
        client_id: String,
        /// Which message.
        message_id: String,
        /// The new parts.
        parts: Vec<Part>,
        /// The version that the client saw.
        if_version: Option<u32>,
    },
    /// As `POST turns`.
    Turn {
        /// Names the frame and its answer.
        client_id: String,
        /// The JSON of the frame, without `type` and `clientId`.
        body: Json,
    },
    /// As `POST stop`.
    Stop {
        /// Names the frame and its answer.
        client_id: String,
    },
    /// Somebody types.
    Typing(bool),
    /// Whether anybody is there.
    Ping,
}

/// A frame that makes no sense.
#[derive(Debug, PartialEq)]
pub struct BadFrame {
    /// Names the frame, if that could be read.
    pub client_id: Option<String>,
    /// What is wrong with it.
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    r#type: Option<String>,
    client_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SendFrame {
    #[serde(rename = "type")]
    _type: IgnoredAny,
    client_id: String,
    id: Option<Name>,
    role: Role,
    content: String,
    #[serde(default)]
    parts: Vec<Part>,
    metadata: Option<Json>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PartsFrame {
    #[serde(rename = "type")]
    _type: IgnoredAny,
    client_id: String,
    message_id: String,
    parts: Vec<Part>,
    if_version: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypingFrame {
    #[serde(rename = "type")]
    _type: IgnoredAny,
    state: bool,
}

impl ClientFrame {
    /// The `clientId` of a frame, whatever else it says.
    #[must_use]
    pub fn client_id(text: &str) -> Option<String> {
        serde_json::from_str::<Outline>(text).ok()?.client_id
    }

    /// Reads a text frame.
    ///
    /// # Errors
    ///
    /// [`BadFrame`] with the field that is wrong.
    pub fn parse(text: &str) -> Result<Self, BadFrame> {
        let outline: Outline = serde_json::from_str(text).map_err(|error| BadFrame {
            client_id: None,
            problem: told::of("the frame", &error),
        })?;
        let Outline { r#type: name, client_id } = outline;
        let bad = |problem: String| BadFrame { client_id: client_id.clone(), problem };
        json::check_depth(text.as_bytes()).map_err(bad)?;
        let frame = match name.as_deref() {
            Some("send") => read::<SendFrame>(text).map(|frame| {
                let SendFrame { client_id, id, role, content, parts, metadata, .. } = frame;
                let message = Box::new(NewMessage { id, role, content, parts, metadata });
                Self::Send { client_id, message }
            }),
            Some("parts") => read::<PartsFrame>(text).map(|frame| {
                let PartsFrame { client_id, message_id, parts, if_version, .. } = frame;
                Self::Parts { client_id, message_id, parts, if_version }
            }),
            Some("turn" | "stop") => match &client_id {
                None => Err("a frame of this type needs a `clientId`".to_owned()),
                Some(id) if name.as_deref() == Some("stop") => {
                    Ok(Self::Stop { client_id: id.clone() })
                }
                Some(id) => read::<Object>(text).map(|mut frame| {
                    frame.remove("type");
                    frame.remove("clientId");
                    Self::Turn { client_id: id.clone(), body: frame.to_json() }
                }),
            },
            Some("typing") => read::<TypingFrame>(text).map(|frame| Self::Typing(frame.state)),
            Some("ping") => Ok(Self::Ping),
            Some(other) => Err(format!("there is no frame of type `{other}`")),
            None => Err("a frame needs a `type`".to_owned()),
        };
        frame.map_err(bad)
    }
}

fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| told::at("the frame", &error))
}

/// The frames of one turn, as server-sent events, up to its end.
pub struct TurnFrames {
    turn_id: String,
    attempt: u32,
    message_id: String,
    done: bool,
}

impl TurnFrames {
    /// The frames of `turn`.
    #[must_use]
    pub fn of(turn: &Turn) -> Self {
        let (turn_id, message_id) = (turn.id.clone(), turn.message_id.clone());
        Self { turn_id, attempt: turn.attempt, message_id, done: false }
    }
}

impl Encoder for TurnFrames {
    fn turn_id(&self) -> &str {
        &self.turn_id
    }

    fn push(&mut self, kind: EventKind, frame: &str) -> String {
        let mine = match Event::read(kind, frame) {
            Ok(Event::Turn(turn)) if turn.id == self.turn_id => {
                let ends = turn.state.is_over() || turn.state == TurnState::WaitingApproval;
                self.done = ends && turn.attempt >= self.attempt;
                true
            }
            Ok(Event::Message(message)) => message.id == self.message_id,
            Ok(
                Event::PartDelta { message_id, .. }
                | Event::PartUpdate { message_id, .. }
                | Event::MessageParts { message_id, .. },
            ) => message_id == self.message_id,
            _ => false,
        };
        if mine { format!("data: {frame}\n\n") } else { String::new() }
    }

    fn reset(&mut self, seq: u64, turn: &Turn, message: Option<&Message>) -> String {
        let message = message.map(|message| Event::Message(message.clone()).encode(seq));
        let turn = Event::Turn(turn.clone()).encode(seq);
        let mut out = String::new();
        if let Some(message) = message {
            out.push_str(&self.push(EventKind::Message, &message));
        }
        out + &self.push(EventKind::Turn, &turn)
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn broken(&mut self, why: &str) -> Option<String> {
        Some(format!("event: error\ndata: {}\n\n", Json::string(why).as_str()))
    }

    fn keep_alive(&self) -> &'static str {
        ": keep-alive\n\n"
    }
}
