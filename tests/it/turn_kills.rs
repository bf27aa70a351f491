//! kill -9 in every phase of a turn: what any client had on its screen is stored, and the state is true afterwards.
//!
//! Each life of the server has a turn in each phase and is killed in the middle of all of them. `SESSILE_TURN_KILLS=1000`
//! kills more turns than the default, `SESSILE_SEED` repeats the choices of a run.

mod phase;
mod screen;
mod truth;

use crate::support::Server;
use crate::support::fault::Injector;
use crate::support::fault::scratch;
use crate::support::ledger::chance::Chance;
use crate::support::ledger::chance::report;
use crate::support::ledger::chance::seed;
use crate::support::ledger::chance::setting;
use crate::support::ledger::log_seq;
use crate::support::ledger::patience::Watch;
use crate::support::ledger::patience::eventually;
use crate::support::ledger::plain_http::Client;
use crate::support::ledger::writer::read_log;
use crate::support::scripted::Scripted;
use crate::support::server::Options;
use phase::PHASES;
use phase::Phase;
use screen::Screen;
use serde_json::json;
use std::path::Path;

/// A turn that was under way when the server was killed, and what its clients had seen.
struct Killed {
    session: String,
    phase: Phase,
    screen: Screen,
}

#[test]
fn what_was_on_a_screen_is_stored_and_no_turn_is_left_running() {
    let kills = usize::try_from(setting("SESSILE_TURN_KILLS", 200)).unwrap();
    let (start, seed) = (Watch::start(), seed());
    report(&format!("SESSILE_SEED={seed}"));
    let (dir, stub) = (scratch(), Scripted::start());
    let data = dir.path().join("data");
    let injector = Injector::new(&dir.path().join("control"));
    let mut chance = Chance::new(seed);
    let (mut killed, mut count, mut texts, mut frames) = (Vec::<Killed>::new(), 0, 0, 0);
    for life in 0.. {
        let mut server = start_server(&injector, &data, &stub, &mut chance);
        for turn in killed.drain(..) {
            let seen = truth::check(&server, &turn);
            texts += seen.bytes;
            frames += seen.frames;
            count += 1;
        }
        if count >= kills {
            break;
        }
        killed = live_and_die(&mut server, &stub, life, &mut chance);
    }
    report(&format!(
        "{count} turns killed, {frames} frames and {texts} bytes of text were on screens, in {:?}",
        start.read()
    ));
    assert!(texts > count * 20, "too little was seen to show anything");
}

fn start_server(injector: &Injector, data: &Path, stub: &Scripted, chance: &mut Chance) -> Server {
    injector.slow_syncs(u64::try_from(*chance.of(&[0, 500, 3_000])).unwrap());
    let options = Options::default()
        .set("SESSILE__STORAGE__MIN_FREE_BYTES", 0)
        .set("SESSILE__STORAGE__COMMIT_DELAY_MS", chance.of(&[1, 20, 1_000]))
        .set("SESSILE__STORAGE__FILE_DELAY_MS", chance.of(&[0, 50, 2_000]))
        .set("SESSILE__ACTOR__SLEEP_AFTER_MS", chance.of(&[30, 10_000]));
    injector.on(stub.known_to(options), data).start_in(data)
}

/// Has a turn in each phase, each in a session of its own, and kills the server then.
fn live_and_die(
    server: &mut Server,
    stub: &Scripted,
    life: usize,
    chance: &mut Chance,
) -> Vec<Killed> {
    let base = server.base.clone();
    let killed: Vec<Killed> = (0..PHASES.len())
        .map(|number| {
            let (session, phase) =
                (format!("turns-{number}"), PHASES[(number + life) % PHASES.len()]);
            let mut client = Client::new(&base);
            let made = client.call("POST", "/v1/sessions", None, Some(&json!({ "id": session })));
            assert!(matches!(made.unwrap().status, 200 | 201));
            let after = read_log(&mut client, &session).unwrap().last().and_then(log_seq).unwrap();
            Killed { session, phase, screen: Screen::new(after, chance.between(1, 12)) }
        })
        .collect();
    std::thread::scope(|scope| {
        for turn in &killed {
            scope.spawn(|| screen::follow_log(&base, &turn.session, &turn.screen));
            scope.spawn(|| screen::follow_chunks(&base, &turn.session, &turn.screen));
        }
        let all = |late: bool| killed.iter().filter(move |turn| turn.phase.is_late() == late);
        for turn in all(false) {
            phase::begin(turn, &base, stub);
        }
        for turn in all(false) {
            eventually(&format!("{:?} of {}", turn.phase, turn.session), || {
                phase::is_reached(turn, &base, stub).then_some(())
            });
        }
        // What is over in moments begins when all others are where they should be.
        for turn in all(true) {
            phase::begin(turn, &base, stub);
        }
        for turn in all(true) {
            eventually(&format!("{:?} of {}", turn.phase, turn.session), || {
                phase::is_reached(turn, &base, stub).then_some(())
            });
        }
        for turn in &killed {
            if turn.phase == Phase::Stopping {
                scope.spawn(|| phase::stop(turn, &base));
            }
        }
        server.kill();
    });
    killed
}
