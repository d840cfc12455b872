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
mod tests {
    use super::*;

    const TOKEN: &str = "123456789:AAFakeTokenForTestsOnly_abcdefghijklmn";
    const SIGNED_AT: i64 = 1_767_225_600;
    const A: &str = "3e0edf0aca4e3f2dffd171b46374dfa7f990adc668c6b2136ff3f256eb82d107";
    const B: &str = "44bd1d9afdc0bcae830d1b64a4ac089a9a9d816a5677d1108371f85815003fe3";
    const B_WITH_SPACE: &str = "e25d26ea914519a24bdedcba220e75e2020a90e2cce45025f300d41a0ccfe1d7";

    fn fields(lines: &str, hash: &str) -> BTreeMap<String, String> {
        let pairs = lines.lines().filter_map(|line| line.split_once('='));
        let mut fields: BTreeMap<_, _> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        fields.insert("hash".to_owned(), hash.to_owned());
        fields
    }

    fn full() -> BTreeMap<String, String> {
        let lines = "auth_date=1767225600\nfirst_name=Ivan\nid=987654321\nlast_name=Petrov\nphoto_url=https://t.me/i/userpic/320/ivan_test.jpg\nusername=ivan_test";
        fields(lines, A)
    }

    fn short(first_name: &str, hash: &str) -> BTreeMap<String, String> {
        fields(&format!("auth_date=1767225600\nfirst_name={first_name}\nid=987654322"), hash)
    }

    fn verify(fields: &BTreeMap<String, String>, seconds_later: i64) -> Result<WidgetUser, WidgetError> {
        let now = Timestamp::from_second(SIGNED_AT + seconds_later).expect("a time");
        verify_widget(fields, &Secret::new(TOKEN.to_owned()), now)
    }

    #[test]
    fn data_signed_by_telegram_is_accepted() {
        let ivan = verify(&full(), 60).expect("vector A");
        assert_eq!(
            (ivan.id, ivan.first_name.as_str(), ivan.username.as_deref()),
            (987_654_321, "Ivan", Some("ivan_test"))
        );
        assert_eq!((hex::encode(ivan.digest).as_str(), ivan.auth_date.as_second()), (A, SIGNED_AT));
        let anna = verify(&short("Анна", B), 60).expect("vector B");
        assert_eq!((anna.first_name.as_str(), anna.last_name), ("Анна", None));
    }

    #[test]
    fn a_changed_field_breaks_the_signature() {
        assert_eq!(verify(&short("Анна ", B), 60), Err(WidgetError::WrongSignature));
        assert!(verify(&short("Анна ", B_WITH_SPACE), 60).is_ok());
        for name in ["id", "auth_date", "username", "photo_url"] {
            let mut fields = full();
            fields.entry(name.to_owned()).and_modify(|value| value.push('1'));
            assert_eq!(verify(&fields, 60), Err(WidgetError::WrongSignature), "{name}");
        }
        let mut more = full();
        more.insert("role".to_owned(), "admin".to_owned());
        assert_eq!(verify(&more, 60), Err(WidgetError::WrongSignature));
        let mut less = full();
        less.remove("username");
        assert_eq!(verify(&less, 60), Err(WidgetError::WrongSignature));
    }

    #[test]
    fn data_signed_for_another_bot_is_refused() {
        let now = Timestamp::from_second(SIGNED_AT).expect("a time");
        let other = Secret::new("123456789:AAAnotherTokenForTests".to_owned());
        assert_eq!(verify_widget(&full(), &other, now), Err(WidgetError::WrongSignature));
    }

    #[test]
    fn a_sign_in_is_accepted_for_five_minutes() {
        assert!(verify(&full(), 0).is_ok() && verify(&full(), 300).is_ok());
        assert_eq!(verify(&full(), 301), Err(WidgetError::Expired));
        assert!(verify(&full(), -5).is_ok());
        assert_eq!(verify(&full(), -6), Err(WidgetError::FromTheFuture));
    }

    #[test]
    fn a_field_that_telegram_cannot_have_made_is_refused() {
        let odd = [
            ("id", "abc"),
            ("id", "+987654321"),
            ("id", "-1"),
            ("id", "0"),
            ("id", ""),
            ("id", "99999999999999999999"),
            ("auth_date", "yesterday"),
            ("auth_date", "9223372036854775807"),
            ("first_name", "Ivan\nid=1"),
            ("last_name", "\u{0}"),
            ("username", "a\u{85}b"),
            ("hash", "xyz"),
            ("hash", "3e0e"),
        ];
        for (name, value) in odd {
            let mut fields = full();
            fields.insert(name.to_owned(), value.to_owned());
            assert_eq!(verify(&fields, 60), Err(WidgetError::Malformed), "{name}={value}");
        }
        for name in ["id", "auth_date", "hash", "first_name"] {
            let mut fields = full();
            fields.remove(name);
            assert_eq!(verify(&fields, 60), Err(WidgetError::Malformed), "{name}");
        }
    }

    #[test]
    fn an_answer_in_capitals_has_the_same_digest() {
        let mut fields = full();
        fields.insert("hash".to_owned(), A.to_uppercase());
        assert_eq!(verify(&fields, 60).map(|user| user.digest), verify(&full(), 60).map(|user| user.digest));
    }
}
