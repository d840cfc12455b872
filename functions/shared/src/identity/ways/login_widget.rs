//! Sign-in with Telegram's Login Widget: Telegram signs the person's data with the platform bot's token.
//! Each signed answer opens one session, once.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    App,
    identity::{
        error::SignInError,
        sessions::{self, NewSession, Tokens},
        users::{self, Account},
    },
    platform::{
        config::var,
        db::{DbError, Scope, Statement, get},
        secrets::Secret,
    },
    telegram::login::{WidgetUser, verify_widget},
    tenancy::audit,
};

/// The most fields that a widget's answer may have. It has seven, and Telegram may add others.
const MAX_FIELDS: usize = 32;
/// The most characters of a person's name that are stored.
const MAX_NAME_CHARS: usize = 64;

/// The widget's answer as Telegram gave it to the page. Every member counts for the signature, known here or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WidgetFields(pub BTreeMap<String, String>);

impl<'de> Deserialize<'de> for WidgetFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = WidgetFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts and whole numbers")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<WidgetFields, M::Error> {
                let mut fields = BTreeMap::new();
                while let Some((name, Scalar(value))) = members.next_entry::<String, Scalar>()? {
                    if fields.len() == MAX_FIELDS || fields.insert(name, value).is_some() {
                        return Err(de::Error::custom("too many members, or one twice"));
                    }
                }
                Ok(WidgetFields(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// A text or a whole number, as text: `data-onauth` gives numbers, the redirect gives texts.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;

        impl Visitor<'_> for Value {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a whole number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
        }

        deserializer.deserialize_any(Value)
    }
}

impl garde::Validate for WidgetFields {
    type Context = ();

    /// Checks only that the members are there that Telegram always sends: the signature decides, and any other breaks it.
    fn validate_into(&self, (): &(), _: &mut dyn FnMut() -> garde::Path, report: &mut garde::Report) {
        for name in ["id", "first_name", "auth_date", "hash"] {
            if !self.0.contains_key(name) {
                report.append(garde::Path::new(name), garde::Error::new("is missing"));
            }
        }
    }
}

/// A person who is signed in now.
pub struct SignedIn {
    /// The person with their organisation.
    pub account: Account,
    /// Their tokens.
    pub tokens: Tokens,
}

/// Checks the widget's answer, finds or creates the person with their organisation, and opens a session.
pub async fn sign_in(app: &App, fields: &WidgetFields) -> Result<SignedIn, SignInError> {
    let token = Secret::new(app.config().text(var::MASTER_BOT_TOKEN));
    let widget = verify_widget(&fields.0, &token, jiff::Timestamp::now())?;
    let is_admin = app.config().number(var::ADMIN_TELEGRAM_ID) == Some(widget.id);
    let account = users::find_or_create(app, widget.id, &display_name(&widget), is_admin).await?;
    if !account.may_work() {
        return Err(SignInError::Inactive);
    }
    let session = NewSession::new(app, account.user.role);
    open(app, &account, &session, &widget).await?;
    Ok(SignedIn { tokens: session.tokens(app, &account), account })
}

/// Marks the widget's answer as used and opens the session, in one transaction: neither happens without the other.
async fn open(app: &App, account: &Account, session: &NewSession, widget: &WidgetUser) -> Result<(), SignInError> {
    let use_up = Statement::new("INSERT INTO used_logins (digest) VALUES ($1)").bind(widget.digest.to_vec());
    let details = json!({ "by": "telegram_login", "session_id": session.id, "telegram_user_id": widget.id });
    let note = audit::record_for(account.tenant(), Some(account.user.id), "sign_in", details);
    let mut statements = vec![use_up, note];
    statements.extend(session.open(account.user.id));
    let results = match app.db().run(Scope::Identity, statements).await {
        Err(error) if error.constraint() == Some("used_logins_pkey") => return Err(SignInError::Used),
        outcome => outcome?,
    };
    let [_, _, opened, _, ended] = &results[..] else { return Err(DbError::Shape.into()) };
    if opened.is_empty() {
        return Err(SignInError::Inactive); // it became so a moment ago
    }
    let ended: Vec<Uuid> = ended.iter().map(|row| get(row, "id")).collect::<Result<_, _>>()?;
    sessions::forget(app, &ended).await;
    Ok(())
}

/// Deletes the used answers that are too old to be accepted again.
pub async fn forget_used(app: &App) -> Result<(), DbError> {
    let statement = Statement::new("DELETE FROM used_logins WHERE used_at < now() - interval '1 hour'");
    app.db().query(Scope::Service, statement).await.map(|_| ())
}

/// Returns a person's name in one line, without characters that would reverse or hide the text beside it.
fn display_name(widget: &WidgetUser) -> String {
    let full = format!("{} {}", widget.first_name, widget.last_name.as_deref().unwrap_or_default());
    let misleading = |c: char| {
        c.is_control()
            || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let plain: String = full.chars().filter(|c| !misleading(*c)).collect();
    let short: String = plain.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_NAME_CHARS).collect();
    let name = short.trim();
    if name.is_empty() { format!("Telegram {}", widget.id) } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widget(first_name: &str, last_name: Option<&str>) -> WidgetUser {
        WidgetUser {
            id: 5,
            first_name: first_name.to_owned(),
            last_name: last_name.map(str::to_owned),
            username: None,
            photo_url: None,
            auth_date: jiff::Timestamp::UNIX_EPOCH,
            digest: [0; 32],
        }
    }

    #[test]
    fn numbers_and_texts_mean_the_same_and_unknown_members_stay() {
        let read = |json: &str| serde_json::from_str::<WidgetFields>(json).map(|fields| fields.0).ok();
        let numbers = read(r#"{"id":987654321,"auth_date":1767225600,"new":"x"}"#);
        assert_eq!(numbers, read(r#"{"id":"987654321","auth_date":"1767225600","new":"x"}"#));
        assert_eq!(numbers.map(|fields| fields.len()), Some(3));
    }

    #[test]
    fn an_answer_with_a_member_twice_or_of_another_shape_is_refused() {
        for json in [r#"{"id":1,"id":2}"#, r#"{"id":1.5}"#, r#"{"id":null}"#, r#"{"user":{"id":1}}"#, "[]"] {
            assert!(serde_json::from_str::<WidgetFields>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_name_is_one_short_line_without_hidden_characters() {
        assert_eq!(display_name(&widget("Анна", Some("Петрова"))), "Анна Петрова");
        assert_eq!(display_name(&widget("a\u{202e}b", Some("  c\u{200f} "))), "ab c");
        assert_eq!(display_name(&widget(" \u{200b}", None)), "Telegram 5");
        assert_eq!(display_name(&widget(&"я".repeat(200), None)).chars().count(), 64);
    }
}
