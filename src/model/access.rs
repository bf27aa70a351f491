//! What the settings say about how a provider is reached: which key, which headers, which parameters. Nothing goes to a
//! provider that they do not name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use reqwest::Url;
use reqwest::header::HeaderName;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::secret::SecretSource;

/// Headers that requests have of themselves.
const OWN_HEADERS: &[&str] =
    &["accept", "accept-encoding", "connection", "content-length", "content-type", "host", "te"];

/// A value of a header or a parameter: a text, or the place of a secret, as `{ env = "NAME" }` or `{ file = "path" }`.
///
/// `Debug` does not show it: a text may be a secret as well.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Given {
    /// As it is written in the settings.
    Text(String),
    /// Read at the start.
    Secret(SecretSource),
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("***"),
            Self::Secret(place) => place.fmt(f),
        }
    }
}

/// Names and values of headers or parameters.
pub type Givens = BTreeMap<String, Given>;

/// How a provider is reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access<'a> {
    /// Its address.
    pub(super) base_url: &'a str,
    /// The environment variable with the key, if the settings name one.
    pub(super) key_env: Option<&'a str>,
    /// The file with the key.
    pub(super) key_file: Option<&'a Path>,
    /// More headers.
    pub(super) headers: &'a Givens,
    /// More parameters.
    pub(super) query: &'a Givens,
    /// Who made this API, and the variable that holds the key for it by custom.
    pub(super) vendor: Option<(&'static str, &'static str)>,
}

impl<'a> Access<'a> {
    /// The environment variable with the key. The customary one counts only where the address is the vendor's own: a key for
    /// one host is nothing for another.
    pub(super) fn key_env(&self) -> Option<&'a str> {
        let custom = self.vendor.filter(|(domain, _)| is_at(self.base_url, domain));
        self.key_env.or_else(|| custom.map(|(_, env)| env)).filter(|env| !env.is_empty())
    }

    /// Whether something secret is sent there.
    pub(super) fn is_secret(&self) -> bool {
        let all = || self.headers.values().chain(self.query.values());
        self.key_file.is_some()
            || self.key_env().is_some()
            || all().any(|given| matches!(given, Given::Secret(_)))
    }

    /// What is wrong with the headers and parameters; each begins with the name of the setting.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for name in self.headers.keys() {
            let lower = name.to_ascii_lowercase();
            if OWN_HEADERS.contains(&lower.as_str()) {
                problems.push(format!("headers must not hold `{name}`"));
            } else if HeaderName::from_bytes(lower.as_bytes()).is_err() {
                problems.push(format!("headers: `{name}` cannot be the name of a header"));
            }
        }
        for (section, all) in [("headers", self.headers), ("query", self.query)] {
            for (name, given) in all {
                if matches!(given, Given::Secret(place) if *place == SecretSource::default()) {
                    problems.push(format!("{section}.{name} needs a text, `env` or `file`"));
                }
                if matches!(given, Given::Text(text) if text.chars().any(char::is_control)) {
                    problems.push(format!("{section}.{name} must not hold control characters"));
                }
            }
        }
        problems
    }
}

/// Whether the host of `url` is `domain` or belongs to it.
pub(super) fn is_at(url: &str, domain: &str) -> bool {
    let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.is_some_and(|host| {
        host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_not_a_part_of_a_name() {
        assert!(is_at("https://api.openai.com/v1", "openai.com"));
        assert!(is_at("https://openai.com", "openai.com"));
        for other in ["https://notopenai.com", "https://openai.com.example.org", "openai.com", ""] {
            assert!(!is_at(other, "openai.com"), "{other}");
        }
    }

    #[test]
    fn values_are_not_shown() {
        let given: Givens = serde_json::from_str(r#"{"a":"s3cret","b":{"env":"NAME"}}"#).unwrap();
        let shown = format!("{given:?}");
        assert!(!shown.contains("s3cret") && shown.contains("NAME"), "{shown}");
        serde_json::from_str::<Givens>(r#"{"a":{"evn":"NAME"}}"#).unwrap_err();
    }
}
