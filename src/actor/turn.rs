//! The task that asks the model and posts what it says back as commands: the model never runs inside a mailbox.

use std::time::Duration;
use std::time::Instant;

use crate::actor::batch::Start;
use crate::actor::shard::Sender;
use crate::base::Key;
use crate::base::clock;
use crate::base::metric;
use crate::domain::session::Command;
use crate::model::echo;
use crate::model::echo::Piece;
use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Request;

/// Deltas are put together for this long, so that one sync covers many tokens. Source: architecture.md, section 3.
const COALESCE: Duration = Duration::from_millis(25);
/// Bytes at which deltas are not held back any longer.
const COALESCE_BYTES: usize = 8 << 10;
/// How often a command is tried again while the journal is in trouble, and the pause between.
const TRIES_MAX: u32 = 60;
const TRY_PAUSE: Duration = Duration::from_millis(500);

/// What is said in place of an answer when the operator wants source 001's literal. Source: requirements S1-36.
const PLACEHOLDER: &str = "I received your message. Agent integration coming in Phase 2 Plan 06.";

/// Runs one turn to its end. Whoever watches it may come and go.
pub(super) async fn run(sender: Sender, key: Key, start: Start, placeholder: bool) {
    let turn_id = start.turn.id;
    let mut writer = Writer { sender, key, turn_id, text: String::new(), sent: None };
    let mut failure = None;
    if placeholder {
        writer.text.push_str(PLACEHOLDER);
    } else {
        for step in echo::answer(&start.text) {
            if !step.pause.is_zero() {
                if writer.flush_if_due().await.is_err() {
                    return;
                }
                tokio::time::sleep(step.pause).await;
            }
            match step.piece {
                Piece::Text(text) => writer.text.push_str(&text),
                Piece::Failure(reason) => {
                    failure = Some(reason);
                    break;
                }
            }
            if writer.flush_if_due().await.is_err() {
                return;
            }
        }
    }
    if writer.flush().await.is_err() {
        return;
    }
    let outcome = if failure.is_some() { "failed" } else { "completed" };
    let turn_id = writer.turn_id.clone();
    if writer.post(Command::EndTurn { turn_id, error: failure }).await.is_ok() {
        metric::counters().turn("echo", outcome);
    }
}

/// The turn was taken away: superseded, deleted, or the process ends.
struct Over;

struct Writer {
    sender: Sender,
    key: Key,
    turn_id: String,
    text: String,
    sent: Option<Instant>,
}

impl Writer {
    async fn flush_if_due(&mut self) -> Result<(), Over> {
        let due = self.sent.is_none_or(|at| at.elapsed() >= COALESCE);
        if due || self.text.len() >= COALESCE_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Over> {
        while !self.text.is_empty() {
            let mut end = self.text.len().min(COALESCE_BYTES);
            while !self.text.is_char_boundary(end) {
                end -= 1;
            }
            let rest = self.text.split_off(end);
            let text = std::mem::replace(&mut self.text, rest);
            let turn_id = self.turn_id.clone();
            self.post(Command::AppendText { turn_id, text }).await?;
            self.sent = Some(clock::instant());
        }
        Ok(())
    }

    /// Posts `command` until it is durable, or the turn is over.
    async fn post(&self, command: Command) -> Result<(), Over> {
        for _ in 0..TRIES_MAX {
            let request = Request::Command(command.clone(), None);
            match self.sender.ask(&self.key, request).await {
                Ok(Answer::Done { .. }) => return Ok(()),
                Ok(_) | Err(Error::Rejected(_) | Error::ShuttingDown) => return Err(Over),
                Err(error) => {
                    tracing::debug!(session.id = %self.key.id(), error = %error, "a turn waits for its session");
                    tokio::time::sleep(TRY_PAUSE).await;
                }
            }
        }
        tracing::warn!(session.id = %self.key.id(), "a turn of session {:?} gave up: it could not be stored", self.key);
        Err(Over)
    }
}
