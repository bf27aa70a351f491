//! A provider of models that does everything wrong: a raw HTTP server on the loopback, and what it does as a list.

use crate::support::provider_words::Dialect;
use crate::support::provider_words::deep;
use crate::support::provider_words::events;
use sessile::model::FailureKind;
use socket2::SockRef;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What a flood is sent in, in bytes.
const BLOCK_BYTES: usize = 16 << 10;

/// What is done with a connection, in order; behind the last step it is closed.
pub enum Step {
    /// Sends this.
    Send(Vec<u8>),
    /// Sends this again and again until the other side has enough.
    Forever(Vec<u8>),
    /// The same with pauses that are too short to be silence.
    Slowly(Vec<u8>),
    /// Sends this byte by byte, as fast as it can.
    Bytes(Vec<u8>),
    /// Sends this byte by byte, one a second.
    Drip(Vec<u8>),
    /// Does nothing until the other side has enough.
    Wait,
    /// Cuts the connection without a word.
    Reset,
}

/// How an answer of a behaviour must end. Nothing else may come of it, whoever asks.
pub enum Then {
    /// Whole.
    Finish,
    /// With this error.
    Fail(FailureKind),
    /// Whole or with an error: the dialects differ.
    End,
}

/// A way to be hostile.
pub struct Behaviour {
    pub name: &'static str,
    /// What is done with the first connection, the second and so on; the last one is done again.
    pub script: fn(Dialect, &Places) -> Vec<Vec<Step>>,
    pub then: Then,
}

/// Addresses that a behaviour may speak of.
pub struct Places {
    /// Another host; nobody may connect there.
    pub trap: String,
}

/// A running hostile provider; dropping it ends it.
pub struct HostileProvider {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    trapped: Arc<AtomicUsize>,
    open: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl HostileProvider {
    /// Starts one that behaves as `behaviour`.
    pub async fn start(behaviour: &'static Behaviour, dialect: Dialect) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // Another name makes it another host.
        let places =
            Places { trap: format!("http://localhost:{}/", trap.local_addr().unwrap().port()) };
        let (requests, trapped) = (Arc::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        let counter = Arc::clone(&trapped);
        tasks.spawn(async move {
            while trap.accept().await.is_ok() {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        let log = Arc::clone(&requests);
        let (count_open, open) = watch::channel(0);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for count in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let mut scripts = (behaviour.script)(dialect, &places);
                let script = scripts.swap_remove(count.min(scripts.len() - 1));
                count_open.send_modify(|open| *open += 1);
                let (count_open, log) = (count_open.clone(), Arc::clone(&log));
                connections.spawn(async move {
                    serve(stream, script, log).await;
                    count_open.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { port, requests, trapped, open, _tasks: tasks }
    }

    /// Its address, for a setting `base_url`.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests so far: head and body.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        *self.open.borrow()
    }

    /// Waits until no connection is open.
    pub async fn closed(&self) {
        self.open.clone().wait_for(|open| *open == 0).await.unwrap();
    }

    /// How often somebody went where they were lured.
    pub fn trapped(&self) -> usize {
        self.trapped.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, script: Vec<Step>, log: Arc<Mutex<Vec<String>>>) {
    // Whoever hangs up is right.
    if let Ok(request) = read_request(&mut stream).await {
        log.lock().unwrap().push(request);
        drop(play(&mut stream, script).await);
    }
}

async fn read_request(stream: &mut TcpStream) -> io::Result<String> {
    let (mut request, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        if body.len() >= length.unwrap_or(0) {
            return Ok(text.into_owned());
        }
    }
}

async fn play(stream: &mut TcpStream, script: Vec<Step>) -> io::Result<()> {
    for step in script {
        match step {
            Step::Send(bytes) => stream.write_all(&bytes).await?,
            Step::Forever(bytes) => {
                let many = bytes.repeat(BLOCK_BYTES.div_ceil(bytes.len()));
                loop {
                    stream.write_all(&many).await?;
                }
            }
            Step::Slowly(bytes) => loop {
                stream.write_all(&bytes).await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            },
            Step::Bytes(bytes) => {
                stream.set_nodelay(true)?;
                for byte in bytes {
                    stream.write_all(&[byte]).await?;
                    tokio::task::yield_now().await;
                }
            }
            Step::Drip(bytes) => {
                for byte in bytes {
                    stream.write_all(&[byte]).await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            Step::Wait => while stream.read(&mut [0; 64]).await? > 0 {},
            Step::Reset => return SockRef::from(&*stream).set_linger(Some(Duration::ZERO)),
        }
    }
    stream.shutdown().await
}

fn send(text: impl AsRef<[u8]>) -> Step {
    Step::Send(text.as_ref().to_vec())
}

/// The head of an answer with these fields, which end with the connection.
fn head(status: u16, fields: &str) -> Step {
    send(format!("HTTP/1.1 {status} X\r\nconnection: close\r\n{fields}\r\n"))
}

const STREAM: &str = "content-type: text/event-stream\r\n";

/// A good head and these bytes.
fn stream(bytes: impl AsRef<[u8]>) -> Vec<Vec<Step>> {
    vec![vec![head(200, STREAM), send(bytes)]]
}

/// A good head, and then these steps.
fn stream_steps(steps: impl IntoIterator<Item = Step>) -> Vec<Vec<Step>> {
    vec![std::iter::once(head(200, STREAM)).chain(steps).collect()]
}

/// An error with these fields.
fn refuse(dialect: Dialect, status: u16, fields: &str) -> Vec<Step> {
    vec![head(status, fields), send(dialect.error_body("something went wrong"))]
}

/// An error, and the answer when one asks again.
fn refuse_once(dialect: Dialect, status: u16, fields: &str) -> Vec<Vec<Step>> {
    vec![refuse(dialect, status, fields), stream(dialect.answer()).remove(0)]
}

const fn behaviour(
    name: &'static str,
    then: Then,
    script: fn(Dialect, &Places) -> Vec<Vec<Step>>,
) -> Behaviour {
    Behaviour { name, script, then }
}

use FailureKind::Authentication;
use FailureKind::Interrupted;
use FailureKind::Limit;
use FailureKind::Protocol;
use FailureKind::RateLimit;
use FailureKind::Request;
use FailureKind::Unavailable;
use Then::End;
use Then::Fail;
use Then::Finish;

/// What is wrong with the connection or with HTTP.
pub static CONNECTIONS: &[Behaviour] = &[
    behaviour("well behaved", Finish, |d, _| stream(d.answer())),
    behaviour("never answers", Fail(Limit), |_, _| vec![vec![Step::Wait]]),
    behaviour("closes at once", Fail(Unavailable), |_, _| vec![vec![]]),
    behaviour("closes in the head", Fail(Unavailable), |_, _| {
        vec![vec![send("HTTP/1.1 200 X\r\nco")]]
    }),
    behaviour("resets in the head", Fail(Unavailable), |_, _| {
        vec![vec![send("HTTP/1.1 200 X\r\nco"), Step::Reset]]
    }),
    behaviour("speaks something else", Fail(Unavailable), |_, _| vec![vec![send("hello\r\n\r\n")]]),
    behaviour("endless head", End, |_, _| {
        vec![vec![send("HTTP/1.1 200 X\r\n"), Step::Forever(b"x-more: and more\r\n".to_vec())]]
    }),
    behaviour("endless 100", Fail(Limit), |_, _| {
        vec![vec![Step::Slowly(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())]]
    }),
    behaviour("first close, then answer", Finish, |d, _| {
        vec![vec![], stream(d.answer()).remove(0)]
    }),
    behaviour("200 then nothing", Fail(Limit), |_, _| stream_steps([Step::Wait])),
    behaviour("200 then close", Fail(Interrupted), |_, _| stream("")),
    behaviour("200 then reset", Fail(Interrupted), |_, _| stream_steps([Step::Reset])),
    behaviour("reset behind a text", Fail(Interrupted), |d, _| {
        stream_steps([send(d.start() + &d.text("par")), Step::Reset])
    }),
    behaviour("a byte a second", Fail(Limit), |d, _| {
        stream_steps([Step::Drip(d.answer().into_bytes())])
    }),
    behaviour("a byte at a time", Finish, |d, _| {
        stream_steps([Step::Bytes(d.answer().into_bytes())])
    }),
    behaviour("silence behind a text", Fail(Limit), |d, _| {
        stream_steps([send(d.start() + &d.text("par")), Step::Wait])
    }),
    behaviour("JSON instead of a stream", Fail(Protocol), |d, _| {
        vec![vec![head(200, "content-type: application/json\r\n"), send(d.error_body("no"))]]
    }),
    behaviour("a page instead of a stream", Fail(Protocol), |_, _| {
        vec![vec![head(200, "content-type: text/html\r\n"), Step::Forever(b"<p>".to_vec())]]
    }),
    behaviour("no content type", Finish, |d, _| vec![vec![head(200, ""), send(d.answer())]]),
    behaviour("204", Fail(Interrupted), |_, _| vec![vec![head(204, "")]]),
    behaviour("gzip that nobody asked for", Fail(Protocol), |_, _| {
        let fields = "content-type: text/event-stream\r\ncontent-encoding: gzip\r\n";
        vec![vec![head(200, fields), send(b"\x1f\x8b\x08\0\0\0\0\0")]]
    }),
    behaviour("a gateway's page", Fail(Unavailable), |_, _| {
        vec![vec![head(502, "content-type: text/html\r\n"), send("<html>Bad Gateway</html>")]]
    }),
    behaviour("400", Fail(Request), |d, _| vec![refuse(d, 400, "")]),
    behaviour("401", Fail(Authentication), |d, _| vec![refuse(d, 401, "")]),
    behaviour("402", Fail(RateLimit), |d, _| vec![refuse(d, 402, "")]),
    behaviour("403", Fail(Authentication), |d, _| vec![refuse(d, 403, "")]),
    behaviour("404", Fail(Request), |d, _| vec![refuse(d, 404, "")]),
    behaviour("418 without a word", Fail(Request), |_, _| vec![vec![head(418, "")]]),
    behaviour("429", Fail(RateLimit), |d, _| vec![refuse(d, 429, "")]),
    behaviour("429, come back tomorrow", Fail(RateLimit), |d, _| {
        vec![refuse(d, 429, "retry-after: 86400\r\n")]
    }),
    behaviour("429 then answer", Finish, |d, _| refuse_once(d, 429, "retry-after-ms: 20\r\n")),
    behaviour("500 then answer", Finish, |d, _| refuse_once(d, 500, "")),
    behaviour("503 then answer", Finish, |d, _| refuse_once(d, 503, "retry-after: 0.02\r\n")),
    behaviour("529 then answer", Finish, |d, _| refuse_once(d, 529, "retry-after-ms: 20\r\n")),
    behaviour("400, but try again", Finish, |d, _| {
        refuse_once(d, 400, "x-should-retry: true\r\nretry-after-ms: 20\r\n")
    }),
    behaviour("500, do not try again", Fail(Unavailable), |d, _| {
        refuse_once(d, 500, "x-should-retry: false\r\n")
    }),
    behaviour("always 503", Fail(Unavailable), |d, _| {
        vec![refuse(d, 503, "retry-after-ms: 20\r\n")]
    }),
    behaviour("503 with an endless body", Fail(Unavailable), |_, _| {
        vec![vec![head(503, "x-should-retry: false\r\n"), Step::Forever(b"no ".to_vec())]]
    }),
    behaviour("an error that repeats the key", Fail(Authentication), |d, _| {
        let words = format!("wrong key: {KEY}, {KEY}! sk-proj-AB**YZ");
        vec![vec![head(401, ""), send(d.error_body(&words))]]
    }),
    behaviour("redirect elsewhere", Fail(Protocol), |_, places| {
        vec![vec![head(307, &format!("location: {}\r\n", places.trap))]]
    }),
    behaviour("redirect to a GET elsewhere", Fail(Protocol), |_, places| {
        vec![vec![head(302, &format!("location: {}\r\n", places.trap))]]
    }),
    behaviour("redirect in a circle", Fail(Protocol), |_, _| {
        vec![vec![head(308, "location: /\r\n")]]
    }),
    behaviour("broken chunks", Fail(Interrupted), |d, _| {
        let fields = "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n";
        let text = d.start() + &d.text("par");
        let body = format!("{:x}\r\n{text}\r\nxyz\r\n", text.len());
        vec![vec![head(200, fields), send(body)]]
    }),
    behaviour("chunks without an end", Fail(Interrupted), |d, _| {
        let fields = "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n";
        let text = d.start() + &d.text("par");
        vec![vec![head(200, fields), send(format!("{:x}\r\n{text}\r\n", text.len()))]]
    }),
    behaviour("less than announced", Fail(Interrupted), |d, _| {
        let fields = "content-type: text/event-stream\r\ncontent-length: 100000\r\n";
        vec![vec![head(200, fields), send(d.start() + &d.text("par"))]]
    }),
];

/// The key that tests give to the provider, so that it can be repeated.
pub const KEY: &str = "sk-test-0123456789-SECRET";

/// What is wrong with the stream.
pub static STREAMS: &[Behaviour] = &[
    behaviour("endless text", Fail(Limit), |d, _| {
        stream_steps([
            send(d.start() + &d.open_text()),
            Step::Forever(d.delta("more ").into_bytes()),
        ])
    }),
    behaviour("endless comments", Fail(Limit), |_, _| {
        stream_steps([Step::Forever(b": still there\n\n".to_vec())])
    }),
    behaviour("endless pings", Fail(Limit), |_, _| {
        stream_steps([Step::Forever(b"event: ping\ndata: {\"type\":\"ping\"}\n\n".to_vec())])
    }),
    behaviour("endless line ends", Fail(Limit), |_, _| {
        stream_steps([Step::Forever(b"\r\n".to_vec())])
    }),
    behaviour("endless line", Fail(Limit), |_, _| {
        stream_steps([send("data: "), Step::Forever(vec![b'x'; 1 << 16])])
    }),
    behaviour("endless event", Fail(Limit), |_, _| {
        stream_steps([Step::Forever(b"data: 1\n".to_vec())])
    }),
    behaviour("endless numbers", Fail(Limit), |_, _| {
        stream_steps([Step::Forever(b"data: 5\n\n".to_vec())])
    }),
    behaviour("no JSON", Fail(Protocol), |d, _| stream(d.start() + "data: {hello}\n\n")),
    behaviour("cut JSON", Fail(Protocol), |d, _| stream(d.start() + "data: {\"type\":\n\n")),
    behaviour("not UTF-8", Fail(Protocol), |d, _| {
        stream([d.start().as_bytes(), b"data: {\"type\":\"\xFF\"}\n\n"].concat())
    }),
    behaviour("NUL in JSON", Fail(Protocol), |d, _| {
        stream(d.start() + "data: {\"type\":\"\0\"}\n\n")
    }),
    behaviour("NUL in a text", Finish, |d, _| stream(d.start() + &d.text("a\0b") + &d.finish())),
    behaviour("deep JSON", Finish, |d, _| {
        stream(d.start() + &events(&[&format!("{{\"x\":{}}}", deep(5_000))]) + &d.rest())
    }),
    behaviour("deep input of a tool", Finish, |d, _| {
        let input = format!("{{\"x\":{}}}", deep(5_000));
        stream(d.start() + &d.tool(0, "t", "n", &input) + &d.finish())
    }),
    behaviour("huge numbers", Finish, |d, _| {
        let huge = r#"{"index":1e999,"sequence_number":-1e999,"usage":{"input_tokens":1e400,"prompt_tokens":99999999999999999999999}}"#;
        stream(d.start() + &events(&[huge]) + &d.rest())
    }),
    behaviour("other types than promised", Finish, |d, _| {
        let odd = r#"{"id":7,"model":[],"choices":{"a":1},"delta":"x","response":5,"item":[],"usage":"many"}"#;
        stream(d.start() + &events(&[odd, "[]", "null", "\"text\""]) + &d.rest())
    }),
    behaviour("a list that is too long", End, |d, _| {
        let long = format!("{{\"choices\":[{}{{}}]}}", "{},".repeat(5_000));
        stream(d.start() + &events(&[&long]) + &d.rest())
    }),
    behaviour("a field twice", Fail(Protocol), |d, _| {
        stream(d.start() + &events(&[r#"{"type":"a","id":"1","id":"2","type":"b"}"#, "{"]))
    }),
    behaviour("the same block twice", End, |d, _| {
        stream(d.start() + &d.open_text() + &d.open_text() + &d.rest())
    }),
    behaviour("a delta without a start", End, |d, _| {
        stream(d.start() + &d.delta("x") + &d.finish())
    }),
    behaviour("an end without a start", End, |d, _| {
        stream(d.start() + &d.close_text() + &d.rest())
    }),
    behaviour("no start at all", End, |d, _| stream(d.rest())),
    behaviour("a call without an id", End, |d, _| {
        stream(d.start() + &d.tool(0, "", "n", "{}") + &d.finish())
    }),
    behaviour("a call without a name", Fail(Protocol), |d, _| {
        stream(d.start() + &d.tool(0, "t", "", "{}") + &d.finish())
    }),
    behaviour("a call with a name of a megabyte", Finish, |d, _| {
        stream(d.start() + &d.tool(0, "t", &"n".repeat(20_000), "{}") + &d.finish())
    }),
    behaviour("a call with broken input", Finish, |d, _| {
        stream(d.start() + &d.tool(0, "t", "n", "{\"a\":1,\"b\":\"unfin") + &d.finish())
    }),
    behaviour("ten thousand calls", Fail(Limit), |d, _| {
        let calls = (0..10_000).map(|n| d.tool(n, &format!("t{n}"), "n", "{}"));
        stream(d.start() + &calls.collect::<String>() + &d.finish())
    }),
    behaviour("two calls with one id", Finish, |d, _| {
        stream(d.start() + &d.tool(0, "t", "n", "{}") + &d.tool(1, "t", "m", "{}") + &d.finish())
    }),
    behaviour("text behind the end", Finish, |d, _| {
        stream(d.answer() + &d.open_text() + &d.delta("more") + "data: {\n\n")
    }),
    behaviour("two ends", Finish, |d, _| stream(d.answer() + &d.finish())),
    behaviour("no end", Fail(Interrupted), |d, _| stream(d.start() + &d.text("par"))),
    behaviour("two answers", Finish, |d, _| stream(d.answer() + &d.answer())),
    behaviour("an answer in an answer", End, |d, _| stream(d.start() + &d.answer())),
    behaviour("silence behind the end", Finish, |d, _| {
        stream_steps([send(d.answer()), Step::Wait])
    }),
    behaviour("fewer than no tokens", Finish, |d, _| {
        stream(d.start() + &d.text("x") + &d.usage("-5") + &d.finish())
    }),
    behaviour("more tokens than there are", Finish, |d, _| {
        stream(d.start() + &d.text("x") + &d.usage("18446744073709551615") + &d.finish())
    }),
    behaviour("an error at once, then answer", Finish, |d, _| {
        vec![stream(d.error()).remove(0), stream(d.answer()).remove(0)]
    }),
    behaviour("an error behind a text", Fail(Unavailable), |d, _| {
        stream(d.start() + &d.text("par") + &d.error())
    }),
    behaviour("an error without words", End, |d, _| {
        stream(d.start() + &d.text("par") + "event: error\ndata: {\"type\":\"error\"}\n\n")
    }),
    behaviour("a mark at the start", Finish, |d, _| stream("\u{FEFF}".to_owned() + &d.answer())),
    behaviour("lines end with CRLF", Finish, |d, _| stream(d.answer().replace('\n', "\r\n"))),
    behaviour("lines end with CR", Finish, |d, _| stream(d.answer().replace('\n', "\r"))),
    behaviour("somebody else's ids", Finish, |d, _| {
        let start = d.start().replace("answer-1", "../../other-tenant\\u0000\\n");
        stream(start + &d.rest())
    }),
];
