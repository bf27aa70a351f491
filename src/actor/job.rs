//! A request in a mailbox, whatever the kind of the actor.

use std::any::Any;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::base::Key;
use crate::storage::file::Letter;
use crate::wire::ask::AnswerOf;
use crate::wire::ask::Asks;
use crate::wire::ask::Command as _;
use crate::wire::ask::Refusal;
use crate::wire::ask::Request;

/// Where an answer of an actor of kind `K` goes.
pub(super) type Reply<K> = oneshot::Sender<AnswerOf<K>>;

/// Somebody who waits for an actor.
pub(super) trait Waiting: Any + Send {
    /// Whether the actor need only be awake for it, so that it may sleep again at once.
    fn wakes(&self) -> bool;

    /// Whether it makes an actor that does not exist.
    fn may_create(&self) -> bool;

    /// Whether it ends the actor, which is possible without reading it.
    fn ends(&self) -> bool;

    /// Whether it must see a durable end of the log.
    fn subscribes(&self) -> bool;

    /// Whether somebody waits for the answer.
    fn has_caller(&self) -> bool;

    /// Says no.
    fn refuse(&mut self, refusal: Refusal);

    /// Says that it is done, to one that wanted the actor to be awake, or to end.
    fn done(&mut self);
}

/// A request to an actor of kind `K`.
pub(super) struct Asked<K: Asks> {
    pub request: Request<K>,
    /// `None`: nobody waits, or it was answered.
    reply: Option<Reply<K>>,
}

impl<K: Asks> Asked<K> {
    /// A request whose answer goes to `reply`.
    pub(super) fn new(request: Request<K>, reply: Reply<K>) -> Box<Self> {
        Box::new(Self { request, reply: Some(reply) })
    }

    /// A command that nobody waits for.
    pub(super) fn own(command: K::Command) -> Box<Self> {
        Box::new(Self { request: Request::Command(command, None), reply: None })
    }

    /// The request, and where its answer goes.
    pub(super) fn split(self) -> (Request<K>, Replier<K>) {
        (self.request, Replier(self.reply))
    }
}

/// Where an answer goes; nowhere, if nobody waits for it.
pub(super) struct Replier<K: Asks>(Option<Reply<K>>);

impl<K: Asks> Replier<K> {
    /// Whether somebody waits for it.
    pub(super) fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// Answers. A caller that went away does not care.
    pub(super) fn send(self, answer: AnswerOf<K>) {
        if let Some(reply) = self.0 {
            drop(reply.send(answer));
        }
    }
}

impl<K: Asks> Waiting for Asked<K> {
    fn wakes(&self) -> bool {
        matches!(&self.request, Request::Query(query) if K::is_wake(query))
    }

    fn may_create(&self) -> bool {
        match &self.request {
            Request::Command(command, _) => command.may_create(),
            Request::Subscribe { absent_ok, .. } => *absent_ok,
            Request::Query(_) => false,
        }
    }

    fn ends(&self) -> bool {
        matches!(&self.request, Request::Command(command, _) if command.ends())
    }

    fn subscribes(&self) -> bool {
        matches!(&self.request, Request::Subscribe { .. })
    }

    fn has_caller(&self) -> bool {
        self.reply.is_some()
    }

    fn refuse(&mut self, refusal: Refusal) {
        Replier::<K>(self.reply.take()).send(Err(refusal.into()));
    }

    fn done(&mut self) {
        Replier::<K>(self.reply.take()).send(Ok(K::ended()));
    }
}

/// Somebody who only wants the actor to be awake, and so up to date.
pub(super) struct Wake(Option<oneshot::Sender<Result<(), Refusal>>>);

impl Wake {
    /// One that is told.
    pub(super) fn new(reply: oneshot::Sender<Result<(), Refusal>>) -> Box<Self> {
        Box::new(Self(Some(reply)))
    }

    /// Nobody.
    pub(super) fn untold() -> Box<Self> {
        Box::new(Self(None))
    }

    fn tell(&mut self, what: Result<(), Refusal>) {
        if let Some(reply) = self.0.take() {
            drop(reply.send(what));
        }
    }
}

impl Waiting for Wake {
    fn wakes(&self) -> bool {
        true
    }

    fn may_create(&self) -> bool {
        false
    }

    fn ends(&self) -> bool {
        false
    }

    fn subscribes(&self) -> bool {
        false
    }

    fn has_caller(&self) -> bool {
        self.0.is_some()
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.tell(Err(refusal));
    }

    fn done(&mut self) {
        self.tell(Ok(()));
    }
}

/// Letters of another actor, in their order.
pub(super) struct Letters {
    pub from: Key,
    pub letters: Vec<Letter>,
    reply: Option<oneshot::Sender<Result<u64, Refusal>>>,
}

impl Letters {
    /// Letters whose sender hears up to which one they were heard.
    pub(super) fn new(
        from: Key,
        letters: Vec<Letter>,
        reply: oneshot::Sender<Result<u64, Refusal>>,
    ) -> Box<Self> {
        Box::new(Self { from, letters, reply: Some(reply) })
    }

    /// Tells the sender up to which letter it was heard, or why not.
    pub(super) fn answer(&mut self, heard: Result<u64, Refusal>) {
        if let Some(reply) = self.reply.take() {
            drop(reply.send(heard));
        }
    }

    /// About how many bytes they hold.
    pub(super) fn size(&self) -> usize {
        self.letters.iter().map(|letter| letter.body.len() + 64).sum()
    }
}

impl Waiting for Letters {
    fn wakes(&self) -> bool {
        false
    }

    fn may_create(&self) -> bool {
        true
    }

    fn ends(&self) -> bool {
        false
    }

    fn subscribes(&self) -> bool {
        false
    }

    fn has_caller(&self) -> bool {
        true
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.answer(Err(refusal));
    }

    fn done(&mut self) {
        self.answer(Err(Refusal::Ended));
    }
}

/// What a job turns out to be, to an actor of kind `K`.
pub(super) enum Work<K: Asks> {
    Asked(Asked<K>),
    Letters(Box<Letters>),
    Wake(Box<dyn Waiting>),
}

/// A request in a mailbox.
pub(super) struct Job {
    pub waiting: Box<dyn Waiting>,
    pub at: Instant,
    pub bytes: usize,
}

impl Job {
    /// One of the runtime's own.
    pub(super) fn own(waiting: Box<dyn Waiting>, at: Instant) -> Self {
        Self { waiting, at, bytes: 0 }
    }

    /// Says no.
    pub(super) fn refuse(mut self, refusal: Refusal) {
        self.waiting.refuse(refusal);
    }

    /// What it is to an actor of kind `K`.
    pub(super) fn work<K: Asks>(self) -> Work<K> {
        let any = &*self.waiting as &dyn Any;
        if any.is::<Asked<K>>() {
            let any: Box<dyn Any> = self.waiting;
            return Work::Asked(*any.downcast().expect("it was looked at"));
        }
        if any.is::<Letters>() {
            let any: Box<dyn Any> = self.waiting;
            return Work::Letters(any.downcast().expect("it was looked at"));
        }
        Work::Wake(self.waiting)
    }
}
