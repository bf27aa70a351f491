//! Values as SQLite holds them.

use rusqlite::types::FromSqlError;
use rusqlite::types::ValueRef;

use crate::base::ids::Name;
use crate::base::json::Json;

/// A seq as SQLite holds it.
pub(super) fn sql_seq(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// A number as the rules have it.
pub(super) fn number<T: TryFrom<i64>>(value: ValueRef<'_>) -> Result<T, FromSqlError> {
    let number = value.as_i64()?;
    T::try_from(number).map_err(|_| FromSqlError::OutOfRange(number))
}

/// The value in `column` is right as far as checksums tell, and makes no sense to this program.
pub(super) fn unknown(column: usize, value: ValueRef<'_>) -> rusqlite::Error {
    let problem = format!("`{value:?}` is not a value that this program knows");
    rusqlite::Error::FromSqlConversionFailure(column, value.data_type(), problem.into())
}

/// The JSON in `column`.
pub(super) fn json(column: usize, value: ValueRef<'_>) -> rusqlite::Result<Option<Json>> {
    let Some(text) = value.as_str_or_null()? else { return Ok(None) };
    Json::parse(text).map(Some).map_err(|_| unknown(column, value))
}

/// The name in `column`.
pub(super) fn name(column: usize, value: ValueRef<'_>) -> rusqlite::Result<Name> {
    Name::new(value.as_str()?).map_err(|_| unknown(column, value))
}
