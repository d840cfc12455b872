//! Gives waiting messages to the bot that shows their dialog by now.

use crate::{bridge::common::wakeups::WAKEUPS, platform::db::Statement};

/// Gives the messages of a dialog that need a post to the dialog's current bot. Returns that bot's wake-up.
pub(in crate::bridge) fn hand_over_messages(dialog_id: i64) -> Vec<Statement> {
    let give = "UPDATE messages m SET bot_id = d.bot_id FROM dialogs d
                WHERE d.id = $1 AND m.client_id = d.client_id AND m.dialog_id = d.id AND m.needs_post AND m.post_id IS NULL";
    let make_due =
        "SELECT outbox.bot_id, NULL::bigint AS dialog_id, outbox.wait_seconds, NULL::timestamptz AS auto_reply_at
                FROM dialogs d CROSS JOIN LATERAL sql.make_outbox_due(d.bot_id, d.client_id, now()) AS outbox
                WHERE d.id = $1";
    vec![Statement::new(give).bind(dialog_id), Statement::new(make_due).bind(dialog_id).labelled(WAKEUPS)]
}
