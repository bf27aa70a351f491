//! The data folder: who may use it, and where in it things are.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process;

use crate::base::Key;
use crate::base::ids::ActorKind;
use crate::base::ids::KeyHash;
use crate::storage::Error;
use crate::storage::While;
use crate::storage::claim::Claim;
use crate::storage::claim::Claims;
use crate::storage::error::At;

/// The file of the actor of `kind` with `hash` in the data folder `root`. Made of its hash alone: no character of an id
/// reaches the file system.
#[must_use]
pub fn file_of(root: &Path, kind: ActorKind, hash: KeyHash) -> PathBuf {
    let name = hash.to_string();
    root.join(kind.folder()).join(&name[..2]).join(format!("{name}.db"))
}

/// Takes the data folder `root` so that no server can begin to use it while the locks are open; `None` if one uses it.
///
/// # Errors
///
/// [`Error::Io`] when that cannot be told.
pub fn lock(root: &Path) -> Result<Option<Vec<File>>, Error> {
    let doing = "opening the lock of the data folder";
    let mut locks = vec![File::open(root).while_(doing)?];
    match File::open(root.join("LOCK")) {
        // No server ever used the folder.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        file => locks.push(file.while_(doing)?),
    }
    for lock in &locks {
        if !take(lock).while_(doing)? {
            return Ok(None);
        }
    }
    Ok(Some(locks))
}

/// Locks `file` for as long as it is open; false if somebody else has it.
fn take(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        // A network file system locks only what is open for writing, which no folder is.
        Err(rustix::io::Errno::BADF) if file.metadata()?.is_dir() => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// A data folder that this process owns.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    claims: Claims,
    /// The folder and the file `LOCK` in it, which somebody may remove; locked for as long as they are open.
    _locks: [File; 2],
}

impl Folder {
    /// Makes `root` if it is new and takes it for this process alone.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] when another process has it; [`Error::NotOurs`] when it holds something else;
    /// [`Error::Folder`] when it cannot be made or written. Nothing is in it then that was not there before.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        if root.is_file() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory)).at(root, "is a file");
        }
        builder.create(root).at(root, "cannot be made")?;
        let root = root.canonicalize().at(root, "cannot be found")?;
        if let Some(example) = foreign(&root)? {
            return Err(Error::NotOurs { folder: root, example });
        }
        let path = root.join("LOCK");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(&path).at(&path, "cannot be opened")?;
        let this = File::open(&root).at(&root, "cannot be opened")?;
        if !take(&this).at(&root, "cannot be locked")?
            || !take(&lock).at(&path, "cannot be locked")?
        {
            let mut text = String::new();
            // It only helps to find the other one.
            let by = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(Error::Locked { folder: root, by });
        }
        let folders = ActorKind::ALL.iter().map(|kind| kind.folder());
        for name in folders.chain(["journal", "quarantine"]) {
            let path = root.join(name);
            builder.create(&path).at(&path, "cannot be made")?;
        }
        // For people who look who has it; on a full disk there is no number.
        drop(lock.set_len(0).and_then(|()| write!(lock, "{}", process::id())));
        Ok(Self { root, claims: Claims::default(), _locks: [this, lock] })
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The segments of the journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// What the journal had of sessions that are quarantined.
    #[must_use]
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// The catalogue.
    #[must_use]
    pub fn catalogue(&self) -> PathBuf {
        self.root.join("node.db")
    }

    /// The file of an actor. Made of its hash alone: no character of an id reaches the file system.
    #[must_use]
    pub fn file(&self, key: &Key) -> PathBuf {
        file_of(&self.root, key.kind(), key.hash())
    }

    /// Where the file of the actor with `hash` may lie, of which nothing else is known.
    pub fn files_of(&self, hash: KeyHash) -> impl Iterator<Item = PathBuf> {
        ActorKind::ALL.iter().copied().map(move |kind| file_of(&self.root, kind, hash))
    }

    /// The mark that a session was deleted.
    #[must_use]
    pub fn tombstone(&self, key: &Key) -> PathBuf {
        self.file(key).with_extension("gone")
    }

    /// The file that takes the place of a damaged one. When it is there it is whole.
    #[must_use]
    pub fn rebuilt(&self, key: &Key) -> PathBuf {
        self.file(key).with_extension("rebuilt")
    }

    /// Puts the file that was made anew, if there is one, into the place of the damaged one; safe to repeat.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; calling it again goes on where it stopped.
    pub fn finish_rebuild(&self, key: &Key) -> Result<(), Error> {
        let rebuilt = self.rebuilt(key);
        if !self.has(&rebuilt)? {
            return Ok(());
        }
        let path = self.file(key);
        // The log first: beside the new file it would be taken for that one's.
        remove(&path, &["db-wal", "db-shm"])?;
        fs::rename(&rebuilt, &path).while_("replacing a damaged session file")
    }

    /// Removes the file of a session that is made anew from the journal.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be removed.
    pub fn remove_damaged(&self, key: &Key) -> Result<(), Error> {
        remove(&self.file(key), &["db-wal", "db-shm", "db"])
    }

    /// Where `path` lies in the folder, for people who look for it.
    #[must_use]
    pub fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// Takes the file of a session for whoever opens it, once nobody else in this process has it. May block.
    #[must_use]
    pub fn claim(&self, hash: KeyHash) -> Claim {
        self.claims.take(hash)
    }

    /// Takes the file of a session unless somebody in this process has it.
    #[must_use]
    pub fn try_claim(&self, hash: KeyHash) -> Option<Claim> {
        self.claims.try_take(hash)
    }

    /// Whether there is a file at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when that cannot be told.
    pub fn has(&self, path: &Path) -> Result<bool, Error> {
        path.try_exists().while_("looking for a session file")
    }

    /// Writes `bytes` to `path` in one go: readers see nothing or all of it. Not synced.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; nothing is at `path` then.
    pub fn write_whole(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let write = || -> io::Result<()> {
            let temporary = path.with_extension("new");
            let open = || {
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)
            };
            let mut file = match open() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let parent = path.parent().ok_or(error)?;
                    DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
                    open()?
                }
                other => other?,
            };
            let written = file.write_all(bytes);
            drop(file);
            written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
                drop(fs::remove_file(&temporary));
            })
        };
        write().while_("writing a session file")
    }

    /// Removes the file of a session and whatever SQLite put beside it, leaving the mark that it is gone.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; calling it again goes on where it stopped.
    pub fn remove_file(&self, key: &Key) -> Result<(), Error> {
        self.write_whole(&self.tombstone(key), &[])?;
        remove(&self.file(key), &["db", "db-wal", "db-shm", "new", "rebuilt"])
    }

    /// Makes the session file at `path`, what SQLite put beside it, and their names durable. No connection of this process may
    /// have it open: closing a descriptor of a file ends all locks on it (POSIX).
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when that is not known.
    pub fn sync(&self, path: &Path) -> Result<(), Error> {
        let sync = |path: &Path| match File::open(path).and_then(|file| file.sync_all()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        let wal = path.with_extension("db-wal");
        // The folder that names it, and the one that names the folder.
        let mut all = [path, &wal].into_iter().chain(path.ancestors().skip(1).take(2));
        all.try_for_each(sync).while_("making a session file durable")
    }

    /// Makes everything in the folder durable.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when that is not known.
    pub fn sync_all(&self) -> Result<(), Error> {
        let sync = File::open(&self.root).and_then(|root| Ok(rustix::fs::syncfs(root)?));
        sync.while_("making session files durable")
    }

    /// The folders that files of actors of `kind` are in.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when they cannot be listed.
    pub fn folders_of(&self, kind: ActorKind) -> Result<Vec<PathBuf>, Error> {
        let mut folders = list(&self.root.join(kind.folder()))?;
        // What else somebody puts there is none of ours.
        folders.retain(|folder| folder.is_dir());
        Ok(folders)
    }

    /// The files in one of those folders.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be read.
    pub fn files_in(&self, folder: &Path) -> Result<Vec<PathBuf>, Error> {
        let mut found = list(folder)?;
        found.retain(|path| path.extension().is_some_and(|extension| extension == "db"));
        Ok(found)
    }

    /// Whether there is the file of any actor.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a folder cannot be read.
    pub fn has_files(&self) -> Result<bool, Error> {
        for kind in ActorKind::ALL.iter().copied() {
            for folder in self.folders_of(kind)? {
                if !self.files_in(&folder)?.is_empty() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Removes the files beside each other that differ in their `extensions`, whichever there are.
fn remove(path: &Path, extensions: &[&str]) -> Result<(), Error> {
    for extension in extensions {
        let path = path.with_extension(extension);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => fs::remove_dir(&path),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
        .while_("removing a session file")?;
    }
    Ok(())
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>();
    read().at(folder, "cannot be read")
}

/// What a data folder is known by: names of ours begin with these. After a power loss any one may be all there is.
const OURS: &[&str] = &["LOCK", "journal", "sessions", "quarantine", "node.db"];

/// The name of something in `folder`, if there is something and nothing of ours. Hidden files and what file systems put
/// at their top are in many a new folder.
fn foreign(folder: &Path) -> Result<Option<String>, Error> {
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut names: Vec<String> = list(folder)?.iter().filter_map(name).collect();
    if names.iter().any(|name| OURS.iter().any(|ours| name.starts_with(ours))) {
        return Ok(None);
    }
    names.retain(|name| !name.starts_with('.') && name != "lost+found");
    Ok(names.into_iter().min())
}
