//! The provider itself: settings in, answers out. One process per answer, one lock per session of the CLI.

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;

use super::settings::ClaudeCliSettings;
use super::turn::Turn;
use crate::base::ids::ActorKind;
use crate::base::ids::KeyHash;
use crate::base::secret::Environment;
use crate::base::secret::Hidden;
use crate::model::Answer;
use crate::model::FailureKind;
use crate::model::ModelError;
use crate::model::ModelRequest;
use crate::model::Provider;
use crate::model::channel;
use crate::model::locks::Locks;
use crate::model::prompt;

/// Events that wait for the reader of an answer.
const QUEUE_EVENTS_MAX: usize = 64;
/// Longest system prompt, in bytes: it is an argument of the program, and Linux allows 128 KiB each.
const SYSTEM_BYTES_MAX: usize = 100 << 10;

/// Variables that keep the CLI quiet and to itself.
const QUIET: &[(&str, &str)] = &[
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("DISABLE_TELEMETRY", "1"),
    ("DISABLE_ERROR_REPORTING", "1"),
    ("DISABLE_AUTOUPDATER", "1"),
];

/// The provider `claude-cli`. Cheap to clone.
///
/// An answer is a process. Dropping the answer interrupts it and, a few seconds later, kills it with all that it started;
/// when the runtime ends first it is killed at once. Answers of one session of the CLI wait for each other.
#[derive(Clone)]
pub struct ClaudeCli {
    inner: Arc<Inner>,
}

/// What all turns share.
pub(super) struct Inner {
    pub(super) settings: ClaudeCliSettings,
    pub(super) program: PathBuf,
    /// By workspace and id: two processes that resume one session lose one of their turns.
    pub(super) locks: Locks<(String, String)>,
    pub(super) places: Semaphore,
    key: Option<SecretString>,
    /// What the process is given, and must not be read in what is told and logged.
    pub(super) hidden: Vec<Hidden>,
}

impl Inner {
    /// Gives `command` its whole environment but `HOME`.
    pub(super) fn environment(&self, command: &mut Command) {
        command.env_clear().envs(&self.settings.environment).envs(QUIET.iter().copied());
        command.env("PATH", &self.settings.path);
        command.env("CLAUDE_CODE_MAX_RETRIES", self.settings.retries_count.to_string());
        if let Some(url) = &self.settings.base_url {
            command.env("ANTHROPIC_BASE_URL", url);
        }
        if let Some(key) = &self.key {
            command.env("ANTHROPIC_API_KEY", key.expose_secret());
        }
    }
}

impl ClaudeCli {
    /// Sets the provider up; reads its key and looks for its program.
    ///
    /// # Errors
    ///
    /// What is wrong with the settings, for the operator.
    pub fn new(settings: ClaudeCliSettings, environment: Environment<'_>) -> Result<Self, String> {
        let key = settings.key.read(environment)?;
        let program = find(&settings)?;
        let places = Semaphore::new(settings.processes_count.clamp(1, Semaphore::MAX_PERMITS));
        let settings = absolute(settings)?;
        let secret = key.iter().flat_map(|key| Hidden::of_secret(key.expose_secret()));
        let plain = settings.environment.values().flat_map(|value| Hidden::of_setting(value));
        let hidden = secret.chain(plain).collect();
        let inner = Inner { settings, program, locks: Locks::default(), places, key, hidden };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn turn(&self, request: ModelRequest) -> Result<Turn, ModelError> {
        self.check(&request.model, "")?;
        let prompt = prompt::latest(&request.messages)?;
        let refuse = |message| Err(ModelError::new(FailureKind::Request, message));
        if request.system.as_ref().is_some_and(|text| text.len() > SYSTEM_BYTES_MAX) {
            return refuse("the system prompt is too long for this agent");
        }
        if !request.tools.is_empty() {
            tracing::debug!("claude-cli has tools of its own, those of the server are left out");
        }
        let folder_of = |session: &str| {
            KeyHash::of(ActorKind::Session, &request.workspace, session).to_string()
        };
        let home = self.inner.settings.data.join(folder_of(""));
        let own = || folder_of(&request.session);
        let folder = self.inner.settings.directory.clone();
        let folder = folder.unwrap_or_else(|| home.join("work").join(own()));
        // An id that cannot be one of the CLI's is as good as a forgotten one.
        let resume = request.resume.filter(|id| is_session_id(id));
        let model = if request.model == "default" { String::new() } else { request.model };
        Ok(Turn {
            inner: Arc::clone(&self.inner),
            workspace: request.workspace,
            folders: (home, folder),
            prompt,
            system: request.system.filter(|text| !text.is_empty()),
            model,
            resume,
            bounds: request.bounds,
        })
    }
}

impl Provider for ClaudeCli {
    fn name(&self) -> &'static str {
        "claude-cli"
    }

    fn check(&self, model: &str, _text: &str) -> Result<(), ModelError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@[]".contains(&byte);
        if model.starts_with('-') || model.len() > 128 || !model.bytes().all(allowed) {
            return Err(ModelError::new(FailureKind::Request, "there is no such model"));
        }
        if self.inner.key.is_none() {
            return Err(ModelError::new(FailureKind::Configuration, "claude-cli has no key"));
        }
        Ok(())
    }

    fn answer(&self, request: ModelRequest) -> Answer {
        let (out, events) = mpsc::channel(QUEUE_EVENTS_MAX);
        let error = match (self.turn(request), tokio::runtime::Handle::try_current()) {
            (Ok(turn), Ok(runtime)) => {
                // A task of its own, because the process must be seen off when the answer is dropped.
                drop(runtime.spawn(turn.run(out)));
                None
            }
            (Err(error), _) => Some(error),
            (Ok(_), Err(_)) => {
                Some(ModelError::new(FailureKind::Configuration, "there is no runtime"))
            }
        };
        channel::answer(events, error)
    }
}

/// Where the program is. A name without a folder is searched for in the `path` of the settings.
fn find(settings: &ClaudeCliSettings) -> Result<PathBuf, String> {
    let program = &settings.program;
    let is_file = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|data| data.is_file());
    let named = program.components().count() == 1;
    let places = settings.path.split(':').map(|folder| PathBuf::from(folder).join(program));
    let found = if named {
        places.into_iter().find(is_file)
    } else {
        Some(program.clone()).filter(is_file)
    };
    let found = found.and_then(|path| std::path::absolute(path).ok());
    found.ok_or_else(|| format!("claude-cli: there is no program {}", program.display()))
}

/// The process runs in another folder, so no path may be relative.
fn absolute(settings: ClaudeCliSettings) -> Result<ClaudeCliSettings, String> {
    let make = |path: &PathBuf| {
        std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let directory = settings.directory.as_ref().map(make).transpose()?;
    Ok(ClaudeCliSettings { data: make(&settings.data)?, directory, ..settings })
}

fn is_session_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !id.is_empty() && id.len() <= 128 && !id.starts_with('-') && id.bytes().all(allowed)
}
