//! `sessile verify` and `sessile path`: what is in a data folder, for operators.

use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::base::Key;
use crate::base::ids::Name;
use crate::config::load;
use crate::storage::folder;
use crate::storage::verify;
use crate::storage::verify::Report;

/// Which folder, and which session in it.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// The data folder [default: ./data] [env: `SESSILE__STORAGE__DATA`]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// A TOML file with settings
    #[arg(long, value_name = "FILE", env = "SESSILE_CONFIG")]
    config: Option<PathBuf>,
}

impl Options {
    fn folder(&self) -> anyhow::Result<PathBuf> {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let flags = [("storage.data", self.data.as_ref().map(text))];
        let config = load(self.config.as_deref(), &flags).context("reading the settings")?;
        Ok(config.storage.data)
    }
}

/// The workspace of dev mode, which is the only one that there is without credentials.
const WORKSPACE: &str = "default";

fn key(id: &str) -> anyhow::Result<Key> {
    let workspace = Name::new(WORKSPACE).context("naming the workspace")?;
    let id = Name::new(id).with_context(|| format!("`{}` names no session", id.escape_debug()))?;
    Ok(Key::session(&workspace, &id))
}

/// Prints the path of the file of session `id`.
///
/// # Errors
///
/// When there is no such file, with what that means.
pub(super) fn path(options: &Options, id: &str) -> anyhow::Result<()> {
    let root = options.folder()?;
    let key = key(id)?;
    let path = folder::file_of(&root, key.kind(), key.hash());
    anyhow::ensure!(
        path.try_exists().with_context(|| format!("looking for {}", path.display()))?,
        "session `{}` has no file {}: a new session gets one within seconds, and one that was deleted has none",
        id.escape_debug(),
        path.display()
    );
    writeln!(std::io::stdout(), "{}", path.display()).context("writing to standard output")
}

/// Checks the whole folder, or one session, and says what was found: exit code 0 if everything is whole, 1 if something
/// is damaged, 2 if something could not be checked.
#[must_use]
pub(super) fn run(options: &Options, session: Option<&str>) -> ExitCode {
    match check(options, session) {
        Ok(report) if report.damaged > 0 => ExitCode::from(1),
        Ok(report) if report.unchecked > 0 => ExitCode::from(2),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "sessile: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn check(options: &Options, session: Option<&str>) -> anyhow::Result<Report> {
    let mut out = std::io::stdout().lock();
    let mut print = |line: &str| drop(writeln!(out, "{line}"));
    let root = options.folder()?;
    let report = match session {
        // A path is told from an id by where it leads.
        Some(path)
            if Path::new(path).extension().is_some_and(|extension| extension == "db")
                && Path::new(path).is_file() =>
        {
            verify::file(Path::new(path), &mut print)
        }
        Some(id) => verify::session(&root, &key(id)?, &mut print),
        None => verify::folder(&root, &mut print),
    };
    let report = report.with_context(|| format!("checking {}", root.display()))?;
    print(&report.summary());
    Ok(report)
}
