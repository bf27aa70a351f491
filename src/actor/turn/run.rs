//! One attempt of a turn: ask, run tools, ask again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument;

use crate::actor::batch::Start;
use crate::actor::node::Shared;
use crate::actor::shard::Sender;
use crate::actor::turn::say::Call;
use crate::actor::turn::say::Step;
use crate::actor::turn::say::result_of;
use crate::actor::turn::transcript;
use crate::actor::turn::writer::Over;
use crate::actor::turn::writer::Writer;
use crate::base::Key;
use crate::base::ids;
use crate::base::json::Json;
use crate::base::json::Object;
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
use crate::model::OwnTool;
use crate::model::Provider;
use crate::model::ToolSpec;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Query;
use crate::wire::envelope::Request;

/// Part of the time of a turn after which its slowness is worth a line in the log.
const WARN_AT: f64 = 0.8;

/// One attempt of a turn.
pub(in crate::actor) struct Run {
    shared: Arc<Shared>,
    sender: Sender,
    key: Key,
    turn: Turn,
    resume: Option<String>,
    stop: watch::Receiver<bool>,
    out: Writer,
    usage: session::Usage,
    until: Instant,
}

/// Why a turn ends before its model is done.
enum Cut {
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

/// Who has to do something about the calls of a step.
#[derive(Default)]
struct Waits {
    client: bool,
    approval: bool,
}

impl Run {
    pub(in crate::actor) fn new(
        shared: Arc<Shared>,
        sender: Sender,
        key: Key,
        start: Start,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let Start { turn, parts, resume } = start;
        let (id, attempt) = (turn.id.clone(), turn.attempt);
        let out = Writer::new(sender.clone(), key.clone(), id, attempt, parts);
        let until = Instant::now() + Duration::from_millis(shared.options.limits.turn_ms);
        let usage = session::Usage::default();
        Self { shared, sender, key, turn, resume, stop, out, usage, until }
    }

    /// Runs it to its end. Whoever watches it may come and go.
    pub(in crate::actor) async fn run(self) {
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
        if self.run_allowed(&*provider, &messages).await? {
            messages = self.transcript().await?;
        }
        let steps =
            self.turn.options.max_steps.unwrap_or(self.shared.options.limits.turn_steps_count);
        let mut last = FinishReason::Stop;
        for _ in 0..steps.max(1) {
            let request = self.request(&messages, provider.name(), &model).await?;
            let step = self.ask(&*provider, request).await?;
            last = step.finish.unwrap_or(FinishReason::Other);
            // Calls of an answer that broke off may not be what the model meant.
            let whole =
                matches!(last, FinishReason::ToolCalls | FinishReason::Stop | FinishReason::Other);
            if step.calls.is_empty() || !whole {
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

    async fn transcript(&self) -> Result<Vec<Message>, Cut> {
        let (until, draft) = (self.turn.input_id.clone(), self.turn.message_id.clone());
        let query = Query::Transcript { until, draft };
        match self.sender.ask(&self.key, Request::Query(query)).await {
            Ok(Answer::Transcript(messages)) => Ok(messages),
            Ok(_) | Err(crate::wire::envelope::Error::Rejected(_)) => Err(Cut::Taken),
            Err(error) => Err(ModelError::new(FailureKind::Other, error.to_string()).into()),
        }
    }

    async fn request(
        &self,
        messages: &[Message],
        provider: &str,
        model: &str,
    ) -> Result<ModelRequest, Cut> {
        let limits = &self.shared.options.limits;
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ModelError::new(FailureKind::Limit, "the answer took too long").into());
        }
        let mut tools = self.shared.options.engine.tools().await;
        tools.extend(client_tools(self.turn.options.tools.as_ref()));
        Ok(ModelRequest {
            workspace: self.key.workspace().to_owned(),
            session: self.key.id().to_owned(),
            model: model.to_owned(),
            system: self.turn.options.system.clone(),
            messages: transcript::of(messages, provider),
            tools,
            max_tokens: None,
            resume: self.resume.clone(),
            bounds: Bounds { total: left, bytes: limits.answer_bytes, ..Bounds::default() },
        })
    }

    /// Asks the model once and writes what it says. Its tokens count however it ends.
    async fn ask(&mut self, provider: &dyn Provider, request: ModelRequest) -> Result<Step, Cut> {
        let mut step = Step::default();
        let heard = self.listen(&mut step, provider, request).await;
        self.add(step.usage);
        heard?;
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
                _ = self.stop.changed() => {
                    let asked = *self.stop.borrow();
                    return Err(if asked { Cut::Stopped } else { Cut::Taken });
                }
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
                        Some(Err(error)) => {
                                    return Err(error.into());
                        }
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

    /// Runs what the server may run of `calls`, and asks for what it may not.
    async fn run_calls(&mut self, provider: &dyn Provider, calls: &[Call]) -> Result<Waits, Cut> {
        let mut waits = Waits::default();
        let work = FuturesUnordered::new();
        for call in calls.iter().filter(|call| !call.answered) {
            let Ok(input) = &call.input else { continue };
            match self.who(provider, call) {
                Who::Client => waits.client = true,
                Who::Asks => {
                    waits.approval = true;
                    let id = format!("appr_{}", ids::fresh().replace('-', ""));
                    let approval = Object::default().with("id", &id);
                    let fields = Object::default()
                        .with("toolCallId", &call.id)
                        .with("approval", &approval)
                        .with("state", &"pending");
                    self.out.update(call.part, fields);
                }
                Who::Nobody => {
                    let error = format!("there is no tool `{}`", call.name);
                    self.out.update(call.part, result_of(&call.id, Err(error)));
                }
                Who::Server => {
                    let (part, id) = (call.part, call.id.clone());
                    let result =
                        self.execute(provider, (&call.id, &call.theirs), &call.name, input.clone());
                    work.push(result.map(move |result| (part, id, result)));
                }
            }
        }
        self.out.flush().await?;
        self.gather(work).await?;
        Ok(waits)
    }

    /// Posts results as they come.
    async fn gather<F>(&mut self, mut work: FuturesUnordered<F>) -> Result<(), Cut>
    where
        F: Future<Output = (usize, String, Result<Json, String>)>,
    {
        while !work.is_empty() {
            tokio::select! {
                biased;
                _ = self.stop.changed() => {
                    let asked = *self.stop.borrow();
                    return Err(if asked { Cut::Stopped } else { Cut::Taken });
                }
                done = work.next() => {
                    let Some((part, id, result)) = done else { break };
                    self.out.update(part, result_of(&id, result));
                    self.out.flush().await?;
                }
                () = tokio::time::sleep_until(self.until) => {
                    return Err(ModelError::new(FailureKind::Limit, "the tools took too long").into());
                }
            }
        }
        Ok(())
    }

    /// Runs the calls that were allowed since the turn ended; whether there were any.
    async fn run_allowed(
        &mut self,
        provider: &dyn Provider,
        messages: &[Message],
    ) -> Result<bool, Cut> {
        let own = messages.iter().find(|message| message.id == self.turn.message_id);
        let work = FuturesUnordered::new();
        for (part, members) in
            own.iter().flat_map(|own| own.parts.iter().map(|p| p.members()).enumerate())
        {
            let approval = members.get("approval").and_then(Object::read).unwrap_or_default();
            let approved =
                approval.get("approved").is_some_and(|approved| approved.as_str() == "true");
            let (Some(id), Some(name)) = (members.text("toolCallId"), members.text("toolName"))
            else {
                continue;
            };
            if approved && members.text("state").as_deref() == Some("running") {
                let input = members.get("toolInput").cloned().unwrap_or_default();
                let result = self.execute(provider, (&id, &id), &name, input);
                work.push(result.map(move |result| (part, id, result)));
            }
        }
        let any = !work.is_empty();
        self.gather(work).await?;
        Ok(any)
    }

    fn who(&self, provider: &dyn Provider, call: &Call) -> Who {
        match provider.own_tool(&call.theirs) {
            Some(OwnTool::Server) => return Who::Server,
            Some(OwnTool::Client) => return Who::Client,
            Some(OwnTool::Asks) => return Who::Asks,
            None => {}
        }
        match self.shared.options.engine.needs_approval(&call.name) {
            Some(true) => Who::Asks,
            Some(false) => Who::Server,
            None if client_tools(self.turn.options.tools.as_ref()).any(|t| t.name == call.name) => {
                Who::Client
            }
            None => Who::Nobody,
        }
    }

    fn execute(
        &self,
        provider: &dyn Provider,
        (call_id, theirs): (&str, &str),
        name: &str,
        input: Json,
    ) -> BoxFuture<'static, Result<Json, String>> {
        if provider.own_tool(theirs).is_some() {
            return std::future::ready(provider.run_tool(name, &input)).boxed();
        }
        self.shared.options.engine.run(&self.key, &self.turn.id, call_id, name, input)
    }
}

/// Who runs a call.
enum Who {
    Server,
    Asks,
    Client,
    Nobody,
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

/// The tools that the client says it runs.
fn client_tools(tools: Option<&Json>) -> impl Iterator<Item = ToolSpec> {
    let tools: Vec<Object> =
        tools.and_then(|json| serde_json::from_str(json.as_str()).ok()).unwrap_or_default();
    tools.into_iter().filter_map(|tool| {
        let schema = tool.get("inputSchema").or_else(|| tool.get("parameters")).cloned();
        Some(ToolSpec {
            name: tool.text("name")?,
            description: tool.text("description").unwrap_or_default(),
            schema: schema.unwrap_or_default(),
        })
    })
}
