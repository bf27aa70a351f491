//! Reading the settings, and saying what is wrong with them.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::config::check;
use crate::config::sections::LEVELS;
use crate::config::tree::Node;
use crate::config::tree::tree;
use crate::config::tree::variable;

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
    /// A value cannot be used.
    #[error("the settings cannot be used")]
    Value(#[source] config::ConfigError),
    /// Names or values that cannot be used; all problems at once.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
}

/// Prefix of environment variables, as in `SESSILE__HTTP__LISTEN`.
const PREFIX: &str = "SESSILE";

/// What was said about the settings, and where.
#[derive(Debug)]
pub struct Layers(config::Value);

impl Layers {
    /// What was said about the setting `path`, if anything.
    pub(super) fn find(&self, path: &str) -> Option<&config::Value> {
        let mut value = &self.0;
        for name in path.split('.') {
            let config::ValueKind::Table(table) = &value.kind else { return None };
            value = table.get(name)?;
        }
        Some(value)
    }
}

/// Reads the settings: defaults, then `file`, then the environment, then `flags` (dotted names and values).
///
/// # Errors
///
/// [`Error`], with the name of the setting.
pub fn load(file: Option<&Path>, flags: &[(&str, Option<String>)]) -> Result<Config, Error> {
    Ok(read(file, flags)?.0)
}

/// As [`load`], with what was said where.
///
/// # Errors
///
/// [`Error`], with the name of the setting.
pub fn read(
    file: Option<&Path>,
    flags: &[(&str, Option<String>)],
) -> Result<(Config, Layers), Error> {
    let mut builder = config::Config::builder();
    if let Some(path) = file {
        let text = fs::read_to_string(path);
        let text = text.map_err(|source| Error::File { path: path.to_owned(), source })?;
        let source = config::File::from_str(&text, config::FileFormat::Toml);
        let read = config::Config::builder().add_source(source).build();
        read.map_err(|source| Error::Syntax { path: path.to_owned(), source })?;
        // Of a text, a value would not know where it stands.
        builder = builder.add_source(config::File::from(path).format(config::FileFormat::Toml));
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
    let defaults = serde_json::to_value(Config::default()).expect("settings are plain values");
    let tree = tree();
    let mut problems = check::problems(&tree, &layers.cache, &defaults);
    let given = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    problems.extend(given.filter_map(|name| misspelt(&tree, &name)));
    if !problems.is_empty() {
        return Err(Error::Invalid(problems));
    }
    let given = Layers(layers.cache.clone());
    let config: Config = layers.try_deserialize().map_err(Error::Value)?;
    validate(&config)?;
    Ok((config, given))
}

/// What is wrong with the environment variable `name`, which sets nothing and looks as if it should.
fn misspelt(tree: &Node, name: &str) -> Option<String> {
    let shape = |name: &str| name.replace("__", "_");
    let looks = name.starts_with("SESSILE_") && !name.starts_with("SESSILE__");
    let mut meant = tree.names("").into_iter().map(|path| variable(&path));
    let meant = looks.then(|| meant.find(|variable| shape(variable) == shape(name)))??;
    Some(format!(
        "the environment variable {name} sets nothing: the setting is {meant}, with two underscores"
    ))
}

/// An environment variable, for secrets that the settings name.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment by name")]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn validate(config: &Config) -> Result<(), Error> {
    let limits = &config.limits;
    let checks = [
        (
            config.http.listen.ip().is_loopback(),
            "http.listen is not a loopback address, and no credentials are configured: anybody could read every session; listen on 127.0.0.1, and put a proxy that asks who is there before it (docs/deployment.md)",
        ),
        (!config.storage.data.as_os_str().is_empty(), "storage.data must name a folder, as `data`"),
        (config.journal.segment_bytes >= 64 << 10, "journal.segment_bytes must be at least 65536"),
        (
            config.journal.max_bytes >= 4 * config.journal.segment_bytes,
            "journal.max_bytes must be at least four times journal.segment_bytes",
        ),
        (config.storage.open_files_count >= 16, "storage.open_files_count must be at least 16"),
        (limits.body_bytes <= 8 << 20, "limits.body_bytes must be at most 8388608"),
        (limits.content_bytes <= 1 << 20, "limits.content_bytes must be at most 1048576"),
        (limits.part_bytes <= 1 << 20, "limits.part_bytes must be at most 1048576"),
        (limits.parts_count <= 1_024, "limits.parts_count must be at most 1024"),
        (limits.answer_parts_count <= 16_384, "limits.answer_parts_count must be at most 16384"),
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
    problems.extend(filter_problem(&config.log.filter));
    if problems.is_empty() { Ok(()) } else { Err(Error::Invalid(problems)) }
}

/// What is wrong with `log.filter`, if anything. The library would take a misspelt level for the name of a part.
fn filter_problem(filter: &str) -> Option<String> {
    let levels = LEVELS.map(|level| format!("`{level}`")).join(", ");
    let part = filter.split(',').map(str::trim).find(|part| {
        let is_level = LEVELS.contains(&part.to_ascii_lowercase().as_str());
        let is_part = part.contains(['=', '[']) && EnvFilter::try_new(part).is_ok();
        !is_level && !is_part
    })?;
    Some(format!(
        "log.filter: `{part}` is neither a level ({levels}) nor a part with its level, as `sessile::http=debug`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_looks_like_a_setting_is_not_passed_over() {
        let tree = tree();
        for name in ["SESSILE_HTTP__LISTEN", "SESSILE_HTTP_LISTEN"] {
            let told = misspelt(&tree, name).expect("a problem");
            assert!(told.contains("SESSILE__HTTP__LISTEN"), "{told}");
        }
        for name in ["SESSILE__HTTP__LISTEN", "SESSILE_CONFIG", "SESSILE_OPENAI_KEY", "PATH"] {
            assert_eq!(misspelt(&tree, name), None, "{name}");
        }
    }
}
