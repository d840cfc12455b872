//! Bots: each belongs to one organisation and stands in one group. A bot is known by Telegram's own id for it,
//! so no second organisation can connect the same one.

use crate::platform::{
    db::{ClientId, Statement},
    secrets::Place,
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

/// Notes that a bot cannot work and why. Answers a row only when that is news.
pub fn mark_broken(bot_id: i64, reason: impl Into<String>) -> Statement {
    Statement::new(
        "UPDATE bots SET status = 'error', status_reason = $2
         WHERE id = $1 AND (status <> 'error' OR status_reason IS DISTINCT FROM $2) RETURNING id",
    )
    .bind(bot_id)
    .bind(reason.into())
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
