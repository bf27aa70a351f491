//! A session's actor: its mailbox, its file while it is awake, its subscribers, the turn that runs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::actor::batch::Batch;
use crate::actor::hub::Hub;
use crate::actor::job::Job;
use crate::base::Key;
use crate::base::clock;
use crate::base::limits::Limit;
use crate::base::limits::Limits;
use crate::base::metric;
use crate::domain::session::Command;
use crate::domain::session::Turn;
use crate::domain::session::TurnState;
use crate::storage::session::SessionFile;
use crate::wire::envelope::Error;
use crate::wire::envelope::Query;
use crate::wire::envelope::Request;

/// Where a session's file is.
pub(super) enum State {
    /// Closed; opened when something comes.
    Asleep,
    /// With a thread that opens it.
    Waking,
    /// Here.
    Awake(Box<SessionFile>),
    /// With a thread that writes or closes it.
    Away,
    /// Cannot be used; tried again after a while.
    Quarantined { why: Arc<str>, until: Instant },
    /// The session was deleted.
    Gone,
}

/// How far moving the write-ahead log into the file is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Checkpoint {
    /// Not begun.
    Idle,
    /// Another connection moves most of it, beside the traffic.
    Beside,
    /// The rest can be moved in a short pause, so that the log starts over.
    Rest,
}

/// A turn that a task of this process is writing.
pub(super) struct Writing {
    /// Its id.
    pub turn_id: String,
    /// Its attempt.
    pub attempt: u32,
    /// Tells the task to end; dropping it as well.
    pub stop: watch::Sender<bool>,
}

/// First pause before a quarantined session is tried again; doubled each time.
const QUARANTINE_PAUSE: Duration = Duration::from_secs(1);
const QUARANTINE_PAUSE_MAX: Duration = Duration::from_secs(60);

/// A session's actor.
pub(super) struct Cell {
    pub key: Key,
    pub state: State,
    pub jobs: VecDeque<Job>,
    job_bytes: usize,
    /// What waits for the journal.
    pub in_flight: Option<Batch>,
    pub hub: Hub,
    /// The turn that a task of this process is writing.
    pub writing: Option<Writing>,
    pub last_used: Instant,
    /// Whether nobody has used it since it woke.
    pub resting: bool,
    /// The last pause of a session that is or was in quarantine.
    pause: Option<Duration>,
    /// When it became awake.
    pub awake_since: Instant,
    /// Bytes of events committed to the file since its log was last moved into it.
    pub log_bytes: usize,
    /// How far moving the log into the file is, of a session that is in use all the time.
    pub checkpoint: Checkpoint,
    /// Whether its file has reached the largest size.
    pub full: bool,
    /// When its next timer is due, in milliseconds since the Unix epoch.
    pub next_timer_ms: Option<i64>,
}

impl Cell {
    pub(super) fn new(key: Key) -> Self {
        let now = clock::instant();
        Self {
            key,
            state: State::Asleep,
            jobs: VecDeque::new(),
            job_bytes: 0,
            in_flight: None,
            hub: Hub::default(),
            writing: None,
            last_used: now,
            resting: true,
            pause: None,
            awake_since: now,
            log_bytes: 0,
            checkpoint: Checkpoint::Idle,
            full: false,
            next_timer_ms: None,
        }
    }

    /// Puts a job into the mailbox, or answers it at once if there is no room.
    pub(super) fn push(&mut self, job: Job, limits: &Limits) {
        let limit = if self.jobs.len() >= limits.mailbox_count {
            Limit::MailboxCount
        } else if self.job_bytes + job.bytes > limits.mailbox_bytes {
            Limit::MailboxBytes
        } else {
            self.job_bytes += job.bytes;
            self.jobs.push_back(job);
            return;
        };
        metric::counters().limit_hit(limit);
        job.answer(Err(Error::Overloaded(limit)));
    }

    /// Notes that somebody uses it, or only woke it, as recovery does: then it may sleep again at once.
    pub(super) fn note_use(&mut self) {
        let wakes = |job: &Job| matches!(job.request, Request::Query(Query::Wake));
        self.resting = self.resting && self.jobs.iter().all(wakes);
        self.last_used = clock::instant();
    }

    /// Refuses jobs that waited too long.
    pub(super) fn drop_old(&mut self, limits: &Limits) {
        let age = Duration::from_millis(limits.mailbox_age_ms);
        while self.jobs.front().is_some_and(|job| job.at.elapsed() > age) {
            let Some(job) = self.jobs.pop_front() else { break };
            metric::counters().limit_hit(Limit::MailboxAge);
            job.answer(Err(Error::Overloaded(Limit::MailboxAge)));
        }
    }

    /// Notes how many bytes wait after jobs were taken.
    pub(super) fn recount(&mut self) {
        self.job_bytes = match self.jobs.is_empty() {
            true => 0,
            false => self.jobs.iter().map(|job| job.bytes).sum(),
        };
    }

    /// Refuses everything that waits.
    pub(super) fn refuse_all(&mut self, error: &Error) {
        for job in self.jobs.drain(..) {
            job.answer(Err(error.clone()));
        }
        self.job_bytes = 0;
    }

    /// Takes out the requests for its deletion: the only ones that need no file.
    pub(super) fn take_deletions(&mut self) -> Vec<Job> {
        let deletes = |job: &Job| matches!(job.request, Request::Command(Command::Delete, _));
        let (deletions, others): (Vec<_>, _) = self.jobs.drain(..).partition(deletes);
        self.jobs = others.into();
        deletions
    }

    /// Takes the session out of use for a while.
    pub(super) fn quarantine(&mut self, why: Arc<str>) {
        let pause =
            self.pause.map_or(QUARANTINE_PAUSE, |pause| (pause * 2).min(QUARANTINE_PAUSE_MAX));
        self.pause = Some(pause);
        tracing::error!(session.id = %self.key.id(), "session {:?} is quarantined: {why}", self.key);
        let until = clock::instant() + pause;
        self.refuse_all(&Error::Quarantined(Arc::clone(&why)));
        self.state = State::Quarantined { why, until };
    }

    /// Tells the task of the running turn what became of it; if there is no task, the rows are made true.
    pub(super) fn heed(&mut self, turn: Option<Turn>) {
        let Some(turn) = turn.filter(|turn| turn.state.is_active()) else {
            self.writing = None;
            return;
        };
        let mine = |writing: &&Writing| {
            writing.turn_id == turn.id
                && writing.attempt == turn.attempt
                && !writing.stop.is_closed()
        };
        match self.writing.as_ref().filter(mine) {
            Some(writing) if turn.state == TurnState::Stopping => {
                // A task that is gone already has posted the end.
                let _gone = writing.stop.send(true);
            }
            Some(_) => {}
            None => self.reconcile(),
        }
    }

    /// Makes the rows true: no task writes the turn that they call running.
    pub(super) fn reconcile(&mut self) {
        let (reply, _) = oneshot::channel();
        let request = Request::Command(Command::Reconcile, None);
        self.jobs.push_front(Job { request, reply, at: clock::instant(), bytes: 0 });
    }

    /// Makes the rows true behind everything that waits already.
    pub(super) fn reconcile_last(&mut self) {
        let (reply, _) = oneshot::channel();
        let request = Request::Command(Command::Reconcile, None);
        self.jobs.push_back(Job { request, reply, at: clock::instant(), bytes: 0 });
    }

    /// Whether a turn runs in it, or is about to.
    pub(super) fn runs_turn(&self) -> bool {
        let begins = self.in_flight.as_ref().is_some_and(|batch| !batch.starts.is_empty());
        let writes = |file: &SessionFile| {
            file.head().active_turn.as_ref().is_some_and(|turn| turn.state.is_active())
        };
        begins || matches!(&self.state, State::Awake(file) if writes(file))
    }

    /// Whether the rows call a turn running that no task writes: it gave up while nothing could be stored.
    pub(super) fn is_forsaken(&self) -> bool {
        let State::Awake(file) = &self.state else { return false };
        let writes = file.head().active_turn.as_ref().is_some_and(|turn| turn.state.is_active());
        let alive = self.writing.as_ref().is_some_and(|writing| !writing.stop.is_closed());
        writes && !alive && self.jobs.is_empty() && self.in_flight.is_none()
    }

    /// Whether nothing is left of it but a name.
    pub(super) fn is_empty(&self) -> bool {
        let idle = matches!(self.state, State::Asleep | State::Gone);
        idle && self.jobs.is_empty() && self.hub.is_empty() && self.in_flight.is_none()
    }

    /// Whether it may be put to sleep.
    pub(super) fn may_sleep(&self) -> bool {
        let State::Awake(file) = &self.state else { return false };
        let idle = self.jobs.is_empty() && self.in_flight.is_none();
        let writes = file.head().active_turn.as_ref().is_some_and(|turn| turn.state.is_active());
        idle && self.writing.is_none() && !writes
    }

    /// Whether a batch could be made now.
    pub(super) fn is_ready(&self) -> bool {
        !self.jobs.is_empty()
            && self.in_flight.is_none()
            && matches!(
                self.state,
                State::Awake(_) | State::Asleep | State::Quarantined { .. } | State::Gone
            )
    }
}
