//! The provider itself: settings in, answers out. One lock per session of the server.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::sync::mpsc;

use super::client::Client;
use super::settings::OpenCodeSettings;
use super::turn::Turn;
use crate::base::secret::Environment;
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

/// The provider `opencode`. Cheap to clone.
///
/// The server keeps a session for each of ours. Dropping an answer aborts it there. Answers of one session wait for each
/// other, because a prompt that is queued behind one that is aborted gets no answer.
#[derive(Clone)]
pub struct OpenCode {
    inner: Arc<Inner>,
}

/// What all turns share.
pub(super) struct Inner {
    pub(super) settings: OpenCodeSettings,
    pub(super) client: Client,
    pub(super) locks: Locks<String>,
    pub(super) places: Semaphore,
}

impl OpenCode {
    /// Sets the provider up; reads its password. The server need not run yet.
    ///
    /// # Errors
    ///
    /// What is wrong with the settings, for the operator.
    pub fn new(settings: OpenCodeSettings, environment: Environment<'_>) -> Result<Self, String> {
        let client = Client::new(&settings, environment)?;
        let places = Semaphore::new(settings.answers_count.clamp(1, Semaphore::MAX_PERMITS));
        let inner = Inner { settings, client, locks: Locks::default(), places };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn turn(&self, request: ModelRequest) -> Result<Turn, ModelError> {
        let model = model(&request.model)?;
        let prompt = prompt::latest(&request.messages)?;
        if !request.tools.is_empty() {
            tracing::debug!("opencode has tools of its own, those of the server are left out");
        }
        // An id that cannot be one of the server's is as good as a forgotten one.
        let allowed = |id: &String| {
            id.starts_with("ses")
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        Ok(Turn {
            inner: Arc::clone(&self.inner),
            title: request.session,
            prompt,
            system: request.system.filter(|text| !text.is_empty()),
            model,
            resume: request.resume.filter(allowed),
            bounds: request.bounds,
        })
    }
}

impl Provider for OpenCode {
    fn name(&self) -> &'static str {
        "opencode"
    }

    fn check(&self, model: &str, _text: &str) -> Result<(), ModelError> {
        self::model(model).map(drop)
    }

    fn answer(&self, request: ModelRequest) -> Answer {
        let (out, events) = mpsc::channel(QUEUE_EVENTS_MAX);
        let error = match (self.turn(request), tokio::runtime::Handle::try_current()) {
            (Ok(turn), Ok(runtime)) => {
                // A task of its own, because the agent must be told when the answer is dropped.
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

/// `provider/model` as OpenCode calls them; `default` or nothing leaves the choice to its own settings.
fn model(name: &str) -> Result<Option<(String, String)>, ModelError> {
    if let "" | "default" = name {
        return Ok(None);
    }
    match name.split_once('/') {
        Some((provider, model)) if !provider.is_empty() && !model.is_empty() => {
            Ok(Some((provider.to_owned(), model.to_owned())))
        }
        _ => Err(ModelError::new(FailureKind::Request, "there is no such model")),
    }
}
