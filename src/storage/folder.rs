//! The data folder: who may use it, and where in it things are.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use crate::base::ids::KeyHash;
use crate::storage::Error;
use crate::storage::While;

/// A data folder that this process owns.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
}

impl Folder {
    /// Makes `root` if it is new and takes it for this process alone.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] when another process has it; [`Error::Io`] when it cannot be made or written.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(root).while_("creating the data folder")?;
        let root = root.canonicalize().while_("finding the data folder")?;
        for name in ["sessions", "journal"] {
            builder.create(root.join(name)).while_("creating a folder in the data folder")?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(root.join("LOCK")).while_("opening the lock of the data folder")?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| Error::Locked { folder: root.clone() })?;
        Ok(Self { root, _lock: lock })
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

    /// The catalogue.
    #[must_use]
    pub fn catalogue(&self) -> PathBuf {
        self.root.join("node.db")
    }

    /// The file of a session. Made of its hash alone: no character of an id reaches the file system.
    #[must_use]
    pub fn session(&self, hash: KeyHash) -> PathBuf {
        let name = hash.to_string();
        self.root.join("sessions").join(&name[..2]).join(format!("{name}.db"))
    }

    /// The mark that a session was deleted.
    #[must_use]
    pub fn tombstone(&self, hash: KeyHash) -> PathBuf {
        self.session(hash).with_extension("gone")
    }

    /// The file that takes the place of a damaged one. When it is there it is whole.
    #[must_use]
    pub fn rebuilt(&self, hash: KeyHash) -> PathBuf {
        self.session(hash).with_extension("rebuilt")
    }

    /// Puts the file that was made anew, if there is one, into the place of the damaged one; safe to repeat.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; calling it again goes on where it stopped.
    pub fn finish_rebuild(&self, hash: KeyHash) -> Result<(), Error> {
        let rebuilt = self.rebuilt(hash);
        if !self.has(&rebuilt)? {
            return Ok(());
        }
        let path = self.session(hash);
        // The log first: beside the new file it would be taken for that one's.
        remove(&path, &["db-wal", "db-shm"])?;
        fs::rename(&rebuilt, &path).while_("replacing a damaged session file")
    }

    /// Removes the file of a session that is made anew from the journal.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be removed.
    pub fn remove_damaged(&self, hash: KeyHash) -> Result<(), Error> {
        remove(&self.session(hash), &["db-wal", "db-shm", "db"])
    }

    /// Makes the file at `path`, and that it is there, durable.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; whether it is durable is not known then.
    pub fn sync(&self, path: &Path) -> Result<(), Error> {
        let doing = "syncing a file of a session";
        File::open(path).and_then(|file| file.sync_all()).while_(doing)?;
        let parent = path.parent().unwrap_or(path);
        File::open(parent).and_then(|folder| folder.sync_all()).while_(doing)
    }

    /// Where `path` lies in the folder, for people who look for it.
    #[must_use]
    pub fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
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
            let written = io::Write::write_all(&mut file, bytes);
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
    pub fn remove_session(&self, hash: KeyHash) -> Result<(), Error> {
        self.write_whole(&self.tombstone(hash), &[])?;
        remove(&self.session(hash), &["db", "db-wal", "db-shm", "new", "rebuilt"])
    }

    /// The folders that session files are in.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when they cannot be listed.
    pub fn session_folders(&self) -> Result<Vec<PathBuf>, Error> {
        list(&self.root.join("sessions"))
    }

    /// The session files in one of those folders.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be read.
    pub fn sessions_in(&self, folder: &Path) -> Result<Vec<PathBuf>, Error> {
        let mut found = list(folder)?;
        found.retain(|path| path.extension().is_some_and(|extension| extension == "db"));
        Ok(found)
    }

    /// Whether there is any session file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a folder cannot be read.
    pub fn has_sessions(&self) -> Result<bool, Error> {
        for folder in self.session_folders()? {
            if !self.sessions_in(&folder)?.is_empty() {
                return Ok(true);
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
    let doing = "listing the session files";
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).while_(doing)? {
        found.push(entry.while_(doing)?.path());
    }
    Ok(found)
}
