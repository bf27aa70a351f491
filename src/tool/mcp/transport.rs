//! How an MCP server is reached: a program that is started, or an address.

use std::fmt::Display;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::service::Peer;
use rmcp::service::RunningService;
use rmcp::service::ServiceExt as _;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use secrecy::ExposeSecret as _;
use secrecy::SecretString;

use crate::base::process;
use crate::base::process::Group;
use crate::base::secret::Environment;
use crate::base::secret::Hidden;
use crate::base::tls;
use crate::tool::settings::McpServerSettings;

/// Longest time until a connection stands.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Where programs are looked for when the settings name no `PATH`.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// How long a program may take to end by itself, and again when it is interrupted.
const END_TIME_MAX: Duration = Duration::from_secs(2);

/// A connection. Dropping it kills the program behind it, with all that it started.
pub(super) struct Connection {
    service: RunningService<RoleClient, ()>,
    program: Option<Group>,
}

impl Connection {
    /// Somebody to speak to.
    pub(super) fn peer(&self) -> &Peer<RoleClient> {
        self.service.peer()
    }

    /// Whether nothing can be said any more.
    pub(super) fn is_closed(&self) -> bool {
        self.service.is_closed() || self.service.peer().is_transport_closed()
    }

    /// Says good-bye, and waits until the program is gone.
    pub(super) async fn close(mut self) {
        // A program ends when its input does.
        if let Err(error) = self.service.close_with_timeout(END_TIME_MAX).await {
            tracing::debug!("an MCP connection did not end well: {error}");
        }
        if let Some(program) = self.program {
            program.leave(END_TIME_MAX).await;
        }
    }
}

/// How to connect, again and again.
pub(super) struct Way {
    to: To,
    /// What is sent along, and must not be read in what is told and logged.
    hidden: Vec<Hidden>,
}

enum To {
    Program { command: Vec<String>, environment: Vec<(String, SecretString)> },
    Address { client: reqwest::Client, url: String, key: Option<SecretString> },
}

impl Way {
    /// Reads the settings and their secrets.
    ///
    /// # Errors
    ///
    /// What is wrong with the settings, for the operator.
    pub(super) fn new(
        settings: &McpServerSettings,
        client: &reqwest::Client,
        environment: Environment<'_>,
    ) -> Result<Self, String> {
        match (&settings.url, settings.command.is_empty()) {
            (Some(url), true) => {
                let parsed = reqwest::Url::parse(url).map_err(|error| format!("url: {error}"))?;
                if !matches!(parsed.scheme(), "http" | "https") {
                    return Err("url: must begin with http:// or https://".to_owned());
                }
                let key = settings.key.read(environment)?;
                let mut hidden: Vec<Hidden> = parsed
                    .query_pairs()
                    .flat_map(|(_, value)| Hidden::of_setting(&value))
                    .collect();
                hidden.extend(parsed.password().into_iter().flat_map(Hidden::of_secret));
                hidden.extend(key.iter().flat_map(|key| Hidden::of_secret(key.expose_secret())));
                let to = To::Address { client: client.clone(), url: url.clone(), key };
                Ok(Self { to, hidden })
            }
            (None, false) => {
                let mut variables = vec![("PATH".to_owned(), SecretString::from(PATH))];
                let mut hidden = Vec::new();
                for (name, value) in &settings.environment {
                    hidden.extend(Hidden::of_setting(value));
                    variables.push((name.clone(), SecretString::from(value.as_str())));
                }
                for (name, source) in &settings.secret_environment {
                    let value = source.read(environment)?;
                    let value = value.ok_or_else(|| format!("{name}: no secret is named"))?;
                    hidden.extend(Hidden::of_secret(value.expose_secret()));
                    variables.push((name.clone(), value));
                }
                let command = settings.command.clone();
                Ok(Self { to: To::Program { command, environment: variables }, hidden })
            }
            _ => Err("needs either `command` or `url`".to_owned()),
        }
    }

    /// `error` without the values that are sent along.
    pub(super) fn told(&self, error: &impl Display) -> String {
        Hidden::hide(&self.hidden, &error.to_string())
    }

    /// The client for addresses: no redirects, so that only the settings say who is called.
    ///
    /// # Errors
    ///
    /// Why it cannot be made.
    pub(super) fn client() -> Result<reqwest::Client, String> {
        tls::client(|| {
            reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIME_MAX)
        })
    }

    /// Connects and greets. Dropping the future gives up and ends the program.
    ///
    /// # Errors
    ///
    /// Why there is no connection, for the operator.
    pub(super) async fn connect(&self) -> Result<Connection, String> {
        match &self.to {
            To::Program { command, environment } => {
                let (program, arguments) = command.split_first().ok_or("`command` is empty")?;
                let mut command = process::command(program);
                command.args(arguments).env_clear();
                for (name, value) in environment {
                    command.env(name, value.expose_secret());
                }
                let (group, stdin, stdout) =
                    Group::start(command).map_err(|error| error.to_string())?;
                let service = ().serve((stdout, stdin)).await.map_err(|error| error.to_string())?;
                Ok(Connection { service, program: Some(group) })
            }
            To::Address { client, url, key } => {
                let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
                if let Some(key) = key {
                    config = config.auth_header(key.expose_secret());
                }
                let transport = StreamableHttpClientTransport::with_client(client.clone(), config);
                let service = ().serve(transport).await.map_err(|error| error.to_string())?;
                Ok(Connection { service, program: None })
            }
        }
    }
}
