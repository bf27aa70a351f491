//! JSON that passes through untouched: kept as the client's own text, without the white space between tokens.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de::Error as _;
use serde_json::value::RawValue;

use crate::base::limits::JSON_DEPTH_MAX;

/// Any JSON value, kept as text: numbers, escapes, key order and unknown fields come back as they were sent.
///
/// It holds no line break, so it fits on one SSE `data:` line, and is at most [`JSON_DEPTH_MAX`] levels deep.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Takes `text` that this type produced earlier.
    ///
    /// # Errors
    ///
    /// When it is not JSON after all, or too deep.
    pub fn parse(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// Serialises `value`.
    ///
    /// # Errors
    ///
    /// When `value` cannot be JSON, as a map with keys that are not strings.
    pub fn of(value: &impl Serialize) -> serde_json::Result<Self> {
        serde_json::value::to_raw_value(value).map(Self)
    }

    /// Whether it is a JSON object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.as_str().starts_with('{')
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.as_str().len())
    }
}

/// `{}`
impl Default for Json {
    fn default() -> Self {
        Self(RawValue::from_string("{}".to_owned()).expect("an empty object is JSON"))
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        match compact(raw.get()).map_err(D::Error::custom)? {
            Cow::Borrowed(_) => Ok(Self(raw)),
            Cow::Owned(text) => RawValue::from_string(text).map(Self).map_err(D::Error::custom),
        }
    }
}

/// How deep `text` is nested, and whether there is white space between its tokens. It need not be valid JSON.
fn measure(text: &[u8]) -> (usize, bool) {
    let (mut depth, mut deepest, mut in_string, mut escaped, mut loose) =
        (0usize, 0, false, false, false);
    for byte in text {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = *byte == b'\\' && !escaped;
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b' ' | b'\t' | b'\r' | b'\n' => loose = true,
            _ => {}
        }
    }
    (deepest, loose)
}

/// Refuses `text` if it is nested more than [`JSON_DEPTH_MAX`] levels deep.
///
/// # Errors
///
/// How deep it is and how deep it may be.
pub fn check_depth(text: &[u8]) -> Result<(), String> {
    let (deepest, _) = measure(text);
    if deepest > JSON_DEPTH_MAX {
        return Err(format!("JSON is {deepest} levels deep, {JSON_DEPTH_MAX} are allowed"));
    }
    Ok(())
}

/// Drops the white space between the tokens of `text`, which must be valid JSON.
fn compact(text: &str) -> Result<Cow<'_, str>, String> {
    let (deepest, loose) = measure(text.as_bytes());
    if deepest > JSON_DEPTH_MAX {
        return Err(format!("JSON is {deepest} levels deep, {JSON_DEPTH_MAX} are allowed"));
    }
    if !loose {
        return Ok(Cow::Borrowed(text));
    }
    let (mut out, mut in_string, mut escaped) = (String::with_capacity(text.len()), false, false);
    for c in text.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            in_string = c == '"';
        }
        out.push(c);
    }
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(given: &str, then: &str) {
        assert_eq!(Json::parse(given).expect("valid JSON").as_str(), then);
    }

    #[test]
    fn only_the_space_between_tokens_goes() {
        check(
            r#" { "a" : [ 1.50e1 , "x \" y\\" ] ,"b":"\n z" } "#,
            r#"{"a":[1.50e1,"x \" y\\"],"b":"\n z"}"#,
        );
        check("123456789012345678901234567890", "123456789012345678901234567890");
    }

    #[test]
    fn deep_values_are_refused_by_name() {
        let deep = "[".repeat(JSON_DEPTH_MAX + 1) + &"]".repeat(JSON_DEPTH_MAX + 1);
        assert!(Json::parse(&deep).expect_err("too deep").to_string().contains("levels deep"));
        check(&deep[1..deep.len() - 1], &deep[1..deep.len() - 1]);
    }
}
