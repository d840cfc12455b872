//! Groups in which a bot was seen, so that an owner can pick one instead of typing its id.
//! Telegram has no list of them. They become known one by one, when the bot is added or its rights change.

use crate::platform::{
    db::Statement,
    names::{cut, tidy},
};

/// The most UTF-16 units of a group's title (Bot API, `setChatTitle`).
const TITLE_LIMIT: usize = 128;

/// Stores a chat in which a bot of the transaction's tenant was seen, with the bot's status there.
pub fn store_chat(bot_id: i64, chat_id: i64, title: &str, is_forum: bool, bot_status: impl Into<String>) -> Statement {
    Statement::new(
        "INSERT INTO telegram_chats (bot_id, chat_id, client_id, title, is_forum, bot_status)
         SELECT id, $2, client_id, $3, $4, $5 FROM bots WHERE id = $1
         ON CONFLICT (bot_id, chat_id) DO UPDATE
         SET title = excluded.title, is_forum = excluded.is_forum, bot_status = excluded.bot_status, updated_at = now()",
    )
    .bind(bot_id)
    .bind(chat_id)
    .bind(cut(&tidy(title), TITLE_LIMIT).to_owned())
    .bind(is_forum)
    .bind(bot_status.into())
}

/// Forgets the chats that the bots of the transaction's tenant are no longer in, those of strangers among them. A bot's own group stays.
pub fn forget_left_chats() -> Statement {
    Statement::new(
        "DELETE FROM telegram_chats t USING bots b
         WHERE t.client_id = current_client_id() AND b.id = t.bot_id AND t.bot_status IN ('left', 'kicked')
           AND t.chat_id IS DISTINCT FROM b.group_chat_id
         RETURNING t.chat_id",
    )
}
