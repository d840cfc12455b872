//! Gives waiting messages to the bot that shows their dialog by now.

use crate::platform::db::Statement;

/// Gives the messages of a dialog that need a post to the dialog's current bot. Returns that bot.
pub(in crate::bridge) fn hand_over_messages(dialog_id: i64) -> Vec<Statement> {
    let give = "UPDATE messages m SET bot_id = d.bot_id FROM dialogs d
                WHERE d.id = $1 AND m.client_id = d.client_id AND m.dialog_id = d.id AND m.needs_post AND m.post_id IS NULL";
    let make_due = "INSERT INTO bot_outboxes AS outbox (bot_id, client_id, due_at)
                SELECT bot_id, client_id, now() FROM dialogs WHERE id = $1
                ON CONFLICT (bot_id) DO UPDATE SET due_at = least(outbox.due_at, excluded.due_at)
                RETURNING bot_id AS bot_to_wake";
    [give, make_due].into_iter().map(|sql| Statement::new(sql).bind(dialog_id)).collect()
}
