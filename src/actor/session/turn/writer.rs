//! Posts what a turn writes: at once if nothing of it is on its way, otherwise what gathers meanwhile.

use std::collections::HashSet;
use std::time::Duration;
use std::time::Instant;

use crate::actor::sender::Sender;
use crate::base::Key;
use crate::base::clock;
use crate::base::json::Object;
use crate::domain::session::Command;
use crate::domain::session::Counted;
use crate::domain::session::Ending;
use crate::domain::session::Piece;
use crate::domain::session::Rejection;
use crate::model::Usage;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Request;

/// Between two posts is at least so many times as long as a post takes: nothing to speak of as long as the machine has time,
/// and when it has not, more deltas share a post.
const REST: u32 = 3;
/// But not more than this, so that no reader sees a pause.
const REST_MAX: Duration = Duration::from_millis(25);
/// Bytes at which deltas are not held back any longer; also of one delta.
const COALESCE_BYTES: usize = 8 << 10;
/// Pieces at which they are not held back any longer.
const COALESCE_COUNT: usize = 64;
/// How often the tokens so far are stored while an answer comes: a server may count them with every word.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// How often a command is tried again while the journal is in trouble, and the pause between.
const TRIES_MAX: u32 = 60;
const TRY_PAUSE: Duration = Duration::from_millis(500);

/// Why a turn can write no more.
#[derive(Debug)]
pub(super) enum Over {
    /// It was taken away: superseded, deleted, or the process ends.
    Taken,
    /// A bound was hit; the text says which.
    Bound(String),
}

/// Writes one attempt of one turn.
pub(super) struct Writer {
    sender: Sender,
    key: Key,
    turn_id: String,
    attempt: u32,
    pieces: Vec<Piece>,
    bytes: usize,
    /// Parts that the message has, with those that wait here.
    parts: usize,
    /// Ids of the calls in the message.
    calls: HashSet<String>,
    /// Tokens that are not stored, and the part that keeps them.
    count: Option<(usize, Usage)>,
    /// When tokens were last stored.
    counted: Option<Instant>,
    /// When the last post began.
    sent: Option<Instant>,
    /// How long a post took lately.
    taken: Duration,
}

/// The least time between the beginnings of two posts, if one takes so long.
fn rest_after(taken: Duration) -> Duration {
    (taken * REST).min(REST_MAX)
}

impl Writer {
    pub(super) fn new(
        sender: Sender,
        key: Key,
        turn_id: String,
        attempt: u32,
        parts: usize,
    ) -> Self {
        let (pieces, calls) = (Vec::new(), HashSet::new());
        let (count, counted, sent) = (None, None, None);
        let (bytes, taken) = (0, Duration::ZERO);
        Self {
            sender,
            key,
            turn_id,
            attempt,
            pieces,
            bytes,
            parts,
            calls,
            count,
            counted,
            sent,
            taken,
        }
    }

    /// Keeps the tokens so far of a call of the model in `part`, so that they are known if the process ends before it does.
    pub(super) fn count(&mut self, part: usize, usage: Usage) {
        self.count = Some((part, usage));
    }

    /// The message has a call of this id already.
    pub(super) fn has_call(&mut self, id: String) {
        self.calls.insert(id);
    }

    /// What a call is called that its provider calls `theirs`: in one message no two calls are the same, though some models
    /// count from 0 in every step.
    pub(super) fn call_id(&mut self, theirs: &str) -> String {
        let mut id = theirs.to_owned();
        let mut count = self.parts;
        while !self.calls.insert(id.clone()) {
            id = format!("{theirs}-{count}");
            count += 1;
        }
        id
    }

    /// Parts that the message has.
    pub(super) fn parts(&self) -> usize {
        self.parts
    }

    /// Adds a part; where it is.
    pub(super) fn open(&mut self, fields: Object) -> usize {
        let part = self.parts;
        self.parts += 1;
        self.update(part, fields);
        part
    }

    /// Gives members of a part new values.
    pub(super) fn update(&mut self, part: usize, fields: Object) {
        self.bytes += fields.iter().map(|(_, value)| value.as_str().len()).sum::<usize>();
        self.pieces.push(Piece::Update { part, fields });
    }

    /// Adds text to a part.
    pub(super) fn append(&mut self, part: usize, text: &str) {
        if text.is_empty() {
            return;
        }
        self.bytes += text.len();
        if let Some(Piece::Delta { part: last, text: before }) = self.pieces.last_mut()
            && *last == part
            && before.len() + text.len() <= COALESCE_BYTES
        {
            before.push_str(text);
            return;
        }
        let mut rest = text;
        while !rest.is_empty() {
            let mut end = rest.len().min(COALESCE_BYTES);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            self.pieces.push(Piece::Delta { part, text: rest[..end].to_owned() });
            rest = &rest[end..];
        }
    }

    /// When what waits must be posted; `None` if nothing waits.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.pieces.is_empty() {
            return None;
        }
        // The first words are shown at once.
        let sent = self.sent.filter(|_| !self.is_full());
        Some(sent.map_or_else(clock::instant, |sent| sent + rest_after(self.taken)))
    }

    /// Whether what waits must be posted now.
    pub(super) fn is_due(&self) -> bool {
        self.due().is_some_and(|due| due <= clock::instant())
    }

    /// Posts what waits if it cannot wait for what the provider has at hand: the first words, or as much as may wait.
    pub(super) async fn flush_at_once(&mut self) -> Result<(), Over> {
        let is_delta = |piece: &Piece| matches!(piece, Piece::Delta { .. });
        let first = self.sent.is_none() && self.pieces.iter().any(is_delta);
        if first || self.is_full() { self.flush().await } else { Ok(()) }
    }

    fn is_full(&self) -> bool {
        self.bytes >= COALESCE_BYTES || self.pieces.len() >= COALESCE_COUNT
    }

    /// Posts what waits; it is durable then.
    pub(super) async fn flush(&mut self) -> Result<(), Over> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        let due = self.counted.is_none_or(|at| at.elapsed() >= COUNT_EVERY);
        if let Some((part, usage)) = self.count.take_if(|_| due) {
            let counted = Counted {
                turn_id: self.turn_id.clone(),
                attempt: self.attempt,
                input_tokens: usage.input_tokens,
                output_tokens: usage.output_tokens,
            };
            self.update(part, Object::default().with("usage", &counted));
            self.counted = Some(clock::instant());
        }
        let pieces = std::mem::take(&mut self.pieces);
        self.bytes = 0;
        let (turn_id, attempt) = (self.turn_id.clone(), self.attempt);
        // Told from the beginning of a post: then the longest that a word waits is one rest and one post, not two posts.
        let sent = clock::instant();
        self.sent = Some(sent);
        let posted = self.post(Command::Write { turn_id, attempt, pieces }).await;
        self.taken = (self.taken * 3 + sent.elapsed()) / 4;
        posted
    }

    /// Ends the turn.
    pub(super) async fn end(&mut self, ending: Ending) -> Result<(), Over> {
        let (turn_id, attempt) = (self.turn_id.clone(), self.attempt);
        self.post(Command::EndTurn { turn_id, attempt, ending: Box::new(ending) }).await
    }

    /// Posts `command` until it is durable, or the turn is over.
    async fn post(&self, command: Command) -> Result<(), Over> {
        for _ in 0..TRIES_MAX {
            let request = Request::Command(command.clone(), None);
            match self.sender.ask(&self.key, request).await {
                Ok(Answer::Done { .. }) => return Ok(()),
                Err(Error::Rejected(rejection))
                    if matches!(*rejection, Rejection::Limit { .. }) =>
                {
                    return Err(Over::Bound(rejection.to_string()));
                }
                Ok(_) | Err(Error::Rejected(_) | Error::ShuttingDown) => return Err(Over::Taken),
                // What the journal could not take is void, so saying it again says it once.
                Err(error) => {
                    tracing::debug!(session.id = %self.key.id(), error = %error, "a turn waits for its session");
                    tokio::time::sleep(TRY_PAUSE).await;
                }
            }
        }
        tracing::warn!(session.id = %self.key.id(), "a turn of session {:?} gave up: it could not be stored", self.key);
        Err(Over::Taken)
    }
}
