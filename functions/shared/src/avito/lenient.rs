//! Reading of fields that come missing, null, empty, as text instead of a number, or as something else altogether.
//! One odd field must not lose the message around it.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use crate::platform::limits;

/// The field, or its default if it has another type.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// A whole number, also one written as text.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(as_number(&Value::deserialize(deserializer)?))
}

/// The time of a message's creation, cut to its range.
pub(super) fn created<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(number(deserializer)?.and_then(|seconds| limits::time("created", seconds)))
}

/// The time at which a message was read, cut to its range. One that is too early says all the same that it was read.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    Ok(number(deserializer)?
        .filter(|seconds| *seconds > 0)
        .map(|seconds| limits::time("read", seconds).unwrap_or(seconds)))
}

/// A number that must be there.
pub(super) fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    as_number(&Value::deserialize(deserializer)?).ok_or_else(|| serde::de::Error::custom("a number is missing"))
}

/// A text, also one that came as a number.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// A text that must be there and not be empty.
pub(super) fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(deserializer)?.filter(|text| !text.is_empty()).ok_or_else(|| serde::de::Error::custom("an id is missing"))
}

/// The entries that can be read. One that cannot is counted, and does not hide the others.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let values = Vec::<Value>::deserialize(deserializer)?;
    let all = values.len();
    let read: Vec<T> = values.into_iter().filter_map(|value| serde_json::from_value(value).ok()).collect();
    if read.len() < all {
        metrics::counter!("avito_entries_unreadable").increment((all - read.len()) as u64);
        tracing::warn!(entries = all - read.len(), "Avito listed entries that cannot be read");
    }
    Ok(read)
}

/// As [`list`]; empty if the field is no list.
pub(super) fn list_or_nothing<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let value = Value::deserialize(deserializer)?;
    Ok(if value.is_array() { list(value).unwrap_or_default() } else { Vec::new() })
}

fn as_number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}
