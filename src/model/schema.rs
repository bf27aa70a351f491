//! The schema of a tool's input as providers take it: they check each against the rules of JSON Schema, and refuse the whole
//! request for the fault of one tool.

use std::collections::HashSet;

use serde_json::Map;
use serde_json::Value;

use super::lawful::is_plain;
use crate::base::json::Json;

/// Keywords that no provider takes at the top of a schema.
const REFUSED: &[&str] = &["allOf", "anyOf", "enum", "not", "oneOf"];
/// What values can be.
const TYPES: &[&str] = &["array", "boolean", "integer", "null", "number", "object", "string"];

/// `schema` as one of an object, with properties, that follows the rules of JSON Schema. What it demands of an input becomes
/// less, never more. `plain_fields`: without fields whose names are not plain, at any depth.
pub(super) fn lawful(schema: &Json, plain_fields: bool) -> Json {
    let given: Map<String, Value> = serde_json::from_str(schema.as_str()).unwrap_or_default();
    let mut object = referred(&given).unwrap_or_else(|| given.clone());
    object.retain(|keyword, _| !REFUSED.contains(&keyword.as_str()));
    object.insert("type".to_owned(), "object".into());
    mend(&mut object, plain_fields);
    object.entry("properties").or_insert_with(|| Map::new().into());
    if object == given {
        // Its own text: numbers and the order of fields stay as they are.
        return schema.clone();
    }
    Json::of(&object).unwrap_or_default()
}

/// What a schema says that only refers to one of its own definitions, as some libraries make them.
fn referred(schema: &Map<String, Value>) -> Option<Map<String, Value>> {
    let (place, name) = schema.get("$ref")?.as_str()?.strip_prefix("#/")?.split_once('/')?;
    let defined = schema.get(place)?.get(name)?.as_object()?;
    let mut all = schema.clone();
    all.remove("$ref");
    for (keyword, value) in defined {
        all.entry(keyword).or_insert_with(|| value.clone());
    }
    Some(all)
}

/// Takes out of a schema, and of those in it, what no schema may say, and completes the rest.
fn mend(schema: &mut Map<String, Value>, plain_fields: bool) {
    if plain_fields && let Some(Value::Object(fields)) = schema.get_mut("properties") {
        fields.retain(|name, _| is_plain_field(name));
    }
    if let Some(Value::Array(tuple)) = schema.get_mut("items") {
        let tuple = Value::Array(std::mem::take(tuple));
        schema.remove("items");
        schema.entry("prefixItems").or_insert(tuple);
    }
    if let Some(kind) = schema.get_mut("type") {
        *kind = serde_json::from_str(&kind.to_string().to_ascii_lowercase()).unwrap_or_default();
    }
    schema.retain(|keyword, value| is_lawful(keyword, value));
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        let mut seen = HashSet::new();
        let mut keeps =
            |name: &str| (!plain_fields || is_plain_field(name)) && seen.insert(name.to_owned());
        required.retain(|name| name.as_str().is_some_and(&mut keeps));
    }
    let is_array = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "array"),
        kind => kind.is_some_and(|kind| kind == "array"),
    };
    if is_array {
        schema.entry("items").or_insert_with(|| Map::new().into());
    }
    for (keyword, value) in schema.iter_mut() {
        match (Kind::of(keyword), value) {
            (Kind::Schema, value) => inner(value, plain_fields),
            (Kind::Schemas, Value::Object(all)) => {
                all.values_mut().for_each(|value| inner(value, plain_fields));
            }
            (Kind::SchemaList, Value::Array(all)) => {
                all.iter_mut().for_each(|value| inner(value, plain_fields));
            }
            _ => {}
        }
    }
}

/// A schema in another; one that is none allows everything.
fn inner(value: &mut Value, plain_fields: bool) {
    match value {
        Value::Object(schema) => mend(schema, plain_fields),
        Value::Bool(_) => {}
        _ => *value = Map::new().into(),
    }
}

/// What stands behind a keyword.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Schema,
    Schemas,
    SchemaList,
    Type,
    Names,
    List,
    Number,
    Positive,
    Count,
    Text,
    Truth,
    Anything,
}

impl Kind {
    fn of(keyword: &str) -> Self {
        match keyword {
            "items"
            | "additionalItems"
            | "additionalProperties"
            | "contains"
            | "else"
            | "if"
            | "not"
            | "propertyNames"
            | "then"
            | "unevaluatedItems"
            | "unevaluatedProperties" => Self::Schema,
            "$defs" | "definitions" | "dependentSchemas" | "patternProperties" | "properties" => {
                Self::Schemas
            }
            "allOf" | "anyOf" | "oneOf" | "prefixItems" => Self::SchemaList,
            "type" => Self::Type,
            "required" => Self::Names,
            "enum" => Self::List,
            "exclusiveMaximum" | "exclusiveMinimum" | "maximum" | "minimum" => Self::Number,
            "multipleOf" => Self::Positive,
            "maxContains" | "maxItems" | "maxLength" | "maxProperties" | "minContains"
            | "minItems" | "minLength" | "minProperties" => Self::Count,
            "$anchor" | "$comment" | "$id" | "$ref" | "$schema" | "contentEncoding"
            | "contentMediaType" | "description" | "format" | "pattern" | "title" => Self::Text,
            "deprecated" | "readOnly" | "uniqueItems" | "writeOnly" => Self::Truth,
            _ => Self::Anything,
        }
    }
}

fn is_lawful(keyword: &str, value: &Value) -> bool {
    let is_type = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    match Kind::of(keyword) {
        Kind::Schema => value.is_object() || value.is_boolean(),
        Kind::Schemas => value.is_object(),
        Kind::SchemaList | Kind::List => value.as_array().is_some_and(|all| !all.is_empty()),
        Kind::Type => match value {
            Value::Array(all) => {
                let distinct: HashSet<&str> = all.iter().filter_map(Value::as_str).collect();
                !all.is_empty() && distinct.len() == all.len() && all.iter().all(is_type)
            }
            value => is_type(value),
        },
        Kind::Names => value.is_array(),
        Kind::Number => value.is_number(),
        Kind::Positive => value.as_f64().is_some_and(|number| number > 0.0),
        Kind::Count => value.as_f64().is_some_and(|number| number >= 0.0 && number.fract() == 0.0),
        Kind::Text => value.is_string(),
        Kind::Truth => value.is_boolean(),
        Kind::Anything => true,
    }
}

fn is_plain_field(name: &str) -> bool {
    is_plain(&name.replace('.', "_"), 64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::accepted;

    #[track_caller]
    fn check(given: &Value, plain_fields: bool, then: &Value) {
        let lawful = lawful(&Json::of(given).unwrap(), plain_fields);
        assert_eq!(&serde_json::from_str::<Value>(lawful.as_str()).unwrap(), then, "{given}");
        let request = accepted::request(None, Vec::new(), &[("t", &given.to_string())]);
        let problems = accepted::problems(&request);
        assert!(problems.is_empty(), "{given}: {problems:?}");
    }

    fn with(field: &Value) -> Value {
        json!({ "type": "object", "properties": { "a": field } })
    }

    #[test]
    fn a_field_that_breaks_the_rules_demands_less() {
        for (given, then) in [
            (json!("string"), json!({})),
            (json!(null), json!({})),
            (json!(true), json!(true)),
            (json!({ "type": "array" }), json!({ "type": "array", "items": {} })),
            (json!({ "type": "array", "items": null }), json!({ "type": "array", "items": {} })),
            (
                json!({ "type": ["array", "null"], "prefixItems": [{ "type": "string" }] }),
                json!({ "type": ["array", "null"], "prefixItems": [{ "type": "string" }], "items": {} }),
            ),
            (
                json!({ "type": "array", "items": [{ "type": "array" }] }),
                json!({ "type": "array", "prefixItems": [{ "type": "array", "items": {} }], "items": {} }),
            ),
            (json!({ "type": "any" }), json!({})),
            (json!({ "type": "STRING" }), json!({ "type": "string" })),
            (json!({ "type": [] }), json!({})),
            (json!({ "type": "string", "required": true }), json!({ "type": "string" })),
            (
                json!({ "type": "integer", "exclusiveMinimum": true, "minimum": 1 }),
                json!({ "type": "integer", "minimum": 1 }),
            ),
            (json!({ "enum": [], "description": 5, "maxLength": -1 }), json!({})),
            (json!({ "anyOf": [] }), json!({})),
            (
                json!({ "anyOf": [{ "type": "array" }, 5], "additionalProperties": "no" }),
                json!({ "anyOf": [{ "type": "array", "items": {} }, {}] }),
            ),
            (
                json!({ "patternProperties": { "^a": { "type": "array" } } }),
                json!({ "patternProperties": { "^a": { "type": "array", "items": {} } } }),
            ),
        ] {
            check(&with(&given), false, &with(&then));
        }
    }

    #[test]
    fn a_schema_without_faults_keeps_its_text() {
        let text = r#"{"type":"object","properties":{"b":{"type":"number","minimum":1.0},"a":{"type":"string","enum":["x"]}},"required":["b"],"x-own":[]}"#;
        assert_eq!(lawful(&Json::parse(text).unwrap(), true).as_str(), text);
    }

    #[test]
    fn the_top_is_an_object_with_properties() {
        let empty = json!({ "type": "object", "properties": {} });
        for given in [
            json!({}),
            json!({ "type": "object" }),
            json!({ "type": "string" }),
            json!({ "anyOf": [{ "type": "object" }] }),
            json!({ "properties": [] }),
            json!({ "required": "a" }),
        ] {
            check(&given, false, &empty);
        }
        let defined = json!({ "T": with(&json!({ "type": "string" })) });
        let given = json!({ "$ref": "#/definitions/T", "definitions": defined });
        let mut then = with(&json!({ "type": "string" }));
        then["definitions"] = defined;
        check(&given, false, &then);
    }

    #[test]
    fn fields_with_strange_names_are_left_out_at_any_depth() {
        let strange = ["", "a b", "$a", "ä", "a[]", &"a".repeat(65)];
        let mut fields = json!({ "a.b-c_1": {}, "b": {} });
        for name in strange {
            fields[name] = json!({ "type": "string" });
        }
        let mut required: Vec<&str> = strange.to_vec();
        required.extend(["b", "b"]);
        let object = |fields: &Value, required: &[&str]| json!({ "type": "object", "properties": fields, "required": required });
        let given = with(&object(&fields, &required));
        let then = with(&object(&json!({ "a.b-c_1": {}, "b": {} }), &["b"]));
        check(&given, true, &then);
    }

    #[test]
    fn tools_are_not_too_many_and_do_not_talk_too_much() {
        let names: Vec<String> = (0..200).map(|at| format!("t{at}")).collect();
        let tools: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "{}")).collect();
        let mut request = accepted::request(None, Vec::new(), &tools);
        for tool in &mut request.tools {
            tool.description = "é".repeat(2_000);
        }
        let problems = accepted::problems(&request);
        assert!(problems.is_empty(), "{problems:?}");
        for body in accepted::bodies(&request) {
            assert!(body.contains("\"t127\"") && !body.contains("\"t128\""));
        }
    }
}
