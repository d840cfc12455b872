//! Connects a bot. Its row is stored before the webhook is set, so that the first update finds the row.

use serde_json::json;

use super::{
    bot::{Bot, token_context},
    checks::{Checked, ConnectError, NewBot},
    webhook,
};
use crate::{
    App,
    platform::{
        db::{ClientId, DbError, Scope, Statement, get},
        secrets::Secret,
    },
    tenancy::{audit, chats},
};

/// Stores the bot's row, then sets its webhook. If Telegram does not accept the webhook, the row is deleted again.
pub async fn connect(
    app: &App,
    client: ClientId,
    user_id: i64,
    new: NewBot,
    checked: Checked,
) -> Result<Bot, ConnectError> {
    let secret = Secret::random();
    let bot = insert(app, client, user_id, &new, &checked, &secret).await?;
    if let Err(error) = webhook::set(app, bot.id, new.token, &secret).await {
        remove(app, client, user_id, &bot).await?;
        return Err(ConnectError::Webhook(error));
    }
    let set = Statement::new("UPDATE bots SET webhook_set_at = now() WHERE id = $1 RETURNING webhook_set_at");
    let mut statements = vec![set.bind(bot.id)];
    if let Some(group) = checked.group {
        let title = group.title.as_deref().unwrap_or_default();
        statements.push(chats::store_chat(bot.id, group.id, title, group.is_forum, group.bot_status));
    }
    let results = app.db().run(Scope::Tenant(client), statements).await?;
    let row = results.first().and_then(|rows| rows.first()).ok_or(DbError::Shape)?;
    Ok(Bot { webhook_set_at: get(row, "webhook_set_at")?, ..bot })
}

/// Stores the bot's row. A row whose creation broke off before the webhook was set is replaced after a minute; any
/// other row stays. The secret distinguishes a repetition of this transaction from the bot of another request.
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
    let statements = vec![
        clear.bind(checked.telegram_bot_id),
        insert
            .bind(checked.telegram_bot_id)
            .bind(checked.username.clone())
            .bind(app.keyring().seal(&new.token, token_context(client)))
            .bind(new.group_chat_id)
            .bind(new.topic_mode)
            .bind(secret.hash().to_vec()),
        audit::record(Some(user_id), "bot.create", details),
        read.bind(checked.telegram_bot_id),
    ];
    let results = app.db().run(Scope::Tenant(client), statements).await.map_err(ConnectError::of_storing)?;
    let row = results.last().and_then(|rows| rows.first()).ok_or(DbError::Shape)?;
    Ok(Bot::read(row)?)
}

async fn remove(app: &App, client: ClientId, user_id: i64, bot: &Bot) -> Result<(), DbError> {
    let details = json!({ "bot_id": bot.id, "telegram_bot_id": bot.telegram_bot_id, "reason": "webhook" });
    let statements = vec![
        Statement::new("DELETE FROM bots WHERE id = $1").bind(bot.id),
        audit::record(Some(user_id), "bot.create_undone", details),
    ];
    app.db().run(Scope::Tenant(client), statements).await.map(|_| ())
}
