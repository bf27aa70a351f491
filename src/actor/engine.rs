//! What turns are run with: the models and the tools of the server.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::base::Key;
use crate::base::json::Json;
use crate::model::Providers;
use crate::model::ToolSpec;

/// The models and the tools of the server. Cheap to clone.
#[derive(Clone, Default)]
pub struct Engine {
    /// Who can be asked.
    pub providers: Arc<Providers>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// The tools of the server as a model sees them.
    pub(super) fn tools(&self) -> Vec<ToolSpec> {
        Vec::new()
    }

    /// Whether somebody must allow calls of `name`; `None` if the server has no such tool.
    pub(super) fn needs_approval(&self, _name: &str) -> Option<bool> {
        None
    }

    /// Runs a tool of the server.
    pub(super) fn run(
        &self,
        _key: &Key,
        _turn: &str,
        _call_id: &str,
        name: &str,
        _input: Json,
    ) -> BoxFuture<'static, Result<Json, String>> {
        let error = format!("there is no tool `{name}`");
        std::future::ready(Err(error)).boxed()
    }
}
