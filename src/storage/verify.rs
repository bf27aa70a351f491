//! Checks a data folder and says what was found, also beside a running server. Nothing in the folder is changed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::ids::KeyHash;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::catalogue::Catalogue;
use crate::storage::describe;
use crate::storage::error::At;
use crate::storage::folder;
use crate::storage::journal;
use crate::storage::journal::Aside;
use crate::storage::journal::Checked;
use crate::storage::journal::Damage;
use crate::storage::kinds;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Files that were checked.
    pub checked: usize,
    /// Of those, the damaged ones.
    pub damaged: usize,
    /// Files that could not be checked.
    pub unchecked: usize,
}

impl Report {
    /// The result in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let Self { checked, damaged, unchecked } = self;
        let unchecked = match unchecked {
            0 => String::new(),
            count => format!(", {count} could not be checked"),
        };
        match damaged {
            0 => format!("checked {checked} files{unchecked}: nothing is damaged"),
            count => format!("checked {checked} files{unchecked}: {count} damaged"),
        }
    }

    fn add(&mut self, result: Result<bool, Error>, place: &str, print: &mut dyn FnMut(&str)) {
        match result {
            Ok(whole) => {
                self.checked += 1;
                self.damaged += usize::from(!whole);
            }
            Err(error) => {
                self.unchecked += 1;
                print(&format!("{place}: could not be checked: {}", describe(&error)));
            }
        }
    }
}

/// Checks everything in the data folder `root`; each finding is given to `print` in words that say what to do.
///
/// # Errors
///
/// [`Error::Io`] when there is no such folder or it cannot be read.
pub fn folder(root: &Path, print: &mut dyn FnMut(&str)) -> Result<Report, Error> {
    let (_locks, online) = take(root, print)?;
    let mut report = Report::default();
    // In this order: what somebody writes meanwhile is in the journal before the list knows it, and until a file has it.
    let known = known(root)?;
    let segments = segments(root, &mut report, print);
    // What cannot be read may hold what a file lacks.
    let in_journal = segments.as_deref().map(reached);
    let is_empty = segments.as_deref().is_some_and(<[Checked]>::is_empty);
    journal(root, segments.unwrap_or_default(), &mut report, print);
    let mut in_files = HashMap::new();
    let files = sessions(root, &mut report, print)?;
    for path in &files {
        in_files.extend(one(root, path, online, &mut report, print));
    }
    if is_empty && !files.is_empty() && !Catalogue::was_closed(&root.join("node.db"))? {
        print(
            "journal: it is empty, and the server that used the folder last did not stop in good order: what was stored \
             last is missing where the files do not have it; put its segments back",
        );
        report.add(Ok(false), "journal", print);
    }
    if let Some(in_journal) = in_journal {
        for (key, known) in known {
            let hash = key.hash();
            let file = in_files.get(&hash).copied();
            let reached = together(file, in_journal.get(&hash).copied());
            behind(root, &key, (file, reached, known), &mut report, print)?;
        }
    }
    let catalogue = root.join("node.db");
    if catalogue.try_exists().while_("looking for the list of sessions")? {
        report.add(list(&catalogue, print), "node.db", print);
    }
    Ok(report)
}

/// How far the sessions go that the list in `root` knows; nothing if it is damaged, which is said elsewhere.
fn known(root: &Path) -> Result<Vec<(Key, u64)>, Error> {
    let path = root.join("node.db");
    match path.try_exists().while_("looking for the list of sessions")? {
        true => Ok(Catalogue::reached(&path).unwrap_or_default()),
        false => Ok(Vec::new()),
    }
}

/// Says that `key` was stored up to event `known` and the folder has it up to `reached` only; `file` is the last event in
/// its file, if there is one.
fn behind(
    root: &Path,
    key: &Key,
    (file, reached, known): (Option<u64>, u64, u64),
    report: &mut Report,
    print: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    let path = folder::file_of(root, key.kind(), key.hash());
    let there = |path: &Path| path.try_exists().while_("looking for a session file");
    // One that was deleted meanwhile; one whose file says nothing was told of.
    if reached >= known || there(&path.with_extension("gone"))? || (file.is_none() && there(&path)?)
    {
        return Ok(());
    }
    let place = path.strip_prefix(root).unwrap_or(&path).display();
    print(&format!("{place} ({key:?}): {}", Error::Behind { file: reached, known }));
    report.checked += usize::from(file.is_none());
    report.damaged += 1;
    Ok(())
}

/// Checks the file of session `key` in the data folder `root`, as [`folder()`] does.
///
/// # Errors
///
/// [`Error::Io`] when the folder or the file is not there.
pub fn session(root: &Path, key: &Key, print: &mut dyn FnMut(&str)) -> Result<Report, Error> {
    let (_locks, online) = take(root, print)?;
    let mut report = Report::default();
    let known = known(root)?.into_iter().find(|(of, _)| of == key).map(|(_, last_seq)| last_seq);
    let path = folder::file_of(root, key.kind(), key.hash());
    let is_there = path.try_exists().while_("looking for the file of the session")?;
    let file = match is_there {
        true => one(root, &path, online, &mut report, print).map(|(_, last_seq)| last_seq),
        false => None,
    };
    // The journal is read, which is all of it, only where the file may lack something.
    if file.is_none_or(|file| known.is_some_and(|known| file < known))
        && let Some(segments) = segments(root, &mut report, print)
    {
        let in_journal = reached(&segments).get(&key.hash()).copied();
        if !is_there && known.is_none() && in_journal.is_none() {
            let missing = Err(io::Error::from(io::ErrorKind::NotFound));
            return missing.at(&path, "is not there: there is no such session in this folder");
        }
        let reached = together(file, in_journal);
        behind(root, key, (file, reached, known.unwrap_or(0)), &mut report, print)?;
    }
    Ok(report)
}

/// Checks the session file at `path`, wherever it lies.
///
/// # Errors
///
/// [`Error::Io`] when it is not there.
pub fn file(path: &Path, print: &mut dyn FnMut(&str)) -> Result<Report, Error> {
    fs::metadata(path).while_("looking for the file")?;
    let mut report = Report::default();
    // Somebody may be using it.
    let root = path.parent().unwrap_or(path);
    one(root, path, true, &mut report, print);
    Ok(report)
}

/// Takes the folder, so that no server begins to write meanwhile; whether one does already.
fn take(root: &Path, print: &mut dyn FnMut(&str)) -> Result<(Vec<fs::File>, bool), Error> {
    fs::read_dir(root).while_("reading the data folder")?;
    let locks = folder::lock(root)?;
    let online = locks.is_none();
    if online {
        print(
            "a server uses the folder: of sessions in use, what they had committed to their files is checked; what only \
             the journal has yet is checked there",
        );
    }
    Ok((locks.unwrap_or_default(), online))
}

/// The session files in `root`; a folder that cannot be read is told of, and so is what is none of the server's.
fn sessions(
    root: &Path,
    report: &mut Report,
    print: &mut dyn FnMut(&str),
) -> Result<Vec<PathBuf>, Error> {
    let doing = "listing the session files";
    let (mut found, mut folders) = (Vec::new(), Vec::new());
    for kind in ActorKind::ALL.iter().copied() {
        match fs::read_dir(root.join(kind.folder())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            listed => folders.extend(listed.while_(doing)?),
        }
    }
    for folder in folders {
        let folder = folder.while_(doing)?.path();
        let place = folder.strip_prefix(root).unwrap_or(&folder).display().to_string();
        if !folder.is_dir() {
            print(&format!("{place}: no file of the server; it does no harm"));
            continue;
        }
        let files = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        match files {
            Ok(files) => found.extend(files.iter().map(fs::DirEntry::path)),
            Err(source) => report.add(Err(Error::Io { doing, source }), &place, print),
        }
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "db"));
    found.sort();
    Ok(found)
}

/// The kind of actor that the file at `path` belongs to, as the folder in `root` says that it lies in.
fn kind_of(root: &Path, path: &Path) -> ActorKind {
    let inside = path.strip_prefix(root).unwrap_or(path);
    let lies_in = |kind: &ActorKind| inside.iter().next().is_some_and(|name| name == kind.folder());
    ActorKind::ALL.iter().copied().find(lies_in).unwrap_or(ActorKind::Session)
}

/// Checks a session file; whose it is and its last event, if it says that.
fn one(
    root: &Path,
    path: &Path,
    online: bool,
    report: &mut Report,
    print: &mut dyn FnMut(&str),
) -> Option<(KeyHash, u64)> {
    let place = path.strip_prefix(root).unwrap_or(path).display().to_string();
    let verified = match (kinds::files(kind_of(root, path)).verify)(path, online) {
        // It was deleted meanwhile.
        Err(Error::Io { source, .. }) if online && source.kind() == io::ErrorKind::NotFound => {
            return None;
        }
        Err(error) => {
            report.add(Err(error), &place, print);
            return None;
        }
        Ok(verified) => verified,
    };
    let name = verified.key.as_ref().map_or_else(String::new, |key| format!(" ({key:?})"));
    let strange = verified.key.as_ref().is_some_and(|key| !is_named_after(path, key.hash()));
    if strange {
        print(&format!(
            "{place}{name}: it lies under the name of another session, which is not served; put back the right file"
        ));
    }
    for finding in &verified.findings {
        print(&format!("{place}{name}: {}", describe(finding)));
    }
    if !verified.findings.is_empty() {
        print(match verified.can_be_made_anew {
            true => {
                "    its log is whole: it is made anew from it, with nothing lost, when the session is next used"
            }
            false => {
                "    its log is not whole either: the session is refused; restore the file from a copy, with the one \
                 called -wal if there is one, or delete the session"
            }
        });
    }
    if verified.is_old {
        print(&format!(
            "{place}: written by an earlier version; its rows are given checksums when the session is next used"
        ));
    }
    report.add(Ok(verified.findings.is_empty() && !strange), &place, print);
    Some((verified.key?.hash(), verified.last_seq?))
}

/// Whether the file at `path` is called as that of the session `hash`, if it is called as any.
fn is_named_after(path: &Path, hash: KeyHash) -> bool {
    let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { return true };
    let is_hash = stem.len() == 32 && stem.bytes().all(|byte| byte.is_ascii_hexdigit());
    !is_hash || stem == hash.to_string()
}

/// The segments of the journal; `None` if they cannot be read, which is told of.
fn segments(root: &Path, report: &mut Report, print: &mut dyn FnMut(&str)) -> Option<Vec<Checked>> {
    match journal::check(&root.join("journal")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Vec::new()),
        Err(source) => {
            let error = Error::Io { doing: "reading the journal", source };
            report.add(Err(error), "journal", print);
            None
        }
        Ok(segments) => Some(segments),
    }
}

/// How far each session goes of which `segments` hold something.
fn reached(segments: &[Checked]) -> HashMap<KeyHash, (u64, u64)> {
    let mut reached = HashMap::new();
    for (hash, (from, to)) in segments.iter().flat_map(|segment| &segment.reached) {
        let (first, last) = reached.entry(*hash).or_insert((*from, *to));
        (*first, *last) = ((*from).min(*first), (*to).max(*last));
    }
    reached
}

/// How far a session goes whose file ends at `file`, with what the journal has behind that.
fn together(file: Option<u64>, in_journal: Option<(u64, u64)>) -> u64 {
    let file = file.unwrap_or(0);
    match in_journal {
        // A journal that goes on further on does not help.
        Some((first, last)) if first <= file + 1 => file.max(last),
        _ => file,
    }
}

/// Says what is wrong with the segments of the journal, and which sessions are quarantined with records that were set aside.
fn journal(root: &Path, segments: Vec<Checked>, report: &mut Report, print: &mut dyn FnMut(&str)) {
    for segment in segments {
        let place = segment.path.strip_prefix(root).unwrap_or(&segment.path).display().to_string();
        let whose = |hash: KeyHash, key: Option<Key>| {
            key.map_or_else(|| format!("the session with hash {hash}"), |key| format!("{key:?}"))
        };
        if !segment.has_header {
            print(&format!("{place}: its header is damaged; what it said is known nevertheless"));
        }
        for (hash, key, reason) in segment.not_understood {
            print(&format!("{place}: a record of {} cannot be used: {reason}", whose(hash, key)));
        }
        let is_whole = segment.has_header && segment.flaws.is_empty() && segment.damage.is_empty();
        for (hash, key, flaw) in segment.flaws {
            print(&format!(
                "{place}: of {}, {flaw}\n    nothing is lost if the file of the session holds them; otherwise it alone \
                 is refused",
                whose(hash, key)
            ));
        }
        for Damage { offset, missing, .. } in segment.damage {
            print(&format!(
                "{place}: from byte {offset} on {} records cannot be read, and nothing says whose they are\n    restore \
                 it from a copy, or start the server with --accept-journal-damage to go on without them",
                missing.1 - missing.0
            ));
        }
        report.add(Ok(is_whole), &place, print);
    }
    match journal::set_aside(&root.join("quarantine")) {
        Err(source) => {
            let error = Error::Io { doing: "reading what was set aside", source };
            report.add(Err(error), "quarantine", print);
        }
        Ok(aside) => {
            for (hash, accepted, aside) in aside {
                let key = aside.as_ref().and_then(Aside::key);
                let whose = key.map_or_else(|| hash.to_string(), |key| format!("{key:?}"));
                let reason =
                    aside.map_or_else(|| "it cannot be read".to_owned(), |aside| aside.reason);
                match accepted {
                    true => print(&format!(
                        "quarantine/{hash}.accepted: evidence of a loss of {whose}: {reason}"
                    )),
                    false => {
                        let place = format!("quarantine/{hash}.records");
                        print(&format!("{place}: {whose} is quarantined: {reason}"));
                        report.add(Ok(false), &place, print);
                    }
                }
            }
        }
    }
}

fn list(path: &Path, print: &mut dyn FnMut(&str)) -> Result<bool, Error> {
    let finding = Catalogue::verify(path)?;
    if let Some(finding) = &finding {
        print(&format!(
            "node.db: {}\n    it is made anew from the session files when the server starts; nothing is lost",
            describe(finding)
        ));
    }
    Ok(finding.is_none())
}
