//! One seed after the other.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::actor::counter::Counter;
use crate::actor::found::Found;
use crate::actor::simulation::clients::Clients;
use crate::actor::simulation::commands;
use crate::actor::simulation::world::Fault;
use crate::actor::simulation::world::World;
use crate::actor::wake;
use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::ids::Name;
use crate::wire::ask::Request;
use crate::wire::envelope::SessionKind;

/// Things that happen in one run.
const STEPS: u64 = 400;
/// Seeds of an ordinary run of the tests.
const SEEDS: u64 = 1_000;
/// Seeds that found something once: each runs again.
const SEEDS_THAT_FOUND: [u64; 2] = [15_149, 52_832];
/// Of so many seeds at least one finds a fault that is planted.
const SEEDS_TO_FIND: u64 = 60;

fn keys(kind: ActorKind, count: u64) -> Vec<Key> {
    let name = |text: &str| Name::new(text).expect("a name");
    (0..count).map(|n| Key::new(kind, name("default"), name(&format!("n{n}")))).collect()
}

struct Run {
    world: World,
    sessions: Clients<SessionKind>,
    counters: Clients<Counter>,
    keys: (Vec<Key>, Vec<Key>),
}

impl Run {
    /// One thing happens.
    fn step(&mut self) -> Result<(), String> {
        let world = &mut self.world;
        match world.chance.below(100) {
            0..22 => {
                let at = world.chance.index(self.keys.0.len());
                self.sessions.act(world, &self.keys.0[at].clone());
            }
            22..32 => {
                let at = world.chance.index(self.keys.1.len());
                self.counters.act(world, &self.keys.1[at].clone());
            }
            32..42 => self.write_turn(),
            42..54 => {
                let most = [20, 1_000, 5_000, 20_000][world.chance.index(4)];
                let time = Duration::from_millis(world.chance.below(most));
                world.pass(time);
            }
            54 => {
                let hours = world.chance.below(30);
                world.pass(Duration::from_secs(hours * 3_600));
            }
            55 => {
                let full = world.chance.once_in(3);
                world.set_disk_full(full);
            }
            56 => world.retire(),
            57 => world.note_all(),
            58 => {
                let at = world.chance.index(self.keys.0.len());
                world.urge(&self.keys.0[at].clone());
            }
            59 if world.chance.once_in(2) => {
                world.crash()?;
                self.sessions.disconnect();
                self.counters.disconnect();
            }
            _ => world.work()?,
        }
        self.listen()
    }

    fn listen(&mut self) -> Result<(), String> {
        self.sessions.listen(&mut self.world)?;
        self.counters.listen(&mut self.world)
    }

    /// The task of a turn writes something, or is gone.
    fn write_turn(&mut self) {
        if self.world.turns.is_empty() {
            return;
        }
        let at = self.world.chance.index(self.world.turns.len());
        if self.world.chance.once_in(12) {
            return self.world.leave(at);
        }
        let (key, task) = &self.world.turns[at];
        let (key, turn) = (key.clone(), task.start.turn.clone());
        // Who told it to end may have gone instead of telling.
        let stopped = *task.stopped.borrow() || task.stopped.has_changed().is_err();
        let chance = &mut self.world.chance;
        let (command, ends) = commands::of_task(chance, (&turn.id, turn.attempt), stopped);
        self.sessions.ask(&mut self.world, &key, Request::Command(command, None));
        if ends {
            self.world.leave(at);
        }
    }

    /// Nothing more goes wrong: everything comes to its end.
    fn settle(&mut self) -> Result<(), String> {
        self.world.calm();
        for _ in 0..20 {
            for _ in 0..2_000 {
                if self.world.is_quiet() {
                    break;
                }
                self.world.work()?;
                self.listen()?;
            }
            if !self.world.is_quiet() {
                return Err("it does not come to rest".to_owned());
            }
            while !self.world.turns.is_empty() {
                self.world.leave(0);
            }
            // So long that approvals expire, and everybody sleeps.
            self.world.pass(Duration::from_secs(2 * 3_600));
        }
        while !self.world.is_quiet() {
            self.world.work()?;
        }
        self.listen()
    }

    /// Of actors that nobody follows any more, nothing is left in memory.
    fn forget(&mut self) -> Result<(), String> {
        self.sessions.disconnect();
        self.counters.disconnect();
        for _ in 0..4 {
            self.world.pass(Duration::from_secs(60));
            while !self.world.is_quiet() {
                self.world.work()?;
            }
        }
        match self.world.cells() {
            0 => Ok(()),
            left => Err(format!("{left} cells are left")),
        }
    }

    /// Everything is in the files, and the files are what the records say.
    fn check(&mut self) -> Result<(), String> {
        self.world.restart();
        let shared = self.world.shared();
        for truth in self.world.truth.values() {
            if let Some(timer) = truth.timers.first_key_value().filter(|_| !truth.ended) {
                let listed = shared.catalogue.last_seq(truth.key.hash());
                return Err(format!(
                    "{:?}: timer {timer:?} never fired; {} events are durable, the list knows of {listed:?}: {:?}",
                    truth.key,
                    truth.last_seq(),
                    truth.entries
                ));
            }
            let found = wake::open(&shared, &truth.key);
            match found.map_err(|error| format!("{:?}: {error}", truth.key))? {
                Found::Gone if truth.ended => {}
                Found::File(mut file) if !truth.ended => {
                    if file.log().last_seq != truth.last_seq() {
                        let (is, wanted) = (file.log().last_seq, truth.last_seq());
                        return Err(format!("{:?} ends at {is}, not at {wanted}", truth.key));
                    }
                    if let Some(to) = file.receivers().first() {
                        let letters = file.letters(to);
                        return Err(format!("{:?}: {to:?} has not heard {letters:?}", truth.key));
                    }
                    truth.check_rows(&mut *file)?;
                }
                Found::Absent if truth.last_seq() == 0 => {}
                Found::File(file) => {
                    let (key, owes) = (&truth.key, file.receivers());
                    return Err(format!("{key:?} has ended and is there, for it owes {owes:?}"));
                }
                _ => return Err(format!("{:?} is not there", truth.key)),
            }
        }
        let counters = || self.keys.1.iter().filter_map(|key| self.world.truth.get(&key.hash()));
        for sender in counters() {
            for receiver in counters().filter(|receiver| !receiver.ended) {
                receiver.check_letters(sender)?;
            }
        }
        Ok(())
    }
}

/// Runs `seed`; what is wrong, if something is.
fn run(seed: u64, fault: Option<Fault>) -> Result<(), String> {
    let mut run = Run {
        world: World::new(seed, fault),
        sessions: Clients::new(),
        counters: Clients::new(),
        keys: (keys(ActorKind::Session, 3), keys(ActorKind::Counter, 3)),
    };
    for _ in 0..STEPS {
        run.step()?;
    }
    run.settle()?;
    run.forget()?;
    run.check()?;
    // And after one more end of the process.
    run.world.crash()?;
    run.sessions.disconnect();
    run.counters.disconnect();
    run.settle()?;
    run.check()
}

fn caught(seed: u64, fault: Option<Fault>) -> Result<(), String> {
    let ran = catch_unwind(AssertUnwindSafe(|| run(seed, fault)));
    ran.unwrap_or_else(|_| Err("it panicked, see above".to_owned()))
}

#[expect(clippy::disallowed_methods, reason = "a test, which has no settings")]
pub(super) fn asked_for(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_happens_nothing_is_lost_shown_too_early_or_done_twice() {
    for seed in SEEDS_THAT_FOUND {
        caught(seed, None).unwrap_or_else(|what| panic!("SESSILE_SEED={seed} fails: {what}"));
    }
    let (first, count) = match asked_for("SESSILE_SEED") {
        Some(seed) => (seed, 1),
        None => (0, asked_for("SESSILE_SEEDS").unwrap_or(SEEDS)),
    };
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count || failed.load(Ordering::Relaxed) {
                return;
            }
            if let Err(what) = caught(seed, None) {
                failed.store(true, Ordering::Relaxed);
                panic!("SESSILE_SEED={seed} fails: {what}");
            }
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(2, usize::from);
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in running {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

#[test]
fn planted_faults_are_found() {
    let faults = [
        Fault::LostBatch,
        Fault::ShownTooEarly,
        Fault::RowsBehindBooks,
        Fault::TimerStays,
        Fault::LettersOutOfOrder,
    ];
    for fault in faults {
        let found = (0..SEEDS_TO_FIND).find_map(|seed| caught(seed, Some(fault)).err());
        assert!(found.is_some(), "nobody noticed {fault:?}");
    }
}
