//! How the server begins: flags, settings, what it refuses; and what it makes of damaged session files.

use crate::support::Server;
use crate::support::client::Client;
use crate::support::client::messages;
use crate::support::client::session;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::server::Options;
use crate::support::socket::Socket;
use rusqlite::Connection;
use rusqlite::OpenFlags;
use serde_json::json;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

/// Runs the binary to its end, which must come soon; gives what it said.
async fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sessile"))
        .args(arguments)
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let ended = eventually(SOON, "the program ends or serves", async || {
        if child.try_wait().unwrap().is_some() {
            return Some(true);
        }
        // It is serving when it has a listening socket and should not.
        is_listening(pid).then_some(false)
    })
    .await;
    if !ended {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(ended, "it serves: {arguments:?} {settings:?}: {}", said(&output));
    output
}

/// Whether the process has a TCP socket that listens.
fn is_listening(pid: u32) -> bool {
    let Ok(folder) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
    let table: String = tables.into_iter().filter_map(Result::ok).collect();
    let links = folder.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter_map(|link| inode(&link)).any(|inode| {
        let listening = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.get(3) == Some(&"0A") && fields.get(9) == Some(&inode.as_str())
        };
        table.lines().any(listening)
    })
}

/// The number in `socket:[number]`.
fn inode(link: &Path) -> Option<String> {
    let name = link.to_str()?;
    Some(name.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
}

/// Both outputs as text.
fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test]
async fn the_help_names_every_verb_and_flag_with_its_variable() {
    let help = run(&["--help"], &[]).await;
    assert!(help.status.success());
    let text = said(&help);
    for word in ["serve", "bench", "--version"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let help = run(&["serve", "--help"], &[]).await;
    let text = said(&help);
    for word in ["--listen", "127.0.0.1:8080", "--data", "./data", "--config", "--open", "SESSILE_"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
    let version = said(&run(&["--version"], &[]).await);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
}

#[tokio::test]
async fn a_wrong_flag_is_refused() {
    let output = run(&["serve", "--lisen", "127.0.0.1:0"], &[]).await;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("--listen"), "the nearest one is named: {}", said(&output));
}

#[tokio::test]
async fn without_credentials_only_loopback_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    for address in ["0.0.0.0:0", "[::]:0"] {
        let output = run(&["serve", "--listen", address, "--data", data], &[]).await;
        assert!(!output.status.success());
        let text = said(&output).to_lowercase();
        assert!(text.contains("loopback"), "{address}: {text}");
    }
}

#[tokio::test]
async fn dev_mode_is_announced() {
    let server = Server::start();
    let log = server.log();
    let first: String = log.lines().take(5).collect();
    assert!(first.to_lowercase().contains("dev mode"), "{log}");
}

#[tokio::test]
async fn an_unknown_setting_is_refused_and_the_nearest_named() {
    for (name, nearest) in [
        ("SESSILE__ACTOR__SLEEP_AFTR_MS", "sleep_after_ms"),
        ("SESSILE__ACTER__SLEEP_AFTER_MS", "actor"),
        ("SESSILE__LIMITS__BODY_IDL_MS", "body_idle_ms"),
        ("SESSILE__CHAT__PLACEHOLDRE", "placeholder"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let log = Options::default().set(name, 5).try_start_in(dir.path()).err().unwrap();
        assert!(log.to_lowercase().contains(nearest), "{name}: {log}");
    }
}

#[tokio::test]
async fn a_setting_of_the_wrong_kind_is_refused_by_name() {
    for (name, key) in [
        ("SESSILE__ACTOR__SLEEP_AFTER_MS", "sleep_after_ms"),
        ("SESSILE__CHAT__PLACEHOLDER", "placeholder"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let log = Options::default().set(name, "maybe").try_start_in(dir.path()).err().unwrap();
        assert!(log.to_lowercase().contains(key), "{name}: {log}");
    }
}

#[tokio::test]
async fn the_environment_wins_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessile.toml");
    std::fs::write(&file, "[chat]\nplaceholder = true\n").unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let with_file = || Options::default().arg("--config").arg(file.to_str().unwrap());
    let mut server = with_file().start_in(&data);
    let events = Client::new(&server).chat("s", "x").await;
    assert!(events[events.len() - 2].data.contains("I received your message."));
    server.kill();
    let mut server = with_file().set("SESSILE__CHAT__PLACEHOLDER", false).start_in(&data);
    let events = Client::new(&server).chat("s", "x").await;
    assert!(events[events.len() - 2].data.contains("echo: x"));
    server.kill();
    std::fs::write(&file, "[chat]\nplaceholdr = true\n").unwrap();
    let log = with_file().try_start_in(&data).err().unwrap();
    assert!(log.contains("placeholder"), "the nearest key: {log}");
}

#[tokio::test]
async fn a_data_folder_has_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Options::default().start_in(dir.path());
    let client = Client::new(&first);
    client.say("s", "x").await;
    let log = Options::default().try_start_in(dir.path()).err().unwrap();
    assert!(log.contains(dir.path().to_str().unwrap()), "the folder is named: {log}");
    client.say("s", "y").await;
    // Somebody may take the file for what a crash left.
    std::fs::remove_file(dir.path().join("LOCK")).unwrap();
    let log = Options::default().try_start_in(dir.path()).err().unwrap();
    assert!(log.contains(dir.path().to_str().unwrap()), "{log}");
    first.kill();
    let second = Options::default().start_in(dir.path());
    assert_eq!(Client::new(&second).history("s").await.len(), 2, "a dead one does not hold it");
}

/// The session files under `folder`: `SQLite` files with a `message` table that holds this content.
fn files_with(folder: &Path, content: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries.map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, content));
        } else if path.extension().is_some_and(|extension| extension == "db")
            // One that is being written has another name for a moment.
            && messages_in(&path).is_some_and(|all| all.iter().any(|one| one == content))
        {
            found.push(path);
        }
    }
    found
}

/// What `SELECT * FROM message` shows in a file, if it is a session file.
fn messages_in(path: &Path) -> Option<Vec<String>> {
    let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    let mut statement = file.prepare("SELECT * FROM message").ok()?;
    let column = statement.column_index("content").ok()?;
    let rows = statement.query_map((), |row| row.get(column)).ok()?;
    rows.collect::<Result<Vec<String>, _>>().ok()
}

#[tokio::test]
async fn a_session_is_a_file_that_any_sqlite_reads() {
    let server = Server::start();
    let client = Client::new(&server);
    client.say("s", "readable-one").await;
    client.say("s", "readable-two").await;
    client.say("other", "elsewhere").await;
    let file = eventually(SOON, "the message is in a file", async || {
        files_with(&server.data, "readable-two").pop()
    })
    .await;
    assert_eq!(messages_in(&file).unwrap(), ["readable-one", "readable-two"], "one session a file");
    let other = eventually(SOON, "and the other in another", async || {
        files_with(&server.data, "elsewhere").pop()
    })
    .await;
    assert_ne!(file, other);
}

/// A data folder in which session `broken` sleeps in a file of its own, beside session `well`; gives that file.
async fn two_sessions(data: &Path) -> PathBuf {
    let mut server = Options::default().set("SESSILE__ACTOR__SLEEP_AFTER_MS", 50).start_in(data);
    let client = Client::new(&server);
    client.say("broken", "to-be-broken").await;
    client.say("well", "x").await;
    client.all_asleep().await;
    let file = eventually(SOON, "the message is in a file", async || {
        let mut files = files_with(data, "to-be-broken").into_iter();
        files.find(|path| path.extension().is_some_and(|extension| extension == "db"))
    })
    .await;
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    // As it is some time later, when the file alone has the messages: until then the journal would heal it.
    std::fs::remove_dir_all(data.join("journal")).unwrap();
    file
}

/// Fails unless session `broken` answers with one stable error while `well` works; gives the error's text.
async fn check_contained(server: &Server) -> String {
    let client = Client::new(server);
    let mut details = Vec::new();
    for _ in 0..3 {
        let body = json!({ "role": "user", "content": "x" });
        for reply in [
            client.get(&session("broken")).await,
            client.get(&messages("broken")).await,
            client.post(&messages("broken"), &body).await,
            client.get(&format!("{}/events", session("broken"))).await,
        ] {
            details.push(reply.problem(503, "quarantined")["detail"].as_str().unwrap().to_owned());
        }
        let path = format!("{}/websocket", session("broken"));
        assert_eq!(Socket::try_open(server, &path, &[]).await.err().unwrap().status, 503);
        client.say("well", "y").await;
    }
    assert_eq!(client.get("/readyz").await.status, 200, "one bad session is no bad server");
    assert_eq!(client.history("well").await.len(), 4);
    details.pop().unwrap()
}

#[tokio::test]
async fn a_corrupt_session_is_quarantined_while_others_work() {
    let dir = tempfile::tempdir().unwrap();
    let file = two_sessions(dir.path()).await;
    let size = std::fs::metadata(&file).unwrap().len();
    let garbage = vec![0xa5_u8; usize::try_from(size).unwrap()];
    std::fs::write(&file, &garbage).unwrap();
    let server = Options::default().start_in(dir.path());
    check_contained(&server).await;
    assert!(std::fs::read(&file).unwrap() == garbage, "the file is left as it is");
    assert!(server.log().contains("broken"), "the log names the session");
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused_and_both_versions_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = two_sessions(dir.path()).await;
    let known = {
        let newer = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        let known: u32 = newer.query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap();
        newer
            .execute_batch("PRAGMA user_version = 9173; PRAGMA wal_checkpoint(TRUNCATE);")
            .unwrap();
        known
    };
    let mut server = Options::default().start_in(dir.path());
    let detail = check_contained(&server).await;
    let told = format!("{detail}\n{}", server.log());
    assert!(told.contains("9173") && told.contains(&known.to_string()), "{told}");
    server.kill();

    let file = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    file.execute_batch(&format!("PRAGMA user_version = {known}")).unwrap();
    drop(file);
    let server = Options::default().start_in(dir.path());
    let history = Client::new(&server).history("broken").await;
    assert_eq!(history.len(), 1, "untouched: it works again under its own version");
}

#[tokio::test]
async fn health_asks_the_server_of_the_settings() {
    let server = Server::start();
    let address = server.base.strip_prefix("http://").unwrap().to_owned();
    let asked = run(&["health", "--listen", &address], &[]).await;
    assert!(asked.status.success(), "{}", said(&asked));
    let asked = run(&["health"], &[("SESSILE__HTTP__LISTEN", &address)]).await;
    assert!(asked.status.success(), "{}", said(&asked));
    drop(server);
    let asked = run(&["health", "--listen", &address], &[]).await;
    assert_eq!(asked.status.code(), Some(1), "{}", said(&asked));
    assert!(said(&asked).contains(&address), "{}", said(&asked));
}

#[tokio::test]
async fn in_a_container_it_says_who_can_reach_it() {
    let server = Options::default().set("container", "oci").start();
    assert!(server.log().contains("--network host"), "{}", server.log());
}

/// What the program says when it cannot start with this data folder; it ends with 1.
async fn refused(data: &Path) -> String {
    let output = run(&["--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()], &[]).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    said(&output)
}

#[tokio::test]
async fn what_is_wrong_with_the_folder_is_said_with_its_path_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let made = |name: &str, inside: &str| {
        std::fs::create_dir_all(at(name)).unwrap();
        std::fs::write(at(name).join(inside), "x").unwrap();
    };
    std::fs::write(at("file"), "x").unwrap();
    std::os::unix::fs::symlink(at("nowhere"), at("dangling")).unwrap();
    made("home", "letter.txt");
    made("journal-is-a-file", "journal");
    made("sessions-is-a-file", "sessions");
    for inside in ["LOCK", "node.db", "journal/000000000001.seg"] {
        std::fs::create_dir_all(at(&inside.replace('/', "-")).join(inside)).unwrap();
    }
    for (name, culprit, advice) in [
        ("file", "file is a file", "--data"),
        ("file/below", "file/below", "--data"),
        ("dangling", "dangling", "--data"),
        ("home", "letter.txt", "empty or a new folder"),
        ("journal-is-a-file", "journal-is-a-file/journal", "move out of the way"),
        ("sessions-is-a-file", "sessions-is-a-file/sessions", "move out of the way"),
        ("LOCK", "LOCK/LOCK", "move out of the way"),
        ("node.db", "node.db/node.db", "move out of the way"),
        ("journal-000000000001.seg", "journal", "--data"),
        ("/proc/sessile", "/proc/sessile", "--data"),
        ("/dev/full/x", "/dev/full/x", "--data"),
    ] {
        let text = refused(&at(name)).await;
        assert!(text.contains(culprit) && text.contains(advice), "{name}: {text}");
        assert_eq!(text.trim_end().lines().count(), 1, "{name}: one line: {text}");
    }
    assert_eq!(std::fs::read_dir(at("home")).unwrap().count(), 1, "nothing was put there");
    // What a new disk or a checkout has in it is no reason.
    made("disk/lost+found", "x");
    std::fs::write(at("disk").join(".gitkeep"), "").unwrap();
    let server = Options::default().start_in(&at("disk"));
    let text = refused(&at("disk")).await;
    assert!(text.contains(&format!("process {}", server.pid())), "who has it: {text}");
}

#[tokio::test]
async fn a_list_of_sessions_that_cannot_be_used_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let catalogue = dir.path().join("node.db");
    let mut server = Options::default().start_in(dir.path());
    Client::new(&server).say("s", "x").await;
    let newer = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let newer = Connection::open_with_flags(&catalogue, flags).unwrap();
        newer.execute_batch("PRAGMA user_version = 9173").unwrap();
    };
    let garbage = || std::fs::write(&catalogue, [0xa5; 8_192]).unwrap();
    for spoil in [&newer as &dyn Fn(), &garbage] {
        server.signal("TERM");
        assert_eq!(server.wait(), Some(0));
        spoil();
        server = Options::default().start_in(dir.path());
        assert_eq!(Client::new(&server).history("s").await.len(), 1);
        let page = Client::new(&server).get("/v1/sessions").await.expect(200);
        assert_eq!(page["items"][0]["id"], "s");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_configuration_file_is_said_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.toml");
    std::fs::write(&broken, "[http\nlisten = 1").unwrap();
    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe, 0]).unwrap();
    for file in [dir.path().join("absent.toml"), dir.path().to_owned(), broken, binary] {
        let output = run(&["--config", file.to_str().unwrap()], &[]).await;
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(file.to_str().unwrap()), "{text}");
        assert!(
            text.contains("not TOML") || text.contains("os error") || text.contains("UTF-8"),
            "{text}"
        );
    }
}

/// A server whose log goes into a pipe, and its address.
fn with_piped_log(data: &Path) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sessile"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .env("SESSILE__LOG__FILTER", "debug")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("sessile listening on http://").expect(&line).to_owned();
    (child, address)
}

/// The answer to `GET path`.
fn ask(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, address) = with_piped_log(&dir.path().join("data"));
    // As `sessile 2>&1 | head`, or a log on a disk that is full.
    drop(child.stderr.take());
    let answers: Vec<_> =
        ["/livez", "/nothing", "/v1/sessions/none"].map(|path| ask(&address, path)).into();
    child.kill().unwrap();
    child.wait().unwrap();
    let lines: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.unwrap().lines().next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(lines, ["HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found", "HTTP/1.1 404 Not Found"]);
}

#[test]
fn a_reader_of_the_log_that_is_stuck_stops_nothing_and_the_lines_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, address) = with_piped_log(&dir.path().join("data"));
    // A pipe takes 64 KiB; each of these is a line of the log.
    let answers: std::io::Result<Vec<String>> =
        (0..1_500).map(|n| ask(&address, &format!("/v1/sessions/none-{n}"))).collect();
    let metrics = ask(&address, "/metrics");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(answers.unwrap().iter().all(|answer| answer.starts_with("HTTP/1.1 404")));
    let metrics = metrics.unwrap();
    let dropped = metrics.lines().find(|line| line.starts_with("sessile_log_dropped_lines_total "));
    assert_ne!(dropped, Some("sessile_log_dropped_lines_total 0"), "{metrics}");
}

#[tokio::test]
async fn nobody_else_on_the_machine_can_read_what_is_stored() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    // As a service's folder often is, with a list that an earlier version made.
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(data.join("node.db"), "").unwrap();
    let server = Options::default().start_in(&data);
    let client = Client::new(&server);
    client.say("a", "secret").await;
    client.get("/v1/sessions").await.expect(200);
    for entry in std::fs::read_dir(&data).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o077;
        assert_eq!(mode, 0, "{:?} is open to others", entry.path());
    }
}
