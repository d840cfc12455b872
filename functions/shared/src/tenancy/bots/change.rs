//! Changes a bot. The changed bot is checked with Telegram like a new one. Then the row changes, then the webhook. If
//! the process dies in between, the webhook still works, or setting it again repairs it.

use axum::http::StatusCode;
use tokio_postgres::Row;

use super::{
    bot::{Bot, token_context},
    checks::{self, ConnectError, NewBot},
    webhook,
};
use crate::{
    App,
    platform::{
        db::{ClientId, DbError, ResultSets, Scope, Statement, get},
        http::{Problem, text},
        secrets::{Secret, SecretsError},
    },
    telegram,
    tenancy::{audit, chats},
};

/// A requested change of a bot. `None`: the field stays as it is.
pub struct Change {
    /// A new token of the same bot.
    pub token: Option<Secret>,
    /// The group.
    pub group_chat_id: Option<i64>,
    /// True if each dialog gets a topic of its own.
    pub topic_mode: Option<bool>,
}

/// A reason not to change a bot.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The organisation has no such bot.
    #[error("there is no such bot")]
    NoSuchBot,
    /// The token is that of another bot.
    #[error("the token is another bot's")]
    AnotherBot,
    /// The check with Telegram failed.
    #[error(transparent)]
    Check(#[from] ConnectError),
    /// Another request is setting the webhook.
    #[error("the webhook is being set")]
    Busy,
    /// Telegram did not accept the webhook's address.
    #[error("Telegram did not take the webhook: {0}")]
    Webhook(telegram::Error),
    /// The stored token does not open.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// Our database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NoSuchBot => Self::not_found(),
            ChangeError::AnotherBot => Self::conflict(
                "another_bot",
                text(
                    "Это токен другого бота. Подключите его отдельно и переведите на него аккаунты Авито.",
                    "This is another bot's token. Connect that bot and move the Avito accounts to it.",
                ),
            ),
            ChangeError::Check(error) => error.into(),
            ChangeError::Busy => Self::conflict(
                "webhook_changing",
                text(
                    "Адрес для сообщений сейчас уже обновляется. Повторите через полминуты.",
                    "The address for messages is being renewed already. Try again in half a minute.",
                ),
            ),
            ChangeError::Webhook(error) => {
                tracing::error!(%error, "Telegram did not take a webhook again");
                let detail = text(
                    "Telegram не принял новый адрес для сообщений. Обновите его ещё раз.",
                    "Telegram did not take the new address for messages. Renew it once more.",
                );
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "webhook_failed", detail)
            }
            ChangeError::Secrets(error) => {
                tracing::error!(%error, "a bot's token does not open");
                Self::internal()
            }
            ChangeError::Db(error) => error.into(),
        }
    }
}

/// Statements of other domains, to run before and after a change in its transaction.
pub type Around = (Vec<Statement>, Vec<Statement>);

const READ: &str = "
    SELECT id, telegram_bot_id, bot_username, group_chat_id, topic_mode, status, status_reason, webhook_set_at, created_at,
           token
    FROM bots WHERE id = $1";

/// The parameters of `update_bot`.
struct UpdateBot {
    bot_id: i64,
    token: Option<Vec<u8>>,
    group_chat_id: Option<i64>,
    topic_mode: bool,
    bot_username: String,
    user_id: i64,
}

impl UpdateBot {
    fn statement(self) -> Statement {
        let Self { bot_id, token, group_chat_id, topic_mode, bot_username, user_id } = self;
        Statement::call("update_bot")
            .arg("bot_id", bot_id)
            .arg("token", token)
            .arg("group_chat_id", group_chat_id)
            .arg("topic_mode", topic_mode)
            .arg("bot_username", bot_username)
            .arg("user_id", user_id)
    }
}

/// Changes a bot. `around` gets true if the bot moves to another group.
pub async fn change(
    app: &App,
    client: ClientId,
    user_id: i64,
    bot_id: i64,
    change: Change,
    around: impl Fn(bool) -> Around,
) -> Result<(Bot, ResultSets), ChangeError> {
    let (bot, token) = read(app, client, bot_id).await?;
    let new = NewBot {
        token: change.token.clone().unwrap_or(token),
        group_chat_id: change.group_chat_id.or(bot.group_chat_id),
        topic_mode: change.topic_mode.unwrap_or(bot.topic_mode),
    };
    if change.token.is_none() && new.group_chat_id == bot.group_chat_id && new.topic_mode == bot.topic_mode {
        return Ok((bot, ResultSets::default()));
    }
    // Refused here, before the check would look for the other bot in this bot's group.
    if change.token.as_ref().and_then(checks::bot_of).is_some_and(|id| id != bot.telegram_bot_id) {
        return Err(ChangeError::AnotherBot);
    }
    let checked = checks::check(app, &new).await?;
    if checked.telegram_bot_id != bot.telegram_bot_id {
        return Err(ChangeError::AnotherBot);
    }
    let sealed = change.token.as_ref().map(|token| app.keyring().seal(token, token_context(client)));
    let (mut statements, after) = around(new.group_chat_id != bot.group_chat_id);
    let update = UpdateBot {
        bot_id,
        token: sealed,
        group_chat_id: new.group_chat_id,
        topic_mode: new.topic_mode,
        bot_username: checked.username,
        user_id,
    };
    statements.push(update.statement());
    if let Some(group) = checked.group {
        let title = group.title.as_deref().unwrap_or_default();
        statements.push(chats::store_chat(bot_id, group.id, title, group.is_forum, group.bot_status));
    }
    statements.extend(after);
    let results = app.db().run(Scope::Tenant(client), statements).await.map_err(ConnectError::of_storing)?;
    if change.token.is_some() {
        set_webhook(app, client, bot_id, new.token, Vec::new()).await?;
    }
    let (bot, _) = read(app, client, bot_id).await?;
    Ok((bot, results))
}

/// Sets a bot's webhook again, with a new secret. The old secret ends.
pub async fn renew_webhook(app: &App, client: ClientId, user_id: i64, bot_id: i64) -> Result<Bot, ChangeError> {
    let (_, token) = read(app, client, bot_id).await?;
    let record = audit::record(Some(user_id), "bot.webhook", serde_json::json!({ "bot_id": bot_id, "secret": "***" }));
    set_webhook(app, client, bot_id, token, vec![record]).await?;
    Ok(read(app, client, bot_id).await?.0)
}

/// Accepts both secrets first, then sets the webhook, then accepts only the new secret. Wherever this is interrupted,
/// the secret that Telegram uses is accepted.
async fn set_webhook(
    app: &App,
    client: ClientId,
    bot_id: i64,
    token: Secret,
    record: Vec<Statement>,
) -> Result<(), ChangeError> {
    let secret = Secret::random();
    let reserved = app.db().query(Scope::Tenant(client), webhook::add_pending_secret(bot_id, &secret)).await?;
    if reserved.is_empty() {
        return Err(ChangeError::Busy);
    }
    if let Err(error) = webhook::set(app, bot_id, token, &secret).await {
        if !webhook::is_outcome_unknown(&error) {
            app.db().query(Scope::Tenant(client), webhook::drop_pending_secret(bot_id, &secret)).await?;
        }
        return Err(match error {
            telegram::Error::BadToken => ConnectError::BadToken.into(),
            error => ChangeError::Webhook(error),
        });
    }
    let mut statements = vec![webhook::activate_secret(bot_id, &secret)];
    statements.extend(record);
    app.db().run(Scope::Tenant(client), statements).await?;
    Ok(())
}

async fn read(app: &App, client: ClientId, bot_id: i64) -> Result<(Bot, Secret), ChangeError> {
    let rows = app.db().query(Scope::Tenant(client), Statement::new(READ).bind(bot_id)).await?;
    let row: &Row = rows.first().ok_or(ChangeError::NoSuchBot)?;
    let token = app.keyring().open(get(row, "token")?, token_context(client))?;
    Ok((Bot::read(row)?, token))
}
