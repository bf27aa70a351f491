//! The process of an answer, with a script in the place of the agent: what it is given, and that it always ends.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::timeout;

use crate::base::secret::SecretSource;
use crate::model::Answer;
use crate::model::Bounds;
use crate::model::Content;
use crate::model::FailureKind;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::ModelMessage;
use crate::model::ModelRequest;
use crate::model::Provider as _;
use crate::model::Speaker;
use crate::model::claude_cli::ClaudeCli;
use crate::model::claude_cli::ClaudeCliSettings;

/// Longest wait for what should come at once, on a busy machine.
const SOON: Duration = Duration::from_secs(15);

fn provider(data: &Path) -> ClaudeCli {
    let settings = ClaudeCliSettings {
        program: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/agent.sh").into(),
        data: data.to_owned(),
        key: SecretSource { env: Some("KEY".to_owned()), file: None },
        base_url: Some("http://127.0.0.1:1".to_owned()),
        stop_ms: 200,
        line_bytes: 100_000,
        output_bytes: 300_000,
        ..ClaudeCliSettings::default()
    };
    ClaudeCli::new(settings, &|_| Some("not-a-key".to_owned())).unwrap()
}

fn request(prompt: &str) -> ModelRequest {
    let content = vec![Content::Text(prompt.to_owned())];
    ModelRequest {
        workspace: "w1".to_owned(),
        session: "s1".to_owned(),
        model: "opus".to_owned(),
        system: None,
        messages: vec![ModelMessage { speaker: Speaker::User, content }],
        tools: Vec::new(),
        resume: None,
        bounds: Bounds { idle: SOON, total: SOON, ..Bounds::default() },
    }
}

/// The text and how it ended.
async fn read(mut answer: Answer) -> (String, Option<ModelError>) {
    let (mut said, mut error) = (String::new(), None);
    while let Some(event) = timeout(SOON, answer.next()).await.expect("an event in time") {
        match event {
            Ok(ModelEvent::TextDelta { text, .. }) => said.push_str(&text),
            Ok(_) => {}
            Err(failure) => error = Some(failure),
        }
    }
    (said, error)
}

/// Processes whose environment names `mark`.
fn processes(mark: &Path) -> usize {
    let mark = mark.to_str().unwrap().as_bytes();
    let entries = std::fs::read_dir("/proc").unwrap();
    let environments =
        entries.filter_map(|e| std::fs::read(e.unwrap().path().join("environ")).ok());
    environments.filter(|text| text.windows(mark.len()).any(|window| window == mark)).count()
}

async fn ends(data: &Path) {
    until(data, |count| count == 0).await;
}

async fn until(data: &Path, fits: impl Fn(usize) -> bool) {
    let all = async {
        while !fits(processes(data)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, all).await.expect("so many processes");
}

#[tokio::test]
async fn the_agent_is_given_what_it_needs_and_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let provider = provider(data.path());
    let (said, error) = read(provider.answer(request("named"))).await;
    assert_eq!(error, None);
    let shell = ["OLDPWD", "PWD", "SHLVL", "_"];
    let named: Vec<&str> = said.split_whitespace().filter(|name| !shell.contains(name)).collect();
    let expected = [
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "CLAUDE_CODE_MAX_RETRIES",
        "DISABLE_AUTOUPDATER",
        "DISABLE_ERROR_REPORTING",
        "DISABLE_TELEMETRY",
        "HOME",
        "PATH",
    ];
    assert_eq!(named, expected);

    let mut more = request("told");
    more.system = Some("be kind".to_owned());
    more.resume = Some("abc-1".to_owned());
    let (said, _) = read(provider.answer(more)).await;
    let expected = "--print|--output-format|stream-json|--verbose|--include-partial-messages|--permission-mode|plan|--setting-sources||--strict-mcp-config|--model|opus|--append-system-prompt|be kind|--resume|abc-1|";
    assert_eq!(said, expected);
    // A prompt that nobody reads to its end harms nobody, and an id that cannot be one is not passed on.
    let mut large = request(&format!("told\n{}", "x".repeat(1 << 20)));
    large.resume = Some("--dangerous".to_owned());
    let (said, error) = read(provider.answer(large)).await;
    assert!(error.is_none() && !said.contains("--resume"), "{said}");
}

#[tokio::test]
async fn whatever_the_agent_does_its_answer_ends() {
    let data = tempfile::tempdir().unwrap();
    let provider = provider(data.path());
    let check = async |prompt: &str, idle: Duration, kind: FailureKind| {
        let mut request = request(prompt);
        request.bounds.idle = idle;
        let (_, error) = read(provider.answer(request)).await;
        let error = error.unwrap_or_else(|| panic!("{prompt} has no error"));
        assert_eq!(error.kind, kind, "{prompt}: {error}");
        ends(data.path()).await;
    };
    check("silent", Duration::from_millis(300), FailureKind::Limit).await;
    check("long", SOON, FailureKind::Limit).await;
    check("endless", SOON, FailureKind::Limit).await;
    check("broken", SOON, FailureKind::Interrupted).await;
    check("unknown", SOON, FailureKind::Protocol).await;
}

#[tokio::test]
async fn an_agent_that_stays_behind_its_result_is_ended() {
    let data = tempfile::tempdir().unwrap();
    let (said, error) = read(provider(data.path()).answer(request("lingering"))).await;
    assert_eq!((said.as_str(), error), ("done", None));
    ends(data.path()).await;
}

async fn stubborn(provider: &ClaudeCli, data: &Path) -> Answer {
    let mut answer = provider.answer(request("stubborn"));
    while !matches!(answer.next().await.unwrap().unwrap(), ModelEvent::TextDelta { .. }) {}
    // Its child may have no environment to be read yet.
    until(data, |count| count > 1).await;
    answer
}

#[tokio::test]
async fn an_agent_that_ignores_signals_is_killed_with_its_children() {
    let data = tempfile::tempdir().unwrap();
    let answer = stubborn(&provider(data.path()), data.path()).await;
    drop(answer);
    ends(data.path()).await;
}

#[test]
fn an_agent_ends_with_the_runtime() {
    let data = tempfile::tempdir().unwrap();
    let build = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let runtime = build();
    let answer = runtime.block_on(stubborn(&provider(data.path()), data.path()));
    drop(runtime);
    build().block_on(ends(data.path()));
    drop(answer);
}

#[test]
fn what_cannot_work_is_said_before() {
    let data = tempfile::tempdir().unwrap();
    let provider = provider(data.path());
    assert_eq!(provider.check("opus", "hi"), Ok(()));
    assert_eq!(provider.check("-x", "hi").unwrap_err().kind, FailureKind::Request);
    let settings = ClaudeCliSettings { program: "no-such-agent".into(), ..Default::default() };
    assert!(ClaudeCli::new(settings, &|_| None).is_err());
    let keyless = ClaudeCliSettings { program: "sh".into(), ..Default::default() };
    let keyless = ClaudeCli::new(keyless, &|_| None).unwrap();
    assert_eq!(keyless.check("opus", "hi").unwrap_err().kind, FailureKind::Configuration);
}
