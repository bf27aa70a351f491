//! Fields that an operator adds to every request of a provider: what we have no word for.

use std::collections::BTreeMap;

use serde_json::Map;
use serde_json::Value;

/// Names and values.
pub type Extra = Map<String, Value>;

/// `extra` without the fields that are `own`: those are never said twice.
pub(super) fn without<'a>(extra: &'a Extra, own: &[&str]) -> BTreeMap<&'a str, &'a Value> {
    let fields = extra.iter().map(|(name, value)| (name.as_str(), value));
    fields.filter(|(name, _)| !own.contains(name)).collect()
}
