//! Carries out requested changes: the worker that holds the dialog's lease makes parts of them and has the old parts
//! deleted in Avito. Each step is a row.

use serde_json::json;

use crate::{
    bridge::{
        common::texts::{self, Language},
        rows::receipts::make_outboxes_due,
    },
    platform::db::Statement,
};

/// Makes parts of a dialog's requested changes that are due. The worker that holds the dialog's lease runs it. Sent
/// parts are to be deleted, unsent ones are cancelled, and the new text follows behind them. While a part's outcome is
/// unknown, the change waits.
macro_rules! apply {
    () => {
        "WITH due AS (
             SELECT m.id, m.client_id, m.dialog_id, m.avito_account_id, m.requested_change, m.text FROM messages m
             WHERE m.dialog_id = _dialog AND m.change_due_at <= now()
               AND NOT EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state = 'sending')
         ), given_up AS (
             UPDATE parts p SET state = CASE WHEN p.state = 'sent' THEN 'deleting' ELSE 'cancelled' END
             FROM due WHERE p.message_id = due.id AND p.state IN ('sent', 'pending', 'failed')
         ), instead AS (
             INSERT INTO parts (client_id, dialog_id, message_id, avito_account_id, position, text, text_key)
             SELECT due.client_id, due.dialog_id, due.id, due.avito_account_id, part.position + 1 +
                    (SELECT max(p.position) FROM parts p WHERE p.message_id = due.id), part.text, part.text_key
             FROM due CROSS JOIN jsonb_to_recordset(due.requested_change -> 'parts') AS part (position int, text text, text_key text)
             ORDER BY part.position
         )
         UPDATE messages m
         SET requested_change = jsonb_build_object('was', due.text), change_due_at = NULL,
             text = coalesce(due.requested_change ->> 'text', m.text),
             status = CASE WHEN due.requested_change ? 'text' THEN 'sending' WHEN m.status = 'sending' THEN 'failed' ELSE m.status END,
             error = CASE WHEN due.requested_change ? 'text' THEN NULL ELSE 'deleted by the operator' END
         FROM due WHERE m.id = due.id"
    };
}

/// Puts 👌 on the `/del` commands of a dialog that are carried out completely.
macro_rules! confirm {
    () => {
        concat!(
            "WITH whole AS (
                 SELECT m.id, m.delete_command_id FROM messages m
                 WHERE m.dialog_id = _dialog AND m.delete_command_id IS NOT NULL AND m.change_due_at IS NULL
                   AND NOT EXISTS (SELECT FROM parts p WHERE p.message_id = m.id
                                   AND p.state IN ('pending', 'sending', 'deleting'))
             ), done AS (
                 UPDATE messages m SET delete_command_id = NULL FROM whole WHERE m.id = whole.id
                 RETURNING m.client_id, m.bot_id, m.dialog_id, m.telegram_chat_id, whole.delete_command_id AS telegram_message_id,
                           'deleted:' || m.id AS id
             ), receipt AS (",
            $crate::bridge::rows::receipts::receipt!("👌", "done"),
            ")",
            $crate::bridge::rows::receipts::make_outboxes_due!("receipt")
        )
    };
}
pub(super) use {apply, confirm};

/// Marks a part as deleted: Avito does not show it any more.
pub(super) fn mark_part_deleted(part_id: i64) -> Statement {
    Statement::new("UPDATE parts SET state = 'deleted' WHERE id = $1 AND state = 'deleting'").bind(part_id)
}

/// Marks a part as sent again: Avito refused to delete it. The message gets its former text back, the parts of the new
/// text are cancelled, and a notice informs the writer.
pub(super) fn mark_delete_refused(part_id: i64, reason: &str) -> Vec<Statement> {
    let notice = |what: &str| json!({ "text": format!("{what} {reason}") });
    vec![
        Statement::new(concat!(
            "WITH refused AS (
                 UPDATE messages m
                 SET delete_command_id = NULL, status = CASE WHEN m.status = 'read' THEN 'read' ELSE 'sent' END,
                     text = coalesce(m.requested_change ->> 'was', m.text), error = NULL
                 FROM parts p WHERE p.id = $1 AND p.state = 'deleting' AND m.id = p.message_id
                 RETURNING m.*
             ), notice AS (
                 INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
                 SELECT client_id, bot_id, dialog_id, 'notice',
                        jsonb_strip_nulls($2 || jsonb_build_object('reply_to', telegram_message_id)), 'delete_refused:' || $1
                 FROM refused ON CONFLICT (bot_id, dedup_key) DO NOTHING
                 RETURNING bot_id, client_id
             )",
            make_outboxes_due!("notice")
        ))
        .bind(part_id)
        .bind(notice(texts::avito_did_not_delete(Language::Russian))),
        Statement::new(
            "UPDATE parts o SET state = CASE WHEN o.state = 'deleting' THEN 'sent' ELSE 'cancelled' END
             FROM parts p WHERE p.id = $1 AND o.message_id = p.message_id AND o.state IN ('deleting', 'pending')
               AND p.state = 'deleting'",
        )
        .bind(part_id),
    ]
}
