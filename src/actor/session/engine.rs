//! What turns are run with: the models and the tools of the server.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::base::Key;
use crate::base::json::Json;
use crate::model::Providers;
use crate::model::ToolSpec;
use crate::tool::ToolCall;
use crate::tool::Tools;

/// The models and the tools of the server. Cheap to clone.
#[derive(Clone, Default)]
pub struct Engine {
    /// Who can be asked.
    pub providers: Arc<Providers>,
    /// What they may call.
    pub tools: Tools,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("providers", &self.providers).finish_non_exhaustive()
    }
}

impl Engine {
    /// The tools of the server as a model sees them.
    pub(super) async fn tools(&self) -> Vec<ToolSpec> {
        self.tools.ready().await;
        self.tools.specs()
    }

    /// Whether somebody must allow calls of `name`; `None` if the server has no such tool.
    pub(super) fn needs_approval(&self, name: &str) -> Option<bool> {
        self.tools.get(name).map(|tool| tool.needs_approval())
    }

    /// Runs a tool of the server.
    ///
    /// The receiver of the call sees `turn` and `call_id` as one name: models use the ids of calls again in other turns.
    pub(super) fn run(
        &self,
        key: &Key,
        turn: &str,
        call_id: &str,
        name: &str,
        input: Json,
    ) -> BoxFuture<'static, Result<Json, String>> {
        let Some(tool) = self.tools.get(name) else {
            return std::future::ready(Err(format!("there is no tool `{name}`"))).boxed();
        };
        tool.call(ToolCall {
            workspace: key.workspace().to_owned(),
            user: None,
            session: key.id().to_owned(),
            turn: turn.to_owned(),
            call_id: format!("{turn}-{call_id}"),
            input,
        })
    }
}
