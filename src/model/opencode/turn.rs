//! One answer of the agent: subscribes, prompts, reads until the session rests. Who drops the answer, aborts it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use tokio::sync::OwnedMutexGuard;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;
use tokio::time::timeout_at;

use super::client::Events;
use super::client::Reply;
use super::mapper::Mapper;
use super::mapper::Notice;
use super::provider::Inner;
use crate::base::clock;
use crate::model::Bounds;
use crate::model::FailureKind;
use crate::model::ModelError;
use crate::model::ModelEvent;
use crate::model::refusal;

/// Messages that are fetched: more than any answer has calls of the model.
const MESSAGES_COUNT: &str = "200";
/// Silence after which the event stream is dead: the server sends something every 10 s.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How often a dead event stream is opened again in one answer.
const STREAMS_COUNT_MAX: usize = 5;
/// How often, and how long apart, messages are fetched until the last one is whole: a session
/// may be called idle before its last message is.
const FETCHES: (usize, Duration) = (20, Duration::from_millis(100));
/// Longest time for giving an answer up.
const ABORT_TIME_MAX: Duration = Duration::from_secs(5);

/// Where events go.
pub(super) type Out = Sender<Result<ModelEvent, ModelError>>;

/// What to ask.
pub(super) struct Turn {
    pub(super) inner: Arc<Inner>,
    pub(super) title: String,
    pub(super) prompt: String,
    pub(super) system: Option<String>,
    /// Provider and model, as OpenCode calls them.
    pub(super) model: Option<(String, String)>,
    pub(super) resume: Option<String>,
    pub(super) bounds: Bounds,
}

/// Why nothing more is read.
enum End {
    Over,
    Failed(ModelError),
    Unwanted,
}

impl From<ModelError> for End {
    fn from(error: ModelError) -> Self {
        Self::Failed(error)
    }
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

impl Turn {
    /// Runs to the end, or until nobody listens; the agent is at rest when this returns, if its server obeys.
    pub(super) async fn run(self, out: Out) {
        let deadline = Instant::from_std(clock::instant()) + self.bounds.total;
        let inner = Arc::clone(&self.inner);
        let place = tokio::select! {
            () = out.closed() => return,
            place = timeout_at(deadline, inner.places.acquire()) => place,
        };
        let end = match place {
            Ok(Ok(_place)) => self.talk(&out, deadline).await,
            _ => End::Failed(too_slow()),
        };
        if let End::Failed(error) = end {
            // Nobody may be listening any more, which is as good.
            drop(out.send(Err(error)).await);
        }
    }

    async fn talk(&self, out: &Out, deadline: Instant) -> End {
        let opened = tokio::select! {
            () = out.closed() => return End::Unwanted,
            opened = timeout_at(deadline, self.open()) => opened,
        };
        let (session, known, _held) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return End::Failed(error),
            Err(_) => return End::Failed(too_slow()),
        };
        if out.send(Ok(ModelEvent::Resume(session.clone()))).await.is_err() {
            return End::Unwanted;
        }
        let mapper = Mapper::new(&session, known);
        let mut reader =
            Reader { turn: self, out, session, deadline, mapper, told_bytes: 0, streams: 0 };
        let end = tokio::select! {
            () = out.closed() => End::Unwanted,
            end = timeout_at(deadline, reader.read()) => match end {
                Ok(Ok(())) => End::Over,
                Ok(Err(end)) => end,
                Err(_) => End::Failed(too_slow()),
            },
        };
        if !matches!(end, End::Over) {
            let path = ["session", &reader.session, "abort"];
            let body = json!({});
            let abort = self.inner.client.post(&path, &body);
            if !matches!(timeout(ABORT_TIME_MAX, abort).await, Ok(Ok(_))) {
                tracing::warn!("opencode: an answer that nobody wants cannot be aborted");
            }
        }
        end
    }

    /// The session to speak in, the prompts that it holds, and its lock.
    async fn open(&self) -> Result<(String, HashSet<String>, OwnedMutexGuard<()>), ModelError> {
        let client = &self.inner.client;
        if let Some(id) = &self.resume {
            let held = self.inner.locks.of(id.clone()).lock_owned().await;
            let query = [("limit", MESSAGES_COUNT)];
            if let Reply::Text(messages) = client.get(&["session", id, "message"], &query).await? {
                return Ok((id.clone(), Mapper::prompts(&messages), held));
            }
            tracing::info!("opencode forgot a session, it starts afresh");
        }
        let mut body = json!({ "title": self.title });
        if !self.inner.settings.permission_rules.is_empty() {
            body["permission"] = json!(self.inner.settings.permission_rules);
        }
        let Reply::Text(created) = client.post(&["session"], &body).await? else {
            return Err(protocol("the agent's server makes no sessions"));
        };
        let id = serde_json::from_str::<Id>(&created).map(|created| created.id);
        let id = id.map_err(|_| protocol("the agent's server makes no sessions"))?;
        let held = self.inner.locks.of(id.clone()).lock_owned().await;
        Ok((id, HashSet::new(), held))
    }

    fn body(&self) -> Value {
        let mut body = json!({ "parts": [{ "type": "text", "text": self.prompt }] });
        if let Some((provider, model)) = &self.model {
            body["model"] = json!({ "providerID": provider, "modelID": model });
        }
        if !self.inner.settings.agent.is_empty() {
            body["agent"] = json!(self.inner.settings.agent);
        }
        if let Some(system) = &self.system {
            body["system"] = json!(system);
        }
        body
    }
}

/// Reads one answer.
struct Reader<'a> {
    turn: &'a Turn,
    out: &'a Out,
    session: String,
    deadline: Instant,
    mapper: Mapper,
    told_bytes: usize,
    streams: usize,
}

impl Reader<'_> {
    /// Reads to the end; `Ok` when [`ModelEvent::Finish`] was sent.
    async fn read(&mut self) -> Result<(), End> {
        let client = &self.turn.inner.client;
        let mut events = client.events().await?;
        // The subscription stands only when the server greets; there is no replay of what came before.
        timeout(SILENCE_MAX, events.next()).await.map_err(|_| too_slow())??;
        let path = ["session", &self.session, "prompt_async"];
        match client.post(&path, &self.turn.body()).await? {
            Reply::Text(_) => {}
            Reply::Missing => return Err(protocol("the agent's server lost the session").into()),
        }
        let mut spoken = clock::instant();
        loop {
            let event = match timeout(SILENCE_MAX, events.next()).await {
                Ok(Ok(Some(event))) => event,
                Ok(Err(error)) if error.kind == FailureKind::Limit => return Err(error.into()),
                _ => {
                    events = self.again().await?;
                    if self.fetch().await? && self.rests().await? {
                        return self.finish().await;
                    }
                    continue;
                }
            };
            let mut said = Vec::new();
            let notice = self.mapper.event(&event, &mut said);
            if !said.is_empty() || notice.is_some() || self.mapper.waits_for_tool() {
                spoken = clock::instant();
            }
            self.tell(said).await?;
            match notice {
                Some(Notice::Idle) => return self.settle().await,
                Some(notice) => self.react(notice).await?,
                None if spoken.elapsed() > self.turn.bounds.idle => return Err(too_slow().into()),
                None => {}
            }
        }
    }

    async fn react(&self, notice: Notice) -> Result<(), End> {
        let client = &self.turn.inner.client;
        let settings = &self.turn.inner.settings;
        match notice {
            Notice::Permission(id) => {
                let body = json!({ "reply": settings.permission_reply });
                client.post(&["permission", &id, "reply"], &body).await?;
            }
            Notice::Question(id) => {
                client.post(&["question", &id, "reject"], &json!({})).await?;
            }
            Notice::Retry(attempt, message) if attempt > settings.retries_count => {
                tracing::debug!("opencode asks a model again: {}", refusal::plain(&message));
                let message = "the model is not available";
                return Err(ModelError::new(FailureKind::Unavailable, message).into());
            }
            Notice::Gone => return Err(protocol("the agent's session was deleted").into()),
            Notice::Retry(..) | Notice::Idle => {}
        }
        Ok(())
    }

    /// Opens the event stream again.
    async fn again(&mut self) -> Result<Events, End> {
        self.streams += 1;
        if self.streams > STREAMS_COUNT_MAX {
            let message = "the connection to the agent broke";
            return Err(ModelError::new(FailureKind::Interrupted, message).into());
        }
        let events = self.turn.inner.client.events().await?;
        // What it asked meanwhile was not heard.
        for (list, wrap) in [
            ("permission", Notice::Permission as fn(String) -> Notice),
            ("question", Notice::Question as fn(String) -> Notice),
        ] {
            if let Reply::Text(open) = self.turn.inner.client.get(&[list], &[]).await? {
                for item in serde_json::from_str::<Vec<Value>>(&open).unwrap_or_default() {
                    let session = item["sessionID"].as_str().unwrap_or_default();
                    if let (true, Some(id)) = (self.mapper.is_ours(session), item["id"].as_str()) {
                        self.react(wrap(id.to_owned())).await?;
                    }
                }
            }
        }
        Ok(events)
    }

    /// Fetches the messages and tells what is new; says whether the last one is whole.
    async fn fetch(&mut self) -> Result<bool, End> {
        let path = ["session", &self.session, "message"];
        let fetched = self.turn.inner.client.get(&path, &[("limit", MESSAGES_COUNT)]).await?;
        let Reply::Text(messages) = fetched else {
            return Err(protocol("the agent's session was deleted").into());
        };
        let mut said = Vec::new();
        self.mapper.messages(&messages, &mut said);
        self.tell(said).await?;
        Ok(self.mapper.verdict().is_some())
    }

    /// Whether the server says that the session rests; sessions that rest may be missing in its list.
    async fn rests(&self) -> Result<bool, End> {
        let Reply::Text(states) = self.turn.inner.client.get(&["session", "status"], &[]).await?
        else {
            return Ok(false);
        };
        let states: Value = serde_json::from_str(&states).unwrap_or_default();
        let state = states[&self.session]["type"].as_str();
        Ok(state.is_none_or(|state| state == "idle"))
    }

    /// The session rests: waits until its last message is whole.
    async fn settle(&mut self) -> Result<(), End> {
        for _ in 0..FETCHES.0 {
            if self.fetch().await? {
                return self.finish().await;
            }
            sleep(FETCHES.1).await;
        }
        let message = "the agent rests but its answer is not whole";
        Err(ModelError::new(FailureKind::Interrupted, message).into())
    }

    async fn finish(&mut self) -> Result<(), End> {
        let mut said = Vec::new();
        self.mapper.close(&mut said);
        let (reason, raw) = match self.mapper.verdict() {
            Some(verdict) => verdict?,
            None => return Err(protocol("the agent's answer has no end").into()),
        };
        said.push(ModelEvent::Finish { reason, raw });
        self.tell(said).await
    }

    async fn tell(&mut self, said: Vec<ModelEvent>) -> Result<(), End> {
        for event in said {
            self.told_bytes = self.told_bytes.saturating_add(event.weight());
            if self.told_bytes > self.turn.bounds.bytes {
                let message = "the agent's answer is too large";
                return Err(ModelError::new(FailureKind::Limit, message).into());
            }
            let sent = timeout_at(self.deadline, self.out.send(Ok(event))).await;
            match sent {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(End::Unwanted),
                Err(_) => return Err(too_slow().into()),
            }
        }
        Ok(())
    }
}

fn protocol(message: &str) -> ModelError {
    ModelError::new(FailureKind::Protocol, message)
}

fn too_slow() -> ModelError {
    ModelError::new(FailureKind::Limit, "the agent took too long")
}
