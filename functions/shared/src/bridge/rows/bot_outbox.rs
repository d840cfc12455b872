//! The outbox of a bot: the lease of the worker that may post for the bot now, the due time, and the budgets.
//! A lease is taken and renewed by compare-and-set on the row. Each transaction of the worker locks the row first and
//! claims work then. A transaction that adds work makes the outbox due last: it waits for the worker's transaction, or
//! the worker sees its work. So no work is overlooked.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    bridge::common::{
        outage::Outage,
        telegram_budget::{TelegramBudget, later},
        wakeups::WAKEUPS,
    },
    platform::db::Statement,
};

/// The duration of a lease unless the worker renews it; longer than any one call to Telegram takes.
pub(in crate::bridge) const LEASE: Duration = Duration::from_secs(20);

/// Makes the bot's outbox due for messages that a poll read back from Avito.
pub(in crate::bridge) fn make_due_for_messages(account_id: i64, avito_message_ids: Vec<String>) -> Statement {
    Statement::call("make_due_for_messages")
        .arg("account_id", account_id)
        .arg("avito_message_ids", avito_message_ids)
        .labelled(WAKEUPS)
}

/// Makes a bot's outbox due for its unfinished posts. Returns the wake-up.
pub(in crate::bridge) fn make_due_for_posts(bot_id: i64) -> Statement {
    Statement::call("make_due_for_posts").arg("bot_id", bot_id).labelled(WAKEUPS)
}

/// Makes the outbox of a bot due now, if the chat is the bot's own group. A bot that Telegram refused is tried at once.
pub(in crate::bridge) fn make_due_in(bot_id: i64, chat_id: i64) -> Statement {
    Statement::new(
        "UPDATE bot_outboxes SET due_at = now(), broken_until = NULL
         WHERE bot_id = $1 AND EXISTS (SELECT FROM tenancy_bots b WHERE b.bot_id = $1 AND b.group_chat_id = $2)
         RETURNING bot_id, NULL::bigint AS dialog_id, 0::bigint AS wait_seconds, NULL::timestamptz AS auto_reply_at",
    )
    .bind(bot_id)
    .bind(chat_id)
    .labelled(WAKEUPS)
}

/// An outbox as a claim read it.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::bridge) struct BotOutbox {
    /// The budget of messages.
    pub(in crate::bridge) budget: TelegramBudget,
    /// The budget of reactions.
    pub(in crate::bridge) reactions: TelegramBudget,
    /// True if topics were switched off in the group.
    pub(in crate::bridge) topics_off: bool,
    /// The end of the wait that Telegram ordered last. None: it never ordered one.
    pub(in crate::bridge) rate_limited_until: Option<Timestamp>,
    /// The time before which a bot that Telegram refuses is not tried again. None: it was never refused, or may work again.
    pub(in crate::bridge) broken_until: Option<Timestamp>,
    /// The time at which a message was last posted. None: none was.
    pub(in crate::bridge) last_sent_at: Option<Timestamp>,
    /// The database's clock in the transaction of the claim.
    pub(in crate::bridge) now: Timestamp,
    /// The same moment by this process's clock.
    #[serde(skip, default = "Instant::now")]
    pub(in crate::bridge) read: Instant,
}

/// Locks a dialog until the transaction ends. Every transaction that locks both takes the dialog before the outbox; in
/// different orders two transactions would wait for each other.
pub(in crate::bridge) fn lock_dialog(dialog_id: Option<i64>) -> Statement {
    Statement::call("lock_dialog").arg("dialog_id", dialog_id)
}

/// Renews the lease for [`LEASE`]. No row: the lease is lost.
pub(in crate::bridge) fn renew_lease(bot_id: i64, owner: Uuid) -> Statement {
    Statement::call("renew_outbox_lease")
        .arg("bot_id", bot_id)
        .arg("lease_owner", owner)
        .arg("lease_seconds", LEASE.as_secs_f64())
}

impl BotOutbox {
    /// The database's clock by now: a call may have taken long since the claim.
    pub(in crate::bridge) fn current(&self) -> Timestamp {
        later(self.now, self.read.elapsed())
    }
}

/// Stores that topics were switched off in the bot's group. All posts go into one chat until topics are back.
pub(in crate::bridge) fn mark_topics_off(bot_id: i64) -> Statement {
    Statement::new("UPDATE bot_outboxes SET topics_off = true WHERE bot_id = $1").bind(bot_id)
}

/// Stores if the bot's group has topics, as an update from that group reports.
pub(in crate::bridge) fn store_topic_mode(bot_id: i64, telegram_chat_id: i64, has_topics: bool) -> Statement {
    Statement::call("store_topic_mode")
        .arg("bot_id", bot_id)
        .arg("telegram_chat_id", telegram_chat_id)
        .arg("has_topics", has_topics)
}

/// Stores the budget that a send left.
pub(in crate::bridge) fn charge_budget(bot_id: i64, owner: Uuid, budget: TelegramBudget) -> Statement {
    Statement::call("charge_budget")
        .arg("bot_id", bot_id)
        .arg("lease_owner", owner)
        .arg("recent_sends", budget.into_times())
}

/// Stores the time before which a bot that Telegram refuses is not tried again, whatever is recorded meanwhile.
pub(in crate::bridge) fn store_broken_until(bot_id: i64, until: Timestamp) -> Statement {
    Statement::new("UPDATE bot_outboxes SET broken_until = $2 WHERE bot_id = $1").bind(bot_id).bind(until)
}

/// Stores the calls of the bot that fail.
pub(in crate::bridge) fn store_outage(bot_id: i64, outage: Outage) -> Statement {
    let (calls, since, trial_at, attempts) = outage.columns();
    Statement::new(
        "UPDATE bot_outboxes SET failing_calls = $2, out_since = $3, trial_at = $4, failed_trials = $5 WHERE bot_id = $1",
    )
    .bind(bot_id)
    .bind(calls)
    .bind(since)
    .bind(trial_at)
    .bind(attempts)
}

/// Makes what failed due now: the call that it waited for goes through again.
pub(in crate::bridge) fn resume_failed(bot_id: i64) -> Vec<Statement> {
    let dialogs = "UPDATE dialogs d SET hold_until = NULL
                   WHERE d.bot_id = $1 AND d.hold_until > now() AND NOT d.collecting_album
                     -- Those wait for something else: our own fault to be mended, or Avito.
                     AND d.set_aside_attempts = 0 AND d.confirm_failed_since IS NULL
                     AND d.id = ANY (ARRAY(
                         SELECT p.dialog_id FROM posts p
                         WHERE p.bot_id = $1 AND p.state IN ('pending', 'sending') AND p.failed_since IS NOT NULL
                         UNION
                         SELECT m.dialog_id FROM messages m WHERE m.bot_id = $1 AND m.needs_post AND m.post_id IS NULL))";
    let posts = "UPDATE posts SET due_at = now()
                 WHERE bot_id = $1 AND state IN ('pending', 'sending') AND failed_since IS NOT NULL AND due_at > now()";
    [dialogs, posts].into_iter().map(|sql| Statement::new(sql).bind(bot_id)).collect()
}

/// Stores that a message was posted now: the witness that Telegram takes messages for the group.
pub(in crate::bridge) fn store_sent(bot_id: i64) -> Statement {
    Statement::new("UPDATE bot_outboxes SET last_sent_at = now() WHERE bot_id = $1").bind(bot_id)
}

/// Stores the budget of reactions that a batch left, if not all of the batch were set.
pub(in crate::bridge) fn charge_reaction_budget(bot_id: i64, owner: Uuid, budget: TelegramBudget) -> Statement {
    Statement::new("UPDATE bot_outboxes SET recent_reactions = $3 WHERE bot_id = $1 AND lease_owner = $2")
        .bind(bot_id)
        .bind(owner)
        .bind(budget.into_times())
}

/// Releases the lease until `due`, whatever is waiting: nothing may be sent before. Returns false if a wake-up is
/// scheduled already, at most a second after `due`; otherwise the caller sends one.
pub(in crate::bridge) fn release_until(bot_id: i64, owner: Uuid, due: Timestamp) -> Statement {
    Statement::call("release_outbox_until").arg("bot_id", bot_id).arg("lease_owner", owner).arg("due_at", due)
}

/// Stores Telegram's order to wait, to the second.
pub(in crate::bridge) fn store_rate_limit(bot_id: i64, owner: Uuid, until: Timestamp) -> Statement {
    let empty = TelegramBudget::emptied(until);
    Statement::new(
        "UPDATE bot_outboxes SET rate_limited_until = $3, recent_sends = $4 WHERE bot_id = $1 AND lease_owner = $2",
    )
    .bind(bot_id)
    .bind(owner)
    .bind(until)
    .bind(empty.into_times())
}

/// Holds reactions until `until`; everything else goes on.
pub(in crate::bridge) fn hold_reactions(bot_id: i64, owner: Uuid, until: Timestamp) -> Statement {
    // Of several holds the longest counts.
    Statement::new(
        "UPDATE bot_outboxes SET reactions_hold_until = greatest(reactions_hold_until, $3) WHERE bot_id = $1 AND lease_owner = $2",
    )
    .bind(bot_id)
    .bind(owner)
    .bind(until)
}
