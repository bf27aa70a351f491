//! Hostile names and texts: each gets a clear refusal or the right service, and no file outside the data folder is touched.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::messages;
use crate::support::client::segment;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::server::Options;
use crate::support::socket::Raw;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// Names to try as they are, each also encoded in several ways.
const NAMES: &[&str] = &[
    ".",
    "..",
    "...",
    "../",
    "../..",
    "../../../../../../etc/passwd",
    "/etc/passwd",
    "//",
    "/",
    "\\",
    "..\\..\\windows",
    "C:\\boot.ini",
    "a/../b",
    "a/./b",
    "./a",
    "a/",
    "~",
    "~root",
    "$HOME",
    "${PATH}",
    "$(reboot)",
    "`id`",
    "|id",
    ";id",
    "&&id",
    ">out",
    "<in",
    "*",
    "?",
    "[a-z]",
    "{a,b}",
    "!x",
    "#x",
    "-",
    "--",
    "-rf",
    "--flag",
    "--dangerously-skip-permissions",
    "-o/tmp/x",
    "@file",
    "=1+1",
    "+x",
    "%",
    "%%",
    "%s%n",
    "%2e",
    "%2e%2e%2f",
    "%252e%252e",
    "%00",
    "%c0%ae",
    "'",
    "\"",
    "''",
    "\"\"",
    "' OR '1'='1",
    "'; DROP TABLE message; --",
    "\"; DELETE FROM event; --",
    "1;ATTACH 'x' AS y",
    "); --",
    "/*",
    "*/",
    "CON",
    "PRN",
    "AUX",
    "NUL",
    "COM1",
    "LPT1",
    "con.db",
    "node.db",
    "journal",
    "data.db",
    "x.db-wal",
    "x.db-shm",
    "x.db-journal",
    ".hidden",
    "file:",
    "file:///etc/passwd",
    "file:x?mode=memory",
    ":memory:",
    "x?mode=ro",
    "http://127.0.0.1/",
    "a:b",
    "a;b",
    "a,b",
    "a=b",
    "a&b",
    "a b",
    " a",
    "a ",
    "\t",
    "\n",
    "\r\n",
    "a\r\nx-evil: 1",
    "\u{0}",
    "a\u{0}.db",
    "\u{1}",
    "\u{1b}[31m",
    "\u{7f}",
    "\u{80}",
    "é",
    "e\u{301}",
    "ａ",
    "аdmin",
    "․․",
    "‥",
    "／",
    "∕",
    "＼",
    "\u{202e}gpj",
    "\u{200b}",
    "\u{feff}a",
    "\u{e0041}",
    "🙂",
    "漢字",
    "ß",
    "İ",
    "K",
    "__proto__",
    "constructor",
    "toString",
    "null",
    "undefined",
    "true",
    "NaN",
    "0",
    "-1",
    "1e309",
    "9999999999999999999999",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "%x%x%x%x",
];

/// Path segments that are not the encoding of any name, or not a clean one.
const SEGMENTS: &[&str] = &[
    "..",
    ".",
    "%2e%2e",
    "%2E%2E",
    "%2e%2e%2f",
    "..%2f",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2f",
    "%5c",
    "..%5c",
    "%252e%252e%252f",
    "%c0%ae%c0%ae",
    "%c0%af",
    "%e0%80%af",
    "%ff",
    "%fe%ff",
    "%ed%a0%80",
    "%f4%90%80%80",
    "%",
    "%2",
    "%zz",
    "%u002e",
    "%00",
    "a%00b",
    "%0d%0a",
    "%0a",
    "%20",
    "%09",
    "%7f",
    "%80",
    "\u{0}",
    "\u{1}",
    "\t",
    "\u{7f}",
    "é",
    "..;",
    ";x=1",
    "a;b=c",
    "..\\",
    "\\..\\",
    "~",
    "-",
    "--help",
    "*",
    "|",
    "\"",
    "'",
    "<>",
    "^",
    "`",
    "{}",
    "[]",
];

/// The calls that open, make, move or remove files.
const TRACED: &str =
    "trace=openat,open,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat";

fn server_in(parent: &Path) -> (Server, Client) {
    let data = parent.join("data");
    std::fs::create_dir_all(&data).unwrap();
    let server = Options::default().set("SESSILE__ACTOR__SLEEP_AFTER_MS", 100).start_in(&data);
    let client = Client::new(&server);
    (server, client)
}

/// All names: the list, long ones, and mixtures of the list.
fn names() -> Vec<String> {
    let mut names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    for length in [127, 128, 254, 255, 256, 257, 1_000, 10_240] {
        names.push("n".repeat(length));
        names.push("../".repeat(length / 3 + 1));
    }
    for (one, other) in NAMES.iter().zip(NAMES.iter().rev()) {
        names.push(format!("{one}/{other}"));
    }
    names
}

fn is_allowed(name: &str) -> bool {
    (1..=255).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// One raw request without a body, or with one.
async fn ask(server: &Server, method: &str, path: &str, body: &str) -> (u16, String) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    Raw::exchange(server, request.as_bytes()).await
}

#[tokio::test]
async fn hostile_names_are_refused_or_served_and_stay_in_the_data_folder() {
    let parent = tempfile::tempdir().unwrap();
    let (mut server, client) = server_in(parent.path());
    client.say("warm", "x").await;
    let trace = Trace::attach(&server, parent.path()).await;
    if trace.is_none() {
        println!("no strace here: which files are opened is not checked");
    }
    let before = server.rss_kib();
    let body = json!({ "role": "user", "content": "x" }).to_string();
    let mut served = BTreeSet::from(["warm".to_owned()]);
    for name in names() {
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for (method, path) in [
            ("POST", format!("/v1/sessions/{encoded}/messages")),
            ("GET", format!("/chat/{encoded}/messages")),
        ] {
            let sent = if method == "POST" { body.as_str() } else { "" };
            let (status, answer) = ask(&server, method, &path, sent).await;
            let good = if method == "POST" { 201 } else { 200 };
            match name.is_empty() {
                // An empty segment is another path.
                true => assert_eq!(status, 404, "{answer}"),
                false if is_allowed(&name) => assert_eq!(status, good, "{name:?}: {answer}"),
                false => assert_eq!(status, 400, "{name:?}: {answer}"),
            }
        }
        if is_allowed(&name) {
            served.insert(name);
        }
    }
    assert!(names().len() > 250, "{} names", names().len());
    for raw in SEGMENTS {
        for path in [
            format!("/v1/sessions/{raw}/messages"),
            format!("/chat/{raw}/messages"),
            format!("/{raw}"),
        ] {
            let (status, answer) = ask(&server, "GET", &path, "").await;
            assert!((200..500).contains(&status), "{raw:?}: {answer}");
            assert!(!answer.contains("root:"), "{raw:?}: {answer}");
        }
        let (status, answer) =
            ask(&server, "POST", "/v1/sessions", &json!({ "id": raw }).to_string()).await;
        assert_eq!(is_allowed(raw), [200, 201].contains(&status), "{raw:?}: {answer}");
        if is_allowed(raw) {
            served.insert((*raw).to_owned());
        }
    }
    let grown = server.rss_kib().saturating_sub(before);
    assert!(grown < 64 * 1_024, "memory grew by {grown} KiB");
    eventually(SOON, "the list has every session that was served, and no other", async || {
        (listed(&client).await == served).then_some(())
    })
    .await;
    client.all_asleep().await;
    if let Some(trace) = trace {
        trace.check(&server.data);
    }
    let left: BTreeSet<String> = std::fs::read_dir(parent.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "trace")
        .collect();
    assert_eq!(left, BTreeSet::from(["data".to_owned(), "data.log".to_owned()]));
    server.kill();
    let (_server, client) = server_in(parent.path());
    assert_eq!(listed(&client).await, served, "after kill -9");
}

/// The ids of all sessions.
async fn listed(client: &Client) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("/v1/sessions?limit=200{cursor}")).await.expect(200);
        let items = page["items"].as_array().unwrap();
        ids.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        if page["hasMore"] == false {
            return ids;
        }
        cursor = format!("&cursor={}", segment(page["nextCursor"].as_str().unwrap()));
    }
}

/// A trace of the files that the server opens.
struct Trace {
    strace: Option<Child>,
    output: PathBuf,
}

impl Trace {
    /// Begins a trace; `None` where there is no strace, or it may not attach.
    async fn attach(server: &Server, folder: &Path) -> Option<Self> {
        let output = folder.join("trace");
        let errors = tempfile::NamedTempFile::new().unwrap();
        let mut strace = Command::new("strace")
            .args(["-f", "-y", "-s", "4096", "-e", TRACED, "-p", &server.pid().to_string(), "-o"])
            .arg(&output)
            .stdin(Stdio::null())
            .stderr(errors.reopen().unwrap())
            .spawn()
            .ok()?;
        let attached = eventually(SOON, "strace attaches", async || {
            if strace.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let said = std::fs::read_to_string(errors.path()).unwrap();
            said.contains("attached").then_some(true)
        })
        .await;
        attached.then_some(Self { strace: Some(strace), output })
    }

    /// Ends the trace and fails if a file outside `data` was opened for writing, made, moved or removed.
    fn check(mut self, data: &Path) {
        let Some(strace) = &mut self.strace else { return };
        let ended = Command::new("kill").arg("-INT").arg(strace.id().to_string()).status();
        assert!(ended.unwrap().success());
        strace.wait().unwrap();
        self.strace = None;
        let data = data.canonicalize().unwrap().display().to_string();
        let trace = std::fs::read_to_string(&self.output).unwrap();
        let mut inside = 0;
        for line in trace.lines() {
            let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "creat(", "rename", "unlink", "mkdir"];
            if !writes.iter().any(|word| line.contains(word)) || line.contains(" = -1 ") {
                continue;
            }
            // What follows `=` is the descriptor with its real path; the others name paths in quotes.
            let opened = line.rsplit_once(" = ").and_then(|(_, fd)| Some(fd.split_once('<')?.1));
            let paths: Vec<&str> = match opened {
                Some(path) => vec![path.trim_end_matches('>')],
                None => line.split('"').skip(1).step_by(2).collect(),
            };
            for path in paths.into_iter().filter(|path| *path != "/dev/null") {
                let relative = !path.starts_with('/') && line.contains(&format!("<{data}"));
                assert!(path.starts_with(&data) || relative, "outside the data folder: {line}");
                inside += 1;
            }
        }
        assert!(inside > 0, "the trace saw the files of the sessions:\n{trace}");
        for secret in ["/etc/passwd", "/etc/shadow", "boot.ini"] {
            assert!(!trace.contains(secret), "{secret} was looked for");
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Some(strace) = &mut self.strace {
            // Only after a failure: nothing more to check.
            strace.kill().and_then(|()| strace.wait()).ok();
        }
    }
}

#[tokio::test]
async fn hostile_texts_are_stored_as_they_are() {
    let server = Server::start();
    let client = Client::new(&server);
    let mut expected = Vec::new();
    for name in NAMES {
        let body = json!({
            "role": "user", "content": name, "parts": [{ "type": "text", "content": name, "state": "complete" }],
            "metadata": { "k": name },
        });
        let stored = client.post(&messages("s"), &body).await.expect(201);
        assert_eq!((&stored["content"], &stored["parts"]), (&body["content"], &body["parts"]));
        assert_eq!(stored["metadata"], body["metadata"]);
        expected.push(stored);
        let body = json!({ "title": name, "metadata": { "k": name } });
        let changed = client.patch(&session("s"), &body).await;
        if changed.status == 200 {
            let changed = changed.json();
            assert_eq!(
                (&changed["title"], &changed["metadata"]),
                (&body["title"], &body["metadata"])
            );
        } else {
            // A display name may be held to stricter rules than a text.
            changed.problem(400, "invalid");
        }
    }
    assert_eq!(client.history("s").await, expected);
    client.get(&messages("other")).await.problem(404, "session_not_found");
}

#[tokio::test]
async fn a_title_cannot_split_a_response() {
    let server = Server::start();
    let client = Client::new(&server);
    let made = client.post("/v1/sessions", &json!({ "id": "s", "title": "a\r\nx-evil: 1" })).await;
    assert!([201, 400].contains(&made.status) && made.header("x-evil").is_none(), "{made:?}");
    assert_eq!(client.get(&session("s%0d%0ax-evil:1")).await.status, 404);
}
