//! Single bits flipped in a data folder: nothing wrong is served, no start is refused, a flip costs one session at most.
//!
//! Most flips are tried on single files, as a session that wakes opens them; the others on whole folders that a server
//! starts on. `SESSILE_FLIPS=20000` flips more than the default, `SESSILE_SEED` repeats the choices of a run.

mod answers;
mod folder;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::support::client::Client;
use crate::support::fault::scratch;
use crate::support::ledger::chance::Chance;
use crate::support::ledger::chance::report;
use crate::support::ledger::chance::seed;
use crate::support::ledger::chance::setting;
use crate::support::ledger::patience::Watch;
use answers::Verdict;
use folder::SESSIONS;
use serde_json::Value;
use sessile::base::Key;
use sessile::base::ids::Name;
use sessile::storage::Folder;

/// Of the flips of a run, so many of a hundred are tried with a server.
const WITH_SERVER: usize = 33;
/// Of the starts of a server, so many of a hundred have a flip in the list of sessions.
const IN_LIST: usize = 40;
/// Of the others, so many of a hundred have one in the journal; the rest has one in the files of each session.
const IN_JOURNAL: usize = 50;

/// What the flips came to.
#[derive(Default)]
struct Counts(BTreeMap<(&'static str, Verdict), usize>);

impl Counts {
    fn add(&mut self, what: &'static str, verdict: Verdict) {
        *self.0.entry((what, verdict)).or_default() += 1;
    }

    fn sum(&self) -> usize {
        self.0.values().sum()
    }

    fn text(&self) -> String {
        let lines =
            self.0.iter().map(|((what, verdict), count)| format!("{what}: {count} {verdict:?}"));
        lines.collect::<Vec<_>>().join(", ")
    }
}

#[test]
fn no_flipped_bit_is_served_stops_a_start_or_costs_more_than_its_session() {
    let (start, seed) = (Watch::start(), seed());
    let flips = usize::try_from(setting("SESSILE_FLIPS", 2_000)).unwrap();
    let dir = scratch();
    let data = dir.path().join("data");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = runtime.block_on(folder::make(&data));
    let (mut chance, mut counts) = (Chance::new(seed), Counts::default());
    let alone = flips - flips * WITH_SERVER / 100;
    in_files(&data, alone, &mut chance, &mut counts, seed);
    report(&format!("seed {seed}, {} flips in files in {:?}", counts.sum(), start.read()));
    while counts.sum() < flips {
        let copy = dir.path().join("copy");
        copy_folder(&data, &copy);
        let tried = match chance.percent(IN_LIST) {
            true => vec![flip_in_list(&copy, &mut chance)],
            false if chance.percent(IN_JOURNAL) => vec![flip_in_journal(&copy, &mut chance)],
            false => flip_in_sessions(&copy, &mut chance),
        };
        runtime.block_on(start_on(&copy, &told, &tried, &mut counts, seed));
        fs::remove_dir_all(&copy).unwrap();
    }
    report(&format!(
        "{} flips, seed {seed}, in {:?}: {}",
        counts.sum(),
        start.read(),
        counts.text()
    ));
}

/// A flip that was made: in which kind of file, of which session, and where.
struct Flip {
    what: &'static str,
    session: Option<&'static str>,
    place: String,
}

/// Flips one bit of the file at `path`; mostly one that is in use.
fn flip(path: &Path, chance: &mut Chance) -> String {
    let mut bytes = fs::read(path).unwrap();
    let at = loop {
        let at = chance.below(bytes.len());
        if bytes[at] != 0 || chance.percent(10) {
            break at;
        }
    };
    let bit = chance.below(8);
    bytes[at] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
    format!("bit {bit} of byte {at} of {}", path.display())
}

fn session_file(data: &Path, session: &str) -> PathBuf {
    let key = key(session);
    let name = key.hash().to_string();
    data.join("sessions").join(&name[..2]).join(format!("{name}.db"))
}

fn key(session: &str) -> Key {
    Key::session(&Name::new("default").unwrap(), &Name::new(session).unwrap())
}

/// Flips bits of session files, one after the other, and reads each as a session that wakes does.
fn in_files(data: &Path, flips: usize, chance: &mut Chance, counts: &mut Counts, seed: u64) {
    let dir = scratch();
    let folder = Folder::open(&dir.path().join("one")).unwrap();
    // Those that rest: nothing of them is in a write-ahead log or in the journal alone.
    let resting: Vec<&str> = SESSIONS.iter().filter(|s| s.starts_with("calm")).copied().collect();
    let mut told = BTreeMap::new();
    for session in &resting {
        let key = key(session);
        let path = folder.file(&key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(session_file(data, session), &path).unwrap();
        told.insert(*session, answers::of_file(&key, &folder).expect("a whole file"));
    }
    for _ in 0..flips {
        let session = *chance.of(&resting);
        let key = key(session);
        let path = folder.file(&key);
        fs::copy(session_file(data, session), &path).unwrap();
        for other in ["db-wal", "db-shm"] {
            drop(fs::remove_file(path.with_extension(other)));
        }
        let place = flip(&path, chance);
        let verdict = match answers::of_file(&key, &folder) {
            Err(_) => Verdict::Refused,
            Ok((repaired, answer)) => {
                let wrong = answer.iter().zip(&told[session].1).find(|(is, was)| is != was);
                assert!(
                    wrong.is_none() && answer.len() == told[session].1.len(),
                    "seed {seed}: served as right: {place} of {session}: {wrong:?}"
                );
                if repaired { Verdict::Repaired } else { Verdict::Harmless }
            }
        };
        counts.add("session file", verdict);
    }
}

/// A flip in the file or the write-ahead log of each session.
fn flip_in_sessions(copy: &Path, chance: &mut Chance) -> Vec<Flip> {
    let mut flips = Vec::new();
    for session in SESSIONS {
        let file = session_file(copy, session);
        let log = file.with_extension("db-wal");
        let has_log = fs::metadata(&log).is_ok_and(|log| log.len() > 0);
        let (what, path) = match has_log && chance.percent(70) {
            true => ("write-ahead log", log),
            false => ("session file", file),
        };
        let place = flip(&path, chance);
        flips.push(Flip { what, session: Some(session), place });
    }
    flips
}

fn flip_in_list(copy: &Path, chance: &mut Chance) -> Flip {
    let log = copy.join("node.db-wal");
    let has_log = fs::metadata(&log).is_ok_and(|log| log.len() > 0);
    let path = if has_log && chance.percent(50) { log } else { copy.join("node.db") };
    Flip { what: "node.db", session: None, place: flip(&path, chance) }
}

fn flip_in_journal(copy: &Path, chance: &mut Chance) -> Flip {
    let segments = fs::read_dir(copy.join("journal")).unwrap();
    let mut segments: Vec<_> = segments.map(|segment| segment.unwrap().path()).collect();
    segments.sort();
    let segment = chance.of(&segments).clone();
    Flip { what: "journal", session: None, place: flip(&segment, chance) }
}

/// Starts a server on the folder and compares everything that it serves.
async fn start_on(
    copy: &Path,
    told: &answers::Told,
    flips: &[Flip],
    counts: &mut Counts,
    seed: u64,
) {
    let places: Vec<&str> = flips.iter().map(|flip| flip.place.as_str()).collect();
    let server = folder::options().try_start_in(copy);
    let mut server =
        server.unwrap_or_else(|log| panic!("seed {seed}: refused to start: {places:?}\n{log}"));
    let client = Client::new(&server);
    let mut verdicts = BTreeMap::new();
    for session in SESSIONS {
        let verdict = answers::compare(&client, session, &told.sessions[*session]).await;
        let verdict = verdict.unwrap_or_else(|wrong| {
            panic!("seed {seed}: served as right after {places:?}: {wrong}\n{}", server.log())
        });
        verdicts.insert(*session, verdict);
    }
    // What is listed of a session that is refused is what was known of it last.
    let is_served = |item: &&Value| {
        item["id"].as_str().is_none_or(|id| verdicts.get(id) != Some(&Verdict::Refused))
    };
    let listed = answers::list(&client).await;
    let (listed, told): (Vec<_>, Vec<_>) =
        (listed.iter().filter(is_served).collect(), told.list.iter().filter(is_served).collect());
    assert_eq!(listed, told, "seed {seed}: the list after {places:?}\n{}", server.log());
    let log = server.log();
    server.kill();
    let refused: Vec<_> = verdicts
        .iter()
        .filter(|(_, verdict)| **verdict == Verdict::Refused)
        .map(|(s, _)| *s)
        .collect();
    let in_sessions = flips.iter().filter(|flip| flip.session.is_some()).count();
    assert!(
        refused.len() <= in_sessions.max(1),
        "seed {seed}: {refused:?} after {places:?}\n{log}"
    );
    for flip in flips {
        let verdict = match flip.session {
            Some(session) if verdicts[session] == Verdict::Refused => Verdict::Refused,
            Some(session)
                if log.lines().any(|line| line.contains("made anew") && line.contains(session)) =>
            {
                Verdict::Repaired
            }
            Some(_) => Verdict::Harmless,
            None if log.contains("made anew from the session files") => Verdict::Repaired,
            None if !refused.is_empty() => Verdict::Refused,
            None => Verdict::Harmless,
        };
        counts.add(flip.what, verdict);
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}
