//! The answers of an account that waited while Avito refused it.

use crate::{bridge::common::wakeups::WAKEUPS, platform::db::Statement};

/// The most dialogs of an account that are woken at once; the sweep finds the others.
const WAKE_BATCH: i64 = 1000;

/// Makes the answers of an account's dialogs due now: Avito accepts the account again. Returns the dialogs as wake-ups. It comes
/// before the statement that changes the account, as dialogs are locked before their account.
pub(in crate::bridge) fn resume_dialogs(account_id: i64) -> Statement {
    Statement::new(
        "UPDATE dialogs SET send_at = now(), send_hold_until = NULL WHERE id IN (
             SELECT id FROM dialogs WHERE avito_account_id = $1 AND send_at > now() ORDER BY id LIMIT $2 FOR NO KEY UPDATE)
         RETURNING NULL::bigint AS bot_id, id AS dialog_id, 0::bigint AS wait_seconds, NULL::timestamptz AS auto_reply_at",
    )
    .bind(account_id)
    .bind(WAKE_BATCH)
    .labelled(WAKEUPS)
}
