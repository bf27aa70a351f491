//! Where secrets come from: an environment variable or a file, never the settings themselves.

use std::path::PathBuf;

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

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

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
