//! A cell is an actor: its mailbox, its file while it is awake, its subscribers, and what its kind keeps.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::actor::delivery::Deliveries;
use crate::actor::host::Host;
use crate::actor::hub::Hub;
use crate::actor::job::Job;
use crate::actor::job::Waiting;
use crate::actor::job::Wake;
use crate::actor::kinds;
use crate::base::Key;
use crate::base::limits::Limit;
use crate::base::limits::Limits;
use crate::base::metric;
use crate::storage::file::AnyFile;
use crate::wire::ask::Error;
use crate::wire::ask::Refusal;

/// Where the file of an actor is.
pub(super) enum State {
    /// Closed; opened when something comes.
    Asleep,
    /// With a thread that opens it.
    Waking,
    /// Here.
    Awake(Box<dyn AnyFile>),
    /// With a thread that writes or closes it.
    Away {
        /// Whether something works for it.
        works: bool,
    },
    /// Cannot be used; tried again after a while.
    Quarantined { why: Arc<str>, until: Instant },
    /// The actor has ended.
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

/// First pause before a quarantined actor is tried again; doubled each time.
const QUARANTINE_PAUSE: Duration = Duration::from_secs(1);
const QUARANTINE_PAUSE_MAX: Duration = Duration::from_secs(60);

/// An actor.
pub(super) struct Cell {
    pub key: Key,
    pub state: State,
    pub jobs: VecDeque<Job>,
    job_bytes: usize,
    /// What its kind keeps: the batch that waits for the journal, and the tasks that work for it.
    pub host: Box<dyn Host>,
    pub hub: Hub,
    /// How far letters to others are on their way.
    pub deliveries: Deliveries,
    /// The life of whoever owns it, as of when its file was opened.
    pub epoch: u64,
    pub last_used: Instant,
    /// Whether nobody has used it since it woke.
    pub resting: bool,
    /// The last pause of one that is or was in quarantine.
    pause: Option<Duration>,
    /// Since when something waits for its commit.
    pub open_since: Instant,
    /// Whether it is among those that wait for their commit.
    pub awaits_commit: bool,
    /// When it became awake.
    pub awake_since: Instant,
    /// Bytes of events committed to the file since its log was last moved into it.
    pub log_bytes: usize,
    /// How far moving the log into the file is, of one that is in use all the time.
    pub checkpoint: Checkpoint,
    /// Whether its file has reached the largest size.
    pub full: bool,
    /// When its next timer is due, in milliseconds since the Unix epoch.
    pub next_timer_ms: Option<i64>,
}

impl Cell {
    pub(super) fn new(key: Key, now: Instant) -> Self {
        Self {
            host: kinds::host(key.kind()),
            key,
            state: State::Asleep,
            jobs: VecDeque::new(),
            job_bytes: 0,
            hub: Hub::default(),
            deliveries: Deliveries::default(),
            epoch: 0,
            last_used: now,
            resting: true,
            pause: None,
            open_since: now,
            awaits_commit: false,
            awake_since: now,
            log_bytes: 0,
            checkpoint: Checkpoint::Idle,
            full: false,
            next_timer_ms: None,
        }
    }

    /// Puts a job into the mailbox, or answers it at once if there is no room. One that is larger than the mailbox is
    /// taken when nothing else waits: "try again" would never come true.
    pub(super) fn push(&mut self, job: Job, limits: &Limits) {
        let limit = if self.jobs.len() >= limits.mailbox_count {
            Limit::MailboxCount
        } else if self.job_bytes > 0 && self.job_bytes + job.bytes > limits.mailbox_bytes {
            Limit::MailboxBytes
        } else {
            self.job_bytes += job.bytes;
            self.jobs.push_back(job);
            return;
        };
        metric::counters().limit_hit(limit);
        job.refuse(Refusal::Failed(Error::Overloaded(limit)));
    }

    /// Notes that somebody uses it, or only woke it, as recovery does: then it may sleep again at once.
    pub(super) fn note_use(&mut self, now: Instant) {
        if !self.jobs.iter().all(|job| job.waiting.wakes()) {
            self.resting = false;
            self.last_used = now;
        }
    }

    /// Refuses jobs that waited too long. Those of the runtime wait as long as it takes.
    pub(super) fn drop_old(&mut self, limits: &Limits, now: Instant) {
        let age = Duration::from_millis(limits.mailbox_age_ms);
        let is_old = |job: &Job| now.saturating_duration_since(job.at) > age;
        if !self.jobs.front().is_some_and(is_old) {
            return;
        }
        let (old, jobs): (Vec<_>, Vec<_>) =
            self.jobs.drain(..).partition(|job| is_old(job) && job.waiting.has_caller());
        self.jobs = jobs.into();
        for job in old {
            metric::counters().limit_hit(Limit::MailboxAge);
            job.refuse(Refusal::Failed(Error::Overloaded(Limit::MailboxAge)));
        }
        self.recount();
    }

    /// Notes how many bytes wait after jobs were taken.
    pub(super) fn recount(&mut self) {
        self.job_bytes = match self.jobs.is_empty() {
            true => 0,
            false => self.jobs.iter().map(|job| job.bytes).sum(),
        };
    }

    /// Refuses everything that waits.
    pub(super) fn refuse_all(&mut self, refusal: &Refusal) {
        for job in self.jobs.drain(..) {
            job.refuse(refusal.clone());
        }
        self.job_bytes = 0;
    }

    /// Whether somebody wants it to end: the only thing that needs no file.
    pub(super) fn is_to_end(&self) -> bool {
        self.jobs.iter().any(|job| job.waiting.ends())
    }

    /// Refuses everything that waits but the wishes for its end.
    pub(super) fn refuse_all_but_ends(&mut self, refusal: &Refusal) {
        let (ends, others): (Vec<_>, _) = self.jobs.drain(..).partition(|job| job.waiting.ends());
        others.into_iter().for_each(|job: Job| job.refuse(refusal.clone()));
        self.jobs = ends.into();
        self.recount();
    }

    /// It has ended: tells those who wanted that.
    pub(super) fn answer_ends(&mut self) {
        let (ends, others): (Vec<_>, _) = self.jobs.drain(..).partition(|job| job.waiting.ends());
        ends.into_iter().for_each(|mut job: Job| job.waiting.done());
        self.jobs = others.into();
        self.recount();
    }

    /// Takes it out of use for a while.
    pub(super) fn quarantine(&mut self, why: Arc<str>, now: Instant) {
        let pause =
            self.pause.map_or(QUARANTINE_PAUSE, |pause| (pause * 2).min(QUARANTINE_PAUSE_MAX));
        self.pause = Some(pause);
        tracing::error!(session.id = %self.key.id(), "{} {:?} is quarantined: {why}", self.kind(), self.key);
        let refusal = Refusal::Failed(Error::Quarantined(Arc::clone(&why)));
        self.refuse_all_but_ends(&refusal);
        self.state = State::Quarantined { why, until: now + pause };
    }

    /// Notes that something is about to wait for its commit, if nothing does already.
    pub(super) fn note_open(&mut self, now: Instant) {
        if let State::Awake(file) = &self.state
            && file.open_transaction().is_none()
        {
            self.open_since = now;
        }
    }

    /// What it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        self.key.kind().as_str()
    }

    /// Makes it wake, unless somebody waits for that already.
    pub(super) fn wake_up(&mut self, now: Instant) {
        let wakes = |job: &Job| job.waiting.wakes() && !job.waiting.has_caller();
        if !self.jobs.iter().any(wakes) {
            self.push_last(Wake::untold(), now);
        }
    }

    /// Puts one of the runtime's own jobs before everything that waits.
    pub(super) fn push_first(&mut self, waiting: Box<dyn Waiting>, now: Instant) {
        self.jobs.push_front(Job::own(waiting, now));
    }

    /// Puts one of the runtime's own jobs behind everything that waits.
    pub(super) fn push_last(&mut self, waiting: Box<dyn Waiting>, now: Instant) {
        self.jobs.push_back(Job::own(waiting, now));
    }

    /// Tells the tasks what became of the actor; if one that should work does not, the rows are made true.
    pub(super) fn attend(&mut self, woken: bool, now: Instant) {
        let State::Awake(file) = &self.state else { return };
        if let Some(waiting) = self.host.attend(&**file, woken) {
            self.push_first(waiting, now);
        }
    }

    /// Whether something works for it, or is about to.
    pub(super) fn works(&self) -> bool {
        match &self.state {
            State::Awake(file) => self.host.works(Some(&**file)),
            State::Away { works } => *works || self.host.works(None),
            _ => self.host.works(None),
        }
    }

    /// Whether the rows say that something works and nothing does, and nobody is about to see to it.
    pub(super) fn is_orphaned(&self) -> bool {
        let State::Awake(file) = &self.state else { return false };
        self.jobs.is_empty() && !self.host.is_in_flight() && self.host.is_orphaned(&**file)
    }

    /// Whether nothing is left of it but a name.
    pub(super) fn is_empty(&self) -> bool {
        let idle = matches!(self.state, State::Asleep | State::Gone);
        idle && self.jobs.is_empty()
            && self.hub.is_empty()
            && self.deliveries.is_settled()
            && !self.host.is_in_flight()
    }

    /// Whether nothing waits for the journal and no other thread has its file.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.host.is_in_flight()
            && self.checkpoint != Checkpoint::Beside
            && !matches!(self.state, State::Waking | State::Away { .. })
    }

    /// Whether it may be put to sleep.
    pub(super) fn may_sleep(&self) -> bool {
        let State::Awake(file) = &self.state else { return false };
        // Who moves its log would leave it beside a file that is closed meanwhile.
        self.jobs.is_empty()
            && !self.host.is_in_flight()
            && self.checkpoint != Checkpoint::Beside
            && self.host.is_idle(&**file)
    }

    /// Whether a batch could be made now.
    pub(super) fn is_ready(&self) -> bool {
        !self.jobs.is_empty()
            && !self.host.is_in_flight()
            && matches!(
                self.state,
                State::Awake(_) | State::Asleep | State::Quarantined { .. } | State::Gone
            )
    }
}
