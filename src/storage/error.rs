//! Why storage failed, and what was being done.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::base::Classify;
use crate::base::Kind;
use crate::domain::kind::Undecodable;
use crate::storage::journal::Damage;
use crate::storage::journal::Flaw;

/// Why storage failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite refused.
    #[error("{doing}")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// The operating system refused.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What it says.
        #[source]
        source: io::Error,
    },
    /// The file was written by a newer program.
    #[error(
        "the file has schema version {is}, this program knows versions up to {known}: start a newer sessile"
    )]
    TooNew {
        /// Version of the file.
        is: i64,
        /// Latest version that this program knows.
        known: i64,
    },
    /// An event is not what it was when it was written.
    #[error("event {seq} of the session does not match its checksum")]
    EventCorrupt {
        /// Which event.
        seq: u64,
    },
    /// A row is not what it was when it was written.
    #[error("row {row} of table `{table}` does not match its checksum")]
    RowCorrupt {
        /// Which table.
        table: &'static str,
        /// Its key.
        row: String,
    },
    /// A row that must be there is not.
    #[error("row {row} of table `{table}` is missing")]
    RowMissing {
        /// Which table.
        table: &'static str,
        /// Its key, or where it should be.
        row: String,
    },
    /// A session's file is damaged and cannot be made anew.
    #[error(
        "its file {} is damaged and its log not whole; restore the file from a copy, with the one called -wal beside \
         it if there is one, or delete the session; `sessile verify` says all that was found", file.display()
    )]
    Damaged {
        /// Which file, in the data folder.
        file: PathBuf,
        /// What was found.
        #[source]
        source: Box<Error>,
    },
    /// A stored event makes no sense.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// The journal goes on later than the file ends.
    #[error("the file ends at event {file}, the journal goes on at event {journal}")]
    Gap {
        /// Last event in the file.
        file: u64,
        /// First event in the journal.
        journal: u64,
    },
    /// The file has less than was once stored.
    #[error(
        "{}, event {known} was stored once: restore the file from a copy; if the folder was restored on purpose, stop \
         the server and remove node.db, and it is made anew from the files", short(*file)
    )]
    Behind {
        /// Last event in file and journal; 0 if there is no file.
        file: u64,
        /// Last event that the catalogue knows of.
        known: u64,
    },
    /// The file is not a whole database.
    #[error("the file is damaged: {problem}")]
    FileCorrupt {
        /// What the check said.
        problem: String,
    },
    /// The file belongs to another session.
    #[error("the file says that it belongs to another session")]
    WrongFile,
    /// A record of the journal that belongs to the session cannot be used, and the file does not hold its events.
    #[error("{0}")]
    Flawed(Box<Flaw>),
    /// Durable records of the journal are missing.
    #[error(
        "journal segment {} is damaged at byte {}: {} durable records are missing and nothing says whose they are. \
         Restore it from a copy, or start with --accept-journal-damage to go on without them",
        .0.segment.display(), .0.offset, .0.missing.1 - .0.missing.0
    )]
    JournalDamaged(Box<Damage>),
    /// The data folder, or something in it, cannot be used.
    #[error("{} {problem}: {cause}; {}", path.display(), advice(cause))]
    Folder {
        /// What.
        path: PathBuf,
        /// What is wrong with it, as in "cannot be read".
        problem: &'static str,
        /// What the system says.
        cause: io::Error,
    },
    /// The folder holds something else.
    #[error(
        "{} holds other files, as {example}, and nothing of sessile; name an empty or a new folder with --data \
         (storage.data)", folder.display()
    )]
    NotOurs {
        /// Which folder.
        folder: PathBuf,
        /// The name of something in it.
        example: String,
    },
    /// Another server uses the folder.
    #[error(
        "the data folder {} is used by another sessile{}; stop that one, or name another folder with --data \
         (storage.data)", folder.display(), process(*by)
    )]
    Locked {
        /// Which folder.
        folder: PathBuf,
        /// Its process, if that is known.
        by: Option<u32>,
    },
    /// The catalogue cannot be opened, and is not damaged.
    #[error(
        "the list of sessions {} cannot be opened; if nothing else helps, remove it while no server runs: it is made \
         anew from the session files", path.display()
    )]
    Catalogue {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<Error>,
    },
    /// A connection of the pool could not be had.
    #[error("waiting for a connection to the catalogue")]
    Pool(#[from] r2d2::Error),
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            "start the server as a user who may read and write there, or name another folder with --data (storage.data)"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space there, or name a folder on another disk with --data (storage.data)"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "mount it for writing, or name another folder with --data (storage.data)"
        }
        io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::AlreadyExists => {
            "move out of the way what is there, or name another folder with --data (storage.data)"
        }
        _ => "see what is there, or name another folder with --data (storage.data)",
    }
}

fn process(by: Option<u32>) -> String {
    by.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

fn short(file: u64) -> String {
    match file {
        0 => "the session has no file".to_owned(),
        file => format!("the file ends at event {file}"),
    }
}

/// There is no space for the index of a write-ahead log. Source: SQLite's result codes, `SQLITE_IOERR_SHMSIZE`.
const IOERR_SHMSIZE: i32 = 4_874;

impl Error {
    /// Whether a session's file is damaged. One of another session or of a newer program is not.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        self.kind() == Kind::Corrupt && !matches!(self, Self::WrongFile | Self::TooNew { .. })
    }

    /// Whether the machine has no more of something at the moment: space, descriptors, memory. Nothing speaks against the
    /// file then.
    #[must_use]
    pub fn is_shortage(&self) -> bool {
        // ENOMEM, ENFILE, EMFILE.
        let of_system = |error: &io::Error| matches!(error.raw_os_error(), Some(12 | 23 | 24));
        self.is_full()
            || match self {
                Self::Sqlite { source, .. } => {
                    source.sqlite_error_code() == Some(rusqlite::ErrorCode::OutOfMemory)
                }
                Self::Io { source, .. } => of_system(source),
                Self::Folder { cause, .. } => of_system(cause),
                _ => false,
            }
    }

    /// Whether the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => {
                let code = source.sqlite_error().map(|error| error.extended_code);
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
                    || code == Some(IOERR_SHMSIZE)
            }
            Self::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Sqlite { source, .. } => match source.sqlite_error_code() {
                // The statements are ours: one that SQLite does not understand meets a schema that is damaged.
                Some(
                    rusqlite::ErrorCode::DatabaseCorrupt
                    | rusqlite::ErrorCode::NotADatabase
                    | rusqlite::ErrorCode::Unknown,
                ) => Kind::Corrupt,
                // What was read is not of the type that the program wrote, or makes no sense to it.
                None => Kind::Corrupt,
                Some(_) => Kind::Unavailable,
            },
            Self::Io { .. }
            | Self::Pool(_)
            | Self::Folder { .. }
            | Self::NotOurs { .. }
            | Self::Locked { .. }
            | Self::Catalogue { .. } => Kind::Unavailable,
            Self::TooNew { .. }
            | Self::EventCorrupt { .. }
            | Self::RowCorrupt { .. }
            | Self::RowMissing { .. }
            | Self::Damaged { .. }
            | Self::Undecodable(_)
            | Self::Gap { .. }
            | Self::Behind { .. }
            | Self::FileCorrupt { .. }
            | Self::WrongFile
            | Self::Flawed(_)
            | Self::JournalDamaged(_) => Kind::Corrupt,
        }
    }

    fn code(&self) -> &'static str {
        match self.kind() {
            Kind::Corrupt => "quarantined",
            _ if self.is_full() => "storage_full",
            _ => "actor.reset",
        }
    }
}

/// Says what of the data folder cannot be used.
pub(super) trait At<T> {
    /// Adds `path` and `problem`, as in "cannot be read".
    fn at(self, path: &Path, problem: &'static str) -> Result<T, Error>;
}

impl<T> At<T> for Result<T, io::Error> {
    fn at(self, path: &Path, problem: &'static str) -> Result<T, Error> {
        self.map_err(|cause| Error::Folder { path: path.to_owned(), problem, cause })
    }
}

/// `error` with its causes, in a line.
#[must_use]
pub fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Says what was being done when a driver failed.
pub trait While<T> {
    /// Adds `doing`, as in "committing an append".
    ///
    /// # Errors
    ///
    /// The same, as [`Error`].
    fn while_(self, doing: &'static str) -> Result<T, Error>;
}

impl<T> While<T> for Result<T, rusqlite::Error> {
    fn while_(self, doing: &'static str) -> Result<T, Error> {
        self.map_err(|source| match RowDamage::of(&source) {
            Some(RowDamage { table, row }) => Error::RowCorrupt { table, row: row.clone() },
            None => Error::Sqlite { doing, source },
        })
    }
}

impl<T> While<T> for Result<T, io::Error> {
    fn while_(self, doing: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Io { doing, source })
    }
}

/// How reading a row says, through the driver, that the row does not match its checksum.
#[derive(Debug, thiserror::Error)]
#[error("row {row} of table `{table}` does not match its checksum")]
pub(super) struct RowDamage {
    /// Which table.
    pub table: &'static str,
    /// Its key.
    pub row: String,
}

impl RowDamage {
    fn of(error: &rusqlite::Error) -> Option<&Self> {
        match error {
            rusqlite::Error::FromSqlConversionFailure(_, _, source) => source.downcast_ref(),
            _ => None,
        }
    }
}
