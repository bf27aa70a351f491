//! What a check of a file found.

use crate::base::Classify;
use crate::base::Kind;
use crate::storage::Error;

/// Findings after which a check gives up: the rest of such a file is no better.
const FINDINGS_MAX: usize = 10;

/// What is wrong with a file, up to a handful.
#[derive(Debug, Default)]
pub struct Findings(pub(super) Vec<Error>);

impl Findings {
    /// Notes damage; any other error is handed back.
    ///
    /// # Errors
    ///
    /// An error that says nothing about the file.
    pub fn note(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            Err(error) if error.kind() == Kind::Corrupt => {
                let text = error.to_string();
                let known = self.0.iter().any(|found| found.to_string() == text);
                if !known && self.0.len() < FINDINGS_MAX {
                    self.0.push(error);
                }
                Ok(())
            }
            other => other,
        }
    }
}
