//! Keys of providers: where they come from, and that nobody sees them.

use std::path::Path;

use reqwest::header::HeaderValue;

use crate::base::secret::HIDDEN;
use crate::base::secret::Hidden;
use crate::model::FailureKind;
use crate::model::ModelError;

/// How the keys of several providers begin. They are hidden even if they are not ours, because some providers repeat a part
/// of the key that they refuse.
const KEY_START: &str = "sk-";

/// A key. `Debug` prints nothing of it, and its memory is wiped when it is dropped.
#[derive(Clone, Debug)]
pub(super) struct Key(Hidden);

impl From<Hidden> for Key {
    fn from(hidden: Hidden) -> Self {
        Self(hidden)
    }
}

impl Key {
    /// The key `text` without the white space around it; `None` if nothing is left, or it cannot stand in a header.
    pub(super) fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let usable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        usable.then(|| Self(Hidden::secret(text)))
    }

    /// The value of a header: `prefix` and the key. It does not show in `Debug` and is not kept by HTTP/2 compression.
    pub(super) fn header(&self, prefix: &str) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("{prefix}{}", self.0.expose())).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Takes `keys`, and whatever looks like a key, out of `text`.
pub(super) fn hide(keys: &[Key], text: &str) -> String {
    let text = Hidden::hide(keys.iter().map(|key| &key.0), text);
    let in_key = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '*';
    let (mut out, mut rest) = (String::with_capacity(text.len()), text.as_str());
    while let Some(at) = rest.find(KEY_START) {
        let (before, from) = rest.split_at(at);
        let end = from.find(|c| !in_key(c)).unwrap_or(from.len());
        // `risk-free` holds the start of a key, too.
        let is_key = !before.ends_with(char::is_alphanumeric);
        out.push_str(before);
        out.push_str(if is_key { HIDDEN } else { &from[..end] });
        rest = &from[end..];
    }
    out + rest
}

/// The key of `provider`: from the file if one is named, otherwise from the environment variable `env`; `None` if neither is
/// named, for a server that wants none.
///
/// # Errors
///
/// [`FailureKind::Configuration`], with what to set.
pub(super) fn find(
    provider: &str,
    env: &str,
    file: Option<&Path>,
) -> Result<Option<Key>, ModelError> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            tracing::warn!(model.provider = provider, "the key file cannot be read: {error}");
            missing(provider, "its key file cannot be read")
        })?,
        None if env.is_empty() => return Ok(None),
        None => environment(env).ok_or_else(|| missing(provider, &format!("set {env}")))?,
    };
    let place = if file.is_some() { "its key file" } else { env };
    let unusable = || missing(provider, &format!("{place} is empty, or holds what no key holds"));
    Key::new(&text).ok_or_else(unusable).map(Some)
}

/// A variable of the environment that the settings name.
#[expect(
    clippy::disallowed_methods,
    reason = "keys are no settings: they must not be in a file of settings"
)]
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn missing(provider: &str, what: &str) -> ModelError {
    let message = format!("there is no key for `{provider}`: {what}");
    ModelError::new(FailureKind::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_seen() {
        let key = Key::new(" s3cret\n").unwrap();
        assert_eq!(format!("{key:?}"), "Key(***)");
        assert_eq!(format!("{:?}", key.header("Bearer ").unwrap()), "Sensitive");
        assert_eq!(hide(&[key], "no s3cret, s3cret!"), "no ***, ***!");
        assert_eq!(hide(&[], "wrong: sk-ab-12**yz."), "wrong: ***.");
        assert_eq!(hide(&[], "risk-free"), "risk-free");
        assert_eq!(hide(&[], "sk-"), "***");
    }

    #[test]
    fn what_is_no_key_is_told_before_it_is_sent() {
        assert!(Key::new(" \n").is_none());
        assert!(Key::new("a\nb").is_none());
        assert!(Key::new("schlüssel").is_none());
        assert!(find("x", "", None).unwrap().is_none());
        let error = find("x", "SESSILE_TEST_NO_SUCH_KEY", None).unwrap_err();
        assert_eq!(error.kind, FailureKind::Configuration);
        assert!(error.message.contains("SESSILE_TEST_NO_SUCH_KEY"), "{error}");
        find("x", "", Some(Path::new("no such file"))).unwrap_err();
    }
}
