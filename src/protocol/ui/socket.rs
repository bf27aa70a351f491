//! The frames of `WebSocketChatTransport`: one socket, many requests.

use serde::Deserialize;

use crate::base::json::Json;
use crate::base::json::Object;
use crate::base::told;
use crate::protocol::ui::UiRequest;

/// What a client sends.
#[derive(Debug)]
pub enum SocketFrame {
    /// As `POST /api/chat`.
    Send {
        /// Names the request.
        request_id: String,
        /// The request.
        request: Box<UiRequest>,
        /// Its idempotency key.
        key: Option<String>,
    },
    /// As `GET /api/chat/{id}/stream`.
    Resume {
        /// Names the request.
        request_id: String,
        /// The chat.
        id: String,
    },
    /// Stop the answer to a request.
    Abort {
        /// Which request.
        request_id: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    r#type: String,
    request_id: String,
    id: Option<String>,
    /// What would be HTTP headers: browsers can set none on a socket.
    #[serde(default)]
    headers: Option<Json>,
}

/// The value of header `name`.
fn header(headers: Option<&Json>, name: &str) -> Option<String> {
    let headers = headers.and_then(Object::read)?;
    let (_, value) = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    value.as_string()
}

impl SocketFrame {
    /// The `requestId` of a frame, whatever else it says.
    #[must_use]
    pub fn request_id(text: &str) -> Option<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Id {
            request_id: String,
        }
        serde_json::from_str::<Id>(text).ok().map(|id| id.request_id)
    }

    /// Whether a frame is of a kind that there is, whatever else it says.
    #[must_use]
    pub fn is_known(text: &str) -> bool {
        #[derive(Deserialize)]
        struct Kind {
            r#type: String,
        }
        let kind = serde_json::from_str::<Kind>(text);
        kind.is_ok_and(|kind| ["send", "resume", "abort"].contains(&kind.r#type.as_str()))
    }

    /// Reads a frame.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let outline: Outline =
            serde_json::from_str(text).map_err(|error| told::of("the frame", &error))?;
        let Outline { r#type: kind, request_id, id, headers } = outline;
        match kind.as_str() {
            "send" => {
                let request =
                    serde_json::from_str(text).map_err(|error| told::of("the frame", &error))?;
                let key = header(headers.as_ref(), "Idempotency-Key");
                Ok(Self::Send { request_id, request: Box::new(request), key })
            }
            "resume" => {
                let id = id.ok_or("a frame `resume` needs the `id` of the chat")?;
                Ok(Self::Resume { request_id, id })
            }
            "abort" => Ok(Self::Abort { request_id }),
            other => Err(format!("there is no frame of type `{other}`")),
        }
    }
}

/// What the server sends.
#[derive(Debug)]
pub enum SocketReply<'a> {
    /// A running answer follows, from its start.
    Start,
    /// A piece of the answer; `sequence` counts from 0 without gaps.
    Chunk(u64, &'a Json),
    /// The answer is over.
    End,
    /// Nothing runs.
    NoActive,
    /// The request failed.
    Error(&'a str),
}

impl SocketReply<'_> {
    /// The frame that answers request `request_id`.
    #[must_use]
    pub fn json(&self, request_id: &str) -> String {
        let of = |kind: &str| Object::default().with("type", &kind).with("requestId", &request_id);
        let frame = match self {
            Self::Start => of("start"),
            Self::Chunk(sequence, chunk) => {
                of("chunk").with("sequence", sequence).with("chunk", chunk)
            }
            Self::End => of("end"),
            Self::NoActive => of("no-active"),
            Self::Error(text) => of("error").with("errorText", text),
        };
        frame.to_json().as_str().to_owned()
    }
}
