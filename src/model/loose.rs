//! Text that a stream cuts anywhere, even inside of a character: JSON writes some characters as two halves, and some servers
//! put the halves into two events.

use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error as _;
use serde_json::value::RawValue;

/// A piece of text. A half of a character at one of its ends may belong to the neighbour; any other half is U+FFFD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loose {
    /// The second half of a character that the piece before began.
    head: Option<u16>,
    text: String,
    /// The first half of a character that the next piece completes.
    tail: Option<u16>,
}

impl From<String> for Loose {
    fn from(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

impl Loose {
    /// Whether it says nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.head.is_none() && self.text.is_empty() && self.tail.is_none()
    }

    /// The text, if no character is cut in half at its ends.
    pub(super) fn whole(&self) -> Option<&str> {
        (self.head.is_none() && self.tail.is_none()).then_some(&*self.text)
    }

    /// The text behind what came before: `half` is what that left open, and afterwards what this leaves open.
    pub(super) fn join(self, half: &mut Option<u16>) -> String {
        if self.is_empty() {
            return String::new();
        }
        let mut out = String::new();
        match (half.take(), self.head) {
            (None, None) => {}
            (Some(high), Some(low)) => out.extend(pair(high, low)),
            (Some(_), None) | (None, Some(_)) => out.push(char::REPLACEMENT_CHARACTER),
        }
        out.push_str(&self.text);
        *half = self.tail;
        out
    }

    /// Reads the inside of a JSON string that is not Unicode.
    fn decode(inside: &str) -> Option<Self> {
        let mut units: Vec<u16> = Vec::with_capacity(inside.len());
        let mut chars = inside.chars();
        while let Some(c) = chars.next() {
            let c = match (c, c == '\\') {
                (c, false) => c,
                (_, true) => match chars.next()? {
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'u' => {
                        let digits = chars.as_str().get(..4)?;
                        units.push(u16::from_str_radix(digits, 16).ok()?);
                        chars = chars.as_str()[4..].chars();
                        continue;
                    }
                    plain => plain,
                },
            };
            units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
        }
        let mut rest = units.as_slice();
        let mut piece = Self::default();
        if let Some((&low @ 0xDC00..=0xDFFF, behind)) = rest.split_first() {
            (piece.head, rest) = (Some(low), behind);
        }
        if let Some((&high @ 0xD800..=0xDBFF, before)) = rest.split_last() {
            (piece.tail, rest) = (Some(high), before);
        }
        piece.text = String::from_utf16_lossy(rest);
        Some(piece)
    }
}

fn pair(high: u16, low: u16) -> Option<char> {
    char::decode_utf16([high, low]).next()?.ok()
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        if let Ok(text) = serde_json::from_str::<String>(raw) {
            return Ok(text.into());
        }
        let inside = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
        inside.and_then(Self::decode).ok_or_else(|| D::Error::custom("not a text"))
    }
}

/// The text of JSON: a string that holds it, as the dialects promise, or the JSON itself, as some servers send it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct JsonText(pub(super) Loose);

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        if raw.starts_with('"') {
            return serde_json::from_str(raw).map(Self).map_err(D::Error::custom);
        }
        Ok(Self(raw.to_owned().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What pieces amount to.
    #[track_caller]
    fn check(pieces: &[&str], then: &str) {
        let (mut half, mut text) = (None, String::new());
        for piece in pieces {
            text.push_str(&serde_json::from_str::<Loose>(piece).unwrap().join(&mut half));
        }
        text.extend(half.map(|_| char::REPLACEMENT_CHARACTER));
        assert_eq!(text, then, "{pieces:?}");
    }

    #[test]
    fn halves_find_each_other() {
        check(&[r#""Hi ""#, r#""\ud83d""#, r#""\ude00 bye""#], "Hi 😀 bye");
        check(&[r#""a\ud83d""#, r#""""#, r#""\ude00""#], "a😀");
        check(&[r#""\ud83d\ude00""#, r#""\"\\\/\n\u00e9\ud83d""#], "😀\"\\/\né\u{FFFD}");
        check(&[r#""Hello \ud83d world""#], "Hello \u{FFFD} world");
        check(&[r#""\ude00\ud83d""#, r#""x""#], "\u{FFFD}\u{FFFD}x");
        check(&[r#""é \ude00""#], "é \u{FFFD}");
    }

    #[test]
    fn json_comes_as_a_text_or_as_itself() {
        let read = |text: &str| serde_json::from_str::<JsonText>(text).unwrap().0.join(&mut None);
        assert_eq!(read(r#""{\"a\":1}""#), r#"{"a":1}"#);
        assert_eq!(read(r#"{"a": 1}"#), r#"{"a": 1}"#);
        assert!(serde_json::from_str::<Loose>("{}").is_err());
    }
}
