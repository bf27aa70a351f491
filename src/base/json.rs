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

impl Json {
    /// A JSON string that says `text`.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self::of(&text).expect("strings are JSON")
    }

    /// The text that this says, if it is a JSON string.
    #[must_use]
    pub fn as_string(&self) -> Option<String> {
        let text = serde_json::from_str(self.as_str()).ok();
        // JavaScript cuts texts inside a character, and says the halves.
        text.or_else(|| serde_json::from_str(self.mended()?.as_str()).ok())
    }

    /// The same with U+FFFD for the halves of characters that stand alone, which strict readers refuse; `None` if there are
    /// none.
    #[must_use]
    pub fn mended(&self) -> Option<Self> {
        let text = self.as_str();
        if serde_json::from_str::<serde_json::Value>(text).is_ok() {
            return None;
        }
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(at) = rest.find('\\') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let unit = |from: usize| {
                let digits = rest.get(from..from + 6)?.strip_prefix("\\u")?;
                u16::from_str_radix(digits, 16).ok()
            };
            let (taken, half) = match (unit(0), unit(6)) {
                (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => (12, false),
                (Some(0xD800..=0xDFFF), _) => (6, true),
                (Some(_), _) => (6, false),
                (None, _) => (2, false),
            };
            out.push_str(if half { "\\ufffd" } else { &rest[..taken] });
            rest = &rest[taken..];
        }
        out.push_str(rest);
        Some(Self::parse(&out).unwrap_or_default())
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

/// A JSON object whose members keep their order and their text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(Vec<(String, Json)>);

impl Object {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The text that `key` says, if its value is a string.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(Json::as_string)
    }

    /// Gives `key` a value; a new key goes last.
    pub fn set(&mut self, key: &str, value: Json) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// The same object with `key`.
    #[must_use]
    pub fn with(mut self, key: &str, value: &impl Serialize) -> Self {
        self.set(key, Json::of(value).expect("plain values are JSON"));
        self
    }

    /// Whether it has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &str) -> Option<Json> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1)
    }

    /// Gives every key of `other` its value there.
    pub fn merge(&mut self, other: &Self) {
        for (key, value) in &other.0 {
            self.set(key, value.clone());
        }
    }

    /// Its members, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Reads `json`.
    #[must_use]
    pub fn read(json: &Json) -> Option<Self> {
        serde_json::from_str(json.as_str()).ok()
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Json {
        Json::of(self).expect("members are JSON")
    }
}

impl Serialize for Object {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Object, A::Error> {
                let mut object = Object::default();
                while let Some((key, value)) = map.next_entry::<String, Json>()? {
                    object.set(&key, value);
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(Members)
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

    #[test]
    fn json_is_mended_and_otherwise_left_alone() {
        let mended = |text: &str| {
            let json = Json::parse(text).unwrap();
            json.mended().unwrap_or(json).as_str().to_owned()
        };
        assert_eq!(mended(r#"["\ud83d","\\ud83d"]"#), r#"["\ufffd","\\ud83d"]"#);
        assert_eq!(mended(r#"["x\n\ud83d\ude00\ude00"]"#), r#"["x\n\ud83d\ude00\ufffd"]"#);
        assert_eq!(mended(r#"{"n":1.50}"#), r#"{"n":1.50}"#);
    }
}
