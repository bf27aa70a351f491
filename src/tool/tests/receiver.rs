//! An HTTP server for tests: answers each request as a function says, and remembers what it was asked.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// A header; empty if there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// Status, content type and body; for a redirect the type is `location` and the body says where to.
pub(super) type Answer = (u16, &'static str, String);

/// A running server; its threads end with the tests.
pub(super) struct Receiver {
    pub(super) base: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    pub(super) fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (seen, answer) = (Arc::default(), Arc::new(answer));
        let receiver = Self { base, seen: Arc::clone(&seen) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                // A client may leave at any time; that ends the thread, not the test.
                std::thread::spawn(move || serve(stream.unwrap(), &seen, &*answer).ok());
            }
        });
        receiver
    }

    /// All requests so far.
    pub(super) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(
    mut out: TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &dyn Fn(&Request) -> Answer,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(out.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request { method, path, ..Request::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        request.headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let mut body = vec![0; request.header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body)?;
    request.body = String::from_utf8(body).unwrap();
    seen.lock().unwrap().push(request.clone());
    let (status, kind, body) = answer(&request);
    let head = if kind == "location" {
        format!("location: {body}")
    } else {
        format!("content-type: {kind}")
    };
    let length = body.len();
    write!(
        out,
        "HTTP/1.1 {status} X\r\n{head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}
