//! The life of a server: start, serve, stop.

use std::io;
use std::io::Write;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

use crate::actor::Engine;
use crate::actor::Node;
use crate::actor::Options;
use crate::base::metric;
use crate::base::process;
use crate::config::Config;
use crate::http;
use crate::model::FailureKind;
use crate::model::Providers;
use crate::model::claude_cli::ClaudeCli;
use crate::model::opencode::OpenCode;
use crate::router::Router;
use crate::tool::Tools;

/// How often a node looks after itself.
const HOUSEKEEP_EVERY: Duration = Duration::from_secs(1);
/// How long files may be written when the server stops; the journal has what is not.
const STOP_PATIENCE: Duration = Duration::from_secs(4);
/// When the process ends after the turns ran out, whatever happens: with the default time for those, well within the
/// 30 s that supervisors wait.
const STOP_MAX: Duration = Duration::from_secs(9);

/// Serves until a signal says stop.
///
/// # Errors
///
/// When the data folder or the address cannot be used; the text says what to do.
pub async fn serve(config: Config, open: bool) -> anyhow::Result<()> {
    raise_file_limit();
    refuse_huge_pages();
    process::tether();
    let engine = engine(&config)?;
    let tools = engine.tools.clone();
    let node = Node::start(options(&config, engine))?;
    let router = Router::new(node.clone());
    let workers = or_cores(config.http.workers_count);
    let listen = config.http.listen;
    let server = http::bind(listen, workers, router).with_context(|| {
        format!(
            "listening on {listen}: if another server is there, take another address with --listen"
        )
    })?;
    let mut stops = Stops::listen().context("listening for signals")?;
    announce(&config, &server).context("writing to standard output")?;
    if open {
        open_browser(server.address);
    }
    let keeper = actix_web::rt::spawn(keep(node.clone()));
    stops.next().await;
    tracing::info!("stopping: no turn begins any more, those that run may end");
    tokio::select! {
        () = node.drain(Duration::from_millis(config.shutdown.drain_ms)) => {}
        () = stops.next() => {}
    }
    tracing::info!("stopping: telling every reader, writing the files");
    keeper.abort();
    let stop = async {
        node.stop(STOP_PATIENCE).await;
        server.handle.stop(true).await;
        tools.close().await;
    };
    if tokio::time::timeout(STOP_MAX, stop).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    tracing::info!("stopped");
    Ok(())
}

/// The signals that ask the server to stop: of a supervisor, of the keyboard, and of a terminal that is closed.
struct Stops(Vec<Signal>);

impl Stops {
    fn listen() -> io::Result<Self> {
        let mut kinds = vec![SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit()];
        // What was started to outlive its terminal does.
        if !process::ignores_hangup() {
            kinds.push(SignalKind::hangup());
        }
        kinds.into_iter().map(signal).collect::<io::Result<_>>().map(Self)
    }

    async fn next(&mut self) {
        let any = self.0.iter_mut().map(|signal| Box::pin(signal.recv()));
        futures_util::future::select_all(any).await;
    }
}

async fn keep(node: Node) {
    let housekeeping = async {
        let mut every = tokio::time::interval(HOUSEKEEP_EVERY);
        loop {
            every.tick().await;
            node.housekeep().await;
        }
    };
    tokio::join!(node.recover(), node.keep_list(), housekeeping);
}

fn or_cores(count: usize) -> usize {
    match count {
        0 => thread::available_parallelism().map_or(2, NonZero::get),
        count => count,
    }
}

/// Sets up the models and tools that the settings name.
fn engine(config: &Config) -> anyhow::Result<Engine> {
    let environment = crate::config::environment;
    let problem = |what: &'static str| move |problem: String| anyhow::anyhow!("{what}: {problem}");
    let mut providers = Providers::new(&config.models);
    if let Some(settings) = config.claude_cli.clone() {
        let cli = ClaudeCli::new(settings, &environment).map_err(problem("claude_cli"))?;
        providers = providers.with(Arc::new(cli));
    }
    if let Some(settings) = config.opencode.clone() {
        let opencode = OpenCode::new(settings, &environment).map_err(problem("opencode"))?;
        providers = providers.with(Arc::new(opencode));
    }
    let tools = Tools::new(&config.tools, &environment).map_err(problem("tools"))?;
    let (default, model) =
        providers.get(providers.default_address()).context("models.default cannot be used")?;
    if let Err(error) = default.check(&model, "")
        && error.kind == FailureKind::Request
    {
        return Err(error).context("models.default cannot be used");
    }
    for warning in providers.warnings(&config.models) {
        tracing::warn!("{warning}");
    }
    for name in providers.names() {
        metric::counters().provider(name);
    }
    Ok(Engine { providers: Arc::new(providers), tools })
}

fn options(config: &Config, engine: Engine) -> Options {
    Options {
        data: config.storage.data.clone(),
        shards: or_cores(config.actor.shards_count),
        awake_max: config.storage.open_files_count,
        sleep_after: Duration::from_millis(config.actor.sleep_after_ms),
        commit_delay: Duration::from_millis(config.storage.commit_delay_ms),
        file_delay: Duration::from_millis(config.storage.file_delay_ms),
        deltas_kept_ms: config.storage.deltas_kept_ms,
        checkpoint_bytes: config.storage.checkpoint_bytes,
        min_free_bytes: config.storage.min_free_bytes,
        segment_bytes: config.journal.segment_bytes,
        journal_bytes: config.journal.max_bytes,
        accept_damage: config.journal.accept_damage,
        engine,
        chat_model: config.chat.placeholder.then(|| "placeholder".to_owned()),
        limits: config.limits.clone(),
    }
}

fn announce(config: &Config, server: &http::Server) -> io::Result<()> {
    let data = config.storage.data.canonicalize()?;
    tracing::info!("sessile {}, data in {}", env!("CARGO_PKG_VERSION"), data.display());
    tracing::info!(
        "no credentials are configured: dev mode, everything is workspace `default`, user `dev`"
    );
    tracing::warn!("whoever can reach {} can read and write every session", server.address);
    if crate::config::environment("container").is_some() {
        tracing::warn!(
            "in a container nobody else reaches {}: run it with `--network host`, or share the network of a proxy",
            server.address
        );
    }
    tracing::info!(
        "model: {}; open http://{1}/ or try: curl -N http://{1}/chat/hello -d '{{\"content\":\"Hello\"}}'",
        config.models.default,
        server.address
    );
    let mut out = io::stdout();
    writeln!(out, "sessile listening on http://{}", server.address)?;
    out.flush()
}

fn open_browser(address: std::net::SocketAddr) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let url = format!("http://{address}/");
    if let Err(error) = std::process::Command::new(opener).arg(&url).spawn() {
        tracing::warn!(error = %error, "no browser could be opened; see {url}");
    }
}

/// Sockets and session files need descriptors; the default of 1,024 is for other programs.
fn raise_file_limit() {
    use rustix::process::Resource;
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, limit) {
        tracing::warn!(error = %error, "the limit on open files could not be raised");
    }
}

/// With huge pages an idle socket takes 25 KiB instead of 17: what it never touches is resident too.
fn refuse_huge_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(error = %error, "huge pages could not be switched off");
    }
}
