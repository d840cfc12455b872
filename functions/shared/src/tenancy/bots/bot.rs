//! The row of a bot: the bot as the API shows it, how its token is sealed, and the statements that find or mark it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use utoipa::ToSchema;

use crate::{
    App,
    platform::{
        config::var,
        db::{ClientId, DbError, Scope, Statement, get, get_variant},
        page::{Page, Wanted},
        secrets::{SealContext, Secret},
    },
    telegram,
    tenancy::notices,
};

/// The status of a bot, as in `bots.status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum BotStatus {
    /// It works.
    Active,
    /// It cannot work.
    Error,
}

/// Returns the context in which a bot's token is sealed.
pub fn token_context(client: ClientId) -> SealContext {
    SealContext { table: "bots", column: "token", client_id: client.0 }
}

/// Finds the bot whose webhook has a secret with this hash, for `Scope::TenantOf`. Columns: `client_id`, `bot_id`,
/// `telegram_bot_id`, `group_chat_id`, `former_group_chat_id`, `topic_mode`, `status`.
pub fn find_tenant_by_webhook_secret(bot_id: i64, secret_hash: Vec<u8>) -> Statement {
    Statement::call("find_tenant_by_bot_secret").arg("bot_id", bot_id).arg("secret_hash", secret_hash)
}

/// Finds the bot that a task names, for `Scope::TenantOf`. Columns: `client_id`, `bot_id`.
pub fn find_tenant_of_bot(bot_id: i64) -> Statement {
    Statement::call("find_tenant_of_bot").arg("bot_id", bot_id)
}

/// Notes that a bot cannot work, and the reason. If the bot worked before, its owners are notified. Returns a row only
/// if status or reason changed.
pub fn mark_broken(bot_id: i64, reason: impl Into<String>) -> Statement {
    Statement::new(
        "WITH broken AS (
             UPDATE bots b SET status = 'error', status_reason = $2, broken_since = coalesce(b.broken_since, now())
             FROM (SELECT id, status FROM bots WHERE id = $1) AS former
             WHERE b.id = former.id AND (b.status <> 'error' OR b.status_reason IS DISTINCT FROM $2)
             RETURNING b.id, b.client_id, b.bot_username, former.status
         ), notice AS (
             INSERT INTO owner_notices (client_id, text, dedup_key)
             SELECT client_id, format($3, bot_username, $2), format('bot:%s:%s:%s', id, $2, current_date)
             FROM broken WHERE status = 'active'
             ON CONFLICT (client_id, dedup_key) DO NOTHING
         )
         SELECT id FROM broken",
    )
    .bind(bot_id)
    .bind(reason.into())
    .bind(notices::BOT_BROKEN)
}

/// As [`mark_broken`], for a bot that was removed from a chat. Changes nothing unless the chat is the bot's group.
pub fn mark_removed(bot_id: i64, chat_id: i64) -> Statement {
    Statement::new(
        "WITH broken AS (
             UPDATE bots b SET status = 'error', status_reason = $3, broken_since = coalesce(b.broken_since, now())
             FROM (SELECT id, status FROM bots WHERE id = $1) AS former
             WHERE b.id = former.id AND b.group_chat_id = $2 AND b.status <> 'error'
             RETURNING b.id, b.client_id, b.bot_username, former.status
         ), notice AS (
             INSERT INTO owner_notices (client_id, text) SELECT client_id, format($4, bot_username, $3) FROM broken
         )
         SELECT id FROM broken",
    )
    .bind(bot_id)
    .bind(chat_id)
    .bind("the bot was removed from the group")
    .bind(notices::BOT_BROKEN)
}

/// Notifies the owners that the bot lacks a right for one thing, once a day. The bot goes on with all else.
pub fn notify_missing_right(bot_id: i64, reason: impl Into<String>) -> Statement {
    Statement::new(
        "INSERT INTO owner_notices (client_id, text, dedup_key)
         SELECT client_id, format($3, bot_username, $2), format('right:%s:%s:%s', id, $2, current_date) FROM bots WHERE id = $1
         ON CONFLICT (client_id, dedup_key) DO NOTHING",
    )
    .bind(bot_id)
    .bind(reason.into())
    .bind(notices::RIGHT_MISSING)
}

/// Notes that a bot works again. Returns a row only if the status changed.
pub fn mark_working(bot_id: i64) -> Statement {
    Statement::new(
        "UPDATE bots SET status = 'active', status_reason = NULL, broken_since = NULL WHERE id = $1 AND status <> 'active' RETURNING id",
    )
    .bind(bot_id)
}

/// Stores the new id that Telegram gave a bot's group. Returns a row only to the transaction that stores it first. If another
/// bot has that group, the bot gets none.
pub fn move_group(bot_id: i64, from_chat: i64, to_chat: i64) -> Statement {
    Statement::call("move_group").arg("bot_id", bot_id).arg("from_chat_id", from_chat).arg("to_chat_id", to_chat)
}

/// Reads the name of a bot, without `@`. Column: `bot_username`.
pub fn username(bot_id: i64) -> Statement {
    Statement::new("SELECT bot_username FROM bots WHERE id = $1").bind(bot_id)
}

/// The id of a group as a request may give it: answers have it as a number.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum GroupId {
    /// A number, negative for groups.
    Number(i64),
    /// The same as text.
    Text(String),
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
    #[schema(value_type = String)]
    pub status: BotStatus,
    /// Why it cannot work.
    pub status_reason: Option<String>,
    /// When Telegram was told where to send what people write.
    pub webhook_set_at: Option<Timestamp>,
    /// When it was connected.
    pub created_at: Timestamp,
}

impl Bot {
    pub(super) fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            id: get(row, "id")?,
            telegram_bot_id: get(row, "telegram_bot_id")?,
            bot_username: get(row, "bot_username")?,
            group_chat_id: get(row, "group_chat_id")?,
            topic_mode: get(row, "topic_mode")?,
            status: get_variant(row, "status")?,
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

/// One of the organisation's bots.
pub async fn find(app: &App, client: ClientId, bot_id: i64) -> Result<Option<Bot>, DbError> {
    let statement = Statement::new(
        "SELECT id, telegram_bot_id, bot_username, group_chat_id, topic_mode, status, status_reason, webhook_set_at,
                created_at
         FROM bots WHERE id = $1",
    );
    app.db().query(Scope::Tenant(client), statement.bind(bot_id)).await?.first().map(Bot::read).transpose()
}

/// Returns true if the organisation has this bot.
pub async fn exists(app: &App, client: ClientId, bot_id: i64) -> Result<bool, DbError> {
    let statement = Statement::new("SELECT id FROM bots WHERE id = $1").bind(bot_id);
    Ok(!app.db().query(Scope::Tenant(client), statement).await?.is_empty())
}

/// Returns a client of the Bot API for the bot with this token.
pub fn telegram(app: &App, token: Secret) -> telegram::Bot {
    let base =
        app.config().text(var::TELEGRAM_API_BASE).parse().expect("the address was checked when the function started");
    let bot = telegram::Bot::new(app.outside().clone(), base, token);
    match app.call_timeout() {
        Some(timeout) => bot.with_timeout(timeout),
        None => bot,
    }
}
