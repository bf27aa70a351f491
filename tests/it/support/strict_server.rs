//! A model server on the loopback that refuses what the strictest of its kind refuses, and otherwise answers with what it was
//! told to answer, or with a word.

use std::collections::VecDeque;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use super::strict;
use super::strict::Rules;
use super::stub::read_request;
use super::stub::respond;

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its head, in lower case.
    pub head: String,
    pub body: Value,
    /// Why it was refused.
    pub refused: Vec<String>,
}

/// What is sent for one request.
pub struct Told {
    pub status: u16,
    /// As in `text/event-stream`.
    pub content_type: &'static str,
    pub body: Vec<u8>,
    /// Whether the connection stays open behind it, until the client leaves.
    pub hangs: bool,
}

#[derive(Default)]
struct Heard {
    asked: Vec<Asked>,
    next: VecDeque<Told>,
    /// All that was told, to know the ids in it again.
    told: String,
}

/// A running server; its threads end with the test binary.
#[derive(Clone)]
pub struct StrictServer {
    /// `http://127.0.0.1:PORT`
    pub base: String,
    heard: Arc<Mutex<Heard>>,
}

impl StrictServer {
    pub fn start(rules: Rules) -> Self {
        Self::listen(Some(rules))
    }

    /// One that takes everything and answers `{}`, as a tool.
    pub fn of_anything() -> Self {
        Self::listen(None)
    }

    fn listen(rules: Option<Rules>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::<Mutex<Heard>>::default();
        let server = Self { base, heard: Arc::clone(&heard) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let heard = Arc::clone(&heard);
                // A client may leave at any time; that ends the thread, not the test.
                std::thread::spawn(move || serve(stream.unwrap(), rules, &heard).ok());
            }
        });
        server
    }

    /// The next request that is accepted gets this.
    pub fn tell(&self, told: Told) {
        let mut heard = self.heard.lock().unwrap();
        heard.told.push_str(&String::from_utf8_lossy(&told.body));
        heard.next.push_back(told);
    }

    /// The next request that is accepted gets these events.
    pub fn tell_events(&self, body: impl Into<Vec<u8>>) {
        let (content_type, body) = ("text/event-stream", body.into());
        self.tell(Told { status: 200, content_type, body, hangs: false });
    }

    /// What was asked since this was last called.
    pub fn take(&self) -> Vec<Asked> {
        let mut heard = self.heard.lock().unwrap();
        heard.next.clear();
        std::mem::take(&mut heard.asked)
    }
}

fn serve(stream: TcpStream, rules: Option<Rules>, heard: &Mutex<Heard>) -> io::Result<()> {
    let mut out = stream.try_clone()?;
    let Some((head, body)) = read_request(stream)? else { return Ok(()) };
    let told = heard.lock().unwrap().told.clone();
    let own = |id: &str| !id.is_empty() && told.contains(id);
    let refused = rules.map(|rules| strict::problems(rules, &body, &own)).unwrap_or_default();
    let told = {
        let mut heard = heard.lock().unwrap();
        let accepted = refused.is_empty();
        heard.asked.push(Asked { head, body, refused: refused.clone() });
        if accepted { heard.next.pop_front() } else { None }
    };
    if !refused.is_empty() {
        let error = json!({ "type": "invalid_request_error", "message": refused.join("; ") });
        return respond(&mut out, 400, &json!({ "type": "error", "error": error }));
    }
    let Some(rules) = rules else { return respond(&mut out, 200, &json!({})) };
    let told = told.unwrap_or_else(|| word(rules));
    write!(
        out,
        "HTTP/1.1 {} X\r\ncontent-type: {}\r\nconnection: close\r\n\r\n",
        told.status, told.content_type
    )?;
    out.write_all(&told.body)?;
    if told.hangs {
        out.set_read_timeout(Some(Duration::from_mins(5)))?;
        return out.read(&mut [0; 16]).map(drop);
    }
    Ok(())
}

/// A plain answer.
fn word(rules: Rules) -> Told {
    let events = match rules {
        Rules::Anthropic | Rules::AnthropicLike => vec![
            json!({"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "fine"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
            json!({"type": "message_stop"}),
        ],
        Rules::Chat => vec![
            json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "fine"}, "finish_reason": "stop"}]}),
        ],
        Rules::Responses => vec![
            json!({"type": "response.created", "response": {"id": "r"}}),
            json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "fine"}),
            json!({"type": "response.completed", "response": {"id": "r", "status": "completed"}}),
        ],
    };
    let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let (content_type, body) = ("text/event-stream", body.into_bytes());
    Told { status: 200, content_type, body, hangs: false }
}
