//! Claims a bot's next work: calls the stored function of claim.sql, from the choice of the dialog to all that its next post
//! is composed of.

use uuid::Uuid;

use super::{
    receipts,
    work::{Completed, PreparedPosts},
};
use crate::{
    bridge::{common::telegram_budget::TelegramBudget, rows::bot_outbox},
    platform::db::Statement,
};

/// Builds the transaction that runs `outcome`, stores what is `completed`, and claims the bot's next work, or releases
/// the lease. The claim reads the outbox after the outcome, so that what was just sent counts first.
///
/// Stores the `prepared` posts before it claims, if their dialog has not changed (same `xmin`) and is not locked. If it
/// sets the first to `sending` (`BotWork::sending_post_id`), the claimed work is that of another dialog, which can be
/// composed during the call. If they are not stored, their dialog is claimed like any other.
pub(super) fn claim_bot_work(
    bot_id: i64,
    owner: Uuid,
    mut outcome: Vec<Statement>,
    completed: Completed,
    prepared: Option<&PreparedPosts>,
) -> Vec<Statement> {
    let (sent_post_id, message_ids) = completed.sent_post.map(|sent| (sent.post_id, sent.message_ids)).unzip();
    let drafts = prepared.map(|prepared| serde_json::to_value(&prepared.drafts).unwrap_or_default());
    outcome.push(
        Statement::call("claim_bot_work")
            .arg("bot_id", bot_id)
            .arg("lease_owner", owner)
            .arg("lease_seconds", bot_outbox::LEASE.as_secs_f64())
            .arg("recent_sends", completed.messages.map(TelegramBudget::into_times))
            .arg("recent_reactions", completed.reactions.map(TelegramBudget::into_times))
            .arg("prepared_dialog_id", prepared.map(|prepared| prepared.dialog_id))
            .arg("prepared_version", prepared.map(|prepared| prepared.version.clone()))
            .arg("prepared_drafts", drafts)
            .arg("is_first_sending", prepared.is_some_and(|prepared| prepared.is_first_sending))
            .arg("sent_post_id", sent_post_id)
            .arg("telegram_message_ids", message_ids)
            .arg("batch_delay_seconds", receipts::BATCH_DELAY.as_secs_f64()),
    );
    outcome
}
