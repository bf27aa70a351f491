//! What a session that is quarantined has in the journal, set aside in a file of its own, so that the journal can go on
//! without it: `quarantine/<hash>.records`. Damaged records are in it as they were found.
//!
//! The file is made of a line of JSON that says what is where, and the bytes of the records. It takes the place of the
//! records in the segments: a session whose file catches up, as from a copy, goes on with what is whole in here. Once
//! an operator accepts the loss it is called `<hash>.accepted` and is evidence only.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::ids::KeyHash;
use crate::base::ids::Name;
use crate::storage::journal::Flaw;
use crate::storage::journal::ledger::ASIDE;
use crate::storage::journal::ledger::Noted;
use crate::storage::journal::ledger::Place;

const WAITING: &str = "records";
const ACCEPTED: &str = "accepted";

/// What the first line of a file says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Aside {
    /// The kind of the actor; those of the first versions were sessions.
    #[serde(default = "session")]
    pub kind: String,
    /// The workspace of the actor, if it is known.
    pub workspace: Option<Name>,
    /// Its name, if it is known.
    pub session: Option<Name>,
    /// Why it was quarantined.
    pub reason: String,
    /// The last place in the log that is in here; the log has nothing older of this session.
    pub through_lsn: u64,
    /// The records, oldest first.
    pub records: Vec<AsideRecord>,
}

/// A record in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AsideRecord {
    /// Bytes between the end of the line and its frame.
    pub offset: u64,
    /// How many bytes it takes.
    pub bytes: u64,
    /// Seq of its last event.
    pub last_seq: u64,
    /// Unix time of its last event, in milliseconds; 0 if that cannot be read.
    pub at_ms: i64,
    /// What is wrong with it.
    pub flaw: Option<Flaw>,
}

impl Aside {
    /// The actor, if it is known.
    #[must_use]
    pub fn key(&self) -> Option<Key> {
        let (workspace, name) = (self.workspace.clone()?, self.session.clone()?);
        Some(Key::new(ActorKind::from_name(&self.kind)?, workspace, name))
    }
}

fn session() -> String {
    ActorKind::Session.as_str().to_owned()
}

pub(super) fn path(dir: &Path, hash: KeyHash) -> PathBuf {
    dir.join(format!("{hash}.{WAITING}"))
}

/// Every file in `dir`: whose it is, whether its loss was accepted, and what it says, if that can be read.
///
/// # Errors
///
/// When the folder cannot be read.
pub fn list(dir: &Path) -> io::Result<Vec<(KeyHash, bool, Option<Aside>)>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let accepted = match extension {
            Some(WAITING) => false,
            Some(ACCEPTED) => true,
            _ => continue,
        };
        let hash = path.file_stem().and_then(|stem| KeyHash::parse(stem.to_str()?));
        if let Some(hash) = hash {
            found.push((hash, accepted, read(&path).ok().map(|(aside, _)| aside)));
        }
    }
    Ok(found)
}

/// What the file at `path` says, and where the bytes of its records begin.
fn read(path: &Path) -> io::Result<(Aside, u64)> {
    let mut line = String::new();
    let length = BufReader::new(File::open(path)?).read_line(&mut line)?;
    Ok((serde_json::from_str(&line)?, length as u64))
}

/// The records in the file of `hash`, as the ledger notes them; one that stands for all if it cannot be read.
pub(super) fn noted(dir: &Path, hash: KeyHash) -> Vec<Noted> {
    let path = path(dir, hash);
    let note = |key, (offset, last_seq, at_ms), flaw: Option<Flaw>| {
        let place = Place { segment: ASIDE, offset, last_seq, at_ms, flaw: flaw.map(Arc::new) };
        Noted { hash, key, place }
    };
    match read(&path) {
        Ok((aside, begin)) => {
            let key = aside.key();
            let records = aside.records.into_iter();
            let place = |r: &AsideRecord| (begin + r.offset, r.last_seq, r.at_ms);
            records.map(|r| note(key.clone(), place(&r), r.flaw)).collect()
        }
        Err(error) => {
            let flaw = Flaw {
                segment: ASIDE,
                offset: 0,
                bytes: 0,
                lsn: 0,
                first_seq: 1,
                last_seq: u64::MAX,
                reason: format!("{} cannot be read: {error}", path.display()),
            };
            vec![note(None, (0, u64::MAX, 0), Some(flaw))]
        }
    }
}

/// Writes the file of `hash`; it is durable when this returns.
pub(super) fn write(dir: &Path, hash: KeyHash, aside: &Aside, records: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let (path, new) = (path(dir, hash), dir.join(format!("{hash}.new")));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let mut line = serde_json::to_vec(aside)?;
    line.push(b'\n');
    let written = file.write_all(&line).and_then(|()| file.write_all(records));
    written.and_then(|()| file.sync_all()).and_then(|()| fs::rename(&new, &path)).inspect_err(
        |_| {
            drop(fs::remove_file(&new));
        },
    )?;
    sync(dir)
}

/// Makes it evidence of a loss that was accepted.
pub(super) fn accept(dir: &Path, hash: KeyHash) -> io::Result<()> {
    let path = path(dir, hash);
    fs::rename(&path, path.with_extension(ACCEPTED))?;
    sync(dir)
}

/// Removes what was set aside of `hash`, if anything; `all`: evidence of an accepted loss as well.
pub(super) fn remove(dir: &Path, hash: KeyHash, all: bool) -> io::Result<()> {
    let path = path(dir, hash);
    let extensions = if all { &[WAITING, ACCEPTED][..] } else { &[WAITING] };
    for extension in extensions {
        match fs::remove_file(path.with_extension(extension)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(())
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()?;
    dir.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
