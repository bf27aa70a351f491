//! Power loss: what was acked or heard before the cut is there after it, whatever the disk lost (promises P2 and P3).
//!
//! Workloads run on a recording disk. At points of each trace the disk is rebuilt as a power loss may leave it; a
//! server recovers on it and is asked over HTTP. `SESSILE_POWER_IMAGES=100000` takes more images than the default.

mod facts;
mod gate;
mod workload;

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use crate::support::fault::disk::Disk;
use crate::support::fault::disk::Image;
use crate::support::fault::disk::Loss;
use crate::support::fault::files::corrupt_files;
use crate::support::fault::scratch;
use crate::support::fault::trace::Op;
use crate::support::ledger::CANARY;
use crate::support::ledger::Entry;
use crate::support::ledger::Kind;
use crate::support::ledger::Logs;
use crate::support::ledger::chance::Chance;
use crate::support::ledger::chance::seed;
use crate::support::ledger::chance::setting;
use crate::support::ledger::patience::Watch;
use crate::support::ledger::plain_http::Client;
use crate::support::ledger::writer::Ledger;
use crate::support::ledger::writer::list;
use crate::support::ledger::writer::mislisted;
use crate::support::ledger::writer::try_read_log;
use facts::Facts;
use workload::Recording;

/// How many images that failed are kept to look at.
const IMAGES_KEPT_MAX: usize = 5;

/// After this many failed images the rest is left alone: a broken server is slow to say so.
const FAILURES_MAX: usize = 20;

/// One image and where it is from.
struct Case {
    recording: &'static Recording,
    cut: usize,
    loss: Loss,
    image: Image,
    chance: Chance,
}

/// The recordings that all tests of this file use; made once.
fn recordings() -> &'static [Recording] {
    static RECORDINGS: OnceLock<Vec<Recording>> = OnceLock::new();
    RECORDINGS.get_or_init(|| {
        let mut chance = Chance::new(seed());
        workload::ALL.iter().map(|workload| workload::record(workload, &mut chance)).collect()
    })
}

#[test]
fn no_acked_message_is_lost_by_a_power_loss() {
    let (start, seed) = (Watch::start(), seed());
    let images = usize::try_from(setting("SESSILE_POWER_IMAGES", 1_000)).unwrap();
    let failures = recover_all(cases(images, seed), FAILURES_MAX, recover);
    println!("{images} power losses in {:?}", start.read());
    let count = failures.len();
    let shown = failures.into_iter().take(5).collect::<Vec<_>>().join("\n");
    assert!(count == 0, "{count} of up to {images} images failed, SESSILE_SEED={seed}\n{shown}");
}

#[test]
fn without_the_journal_a_power_loss_loses_acked_messages() {
    let lost = recover_all(cases(40, seed()), usize::MAX, |mut case, dir| {
        case.image.retain(|(path, _)| !path.starts_with("journal/"));
        let facts = Facts::before(case.recording, case.cut);
        let data = write_image(&case.image, dir);
        let Ok(server) = case.recording.options().try_start_in(&data) else {
            return vec!["a server that misses its journal does not start".to_owned()];
        };
        let logs = readable_logs(&mut Client::new(&server.base), &facts.sessions);
        let broken = facts.check(&logs);
        broken
            .into_iter()
            .filter(|broken| broken.kind == Kind::Lost)
            .map(|broken| broken.detail)
            .collect()
    });
    println!("{} acked messages were lost with the journal", lost.len());
    assert!(!lost.is_empty(), "the images do not show what the journal is for");
}

#[test]
fn nothing_is_sent_before_it_is_durable() {
    let mut checked = 0;
    for recording in recordings() {
        let gate = gate::watch(&recording.trace);
        checked += gate.checked;
        let first: Vec<_> = gate.early.iter().take(5).collect();
        assert!(
            gate.early.is_empty(),
            "{}: {} early sends {first:#?}",
            recording.name,
            gate.early.len()
        );
    }
    println!("{checked} sends of stored text, none of them early");
    assert!(checked > 1_000, "only {checked} sends were seen");
}

#[test]
fn the_traces_have_what_the_images_need() {
    for recording in recordings() {
        let facts = Facts::before(recording, usize::MAX);
        let (journal, sessions) =
            (recording.writes_to("journal/"), recording.writes_to("sessions/"));
        println!(
            "{}: {} operations, {journal} writes to the journal, {sessions} to {} session files, {} acked messages",
            recording.name,
            recording.trace.ops.len(),
            facts.sessions.len(),
            facts.acked(),
        );
        assert!(facts.acked() >= 8 && journal >= 8 && sessions >= 8, "{}", recording.name);
    }
    let retired = |op: &Op| matches!(op, Op::Unlink { path } if path.starts_with("journal/"));
    assert!(
        recordings().iter().any(|recording| recording.trace.ops.iter().any(retired)),
        "no segment was retired"
    );
}

/// The logs that are there, and which ones are but cannot be read.
fn whole_logs(client: &mut Client, sessions: &[String]) -> (Logs, Vec<String>) {
    let (mut logs, mut broken) = (Logs::new(), Vec::new());
    for session in sessions {
        match try_read_log(client, session) {
            Ok(Some(log)) => drop(logs.insert(session.clone(), log)),
            Ok(None) => {}
            Err(answer) => broken.push(format!("{session} is unreadable: {answer}")),
        }
        // One is enough, each takes a while.
        if !broken.is_empty() {
            break;
        }
    }
    (logs, broken)
}

/// The first pages of those logs that can be read at all.
fn readable_logs(client: &mut Client, sessions: &[String]) -> Logs {
    let read = |session: &String| {
        let answer = client.get(&format!("/v1/sessions/{session}/events?after=0")).ok()?;
        Some((session.clone(), answer.body["events"].as_array()?.clone()))
    };
    sessions.iter().filter_map(read).collect()
}

/// `count` images from all recordings, made while they are used.
fn cases(count: usize, seed: u64) -> impl Iterator<Item = Case> {
    let mut chance = Chance::new(seed);
    let recordings = recordings();
    recordings.iter().enumerate().flat_map(move |(number, recording)| {
        let share = count / recordings.len() + usize::from(number < count % recordings.len());
        let mut chance = chance.fork();
        let mut disk = Disk::new(chance.fork());
        cuts(recording, share, &mut chance).into_iter().map(move |cut| {
            while disk.now() < cut {
                disk.step(&recording.trace);
            }
            let loss = *chance.of(&[
                Loss::Everything,
                Loss::Tail,
                Loss::Writes,
                Loss::Anything,
                Loss::Anything,
            ]);
            let image = disk.image(loss, &mut chance);
            Case { recording, cut, loss, image, chance: chance.fork() }
        })
    })
}

/// Where to cut the power: right after something was told, around syncs, after files came or went, anywhere.
fn cuts(recording: &Recording, count: usize, chance: &mut Chance) -> Vec<usize> {
    let ops = &recording.trace.ops;
    let telling = |op: &Op| match op {
        Op::Send { data, .. } => gate::canaries(recording.trace.data(data)).next().is_some(),
        _ => false,
    };
    let after = |what: &dyn Fn(&Op) -> bool| -> Vec<usize> {
        (0..ops.len()).filter(|at| what(&ops[*at])).map(|at| at + 1).collect()
    };
    let told = after(&telling);
    let synced = after(&|op| matches!(op, Op::SyncEnd { .. } | Op::SyncBegin { .. }));
    let named = after(&|op| {
        matches!(op, Op::Unlink { .. } | Op::Rename { .. } | Op::Open { created: true, .. })
    });
    let mut cuts: Vec<usize> = (0..count)
        .map(|_| match chance.below(12) {
            0..=3 => *chance.of(&told),
            4..=5 => (*chance.of(&synced)).saturating_sub(chance.below(2)),
            6..=7 => (*chance.of(&named) + chance.below(30)).min(ops.len()),
            _ => chance.below(ops.len()),
        })
        .collect();
    cuts.sort_unstable();
    cuts
}

/// Has two threads work on `cases`; all that they complain of, or `enough` of it.
fn recover_all(
    cases: impl Iterator<Item = Case>,
    enough: usize,
    work: impl Fn(Case, &Path) -> Vec<String> + Sync,
) -> Vec<String> {
    let failures = Mutex::new(Vec::new());
    let (give, take) = mpsc::sync_channel::<Case>(1);
    let take = Arc::new(Mutex::new(take));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let take = Arc::clone(&take);
            let (failures, work) = (&failures, &work);
            scope.spawn(move || {
                let dir = scratch();
                loop {
                    let next = take.lock().unwrap().recv();
                    let Ok(case) = next else { return };
                    let found = work(case, dir.path());
                    failures.lock().unwrap().extend(found);
                }
            });
        }
        drop(take);
        for case in cases {
            // When both threads have panicked, nobody takes it.
            if failures.lock().unwrap().len() >= enough || give.send(case).is_err() {
                break;
            }
        }
        drop(give);
    });
    failures.into_inner().unwrap()
}

/// Recovers on one image and says what is wrong.
fn recover(mut case: Case, dir: &Path) -> Vec<String> {
    static KEPT: AtomicUsize = AtomicUsize::new(0);
    let data = write_image(&case.image, dir);
    let mut broken = check_recovery(&mut case, &data);
    if broken.is_empty() {
        return broken;
    }
    let mut place = format!("{} cut at {} ({:?})", case.recording.name, case.cut, case.loss);
    if KEPT.fetch_add(1, Ordering::Relaxed) < IMAGES_KEPT_MAX {
        let kept = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
        write_image(&case.image, &kept);
        place += &format!(", image kept in {}", kept.display());
    }
    broken.truncate(5);
    broken.insert(0, place);
    vec![broken.join("\n  ")]
}

fn check_recovery(case: &mut Case, data: &Path) -> Vec<String> {
    let facts = Facts::before(case.recording, case.cut);
    let mut server = match case.recording.options().try_start_in(data) {
        Ok(server) => server,
        Err(log) => return vec![format!("the server does not start: {log}")],
    };
    let mut client = Client::new(&server.base);
    // Before anybody asks for a session: the list must be right without.
    let first = list(&mut client);
    let (logs, mut broken) = whole_logs(&mut client, &facts.sessions);
    broken.extend(first_list_is_wrong(first, &logs));
    broken.extend(facts.check(&logs).iter().map(ToString::to_string));
    broken.extend(facts.check_changes(&logs));
    broken.extend(mislisted(&mut client, &logs));
    // Now and then the recovered server goes on writing and is killed: what it recovered must be as solid as new.
    let again = case.chance.percent(20);
    let ledger = Ledger::default();
    if again {
        for session in logs.keys().take(4) {
            ledger.post(&mut client, session, &mut case.chance);
        }
    }
    server.kill();
    broken.extend(corrupt_files(data));
    if again {
        broken.extend(check_second_life(case, data, &logs, &ledger));
    }
    broken
}

fn check_second_life(case: &Case, data: &Path, before: &Logs, ledger: &Ledger) -> Vec<String> {
    let server = match case.recording.options().try_start_in(data) {
        Ok(server) => server,
        Err(log) => return vec![format!("the server does not start a second time: {log}")],
    };
    let names: Vec<String> = before.keys().cloned().collect();
    let (logs, mut broken) = whole_logs(&mut Client::new(&server.base), &names);
    let mut facts = Facts::before(case.recording, case.cut);
    // Its clock starts again; all of it was after the cut.
    let later = |time: u64| time + u64::try_from(case.cut).unwrap();
    facts.entries.extend(ledger.entries().iter().cloned().map(|entry| Entry {
        invoked: later(entry.invoked),
        answered: later(entry.answered),
        ..entry
    }));
    broken.extend(facts.check(&logs).iter().map(|broken| format!("second life: {broken}")));
    for (session, log) in before {
        if !logs.get(session).is_some_and(|now| now.starts_with(log)) {
            broken.push(format!(
                "second life: {session} has not the log that it had after the recovery"
            ));
        }
    }
    broken
}

/// Writes `image` into `dir`; the data folder.
fn write_image(image: &Image, dir: &Path) -> std::path::PathBuf {
    let data = dir.join("data");
    if data.try_exists().unwrap() {
        std::fs::remove_dir_all(&data).unwrap();
    }
    std::fs::create_dir(&data).unwrap();
    for (path, content) in image {
        let to = data.join(path);
        if path.ends_with('/') {
            std::fs::create_dir_all(&to).unwrap();
        } else {
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(&to, content).unwrap();
        }
    }
    data
}

#[test]
fn the_canary_is_what_the_gate_looks_for() {
    let text = format!(r#"{{"a":"{CANARY}0123456789abcdef x","b":"{CANARY}short"}}"#);
    let found: Vec<_> = gate::canaries(text.as_bytes()).collect();
    assert_eq!(found, [format!("{CANARY}0123456789abcdef").into_bytes()]);
}

/// What is wrong with the first list after the start: it has every session, and no event that is not in the log.
fn first_list_is_wrong(first: Option<Vec<(String, u64)>>, logs: &Logs) -> Option<String> {
    let Some(first) = first else { return Some("the first list was not answered".to_owned()) };
    let names: Vec<&String> = first.iter().map(|(name, _)| name).collect();
    let want: Vec<&String> = logs.keys().collect();
    let ahead = first
        .iter()
        .find(|(name, last_seq)| logs.get(name).is_some_and(|log| (log.len() as u64) < *last_seq));
    let wrong = names != want || ahead.is_some();
    wrong.then(|| format!("the first list has {names:?} of {want:?}, ahead: {ahead:?}"))
}
