//! JSON from strangers: every field may be absent, null or of another type than promised, and then counts as absent.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::DeserializeOwned;
use serde::de::Error as _;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::value::RawValue;

/// Most elements of a list that are taken. A small element of JSON can become a large one in memory.
const LIST_COUNT_MAX: usize = 1_024;
/// What an error says by which a longer one is known, however deep it lies.
const TOO_LONG: &str = "a list has more elements than";

/// Reads `text` as an object: `None` if it is JSON, but no object.
///
/// Unknown fields cost nothing, however deep or large they are.
///
/// # Errors
///
/// What is wrong with `text`: it is not JSON, names a field twice, or holds a list that is too long.
pub(super) fn object<T: DeserializeOwned>(text: &str) -> serde_json::Result<Option<T>> {
    let raw: &RawValue = serde_json::from_str(text)?;
    if !raw.get().starts_with('{') {
        return Ok(None);
    }
    serde_json::from_str(raw.get()).map(Some)
}

/// The value in `raw`, or `None` if it is of another type.
///
/// # Errors
///
/// When it holds a list that is too long: what such a list says must not vanish as if it had not been said.
fn read<T: DeserializeOwned>(raw: &RawValue) -> serde_json::Result<Option<T>> {
    match serde_json::from_str(raw.get()) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.to_string().contains(TOO_LONG) => Err(error),
        Err(_) => Ok(None),
    }
}

/// For `#[serde(deserialize_with)]`: the value, or `None` if it is of another type.
///
/// # Errors
///
/// When it holds a list that is longer than [`LIST_COUNT_MAX`].
pub(super) fn lax<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let raw = <&RawValue>::deserialize(deserializer)?;
    if raw.get() == "null" {
        return Ok(None);
    }
    read(raw).map_err(D::Error::custom)
}

/// For `#[serde(deserialize_with)]`: the elements that are of the right type; none if it is not a list.
///
/// # Errors
///
/// When the list is longer than [`LIST_COUNT_MAX`].
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let raw = <&RawValue>::deserialize(deserializer)?;
    if !raw.get().starts_with('[') {
        return Ok(Vec::new());
    }
    let mut inner = serde_json::Deserializer::from_str(raw.get());
    inner.deserialize_seq(Elements(PhantomData)).map_err(D::Error::custom)
}

struct Elements<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for Elements<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let (mut elements, mut count) = (Vec::new(), 0);
        while let Some(raw) = seq.next_element::<&RawValue>()? {
            count += 1;
            if count > LIST_COUNT_MAX {
                return Err(A::Error::custom(format!("{TOO_LONG} {LIST_COUNT_MAX}")));
            }
            elements.extend(read::<T>(raw).map_err(A::Error::custom)?);
        }
        Ok(elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Sample {
        #[serde(deserialize_with = "lax")]
        count: Option<u64>,
        #[serde(deserialize_with = "lax")]
        inner: Option<Box<Sample>>,
        #[serde(deserialize_with = "list")]
        names: Vec<String>,
    }

    #[track_caller]
    fn check(given: &str, count: Option<u64>, names: &[&str]) {
        let sample: Sample = object(given).unwrap().unwrap();
        assert_eq!(sample.count, count);
        assert_eq!(sample.names, names);
    }

    #[test]
    fn what_is_of_another_type_is_absent() {
        check(r#"{"count":1,"names":["a","b"]}"#, Some(1), &["a", "b"]);
        check(r#" {"count":-1,"names":null}"#, None, &[]);
        check(r#"{"count":1e999,"names":{"a":1}}"#, None, &[]);
        check(r#"{"count":"1","names":["a",1,null,"b"],"other":1e999}"#, None, &["a", "b"]);
        check(r#"{"inner":{"inner":{"inner":7}}}"#, None, &[]);
        assert_eq!(object::<Sample>("5").unwrap(), None);
        assert_eq!(object::<Sample>("[1]").unwrap(), None);
    }

    #[test]
    fn depth_costs_nothing_and_length_is_bounded() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        check(&format!(r#"{{"other":{deep},"count":{deep}}}"#), None, &[]);
        let long = format!(r#"{{"names":[{}1]}}"#, "1,".repeat(LIST_COUNT_MAX));
        let nested = format!(r#"{{"inner":{{"inner":{long}}}}}"#);
        for text in [&long, &nested] {
            assert!(object::<Sample>(text).unwrap_err().to_string().contains("1024"), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_is_an_error() {
        for text in ["", "{", "hello", "{\"count\":1}}", "<html>"] {
            object::<Sample>(text).unwrap_err();
        }
    }
}
