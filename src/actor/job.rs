//! A request in a mailbox, whatever the kind of the actor.

use std::any::Any;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::actor::hosted::Hosted;
use crate::wire::ask::Command as _;
use crate::wire::ask::Error;
use crate::wire::ask::Refusal;
use crate::wire::ask::Request;

/// Where an answer of an actor of kind `K` goes.
pub(super) type Reply<K> =
    oneshot::Sender<Result<<K as crate::wire::ask::Asks>::Answer, Error<RejectionOf<K>>>>;
type RejectionOf<K> = <K as crate::wire::ask::Asks>::Rejection;

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
pub(super) struct Asked<K: Hosted> {
    /// `None` once it is carried out.
    pub request: Request<K>,
    reply: Option<Reply<K>>,
}

impl<K: Hosted> Asked<K> {
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
pub(super) struct Replier<K: Hosted>(Option<Reply<K>>);

impl<K: Hosted> Replier<K> {
    /// Answers. A caller that went away does not care.
    pub(super) fn send(self, answer: Result<K::Answer, Error<K::Rejection>>) {
        if let Some(reply) = self.0 {
            drop(reply.send(answer));
        }
    }
}

impl<K: Hosted> Waiting for Asked<K> {
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

    /// The request as one to an actor of kind `K`; otherwise whoever only wanted it to be awake.
    pub(super) fn asked<K: Hosted>(self) -> Result<Asked<K>, Box<dyn Waiting>> {
        let is_asked = (&*self.waiting as &dyn Any).is::<Asked<K>>();
        if !is_asked {
            return Err(self.waiting);
        }
        let any: Box<dyn Any> = self.waiting;
        Ok(*any.downcast().expect("it was looked at"))
    }
}
