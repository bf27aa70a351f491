//! Who can be asked, by name.

use std::sync::Arc;

use crate::model::FailureKind;
use crate::model::ModelError;
use crate::model::Provider;
use crate::model::echo::Echo;
use crate::model::placeholder::Placeholder;

/// Every provider that is set up.
pub struct Providers {
    all: Vec<Arc<dyn Provider>>,
}

impl Providers {
    /// Echo alone.
    #[must_use]
    pub fn new() -> Self {
        Self { all: vec![Arc::new(Echo), Arc::new(Placeholder)] }
    }

    /// The provider and model that `address`, `provider/model`, names.
    ///
    /// # Errors
    ///
    /// When there is no such provider.
    pub fn get(&self, address: &str) -> Result<(Arc<dyn Provider>, String), ModelError> {
        let (name, model) = address.split_once('/').unwrap_or((address, ""));
        let found = self.all.iter().find(|provider| provider.name() == name);
        let provider = found.ok_or_else(|| {
            ModelError::new(FailureKind::Configuration, format!("there is no provider `{name}`"))
        })?;
        Ok((Arc::clone(provider), model.to_owned()))
    }

    /// Who answers when nobody says who.
    #[must_use]
    pub fn default_address(&self) -> &str {
        "echo"
    }
}

impl Default for Providers {
    fn default() -> Self {
        Self::new()
    }
}
