//! Death and errors at the n-th write or sync of every phase of a session's life (promises P4 and P5).
//!
//! `SESSILE_FAULTS=600` goes further than the default of the first 60 operations of each phase.

mod bench;

use std::ops::RangeInclusive;

use serde_json::json;

use crate::support::fault::EIO;
use crate::support::fault::ENOSPC;
use crate::support::fault::Fault;
use crate::support::fault::Harm;
use crate::support::fault::NAMES;
use crate::support::fault::SYNCS;
use crate::support::fault::WRITES;
use crate::support::ledger::chance::report;
use crate::support::ledger::chance::setting;
use crate::support::ledger::patience::eventually;
use bench::Bench;
use bench::Phase;

/// How many errors one server has to bear before it is killed and what it acked is looked for.
const ERRORS_PER_LIFE: u64 = 6;

const CHANGES: u64 = WRITES | NAMES;

#[test]
fn death_at_any_operation_of_a_start_loses_nothing() {
    die_in(Phase::Open);
}

#[test]
fn death_at_any_operation_of_an_append_loses_nothing() {
    die_in(Phase::Append);
}

#[test]
fn death_at_any_operation_of_going_to_sleep_loses_nothing() {
    die_in(Phase::Sleep);
}

#[test]
fn death_at_any_operation_of_a_creation_loses_nothing() {
    die_in(Phase::Create);
}

#[test]
fn an_error_in_any_operation_of_a_start_is_survived() {
    fail_in(Phase::Open);
}

#[test]
fn an_error_in_any_operation_of_an_append_is_no_false_ack() {
    fail_in(Phase::Append);
}

#[test]
fn an_error_in_any_operation_of_going_to_sleep_is_no_false_ack() {
    fail_in(Phase::Sleep);
}

#[test]
fn an_error_in_any_operation_of_a_creation_is_no_false_ack() {
    fail_in(Phase::Create);
}

#[test]
fn death_at_any_operation_of_catching_up_loses_nothing() {
    die_in(Phase::CatchUp);
}

#[test]
fn death_at_any_operation_of_a_clean_stop_loses_nothing() {
    die_in(Phase::Stop);
}

#[test]
fn an_error_in_any_operation_of_catching_up_is_survived() {
    fail_in(Phase::CatchUp);
}

#[test]
fn an_error_in_any_operation_of_a_clean_stop_loses_nothing() {
    fail_in(Phase::Stop);
}

#[test]
fn a_full_disk_answers_507_reads_go_on_and_it_heals() {
    for path in ["", "journal/"] {
        for harm in [Harm::Error(ENOSPC), Harm::TornError(ENOSPC)] {
            let mut bench = Bench::new(Phase::Append);
            bench.injector.arm(&Fault { harm, classes: CHANGES, path, nth: 1, for_ever: true });
            // What was preallocated may still take some.
            eventually("507 on a full disk", || (bench.post("append-0") == 507).then_some(()));
            assert_eq!(bench.status_of_messages("append-0"), 200, "a read on a full disk");
            heals(&mut bench);
        }
    }
}

#[test]
fn a_disk_with_little_free_space_answers_507_reads_go_on_and_it_heals() {
    let mut bench = Bench::with(Phase::Append, &[("SESSILE__STORAGE__MIN_FREE_BYTES", 64 << 20)]);
    bench.injector.pretend_free(1 << 20);
    eventually("507 with little free space", || (bench.post("append-0") == 507).then_some(()));
    assert_eq!(bench.status_of_messages("append-0"), 200, "a read with little free space");
    bench.injector.pretend_free(0);
    heals(&mut bench);
}

#[test]
fn a_disk_that_fails_for_ever_acks_nothing_and_heals_when_it_does() {
    for (nth, classes) in [(1, SYNCS), (2, SYNCS), (1, CHANGES), (2, CHANGES), (3, CHANGES | SYNCS)]
    {
        let mut bench = Bench::new(Phase::Append);
        bench.injector.arm(&Fault {
            harm: Harm::Error(EIO),
            classes,
            path: "journal/",
            nth,
            for_ever: true,
        });
        let refused = |status: u16| matches!(status, 500 | 503 | 507);
        eventually("an error on a broken disk", || refused(bench.post("append-0")).then_some(()));
        for session in ["append-0", "append-1", "append-2", "append-new"] {
            let status = bench.post(session);
            assert!(
                refused(status),
                "{session} was answered with {status} while the journal cannot be written"
            );
        }
        assert_eq!(bench.status_of_messages("append-1"), 200, "a read of what is durable");
        heals(&mut bench);
    }
}

#[test]
fn a_broken_session_file_harms_only_its_session() {
    for harm in [Harm::Error(EIO), Harm::Error(ENOSPC)] {
        let mut bench = Bench::new(Phase::Sleep);
        let file = bench.file_of_a_new_session("broken");
        bench.injector.arm(&Fault {
            harm,
            classes: CHANGES | SYNCS,
            path: &file,
            nth: 1,
            for_ever: true,
        });
        for round in 0..5 {
            let before = bench.written_last();
            // The journal may take it or not; what is acked is checked in the end.
            bench.post("broken");
            for other in ["append-0", "append-1", "append-2"] {
                assert_eq!(
                    bench.post(other),
                    201,
                    "{other} is harmed by the file of another ({harm:?})"
                );
            }
            assert_eq!(
                bench.post(&format!("other-{round}")),
                201,
                "a new session is harmed ({harm:?})"
            );
            bench.pause_until_asleep(&before, 4);
        }
        heals(&mut bench);
    }
}

#[test]
fn a_refused_write_says_that_its_outcome_is_unknown() {
    let mut bench = Bench::new(Phase::Append);
    bench.injector.arm(&Fault {
        harm: Harm::Error(EIO),
        classes: SYNCS,
        path: "journal/",
        nth: 1,
        for_ever: true,
    });
    let body = json!({"role": "user", "content": "is this durable?"});
    let path = "/v1/sessions/append-unknown/messages";
    let answer = bench.client().call("POST", path, Some("unknown-1"), Some(&body)).unwrap();
    assert_eq!(
        (answer.status, &answer.body["code"]),
        (503, &json!("outcome_unknown")),
        "{answer:?}"
    );
    bench.injector.disarm();
    let stored = eventually("the retry to be answered", || {
        bench
            .client()
            .call("POST", path, Some("unknown-1"), Some(&body))
            .ok()
            .filter(|answer| answer.status == 201)
    });
    let count = bench.client().get("/v1/sessions/append-unknown/messages/count").unwrap();
    assert_eq!(count.body, json!({"count": 1}), "{stored:?}");
}

/// Without a restart all that is unknown is taken, nothing is wrong, and a restart finds the same.
#[track_caller]
fn heals(bench: &mut Bench) {
    bench.injector.disarm();
    bench.check("after the disk healed");
    bench.restart();
    bench.check("after a restart");
}

/// The n of "the n-th operation".
fn all() -> RangeInclusive<u64> {
    1..=setting("SESSILE_FAULTS", 60)
}

/// The server dies at the n-th change, then at the n-th sync.
fn die_in(phase: Phase) {
    let mut bench = Bench::new(phase);
    let mut deaths = 0;
    for classes in [CHANGES, SYNCS] {
        for nth in all() {
            bench.prepare();
            let harm = *bench.chance.of(&[Harm::DeathBefore, Harm::DeathWithin, Harm::DeathAfter]);
            let fault = Fault { harm, classes, path: phase.path(), nth, for_ever: false };
            bench.injector.arm(&fault);
            bench.exercise();
            if bench.injector.fired() == 0 {
                break;
            }
            deaths += 1;
            bench.injector.disarm();
            bench.restart();
            bench.check(&format!("{phase:?}, {fault:?}"));
        }
    }
    report(&format!("{phase:?}: {deaths} deaths, {} acked", bench.ledger.acked()));
    assert!(deaths >= 4, "{phase:?} has too few operations to die in");
}

/// The n-th change fails, then the n-th sync; the disk is broken or full, the failed write leaves nothing or a half.
fn fail_in(phase: Phase) {
    let mut bench = Bench::new(phase);
    let mut errors = 0;
    let kinds = [
        (CHANGES, [Harm::Error(EIO), Harm::TornError(EIO)]),
        (CHANGES, [Harm::Error(ENOSPC), Harm::TornError(ENOSPC)]),
        (SYNCS, [Harm::Error(EIO), Harm::Error(EIO)]),
    ];
    for (classes, harms) in kinds {
        for nth in all() {
            bench.prepare();
            let harm = *bench.chance.of(&harms);
            // One error, or all until the disk is healthy again.
            let for_ever = bench.chance.percent(20);
            let fault = Fault { harm, classes, path: phase.path(), nth, for_ever };
            bench.injector.arm(&fault);
            bench.exercise();
            if bench.injector.fired() == 0 {
                break;
            }
            errors += 1;
            if for_ever {
                bench.crowd();
            }
            bench.injector.disarm();
            bench.assert_alive(&fault);
            if for_ever {
                let last = format!("append-{}", bench.chance.below(4));
                bench.one_more_and_die(&last);
            }
            bench.check(&format!("{phase:?}, {fault:?}"));
            if nth % ERRORS_PER_LIFE == 0 {
                bench.restart();
                bench.check(&format!("{phase:?}, restart after {fault:?}"));
            }
        }
        bench.injector.disarm();
        bench.restart();
        bench.check(&format!("{phase:?}, last restart"));
    }
    report(&format!("{phase:?}: {errors} errors, {} acked", bench.ledger.acked()));
    assert!(errors >= 4, "{phase:?} has too few operations to fail");
}
