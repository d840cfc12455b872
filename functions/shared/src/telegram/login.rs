//! The Login Widget's answer: the person who signed in at Telegram, signed with the bot's token.
//! Only signature and age are checked here. The caller stores the digest, so that each answer counts once.

use std::{collections::BTreeMap, fmt};

use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::platform::secrets::Secret;

/// The greatest age of a sign-in.
pub const MAX_AGE: SignedDuration = SignedDuration::from_secs(300);

/// The most by which Telegram's clock may be ahead of ours.
pub const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(5);

/// A person who has just signed in, as Telegram confirms.
#[derive(Clone, PartialEq, Eq)]
pub struct WidgetUser {
    /// Telegram's id, which identifies the person.
    pub id: i64,
    /// The first name, as it is now.
    pub first_name: String,
    /// The last name.
    pub last_name: Option<String>,
    /// The name after the `@`.
    pub username: Option<String>,
    /// The address of the picture.
    pub photo_url: Option<String>,
    /// The time of the sign-in.
    pub auth_date: Timestamp,
    /// The decoded `hash`: the same for every copy of this answer, however it is written.
    pub digest: [u8; 32],
}

/// Personal data, so never printed whole.
impl fmt::Debug for WidgetUser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WidgetUser").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The reason to refuse an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WidgetError {
    /// A field is missing or cannot have been made by Telegram.
    #[error("the sign-in data is malformed")]
    Malformed,
    /// It was not signed with this bot's token.
    #[error("the sign-in data is not signed by Telegram for this bot")]
    WrongSignature,
    /// It is too old.
    #[error("the sign-in is too old")]
    Expired,
    /// It is from the future.
    #[error("the sign-in is from the future")]
    FromTheFuture,
}

/// Checks the Login Widget's answer. `fields` must be all that came, also unknown ones: Telegram signs them all.
pub fn verify_widget(
    fields: &BTreeMap<String, String>,
    bot_token: &Secret,
    now: Timestamp,
) -> Result<WidgetUser, WidgetError> {
    // A line break in a value could look like another field.
    if fields.iter().any(|(name, value)| name.contains('=') || name.chars().chain(value.chars()).any(char::is_control))
    {
        return Err(WidgetError::Malformed);
    }
    let digest = digest(required(fields, "hash")?)?;
    let id = number(required(fields, "id")?)?;
    let auth_date = number(required(fields, "auth_date")?)
        .and_then(|date| Timestamp::from_second(date).map_err(|_| WidgetError::Malformed))?;
    let first_name = required(fields, "first_name")?.to_owned();
    if !bool::from(signature(fields, bot_token).ct_eq(&digest)) {
        return Err(WidgetError::WrongSignature);
    }
    let age = now.duration_since(auth_date);
    if age > MAX_AGE {
        return Err(WidgetError::Expired);
    }
    if age < -MAX_CLOCK_SKEW {
        return Err(WidgetError::FromTheFuture);
    }
    let optional = |name| fields.get(name).filter(|value| !value.is_empty()).cloned();
    let (last_name, username, photo_url) = (optional("last_name"), optional("username"), optional("photo_url"));
    Ok(WidgetUser { id, first_name, last_name, username, photo_url, auth_date, digest })
}

/// HMAC-SHA256 with SHA256(token) over the sorted `key=value` lines of all fields but `hash`.
fn signature(fields: &BTreeMap<String, String>, bot_token: &Secret) -> [u8; 32] {
    let signed = fields.iter().filter(|(name, _)| *name != "hash");
    let lines: Vec<_> = signed.map(|(name, value)| format!("{name}={value}")).collect();
    let key = Sha256::digest(bot_token.expose().as_bytes());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
    mac.update(lines.join("\n").as_bytes());
    mac.finalize().into_bytes().into()
}

fn required<'a>(fields: &'a BTreeMap<String, String>, name: &str) -> Result<&'a str, WidgetError> {
    fields.get(name).map(String::as_str).ok_or(WidgetError::Malformed)
}

fn digest(hash: &str) -> Result<[u8; 32], WidgetError> {
    let mut digest = [0; 32];
    hex::decode_to_slice(hash, &mut digest).map_err(|_| WidgetError::Malformed)?;
    Ok(digest)
}

/// A positive number in digits only: `parse` would accept a sign too.
fn number(text: &str) -> Result<i64, WidgetError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(WidgetError::Malformed);
    }
    text.parse().ok().filter(|number| *number > 0).ok_or(WidgetError::Malformed)
}

#[cfg(test)]
mod tests;
