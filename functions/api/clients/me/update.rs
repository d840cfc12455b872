//! `PATCH /api/clients/me`: changes the organisation's settings. A field that is left out stays. For its owner.
//! Switching the auto-reply on or off cancels all auto-replies that are scheduled.

use std::collections::BTreeMap;

use axum::extract::State;
use garde::Validate;
use serde::Deserialize;
use tuberry::{
    App,
    bridge::auto_reply,
    identity::caller::Caller,
    platform::http::{Json, Problem, ProblemBody},
    tenancy::clients::{self, Client, Settings, clock_time, is_zone},
};
use utoipa::ToSchema;

/// The settings to change.
#[derive(Deserialize, ToSchema, Validate)]
struct ClientUpdate {
    /// Its name.
    #[garde(length(chars, max = 200), inner(custom(not_blank)))]
    name: Option<String>,
    /// Whether buyers whom nobody answers get an auto-reply; it needs a text then.
    #[garde(skip)]
    auto_reply_enabled: Option<bool>,
    /// Whether it is sent at any time of the day, once a day, else only from start to end, once in that time.
    #[garde(skip)]
    auto_reply_always: Option<bool>,
    /// When its time begins each day.
    #[garde(inner(custom(time_of_day)))]
    #[schema(example = "22:00")]
    auto_reply_start_time: Option<String>,
    /// When its time ends, maybe on the next day; equal to the start: never.
    #[garde(inner(custom(time_of_day)))]
    #[schema(example = "09:00")]
    auto_reply_end_time: Option<String>,
    /// Whose clock counts, as an IANA zone.
    #[garde(inner(custom(zone)))]
    #[schema(example = "Europe/Moscow")]
    auto_reply_timezone: Option<String>,
    /// What it says.
    #[garde(length(chars, max = 1000), inner(custom(storable)))]
    auto_reply_text: Option<String>,
    /// Messages with one of these words are kept but not shown; by comma or line.
    #[garde(length(chars, max = 10_000), inner(custom(storable)))]
    filter_keywords: Option<String>,
    /// Whether Avito's own notices are kept but not shown.
    #[garde(skip)]
    hide_system_messages: Option<bool>,
    /// Whether chats are marked read in Avito once they were shown.
    #[garde(skip)]
    mark_read: Option<bool>,
    /// All replies to be had by name: names of 1 to 32 letters, digits or `_`, texts of at most 1,000 characters.
    #[garde(inner(custom(canned)))]
    canned_replies: Option<BTreeMap<String, String>>,
}

fn storable<C>(text: &str, _: &C) -> garde::Result {
    if text.contains('\0') { Err(garde::Error::new("holds a character that cannot be stored")) } else { Ok(()) }
}

fn not_blank<C>(text: &str, _: &C) -> garde::Result {
    if text.trim().is_empty() { Err(garde::Error::new("is blank")) } else { storable(text, &()) }
}

fn time_of_day<C>(written: &str, _: &C) -> garde::Result {
    clock_time(written).map(|_| ()).ok_or(garde::Error::new("is not a time of the day like 22:00"))
}

fn zone<C>(name: &str, _: &C) -> garde::Result {
    if is_zone(name) { Ok(()) } else { Err(garde::Error::new("is not a time zone like Europe/Moscow")) }
}

/// The most canned replies that an organisation may have.
const MAX_CANNED_REPLIES: usize = 200;

fn canned<C>(replies: &BTreeMap<String, String>, _: &C) -> garde::Result {
    if replies.len() > MAX_CANNED_REPLIES {
        return Err(garde::Error::new("holds more than 200 replies"));
    }
    for (name, text) in replies {
        let fits = (1..=32).contains(&name.chars().count()) && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if !fits {
            return Err(garde::Error::new("holds a name that is not 1 to 32 letters, digits or _"));
        }
        if text.chars().count() > 1000 {
            return Err(garde::Error::new("holds a text of more than 1000 characters"));
        }
        not_blank(text, &())?;
    }
    Ok(())
}

impl ClientUpdate {
    fn apply(&self, settings: &mut Settings) {
        fn set<T: Clone>(field: &mut T, value: Option<&T>) {
            if let Some(value) = value {
                field.clone_from(value);
            }
        }
        set(&mut settings.name, self.name.as_ref().map(|name| name.trim().to_owned()).as_ref());
        set(&mut settings.auto_reply_enabled, self.auto_reply_enabled.as_ref());
        set(&mut settings.auto_reply_always, self.auto_reply_always.as_ref());
        set(&mut settings.auto_reply_start_time, self.auto_reply_start_time.as_ref());
        set(&mut settings.auto_reply_end_time, self.auto_reply_end_time.as_ref());
        set(&mut settings.auto_reply_timezone, self.auto_reply_timezone.as_ref());
        set(&mut settings.auto_reply_text, self.auto_reply_text.as_ref());
        set(&mut settings.filter_keywords, self.filter_keywords.as_ref());
        set(&mut settings.hide_system_messages, self.hide_system_messages.as_ref());
        set(&mut settings.mark_read, self.mark_read.as_ref());
        set(&mut settings.canned_replies, self.canned_replies.as_ref());
    }
}

#[utoipa::path(patch, path = "/api/clients/me", operation_id = "clients-update", tag = "clients",
    request_body = ClientUpdate, responses(
    (status = 200, body = Client),
    (status = 401, body = ProblemBody),
    (status = 403, body = ProblemBody),
    (status = 409, body = ProblemBody, description = "`changed_meanwhile`"),
    (status = 422, body = ProblemBody, description = "`invalid` with the fields, `no_text`, `no_such_zone`"),
))]
async fn update(
    State(app): State<&'static App>,
    caller: Caller,
    Json(body): Json<ClientUpdate>,
) -> Result<Json<Client>, Problem> {
    let client = caller.owner()?;
    let cancel = |before: &Settings, after: &Settings| {
        let switched = before.auto_reply_enabled != after.auto_reply_enabled;
        switched.then(auto_reply::cancel_all_scheduled).into_iter().collect()
    };
    Ok(Json(clients::change(app, client, caller.user_id, |settings| body.apply(settings), cancel).await?))
}

tuberry::lambda!("clients-update", update as __path_update, [Database, Cache, Tokens]);
