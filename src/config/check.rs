//! What is wrong with settings, in the words of the operator: which one, where it stands, what it takes, an example.

use std::net::SocketAddr;

use config::Value;
use config::ValueKind;

use crate::base::nearest;
use crate::config::tree::Node;
use crate::config::tree::Takes;
use crate::config::tree::join;
use crate::config::tree::variable;

/// Everything that is wrong with `given`.
pub(super) fn problems(tree: &Node, given: &Value, defaults: &serde_json::Value) -> Vec<String> {
    let names = tree.names("");
    let mut check = Check { names, defaults, problems: Vec::new() };
    check.node(tree, given, "");
    check.problems
}

struct Check<'a> {
    names: Vec<String>,
    defaults: &'a serde_json::Value,
    problems: Vec<String>,
}

impl Check<'_> {
    fn node(&mut self, node: &Node, given: &Value, path: &str) {
        match (node, &given.kind) {
            (Node::Section { members, .. }, ValueKind::Table(table)) => {
                for (name, value) in table {
                    let at = join(path, name);
                    match members.get(name) {
                        Some(node) => self.node(node, value, &at),
                        None => self.unknown(value, path, &at, members.keys()),
                    }
                }
            }
            (Node::Named { each, .. }, ValueKind::Table(table)) => {
                for (name, value) in table {
                    self.node(each, value, &join(path, name));
                }
            }
            (Node::Section { .. } | Node::Named { .. }, ValueKind::Nil) => {}
            (Node::Section { members, .. }, _) => {
                let names = listed(members.keys());
                let place = place(given, path);
                self.problems
                    .push(format!("`{path}`{place} is a section: set one of {names} in it"));
            }
            (Node::Named { .. }, _) => {
                let place = place(given, path);
                let problem =
                    format!("`{path}`{place} holds sections of your names: `[{path}.NAME]`");
                self.problems.push(problem);
            }
            (Node::Leaf { takes, .. }, _) => self.leaf(takes, given, path),
        }
    }

    /// Tells of a name that there is not.
    fn unknown<'n>(
        &mut self,
        given: &Value,
        section: &str,
        at: &str,
        members: impl Iterator<Item = &'n String>,
    ) {
        // Of a section, its first setting is what is compared.
        let (mut full, mut inner) = (at.to_owned(), given);
        while let ValueKind::Table(table) = &inner.kind
            && let Some((name, value)) = table.iter().min_by_key(|(name, _)| *name)
        {
            (full, inner) = (join(&full, name), value);
        }
        let members: Vec<&String> = members.collect();
        let hint = match nearest(&full, self.names.iter().map(String::as_str)) {
            Some(meant) => format!(", did you mean `{meant}`?"),
            None if section.is_empty() => format!(": the sections are {}", listed(members)),
            None => format!(": `{section}` has {}", listed(members)),
        };
        self.problems.push(format!("there is no setting `{full}`{}{hint}", place(inner, &full)));
    }

    fn leaf(&mut self, takes: &Takes, given: &Value, path: &str) {
        let text = given.clone().into_string().ok();
        let text = text.as_deref();
        let is_plain = !matches!(given.kind, ValueKind::Table(_) | ValueKind::Array(_));
        let fits = match takes {
            Takes::Number(most) => {
                let number = text.and_then(|text| text.trim().parse::<u64>().ok());
                number.is_some_and(|number| number <= *most)
            }
            Takes::Flag => given.clone().into_bool().is_ok(),
            Takes::OneOf(values) => text.is_some_and(|text| values.iter().any(|one| one == text)),
            Takes::Address => text.is_some_and(|text| text.parse::<SocketAddr>().is_ok()),
            Takes::Text => is_plain,
            Takes::List => matches!(given.kind, ValueKind::Array(_)),
            Takes::Any => true,
        };
        if fits || matches!(given.kind, ValueKind::Nil) {
            return;
        }
        let wanted = match takes {
            Takes::Number(most) if *most == u64::from(u32::MAX) => {
                format!("a whole number from 0 to {most}")
            }
            Takes::Number(_) => "a whole number that is not negative".to_owned(),
            Takes::Flag => "true or false".to_owned(),
            Takes::OneOf(values) => format!("one of {}", listed(values)),
            Takes::Address => "an address and a port".to_owned(),
            Takes::Text | Takes::Any => "a text".to_owned(),
            Takes::List => "a list, which a file can say".to_owned(),
        };
        let example = self.example(takes, path);
        let is = text.map_or_else(String::new, |text| format!(", not `{text}`"));
        let place = place(given, path);
        self.problems.push(format!("`{path}`{place} must be {wanted}, as `{example}`{is}"));
    }

    /// The default, or something of the kind.
    fn example(&self, takes: &Takes, path: &str) -> String {
        let pointer = format!("/{}", path.replace('.', "/"));
        match self.defaults.pointer(&pointer) {
            Some(serde_json::Value::String(text)) if !text.is_empty() => text.clone(),
            Some(value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => {
                value.to_string()
            }
            _ => match takes {
                Takes::Number(_) => "1000".to_owned(),
                Takes::Flag => "true".to_owned(),
                Takes::OneOf(values) => values.first().cloned().unwrap_or_default(),
                Takes::Address => "127.0.0.1:8080".to_owned(),
                Takes::List => "[\"a\", \"b\"]".to_owned(),
                Takes::Text | Takes::Any => "text".to_owned(),
            },
        }
    }
}

/// Where a value stands.
pub(super) fn place(value: &Value, path: &str) -> String {
    match value.origin() {
        Some("the environment") => format!(" (from {})", variable(path)),
        Some(file) => format!(" (in {file})"),
        None => " (from the command line)".to_owned(),
    }
}

fn listed(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{}`", name.as_ref())).collect();
    names.join(", ")
}
