//! Those who ask: what they ask is chosen by chance, what they hear is compared with what is durable.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::actor::counter;
use crate::actor::counter::Counter;
use crate::actor::hosted::Hosted;
use crate::actor::job::Asked;
use crate::actor::simulation::commands;
use crate::actor::simulation::truth::Truth;
use crate::actor::simulation::world::World;
use crate::base::Classify as _;
use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::ids::IdempotencyKey;
use crate::domain::kind::Event as _;
use crate::domain::session;
use crate::domain::session::Head;
use crate::domain::session::View as _;
use crate::wire::ask::AnswerOf;
use crate::wire::ask::Backlog;
use crate::wire::ask::Error;
use crate::wire::ask::Idempotency;
use crate::wire::ask::Rejects;
use crate::wire::ask::Request;
use crate::wire::envelope::Answer;
use crate::wire::envelope::SessionKind;
use crate::wire::feed::Close;
use crate::wire::feed::Next;
use crate::wire::feed::Queue;

/// Somebody who waits for an answer of an actor of kind `K`.
struct Caller<K: Hosted> {
    key: Key,
    answer: oneshot::Receiver<AnswerOf<K>>,
}

/// Somebody who follows an actor.
struct Follower<K: Hosted> {
    key: Key,
    queue: Arc<Queue>,
    /// The seq of the last event that it has.
    after: u64,
    /// What its subscription began with, until that has come.
    begins: Option<oneshot::Receiver<AnswerOf<K>>>,
}

/// A command that was sent with a key, to be sent again.
struct Keyed<C> {
    key: Key,
    once: Idempotency,
    command: C,
}

/// Those who ask actors of kind `K`.
pub(super) struct Clients<K: Hosted> {
    callers: Vec<Caller<K>>,
    followers: Vec<Follower<K>>,
    keyed: Vec<Keyed<K::Command>>,
    count: u64,
}

/// What is asked of actors of a kind, and what may be heard.
pub(super) trait Asker: Hosted {
    fn any_command(world: &mut World, key: &Key) -> Self::Command;
    fn any_query(world: &mut World) -> Self::Query;
    /// Whether `answer` is what it may be while `truth` is durable.
    fn check(answer: &Self::Answer, truth: &Truth) -> Result<(), String>;
    fn backlog(answer: Self::Answer) -> Option<Backlog<Self::Snapshot>>;
}

impl<K: Asker> Clients<K> {
    pub(super) fn new() -> Self {
        Self { callers: Vec::new(), followers: Vec::new(), keyed: Vec::new(), count: 0 }
    }

    /// Sends `request` to the actor of `key`.
    pub(super) fn ask(&mut self, world: &mut World, key: &Key, request: Request<K>) {
        let (reply, answer) = oneshot::channel();
        let bytes = request.size();
        world.deliver(key, Asked::new(request, reply), bytes);
        self.callers.push(Caller { key: key.clone(), answer });
    }

    /// Somebody wants something of the actor of `key`.
    pub(super) fn act(&mut self, world: &mut World, key: &Key) {
        match world.chance.below(10) {
            0 if self.followers.len() < 6 => {
                let last_seq = world.truth(key).last_seq();
                let after = world.chance.below(last_seq + 1);
                let queue = Queue::new(8, 1 << 20);
                let key = key.clone();
                self.followers.push(Follower { key, queue, after, begins: None });
            }
            1 | 2 => {
                let query = K::any_query(world);
                self.ask(world, key, Request::Query(query));
            }
            3 if !self.keyed.is_empty() => {
                let keyed = &self.keyed[world.chance.index(self.keyed.len())];
                let key = keyed.key.clone();
                let request = Request::Command(keyed.command.clone(), Some(keyed.once.clone()));
                self.ask(world, &key, request);
            }
            _ => {
                let command = K::any_command(world, key);
                let once = world.chance.once_in(3).then(|| {
                    self.count += 1;
                    let name = IdempotencyKey::new(&format!("k{}", self.count));
                    Idempotency::of(name.expect("a name"), &command)
                });
                if let Some(once) = once.clone() {
                    let (key, command) = (key.clone(), command.clone());
                    self.keyed.push(Keyed { key, once, command });
                }
                self.ask(world, key, Request::Command(command, once));
            }
        }
    }

    /// The process died: whoever waited hears nothing, and followers come again.
    pub(super) fn disconnect(&mut self) {
        self.callers.clear();
        for follower in &mut self.followers {
            follower.queue.abandon();
            (follower.queue, follower.begins) = (Queue::new(8, 1 << 20), None);
        }
    }

    /// Hears what was said meanwhile.
    pub(super) fn listen(&mut self, world: &mut World) -> Result<(), String> {
        let mut at = 0;
        while at < self.callers.len() {
            let caller = &mut self.callers[at];
            match caller.answer.try_recv() {
                Err(TryRecvError::Empty) => at += 1,
                Err(TryRecvError::Closed) => drop(self.callers.swap_remove(at)),
                Ok(answer) => {
                    check_answer::<K>(&answer, world.truth(&caller.key))?;
                    self.callers.swap_remove(at);
                }
            }
        }
        let mut at = 0;
        while at < self.followers.len() {
            match self.followers[at].listen(world)? {
                true => at += 1,
                false => drop(self.followers.swap_remove(at)),
            }
        }
        Ok(())
    }
}

fn check_answer<K: Asker>(answer: &AnswerOf<K>, truth: &Truth) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{:?}: {what}: {answer:?}", truth.key));
    match answer {
        Ok(answer) => K::check(answer, truth),
        Err(Error::Rejected(no)) if no.code() == K::Rejection::absent().code() => {
            match truth.last_seq() == 0 || truth.key.kind() == ActorKind::Counter && truth.ended {
                true => Ok(()),
                false => wrong("it was lost"),
            }
        }
        Err(Error::Rejected(no)) if no.code() == K::Rejection::ended().code() => {
            if truth.ended {
                Ok(())
            } else {
                wrong("it has not ended")
            }
        }
        Err(Error::Quarantined(_) | Error::KeyReused | Error::ShuttingDown | Error::Starting) => {
            wrong("nobody should hear that")
        }
        Err(_) => Ok(()),
    }
}

impl<K: Asker> Follower<K> {
    /// Takes in what came; false once there is nothing more to come.
    fn listen(&mut self, world: &mut World) -> Result<bool, String> {
        let Some(begins) = &mut self.begins else {
            let (reply, begins) = oneshot::channel();
            let (after, queue) = (Some(self.after), Arc::clone(&self.queue));
            let request = Request::<K>::Subscribe { after, queue, absent_ok: false };
            world.deliver(&self.key, Asked::new(request, reply), 128);
            self.begins = Some(begins);
            return Ok(true);
        };
        match begins.try_recv() {
            Err(TryRecvError::Empty) => return Ok(true),
            // It has begun already.
            Err(TryRecvError::Closed) => {}
            Ok(Err(Error::Rejected(_))) => return Ok(false),
            Ok(Err(_)) => {
                self.begins = None;
                return Ok(true);
            }
            Ok(Ok(answer)) => {
                let backlog = K::backlog(answer).ok_or("no backlog")?;
                let more = backlog.more;
                self.begin(backlog, world.truth(&self.key))?;
                if more {
                    self.begins = None;
                    return Ok(true);
                }
            }
        }
        loop {
            match self.queue.next().now_or_never() {
                None => return Ok(true),
                Some(Next::Lagging) => {
                    self.begins = None;
                    return Ok(true);
                }
                Some(Next::Closed(Close::Deleted)) if world.truth(&self.key).ended => {
                    return Ok(false);
                }
                Some(Next::Closed(why)) => return Err(format!("{:?}: closed: {why:?}", self.key)),
                Some(Next::Frames(frames)) => {
                    let truth = world.truth(&self.key);
                    for frame in frames {
                        let seq = frame.seq.ok_or("a frame of nothing")?;
                        if seq != self.after + 1 || truth.frame(seq) != Some(&frame.text) {
                            let after = self.after;
                            return Err(format!(
                                "{:?}: frame {seq} came after {after}, and {} are durable: {}",
                                self.key,
                                truth.last_seq(),
                                frame.text
                            ));
                        }
                        self.after = seq;
                    }
                }
            }
        }
    }

    fn begin(&mut self, backlog: Backlog<K::Snapshot>, truth: &Truth) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{:?}: {what} of {backlog:?}", self.key));
        if backlog.last_seq > truth.last_seq() {
            return wrong("the end is not durable");
        }
        if backlog.snapshot.is_some() {
            self.after = backlog.last_seq;
            return Ok(());
        }
        for event in &backlog.events {
            let read = K::Event::decode(event.number, &event.frame).map_err(|e| e.to_string())?;
            if read.covers_from().unwrap_or(event.seq) > self.after + 1 {
                return wrong("there is a hole in the log");
            }
            self.after = event.seq;
        }
        match backlog.more || self.after == backlog.last_seq {
            true => Ok(()),
            false => wrong("something is missing at the end"),
        }
    }
}

impl Asker for SessionKind {
    fn any_command(world: &mut World, key: &Key) -> session::Command {
        commands::of_session(world, key)
    }

    fn any_query(world: &mut World) -> crate::wire::envelope::Query {
        commands::query(&mut world.chance)
    }

    fn check(answer: &Answer, truth: &Truth) -> Result<(), String> {
        let last_seq = truth.last_seq();
        let shown = match answer {
            Answer::Message { json, seq, created, .. } => {
                let frame = truth.frame(*seq);
                if *created && !frame.is_some_and(|frame| frame.contains(&**json)) {
                    return Err(format!("{:?}: {seq} does not hold {json}", truth.key));
                }
                *seq
            }
            Answer::Session { head, .. } => {
                let wanted = Head { last_hash: head.last_hash, ..truth.past.head().clone() };
                if head.last_seq == last_seq && **head != wanted {
                    return Err(format!("{:?}: {head:?} is not {wanted:?}", truth.key));
                }
                head.last_seq
            }
            Answer::Replayed { seq, .. } | Answer::Turn { seq, .. } | Answer::Done { seq } => *seq,
            Answer::Page(page) => page.page.messages.iter().map(|m| m.seq).max().unwrap_or(0),
            Answer::Found(message) => message.seq,
            _ => 0,
        };
        match shown <= last_seq {
            true => Ok(()),
            false => Err(format!("{:?}: {answer:?}, and {last_seq} are durable", truth.key)),
        }
    }

    fn backlog(answer: Answer) -> Option<crate::wire::envelope::Backlog> {
        match answer {
            Answer::Subscribed(backlog) => Some(*backlog),
            _ => None,
        }
    }
}

impl Asker for Counter {
    fn any_command(world: &mut World, _: &Key) -> counter::Command {
        commands::of_counter(world)
    }

    fn any_query(_: &mut World) -> counter::Read {
        counter::Read
    }

    fn check(answer: &counter::Answer, truth: &Truth) -> Result<(), String> {
        let counter::Answer::Value { value, seq } = answer else { return Ok(()) };
        let at = usize::try_from(*seq).map_err(|error| error.to_string())?;
        match truth.values.get(at) == Some(value) {
            true => Ok(()),
            false => Err(format!("{:?}: it never was {value} at {seq}", truth.key)),
        }
    }

    fn backlog(answer: counter::Answer) -> Option<Backlog<u64>> {
        match answer {
            counter::Answer::Subscribed(backlog) => Some(backlog),
            counter::Answer::Value { .. } => None,
        }
    }
}
