//! A disk that remembers what is durable: fed with a trace, it gives the files that a power loss may leave behind.
//!
//! The rules are those that programs may rely on, not those of one file system: a sync of a file makes its data and its
//! own name durable; creating, renaming and unlinking other files is durable after a sync of the folder or of the whole
//! file system. When a sync fails, what it was for is on the disk or gone, and no later sync brings it back: Linux takes
//! pages that could not be written for clean. What is not durable is lost, kept, or torn in sectors of 512 bytes, in any order; changes of names are
//! kept in their order, as journalling file systems do.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;

use super::trace::Op;
use super::trace::Synced;
use super::trace::Trace;
use crate::support::ledger::chance::Chance;

const SECTOR_BYTES: u64 = 512;

/// The files of a data folder: path and content, folders end with `/` and have no content.
pub type Image = Vec<(String, Vec<u8>)>;

/// What the power loss does to that which is not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it is lost.
    Everything,
    /// What came last is lost.
    Tail,
    /// All writes are lost, no change of names or sizes is: as when a file system's own journal is ahead of the data.
    Writes,
    /// Any part is lost, and writes are torn.
    Anything,
}

/// The state of the disk after the operations so far.
pub struct Disk {
    now: usize,
    /// Decides what a failed sync leaves.
    chance: Chance,
    inodes: Vec<Inode>,
    /// Shim id -> inode.
    ids: HashMap<u32, usize>,
    /// What a program sees.
    names: BTreeMap<String, usize>,
    /// What is durable for sure, as far as the changes were folded into it.
    durable: Names,
    changes: Vec<NameChange>,
    syncs: HashMap<u64, (Synced, usize)>,
}

#[derive(Default)]
struct Inode {
    durable: Vec<u8>,
    pending: Vec<(usize, Change)>,
    /// When the writes were that a failed sync was for.
    doubtful: BTreeSet<usize>,
}

#[derive(Clone)]
enum Change {
    Write { at: u64, data: Vec<u8> },
    Resize(u64),
    Allocate(u64),
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<String, usize>,
    folders: BTreeSet<String>,
}

struct NameChange {
    time: usize,
    durable: bool,
    /// The inode whose sync makes this durable, too.
    inode: Option<usize>,
    gone: Option<String>,
    /// The new name of `inode`, or the new folder.
    new: Option<String>,
}

impl Disk {
    /// An empty disk; `chance` decides what failed syncs leave.
    pub fn new(chance: Chance) -> Self {
        Self {
            now: 0,
            chance,
            inodes: Vec::new(),
            ids: HashMap::new(),
            names: BTreeMap::new(),
            durable: Names::default(),
            changes: Vec::new(),
            syncs: HashMap::new(),
        }
    }

    /// Carries out the next operation of `trace`.
    pub fn step(&mut self, trace: &Trace) {
        let op = &trace.ops[self.now];
        self.now += 1;
        match op {
            Op::Open { file, path, created, truncated } => {
                self.open(*file, path, *created, *truncated)
            }
            Op::Write { file, at, data } => {
                self.change(*file, Change::Write { at: *at, data: trace.data(data).to_vec() });
            }
            Op::Resize { file, size } => self.change(*file, Change::Resize(*size)),
            Op::Allocate { file, size } => self.change(*file, Change::Allocate(*size)),
            Op::SyncBegin { what, token } => {
                self.syncs.insert(*token, (what.clone(), self.now));
            }
            Op::SyncEnd { token, failed } => {
                let (what, begun) = self.syncs.remove(token).unwrap();
                if *failed {
                    self.fail_to_sync(&what, begun);
                } else {
                    self.sync(&what, begun);
                }
            }
            Op::Rename { from, to } => {
                let inode = self.names.remove(from);
                if let Some(inode) = inode {
                    self.names.insert(to.clone(), inode);
                }
                self.rename_folder(from, to);
                self.note(inode, Some(from.clone()), Some(to.clone()));
            }
            Op::Link { from, to } => {
                let inode = self.names[from];
                self.names.insert(to.clone(), inode);
                self.note(Some(inode), None, Some(to.clone()));
            }
            Op::Unlink { path } => {
                self.names.remove(path);
                self.note(None, Some(path.clone()), None);
            }
            Op::CreateFolder { path } => self.note(None, None, Some(path.clone())),
            Op::Send { .. } | Op::Sent { .. } | Op::Received { .. } => {}
        }
    }

    /// How many operations were carried out.
    pub fn now(&self) -> usize {
        self.now
    }

    /// The file that the shim calls `id`, for [`Disk::is_durable`]; it stays the same when it is renamed.
    pub fn file(&self, id: u32) -> usize {
        self.ids[&id]
    }

    /// Whether what was written to `file` at `time` is durable for sure.
    pub fn is_durable(&self, file: usize, time: usize) -> bool {
        let inode = &self.inodes[file];
        inode.pending.first().is_none_or(|(at, _)| *at > time) && !inode.doubtful.contains(&time)
    }

    /// What a power loss now may leave.
    pub fn image(&self, loss: Loss, chance: &mut Chance) -> Image {
        let oldest = self.oldest_pending();
        let kept_until = match loss {
            Loss::Everything => 0,
            Loss::Writes => self.now,
            Loss::Tail | Loss::Anything => chance.between(oldest.saturating_sub(1), self.now),
        };
        let mut names = self.durable.clone();
        for change in &self.changes {
            if change.durable || change.time <= kept_until {
                names.apply(change);
            }
        }
        let mut image: Image =
            names.folders.iter().map(|path| (format!("{path}/"), Vec::new())).collect();
        for (path, inode) in &names.files {
            let inode = &self.inodes[*inode];
            let mut content = inode.durable.clone();
            for (time, change) in &inode.pending {
                match change {
                    Change::Write { .. } if loss == Loss::Writes => {}
                    Change::Write { at, data } if loss == Loss::Anything => {
                        tear(&mut content, *at, data, chance)
                    }
                    change if *time <= kept_until => change.apply(&mut content),
                    _ => {}
                }
            }
            image.push((path.clone(), content));
        }
        image
    }

    fn open(&mut self, file: u32, path: &str, created: bool, truncated: bool) {
        if created {
            self.inodes.push(Inode::default());
            let inode = self.inodes.len() - 1;
            self.ids.insert(file, inode);
            self.names.insert(path.to_owned(), inode);
            self.note(Some(inode), None, Some(path.to_owned()));
        } else if !self.ids.contains_key(&file) {
            // A later process of the same trace has its own ids for the files it finds.
            let inode =
                self.names.get(path).unwrap_or_else(|| panic!("{path} was there before the trace"));
            self.ids.insert(file, *inode);
        }
        if truncated && !created {
            self.change(file, Change::Resize(0));
        }
    }

    fn change(&mut self, file: u32, change: Change) {
        let inode = self.ids[&file];
        self.inodes[inode].pending.push((self.now, change));
    }

    fn note(&mut self, inode: Option<usize>, gone: Option<String>, new: Option<String>) {
        self.changes.push(NameChange { time: self.now, durable: false, inode, gone, new });
    }

    fn rename_folder(&mut self, from: &str, to: &str) {
        let inside = format!("{from}/");
        let moved: Vec<String> =
            self.names.keys().filter(|path| path.starts_with(&inside)).cloned().collect();
        assert!(
            moved.is_empty(),
            "{from} -> {to}: folders with files in them are not renamed in this model"
        );
    }

    fn sync(&mut self, what: &Synced, begun: usize) {
        match what {
            Synced::File(file) => {
                let inode = self.ids[file];
                self.inodes[inode].settle(begun);
                self.settle_names(begun, |change| change.inode == Some(inode));
            }
            Synced::Folder(folder) => {
                self.settle_names(begun, |change| {
                    let touches = |path: &String| parent(path) == folder;
                    change.gone.iter().chain(&change.new).any(touches)
                });
                self.settle_names(begun, |change| change.new.as_ref() == Some(folder));
            }
            Synced::Everything => {
                for inode in &mut self.inodes {
                    inode.settle(begun);
                }
                self.settle_names(begun, |_| true);
            }
        }
    }

    /// Each write that was to be synced is durable, torn or gone for ever. Sizes are the file system's own.
    fn fail_to_sync(&mut self, what: &Synced, begun: usize) {
        let failed = match what {
            Synced::File(file) => self.ids[file]..self.ids[file] + 1,
            Synced::Everything => 0..self.inodes.len(),
            Synced::Folder(_) => return,
        };
        for inode in &mut self.inodes[failed] {
            inode.settle_some(begun, &mut self.chance);
        }
    }

    /// Makes the name changes until `begun` that are `meant` durable, and the folders that lead to them.
    fn settle_names(&mut self, begun: usize, meant: impl Fn(&NameChange) -> bool) {
        let mut needed = BTreeSet::new();
        for change in self.changes.iter_mut().filter(|change| change.time < begun && meant(change))
        {
            change.durable = true;
            let mut path = change.new.as_deref().unwrap_or("");
            while !path.is_empty() {
                path = parent(path);
                needed.insert(path.to_owned());
            }
        }
        for change in &mut self.changes {
            change.durable |= change.inode.is_none()
                && change.new.as_ref().is_some_and(|path| needed.contains(path));
        }
        let settled = self.changes.iter().take_while(|change| change.durable).count();
        for change in self.changes.drain(..settled) {
            self.durable.apply(&change);
        }
    }

    fn oldest_pending(&self) -> usize {
        let data =
            self.inodes.iter().filter_map(|inode| inode.pending.first()).map(|(time, _)| *time);
        let names = self.changes.iter().filter(|change| !change.durable).map(|change| change.time);
        data.chain(names).min().unwrap_or(self.now)
    }
}

impl Inode {
    fn settle(&mut self, begun: usize) {
        let settled = self.pending.iter().take_while(|(time, _)| *time < begun).count();
        for (_, change) in self.pending.drain(..settled) {
            change.apply(&mut self.durable);
        }
    }

    fn settle_some(&mut self, begun: usize, chance: &mut Chance) {
        let settled = self.pending.iter().take_while(|(time, _)| *time < begun).count();
        for (time, change) in self.pending.drain(..settled) {
            match change {
                Change::Write { at, data } => {
                    self.doubtful.insert(time);
                    tear(&mut self.durable, at, &data, chance);
                }
                change => change.apply(&mut self.durable),
            }
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, data } => put(content, *at, data),
            Self::Resize(size) => content.resize(usize::try_from(*size).unwrap(), 0),
            Self::Allocate(size) => {
                let size = usize::try_from(*size).unwrap().max(content.len());
                content.resize(size, 0);
            }
        }
    }
}

impl Names {
    fn apply(&mut self, change: &NameChange) {
        if let Some(gone) = &change.gone {
            self.files.remove(gone);
            self.folders.remove(gone);
        }
        match (&change.new, change.inode) {
            (Some(path), Some(inode)) => {
                self.files.insert(path.clone(), inode);
            }
            (Some(path), None) => {
                self.folders.insert(path.clone());
            }
            (None, _) => {}
        }
    }
}

/// The folder of a path; `.` for those at the top, nothing for `.`
fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((folder, _)) => folder,
        None if path == "." => "",
        None => ".",
    }
}

fn put(content: &mut Vec<u8>, at: u64, data: &[u8]) {
    let at = usize::try_from(at).unwrap();
    let end = at + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(data);
}

/// Keeps all of a write, nothing, or some of its sectors.
fn tear(content: &mut Vec<u8>, at: u64, data: &[u8], chance: &mut Chance) {
    match chance.below(3) {
        0 => {}
        1 => put(content, at, data),
        _ => {
            let mut done = 0;
            while done < data.len() {
                let from = at + u64::try_from(done).unwrap();
                let left = usize::try_from(SECTOR_BYTES - from % SECTOR_BYTES).unwrap();
                let end = data.len().min(done + left);
                if chance.percent(50) {
                    put(content, from, &data[done..end]);
                }
                done = end;
            }
        }
    }
}
