//! The providers that are agents, with the real programs: they run against a model on the loopback.

use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::json;
use sessile::base::secret::SecretSource;
use sessile::model::Bounds;
use sessile::model::Content;
use sessile::model::FailureKind;
use sessile::model::FinishReason;
use sessile::model::ModelError;
use sessile::model::ModelEvent;
use sessile::model::ModelMessage;
use sessile::model::ModelRequest;
use sessile::model::Provider;
use sessile::model::Speaker;
use sessile::model::claude_cli::ClaudeCli;
use sessile::model::claude_cli::ClaudeCliSettings;
use sessile::model::opencode::OpenCode;
use sessile::model::opencode::OpenCodeSettings;

use crate::support::agents::agents;
use crate::support::agents::processes;
use crate::support::clock::SOON;
use crate::support::clock::eventually;
use crate::support::clock::within;
use crate::support::stub::Stub;

/// Longest turn of a real agent on a busy machine.
const TURN: Duration = Duration::from_secs(90);

fn request(text: &str, resume: Option<&str>) -> ModelRequest {
    let content = vec![Content::Text(text.to_owned())];
    ModelRequest {
        workspace: "w1".to_owned(),
        session: "s1".to_owned(),
        model: "default".to_owned(),
        system: None,
        messages: vec![ModelMessage { speaker: Speaker::User, content }],
        tools: Vec::new(),
        resume: resume.map(str::to_owned),
        bounds: Bounds { idle: TURN, total: TURN, ..Bounds::default() },
    }
}

/// A turn as a whole.
#[derive(Debug, Default)]
struct Turn {
    text: String,
    resume: String,
    /// Name, input and output of each tool.
    tools: Vec<(String, String, String)>,
    steps: usize,
    tokens: (u64, u64),
    finish: Option<FinishReason>,
    error: Option<ModelError>,
}

async fn turn(provider: &dyn Provider, text: &str, resume: Option<&str>) -> Turn {
    let mut answer = provider.answer(request(text, resume));
    let mut turn = Turn { steps: 1, ..Turn::default() };
    while let Some(event) = within(TURN, "an event of the agent", answer.next()).await {
        match event {
            Ok(ModelEvent::TextDelta { text, .. }) => turn.text.push_str(&text),
            Ok(ModelEvent::Resume(id)) => turn.resume = id,
            Ok(ModelEvent::ToolStart { name, .. }) => {
                turn.tools.push((name, String::new(), String::new()));
            }
            Ok(ModelEvent::ToolEnd { input, .. }) => {
                input.unwrap().as_str().clone_into(&mut turn.tools.last_mut().unwrap().1);
            }
            Ok(ModelEvent::ToolResult { output, is_error, .. }) => {
                assert!(!is_error, "{}", output.as_str());
                output.as_str().clone_into(&mut turn.tools.last_mut().unwrap().2);
            }
            Ok(ModelEvent::StepEnd) => turn.steps += 1,
            Ok(ModelEvent::Usage(usage)) => turn.tokens = (usage.input_tokens, usage.output_tokens),
            Ok(ModelEvent::Finish { reason, .. }) => turn.finish = Some(reason),
            Ok(_) => {}
            Err(error) => turn.error = Some(error),
        }
    }
    assert!(turn.finish.is_some() != turn.error.is_some(), "{turn:?}");
    turn
}

/// Asks to `hang` and waits until the answer does; the answer, and the id to resume.
async fn hanging(provider: &dyn Provider, stub: &Stub) -> (sessile::model::Answer, String) {
    let mut answer = provider.answer(request("hang", None));
    let mut resume = String::new();
    loop {
        match within(TURN, "an event of the agent", answer.next()).await.unwrap().unwrap() {
            ModelEvent::Resume(id) => resume = id,
            ModelEvent::TextDelta { .. } => break,
            _ => {}
        }
    }
    assert_eq!(stub.hanging.load(Ordering::SeqCst), 1);
    (answer, resume)
}

fn claude(stub: &Stub, data: &Path) -> Option<ClaudeCli> {
    let settings = ClaudeCliSettings {
        program: agents()?.claude.clone(),
        data: data.to_owned(),
        key: SecretSource { env: Some("KEY".to_owned()), file: None },
        base_url: Some(stub.base.clone()),
        retries_count: 0,
        ..ClaudeCliSettings::default()
    };
    Some(ClaudeCli::new(settings, &|_| Some("not-a-key".to_owned())).unwrap())
}

#[tokio::test]
async fn claude_answers_and_remembers() {
    let (stub, data) = (Stub::start(), tempfile::tempdir().unwrap());
    let Some(provider) = claude(&stub, data.path()) else { return };
    let first = turn(&provider, "- hello", None).await;
    assert_eq!(first.text, "You said: - hello; answers before: 0");
    assert_eq!((first.finish, first.tokens), (Some(FinishReason::Stop), (10, 5)));
    let second = turn(&provider, "again", Some(&first.resume)).await;
    assert_eq!(second.text, "You said: again; answers before: 1");
    assert_eq!((second.resume.as_str(), second.tokens), (first.resume.as_str(), (10, 5)));
    // A session that the agent does not know is begun afresh, once.
    let unknown = "11111111-2222-3333-4444-555555555555";
    let third = turn(&provider, "third", Some(unknown)).await;
    assert_eq!(third.text, "You said: third; answers before: 0");
    assert_ne!(third.resume, unknown);
    eventually(SOON, "the processes end", async || processes(data.path()).is_empty().then_some(()))
        .await;
}

#[tokio::test]
async fn claude_takes_turns_in_one_session() {
    let (stub, data) = (Stub::start(), tempfile::tempdir().unwrap());
    let Some(provider) = claude(&stub, data.path()) else { return };
    let first = turn(&provider, "one", None).await;
    let resume = Some(first.resume.as_str());
    let (a, b) = tokio::join!(turn(&provider, "two", resume), turn(&provider, "three", resume));
    let mut counts = [&a.text, &b.text].map(|text| text.rsplit(' ').next().unwrap().to_owned());
    counts.sort();
    assert_eq!(counts, ["1", "2"], "{a:?} {b:?}");
}

#[tokio::test]
async fn claude_reads_a_file() {
    let (stub, data) = (Stub::start(), tempfile::tempdir().unwrap());
    let Some(provider) = claude(&stub, data.path()) else { return };
    let file = data.path().join("note.txt");
    std::fs::write(&file, "the secret is 42\n").unwrap();
    let turn = turn(&provider, &format!("read {}", file.display()), None).await;
    let [(name, input, output)] = &turn.tools[..] else { panic!("{turn:?}") };
    assert_eq!((name.as_str(), turn.steps), ("Read", 2));
    assert_eq!(*input, json!({ "file_path": file }).to_string());
    assert!(output.contains("the secret is 42"), "{output}");
    assert!(turn.text.contains("the secret is 42"), "{turn:?}");
    assert_eq!((turn.finish, turn.tokens), (Some(FinishReason::Stop), (20, 10)));
}

#[tokio::test]
async fn claude_reports_failures_of_its_model() {
    let (stub, data) = (Stub::start(), tempfile::tempdir().unwrap());
    let Some(provider) = claude(&stub, data.path()) else { return };
    for (status, kind) in [(401, FailureKind::Authentication), (529, FailureKind::Unavailable)] {
        let turn = turn(&provider, &format!("fail {status}"), None).await;
        let error = turn.error.unwrap();
        assert_eq!((error.kind, error.status), (kind, Some(status)), "{error:?}");
        assert_eq!(turn.text, "");
    }
}

#[tokio::test]
async fn claude_dies_with_its_answer() {
    let (stub, data) = (Stub::start(), tempfile::tempdir().unwrap());
    let Some(provider) = claude(&stub, data.path()) else { return };
    let (answer, resume) = hanging(&provider, &stub).await;
    assert!(!processes(data.path()).is_empty());
    drop(answer);
    eventually(SOON, "the process ends", async || {
        let left = stub.hanging.load(Ordering::SeqCst) + processes(data.path()).len();
        (left == 0).then_some(())
    })
    .await;
    // The interrupted turn was kept, and the session goes on.
    let next = turn(&provider, "go on", Some(&resume)).await;
    assert_eq!((next.finish, next.resume), (Some(FinishReason::Stop), resume));
}

/// A running `opencode serve` with a project folder; killed and reaped when dropped.
struct Server {
    child: Child,
    base: String,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn server(stub: &Stub) -> Option<Server> {
    let program = &agents()?.opencode;
    let folder = tempfile::tempdir().unwrap();
    let model = json!({ "name": "Echo", "tool_call": true, "limit": { "context": 100_000, "output": 8_000 } });
    let options = json!({ "baseURL": format!("{}/v1", stub.base), "apiKey": "x" });
    let provider = json!({ "npm": "@ai-sdk/openai-compatible", "options": options, "models": { "echo-1": model } });
    let config = json!({
        "autoupdate": false, "share": "disabled", "model": "stub/echo-1", "small_model": "stub/echo-1",
        "provider": { "stub": provider },
    });
    std::fs::write(folder.path().join("opencode.json"), config.to_string()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(program)
        .args(["serve", "--hostname", "127.0.0.1", "--pure", "--port", &port.to_string()])
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", folder.path().join("home"))
        .env("OPENCODE_SERVER_PASSWORD", "open sesame")
        .env("OPENCODE_DISABLE_AUTOUPDATE", "1")
        .env("OPENCODE_DISABLE_MODELS_FETCH", "1")
        .env("OPENCODE_DISABLE_LSP_DOWNLOAD", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Server { child, base: format!("http://127.0.0.1:{port}"), folder };
    let mut lines = BufReader::new(server.child.stdout.take().unwrap()).lines();
    let listens = lines.any(|line| line.unwrap().contains("listening"));
    assert!(listens, "opencode does not serve");
    Some(server)
}

fn opencode(server: &Server, change: impl FnOnce(&mut OpenCodeSettings)) -> OpenCode {
    let mut settings = OpenCodeSettings {
        base_url: server.base.clone(),
        password: SecretSource { env: Some("PASSWORD".to_owned()), file: None },
        ..OpenCodeSettings::default()
    };
    change(&mut settings);
    OpenCode::new(settings, &|_| Some("open sesame".to_owned())).unwrap()
}

#[tokio::test]
async fn opencode_answers_remembers_and_reads() {
    let stub = Stub::start();
    let Some(server) = server(&stub) else { return };
    let provider = opencode(&server, |_| {});
    let first = turn(&provider, "hello", None).await;
    assert_eq!(first.text, "You said: hello; answers before: 0");
    assert_eq!((first.finish, first.tokens), (Some(FinishReason::Stop), (10, 5)));
    let second = turn(&provider, "again", Some(&first.resume)).await;
    assert_eq!(second.text, "You said: again; answers before: 1");
    assert_eq!((second.resume.as_str(), second.tokens), (first.resume.as_str(), (10, 5)));
    let third = turn(&provider, "third", Some("ses_unknown")).await;
    assert_eq!(third.text, "You said: third; answers before: 0");

    let file = server.folder.path().join("note.txt");
    std::fs::write(&file, "the secret is 42\n").unwrap();
    let read = turn(&provider, &format!("read {}", file.display()), Some(&first.resume)).await;
    let [(name, input, output)] = &read.tools[..] else { panic!("{read:?}") };
    assert_eq!((name.as_str(), read.steps), ("read", 2));
    assert_eq!(*input, json!({ "filePath": file }).to_string());
    assert!(output.contains("the secret is 42"), "{output}");
    assert!(read.text.starts_with("it says"), "{read:?}");
    assert_eq!((read.finish, read.tokens), (Some(FinishReason::Stop), (20, 10)));
}

#[tokio::test]
async fn opencode_reports_failures_of_its_model() {
    let stub = Stub::start();
    let Some(server) = server(&stub) else { return };
    let provider = opencode(&server, |settings| settings.retries_count = 0);
    let refused = turn(&provider, "fail 401", None).await.error.unwrap();
    assert_eq!((refused.kind, refused.status), (FailureKind::Authentication, Some(401)));
    let down = turn(&provider, "fail 529", None).await;
    assert_eq!(down.error.as_ref().unwrap().kind, FailureKind::Unavailable, "{down:?}");
    // The session rests again, and goes on.
    let next = turn(&provider, "go on", Some(&down.resume)).await;
    assert_eq!(next.finish, Some(FinishReason::Stop), "{next:?}");
    let wrong = OpenCodeSettings { base_url: server.base.clone(), ..OpenCodeSettings::default() };
    let wrong = OpenCode::new(wrong, &|_| None).unwrap();
    let error = turn(&wrong, "hello", None).await.error.unwrap();
    assert_eq!((error.kind, error.status), (FailureKind::Configuration, Some(401)));
}

#[tokio::test]
async fn opencode_is_aborted_with_its_answer() {
    let stub = Stub::start();
    let Some(server) = server(&stub) else { return };
    let provider = opencode(&server, |_| {});
    let (answer, resume) = hanging(&provider, &stub).await;
    drop(answer);
    eventually(SOON, "the model is left", async || {
        (stub.hanging.load(Ordering::SeqCst) == 0).then_some(())
    })
    .await;
    let next = turn(&provider, "go on", Some(&resume)).await;
    assert_eq!((next.finish, next.resume.as_str()), (Some(FinishReason::Stop), resume.as_str()));
    assert!(next.text.starts_with("You said: go on"), "{next:?}");
}

#[tokio::test]
async fn opencode_is_answered_when_it_asks() {
    let stub = Stub::start();
    let Some(server) = server(&stub) else { return };
    let file = server.folder.path().join("note.txt");
    std::fs::write(&file, "the secret is 42\n").unwrap();
    let rules = vec![sessile::model::opencode::PermissionRule {
        permission: "read".to_owned(),
        pattern: "*".to_owned(),
        action: sessile::model::opencode::RuleAction::Ask,
    }];
    let allowing = opencode(&server, |settings| {
        settings.permission_rules.clone_from(&rules);
        settings.permission_reply = sessile::model::opencode::PermissionReply::Once;
    });
    let text = format!("read {}", file.display());
    let allowed = turn(&allowing, &text, None).await;
    assert!(allowed.text.starts_with("it says"), "{allowed:?}");
    let refusing = opencode(&server, |settings| settings.permission_rules = rules);
    let mut answer = refusing.answer(request(&text, None));
    let (mut refused, mut last) = (false, None);
    while let Some(event) = within(TURN, "an event of the agent", answer.next()).await {
        refused |= matches!(event, Ok(ModelEvent::ToolResult { is_error: true, .. }));
        last = Some(event);
    }
    assert!(refused, "{last:?}");
}
