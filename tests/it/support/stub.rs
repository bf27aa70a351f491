//! A model on the loopback: speaks the Messages API and chat completions, and does what the last user message says.
//!
//! `fail N` answers with status N; `read PATH` calls the tool that reads; `hang` says a word and then nothing; anything
//! else is said back, with the number of earlier answers in the conversation.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

/// A running stub; its threads end with the test binary.
pub struct Stub {
    /// `http://127.0.0.1:PORT`
    pub base: String,
    /// Answers that hang and that the client has not left.
    pub hanging: Arc<AtomicUsize>,
}

/// What the model does.
enum Act {
    Fail(u16),
    Read(String),
    Hang,
    Say(String),
}

impl Stub {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let hanging = Arc::default();
        let stub = Self { base, hanging: Arc::clone(&hanging) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let hanging = Arc::clone(&hanging);
                // A client may leave at any time; that ends the thread, not the test.
                std::thread::spawn(move || serve(stream.unwrap(), &hanging).ok());
            }
        });
        stub
    }
}

/// Answers one request and closes.
fn serve(stream: TcpStream, hanging: &AtomicUsize) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let Some((head, request)) = read_request(stream)? else { return Ok(()) };
    if head.starts_with("post /v1/messages?") || head.starts_with("post /v1/messages ") {
        messages(&mut out, &request, hanging)
    } else if head.contains("/chat/completions") {
        completions(&mut out, &request, hanging)
    } else {
        respond(&mut out, 200, &json!({ "input_tokens": 1 }))
    }
}

/// The head of a request in lower case, and its body if that is JSON; `None` if nothing comes.
pub(super) fn read_request(stream: TcpStream) -> std::io::Result<Option<(String, Value)>> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let lower = head.to_lowercase();
    let body = if let Some((_, rest)) = lower.split_once("content-length:") {
        let length = rest.lines().next().unwrap().trim().parse().unwrap();
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        body
    } else if lower.contains("transfer-encoding: chunked") {
        chunked(&mut reader)?
    } else {
        Vec::new()
    };
    Ok(Some((lower, serde_json::from_slice(&body).unwrap_or_default())))
}

fn chunked(reader: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk)?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

pub(super) fn respond(out: &mut TcpStream, status: u16, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    write!(
        out,
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

pub(super) fn open_stream(out: &mut TcpStream) -> std::io::Result<()> {
    out.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n",
    )
}

/// Waits until the client leaves, at most a minute.
fn hang(out: &mut TcpStream, hanging: &AtomicUsize) -> std::io::Result<()> {
    hanging.fetch_add(1, Ordering::SeqCst);
    out.set_read_timeout(Some(Duration::from_mins(1)))?;
    let gone = out.read(&mut [0; 16]);
    hanging.fetch_sub(1, Ordering::SeqCst);
    gone.map(drop)
}

/// The text of a message in either API: a string, or the last block of text that no agent added.
pub(super) fn text_of(message: &Value) -> String {
    let blocks = message["content"].as_array();
    let texts = blocks.into_iter().flatten().filter_map(|block| block["text"].as_str());
    let mut own = texts.filter(|text| !text.trim_start().starts_with("<system-reminder>"));
    own.next_back().or_else(|| message["content"].as_str()).unwrap_or_default().to_owned()
}

fn act(request: &Value) -> Act {
    let messages = request["messages"].as_array().unwrap();
    let text = messages.iter().rfind(|message| message["role"] == "user").map(text_of);
    let text = text.unwrap_or_default();
    let earlier = messages.iter().filter(|message| message["role"] == "assistant").count();
    match text.trim().split_once(' ') {
        Some(("fail", status)) => Act::Fail(status.parse().unwrap()),
        Some(("read", path)) => Act::Read(path.to_owned()),
        _ if text.trim() == "hang" => Act::Hang,
        _ => Act::Say(format!("You said: {}; answers before: {earlier}", text.trim())),
    }
}

fn messages(out: &mut TcpStream, request: &Value, hanging: &AtomicUsize) -> std::io::Result<()> {
    let all = request["messages"].as_array().unwrap();
    let last = all.iter().rfind(|message| message["role"] == "user").unwrap();
    let result = last["content"].as_array().and_then(|blocks| {
        let result = blocks.iter().find(|block| block["type"] == "tool_result")?;
        Some(result["content"].to_string())
    });
    let act = result.map_or_else(|| act(request), |result| Act::Say(format!("it says {result}")));
    let mut block = json!({ "type": "text", "text": "" });
    let mut stop = "end_turn";
    let kind = |status| if status == 401 { "authentication_error" } else { "overloaded_error" };
    let delta = match &act {
        Act::Fail(status) => {
            let error = json!({ "type": kind(*status), "message": "stub says no" });
            return respond(out, *status, &json!({ "type": "error", "error": error }));
        }
        Act::Read(path) => {
            let input = json!({ "file_path": path }).to_string();
            block = json!({ "type": "tool_use", "id": "toolu_1", "name": "Read", "input": {} });
            stop = "tool_use";
            json!({ "type": "input_json_delta", "partial_json": input })
        }
        Act::Hang => json!({ "type": "text_delta", "text": "wait" }),
        Act::Say(text) => json!({ "type": "text_delta", "text": text }),
    };
    open_stream(out)?;
    let usage = json!({ "input_tokens": 10, "output_tokens": 1 });
    let message = json!({
        "id": format!("msg_{}", all.len()), "type": "message", "role": "assistant",
        "model": request["model"], "content": [], "stop_reason": null, "usage": usage,
    });
    let mut event =
        |value: Value| write!(out, "event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap());
    event(json!({ "type": "message_start", "message": message }))?;
    event(json!({ "type": "content_block_start", "index": 0, "content_block": block }))?;
    event(json!({ "type": "content_block_delta", "index": 0, "delta": delta }))?;
    if let Act::Hang = act {
        return hang(out, hanging);
    }
    event(json!({ "type": "content_block_stop", "index": 0 }))?;
    let delta = json!({ "stop_reason": stop, "stop_sequence": null });
    event(json!({ "type": "message_delta", "delta": delta, "usage": { "output_tokens": 5 } }))?;
    event(json!({ "type": "message_stop" }))
}

fn completions(out: &mut TcpStream, request: &Value, hanging: &AtomicUsize) -> std::io::Result<()> {
    let last = request["messages"].as_array().unwrap().last().unwrap();
    let act = if last["role"] == "tool" {
        Act::Say(format!("it says {}", text_of(last)))
    } else {
        act(request)
    };
    let (delta, stop) = match &act {
        Act::Fail(status) => {
            let error = json!({ "message": "stub says no", "type": "error", "code": "bad" });
            return respond(out, *status, &json!({ "error": error }));
        }
        Act::Read(path) => {
            let arguments = json!({ "filePath": path }).to_string();
            let call = json!({
                "index": 0, "id": "call_1", "type": "function",
                "function": { "name": "read", "arguments": arguments },
            });
            (json!({ "role": "assistant", "tool_calls": [call] }), "tool_calls")
        }
        Act::Hang => (json!({ "role": "assistant", "content": "wait" }), "stop"),
        Act::Say(text) => (json!({ "role": "assistant", "content": text }), "stop"),
    };
    open_stream(out)?;
    let mut chunk = |choices: Value, usage: Value| {
        let chunk = json!({
            "id": "c1", "object": "chat.completion.chunk", "created": 1,
            "model": request["model"], "choices": choices, "usage": usage,
        });
        write!(out, "data: {chunk}\n\n")
    };
    chunk(json!([{ "index": 0, "delta": delta, "finish_reason": null }]), Value::Null)?;
    if let Act::Hang = act {
        return hang(out, hanging);
    }
    chunk(json!([{ "index": 0, "delta": {}, "finish_reason": stop }]), Value::Null)?;
    let usage = json!({ "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 });
    chunk(json!([]), usage)?;
    out.write_all(b"data: [DONE]\n\n")
}
