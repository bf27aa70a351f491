//! What a person is told of JSON that a type does not take: in the words of whoever wrote the JSON, not of a parser.

use serde_json::error::Category;

/// Says what is wrong with `what`, as `the body`, or with the member of it that the error names.
#[must_use]
pub fn at(what: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    match error.path().to_string().as_str() {
        "." => of(what, error.inner()),
        path => of(&format!("`{path}`"), error.inner()),
    }
}

/// Says what is wrong with `what`.
#[must_use]
pub fn of(what: &str, error: &serde_json::Error) -> String {
    let told = told(error);
    let joint = if told.starts_with("must ") { "" } else { "is not acceptable: " };
    format!("{what} {joint}{told}")
}

/// Says what is wrong with a value of JSON that was read as some type.
///
/// The parser's own words are taken apart: it speaks of structs and variants, and of columns that nobody counts.
#[must_use]
pub fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&place).unwrap_or(&text);
    if error.classify() != Category::Data {
        return format!("it is no JSON: {text}{place}");
    }
    let split = |prefix, middle| text.strip_prefix(prefix)?.split_once(middle);
    if let Some((is, wanted)) = split("invalid type: ", ", expected ") {
        return format!("must be {}, not {}", kind(wanted), kind(is));
    }
    if let Some((is, wanted)) = split("unknown variant ", ", expected ") {
        return format!("must be {}, not {is}", wanted.trim_start_matches("one of "));
    }
    if let Some((is, wanted)) = split("unknown field ", ", expected ") {
        return format!(
            "there is no member {is}: there are {}",
            wanted.trim_start_matches("one of ")
        );
    }
    if let Some(field) = text.strip_prefix("missing field ") {
        return format!("{field} is missing");
    }
    if let Some(field) = text.strip_prefix("duplicate field ") {
        return format!("{field} is given twice");
    }
    if text.starts_with("invalid length") {
        return "must be an object, not a list".to_owned();
    }
    text.to_owned()
}

/// A kind of value as people call it.
fn kind(name: &str) -> &str {
    match name {
        _ if name.starts_with("struct ") || name == "map" || name == "a map" => "an object",
        "sequence" | "a sequence" => "a list",
        "null" | "unit" => "null",
        "a boolean" => "true or false",
        // The value itself is what somebody said: it stays out of the log.
        _ if name.starts_with("string ") => "a string",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read from JSON")]
    struct Sample {
        name: String,
        role: Role,
        list: Vec<u8>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Role {
        User,
        Model,
    }

    #[test]
    fn what_is_wrong_is_told_in_plain_words() {
        for (json, words) in [
            ("[]", "must be an object, not a list"),
            ("null", "must be an object, not null"),
            ("\"x\"", "must be an object, not a string"),
            (r#"{"name":5}"#, "must be a string, not integer `5`"),
            (r#"{"list":{}}"#, "must be a list, not an object"),
            (r#"{"role":"x"}"#, "must be `user` or `model`, not `x`"),
            (r#"{"nme":"x"}"#, "there is no member `nme`: there are `name`, `role`, `list`"),
            (r#"{"name":"x"}"#, "`role` is missing"),
            (r#"{"name":"x","name":"x"}"#, "`name` is given twice"),
            (r#"{"name":"x"#, "it is no JSON: EOF while parsing a string at line 1 column 10"),
        ] {
            let error = serde_json::from_str::<Sample>(json).expect_err(json);
            assert_eq!(told(&error), words, "{json}");
        }
        assert!(matches!(serde_json::from_str("\"user\""), Ok(Role::User)));
    }
}
