//! The part of a cell that knows the kind of its actor, behind what the runtime needs to know of it.

use std::collections::VecDeque;

use crate::actor::batch;
use crate::actor::batch::Batch;
use crate::actor::batch::Flags;
use crate::actor::batch::Made;
use crate::actor::hosted::FileOf;
use crate::actor::hosted::Hosted;
use crate::actor::hub::Hub;
use crate::actor::job::Asked;
use crate::actor::job::Job;
use crate::actor::job::Waiting;
use crate::actor::rules::Rules;
use crate::actor::tasks::Task;
use crate::actor::timers;
use crate::storage;
use crate::storage::file::AnyFile;
use crate::storage::journal::Encoded;
use crate::wire::ask::Error;
use crate::wire::ask::Refusal;

/// What came of a batch.
pub(super) enum Outcome {
    /// Nothing has to be durable; everybody was answered.
    Nothing,
    /// This must be durable first.
    Record(Encoded),
    /// The file failed; everybody was told.
    Failed(storage::Error),
}

/// What the runtime needs of an actor, whatever its kind. It is asked once per batch, commit or tick.
pub(super) trait Host: Send {
    /// Makes a batch of `jobs`; what comes of it waits here for the journal.
    fn make(
        &mut self,
        file: &mut dyn AnyFile,
        hub: &mut Hub,
        jobs: &mut VecDeque<Job>,
        rules: &Rules<'_>,
    ) -> Outcome;

    /// Whether a batch waits for the journal.
    fn is_in_flight(&self) -> bool;

    /// The gate: the batch is durable. Tells whoever waits for it, and what it means; the tasks are to be started.
    fn release(&mut self, hub: &mut Hub) -> Option<(Vec<Box<dyn Task>>, Flags)>;

    /// Tells whoever waits for the batch, if there is one, that it came to nothing or that nobody knows.
    fn refuse(&mut self, refusal: &Refusal);

    /// Tells the tasks what became of the actor; what is to be done if the rows say that one works and none does.
    fn attend(&mut self, file: &dyn AnyFile, woken: bool) -> Option<Box<dyn Waiting>>;

    /// Cuts off what works; what says so in the rows.
    fn interrupt(&mut self) -> Option<Box<dyn Waiting>>;

    /// The actor has ended: its tasks end.
    fn end(&mut self);

    /// Whether something works for it, or is about to.
    fn works(&self, file: Option<&dyn AnyFile>) -> bool;

    /// Whether the rows say that a task works and none does: it gave up while nothing could be stored.
    fn is_orphaned(&self, file: &dyn AnyFile) -> bool;

    /// Whether nothing works for it.
    fn is_idle(&self, file: &dyn AnyFile) -> bool;

    /// Carries out every timer that is due at `now_ms`; what must become events is returned.
    fn fire(
        &mut self,
        file: &mut dyn AnyFile,
        now_ms: i64,
    ) -> Result<Vec<Box<dyn Waiting>>, storage::Error>;
}

/// The part of a cell of an actor of kind `K`.
pub(super) struct Hosting<K: Hosted> {
    tasks: K::Tasks,
    /// What waits for the journal.
    in_flight: Option<Batch<K>>,
}

impl<K: Hosted> Default for Hosting<K> {
    fn default() -> Self {
        Self { tasks: K::Tasks::default(), in_flight: None }
    }
}

fn of<K: Hosted>(file: &dyn AnyFile) -> &FileOf<K> {
    file.of::<K::Tables>().expect("the file of a cell is of its kind")
}

fn of_mut<K: Hosted>(file: &mut dyn AnyFile) -> &mut FileOf<K> {
    file.of_mut::<K::Tables>().expect("the file of a cell is of its kind")
}

impl<K: Hosted> Host for Hosting<K> {
    fn make(
        &mut self,
        file: &mut dyn AnyFile,
        hub: &mut Hub,
        jobs: &mut VecDeque<Job>,
        rules: &Rules<'_>,
    ) -> Outcome {
        match batch::make::<K>(of_mut::<K>(file), hub, jobs, rules) {
            Made::Nothing => Outcome::Nothing,
            Made::Record(batch, record) => {
                self.in_flight = Some(batch);
                Outcome::Record(record)
            }
            Made::Failed(batch, error) => {
                batch.refuse(&Refusal::Failed(Error::Reset));
                Outcome::Failed(error)
            }
        }
    }

    fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    fn release(&mut self, hub: &mut Hub) -> Option<(Vec<Box<dyn Task>>, Flags)> {
        let (effects, flags) = self.in_flight.take()?.release(hub);
        let start = |effect| K::start(&mut self.tasks, effect);
        Some((effects.into_iter().map(start).collect(), flags))
    }

    fn refuse(&mut self, refusal: &Refusal) {
        if let Some(batch) = self.in_flight.take() {
            batch.refuse(refusal);
        }
    }

    fn attend(&mut self, file: &dyn AnyFile, woken: bool) -> Option<Box<dyn Waiting>> {
        let command = K::attend(&mut self.tasks, of::<K>(file), woken)?;
        Some(Asked::<K>::own(command))
    }

    fn interrupt(&mut self) -> Option<Box<dyn Waiting>> {
        Some(Asked::<K>::own(K::interrupt(&mut self.tasks)?))
    }

    fn end(&mut self) {
        self.tasks = K::Tasks::default();
    }

    fn works(&self, file: Option<&dyn AnyFile>) -> bool {
        let begins = self.in_flight.as_ref().is_some_and(|batch| !batch.effects.is_empty());
        begins || file.is_some_and(|file| K::works(of::<K>(file)))
    }

    fn is_orphaned(&self, file: &dyn AnyFile) -> bool {
        K::works(of::<K>(file)) && K::is_alive(&self.tasks) != Some(true)
    }

    fn is_idle(&self, file: &dyn AnyFile) -> bool {
        K::is_alive(&self.tasks).is_none() && !K::works(of::<K>(file))
    }

    fn fire(
        &mut self,
        file: &mut dyn AnyFile,
        now_ms: i64,
    ) -> Result<Vec<Box<dyn Waiting>>, storage::Error> {
        let commands = timers::fire::<K>(of_mut::<K>(file), now_ms)?;
        let own = |command| -> Box<dyn Waiting> { Asked::<K>::own(command) };
        Ok(commands.into_iter().map(own).collect())
    }
}
