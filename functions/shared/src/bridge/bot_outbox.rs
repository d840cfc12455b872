//! The outbox of a bot: who may post for it now, what is due, and how much may still be sent.
//! A lease is a compare-and-set on the row. Each transaction of its holder takes the row first and looks for work then: whoever
//! adds work wakes the outbox last and so waits for that transaction, or was seen by it. Nothing new is overlooked.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::budget::{TelegramBudget, later};
use crate::{planned, platform::db::Statement};

/// How long a lease lasts unless its holder writes; longer than any one call to Telegram takes.
pub const LEASE: Duration = Duration::from_secs(20);

/// Whether somebody works for an outbox now. Whoever sees that in the transaction that adds work need not send for anybody: the holder
/// takes the outbox's row again before it lets go, and so sees what was added.
macro_rules! lease_taken {
    () => {
        "coalesce(outbox.lease_owner IS NOT NULL AND outbox.lease_until >= now(), false)"
    };
}

/// Whether nobody need be sent for, where an outbox is due: somebody works for it, or it became due less than a second ago, and
/// whoever made it due, at the `now()` of that transaction, sends at once. What is sent and never comes, or is booked for a while
/// later, is made good by what follows after that second, and by the sweep.
macro_rules! wakeup_pending {
    () => {
        concat!(
            "(",
            $crate::bridge::bot_outbox::lease_taken!(),
            " OR outbox.due_at < now() AND outbox.due_at > now() - interval '1 second')"
        )
    };
}

/// Wakes the outboxes of `$rows`: bots, their tenants, and when they are due. ResultSets the bot's id, the whole seconds until
/// then, and `$sent_for`: whether nobody need be sent for.
macro_rules! make_outbox_due {
    ($wakeup_pending:expr, $($rows:expr),+) => {
        concat!(
            "INSERT INTO bot_outboxes AS outbox (bot_id, client_id, due_at) ",
            $($rows),+,
            " ON CONFLICT (bot_id) DO UPDATE SET due_at = least(outbox.due_at, excluded.due_at)
             RETURNING outbox.bot_id,
                       ceil(extract(epoch FROM greatest(outbox.due_at - now(), interval '0')))::bigint AS wait_seconds, ",
            $wakeup_pending,
            " AS wakeup_pending"
        )
    };
}

/// As [`wake!`], for the bot whose messages these are, or whose parts, if any of them waits to be shown, or a line that one
/// was taken back or corrected: when their dialog is shown again. Whoever repeats what he or another did, for nobody may have
/// heard of it, sends though somebody else should have done so a moment ago.
macro_rules! messages_due {
    ($account:literal, $avito_message_ids:literal) => {
        $crate::bridge::bot_outbox::make_outbox_due!(
            $crate::bridge::bot_outbox::lease_taken!(),
            "SELECT m.bot_id, m.client_id, min(greatest(d.hold_until, now()))
             FROM messages m JOIN dialogs d ON d.id = m.dialog_id
             WHERE (m.needs_post AND m.post_id IS NULL OR EXISTS (
                        SELECT FROM posts p
                        WHERE p.bot_id = m.bot_id AND p.dedup_key IN ('deleted:' || m.id, 'corrected:' || m.id) AND p.state = 'pending'))
               -- an array, found first: joined, all messages of the organisation may be read for the one
               AND m.id = ANY (ARRAY(
                 SELECT id FROM messages WHERE avito_account_id = ",
            $account,
            " AND avito_message_id = ANY(",
            $avito_message_ids,
            ")
                 UNION ALL SELECT message_id FROM parts WHERE avito_account_id = ",
            $account,
            " AND avito_message_id = ANY(",
            $avito_message_ids,
            ")))
             GROUP BY 1, 2"
        )
    };
}

/// Wakes the outbox for messages that Avito was asked about.
pub fn make_due_for_messages(account_id: i64, avito_message_ids: Vec<String>) -> Statement {
    planned!(messages_due!("$1", "$2")).bind(account_id).bind(avito_message_ids)
}

/// Wakes the outbox of a bot for posts that wait to be sent. ResultSets the bot's id and when the first of them is due.
macro_rules! posts_due {
    ($bot:literal) => {
        concat!(
            "INSERT INTO bot_outboxes AS outbox (bot_id, client_id, due_at)
             SELECT p.bot_id, p.client_id, min(p.due_at) FROM posts p
             WHERE p.bot_id = ",
            $bot,
            " AND p.state IN ('pending', 'sending') GROUP BY 1, 2
             ON CONFLICT (bot_id) DO UPDATE SET due_at = least(outbox.due_at, excluded.due_at)
             RETURNING outbox.bot_id, outbox.due_at"
        )
    };
}

pub(super) use {lease_taken, make_outbox_due, messages_due, posts_due, wakeup_pending};

/// Wakes the outbox of a bot for posts that wait to be sent. ResultSets the bot's id and when the first of them is due.
pub fn make_due_for_posts(bot_id: i64) -> Statement {
    planned!(posts_due!("$1")).bind(bot_id)
}

/// Wakes the outbox of a bot that may work again, whatever it waited for.
pub fn make_due_now(bot_id: i64) -> Statement {
    Statement::new("UPDATE bot_outboxes SET due_at = now() WHERE bot_id = $1 RETURNING bot_id, due_at").bind(bot_id)
}

/// An outbox as its holder has it.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct BotOutbox {
    /// What may still be sent.
    pub budget: TelegramBudget,
    /// How many reactions may still be set.
    pub reactions: TelegramBudget,
    /// Whether topics were switched off in the group.
    pub topics_off: bool,
    /// Telegram's order to be silent until then.
    pub rate_limited_until: Option<Timestamp>,
    /// The database's clock at that transaction.
    pub now: Timestamp,
    /// The same moment by this process's clock.
    #[serde(skip, default = "Instant::now")]
    pub read: Instant,
}

/// Locks a dialog until the transaction ends: before the outbox, as every transaction does that touches both.
pub fn lock_dialog(dialog_id: Option<i64>) -> Statement {
    planned!("SELECT id FROM dialogs WHERE id = $1 FOR NO KEY UPDATE").bind(dialog_id)
}

/// Keeps the outbox for another while. No row: somebody else has it.
pub fn renew_lease(bot_id: i64, owner: Uuid) -> Statement {
    planned!(
        "UPDATE bot_outboxes SET lease_until = now() + make_interval(secs => $3) WHERE bot_id = $1 AND lease_owner = $2
         RETURNING bot_id",
    )
    .bind(bot_id)
    .bind(owner)
    .bind(LEASE.as_secs_f64())
}

impl BotOutbox {
    /// The database's clock by now: a call may have taken long since the outbox was read.
    pub fn current(&self) -> Timestamp {
        later(self.now, self.read.elapsed())
    }
}

/// Notes that topics were switched off in the bot's group: everything goes into one chat until they are back.
pub fn mark_topics_off(bot_id: i64) -> Statement {
    Statement::new("UPDATE bot_outboxes SET topics_off = true WHERE bot_id = $1").bind(bot_id)
}

/// Notes whether the bot's group has topics, as an update from there told.
pub fn store_topic_mode(bot_id: i64, chat_id: i64, has_topics: bool) -> Statement {
    planned!(
        "UPDATE bot_outboxes outbox SET topics_off = NOT $3 FROM tenancy_bots r
         WHERE outbox.bot_id = $1 AND r.bot_id = $1 AND r.group_chat_id = $2 AND outbox.topics_off = $3",
    )
    .bind(bot_id)
    .bind(chat_id)
    .bind(has_topics)
}

/// Writes down what a send took from the budget.
pub fn charge_budget(bot_id: i64, owner: Uuid, budget: TelegramBudget) -> Statement {
    planned!("UPDATE bot_outboxes SET budget_left = $3, budget_updated_at = $4 WHERE bot_id = $1 AND lease_owner = $2")
        .bind(bot_id)
        .bind(owner)
        .bind(budget.left)
        .bind(budget.at)
}

/// Lets go until `due`, whatever is waiting: nothing may be sent before. ResultSets whether a wake-up is to be sent for it.
pub fn release_until(bot_id: i64, owner: Uuid, due: Timestamp) -> Statement {
    planned!(
        "WITH plan AS (
             SELECT NOT coalesce(wakeup_at > clock_timestamp() AND wakeup_at <= $3::timestamptz + interval '1 second', false) AS book
             FROM bot_outboxes WHERE bot_id = $1 FOR NO KEY UPDATE)
         UPDATE bot_outboxes outbox
         SET lease_owner = NULL, lease_until = NULL, due_at = $3,
             wakeup_at = CASE WHEN plan.book THEN $3 ELSE outbox.wakeup_at END
         FROM plan WHERE outbox.bot_id = $1 AND outbox.lease_owner = $2
         RETURNING plan.book"
    )
    .bind(bot_id)
    .bind(owner)
    .bind(due)
}

/// Writes down Telegram's order to be silent, to the second.
pub fn store_rate_limit(bot_id: i64, owner: Uuid, until: Timestamp) -> Statement {
    let empty = TelegramBudget::emptied(until);
    Statement::new(
        "UPDATE bot_outboxes SET rate_limited_until = $3, budget_left = $4, budget_updated_at = $3 WHERE bot_id = $1 AND lease_owner = $2",
    )
    .bind(bot_id)
    .bind(owner)
    .bind(until)
    .bind(empty.left)
}
