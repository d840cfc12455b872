//! The receipts on an operator's answer: 👀 it waits, 👌 Avito has it, 👍 the buyer has read it, 💔 it was not sent.
//! One reaction per message, and the latest counts: a later receipt replaces one that is still pending.

use std::time::Duration;

use crate::{bridge::common::wakeups::WAKEUPS, platform::db::Statement};

/// An answer that Avito did not accept within this time gets 👀.
pub(in crate::bridge) const WAITING_RECEIPT_AFTER: Duration = Duration::from_secs(2);

/// Puts 👀 on the dialog's answers that Avito will not have within two seconds of their writing, because nothing is sent
/// to it for `wait_seconds`.
pub(in crate::bridge) fn put_waiting_receipts(dialog_id: i64, wait_seconds: f64) -> Statement {
    Statement::call("put_waiting_receipts")
        .arg("dialog_id", dialog_id)
        .arg("wait_seconds", wait_seconds)
        .arg("after_seconds", WAITING_RECEIPT_AFTER.as_secs_f64())
}

/// Puts 👍 on the answers that buyers have read: in each chat, all up to the newest own message that Avito shows as
/// read. `newest` has the ids of these newest messages.
pub(in crate::bridge) fn put_read_receipts(account_id: i64, newest: Vec<String>) -> Statement {
    Statement::call("put_read_receipts")
        .arg("account_id", account_id)
        .arg("avito_message_ids", newest)
        .labelled(WAKEUPS)
}
