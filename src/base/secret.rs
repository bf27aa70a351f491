//! Where secrets come from: an environment variable or a file, never the settings themselves; and that nobody reads them in
//! what is told and logged.

use std::fmt;
use std::fmt::Write as _;
use std::path::PathBuf;

use secrecy::ExposeSecret as _;
use secrecy::SecretString;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

/// Longest secret that is read from a file, in bytes.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// What looks a name up in the environment; given by whoever may read it.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Names the place of a secret. Safe to print.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecretSource {
    /// An environment variable of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// A file; white space around its content is not part of the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub file: Option<PathBuf>,
}

impl SecretSource {
    /// Reads the secret; `None` if no place is named. The variable wins over the file if it is set.
    ///
    /// Blocks on the file, so call it at start only.
    ///
    /// # Errors
    ///
    /// Which place is empty or cannot be read; never what it holds.
    pub fn read(&self, environment: Environment<'_>) -> Result<Option<SecretString>, String> {
        let variable = self.env.as_deref().and_then(environment).filter(|value| !value.is_empty());
        if let Some(value) = variable {
            return Ok(Some(SecretString::from(value)));
        }
        let Some(path) = &self.file else {
            let missing = |name| format!("environment variable {name} is not set");
            return self.env.as_deref().map_or(Ok(None), |name| Err(missing(name)));
        };
        let size = std::fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?.len();
        if size > SECRET_BYTES_MAX {
            return Err(format!("{}: too large for a secret", path.display()));
        }
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        if text.trim().is_empty() {
            return Err(format!("{}: holds no secret", path.display()));
        }
        Ok(Some(SecretString::from(text.trim())))
    }
}

/// What stands in the place of a text that is hidden.
pub const HIDDEN: &str = "***";
/// Shorter values of settings, that are no secrets by name, are not hidden: they are in every sentence.
const HIDDEN_CHARS_MIN: usize = 4;
/// From this length on a value of a setting is hidden inside of words as well.
const INSIDE_CHARS_MIN: usize = 16;

/// A text that nobody may read in what is told and logged. `Debug` prints nothing of it.
#[derive(Clone)]
pub struct Hidden {
    text: SecretString,
    /// Whether it is hidden only where it stands alone.
    is_word: bool,
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Hidden {
    /// Hides `text` wherever it is.
    #[must_use]
    pub fn secret(text: &str) -> Self {
        Self { text: SecretString::from(text), is_word: false }
    }

    /// Hides all the ways in which somebody may repeat the secret `value`: as it is, without the word before it, and as it
    /// stands in an address.
    #[must_use]
    pub fn of_secret(value: &str) -> Vec<Self> {
        let whole = forms(value).into_iter().filter(|text| !text.is_empty());
        whole.map(|text| Self::secret(&text)).chain(Self::of_setting(value)).collect()
    }

    /// The same of a value that stands in the settings as it is: not everybody puts secrets where they belong. Short ones are
    /// hidden where they stand alone.
    #[must_use]
    pub fn of_setting(value: &str) -> Vec<Self> {
        let behind = value.trim().split_once(' ').map(|(_, behind)| behind.trim().to_owned());
        let all = forms(value).into_iter().chain(behind);
        let all = all.filter(|text| text.len() >= HIDDEN_CHARS_MIN);
        let hidden = |text: String| {
            let is_word = text.len() < INSIDE_CHARS_MIN;
            Self { is_word, ..Self::secret(&text) }
        };
        all.map(hidden).collect()
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// Takes `all` out of `text`, the longest first.
    #[must_use]
    pub fn hide<'a>(all: impl IntoIterator<Item = &'a Self>, text: &str) -> String {
        let mut all: Vec<&Self> = all.into_iter().collect();
        all.sort_by_key(|hidden| std::cmp::Reverse(hidden.expose().len()));
        all.into_iter().fold(text.to_owned(), |text, hidden| hidden.out_of(&text))
    }

    fn out_of(&self, text: &str) -> String {
        let secret = self.expose();
        if !self.is_word {
            return text.replace(secret, HIDDEN);
        }
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some((before, behind)) = rest.split_once(secret) {
            let before_it = before.chars().next_back().or_else(|| out.chars().next_back());
            let is_inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            let alone = !is_inside(before_it) && !is_inside(behind.chars().next());
            out.push_str(before);
            out.push_str(if alone { HIDDEN } else { secret });
            rest = behind;
        }
        out + rest
    }
}

/// `value` as it is, and as it stands among the parameters of an address and elsewhere in one.
fn forms(value: &str) -> [String; 3] {
    let mut encoded = String::new();
    for byte in value.bytes() {
        match byte {
            b'*' | b'-' | b'.' | b'_' => encoded.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            byte => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    [value.trim().to_owned(), encoded.replace("%20", "+"), encoded]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_hidden_in_every_form() {
        let hides = |all: &[Hidden], text: &str, then: &str| {
            assert_eq!(Hidden::hide(all, text), then);
        };
        let secret = Hidden::of_secret("Bearer s3c/ret");
        hides(&secret, "no Bearer s3c/ret, no s3c/ret!", "no ***, no ***!");
        hides(&secret, "?a=Bearer+s3c%2Fret&b", "?a=***&b");
        hides(
            &Hidden::of_secret("some words of mine"),
            "some words: words of mine",
            "some words: ***",
        );
        hides(&Hidden::of_secret("ab"), "cabd", "c***d");
        let setting = Hidden::of_setting("plain");
        hides(&setting, "plain, explain, plainly: plain", "***, explain, plainly: ***");
        hides(&Hidden::of_setting("plain"), "plainplain plain", "plainplain ***");
        hides(&Hidden::of_setting("on"), "turn on", "turn on");
        hides(&Hidden::of_setting("0123456789abcdef"), "x0123456789abcdefx", "x***x");
        let nested = [Hidden::secret("key"), Hidden::secret("key-of-mine")];
        hides(&nested, "key-of-mine", "***");
        hides(&Hidden::of_secret(" "), "a b", "a b");
        hides(&secret, "a/Bearer%20s3c%2Fret", "a/***");
        assert!(!format!("{secret:?}").contains("s3c"));
    }

    #[track_caller]
    fn check(given: &SecretSource, then: Result<Option<&str>, &str>) {
        let environment = |name: &str| (name == "KEY").then(|| "from-env".to_owned());
        let read = given.read(&environment);
        match then {
            Ok(value) => {
                let read = read.expect("a secret");
                assert_eq!(read.as_ref().map(|secret| secret.expose_secret()), value);
            }
            Err(part) => assert!(read.expect_err("an error").contains(part)),
        }
    }

    #[test]
    fn the_variable_wins_over_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " from-file\n").unwrap();
        let source = |env: Option<&str>, file| SecretSource { env: env.map(str::to_owned), file };
        check(&source(None, None), Ok(None));
        check(&source(Some("KEY"), Some(file.path().to_owned())), Ok(Some("from-env")));
        check(&source(Some("NO"), Some(file.path().to_owned())), Ok(Some("from-file")));
        check(&source(Some("NO"), None), Err("NO is not set"));
        check(&source(None, Some(PathBuf::from("no-such-file"))), Err("no-such-file"));
    }
}
