//! What the server counts: names are an enum in code, units are in the names, labels are closed sets.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::histogram::exponential_buckets;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::base::limits::Limit;
use crate::base::limits::TABLE;
use crate::base::vitals::Vitals;

type Label = &'static str;

/// `{limit}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LimitLabel {
    limit: Label,
}

/// `{kind, state}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ActorLabel {
    kind: Label,
    state: Label,
}

/// `{kind, cause}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CauseLabel {
    kind: Label,
    cause: Label,
}

/// `{kind, command, outcome}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CommandLabel {
    kind: Label,
    command: Label,
    outcome: Label,
}

/// `{transport}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TransportLabel {
    transport: Label,
}

/// `{action}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ActionLabel {
    action: Label,
}

/// `{outcome}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    outcome: Label,
}

/// `{how}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HowLabel {
    how: Label,
}

/// `{provider, outcome}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TurnLabel {
    provider: String,
    outcome: Label,
}

/// `{provider, direction}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TokenLabel {
    provider: String,
    direction: Label,
}

/// `{http_request_method, http_route, http_response_status_code}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HttpLabel {
    /// The method.
    pub http_request_method: Label,
    /// The pattern of the route, never the path.
    pub http_route: Label,
    /// The status.
    pub http_response_status_code: u16,
}

/// `{dialect}`
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DialectLabel {
    dialect: Label,
}

// The values of the labels, so that every series is there from the start: a rate needs a value before the first event.
const CAUSES: [Label; 2] = ["created", "request"];
const COMMANDS: [Label; 14] = [
    "create",
    "change",
    "delete",
    "add_message",
    "replace_parts",
    "delete_message",
    "start_turn",
    "write",
    "end_turn",
    "stop_turn",
    "approve",
    "expire_approvals",
    "change_items",
    "reconcile",
];
const SUBSCRIBERS: [Label; 7] = ["sse", "websocket", "poll", "chat", "ui", "ui-socket", "wait"];
const FRAMES: [Label; 2] = ["sse", "websocket"];
const CAUGHT_UP: [Label; 4] = ["file", "list", "rebuild", "wake"];
const SLOW: [Label; 3] = ["caught_up", "lagging", "closed"];
const LETTERS: [Label; 3] = ["heard", "retried", "dropped"];
const TIMERS: [Label; 3] = ["done", "retried", "dead"];
const DIALECTS: [Label; 3] = ["native", "chat", "ui"];
const TURNS: [Label; 5] = ["completed", "stopped", "interrupted", "failed", "waiting_approval"];

/// The process's counters.
pub struct Counters {
    registry: Registry,
    process: Registry,
    /// Open connections.
    pub connections: Gauge,
    /// Size of the journal's segments.
    pub journal_bytes: Gauge,
    /// Segments of the journal.
    pub journal_segments: Gauge,
    /// Free space where the sessions are.
    pub disk_free_bytes: Gauge,
    sockets: Family<DialectLabel, Gauge>,
    /// Durable records of the journal that could not be read at start.
    pub journal_damaged: Counter,
    /// Failed writes and syncs of the journal.
    pub journal_errors: Counter,
    /// Lines of the log that nobody took.
    pub log_dropped: Counter,
    /// Time of one write and sync of the journal.
    pub journal_sync: Histogram,
    /// Time of one commit of a session file.
    pub commit: Histogram,
    /// Events that became durable.
    pub events_appended: Counter,
    /// Frames of events that were given to a transport, before they were sent.
    pub frames_sent: Family<TransportLabel, Counter>,
    /// Time from asking for a session to having it.
    pub activation: Histogram,
    /// Sessions that the journal was ahead of at the start and that nobody has looked at yet.
    pub catch_up: Gauge,
    caught_up: Family<HowLabel, Counter>,
    limit_hits: Family<LimitLabel, Counter>,
    actors: Family<ActorLabel, Gauge>,
    activations: Family<CauseLabel, Counter>,
    commands: Family<CommandLabel, Counter>,
    subscribers: Family<TransportLabel, Gauge>,
    slow_consumers: Family<ActionLabel, Counter>,
    turns: Family<TurnLabel, Counter>,
    tokens: Family<TokenLabel, Counter>,
    /// Time from the beginning of a turn to the first that its model says.
    pub first_chunk: Histogram,
    timers: Family<OutcomeLabel, Counter>,
    letters: Family<OutcomeLabel, Counter>,
    http: Family<HttpLabel, Histogram, fn() -> Histogram>,
}

fn fine() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 18))
}

fn http_buckets() -> Histogram {
    // Source: OpenTelemetry's advice for http.server.request.duration.
    Histogram::new([
        0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    ])
}

/// The process's counters.
pub fn counters() -> &'static Counters {
    static COUNTERS: OnceLock<Counters> = OnceLock::new();
    COUNTERS.get_or_init(Counters::new)
}

impl Counters {
    fn new() -> Self {
        let counters = Self {
            registry: Registry::default(),
            process: Registry::default(),
            connections: Gauge::default(),
            journal_bytes: Gauge::default(),
            journal_segments: Gauge::default(),
            disk_free_bytes: Gauge::default(),
            sockets: Family::default(),
            journal_damaged: Counter::default(),
            journal_errors: Counter::default(),
            log_dropped: Counter::default(),
            journal_sync: fine(),
            commit: fine(),
            events_appended: Counter::default(),
            frames_sent: Family::default(),
            activation: fine(),
            catch_up: Gauge::default(),
            caught_up: Family::default(),
            limit_hits: Family::default(),
            actors: Family::default(),
            activations: Family::default(),
            commands: Family::default(),
            subscribers: Family::default(),
            slow_consumers: Family::default(),
            turns: Family::default(),
            tokens: Family::default(),
            first_chunk: http_buckets(),
            timers: Family::default(),
            letters: Family::default(),
            http: Family::new_with_constructor(http_buckets),
        };
        counters.begin();
        counters.register()
    }

    /// Makes every series whose labels are known.
    fn begin(&self) {
        self.actors("session", "active");
        for (limit, ..) in TABLE {
            drop(self.limit_hits.get_or_create(&LimitLabel { limit: limit.name() }));
        }
        for cause in CAUSES {
            drop(self.activations.get_or_create(&CauseLabel { kind: "session", cause }));
        }
        for command in COMMANDS {
            for outcome in ["accepted", "rejected", "replayed"] {
                self.commands("session", command, outcome);
            }
        }
        for transport in SUBSCRIBERS {
            self.subscribers(transport);
        }
        for transport in FRAMES {
            self.frames(transport);
        }
        for action in SLOW {
            drop(self.slow_consumers.get_or_create(&ActionLabel { action }));
        }
        for outcome in TIMERS {
            drop(self.timers.get_or_create(&OutcomeLabel { outcome }));
        }
        for outcome in LETTERS {
            drop(self.letters.get_or_create(&OutcomeLabel { outcome }));
        }
        for dialect in DIALECTS {
            self.sockets(dialect);
        }
        for how in CAUGHT_UP {
            self.caught_up(how);
        }
    }

    /// Makes the series of a provider that can be asked.
    pub fn provider(&self, name: &str) {
        for outcome in TURNS {
            drop(self.turns.get_or_create(&TurnLabel { provider: name.to_owned(), outcome }));
        }
        self.tokens(name, 0, 0);
    }

    /// What is running, and what it takes of the machine.
    fn register_machine(&self, registry: &mut Registry) {
        let info = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What is running", info);
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register("sockets", "Open sockets by what they speak", self.sockets.clone());
        registry.register("journal_bytes", "Size of the journal", self.journal_bytes.clone());
        registry.register(
            "journal_segments",
            "Segments of the journal",
            self.journal_segments.clone(),
        );
        registry.register(
            "disk_free_bytes",
            "Free space where the sessions are",
            self.disk_free_bytes.clone(),
        );
    }

    fn register_storage(&self, registry: &mut Registry) {
        registry.register("commands", "Commands by outcome", self.commands.clone());
        registry.register(
            "journal_sync_seconds",
            "Time to write and sync the journal",
            self.journal_sync.clone(),
        );
        registry.register(
            "journal_errors",
            "Failed writes of the journal",
            self.journal_errors.clone(),
        );
        registry.register(
            "log_dropped_lines",
            "Lines of the log that were dropped because nobody took them",
            self.log_dropped.clone(),
        );
        registry.register(
            "journal_damaged_records",
            "Damaged places found in the journal at start",
            self.journal_damaged.clone(),
        );
        registry.register(
            "sqlite_commit_seconds",
            "Time to commit a session file",
            self.commit.clone(),
        );
        registry.register(
            "events_appended",
            "Events that became durable",
            self.events_appended.clone(),
        );
    }

    fn register(mut self) -> Self {
        let mut registry = Registry::with_prefix("sessile");
        self.register_machine(&mut registry);
        registry.register("actors", "Sessions in memory by state", self.actors.clone());
        registry.register("activations", "Sessions woken, by cause", self.activations.clone());
        registry.register(
            "activation_duration_seconds",
            "Time to wake a session",
            self.activation.clone(),
        );
        registry.register(
            "catch_up_pending_sessions",
            "Sessions that the journal was ahead of at the start and that nobody has looked at yet",
            self.catch_up.clone(),
        );
        registry.register(
            "caught_up_sessions",
            "Sessions that were looked at because of a start: in their file, woken, for the list, for a new catalogue",
            self.caught_up.clone(),
        );
        self.register_storage(&mut registry);
        registry.register("subscribers", "Open subscriptions", self.subscribers.clone());
        registry.register("frames_sent", "Frames given to subscribers", self.frames_sent.clone());
        registry.register(
            "slow_consumers",
            "Subscribers that fell behind",
            self.slow_consumers.clone(),
        );
        registry.register("turns", "Turns by outcome", self.turns.clone());
        registry.register("tokens", "Tokens that models read and wrote", self.tokens.clone());
        registry.register(
            "turn_time_to_first_chunk_seconds",
            "Time to the first that a model says",
            self.first_chunk.clone(),
        );
        registry.register("timers", "Timers that fired, by outcome", self.timers.clone());
        let letters = self.letters.clone();
        registry.register("letters", "Deliveries from one actor to another, by outcome", letters);
        registry.register("limit_hits", "Requests beyond a limit", self.limit_hits.clone());
        let http = self.http.clone();
        registry.sub_registry_with_prefix("http").register(
            "server_request_duration_seconds",
            "Time to answer a request",
            http,
        );
        self.registry = registry;
        self.process.register_collector(Box::new(Vitals));
        self
    }

    /// Counts a request beyond `limit`.
    pub fn limit_hit(&self, limit: Limit) {
        self.limit_hits.get_or_create(&LimitLabel { limit: limit.name() }).inc();
    }

    /// The counter of sessions that were looked at because of a start, by `how`.
    pub fn caught_up(&self, how: Label) -> Counter {
        self.caught_up.get_or_create(&HowLabel { how }).clone()
    }

    /// The number of actors of `kind` in `state`.
    pub fn actors(&self, kind: Label, state: Label) -> Gauge {
        self.actors.get_or_create(&ActorLabel { kind, state }).clone()
    }

    /// Counts a wake.
    pub fn activated(&self, kind: Label, cause: Label) {
        self.activations.get_or_create(&CauseLabel { kind, cause }).inc();
    }

    /// The counter of commands to actors of `kind` called `command`, with `outcome`.
    pub fn commands(&self, kind: Label, command: Label, outcome: Label) -> Counter {
        self.commands.get_or_create(&CommandLabel { kind, command, outcome }).clone()
    }

    /// The number of open subscriptions over `transport`.
    pub fn subscribers(&self, transport: Label) -> Gauge {
        self.subscribers.get_or_create(&TransportLabel { transport }).clone()
    }

    /// The counter of frames sent over `transport`.
    pub fn frames(&self, transport: Label) -> Counter<u64, AtomicU64> {
        self.frames_sent.get_or_create(&TransportLabel { transport }).clone()
    }

    /// The number of open sockets that speak `dialect`.
    pub fn sockets(&self, dialect: Label) -> Gauge {
        self.sockets.get_or_create(&DialectLabel { dialect }).clone()
    }

    /// Counts a subscriber that fell behind.
    pub fn slow_consumer(&self, action: Label) {
        self.slow_consumers.get_or_create(&ActionLabel { action }).inc();
    }

    /// Counts a turn that ended.
    pub fn turn(&self, provider: &str, outcome: Label) {
        self.turns.get_or_create(&TurnLabel { provider: provider.to_owned(), outcome }).inc();
    }

    /// Counts what a turn cost.
    pub fn tokens(&self, provider: &str, input: u64, output: u64) {
        for (direction, count) in [("input", input), ("output", output)] {
            let label = TokenLabel { provider: provider.to_owned(), direction };
            self.tokens.get_or_create(&label).inc_by(count);
        }
    }

    /// Counts a timer that fired.
    pub fn timer(&self, outcome: Label) {
        self.timers.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts a delivery from one actor to another.
    pub fn letter(&self, outcome: Label) {
        self.letters.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts an answered request.
    pub fn http(&self, label: &HttpLabel, seconds: f64) {
        self.http.get_or_create(label).observe(seconds);
    }

    /// Everything, in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        for registry in [&self.process, &self.registry] {
            text::encode_registry(&mut out, registry).expect("writing to a string");
        }
        text::encode_eof(&mut out).expect("writing to a string");
        out
    }
}
