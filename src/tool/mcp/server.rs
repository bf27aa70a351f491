//! One MCP server: its connection, which is made again when it is lost, and its tools.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;
use std::time::Instant;

use futures_util::future::BoxFuture;
use rmcp::RoleClient;
use rmcp::model::CallToolRequest;
use rmcp::model::CallToolRequestParams;
use rmcp::model::CancelledNotificationParam;
use rmcp::model::ClientRequest;
use rmcp::model::PaginatedRequestParams;
use rmcp::model::RequestId;
use rmcp::model::ServerResult;
use rmcp::service::Peer;
use rmcp::service::PeerRequestOptions;
use rmcp::service::ServiceError;
use tokio::sync::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::result;
use super::transport::Connection;
use super::transport::Way;
use crate::base::clock;
use crate::base::json::Json;
use crate::base::secret::Environment;
use crate::model::ToolSpec;
use crate::tool::call::Tool;
use crate::tool::call::ToolCall;
use crate::tool::call::ToolOutcome;
use crate::tool::settings::McpServerSettings;

/// Tools of one server that are looked at, their size, and pages of them.
const LISTED_COUNT_MAX: usize = 4_096;
const LISTED_BYTES_MAX: usize = 16 << 20;
const PAGES_COUNT_MAX: usize = 64;
/// Longest description that the model is given, in characters.
const DESCRIPTION_CHARS_MAX: usize = 4_096;
/// How long a server that could not be reached is left alone by [`Server::ready`].
const PAUSE: Duration = Duration::from_secs(15);

/// A configured server. Cheap to clone.
#[derive(Clone)]
pub(in crate::tool) struct Server(Arc<Inner>);

struct Inner {
    name: String,
    settings: McpServerSettings,
    way: Way,
    connection: Mutex<State>,
    tools: RwLock<Vec<Arc<Listed>>>,
    places: Semaphore,
}

#[derive(Default)]
struct State {
    live: Option<Connection>,
    failed_at: Option<Instant>,
}

impl Server {
    /// Sets the server up; connects nothing.
    ///
    /// # Errors
    ///
    /// What is wrong with the settings, for the operator.
    pub(in crate::tool) fn new(
        name: &str,
        settings: &McpServerSettings,
        client: &reqwest::Client,
        environment: Environment<'_>,
    ) -> Result<Self, String> {
        let way = Way::new(settings, client, environment)?;
        Ok(Self(Arc::new(Inner {
            name: name.to_owned(),
            settings: settings.clone(),
            way,
            connection: Mutex::default(),
            tools: RwLock::default(),
            places: Semaphore::new(settings.calls_count.clamp(1, Semaphore::MAX_PERMITS)),
        })))
    }

    /// The client for servers with an address.
    ///
    /// # Errors
    ///
    /// Why it cannot be made.
    pub(in crate::tool) fn client() -> Result<reqwest::Client, String> {
        Way::client()
    }

    /// Connects if there is no connection, unless that failed a moment ago.
    pub(in crate::tool) async fn ready(&self) {
        let failed_at = self.0.connection.lock().await.failed_at;
        if failed_at.is_none_or(|at| at.elapsed() > PAUSE)
            && let Err(error) = self.peer().await
        {
            tracing::warn!(server = %self.0.name, "an MCP server is not ready: {error}");
        }
    }

    /// Its tools, as they were when it was last connected.
    pub(in crate::tool) fn tools(&self) -> Vec<Arc<dyn Tool>> {
        let listed = self.0.tools.read().unwrap_or_else(PoisonError::into_inner);
        let tool = |listed: &Arc<Listed>| -> Arc<dyn Tool> {
            Arc::new(McpTool { listed: Arc::clone(listed), server: self.clone() })
        };
        listed.iter().map(tool).collect()
    }

    /// Ends the connection and the program behind it.
    pub(in crate::tool) async fn close(&self) {
        let live = self.0.connection.lock().await.live.take();
        if let Some(live) = live {
            live.close().await;
        }
    }

    /// Somebody to speak to; connects if need be. Whoever comes meanwhile waits.
    async fn peer(&self) -> Result<Peer<RoleClient>, String> {
        let mut state = self.0.connection.lock().await;
        if let Some(live) = &state.live
            && !live.is_closed()
        {
            return Ok(live.peer().clone());
        }
        state.live = None;
        let time = Duration::from_millis(self.0.settings.connect_ms);
        let connected = timeout(time, self.connect()).await;
        let connected = connected.unwrap_or_else(|_| Err("it does not answer".to_owned()));
        state.failed_at = connected.is_err().then(clock::instant);
        let live = connected.map_err(|error| self.0.way.told(&error))?;
        let peer = live.peer().clone();
        state.live = Some(live);
        Ok(peer)
    }

    async fn connect(&self) -> Result<Connection, String> {
        let live = self.0.way.connect().await?;
        let listed = list(live.peer()).await?;
        let mut names = HashSet::new();
        let mut tools = Vec::new();
        for tool in listed {
            let wanted = self.0.settings.tools.as_ref();
            if wanted.is_some_and(|wanted| !wanted.iter().any(|name| *name == tool.name)) {
                continue;
            }
            let name = ToolSpec::plain_name(&format!("{}_{}", self.0.name, tool.name));
            if tools.len() == ToolSpec::COUNT_MAX || !names.insert(name.clone()) {
                tracing::warn!(server = %self.0.name, "a tool of an MCP server is left out: {name}");
                continue;
            }
            let Ok(schema) = Json::of(&*tool.input_schema) else { continue };
            let description = tool.description.unwrap_or_default();
            let description = description.chars().take(DESCRIPTION_CHARS_MAX).collect();
            let spec = ToolSpec { name, description, schema };
            tools.push(Arc::new(Listed { spec, remote: tool.name.into_owned() }));
        }
        *self.0.tools.write().unwrap_or_else(PoisonError::into_inner) = tools;
        Ok(live)
    }

    async fn call(&self, remote: String, input: &Json) -> ToolOutcome {
        let Ok(arguments) = serde_json::from_str(input.as_str()) else {
            return Err("the input of this tool must be an object".to_owned());
        };
        let _place = self.0.places.acquire().await.map_err(|error| error.to_string())?;
        let peer = self.peer().await.map_err(|error| {
            tracing::warn!(server = %self.0.name, "an MCP server cannot be reached: {error}");
            "the tool's server cannot be reached".to_owned()
        })?;
        let mut params = CallToolRequestParams::new(remote);
        params.arguments = Some(arguments);
        let answer = match ask(peer, CallToolRequest::new(params)).await {
            Ok(ServerResult::CallToolResult(result)) => serde_json::to_value(result).ok(),
            // A result with blocks of a type that this library does not know.
            Ok(ServerResult::CustomResult(result)) => {
                Some(result.0).filter(|result| result["content"].is_array())
            }
            Ok(_) => None,
            Err(ServiceError::McpError(error)) => {
                return Err(format!("the tool refuses: {}", error.message));
            }
            // It may have done its work before, so it is not called again here.
            Err(error) => {
                let error = self.0.way.told(&error);
                tracing::warn!(server = %self.0.name, "a call of an MCP server failed: {error}");
                return Err("the tool's server ended before it answered".to_owned());
            }
        };
        let answer = answer.ok_or("the tool asks for something that is not offered")?;
        result::outcome(&answer, self.0.settings.answer_bytes)
    }
}

/// Calls a tool. Whoever drops the call tells the server that nobody waits for it.
async fn ask(
    peer: Peer<RoleClient>,
    request: CallToolRequest,
) -> Result<ServerResult, ServiceError> {
    let request = ClientRequest::CallToolRequest(request);
    let handle = peer.send_cancellable_request(request, PeerRequestOptions::no_options()).await?;
    let waits = Waits { peer, id: Some(handle.id.clone()) };
    let answer = handle.await_response().await;
    waits.ends();
    answer
}

/// Somebody who waits for the answer to a request.
struct Waits {
    peer: Peer<RoleClient>,
    id: Option<RequestId>,
}

impl Waits {
    fn ends(mut self) {
        self.id = None;
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let peer = self.peer.clone();
        drop(runtime.spawn(async move {
            let told = peer.notify_cancelled(CancelledNotificationParam::new(Some(id), None));
            if let Err(error) = told.await {
                tracing::debug!("an MCP server was not told that a call is over: {error}");
            }
        }));
    }
}

/// What a server offers. It comes in pages, of which a broken server has always one more.
///
/// # Errors
///
/// The server does not answer, or its list has no end, or is too large to be held.
async fn list(peer: &Peer<RoleClient>) -> Result<Vec<rmcp::model::Tool>, String> {
    let (mut tools, mut cursors, mut bytes) = (Vec::new(), HashSet::new(), 0);
    let mut cursor = None;
    for _ in 0..PAGES_COUNT_MAX {
        let params = PaginatedRequestParams::default().with_cursor(cursor.take());
        let page = peer.list_tools(Some(params)).await.map_err(|error| error.to_string())?;
        for tool in page.tools {
            bytes += Json::of(&tool).map_or(0, |tool| tool.as_str().len());
            if bytes > LISTED_BYTES_MAX {
                return Err(format!("its list of tools is larger than {LISTED_BYTES_MAX} bytes"));
            }
            tools.push(tool);
        }
        if tools.len() > LISTED_COUNT_MAX {
            return Err(format!("its list has more than {LISTED_COUNT_MAX} tools"));
        }
        let Some(next) = page.next_cursor else { return Ok(tools) };
        if !cursors.insert(next.clone()) {
            return Err("its list of tools comes back to a page that it had".to_owned());
        }
        cursor = Some(next);
    }
    Err(format!("its list of tools has more than {PAGES_COUNT_MAX} pages"))
}

/// What a server says of a tool.
struct Listed {
    spec: ToolSpec,
    /// What the server calls it.
    remote: String,
}

/// A tool of a server. The server must not hold it, or neither would ever end.
struct McpTool {
    listed: Arc<Listed>,
    server: Server,
}

impl Tool for McpTool {
    fn spec(&self) -> &ToolSpec {
        &self.listed.spec
    }

    fn needs_approval(&self) -> bool {
        self.server.0.settings.needs_approval
    }

    fn call(&self, call: ToolCall) -> BoxFuture<'static, ToolOutcome> {
        let (server, remote) = (self.server.clone(), self.listed.remote.clone());
        Box::pin(async move {
            let time = server.0.settings.timeout_ms;
            let called = timeout(Duration::from_millis(time), server.call(remote, &call.input));
            let called = called
                .await
                .unwrap_or_else(|_| Err(format!("the tool did not answer within {time} ms")));
            called.map_err(|error| server.0.way.told(&error))
        })
    }
}
