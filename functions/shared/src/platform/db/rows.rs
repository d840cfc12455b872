//! Values between Rust and Postgres: parameters with their types, columns, and JSON.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::Error as _};
use strum::VariantArray;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

use super::error::DbError;

/// A tenant: the id of a row in `clients`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ClientId(pub i64);

/// A parameter's value, with its built-in Postgres type.
pub trait Param: ToSql + Sync + Send + 'static {
    /// The type that the statement sees.
    const TYPE: Type;
}

macro_rules! params {
    ($($rust:ty => $postgres:ident),* $(,)?) => { $(impl Param for $rust { const TYPE: Type = Type::$postgres; })* };
}
params! {
    bool => BOOL, i32 => INT4, i64 => INT8, f64 => FLOAT8, String => TEXT, &'static str => TEXT, Vec<u8> => BYTEA,
    Timestamp => TIMESTAMPTZ, jiff::civil::Time => TIME, uuid::Uuid => UUID, serde_json::Value => JSONB,
    Vec<i64> => INT8_ARRAY, Vec<String> => TEXT_ARRAY,
}
impl<T: Param> Param for Option<T> {
    const TYPE: Type = T::TYPE;
}

/// Reads a column. [`DbError::Shape`]: the row has no such column, or its type is another.
pub fn get<'row, T: tokio_postgres::types::FromSql<'row>>(row: &'row Row, column: &str) -> Result<T, DbError> {
    row.try_get(column).map_err(|_| DbError::Shape)
}

/// Reads a text column as the variant of that name. [`DbError::Shape`]: the enum has no such variant.
pub fn get_variant<T>(row: &Row, column: &str) -> Result<T, DbError>
where
    T: VariantArray + Copy,
    &'static str: From<T>,
{
    let name: &str = get(row, column)?;
    T::VARIANTS.iter().copied().find(|variant| <&'static str>::from(*variant) == name).ok_or(DbError::Shape)
}

/// Reads bytes as Postgres writes them into JSON: `\x` and hexadecimal digits.
pub fn bytes<'de, D: Deserializer<'de>>(json: D) -> Result<Vec<u8>, D::Error> {
    optional_bytes(json)?.ok_or_else(|| D::Error::custom("no bytes"))
}

/// As [`bytes()`]. None: the value is null.
pub fn optional_bytes<'de, D: Deserializer<'de>>(json: D) -> Result<Option<Vec<u8>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(json)? else { return Ok(None) };
    let digits = text.strip_prefix("\\x").ok_or_else(|| D::Error::custom("not bytes"))?;
    hex::decode(digits).map(Some).map_err(|_| D::Error::custom("not bytes"))
}
