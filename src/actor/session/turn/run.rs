//! One attempt of a turn: ask, run tools, ask again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument;

use crate::actor::sender::Sender;
use crate::actor::session::turn::say::Step;
use crate::actor::session::turn::transcript;
use crate::actor::session::turn::writer::Over;
use crate::actor::session::turn::writer::Writer;
use crate::actor::shared::Shared;
use crate::actor::tasks::Post;
use crate::base::Key;
use crate::base::metric;
use crate::domain::session;
use crate::domain::session::Ending;
use crate::domain::session::Message;
use crate::domain::session::Turn;
use crate::domain::session::TurnState;
use crate::model::Bounds;
use crate::model::FailureKind;
use crate::model::FinishReason;
use crate::model::ModelError;
use crate::model::ModelRequest;
use crate::model::Provider;
use crate::model::ToolSpec;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Query;
use crate::wire::envelope::Request;

/// Part of the time of a turn after which its slowness is worth a line in the log.
const WARN_AT: f64 = 0.8;

/// A turn that begins: the model is asked once this is durable.
pub(in crate::actor) struct Start {
    pub turn: Turn,
    /// Parts that its message has already.
    pub parts: usize,
    /// What the provider must be told to go on where it was.
    pub resume: Option<String>,
}

/// One attempt of a turn.
pub(in crate::actor::session) struct Run {
    pub(super) shared: Arc<Shared>,
    sender: Sender,
    pub(super) key: Key,
    pub(super) turn: Turn,
    resume: Option<String>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) out: Writer,
    usage: session::Usage,
    pub(super) until: Instant,
    /// Bytes of the conversation that the model is given.
    history_bytes: usize,
}

/// Why a turn ends before its model is done.
pub(super) enum Cut {
    /// Somebody asked.
    Stopped,
    /// The model or the server failed.
    Failed(ModelError),
    /// There is nothing left to write to.
    Taken,
}

impl From<Over> for Cut {
    fn from(over: Over) -> Self {
        match over {
            Over::Taken => Self::Taken,
            Over::Bound(text) => Self::Failed(ModelError::new(FailureKind::Limit, text)),
        }
    }
}

impl From<ModelError> for Cut {
    fn from(error: ModelError) -> Self {
        Self::Failed(error)
    }
}

impl Run {
    pub(in crate::actor::session) fn new(
        post: Post,
        start: Start,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let Post { sender, shared, key } = post;
        let Start { turn, parts, resume } = start;
        let (id, attempt) = (turn.id.clone(), turn.attempt);
        let out = Writer::new(sender.clone(), key.clone(), id, attempt, parts);
        let until = Instant::now() + Duration::from_millis(shared.options.limits.turn_ms);
        let usage = session::Usage::default();
        let history_bytes = shared.options.limits.history_bytes;
        Self { shared, sender, key, turn, resume, stop, out, usage, until, history_bytes }
    }

    /// Runs it to its end. Whoever watches it may come and go.
    pub(in crate::actor::session) async fn run(self) {
        // The names are those of OpenTelemetry's conventions for generative AI.
        let span = tracing::info_span!(
            "chat",
            gen_ai.operation.name = "chat",
            gen_ai.provider.name = self.provider(),
            gen_ai.request.model = self.turn.model.as_deref().unwrap_or_default(),
            gen_ai.conversation.id = self.key.id(),
            gen_ai.usage.input_tokens = tracing::field::Empty,
            gen_ai.usage.output_tokens = tracing::field::Empty,
            gen_ai.response.finish_reasons = tracing::field::Empty,
            turn.id = %self.turn.id,
            turn.attempt = self.turn.attempt,
            turn.state = tracing::field::Empty,
        );
        self.run_traced().instrument(span).await;
    }

    fn provider(&self) -> &str {
        let model = self.turn.model.as_deref().unwrap_or_default();
        model.split('/').next().unwrap_or_default()
    }

    async fn run_traced(mut self) {
        let provider = self.provider().to_owned();
        let ended = self.answer().await;
        let (state, reason, error) = match ended {
            Ok((state, reason)) => (state, reason, None),
            Err(Cut::Taken) => return,
            Err(Cut::Stopped) => (TurnState::Stopped, FinishReason::Other, None),
            Err(Cut::Failed(error)) => (TurnState::Failed, FinishReason::Error, Some(error)),
        };
        if let Some(error) = &error {
            let status = error.status.map(u64::from);
            tracing::warn!(error = %error.message, status, "the model did not answer");
        }
        // What was said is kept, whatever became of it.
        if self.out.flush().await.is_err() && error.is_none() {
            return;
        }
        let ending = Ending {
            state,
            finish_reason: name_of(reason).to_owned(),
            usage: Some(self.usage),
            error_status: error.as_ref().and_then(|error| error.status),
            error: error.map(|error| error.message),
            resume: self.resume.take(),
        };
        if self.out.end(ending).await.is_ok() {
            let usage = self.usage;
            metric::counters().turn(&provider, state.as_str());
            metric::counters().tokens(&provider, usage.input_tokens, usage.output_tokens);
            let span = tracing::Span::current();
            span.record("gen_ai.usage.input_tokens", usage.input_tokens);
            span.record("gen_ai.usage.output_tokens", usage.output_tokens);
            span.record("gen_ai.response.finish_reasons", name_of(reason));
            span.record("turn.state", state.as_str());
            tracing::debug!("a turn is over");
        }
    }

    async fn answer(&mut self) -> Result<(TurnState, FinishReason), Cut> {
        let address = self.turn.model.clone().unwrap_or_default();
        let (provider, model) = self.shared.options.engine.providers.get(&address)?;
        let mut messages = self.transcript().await?;
        let own = messages.iter().filter(|message| message.id == self.turn.message_id);
        for id in own.flat_map(|own| &own.parts).filter_map(|p| p.members().text("toolCallId")) {
            self.out.has_call(id);
        }
        let tools = self.tools().await?;
        if self.run_allowed(&*provider, &messages).await? {
            messages = self.transcript().await?;
        }
        let steps =
            self.turn.options.max_steps.unwrap_or(self.shared.options.limits.turn_steps_count);
        let mut last = FinishReason::Stop;
        for _ in 0..steps.max(1) {
            let step = self.step(&*provider, (&model, &tools), messages).await?;
            last = step.finish.unwrap_or(FinishReason::Other);
            // Calls of an answer that broke off may not be what the model meant.
            let whole =
                matches!(last, FinishReason::ToolCalls | FinishReason::Stop | FinishReason::Other);
            if step.calls.is_empty() || !whole {
                self.give_up(&step.calls).await?;
                return Ok((TurnState::Completed, last));
            }
            let waits = self.run_calls(&*provider, &step.calls).await?;
            if waits.approval {
                return Ok((TurnState::WaitingApproval, FinishReason::ToolCalls));
            }
            if waits.client {
                return Ok((TurnState::Completed, FinishReason::ToolCalls));
            }
            if step.calls.iter().all(|call| call.answered && call.input.is_ok()) {
                // The provider ran them itself and said what it had to say.
                return Ok((TurnState::Completed, last));
            }
            messages = self.transcript().await?;
        }
        Ok((TurnState::Completed, last))
    }

    /// Why the turn was told to end.
    pub(super) fn cut(&self) -> Cut {
        if *self.stop.borrow() { Cut::Stopped } else { Cut::Taken }
    }

    /// One answer of the model. If the conversation is longer than it takes, the older half is left out, as often as that
    /// helps: otherwise nothing could ever be said in it again.
    async fn step(
        &mut self,
        provider: &dyn Provider,
        (model, tools): (&str, &[ToolSpec]),
        mut messages: Vec<Message>,
    ) -> Result<Step, Cut> {
        loop {
            let request = self.request(&messages, provider.name(), (model, tools))?;
            let refused = match self.ask(provider, request).await {
                Err(Cut::Failed(error)) if error.kind == FailureKind::TooLong => error,
                other => return other,
            };
            let (count, bytes) =
                (messages.len(), messages.iter().map(Message::bytes).sum::<usize>());
            while messages.len() == count {
                self.history_bytes = self.history_bytes.min(bytes) / 2;
                if self.history_bytes == 0 {
                    return Err(refused.into());
                }
                messages = self.transcript().await?;
            }
            tracing::info!(
                session.id = %self.key.id(),
                "a conversation is too long for its model, which is asked again with the newest {} of {count} messages",
                messages.len()
            );
        }
    }

    async fn transcript(&self) -> Result<Vec<Message>, Cut> {
        let (until, draft) = (self.turn.input_id.clone(), self.turn.message_id.clone());
        let query = Query::Transcript { until, draft, bytes: self.history_bytes };
        match self.sender.ask(&self.key, Request::Query(query)).await {
            Ok(Answer::Transcript(messages)) => Ok(messages),
            Ok(_) | Err(crate::wire::envelope::Error::Rejected(_)) => Err(Cut::Taken),
            Err(error) => Err(ModelError::new(FailureKind::Other, error.to_string()).into()),
        }
    }

    fn request(
        &self,
        messages: &[Message],
        provider: &str,
        (model, tools): (&str, &[ToolSpec]),
    ) -> Result<ModelRequest, Cut> {
        let limits = &self.shared.options.limits;
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ModelError::new(FailureKind::Limit, "the answer took too long").into());
        }
        let address = self.turn.model.as_deref().unwrap_or_default();
        let asked = transcript::Asked { provider, address, writes: &self.turn.message_id };
        Ok(ModelRequest {
            workspace: self.key.workspace().to_owned(),
            session: self.key.id().to_owned(),
            model: model.to_owned(),
            system: self.turn.options.system.clone(),
            messages: transcript::of(messages, asked),
            tools: tools.to_vec(),
            resume: self.resume.clone(),
            bounds: Bounds {
                idle: Duration::from_millis(limits.turn_no_progress_ms),
                total: left,
                bytes: limits.answer_bytes,
                ..Bounds::default()
            },
        })
    }

    /// Asks the model once and writes what it says. Its tokens count however it ends.
    async fn ask(&mut self, provider: &dyn Provider, request: ModelRequest) -> Result<Step, Cut> {
        let mut step = Step::default();
        let heard = self.listen(&mut step, provider, request).await;
        self.add(step.usage);
        heard.map_err(|cut| match cut {
            // What was said cannot be said again.
            Cut::Failed(error) if step.has_said() => {
                Cut::Failed(ModelError { kind: FailureKind::Interrupted, ..error })
            }
            cut => cut,
        })?;
        if let Some(resume) = step.resume.take() {
            self.resume = Some(resume);
        }
        if step.finish.is_none() {
            let text = "the answer of the model broke off";
            return Err(ModelError::new(FailureKind::Interrupted, text).into());
        }
        self.out.flush().await?;
        Ok(step)
    }

    async fn listen(
        &mut self,
        step: &mut Step,
        provider: &dyn Provider,
        request: ModelRequest,
    ) -> Result<(), Cut> {
        let limits = &self.shared.options.limits;
        let no_progress = Duration::from_millis(limits.turn_no_progress_ms);
        let whole = Duration::from_millis(limits.turn_ms);
        let mut warn = Some(self.until - whole.mul_f64(1.0 - WARN_AT));
        let mut answer = provider.answer(request);
        let mut progress = Instant::now();
        let mut silent = Some(progress);
        loop {
            let due = self.out.due().map(Instant::from_std);
            let wake = [Some(self.until), Some(progress + no_progress), warn, due];
            let wake = wake.into_iter().flatten().min().unwrap_or(self.until);
            tokio::select! {
                biased;
                _ = self.stop.changed() => return Err(self.cut()),
                said = answer.next() => {
                    match said {
                        Some(Ok(event)) => {
                            if let Some(asked) = silent.take() {
                                let first_chunk = asked.elapsed().as_secs_f64();
                                metric::counters().first_chunk.observe(first_chunk);
                            }
                            step.say(event, provider.name(), &mut self.out);
                            if self.out.due().is_some() {
                                progress = Instant::now();
                            }
                            self.out.flush_at_once().await?;
                        }
                        Some(Err(error)) => return Err(error.into()),
                        None => break,
                    }
                    if step.finish.is_some() {
                        break;
                    }
                }
                // Only once the provider has nothing more at hand: what came during a slow sync shares the next one.
                () = std::future::ready(()), if self.out.is_due() => self.out.flush().await?,
                () = tokio::time::sleep_until(wake) => {
                    let now = Instant::now();
                    if let Some(late) = self.late(now, progress + no_progress) {
                            return Err(late.into());
                    }
                    if warn.is_some_and(|at| now >= at) {
                        warn = None;
                        tracing::warn!(session.id = %self.key.id(), turn.id = %self.turn.id, "a turn has used 80 % of its time");
                    }
                    self.out.flush().await?;
                }
            }
        }
        Ok(())
    }

    /// Why the model has no more time, if so.
    fn late(&self, now: Instant, silent_until: Instant) -> Option<ModelError> {
        let limit = |text| Some(ModelError::new(FailureKind::Limit, text));
        if now >= self.until {
            limit("the answer took too long")
        } else if now >= silent_until {
            limit("the model said nothing for too long")
        } else {
            None
        }
    }

    fn add(&mut self, usage: crate::model::Usage) {
        self.usage.input_tokens += usage.input_tokens;
        self.usage.output_tokens += usage.output_tokens;
    }
}

fn name_of(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ContentFilter => "content-filter",
        FinishReason::ToolCalls => "tool-calls",
        FinishReason::Error => "error",
        FinishReason::Other => "other",
    }
}
