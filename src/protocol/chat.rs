//! The chat route `/chat/{id}`: its message shape, its event stream, its socket frames.

use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::domain::session::Event;
use crate::domain::session::EventKind;
use crate::domain::session::Message;
use crate::domain::session::Part;
use crate::domain::session::Role;
use crate::domain::session::Status;
use crate::domain::session::Turn;
use crate::domain::session::TurnState;
use crate::protocol::Encoder;

/// A message in the shape of the chat route.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatMessage {
    /// Unique in its session.
    pub id: String,
    /// `user`, `assistant` or `system`.
    pub role: Role,
    /// Its text.
    pub content: String,
    /// Its parts, as the text of a JSON array.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<String>,
    /// Unix time in seconds.
    pub created_at: i64,
}

/// `POST /chat/{id}/messages`
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewChatMessage {
    /// `user`, `assistant` or `system`.
    pub role: Role,
    /// Its text.
    pub content: String,
    /// Its parts, as the text of a JSON array.
    pub parts: Option<String>,
}

/// `POST /chat/{id}`
#[derive(Debug, Deserialize, ToSchema)]
pub struct Say {
    /// What the user says.
    pub content: Option<String>,
}

fn parts_text(parts: &[Part]) -> Option<String> {
    (!parts.is_empty()).then(|| serde_json::to_string(parts).expect("parts are JSON"))
}

impl From<Message> for ChatMessage {
    fn from(message: Message) -> Self {
        Self {
            parts: parts_text(&message.parts),
            id: message.id,
            role: message.role,
            content: message.content,
            created_at: message.created_at,
        }
    }
}

fn sse(event: &str, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).expect("events are plain JSON");
    format!("event: {event}\ndata: {data}\n\n")
}

#[derive(Serialize)]
struct Said<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

/// The event stream that answers `POST /chat/{id}`.
#[derive(Debug)]
pub struct Stream {
    turn_id: String,
    message_id: String,
    /// Parts that are text, and bytes of each that were said: what is thought or called is not said.
    texts: Vec<(usize, usize)>,
    /// Whether the whole was said.
    told: bool,
    done: bool,
}

impl Stream {
    /// The stream of the answer of `turn`, and its first event.
    #[must_use]
    pub fn begin(turn: &Turn) -> (Self, String) {
        let (turn_id, message_id) = (turn.id.clone(), turn.message_id.clone());
        let stream = Self { turn_id, message_id, texts: Vec::new(), told: false, done: false };
        let ack = Said { r#type: "ack", role: None, content: Some("Message received") };
        (stream, sse("message", &ack))
    }

    fn event(&mut self, kind: EventKind, frame: &str) -> String {
        if !matches!(
            kind,
            EventKind::PartDelta
                | EventKind::PartUpdate
                | EventKind::MessageParts
                | EventKind::Message
                | EventKind::Turn
        ) {
            return String::new();
        }
        match Event::read(kind, frame) {
            Ok(Event::PartDelta { message_id, part, offset, delta })
                if message_id == self.message_id =>
            {
                self.grow(part, offset, &delta)
            }
            Ok(Event::PartUpdate { message_id, part, fields })
                if message_id == self.message_id
                    && fields.text("type").as_deref() == Some("text") =>
            {
                self.open(part)
            }
            // Of the texts that are open: the others are opened by what follows.
            Ok(Event::MessageParts { message_id, parts, from: Some(_), .. })
                if message_id == self.message_id =>
            {
                self.catch_up(&parts, false)
            }
            Ok(Event::Message(message)) => self.message(&message),
            Ok(Event::Turn(turn)) if turn.id == self.turn_id => self.turn(&turn),
            _ => String::new(),
        }
    }

    fn message(&mut self, message: &Message) -> String {
        let ended = matches!(message.status, Status::Complete | Status::Stopped);
        if message.id != self.message_id || !ended || self.told {
            return String::new();
        }
        self.told = true;
        let role = Some(Role::Assistant);
        sse("message", &Said { r#type: "assistant", role, content: Some(&message.content) })
    }

    fn open(&mut self, part: usize) -> String {
        if self.texts.iter().any(|(open, _)| *open == part) {
            return String::new();
        }
        self.texts.push((part, 0));
        match self.texts.len() {
            1 => String::new(),
            // As in the content of the message.
            _ => sse("message", &Said { r#type: "delta", role: None, content: Some("\n") }),
        }
    }

    /// Text that begins at `offset`, as far as it is new.
    fn grow(&mut self, part: usize, offset: usize, text: &str) -> String {
        let Some((_, said)) = self.texts.iter_mut().find(|(open, _)| *open == part) else {
            return String::new();
        };
        let Some(new) = text.get(said.saturating_sub(offset)..).filter(|new| !new.is_empty())
        else {
            return String::new();
        };
        *said = offset + text.len();
        sse("message", &Said { r#type: "delta", role: None, content: Some(new) })
    }

    fn catch_up(&mut self, parts: &[Part], opens: bool) -> String {
        let mut out = String::new();
        for (at, part) in parts.iter().enumerate() {
            let part = part.members();
            if part.text("type").as_deref() == Some("text") {
                if opens {
                    out.push_str(&self.open(at));
                }
                out.push_str(&self.grow(at, 0, &part.text("content").unwrap_or_default()));
            }
        }
        out
    }

    fn turn(&mut self, turn: &Turn) -> String {
        let mut out = match turn.state {
            TurnState::Queued | TurnState::Running | TurnState::Stopping => return String::new(),
            TurnState::Completed | TurnState::Stopped | TurnState::WaitingApproval => String::new(),
            TurnState::Interrupted => {
                let content = Some("the answer was interrupted by a restart");
                sse("message", &Said { r#type: "error", role: None, content })
            }
            TurnState::Failed => {
                let content = Some(turn.error.as_deref().unwrap_or("the model failed"));
                sse("message", &Said { r#type: "error", role: None, content })
            }
        };
        self.done = true;
        out.push_str(&sse("done", &Said { r#type: "done", role: None, content: None }));
        out
    }
}

impl Encoder for Stream {
    fn turn_id(&self) -> &str {
        &self.turn_id
    }

    fn push(&mut self, kind: EventKind, frame: &str) -> String {
        self.event(kind, frame)
    }

    fn reset(&mut self, _: u64, turn: &Turn, message: Option<&Message>) -> String {
        let mut out = String::new();
        if let Some(message) = message {
            out.push_str(&self.catch_up(&message.parts, true));
            out.push_str(&self.message(message));
        }
        out + &self.turn(turn)
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn broken(&mut self, why: &str) -> Option<String> {
        let content = Some(why);
        let error = sse("message", &Said { r#type: "error", role: None, content });
        Some(error + &sse("done", &Said { r#type: "done", role: None, content: None }))
    }

    fn keep_alive(&self) -> &'static str {
        ": keep-alive\n\n"
    }
}

/// The socket frame that an event leads to, if clients of the chat route know it.
#[must_use]
pub fn socket_frame(kind: EventKind, frame: &str) -> Option<String> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Replaced<'a> {
        r#type: &'static str,
        message_id: &'a str,
        parts: &'a [Part],
    }
    let line = match (kind, Event::read(kind, frame).ok()?) {
        (EventKind::Message, Event::Message(message)) => return Some(stored(message)),
        // What stands for text that grew is nothing new: these clients hear of a message when it is whole.
        (EventKind::MessageParts, Event::MessageParts { message_id, parts, from: None, .. }) => {
            let (message_id, parts) = (message_id.as_str(), parts.as_slice());
            serde_json::to_string(&Replaced { r#type: "message-parts", message_id, parts })
        }
        _ => return None,
    };
    line.ok()
}

fn stored(message: Message) -> String {
    #[derive(Serialize)]
    struct Stored {
        r#type: &'static str,
        message: ChatMessage,
    }
    let frame = Stored { r#type: "message", message: message.into() };
    serde_json::to_string(&frame).expect("messages are plain JSON")
}

/// The socket frames that take the place of a `reset`: a message each.
#[must_use]
pub fn messages_of_reset(frame: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Reset {
        snapshot: Snapshot,
    }
    #[derive(Deserialize)]
    struct Snapshot {
        messages: Vec<Message>,
    }
    let shown = |message: &Message| !matches!(message.status, Status::Streaming | Status::Deleted);
    let reset: Result<Reset, _> = serde_json::from_str(frame);
    let messages = reset.map(|reset| reset.snapshot.messages).unwrap_or_default();
    messages.into_iter().filter(shown).map(stored).collect()
}

/// Reads parts from the text of a JSON array.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse_parts(text: &str) -> Result<Vec<Part>, serde_json::Error> {
    let raw: Vec<&RawValue> = serde_json::from_str(text)?;
    raw.into_iter().map(|part| serde_json::from_str(part.get())).collect()
}
