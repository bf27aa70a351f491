//! Files and results as the bodies of requests want them.

use crate::base::json::Json;

/// A `data:` URL whose data is base64.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DataUrl<'a> {
    /// The type that it names.
    pub(super) media_type: &'a str,
    /// The data, not decoded.
    pub(super) base64: &'a str,
}

impl<'a> DataUrl<'a> {
    /// Reads `url`; `None` if it is something else.
    pub(super) fn parse(url: &'a str) -> Option<Self> {
        let (head, base64) = url.strip_prefix("data:")?.split_once(',')?;
        let media_type = head.strip_suffix(";base64")?.split(';').next()?;
        Some(Self { media_type, base64 })
    }
}

/// What the model reads in place of a file that its provider does not take.
pub(super) fn unreadable(media_type: &str, name: Option<&str>) -> String {
    format!("[A file that cannot be shown: {}, {media_type}]", name.unwrap_or("without a name"))
}

/// What came of a call, as text: a string as it is, everything else as JSON.
pub(super) fn result_text(output: &Json) -> String {
    serde_json::from_str(output.as_str()).unwrap_or_else(|_| output.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_urls_are_taken_apart() {
        let parsed = DataUrl::parse("data:image/png;x=y;base64,AA==").unwrap();
        assert_eq!(parsed, DataUrl { media_type: "image/png", base64: "AA==" });
        assert_eq!(DataUrl::parse("data:text/plain,hello"), None);
        assert_eq!(DataUrl::parse("https://example.org/"), None);
    }

    #[test]
    fn results_are_text() {
        assert_eq!(result_text(&Json::parse(r#""a\nb""#).unwrap()), "a\nb");
        assert_eq!(result_text(&Json::parse(r#"{"a":1}"#).unwrap()), r#"{"a":1}"#);
    }
}
