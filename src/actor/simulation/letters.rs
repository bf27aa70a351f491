//! An outbox under load: many senders, few receivers, processes that die, and every letter heard once and in order.

use std::time::Duration;

use crate::actor::counter::Command;
use crate::actor::counter::Counter;
use crate::actor::job::Asked;
use crate::actor::simulation::run::asked_for;
use crate::actor::simulation::world::World;
use crate::base::Key;
use crate::base::clock;
use crate::base::ids::ActorKind;
use crate::base::ids::Name;

const RECEIVERS: u64 = 10;
/// Letters of one sender.
const EACH: u64 = 100;
/// Letters in an ordinary run of the tests; `SESSILE_LETTERS` says another number.
const LETTERS: u64 = 5_000;
/// Things that are done between two ends of a process, about.
const LIFE: u64 = 3_000;

fn counter(name: &str) -> Key {
    let named = |text: &str| Name::new(text).expect("a name");
    Key::new(ActorKind::Counter, named("default"), named(name))
}

fn tell(world: &mut World, sender: &Key) {
    let to = format!("r{}", world.chance.below(RECEIVERS));
    let by = 1 + world.chance.below(9);
    world.deliver(sender, Asked::<Counter>::own(Command::Tell { to, by }), 64);
}

/// Brings everything to rest, with crashes while `lives` are left.
fn settle(world: &mut World, mut lives: u64) -> Result<(), String> {
    for _ in 0..200 {
        for _ in 0..2_000 {
            if world.is_quiet() {
                break;
            }
            world.work()?;
            if lives > 0 && world.chance.once_in(LIFE) {
                world.crash()?;
                lives -= 1;
            }
        }
        let time = Duration::from_millis(1 + world.chance.below(3_000));
        world.pass(time);
    }
    Ok(())
}

#[test]
fn each_letter_is_heard_once_and_in_order_whatever_dies() {
    let letters = asked_for("SESSILE_LETTERS").unwrap_or(LETTERS);
    let senders: Vec<Key> = (0..letters / EACH).map(|n| counter(&format!("s{n}"))).collect();
    let mut world = World::with_room(7, senders.len() / 2 + 20);
    let began = clock::instant();
    let run = |world: &mut World| {
        // What a process that dies has not stored is asked for again, as clients do.
        loop {
            let mut lacks = 0;
            for sender in &senders {
                let told = world.truth(sender).last_seq();
                for _ in told..EACH {
                    tell(world, sender);
                    lacks += 1;
                }
                for _ in 0..3 {
                    world.work()?;
                }
            }
            if lacks == 0 {
                break;
            }
            settle(world, lacks / LIFE)?;
        }
        world.calm();
        settle(world, 0)
    };
    run(&mut world).expect("nothing goes wrong");
    let took = began.elapsed();
    let mut count = 0;
    for receiver in (0..RECEIVERS).map(|n| counter(&format!("r{n}"))) {
        for sender in &senders {
            let [sender, receiver] = [sender, &receiver].map(|key| &world.truth[&key.hash()]);
            receiver.check_letters(sender).expect("once and in order");
        }
        count += world.truth[&receiver.hash()].last_seq();
    }
    assert!(count >= letters, "{count}");
    let each = took.as_secs_f64() * 1e6 / count as f64;
    println!("{count} letters of {} senders, {each:.0} us each", senders.len());
}
