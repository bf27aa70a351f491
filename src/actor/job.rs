//! A request in a mailbox.

use std::time::Instant;

use tokio::sync::oneshot;

use crate::wire::envelope::Answer;
use crate::wire::envelope::Error;
use crate::wire::envelope::Request;

/// Where an answer goes.
pub(super) type Reply = oneshot::Sender<Result<Answer, Error>>;

/// A request in a mailbox.
pub(super) struct Job {
    pub request: Request,
    pub reply: Reply,
    pub at: Instant,
    pub bytes: usize,
}

impl Job {
    /// Answers it. A caller that went away does not care.
    pub(super) fn answer(self, answer: Result<Answer, Error>) {
        drop(self.reply.send(answer));
    }
}
