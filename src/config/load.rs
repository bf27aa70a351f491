//! Reading the settings, and saying what is wrong with them.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;

use crate::config::Config;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("the configuration file {} cannot be read; name another with --config, or give it to this user", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("the configuration file {} is not TOML", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where not.
        #[source]
        source: config::ConfigError,
    },
    /// A setting is unknown.
    #[error("there is no setting `{name}`{}", hint(nearest.as_deref()))]
    Unknown {
        /// Its name.
        name: String,
        /// The setting that is called most like it.
        nearest: Option<String>,
    },
    /// A value cannot be used.
    #[error("the settings cannot be used")]
    Value(#[source] config::ConfigError),
    /// Values do not fit together; all problems at once.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default()
}

/// Prefix of environment variables, as in `SESSILE__HTTP__LISTEN`.
const PREFIX: &str = "SESSILE";

/// Reads the settings: defaults, then `file`, then the environment, then `flags` (dotted names and values).
///
/// # Errors
///
/// [`Error`], with the name of the setting.
pub fn load(file: Option<&Path>, flags: &[(&str, Option<String>)]) -> Result<Config, Error> {
    let mut builder = config::Config::builder();
    if let Some(path) = file {
        let text = fs::read_to_string(path);
        let text = text.map_err(|source| Error::File { path: path.to_owned(), source })?;
        let source = config::File::from_str(&text, config::FileFormat::Toml);
        let read = config::Config::builder().add_source(source.clone()).build();
        read.map_err(|source| Error::Syntax { path: path.to_owned(), source })?;
        builder = builder.add_source(source);
    }
    let environment = config::Environment::with_prefix(PREFIX)
        .prefix_separator("__")
        .separator("__")
        .try_parsing(true);
    builder = builder.add_source(environment);
    for (name, value) in flags {
        builder = builder.set_override_option(*name, value.clone()).map_err(Error::Value)?;
    }
    let layers = builder.build().map_err(Error::Value)?;
    check_names(&layers)?;
    let config: Config = layers.try_deserialize().map_err(Error::Value)?;
    validate(&config)?;
    Ok(config)
}

/// An environment variable, for secrets that the settings name.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment by name")]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Sections that hold names of the operator's choice; unknown names in them are errors as well, told by serde.
const OPEN: &[&str] = &["models.", "tools.", "claude_cli.", "opencode."];

/// Every name that is set must be the name of a setting.
fn check_names(layers: &config::Config) -> Result<(), Error> {
    let given: serde_json::Value =
        layers.clone().try_deserialize().unwrap_or(serde_json::Value::Null);
    let known = names(&Config::default());
    for name in leaves(&given, "") {
        // Names below these are the operator's, or checked by who reads them.
        let open = OPEN.iter().any(|section| name.starts_with(section));
        if !open && !known.contains(&name) {
            let nearest = known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, &name), known))
                .min()
                .map(|(_, known)| known.clone());
            return Err(Error::Unknown { name, nearest });
        }
    }
    Ok(())
}

fn names(config: &impl Serialize) -> Vec<String> {
    leaves(&serde_json::to_value(config).expect("settings are plain values"), "")
}

fn leaves(value: &serde_json::Value, path: &str) -> Vec<String> {
    let serde_json::Value::Object(map) = value else { return vec![path.to_owned()] };
    map.iter()
        .flat_map(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            leaves(value, &path)
        })
        .collect()
}

fn validate(config: &Config) -> Result<(), Error> {
    let limits = &config.limits;
    let checks = [
        (
            config.http.listen.ip().is_loopback(),
            "http.listen is not a loopback address, and no credentials are configured: anybody could read every session",
        ),
        (config.journal.segment_bytes >= 64 << 10, "journal.segment_bytes must be at least 65536"),
        (
            config.journal.max_bytes >= 4 * config.journal.segment_bytes,
            "journal.max_bytes must be at least four segments",
        ),
        (config.storage.open_files_count >= 16, "storage.open_files_count must be at least 16"),
        (limits.body_bytes <= 8 << 20, "limits.body_bytes must be at most 8388608"),
        (limits.content_bytes <= 1 << 20, "limits.content_bytes must be at most 1048576"),
        (limits.part_bytes <= 1 << 20, "limits.part_bytes must be at most 1048576"),
        (limits.parts_count <= 1_024, "limits.parts_count must be at most 1024"),
        (limits.socket_frame_bytes <= 1 << 20, "limits.socket_frame_bytes must be at most 1048576"),
        (limits.turn_body_bytes <= 64 << 20, "limits.turn_body_bytes must be at most 67108864"),
        (limits.turn_steps_count > 0, "limits.turn_steps_count must be at least 1"),
        (limits.turn_ms >= 1_000, "limits.turn_ms must be at least 1000"),
        (limits.subscribers_count <= 32_768, "limits.subscribers_count must be at most 32768"),
        (
            limits.mailbox_count > 0 && limits.queue_count > 0,
            "limits of zero would let nothing through",
        ),
    ];
    let mut problems: Vec<String> =
        checks.iter().filter(|(ok, _)| !ok).map(|(_, problem)| (*problem).to_owned()).collect();
    problems.extend(config.models.problems().iter().map(|problem| format!("models.{problem}")));
    if problems.is_empty() { Ok(()) } else { Err(Error::Invalid(problems)) }
}
