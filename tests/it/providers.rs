//! Providers of models against one that does everything wrong: every answer ends within its bounds, and no key gets out.

use crate::support::hostile_provider::Behaviour;
use crate::support::hostile_provider::CONNECTIONS;
use crate::support::hostile_provider::HostileProvider;
use crate::support::hostile_provider::KEY;
use crate::support::hostile_provider::STREAMS;
use crate::support::hostile_provider::Then;
use crate::support::provider_words::DIALECTS;
use crate::support::provider_words::Dialect;
use futures_util::StreamExt;
use futures_util::stream;
use sessile::model::Bounds;
use sessile::model::Content;
use sessile::model::FailureKind;
use sessile::model::ModelError;
use sessile::model::ModelEvent;
use sessile::model::ModelMessage;
use sessile::model::ModelRequest;
use sessile::model::Providers;
use sessile::model::Settings;
use sessile::model::Speaker;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::time::Instant;

const BOUNDS: Bounds = Bounds {
    connect: Duration::from_millis(500),
    idle: Duration::from_millis(1_500),
    total: Duration::from_secs(4),
    bytes: 1 << 20,
};
/// What a loaded machine may take longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Conversations at one time.
const PARALLEL: usize = 8;

/// The providers, all at `base_url` and with the key of `key_file`.
fn providers(base_url: &str, key_file: &Path) -> Providers {
    let mut settings = Settings { proxy: false, ..Settings::default() };
    base_url.clone_into(&mut settings.anthropic.base_url);
    settings.anthropic.key_file = Some(key_file.to_owned());
    settings.openai.base_url = format!("{base_url}/v1/");
    settings.openai.key_file = Some(key_file.to_owned());
    settings.openai_chat.base_url = format!("{base_url}/v1");
    settings.openai_chat.key_file = Some(key_file.to_owned());
    Providers::new(&settings)
}

fn address(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Anthropic => "anthropic/model-x",
        Dialect::Chat => "openai-chat/model-x",
        Dialect::Responses => "openai/model-x",
    }
}

fn request(model: String, bounds: Bounds) -> ModelRequest {
    let said = Content::Text("Hello".to_owned());
    ModelRequest {
        workspace: "w".to_owned(),
        session: "s".to_owned(),
        model,
        system: None,
        messages: vec![ModelMessage { speaker: Speaker::User, content: vec![said] }],
        tools: Vec::new(),
        resume: None,
        bounds,
    }
}

fn key_file() -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "{KEY}").unwrap();
    file
}

/// What came of one answer.
struct Outcome {
    events: Vec<ModelEvent>,
    error: Option<ModelError>,
    took: Duration,
    provider: HostileProvider,
}

async fn ask(behaviour: &'static Behaviour, dialect: Dialect, bounds: Bounds) -> Outcome {
    let (provider, key) = (HostileProvider::start(behaviour, dialect).await, key_file());
    let providers = providers(&provider.base_url(), key.path());
    let (asked, model) = providers.get(address(dialect)).unwrap();
    asked.check(&model, "Hello").unwrap();
    let before = Instant::now();
    let mut answer = asked.answer(request(model, bounds));
    let (mut events, mut error) = (Vec::new(), None);
    while let Some(item) = answer.next().await {
        assert!(error.is_none(), "{}: something behind an error", behaviour.name);
        match item {
            Ok(event) => events.push(event),
            Err(problem) => error = Some(problem),
        }
    }
    Outcome { events, error, took: before.elapsed(), provider }
}

/// Bytes of what a model said.
fn size(event: &ModelEvent) -> usize {
    match event {
        ModelEvent::TextDelta { text, .. } | ModelEvent::ReasoningDelta { text, .. } => text.len(),
        ModelEvent::ToolDelta { json, .. } => json.len(),
        ModelEvent::ToolEnd { input: Ok(input), .. } => input.as_str().len(),
        ModelEvent::ToolEnd { input: Err(bad), .. } => bad.text.len(),
        ModelEvent::ToolStart { id, name, .. } => id.len() + name.len(),
        _ => 0,
    }
}

/// What is wrong with an outcome.
fn problems(behaviour: &Behaviour, outcome: &Outcome) -> Vec<String> {
    let Outcome { events, error, took, provider } = outcome;
    let mut problems = Vec::new();
    let finishes = events.iter().filter(|e| matches!(e, ModelEvent::Finish { .. })).count();
    let whole = matches!(events.last(), Some(ModelEvent::Finish { .. }));
    if usize::from(whole) != finishes || whole == error.is_some() {
        problems.push(format!("ends {finishes} times, and with {error:?}"));
    }
    let kind = error.as_ref().map(|error| error.kind);
    let as_expected = match behaviour.then {
        Then::Finish => kind.is_none(),
        Then::Fail(expected) => kind == Some(expected),
        Then::End => true,
    };
    if !as_expected {
        problems.push(format!("ends with {error:?} behind {events:?}"));
    }
    if *took > BOUNDS.total + PATIENCE {
        problems.push(format!("takes {took:?}"));
    }
    let said: usize = events.iter().map(size).sum();
    if said > 2 * BOUNDS.bytes {
        problems.push(format!("says {said} bytes"));
    }
    if provider.trapped() > 0 {
        problems.push("goes where it is lured".to_owned());
    }
    if provider.requests().len() > 3 {
        problems.push(format!("asks {} times", provider.requests().len()));
    }
    let shown = format!("{error:?}");
    if shown.contains("SECRET") || shown.contains("127.0.0.1") || shown.contains("sk-proj") {
        problems.push(format!("shows what is secret: {shown}"));
    }
    if error.as_ref().is_some_and(|error| error.message.chars().count() > 600) {
        problems.push("says too much".to_owned());
    }
    problems
}

async fn check_all(behaviours: &'static [Behaviour]) {
    let cases = behaviours.iter().flat_map(|b| DIALECTS.map(|dialect| (b, dialect)));
    let outcomes = stream::iter(cases).map(|(behaviour, dialect)| async move {
        let outcome = ask(behaviour, dialect, BOUNDS).await;
        (behaviour, dialect, outcome)
    });
    let mut outcomes = outcomes.buffer_unordered(PARALLEL);
    let mut wrong = Vec::new();
    while let Some((behaviour, dialect, outcome)) = outcomes.next().await {
        for problem in problems(behaviour, &outcome) {
            let problem: String = problem.chars().take(400).collect();
            wrong.push(format!("{} ({dialect:?}): {problem}", behaviour.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn hostile_connections_end_within_their_bounds() {
    check_all(CONNECTIONS).await;
}

#[tokio::test]
async fn hostile_streams_end_within_their_bounds() {
    check_all(STREAMS).await;
}

fn named(name: &str) -> &'static Behaviour {
    CONNECTIONS.iter().chain(STREAMS).find(|behaviour| behaviour.name == name).unwrap()
}

#[tokio::test]
async fn a_request_carries_the_key_and_says_what_it_wants() {
    for (dialect, path, fields) in [
        (
            Dialect::Anthropic,
            "/v1/messages",
            &["x-api-key: KEY", "anthropic-version: 2026-10-21"][..],
        ),
        (Dialect::Chat, "/v1/chat/completions", &["authorization: Bearer KEY"]),
        (Dialect::Responses, "/v1/responses", &["authorization: Bearer KEY"]),
    ] {
        let outcome = ask(named("well behaved"), dialect, BOUNDS).await;
        let text: String = outcome
            .events
            .iter()
            .filter_map(|event| match event {
                ModelEvent::TextDelta { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(text, "Hello wörld 👋");
        let requests = outcome.provider.requests();
        assert_eq!(requests.len(), 1);
        assert!(requests[0].starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{requests:?}");
        let common = ["content-type: application/json", "accept: text/event-stream"];
        for field in fields.iter().chain(&common) {
            let field = format!("\r\n{}\r\n", field.replace("KEY", KEY));
            assert!(requests[0].contains(&field), "{field} {requests:?}");
        }
        assert!(requests[0].contains(r#""stream":true"#), "{requests:?}");
    }
}

#[tokio::test]
async fn requests_are_sent_again_as_often_as_makes_sense() {
    for (name, dialect, times) in [
        ("401", Dialect::Anthropic, 1),
        ("429", Dialect::Anthropic, 1),
        ("429", Dialect::Chat, 3),
        ("always 503", Dialect::Anthropic, 3),
        ("closes at once", Dialect::Responses, 3),
        ("500, do not try again", Dialect::Chat, 1),
        ("429, come back tomorrow", Dialect::Chat, 1),
        ("reset behind a text", Dialect::Anthropic, 1),
        ("an error behind a text", Dialect::Chat, 1),
        ("an error at once, then answer", Dialect::Responses, 2),
        ("never answers", Dialect::Chat, 1),
    ] {
        let outcome = ask(named(name), dialect, BOUNDS).await;
        assert_eq!(outcome.provider.requests().len(), times, "{name}");
    }
    let tomorrow = ask(named("429, come back tomorrow"), Dialect::Anthropic, BOUNDS).await;
    let error = tomorrow.error.unwrap();
    assert_eq!(error.retry_after, Some(Duration::from_hours(24)));
    assert_eq!((error.kind, error.status), (FailureKind::RateLimit, Some(429)));
}

#[tokio::test]
async fn dropping_an_answer_hangs_up() {
    let provider = HostileProvider::start(named("silence behind a text"), Dialect::Chat).await;
    let key = key_file();
    let providers = providers(&provider.base_url(), key.path());
    let (asked, model) = providers.get("openai-chat/model-x").unwrap();
    let mut answer = asked.answer(request(model, Bounds::default()));
    while !matches!(answer.next().await, Some(Ok(ModelEvent::TextDelta { .. }))) {}
    assert_eq!(provider.open_connections(), 1);
    drop(answer);
    provider.closed().await;
}

#[tokio::test]
async fn who_cannot_prove_who_it_is_gets_no_request() {
    let (provider, key) =
        (HostileProvider::start(named("well behaved"), Dialect::Chat).await, key_file());
    let base_url = provider.base_url().replace("http:", "https:");
    let providers = providers(&base_url, key.path());
    let (asked, model) = providers.get("openai-chat/model-x").unwrap();
    let mut answer = asked.answer(request(model, BOUNDS));
    let error = answer.next().await.unwrap().unwrap_err();
    // The latter on a machine without root certificates.
    let kinds = [FailureKind::Unavailable, FailureKind::Limit, FailureKind::Configuration];
    assert!(kinds.contains(&error.kind), "{error:?}");
    assert!(provider.requests().is_empty());
}

#[tokio::test]
async fn nobody_at_home_is_an_error_at_once() {
    let (key, listener) = (key_file(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let providers = providers(&base_url, key.path());
    let (asked, model) = providers.get("anthropic/model-x").unwrap();
    let mut answer = asked.answer(request(model, BOUNDS));
    let error = answer.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind, FailureKind::Unavailable);
    assert!(answer.next().await.is_none());
}
