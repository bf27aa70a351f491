//! A model and its tools on the loopback, for whole turns: chat completions that do what the last user message says.
//!
//! `call NAME JSON` calls a tool, once, and then says what came out; `calls NAME` calls it again and again; `raw NAME TEXT`
//! calls it with input that is TEXT, JSON or not; `silent` says nothing and `hang` one word, until the client leaves;
//! anything else is said back. The tool at `/tool/hold` never answers, the one at `/tool/done` does at once.

use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;

use serde_json::Value;
use serde_json::json;
use std::io::Read as _;
use std::io::Write as _;
use std::time::Duration;

use super::server::Options;
use super::stub::open_stream;
use super::stub::read_request;
use super::stub::respond;
use super::stub::text_of;

/// What came in so far.
#[derive(Default)]
struct Heard {
    /// What the model was asked: the last user message of each request.
    asked: Vec<String>,
    /// The request that came last, whole.
    last: Value,
    /// The bodies of the tool calls.
    calls: Vec<Value>,
    /// Requests that are held open.
    held: usize,
}

/// A running model; its threads end with the test binary.
pub struct Scripted {
    base: String,
    heard: Arc<Mutex<Heard>>,
}

impl Scripted {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::<Mutex<Heard>>::default();
        let log = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let log = Arc::clone(&log);
                // A client may leave at any time; that ends the thread, not the test.
                std::thread::spawn(move || serve(stream.unwrap(), &log).ok());
            }
        });
        Self { base, heard }
    }

    /// Has the server know this model as `stub/m`, and the tools `hold`, `done` and `guarded`, which wants an approval.
    pub fn known_to(&self, options: Options) -> Options {
        let mut options = options
            .set("SESSILE__MODELS__PROXY", false)
            .set("SESSILE__MODELS__COMPATIBLE__STUB__BASE_URL", format!("{}/v1", self.base))
            .set("SESSILE__MODELS__COMPATIBLE__STUB__KEY_ENV", "")
            .set("TOOL_KEY", "a key of the tests, long enough");
        for (name, path) in [("HOLD", "hold"), ("DONE", "done"), ("GUARDED", "hold")] {
            let set = |field: &str| format!("SESSILE__TOOLS__HTTP__{name}__{field}");
            options = options
                .set(&set("URL"), format!("{}/tool/{path}", self.base))
                .set(&set("NEEDS_APPROVAL"), name == "GUARDED")
                .set(&set("SECRET__ENV"), "TOOL_KEY");
        }
        options
    }

    /// How often the model was asked this.
    pub fn asked(&self, text: &str) -> usize {
        self.heard.lock().unwrap().asked.iter().filter(|asked| *asked == text).count()
    }

    /// What the model was asked last, whole.
    pub fn last_request(&self) -> Value {
        self.heard.lock().unwrap().last.clone()
    }

    /// How often tools were called from `session`.
    pub fn called(&self, session: &str) -> usize {
        let heard = self.heard.lock().unwrap();
        heard.calls.iter().filter(|call| call["sessionId"] == session).count()
    }
}

/// Answers one request and closes.
fn serve(stream: TcpStream, heard: &Mutex<Heard>) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let Some((head, request)) = read_request(stream)? else { return Ok(()) };
    if head.starts_with("post /tool/") {
        heard.lock().unwrap().calls.push(request.clone());
        if head.starts_with("post /tool/hold") {
            return hold(&mut out, heard);
        }
        return respond(&mut out, 200, &json!({ "done": request["input"] }));
    }
    answer(&mut out, &request, heard)
}

/// Waits until the client leaves, at most some minutes.
fn hold(out: &mut TcpStream, heard: &Mutex<Heard>) -> std::io::Result<()> {
    heard.lock().unwrap().held += 1;
    out.set_read_timeout(Some(Duration::from_mins(5)))?;
    let gone = out.read(&mut [0; 16]);
    heard.lock().unwrap().held -= 1;
    gone.map(drop)
}

fn answer(out: &mut TcpStream, request: &Value, heard: &Mutex<Heard>) -> std::io::Result<()> {
    let messages = request["messages"].as_array().unwrap();
    heard.lock().unwrap().last = request.clone();
    let asked = messages.iter().rposition(|message| message["role"] == "user").unwrap();
    let results = messages[asked..].iter().filter(|message| message["role"] == "tool");
    let results: Vec<String> = results.map(text_of).collect();
    let text = text_of(&messages[asked]);
    heard.lock().unwrap().asked.push(text.clone());
    let mut words = text.splitn(3, ' ');
    let act = (words.next().unwrap(), words.next().unwrap_or(""), words.next().unwrap_or("{}"));
    let call = match (act, results.last()) {
        (("calls", name, input), _) | (("call" | "raw", name, input), None) => Some((name, input)),
        _ => None,
    };
    if act.0 == "silent" {
        return hold(out, heard);
    }
    let said = results.last().map_or_else(|| text.clone(), |result| format!("it says {result}"));
    open_stream(out)?;
    let mut chunk = |delta: Value, stop: Option<&str>, usage: Value| {
        let choices = match usage.is_null() {
            true => json!([{ "index": 0, "delta": delta, "finish_reason": stop }]),
            false => json!([]),
        };
        let chunk = json!({
            "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": choices, "usage": usage,
        });
        write!(out, "data: {chunk}\n\n")
    };
    if let Some((name, input)) = call {
        let id = format!("call_{}", results.len());
        let function = json!({ "name": name, "arguments": input });
        let call = json!({ "index": 0, "id": id, "type": "function", "function": function });
        chunk(json!({ "role": "assistant", "content": "so: " }), None, Value::Null)?;
        chunk(json!({ "tool_calls": [call] }), None, Value::Null)?;
        chunk(json!({}), Some("tool_calls"), Value::Null)?;
    } else {
        chunk(json!({ "role": "assistant", "content": said }), None, Value::Null)?;
        if act.0 == "hang" {
            return hold(out, heard);
        }
        chunk(json!({}), Some("stop"), Value::Null)?;
    }
    let usage = json!({ "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 });
    chunk(Value::Null, None, usage)?;
    out.write_all(b"data: [DONE]\n\n")
}
