//! The settings as documents: the reference, and what is in force.

use std::fmt::Write as _;

use serde_json::Value;

use crate::config::Config;
use crate::config::check::place;
use crate::config::load::Layers;
use crate::config::tree::Node;
use crate::config::tree::Takes;
use crate::config::tree::join;
use crate::config::tree::tree;
use crate::model::claude_cli::ClaudeCliSettings;
use crate::model::openai_chat;
use crate::model::opencode::OpenCodeSettings;
use crate::tool::HttpToolSettings;
use crate::tool::McpServerSettings;

/// Flags of `serve` that are settings.
const FLAGS: &[(&str, &str)] = &[
    ("http.listen", "--listen"),
    ("storage.data", "--data"),
    ("journal.accept_damage", "--accept-journal-damage"),
];

/// What may hold a secret, although it should not: shown as `***`.
const HIDDEN: &[&str] = &["environment", "headers", "query", "extra"];

/// The settings if nobody says anything, with every section that could be there.
fn defaults() -> Value {
    let mut config = Config {
        claude_cli: Some(ClaudeCliSettings::default()),
        opencode: Some(OpenCodeSettings::default()),
        ..Config::default()
    };
    let name = || "NAME".to_owned();
    config.models.compatible.insert(name(), openai_chat::Settings::default());
    config.tools.http.insert(name(), HttpToolSettings::default());
    config.tools.mcp.insert(name(), McpServerSettings::default());
    serde_json::to_value(config).expect("settings are plain values")
}

/// `docs/configuration.md`
#[must_use]
pub fn markdown() -> String {
    let mut out = "# Configuration\n\n\
Made by `sessile config --markdown`; the types in `src/config` and beside what they set are the source.\n\n\
Flags win over the environment, the environment over a TOML file (`--config FILE` or `SESSILE_CONFIG`), the file over the\n\
defaults. An unknown name, and a value that a setting does not take, stop the start with the name, the place and what is\n\
taken. `sessile config` prints what is in force, and where it comes from.\n\n\
The variable of a setting is `SESSILE__` and its name, in capitals, with `__` for each dot: `SESSILE__HTTP__LISTEN`. Sections\n\
with names of your choice (`NAME`), lists and tables are for the file. Units are in the names: `_ms` milliseconds, `_bytes`\n\
bytes. Secrets are never settings: a setting names the environment variable or the file that holds one.\n"
        .to_owned();
    let defaults = defaults();
    if let Node::Section { members, .. } = tree() {
        for (name, node) in members {
            section(&mut out, &node, &name, &defaults);
        }
    }
    out
}

fn section(out: &mut String, node: &Node, path: &str, defaults: &Value) {
    let (about, members, path) = match node {
        Node::Section { about, members } => (about, members, path.to_owned()),
        Node::Named { about, each } => match &**each {
            Node::Section { members, .. } => (about, members, join(path, "NAME")),
            _ => return,
        },
        Node::Leaf { .. } => return,
    };
    let put = "writing to a string";
    write!(out, "\n## `[{path}]`\n\n{}\n", one_line(about)).expect(put);
    let is_leaf = |node: &Node| matches!(node, Node::Leaf { .. }) || is_place(node);
    if members.values().any(is_leaf) {
        out.push_str("\n| setting | takes | default | what it does |\n|---|---|---|---|\n");
    }
    for (name, node) in members.iter().filter(|(_, node)| is_leaf(node)) {
        let at = join(&path, name);
        let pointer = format!("/{}", at.replace('.', "/"));
        let default = defaults.pointer(&pointer).unwrap_or(&Value::Null);
        let (about, takes) = match node {
            Node::Leaf { about, takes } => (about, takes),
            Node::Section { about, .. } | Node::Named { about, .. } => (about, &Takes::Any),
        };
        let flag = FLAGS.iter().find(|(setting, _)| *setting == at);
        let flag = flag.map_or_else(String::new, |(_, flag)| format!(" Flag: `{flag}`."));
        let (takes, default) = (words(takes, node), shown(name, default));
        let about = one_line(about).replace('|', "\\|");
        writeln!(out, "| `{at}` | {takes} | {default} | {about}{flag} |").expect(put);
    }
    for (name, node) in members.iter().filter(|(_, node)| !is_leaf(node)) {
        section(out, node, &join(&path, name), defaults);
    }
}

/// Whether a section is the place of a secret, which is told in one line.
fn is_place(node: &Node) -> bool {
    let Node::Section { members, .. } = node else { return false };
    members.keys().eq(["env", "file"])
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn words(takes: &Takes, node: &Node) -> String {
    match takes {
        _ if is_place(node) => "`{ env = \"NAME\" }` or `{ file = \"PATH\" }`".to_owned(),
        Takes::Number(_) => "number".to_owned(),
        Takes::Flag => "true, false".to_owned(),
        Takes::OneOf(values) => {
            values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
        }
        Takes::Address => "address and port".to_owned(),
        Takes::Text => "text".to_owned(),
        Takes::List => "list".to_owned(),
        Takes::Any => "table".to_owned(),
    }
}

/// A default, with its size or time in larger units.
fn shown(name: &str, default: &Value) -> String {
    let units: &[(u64, &str)] = match name {
        _ if name.ends_with("_bytes") => &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")],
        _ if name.ends_with("_ms") => &[(3_600_000, "h"), (60_000, "min"), (1_000, "s")],
        _ => &[],
    };
    match default {
        Value::Null => String::new(),
        Value::Array(list) if list.is_empty() => String::new(),
        Value::Object(map) if map.is_empty() => String::new(),
        Value::String(text) if text.is_empty() => String::new(),
        Value::Number(number) => {
            let number = number.as_u64().unwrap_or(0);
            let larger = units.iter().find(|(unit, _)| number >= *unit && number % unit == 0);
            match larger {
                Some((unit, name)) => format!("`{number}` ({} {name})", number / unit),
                None => format!("`{number}`"),
            }
        }
        other => format!("`{other}`"),
    }
}

/// The settings in force, as a TOML file with the place that each comes from.
#[must_use]
pub fn effective(config: &Config, layers: &Layers) -> String {
    let mut out = "# The settings in force. What may hold a secret is not shown.\n".to_owned();
    let values = serde_json::to_value(config).expect("settings are plain values");
    leaves(&mut out, &values, "", layers, false);
    out
}

fn leaves(out: &mut String, value: &Value, path: &str, layers: &Layers, hidden: bool) {
    if let Value::Object(map) = value
        && (path.is_empty() || !map.is_empty())
    {
        for (name, value) in map {
            let hidden = hidden || HIDDEN.contains(&name.as_str());
            leaves(out, value, &join(path, &key(name)), layers, hidden);
        }
        return;
    }
    let from = layers.find(path).map_or_else(String::new, |given| place(given, path));
    let from = if from.is_empty() { String::new() } else { format!("  #{from}") };
    let line = match value {
        Value::Null => format!("# {path} ="),
        Value::Object(_) => format!("{path} = {{}}"),
        _ if hidden => format!("{path} = \"***\""),
        Value::String(text) => format!("{path} = {}", Value::from(without_secrets(text))),
        value => format!("{path} = {value}"),
    };
    out.push_str(&line);
    out.push_str(&from);
    out.push('\n');
}

/// A name as TOML wants it.
fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(bare) {
        name.to_owned()
    } else {
        Value::from(name).to_string()
    }
}

/// An address without what stands before its `@`, and without the values of its parameters.
fn without_secrets(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (place, query) =
        rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let place = match place.split_once('@') {
        Some((user, host)) if !user.contains('/') => format!("***@{host}"),
        _ => place.to_owned(),
    };
    let hidden = |pair: &str| match pair.split_once('=') {
        Some((name, _)) => format!("{name}=***"),
        None => "***".to_owned(),
    };
    let query = query.map(|query| query.split('&').map(hidden).collect::<Vec<_>>().join("&"));
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    format!("{scheme}://{place}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_that_of_the_types() {
        let file = include_str!("../../docs/configuration.md");
        let command = "cargo run -- config --markdown > docs/configuration.md";
        assert!(file == markdown(), "docs/configuration.md is stale: {command}");
    }

    #[test]
    fn every_setting_says_what_it_does() {
        fn check(node: &Node, path: &str) {
            let about = match node {
                Node::Section { about, members } => {
                    members.iter().for_each(|(name, node)| check(node, &join(path, name)));
                    about
                }
                Node::Named { about, each } => {
                    check(each, &join(path, "NAME"));
                    about
                }
                Node::Leaf { about, .. } => about,
            };
            assert!(!about.is_empty(), "{path} has no description");
        }
        check(&tree(), "");
    }

    #[test]
    fn secrets_in_addresses_are_not_shown() {
        for (given, then) in [
            ("http://u:p@host/x", "http://***@host/x"),
            ("http://host/x@y", "http://host/x@y"),
            ("http://host/mcp?token=a=b&c=d&e", "http://host/mcp?token=***&c=***&***"),
            ("http://u@host?a=b@c", "http://***@host?a=***"),
            ("what? a=b", "what? a=b"),
        ] {
            assert_eq!(without_secrets(given), then);
        }
    }
}
