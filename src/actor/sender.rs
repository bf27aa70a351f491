//! The way to a shard.

use actix::Message;
use actix::Recipient;
use bytestring::ByteString;
use tokio::sync::oneshot;

use crate::actor::input::Input;
use crate::actor::job::Asked;
use crate::actor::job::Job;
use crate::actor::job::Letters;
use crate::actor::job::Wake;
use crate::base::Key;
use crate::base::clock;
use crate::base::limits::Limit;
use crate::base::metric;
use crate::storage::file::Letter;
use crate::wire::ask::AnswerOf;
use crate::wire::ask::Asks;
use crate::wire::ask::Error;
use crate::wire::ask::Refusal;
use crate::wire::ask::Request;

/// Sends requests to a shard. Cheap to clone.
#[derive(Clone)]
pub(super) struct Sender(Recipient<Step>);

impl Sender {
    pub(super) fn new(shard: Recipient<Step>) -> Self {
        Self(shard)
    }

    /// Asks the actor of `key`, which must be one of the shard's, and of kind `K`.
    pub(super) async fn ask<K: Asks>(&self, key: &Key, request: Request<K>) -> AnswerOf<K> {
        debug_assert_eq!(key.kind(), K::KIND, "{key:?} is asked as another kind");
        let (reply, answer) = oneshot::channel();
        let bytes = request.size();
        let job = Job { waiting: Asked::new(request, reply), at: clock::instant(), bytes };
        if !self.tell(Input::Deliver(key.clone(), job)) {
            return Err(Error::Overloaded(Limit::MailboxCount));
        }
        answer.await.unwrap_or(Err(Error::Reset))
    }

    /// Waits until the actor of `key` is awake, and so up to date.
    pub(super) async fn wake(&self, key: &Key) -> Result<(), Refusal> {
        let (reply, woken) = oneshot::channel();
        let job = Job::own(Wake::new(reply), clock::instant());
        if !self.tell(Input::Deliver(key.clone(), job)) {
            return Err(Refusal::Failed(Error::Overloaded(Limit::MailboxCount)));
        }
        woken.await.unwrap_or(Err(Refusal::Failed(Error::Reset)))
    }

    /// Brings `letters` of `from` to the actor of `to`; up to which one it has heard them then.
    pub(super) async fn tell_letters(
        &self,
        from: Key,
        to: &Key,
        letters: Vec<Letter>,
    ) -> Result<u64, Refusal> {
        let (reply, heard) = oneshot::channel();
        let waiting = Letters::new(from, letters, reply);
        let bytes = waiting.size();
        let job = Job { waiting, at: clock::instant(), bytes };
        if !self.tell(Input::Deliver(to.clone(), job)) {
            return Err(Refusal::Failed(Error::Overloaded(Limit::MailboxCount)));
        }
        heard.await.unwrap_or(Err(Refusal::Failed(Error::Reset)))
    }

    /// Gives `text` to all who follow the actor of `key` now.
    pub(super) fn publish(&self, key: &Key, text: ByteString) {
        self.tell(Input::Publish(key.clone(), text));
    }

    /// Asks for the file of `key` to be brought up to date soon.
    pub(super) fn urge(&self, key: Key) {
        // A full mailbox is tried again with the next round.
        drop(self.0.try_send(Step(Input::Urge(key))));
    }

    fn tell(&self, input: Input) -> bool {
        let told = self.0.try_send(Step(input)).is_ok();
        if !told {
            metric::counters().limit_hit(Limit::MailboxCount);
        }
        told
    }

    /// Says `input` and waits until it is carried out.
    pub(super) async fn step(&self, input: Input) {
        if self.0.send(Step(input)).await.is_err() {
            tracing::debug!("a shard is gone and has nothing left to do");
        }
    }
}

/// Something comes in.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Step(pub Input);
