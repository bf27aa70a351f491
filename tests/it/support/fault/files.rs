//! The session files of a data folder, as the tests open them: beside the server, never under it.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use rusqlite::Connection;

use crate::support::Server;

/// The session files in a data folder.
pub fn session_files(data: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let folders = std::fs::read_dir(data.join("sessions")).into_iter().flatten();
    let folders = folders.map(|folder| folder.unwrap().path()).filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten());
    files.map(|file| file.unwrap().path()).filter(|path| is_database(path))
}

/// How many session files `server` has open: those of the actors that are awake.
pub fn open_session_files(server: &Server) -> usize {
    let sessions = server.data.canonicalize().unwrap().join("sessions");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).into_iter().flatten();
    let open = descriptors.filter_map(|entry| entry.ok()?.path().read_link().ok());
    open.filter(|file| file.starts_with(&sessions) && is_database(file)).count()
}

/// When each session file was last written to.
pub fn written_last(data: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let time = |path: PathBuf| Some((path.clone(), path.metadata().ok()?.modified().ok()?));
    session_files(data).filter_map(time).collect()
}

/// Whether no session file is open and `sessions` of them were written to since `before`, a [`written_last`].
pub fn asleep_since(
    server: &Server,
    before: &BTreeMap<PathBuf, SystemTime>,
    sessions: usize,
) -> bool {
    let newer =
        |(path, time): &(PathBuf, SystemTime)| before.get(path).is_none_or(|before| time > before);
    open_session_files(server) == 0
        && written_last(&server.data).into_iter().filter(newer).count() >= sessions
}

/// What SQLite says of the session files of a stopped server; nothing if they are sound.
pub fn corrupt_files(data: &Path) -> Vec<String> {
    let check = |path: &PathBuf| -> Result<String, _> {
        Connection::open(path)?.query_row("PRAGMA integrity_check", [], |row| row.get(0))
    };
    session_files(data)
        .map(|path| (check(&path), path))
        .filter(|(said, _)| said.as_deref() != Ok("ok"))
        .map(|(said, path)| format!("{} is corrupt: {said:?}", path.display()))
        .collect()
}

/// The user messages in the session file of a stopped server: seq and content. Other kinds of actors have none.
pub fn stored_messages(path: &Path) -> Vec<(u64, String)> {
    let file = Connection::open(path).unwrap();
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'message'";
    if file.query_row(tables, [], |row| row.get::<_, i64>(0)).unwrap() == 0 {
        return Vec::new();
    }
    let mut query = file.prepare("SELECT seq, content FROM message WHERE role = 'user'").unwrap();
    let rows = query.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?))).unwrap();
    rows.map(|row| row.map(|(seq, content)| (u64::try_from(seq).unwrap(), content)).unwrap())
        .collect()
}

fn is_database(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "db")
}
