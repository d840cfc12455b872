//! Organisations and their settings. Identity creates an organisation together with its first user. Settings are
//! changed by compare-and-set, in one transaction with their audit record.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Time, tz::TimeZone};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio_postgres::Row;
use utoipa::ToSchema;

use crate::{
    App,
    platform::{
        db::{ClientId, DbError, Scope, Statement, get},
        http::{Problem, text},
    },
};

/// What an organisation decides for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own, as people see them")]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Whether buyers whom nobody answers get an auto-reply.
    pub auto_reply_enabled: bool,
    /// Whether it is sent at any time of the day, else only from start to end.
    pub auto_reply_always: bool,
    /// When its time begins each day.
    #[schema(example = "22:00")]
    pub auto_reply_start_time: String,
    /// When its time ends, maybe on the next day; equal to the start: never.
    #[schema(example = "09:00")]
    pub auto_reply_end_time: String,
    /// Whose clock counts, as an IANA zone.
    #[schema(example = "Europe/Moscow")]
    pub auto_reply_timezone: String,
    /// What it says.
    pub auto_reply_text: String,
    /// Messages with one of these words are kept but not shown; by comma or line.
    pub filter_keywords: String,
    /// Whether Avito's own notices are kept but not shown.
    pub hide_system_messages: bool,
    /// Whether chats are marked read in Avito once they were shown.
    pub mark_read: bool,
    /// Replies to be had by name.
    pub canned_replies: BTreeMap<String, String>,
}

/// An organisation as its people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Client {
    /// Its id.
    pub id: i64,
    /// What it decides for itself.
    #[serde(flatten)]
    pub settings: Settings,
    /// When it was made.
    pub created_at: Timestamp,
    /// Tells one state of the row from the next.
    #[serde(skip)]
    version: String,
}

/// The format of times of the day in the API.
const CLOCK: &str = "%H:%M";

/// Parses a time of the day as people write it, `22:00`. `None`: the text is not such a time.
pub fn clock_time(written: &str) -> Option<Time> {
    let is_exact = written.len() == 5 && !written.starts_with(' ');
    is_exact.then(|| Time::strptime(CLOCK, written).ok()).flatten()
}

/// True if this is the name of a time zone. Postgres must know it as well, which [`change`] finds out.
pub fn is_zone(name: &str) -> bool {
    TimeZone::get(name).is_ok_and(|zone| zone.iana_name() == Some(name)) && (name.contains('/') || name == "UTC")
}

impl Client {
    fn read(row: &Row) -> Result<Self, DbError> {
        let time = |column| Ok::<_, DbError>(get::<Time>(row, column)?.strftime(CLOCK).to_string());
        Ok(Self {
            id: get(row, "id")?,
            settings: Settings {
                name: get(row, "name")?,
                auto_reply_enabled: get(row, "auto_reply_enabled")?,
                auto_reply_always: get(row, "auto_reply_always")?,
                auto_reply_start_time: time("auto_reply_start_time")?,
                auto_reply_end_time: time("auto_reply_end_time")?,
                auto_reply_timezone: get(row, "auto_reply_timezone")?,
                auto_reply_text: get(row, "auto_reply_text")?,
                filter_keywords: get(row, "filter_keywords")?,
                hide_system_messages: get(row, "hide_system_messages")?,
                mark_read: get(row, "mark_read")?,
                canned_replies: serde_json::from_value(get(row, "canned_replies")?).map_err(|_| DbError::Shape)?,
            },
            created_at: get(row, "created_at")?,
            version: get(row, "version")?,
        })
    }
}

/// Returns the organisation with its settings.
pub async fn find(app: &App, client: ClientId) -> Result<Client, DbError> {
    let statement = Statement::new(
        "SELECT id, name, auto_reply_enabled, auto_reply_always, auto_reply_start_time, auto_reply_end_time,
                auto_reply_timezone, auto_reply_text, filter_keywords, hide_system_messages, mark_read, canned_replies,
                created_at, xmin::text AS version
         FROM clients WHERE id = current_client_id()",
    );
    let rows = app.db().query(Scope::Tenant(client), statement).await?;
    Client::read(rows.first().ok_or(DbError::Shape)?)
}

/// A reason not to change settings.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The auto-reply is enabled without a text.
    #[error("an auto-reply needs a text")]
    NoText,
    /// This program or Postgres does not know the time zone.
    #[error("there is no such time zone")]
    NoSuchZone,
    /// Other requests changed the settings during each attempt.
    #[error("other requests changed the settings meanwhile")]
    Conflict,
    /// Our database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NoText => Self::invalid_field(
                "auto_reply_text",
                "no_text",
                text("Напишите текст автоответа.", "Write the text of the auto-reply."),
            ),
            ChangeError::NoSuchZone => Self::invalid_field(
                "auto_reply_timezone",
                "no_such_zone",
                text("Такого часового пояса нет.", "There is no such time zone."),
            ),
            ChangeError::Conflict => Self::conflict(
                "changed_meanwhile",
                text(
                    "Настройки только что изменил кто-то другой. Повторите.",
                    "Somebody else has just changed the settings. Try again.",
                ),
            ),
            ChangeError::Db(error) => error.into(),
        }
    }
}

/// The most attempts to change settings that other requests change at the same time.
const ATTEMPTS: usize = 5;

/// Changes the settings by `edit`, which is called again if another request was faster. `with` returns the statements
/// of other domains, to run in the same transaction.
pub async fn change(
    app: &App,
    client: ClientId,
    user_id: i64,
    edit: impl Fn(&mut Settings),
    with: impl Fn(&Settings, &Settings) -> Vec<Statement>,
) -> Result<Client, ChangeError> {
    for _ in 0..ATTEMPTS {
        let found = find(app, client).await?;
        let before = found.settings;
        let mut after = before.clone();
        edit(&mut after);
        if after.auto_reply_enabled && after.auto_reply_text.trim().is_empty() {
            return Err(ChangeError::NoText);
        }
        if after == before {
            return Ok(Client { settings: after, ..found });
        }
        let mut statements = vec![update(&found.version, user_id, &before, &after)];
        statements.extend(with(&before, &after));
        let results = app.db().run(Scope::Tenant(client), statements).await.map_err(refused_zone)?;
        if results.first().is_some_and(|rows| !rows.is_empty()) {
            return Ok(Client { settings: after, ..found });
        }
    }
    Err(ChangeError::Conflict)
}

/// Maps Postgres' «invalid parameter value» to the zone, the only parameter that can be invalid.
fn refused_zone(error: DbError) -> ChangeError {
    match error {
        DbError::Statement(state) if state == "22023" => ChangeError::NoSuchZone,
        error => error.into(),
    }
}

/// Replaces the settings and records the change. Returns a row only if the stored version was still `version`.
fn update(version: &str, user_id: i64, before: &Settings, after: &Settings) -> Statement {
    let statement = Statement::new(
        "WITH changed AS (
             UPDATE clients
             SET name = $2, auto_reply_enabled = $3, auto_reply_always = $4, auto_reply_start_time = $5,
                 auto_reply_end_time = $6, auto_reply_timezone = $7, auto_reply_text = $8, filter_keywords = $9,
                 hide_system_messages = $10, mark_read = $11, canned_replies = $12
             WHERE id = current_client_id() AND xmin::text = $1 AND now() AT TIME ZONE $7 IS NOT NULL
             RETURNING id
         ), noted AS (
             INSERT INTO audit_log (client_id, user_id, action, details)
             SELECT id, $13, 'client.update', $14 FROM changed
         )
         SELECT id FROM changed",
    );
    statement
        .bind(version.to_owned())
        .bind(after.name.clone())
        .bind(after.auto_reply_enabled)
        .bind(after.auto_reply_always)
        .bind(clock_time(&after.auto_reply_start_time))
        .bind(clock_time(&after.auto_reply_end_time))
        .bind(after.auto_reply_timezone.clone())
        .bind(after.auto_reply_text.clone())
        .bind(after.filter_keywords.clone())
        .bind(after.hide_system_messages)
        .bind(after.mark_read)
        .bind(json!(after.canned_replies))
        .bind(user_id)
        .bind(difference(before, after))
}

/// Returns the changed fields: `{field: {before, after}}`.
fn difference(before: &Settings, after: &Settings) -> Value {
    let fields = |settings: &Settings| match json!(settings) {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let old = fields(before);
    let changed = fields(after).into_iter().filter(|(field, value)| old.get(field) != Some(value));
    changed.map(|(field, value)| (field.clone(), json!({ "before": old.get(&field), "after": value }))).collect()
}

/// Reads the canned replies of the transaction's tenant, texts by name. Column: `canned_replies`.
pub fn canned_replies() -> Statement {
    Statement::new("SELECT canned_replies FROM clients WHERE id = current_client_id()")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_day_is_hours_and_minutes() {
        assert_eq!(clock_time("22:05"), Some(Time::constant(22, 5, 0, 0)));
        for wrong in ["24:00", "9:00", "22:60", "22:00:00", "22-00", " 2:00", ""] {
            assert_eq!(clock_time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_zone_is_known_by_its_own_name_only() {
        for zone in ["Europe/Moscow", "Europe/Kaliningrad", "Asia/Vladivostok", "America/Argentina/Buenos_Aires", "UTC"]
        {
            assert!(is_zone(zone), "{zone}");
        }
        for wrong in ["Moscow", "europe/moscow", "MSK", "Europe/Moskau", "+03:00", "", "Europe/Moscow\0", "EST5EDT"] {
            assert!(!is_zone(wrong), "{wrong}");
        }
    }
}
