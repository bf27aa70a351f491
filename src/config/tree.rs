//! Which settings there are, and what each takes: read off the types, so that checks and documents cannot disagree.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::PartialSchema;
use utoipa::ToSchema;

use crate::config::Config;

/// A setting, or a section of settings.
#[derive(Debug)]
pub(super) enum Node {
    /// Settings by name.
    Section { about: String, members: BTreeMap<String, Node> },
    /// Sections whose names the operator chooses.
    Named { about: String, each: Box<Node> },
    /// A value.
    Leaf { about: String, takes: Takes },
}

/// What a setting takes.
#[derive(Debug, PartialEq)]
pub(super) enum Takes {
    /// A number that is not negative, up to this.
    Number(u64),
    /// Yes or no.
    Flag,
    /// One of these.
    OneOf(Vec<String>),
    /// An address and a port.
    Address,
    /// A text.
    Text,
    /// Several values.
    List,
    /// Anything that a file can say.
    Any,
}

/// All settings.
pub(super) fn tree() -> Node {
    let mut schemas = Vec::new();
    Config::schemas(&mut schemas);
    let json = |schema| serde_json::to_value(schema).expect("a schema is plain JSON");
    let named = schemas.into_iter().map(|(name, schema)| (name, json(schema))).collect();
    node(&json(Config::schema()), &named)
}

fn node(schema: &Value, named: &BTreeMap<String, Value>) -> Node {
    let about = |value: &Value| value["description"].as_str().unwrap_or_default().to_owned();
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        let found =
            named.get(name).map_or_else(|| leaf(&Value::Null), |schema| node(schema, named));
        // What the setting says wins over what its type says.
        return if about(schema).is_empty() { found } else { found.told(about(schema)) };
    }
    if let Some(one_of) = schema["oneOf"].as_array() {
        let mut real = one_of.iter().filter(|one| one["type"] != "null");
        if let (Some(one), None) = (real.next(), real.next()) {
            let found = node(one, named);
            return if about(schema).is_empty() { found } else { found.told(about(schema)) };
        }
    }
    if let Some(members) = schema["properties"].as_object() {
        let members = members.iter().map(|(name, schema)| (name.clone(), node(schema, named)));
        return Node::Section { about: about(schema), members: members.collect() };
    }
    if schema["additionalProperties"].is_object() {
        let each = node(&schema["additionalProperties"], named);
        if matches!(each, Node::Section { .. }) {
            return Node::Named { about: about(schema), each: Box::new(each) };
        }
        return Node::Leaf { about: about(schema), takes: Takes::Any };
    }
    leaf(schema)
}

fn leaf(schema: &Value) -> Node {
    let about = schema["description"].as_str().unwrap_or_default().to_owned();
    let is = |kind: &str| {
        schema["type"] == kind
            || schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(|one| one == kind))
    };
    let values = |schema: &Value| -> Vec<String> {
        let values = schema["enum"].as_array().into_iter().flatten().chain(schema.get("const"));
        values.filter_map(|value| Some(value.as_str()?.to_owned())).collect()
    };
    let one_of = schema["oneOf"].as_array().into_iter().flatten();
    let values: Vec<String> = values(schema).into_iter().chain(one_of.flat_map(values)).collect();
    let takes = if !values.is_empty() {
        Takes::OneOf(values)
    } else if schema["format"] == "socket-address" {
        Takes::Address
    } else if is("integer") {
        let small = schema["format"] == "int32";
        // Files hold no larger numbers.
        Takes::Number(if small { u64::from(u32::MAX) } else { i64::MAX.unsigned_abs() })
    } else if is("boolean") {
        Takes::Flag
    } else if is("string") {
        Takes::Text
    } else if is("array") {
        Takes::List
    } else {
        Takes::Any
    };
    Node::Leaf { about, takes }
}

impl Node {
    fn told(self, about: String) -> Self {
        match self {
            Self::Section { members, .. } => Self::Section { about, members },
            Self::Named { each, .. } => Self::Named { about, each },
            Self::Leaf { takes, .. } => Self::Leaf { about, takes },
        }
    }

    /// The names of all settings below `path`.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        match self {
            Self::Leaf { .. } => vec![path.to_owned()],
            Self::Named { each, .. } => each.names(&join(path, "NAME")),
            Self::Section { members, .. } => {
                members.iter().flat_map(|(name, node)| node.names(&join(path, name))).collect()
            }
        }
    }
}

/// `path.name`
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The environment variable of a setting.
pub(super) fn variable(path: &str) -> String {
    format!("SESSILE__{}", path.replace('.', "__").to_uppercase())
}
