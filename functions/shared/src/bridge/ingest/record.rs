//! Records what Avito reports: each message becomes one row, even if both the webhook and the poll report it.
//! An own message is adopted by the part that is being sent. One that belongs to no part was written in Avito's app.

use serde_json::Value;

use super::{
    incoming::{IncomingBatch, IncomingMessage, PolledChat},
    reorder_window,
};
use crate::{
    App,
    bridge::common::{
        texts::{self, Language},
        wakeups::{WAKEUPS, auto_reply_delay},
    },
    platform::db::Statement,
};

/// Records a batch; the rows say whom to wake.
///
/// - The dialog waits if the newest message without a post is the buyer's, and is answered if it is ours.
/// - A person's answer cancels the scheduled auto-reply, unless the buyer wrote after it. A buyer's message schedules
///   one if none is scheduled, the auto-reply is active and was not yet sent in this interval, and no answer came
///   later.
/// - A message that closely follows another one waits a moment, because webhooks overtake each other.
/// - So does a message that comes just after Postgres was away: Postgres has just started, or this process has just
///   buffered a webhook in the intake queue.
/// - Once a message has waited long enough, none waits any more: messages of a buyer who writes without a pause are
///   posted all the same.
pub fn record(app: &App, batch: &IncomingBatch) -> Statement {
    let IncomingBatch { account_id, user_id, chat_id, messages, polled } = batch;
    let ids: Vec<String> = messages.iter().map(|message| message.id.clone()).collect();
    let own: Vec<String> = messages.iter().filter(|message| message.own).map(|message| message.id.clone()).collect();
    let statement = Statement::call("record_messages")
        .arg("account_id", *account_id)
        .arg("user_id", *user_id)
        .arg("avito_chat_id", chat_id.clone())
        .arg("messages", serde_json::to_value(messages).unwrap_or_default())
        .arg("avito_message_ids", ids)
        .arg("own_message_ids", own)
        .arg("has_deleted", messages.iter().any(|message| message.kind == "deleted"))
        .arg("deleted_text", texts::deleted_by_writer(Language::Russian))
        .arg("corrected_text", texts::corrected(Language::Russian))
        .arg("auto_reply_delay_seconds", auto_reply_delay(app).as_secs_f64())
        .arg("reorder_window_seconds", reorder_window::REORDER_WINDOW.as_secs_f64())
        .arg("reorder_wait_seconds", reorder_window::REORDER_WAIT.as_secs_f64())
        .arg("has_buffered", reorder_window::LAST_BUFFERED.is_within(reorder_window::OUTAGE_WINDOW))
        .arg("outage_window_seconds", reorder_window::OUTAGE_WINDOW.as_secs_f64())
        .arg("outage_wait_seconds", reorder_window::OUTAGE_REORDER_WAIT.as_secs_f64());
    with_polled_chat(statement, polled.as_ref()).labelled(WAKEUPS)
}

/// Binds what only a poll knows of a chat. None: a webhook reported the messages.
fn with_polled_chat(statement: Statement, polled: Option<&PolledChat>) -> Statement {
    let filled = |value: &Value| (!value.is_null()).then(|| value.clone());
    statement
        .arg("is_poll", polled.is_some())
        .arg("buyer", polled.and_then(|polled| filled(&polled.buyer)))
        .arg("item", polled.and_then(|polled| filled(&polled.item)))
}

/// Puts the texts of Avito's list in the place of those that a webhook reported otherwise.
pub(in crate::bridge) fn correct_texts(
    account_id: i64,
    user_id: i64,
    chat_id: &str,
    messages: &[IncomingMessage],
) -> Statement {
    Statement::new(
        "SELECT sql.correct_texts(d.id, $4, $5) FROM tenancy_accounts a JOIN dialogs d USING (avito_account_id)
         WHERE a.avito_account_id = $1 AND a.user_id = $2 AND d.avito_chat_id = $3",
    )
    .bind(account_id)
    .bind(user_id)
    .bind(chat_id.to_owned())
    .bind(serde_json::to_value(messages).unwrap_or_default())
    .bind(texts::corrected(Language::Russian))
}

/// Shows what was withheld of a chat while Avito knew no such chat, for a poll has found it after all; and those of
/// these messages that were withheld while the account was not followed.
pub(in crate::bridge) fn show_withheld(account_id: i64, chat_id: &str, avito_message_ids: Vec<String>) -> Statement {
    Statement::call("show_withheld")
        .arg("account_id", account_id)
        .arg("avito_chat_id", chat_id.to_owned())
        .arg("avito_message_ids", avito_message_ids)
        .labelled(WAKEUPS)
}
