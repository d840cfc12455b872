//! Bots: each belongs to one organisation and stands in one group. A bot is known by Telegram's own id for it,
//! so no second organisation can connect the same one.

use axum::http::StatusCode;
use frankenstein::{
    AsyncTelegramApi,
    methods::{GetChatMemberParams, GetChatParams, SetWebhookParams},
    types::AllowedUpdate,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::Row;
use utoipa::ToSchema;

use super::{audit, chats, notices};
use crate::{
    App,
    platform::{
        config::var,
        db::{ClientId, DbError, Scope, Statement, get},
        http::{Problem, Text, text},
        page::{Page, Wanted},
        secrets::{Place, Secret},
    },
    telegram,
};

/// Where a bot's token is sealed.
pub fn token_place(client: ClientId) -> Place {
    Place { table: "bots", column: "token", client_id: client.0 }
}

/// For `Scope::TenantOf`: the bot whose webhook carries a secret with this hash. Columns: `client_id`, `bot_id`,
/// `telegram_bot_id`, `group_chat_id`, `former_group_chat_id`, `topic_mode`, `status`.
pub fn tenant_by_webhook_secret(bot_id: i64, secret_hash: Vec<u8>) -> Statement {
    Statement::new(
        "SELECT set_config('app.client_id', client_id::text, true), client_id, id AS bot_id, telegram_bot_id,
                group_chat_id, former_group_chat_id, topic_mode, status
         FROM bots WHERE id = $1 AND webhook_secret_hash = $2",
    )
    .bind(bot_id)
    .bind(secret_hash)
}

/// For `Scope::TenantOf`: the bot a task names. Columns: `client_id`, `bot_id`.
pub fn tenant_of(bot_id: i64) -> Statement {
    Statement::new(
        "SELECT set_config('app.client_id', client_id::text, true), client_id, id AS bot_id FROM bots WHERE id = $1",
    )
    .bind(bot_id)
}

/// Notes that a bot cannot work and why; its owners are told when it could before. Answers a row only when that is news.
pub fn mark_broken(bot_id: i64, reason: impl Into<String>) -> Statement {
    Statement::new(
        "WITH broken AS (
             UPDATE bots b SET status = 'error', status_reason = $2
             FROM (SELECT id, status FROM bots WHERE id = $1) AS former
             WHERE b.id = former.id AND (b.status <> 'error' OR b.status_reason IS DISTINCT FROM $2)
             RETURNING b.id, b.client_id, b.bot_username, former.status
         ), told AS (
             INSERT INTO owner_notices (client_id, text)
             SELECT client_id, format($3, bot_username, $2) FROM broken WHERE status = 'active'
         )
         SELECT id FROM broken",
    )
    .bind(bot_id)
    .bind(reason.into())
    .bind(notices::BOT_BROKEN)
}

/// As [`mark_broken`], for a bot that was removed from a chat: only when that is its group.
pub fn mark_removed(bot_id: i64, chat_id: i64) -> Statement {
    Statement::new(
        "WITH broken AS (
             UPDATE bots b SET status = 'error', status_reason = $3
             FROM (SELECT id, status FROM bots WHERE id = $1) AS former
             WHERE b.id = former.id AND b.group_chat_id = $2 AND b.status <> 'error'
             RETURNING b.id, b.client_id, b.bot_username, former.status
         ), told AS (
             INSERT INTO owner_notices (client_id, text) SELECT client_id, format($4, bot_username, $3) FROM broken
         )
         SELECT id FROM broken",
    )
    .bind(bot_id)
    .bind(chat_id)
    .bind("the bot was removed from the group")
    .bind(notices::BOT_BROKEN)
}

/// Notes that a bot works again. Answers a row only when that is news.
pub fn mark_working(bot_id: i64) -> Statement {
    Statement::new(
        "UPDATE bots SET status = 'active', status_reason = NULL WHERE id = $1 AND status <> 'active' RETURNING id",
    )
    .bind(bot_id)
}

/// Follows a group that Telegram gave a new id. Answers a row only for whoever noted it first.
pub fn move_group(bot_id: i64, from_chat: i64, to_chat: i64) -> Statement {
    Statement::new(
        "UPDATE bots SET group_chat_id = $3, former_group_chat_id = $2 WHERE id = $1 AND group_chat_id = $2 RETURNING id",
    )
    .bind(bot_id)
    .bind(from_chat)
    .bind(to_chat)
}

/// A bot as the API shows it; its token never comes back out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Bot {
    /// Our id of the bot.
    pub id: i64,
    /// Telegram's id of the bot.
    pub telegram_bot_id: i64,
    /// Its name, without `@`.
    pub bot_username: String,
    /// The group in which dialogs are shown; none yet if null.
    pub group_chat_id: Option<i64>,
    /// Whether each dialog has a topic of its own.
    pub topic_mode: bool,
    /// `active`, or `error` when it cannot work.
    pub status: String,
    /// Why it cannot work.
    pub status_reason: Option<String>,
    /// When Telegram was told where to send what people write.
    pub webhook_set_at: Option<Timestamp>,
    /// When it was connected.
    pub created_at: Timestamp,
}

impl Bot {
    fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            id: get(row, "id")?,
            telegram_bot_id: get(row, "telegram_bot_id")?,
            bot_username: get(row, "bot_username")?,
            group_chat_id: get(row, "group_chat_id")?,
            topic_mode: get(row, "topic_mode")?,
            status: get(row, "status")?,
            status_reason: get(row, "status_reason")?,
            webhook_set_at: get(row, "webhook_set_at")?,
            created_at: get(row, "created_at")?,
        })
    }
}

/// A page of the organisation's bots.
pub async fn list(app: &App, client: ClientId, wanted: Wanted) -> Result<Page<Bot>, DbError> {
    let statement = Statement::new(
        "SELECT id, telegram_bot_id, bot_username, group_chat_id, topic_mode, status, status_reason, webhook_set_at,
                created_at
         FROM bots WHERE id < $1 ORDER BY id DESC LIMIT $2",
    );
    let rows = app.db().query(Scope::Tenant(client), statement.bind(wanted.before).bind(wanted.rows())).await?;
    let bots = rows.iter().map(Bot::read).collect::<Result<Vec<_>, _>>()?;
    Ok(wanted.page(bots, |bot| bot.id))
}

/// Whether the organisation has this bot.
pub async fn exists(app: &App, client: ClientId, bot_id: i64) -> Result<bool, DbError> {
    let statement = Statement::new("SELECT id FROM bots WHERE id = $1").bind(bot_id);
    Ok(!app.db().query(Scope::Tenant(client), statement).await?.is_empty())
}

/// Why a bot cannot be connected.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The token is none, or not valid any more.
    #[error("the token is not that of a bot")]
    BadToken,
    /// It is the platform's own bot.
    #[error("the platform's bot cannot be connected")]
    PlatformBot,
    /// It is connected already, here or elsewhere.
    #[error("the bot is connected already")]
    Taken,
    /// The group does not fit; the sentence says what to change.
    #[error("the group does not fit")]
    Group(Text),
    /// Telegram would not take the webhook's address.
    #[error("Telegram did not take the webhook: {0}")]
    Webhook(telegram::Error),
    /// Telegram cannot be asked now.
    #[error("Telegram could not be asked: {0}")]
    Telegram(telegram::Error),
    /// Our database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<ConnectError> for Problem {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::BadToken => Self::invalid_field(
                "token",
                "bad_token",
                text(
                    "Telegram не принимает этот токен. Скопируйте его у @BotFather целиком.",
                    "Telegram does not accept this token. Copy the whole of it from @BotFather.",
                ),
            ),
            ConnectError::PlatformBot => Self::invalid_field(
                "token",
                "platform_bot",
                text(
                    "Это бот самой платформы. Создайте своего у @BotFather.",
                    "This is the platform's own bot. Make one of your own with @BotFather.",
                ),
            ),
            ConnectError::Taken => {
                Self::conflict("bot_taken", text("Этот бот уже подключён.", "This bot is connected already."))
            }
            ConnectError::Group(detail) => Self::invalid_field("group_chat_id", "group_unfit", detail),
            ConnectError::Webhook(error) => {
                tracing::error!(%error, "Telegram did not take a webhook");
                let detail = text(
                    "Telegram не принял адрес для сообщений, бот не подключён. Попробуйте позже.",
                    "Telegram did not take our address, so the bot is not connected. Try again later.",
                );
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "webhook_failed", detail)
            }
            ConnectError::Telegram(error) => {
                tracing::warn!(%error, "Telegram could not be asked about a bot");
                let detail = text(
                    "Telegram сейчас не отвечает. Попробуйте позже.",
                    "Telegram does not answer now. Try again later.",
                );
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "telegram_unavailable", detail)
            }
            ConnectError::Db(error) => error.into(),
        }
    }
}

/// What a person gives to connect a bot.
pub struct NewBot {
    /// Its token.
    pub token: Secret,
    /// The group, if it is known already.
    pub group_chat_id: Option<i64>,
    /// Whether each dialog gets a topic of its own.
    pub topic_mode: bool,
}

/// A bot as Telegram knows it, standing in a group that fits.
pub struct Checked {
    telegram_bot_id: i64,
    username: String,
    group: Option<Group>,
}

/// The Bot API for whoever holds this token.
pub fn telegram(app: &App, token: Secret) -> telegram::Bot {
    let base =
        app.config().text(var::TELEGRAM_API_BASE).parse().expect("the address was checked when the function started");
    telegram::Bot::new(app.outside().clone(), base, token)
}

/// Asks Telegram whose token it is, and whether the bot may do its work in the group.
pub async fn check(app: &App, new: &NewBot) -> Result<Checked, ConnectError> {
    if !looks_like_token(new.token.expose()) {
        return Err(ConnectError::BadToken);
    }
    let bot = telegram(app, new.token.clone());
    let me: Me = bot.call("getMe", &json!({})).await.map_err(refused_token)?;
    if me.username.eq_ignore_ascii_case(app.config().text(var::MASTER_BOT_NAME).trim_start_matches('@')) {
        return Err(ConnectError::PlatformBot);
    }
    let group = match new.group_chat_id {
        None => None,
        Some(chat_id) => {
            let params = GetChatParams::builder().chat_id(chat_id).build();
            let group: Group = bot.call("getChat", &params).await.map_err(refused_group)?;
            let params = GetChatMemberParams::builder().chat_id(chat_id).user_id(me.id.unsigned_abs()).build();
            let member: Member = bot.call("getChatMember", &params).await.map_err(refused_group)?;
            if let Some(sentence) = unfit(new.topic_mode, &group, &member) {
                return Err(ConnectError::Group(sentence));
            }
            Some(Group { bot_status: member.status, ..group })
        }
    };
    Ok(Checked { telegram_bot_id: me.id, username: me.username, group })
}

/// Makes the bot's row and has Telegram send us what people write: the row first, so that the first update finds it.
pub async fn connect(
    app: &App,
    client: ClientId,
    user_id: i64,
    new: NewBot,
    checked: Checked,
) -> Result<Bot, ConnectError> {
    let secret = Secret::random();
    let bot = insert(app, client, user_id, &new, &checked, &secret).await?;
    if let Err(error) = set_webhook(app, bot.id, new.token, &secret).await {
        remove(app, client, user_id, &bot).await?;
        return Err(ConnectError::Webhook(error));
    }
    let set = Statement::new("UPDATE bots SET webhook_set_at = now() WHERE id = $1 RETURNING webhook_set_at");
    let mut flight = vec![set.bind(bot.id)];
    if let Some(group) = checked.group {
        let title = group.title.unwrap_or_default();
        flight.push(chats::remember(bot.id, group.id, title, group.is_forum, group.bot_status));
    }
    let answers = app.db().run(Scope::Tenant(client), flight).await?;
    let row = answers.first().and_then(|rows| rows.first()).ok_or(DbError::Shape)?;
    Ok(Bot { webhook_set_at: get(row, "webhook_set_at")?, ..bot })
}

/// A bot whose creation broke off before Telegram knew of it gives way after a minute; any other keeps its place. The
/// secret tells a repetition of this very flight from somebody else's bot.
async fn insert(
    app: &App,
    client: ClientId,
    user_id: i64,
    new: &NewBot,
    checked: &Checked,
    secret: &Secret,
) -> Result<Bot, ConnectError> {
    let clear = Statement::new(
        "DELETE FROM bots b WHERE telegram_bot_id = $1 AND webhook_set_at IS NULL
           AND created_at < now() - interval '1 minute'
           AND NOT EXISTS (SELECT FROM avito_accounts a WHERE a.client_id = b.client_id AND a.bot_id = b.id)",
    );
    let insert = Statement::new(
        "INSERT INTO bots (client_id, telegram_bot_id, bot_username, token, group_chat_id, topic_mode, webhook_secret_hash)
         SELECT current_client_id(), $1, $2, $3, $4, $5, $6
         WHERE NOT EXISTS (SELECT FROM bots WHERE telegram_bot_id = $1 AND webhook_secret_hash = $6)",
    );
    let read = Statement::new(
        "SELECT id, telegram_bot_id, bot_username, group_chat_id, topic_mode, status, status_reason, webhook_set_at,
                created_at
         FROM bots WHERE telegram_bot_id = $1",
    );
    let details = json!({
        "telegram_bot_id": checked.telegram_bot_id, "bot_username": checked.username, "token": "***",
        "group_chat_id": new.group_chat_id, "topic_mode": new.topic_mode,
    });
    let flight = vec![
        clear.bind(checked.telegram_bot_id),
        insert
            .bind(checked.telegram_bot_id)
            .bind(checked.username.clone())
            .bind(app.keyring().seal(&new.token, token_place(client)))
            .bind(new.group_chat_id)
            .bind(new.topic_mode)
            .bind(secret.hash().to_vec()),
        audit::record(Some(user_id), "bot.create", details),
        read.bind(checked.telegram_bot_id),
    ];
    let answers = match app.db().run(Scope::Tenant(client), flight).await {
        Err(error) if error.constraint() == Some("bots_telegram_bot_id_key") => return Err(ConnectError::Taken),
        outcome => outcome?,
    };
    let row = answers.last().and_then(|rows| rows.first()).ok_or(DbError::Shape)?;
    Ok(Bot::read(row)?)
}

async fn set_webhook(app: &App, bot_id: i64, token: Secret, secret: &Secret) -> Result<(), telegram::Error> {
    let base = app.config().text(var::PUBLIC_BASE_URL).trim_end_matches('/');
    let params = SetWebhookParams::builder()
        .url(format!("{base}/api/webhooks/telegram/{bot_id}/{}", secret.expose()))
        .secret_token(app.keyring().derive(secret).expose())
        .allowed_updates(vec![
            AllowedUpdate::Message,
            AllowedUpdate::EditedMessage,
            AllowedUpdate::CallbackQuery,
            AllowedUpdate::MyChatMember,
        ])
        .max_connections(40_u32)
        .build();
    telegram(app, token).set_webhook(&params).await.map(|_| ())
}

async fn remove(app: &App, client: ClientId, user_id: i64, bot: &Bot) -> Result<(), DbError> {
    let details = json!({ "bot_id": bot.id, "telegram_bot_id": bot.telegram_bot_id, "reason": "webhook" });
    let flight = vec![
        Statement::new("DELETE FROM bots WHERE id = $1").bind(bot.id),
        audit::record(Some(user_id), "bot.create_undone", details),
    ];
    app.db().run(Scope::Tenant(client), flight).await.map(|_| ())
}

/// The parts of Telegram's answers that are looked at; the full types refuse an answer for one unknown word.
#[derive(Deserialize)]
struct Me {
    id: i64,
    username: String,
}

#[derive(Deserialize)]
struct Group {
    id: i64,
    r#type: String,
    title: Option<String>,
    #[serde(default)]
    is_forum: bool,
    #[serde(skip)]
    bot_status: String,
}

#[derive(Default, Deserialize)]
struct Member {
    status: String,
    #[serde(default)]
    can_manage_topics: bool,
    #[serde(default)]
    can_delete_messages: bool,
    #[serde(default)]
    can_pin_messages: bool,
}

/// Whether it may be a token: only such texts are put into an address.
fn looks_like_token(token: &str) -> bool {
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    token.len() <= 128
        && token.split_once(':').is_some_and(|(id, secret)| {
            !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) && !secret.is_empty() && is_word(secret)
        })
}

fn refused_token(error: telegram::Error) -> ConnectError {
    match error {
        telegram::Error::BadToken => ConnectError::BadToken,
        error => ConnectError::Telegram(error),
    }
}

fn refused_group(error: telegram::Error) -> ConnectError {
    match error {
        telegram::Error::ChatNotFound
        | telegram::Error::Kicked(_)
        | telegram::Error::NoRights(_)
        | telegram::Error::Refused { .. } => ConnectError::Group(text(
            "Бот не видит этой группы. Добавьте его в группу администратором и проверьте её номер.",
            "The bot does not see this group. Add it to the group as an administrator and check the group's id.",
        )),
        telegram::Error::Migrated { to_chat_id } => ConnectError::Group(Text {
            ru: format!("У группы теперь другой номер: {to_chat_id}.").into(),
            en: format!("The group has another id now: {to_chat_id}.").into(),
        }),
        error => ConnectError::Telegram(error),
    }
}

/// What has to change in the group before the bot can work there.
fn unfit(topic_mode: bool, group: &Group, member: &Member) -> Option<Text> {
    if !matches!(group.r#type.as_str(), "group" | "supergroup") {
        return Some(text("Это не группа. Нужна группа Telegram.", "This is not a group. A Telegram group is needed."));
    }
    if topic_mode && !group.is_forum {
        return Some(text(
            "В группе выключены темы. Включите их в настройках группы.",
            "Topics are switched off in the group. Switch them on in the group's settings.",
        ));
    }
    if member.status != "administrator" {
        return Some(text(
            "Бот не администратор группы. Назначьте его администратором.",
            "The bot is not an administrator of the group. Make it one.",
        ));
    }
    let needed = [
        (!topic_mode || member.can_manage_topics, "управление темами", "manage topics"),
        (member.can_delete_messages, "удаление сообщений", "delete messages"),
        (member.can_pin_messages, "закрепление сообщений", "pin messages"),
    ];
    let missing: Vec<_> = needed.iter().filter(|(given, ..)| !given).collect();
    if missing.is_empty() {
        return None;
    }
    let join = |name: fn(&(bool, &'static str, &'static str)) -> &'static str| {
        missing.iter().map(|right| name(right)).collect::<Vec<_>>().join(", ")
    };
    Some(Text {
        ru: format!("Боту не хватает прав в группе: {}.", join(|right| right.1)).into(),
        en: format!("The bot lacks rights in the group: {}.", join(|right| right.2)).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(kind: &str, is_forum: bool) -> Group {
        Group { id: -100, r#type: kind.to_owned(), title: None, is_forum, bot_status: String::new() }
    }

    fn administrator(topics: bool, delete: bool, pin: bool) -> Member {
        Member {
            status: "administrator".to_owned(),
            can_manage_topics: topics,
            can_delete_messages: delete,
            can_pin_messages: pin,
        }
    }

    #[test]
    fn the_sentence_names_exactly_what_is_missing() {
        let sentence = |topic_mode, group: &Group, member: &Member| {
            unfit(topic_mode, group, member).map(|text| (text.ru.into_owned(), text.en.into_owned()))
        };
        let forum = group("supergroup", true);
        assert_eq!(sentence(true, &forum, &administrator(true, true, true)), None);
        assert_eq!(
            sentence(true, &forum, &administrator(false, true, false)),
            Some((
                "Боту не хватает прав в группе: управление темами, закрепление сообщений.".to_owned(),
                "The bot lacks rights in the group: manage topics, pin messages.".to_owned()
            ))
        );
        let member = Member { status: "member".to_owned(), ..Member::default() };
        assert!(sentence(true, &forum, &member).is_some_and(|(_, en)| en.contains("not an administrator")));
        let all = administrator(true, true, true);
        assert!(sentence(true, &group("supergroup", false), &all).is_some_and(|(_, en)| en.contains("Topics")));
        assert!(sentence(true, &group("private", false), &all).is_some_and(|(_, en)| en.contains("not a group")));
    }

    #[test]
    fn without_topics_a_plain_group_does() {
        assert!(unfit(false, &group("group", false), &administrator(false, true, true)).is_none());
    }

    #[test]
    fn only_what_looks_like_a_token_is_put_into_an_address() {
        assert!(looks_like_token("123456789:AAFakeTokenForTestsOnly_abcdefghijklmn"));
        for text in ["", ":", "123:", "abc:def", "1:a/../x", "1:a?b", "1:ж", "123456789"] {
            assert!(!looks_like_token(text), "{text}");
        }
    }
}
