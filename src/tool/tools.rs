//! All tools of the server, by name.

use std::sync::Arc;

use futures_util::future::join_all;

use super::call::Tool;
use super::http::HttpTool;
use super::mcp::Server;
use super::settings::ToolSettings;
use crate::base::secret::Environment;
use crate::model::ToolSpec;

/// The tools that the settings name. Cheap to clone; all clones share the connections.
#[derive(Clone, Default)]
pub struct Tools {
    fixed: Arc<Vec<Arc<dyn Tool>>>,
    servers: Arc<Vec<Server>>,
}

impl Tools {
    /// Sets the tools up and reads their secrets; connects nothing yet.
    ///
    /// # Errors
    ///
    /// All that is wrong with the settings, for the operator; one line per problem.
    pub fn new(settings: &ToolSettings, environment: Environment<'_>) -> Result<Self, String> {
        let (mut fixed, mut servers): (Vec<Arc<dyn Tool>>, _) = (Vec::new(), Vec::new());
        let mut problems = Vec::new();
        let client = HttpTool::client()?;
        for (name, http) in &settings.http {
            let made = check_name(name)
                .and_then(|()| HttpTool::new(name, http, client.clone(), environment));
            match made {
                Ok(tool) => fixed.push(Arc::new(tool)),
                Err(problem) => problems.push(format!("tools.http.{name}: {problem}")),
            }
        }
        let client = Server::client()?;
        for (name, mcp) in &settings.mcp {
            match check_name(name).and_then(|()| Server::new(name, mcp, &client, environment)) {
                Ok(server) => servers.push(server),
                Err(problem) => problems.push(format!("tools.mcp.{name}: {problem}")),
            }
        }
        if !problems.is_empty() {
            return Err(problems.join("\n"));
        }
        Ok(Self { fixed: Arc::new(fixed), servers: Arc::new(servers) })
    }

    /// Connects the MCP servers that are not connected; returns within their `connect_ms`, whether they answer or not.
    ///
    /// Cheap when all are connected, so it may be called before every turn. A server that failed is left alone for 15 s.
    pub async fn ready(&self) {
        join_all(self.servers.iter().map(Server::ready)).await;
    }

    /// What models are told; the tools of an MCP server are known once it was connected. Names are unique: of two tools
    /// of one name the first counts, HTTP before MCP.
    #[must_use]
    pub fn specs(&self) -> Vec<ToolSpec> {
        let mut specs: Vec<ToolSpec> = Vec::new();
        for tool in self.all() {
            if !specs.iter().any(|spec| spec.name == tool.spec().name) {
                specs.push(tool.spec().clone());
            }
        }
        specs
    }

    /// The tool of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<dyn Tool>> {
        self.all().find(|tool| tool.spec().name == name)
    }

    /// Ends all connections and the programs behind them. They are made again when they are needed.
    pub async fn close(&self) {
        join_all(self.servers.iter().map(Server::close)).await;
    }

    fn all(&self) -> impl Iterator<Item = Arc<dyn Tool>> {
        let served = self.servers.iter().flat_map(Server::tools);
        self.fixed.iter().cloned().chain(served)
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if ToolSpec::is_name(name) {
        return Ok(());
    }
    Err(format!("a name is 1 to {} letters, digits, `_` and `-`", ToolSpec::NAME_CHARS_MAX))
}
