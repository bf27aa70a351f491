//! The tools of a turn: what the model may call, and who runs what it calls.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use crate::actor::session::turn::run::Cut;
use crate::actor::session::turn::run::Run;
use crate::actor::session::turn::say::Call;
use crate::actor::session::turn::say::result_of;
use crate::base::ids;
use crate::base::json::Json;
use crate::base::json::Object;
use crate::domain::session::Message;
use crate::model::FailureKind;
use crate::model::ModelError;
use crate::model::OwnTool;
use crate::model::Provider;
use crate::model::ToolSpec;

/// Who has to do something about the calls of a step.
#[derive(Default)]
pub(super) struct Waits {
    pub(super) client: bool,
    pub(super) approval: bool,
}

/// Who runs a call.
enum Who {
    Server,
    Asks,
    Client,
    Nobody,
}

impl Run {
    /// What the model is told that it may call. MCP servers may have to be connected for it.
    pub(super) async fn tools(&mut self) -> Result<Vec<ToolSpec>, Cut> {
        let shared = Arc::clone(&self.shared);
        let mut tools = tokio::select! {
            biased;
            _ = self.stop.changed() => return Err(self.cut()),
            tools = shared.options.engine.tools() => tools,
        };
        tools.extend(client_tools(self.turn.options.tools.as_ref()));
        Ok(tools)
    }

    /// Ends calls that are not run: the answer broke off behind them, so they may not be what the model meant.
    pub(super) async fn give_up(&mut self, calls: &[Call]) -> Result<(), Cut> {
        for call in calls.iter().filter(|call| !call.answered) {
            let error = "the answer broke off, so the call was not run".to_owned();
            self.out.update(call.part, result_of(&call.id, Err(error)));
        }
        Ok(self.out.flush().await?)
    }

    /// Runs what the server may run of `calls`, and asks for what it may not.
    pub(super) async fn run_calls(
        &mut self,
        provider: &dyn Provider,
        calls: &[Call],
    ) -> Result<Waits, Cut> {
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
                _ = self.stop.changed() => return Err(self.cut()),
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
    pub(super) async fn run_allowed(
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

/// The tools that the client says it runs.
fn client_tools(tools: Option<&Json>) -> impl Iterator<Item = ToolSpec> {
    let tools: Vec<Object> =
        tools.and_then(|json| serde_json::from_str(json.as_str()).ok()).unwrap_or_default();
    tools.into_iter().filter_map(|tool| ToolSpec::of_client(&tool))
}
