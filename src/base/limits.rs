//! Every bound of the server, in one table: what is bounded, by how much, and what a client hears beyond it.

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

/// Longest id of a session, message or idempotency key, in bytes.
pub const ID_BYTES_MAX: usize = 255;
/// Longest id of a call of a tool, in bytes. Model servers make them; some put what they must remember into it.
pub const CALL_ID_BYTES_MAX: usize = 4 << 10;
/// Deepest JSON that is accepted; `serde_json` itself stops at 128.
pub const JSON_DEPTH_MAX: usize = 32;
/// Largest page of history, in messages; also of the session list.
pub const PAGE_MAX: usize = 200;
/// Bytes of what the messages or items of a page say, but for a single larger one: the page ends there, and says that
/// there are more.
pub const PAGE_BYTES_MAX: usize = 8 << 20;
/// Page size when the client does not say.
pub const PAGE_DEFAULT: usize = 25;
/// Commands that one batch of an actor takes from its mailbox.
pub const BATCH_COMMANDS_MAX: usize = 256;
/// Bytes of commands that one batch takes.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Size of a session file up to which it is read whole whenever it is opened, and made anew when it is damaged.
pub const WHOLE_CHECK_BYTES_MAX: u64 = 512 << 20;
/// Events that one read of the log gives.
pub const REPLAY_EVENTS_MAX: usize = 1_000;
/// Bytes of events that one read of the log gives, but for a single larger event.
pub const REPLAY_BYTES_MAX: usize = 1 << 20;
/// Longest reason a close frame can carry: control frames hold 125 bytes, the code takes two. Source: RFC 6455, 5.5.
pub const CLOSE_REASON_BYTES_MAX: usize = 123;
/// Letters to others that wait in one actor's outbox.
pub const OUTBOX_COUNT_MAX: usize = 10_000;
/// Turns of one session that wait behind the running one.
pub const QUEUED_TURNS_MAX: usize = 16;

// Whoever waits gives up later than the one it waits for, so that the inner error is the one reported.
const _: () = assert!(BATCH_COMMANDS_MAX <= 1_024);
const _: () = assert!(PAGE_DEFAULT <= PAGE_MAX);

/// Bounds that an operator may change: section `[limits]` of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest request body, in bytes. Default 1 MiB.
    pub body_bytes: usize,
    /// Longest pause inside a request body, in milliseconds. Default 10 s.
    pub body_idle_ms: u64,
    /// Longest time for a whole request body, in milliseconds. Default 30 s.
    pub body_total_ms: u64,
    /// Longest text of a message, in bytes. Default 128 KiB.
    pub content_bytes: usize,
    /// Most parts of a message that a client sends. Default 256.
    pub parts_count: usize,
    /// Largest part, in bytes. Default 256 KiB.
    pub part_bytes: usize,
    /// Largest metadata of a session or message, in bytes. Default 16 KiB.
    pub metadata_bytes: usize,
    /// Longest title, in bytes. Default 1 KiB.
    pub title_bytes: usize,
    /// Commands that wait for one actor. Default 1,024.
    pub mailbox_count: usize,
    /// Bytes of commands that wait for one actor; a larger one waits alone. Default 8 MiB.
    pub mailbox_bytes: usize,
    /// Age at which a waiting command is refused, in milliseconds. Default 10 s.
    pub mailbox_age_ms: u64,
    /// Frames that wait for one subscriber. Default 1,024.
    pub queue_count: usize,
    /// Bytes of frames that wait for one subscriber. Default 1 MiB.
    pub queue_bytes: usize,
    /// Subscribers of one session. Default 4,096.
    pub subscribers_count: usize,
    /// Largest frame or message that a socket accepts, in bytes. Default 256 KiB.
    pub socket_frame_bytes: usize,
    /// Most fragments of one socket message. Default 64.
    pub socket_fragments_count: usize,
    /// Messages a socket may send in a minute, a quarter of them at once. Default 120.
    pub socket_messages_per_minute: u32,
    /// Ping, pong and empty frames a socket may send in a minute. Default 60.
    pub socket_controls_per_minute: u32,
    /// Time for which a socket may refuse to take bytes before it is cut, in milliseconds. Default 10 s.
    pub socket_stuck_ms: u64,
    /// Pause after which the server pings a quiet socket or stream, in milliseconds. Default 25 s.
    pub ping_ms: u64,
    /// Silence after a ping at which a socket is dead, in milliseconds. Default 20 s.
    pub pong_ms: u64,
    /// Connections of the whole node. Default 16,000.
    pub connections_count: usize,
    /// Size at which a session's file takes no more writes, in bytes; reads and deletes go on. Default 10 GiB.
    pub session_bytes: u64,
    /// Largest body of a request that carries files, in bytes; of one that carries the history as well, what is left
    /// without the messages before the last one. Default 8 MiB.
    pub turn_body_bytes: usize,
    /// Largest body, or socket frame, of a client that sends the whole conversation each time, in bytes. All but its last
    /// message is passed over. Default 64 MiB.
    pub history_body_bytes: usize,
    /// Largest part of a message that a turn answers, as a file in it, in bytes. Default 4 MiB.
    pub file_bytes: usize,
    /// Largest item of an agent, in bytes. Default 2 MiB.
    pub item_bytes: usize,
    /// Longest text of one part that a model writes, in bytes. Default 8 MiB.
    pub answer_bytes: usize,
    /// Most parts of an answer; an agent that works for an hour makes hundreds. Default 4,096.
    pub answer_parts_count: usize,
    /// Bytes of the conversation that a model is given, the newest messages first. Default 4 MiB.
    pub history_bytes: usize,
    /// Calls of the model in one turn. Default 5.
    pub turn_steps_count: u32,
    /// Longest turn, in milliseconds. Default 10 min.
    pub turn_ms: u64,
    /// Longest time in which a turn writes nothing, or its model sends nothing, in milliseconds. Default 5 min.
    pub turn_no_progress_ms: u64,
    /// How often a turn that was cut off before it wrote anything is begun again. Default 0.
    pub turn_retries_count: u32,
    /// How long a tool call waits for its approval, in milliseconds. Default 24 h.
    pub approval_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            body_idle_ms: 10_000,
            body_total_ms: 30_000,
            content_bytes: 128 << 10,
            parts_count: 256,
            part_bytes: 256 << 10,
            metadata_bytes: 16 << 10,
            title_bytes: 1 << 10,
            mailbox_count: 1_024,
            mailbox_bytes: 8 << 20,
            mailbox_age_ms: 10_000,
            queue_count: 1_024,
            queue_bytes: 1 << 20,
            subscribers_count: 4_096,
            socket_frame_bytes: 256 << 10,
            socket_fragments_count: 64,
            socket_messages_per_minute: 120,
            socket_controls_per_minute: 60,
            socket_stuck_ms: 10_000,
            ping_ms: 25_000,
            pong_ms: 20_000,
            connections_count: 16_000,
            session_bytes: 10 << 30,
            turn_body_bytes: 8 << 20,
            history_body_bytes: 64 << 20,
            file_bytes: 4 << 20,
            item_bytes: 2 << 20,
            answer_bytes: 8 << 20,
            answer_parts_count: 4_096,
            history_bytes: 4 << 20,
            turn_steps_count: 5,
            turn_ms: 600_000,
            turn_no_progress_ms: 300_000,
            turn_retries_count: 0,
            approval_ms: 86_400_000,
        }
    }
}

/// A bound that can be hit, with what the client hears: the label of `sessile_limit_hits_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Limit {
    /// A request body was too large.
    Body,
    /// A request body came too slowly.
    BodyTime,
    /// A message's text was too long.
    Content,
    /// A message had too many parts.
    Parts,
    /// One part was too large.
    Part,
    /// Metadata was too large.
    Metadata,
    /// A title was too long.
    Title,
    /// JSON was too deep.
    Depth,
    /// Too many commands waited for one actor.
    MailboxCount,
    /// Too many bytes waited for one actor.
    MailboxBytes,
    /// A command waited too long.
    MailboxAge,
    /// Too much that an actor told others was not heard yet.
    Outbox,
    /// A subscriber fell behind by too many frames or bytes.
    Queue,
    /// A session had too many subscribers.
    Subscribers,
    /// A socket announced too large a frame.
    Frame,
    /// A socket message came in too many fragments.
    Fragments,
    /// A socket sent too many messages or control frames.
    SocketRate,
    /// A socket took no bytes for too long.
    Stuck,
    /// Too many turns waited in one session.
    Turns,
    /// A session's file was full.
    Session,
    /// The disk was full.
    Disk,
    /// A file in a message was too large.
    File,
    /// An agent's item was too large.
    Item,
    /// A model wrote too much.
    Answer,
}

/// One row per [`Limit`]: its name in metrics, and the code and HTTP status of the answer beyond it.
pub const TABLE: &[(Limit, &str, &str, u16)] = &[
    (Limit::Body, "body_bytes", "too_large", 413),
    (Limit::BodyTime, "body_time", "body_timeout", 408),
    (Limit::Content, "content_bytes", "too_large", 413),
    (Limit::Parts, "parts_count", "too_large", 413),
    (Limit::Part, "part_bytes", "too_large", 413),
    (Limit::Metadata, "metadata_bytes", "too_large", 413),
    (Limit::Title, "title_bytes", "too_large", 413),
    (Limit::Depth, "json_depth", "invalid", 400),
    (Limit::MailboxCount, "mailbox_count", "overloaded.queue_count", 503),
    (Limit::MailboxBytes, "mailbox_bytes", "overloaded.queue_bytes", 503),
    (Limit::MailboxAge, "mailbox_age", "overloaded.queue_age", 503),
    (Limit::Outbox, "outbox_count", "overloaded.queue_count", 503),
    (Limit::Queue, "subscriber_queue", "slow_consumer", 0),
    (Limit::Subscribers, "subscribers_count", "too_many_subscribers", 503),
    (Limit::Frame, "socket_frame_bytes", "too_large", 0),
    (Limit::Fragments, "socket_fragments", "too_large", 0),
    (Limit::SocketRate, "socket_rate", "rate_limited", 429),
    (Limit::Stuck, "socket_stuck", "slow_consumer", 0),
    (Limit::Turns, "turns_queued", "turn_in_progress", 409),
    (Limit::Session, "session_bytes", "session_full", 507),
    (Limit::Disk, "disk", "storage_full", 507),
    (Limit::File, "file_bytes", "too_large", 413),
    (Limit::Item, "item_bytes", "too_large", 413),
    (Limit::Answer, "answer_bytes", "too_large", 413),
];

impl Limit {
    fn row(self) -> &'static (Self, &'static str, &'static str, u16) {
        TABLE.iter().find(|row| row.0 == self).expect("every limit has a row")
    }

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Code of the answer beyond it.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.row().2
    }

    /// HTTP status of the answer beyond it; 0 where only a socket can hit it.
    #[must_use]
    pub fn status(self) -> u16 {
        self.row().3
    }
}
