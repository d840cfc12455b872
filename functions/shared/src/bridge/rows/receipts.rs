//! The receipts on an operator's answer: 👀 it waits, 👌 Avito has it, 👍 the buyer has read it, 💔 it was not sent.
//! One reaction per message, and the latest counts: a later receipt replaces one that is still pending.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::topic_emoji;
use crate::{
    bridge::{
        common::telegram_budget::{TelegramBudget, later},
        to_telegram::{
            failures,
            send::files::Files,
            sender::{TelegramSender, TelegramStep},
            work::{BotWork, Completed, Post},
        },
    },
    planned,
    platform::db::Statement,
    routine,
    tenancy::bots,
};

/// An answer that Avito did not accept within this time gets 👀.
pub(in crate::bridge) const WAITING_RECEIPT_AFTER: Duration = Duration::from_secs(2);

/// Stores a receipt for each operator's message among `$from`, rows of `messages`. Returns `bot_id` and `client_id`,
/// unless `$returning` is another clause.
macro_rules! receipt {
    ($emoji:literal, $from:literal) => {
        $crate::bridge::rows::receipts::receipt!($emoji, $from, " RETURNING bot_id, client_id")
    };
    ($emoji:literal, $from:literal, $returning:literal) => {
        concat!(
            "INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, telegram_chat_id, dedup_key)
             SELECT client_id, bot_id, dialog_id, 'reaction',
                    jsonb_build_object('message_id', telegram_message_id, 'emoji', '",
            $emoji,
            "'), telegram_chat_id, 'receipt:' || id
             FROM ",
            $from,
            " WHERE telegram_message_id IS NOT NULL
             ON CONFLICT (bot_id, dedup_key) DO UPDATE
             SET content = excluded.content, state = 'pending', attempts = 0, due_at = now()
             WHERE posts.content IS DISTINCT FROM excluded.content",
            $returning
        )
    };
}

/// Makes the outboxes of the rows of `$from` due now.
macro_rules! make_outboxes_due {
    ($from:literal) => {
        concat!(
            " INSERT INTO bot_outboxes AS outbox (bot_id, client_id, due_at) SELECT DISTINCT bot_id, client_id, now() FROM ",
            $from,
            " ON CONFLICT (bot_id) DO UPDATE SET due_at = least(outbox.due_at, excluded.due_at)"
        )
    };
}

/// As `make_outboxes_due!`, for receipts. While reactions are on hold and the outbox is due when the hold ends, its due
/// time stays. The row is locked all the same, as by every transaction that adds work.
macro_rules! make_due_for_receipts {
    ($from:literal) => {
        concat!(
            $crate::bridge::rows::receipts::make_outboxes_due!($from),
            " WHERE (outbox.due_at > greatest(now(), outbox.reactions_hold_until)) IS NOT FALSE"
        )
    };
}
pub(in crate::bridge) use {make_due_for_receipts, make_outboxes_due, receipt};

/// The wait of reactions that are left, or arrive, while a batch is being set, so that up to eight go together. Other
/// work ends the wait. Eight in 250 ms are as many as Telegram takes from a bot (about 30 calls a second,
/// core.telegram.org/bots/faq).
macro_rules! batch_delay {
    () => {
        "interval '250 milliseconds'"
    };
}
pub(in crate::bridge) use batch_delay;

/// Puts 👀 on the dialog's answers that Avito will not have within two seconds of their writing, because nothing is sent
/// to it for `wait_seconds`.
pub(in crate::bridge) fn put_waiting_receipts(dialog_id: i64, wait_seconds: f64) -> Statement {
    planned!(concat!(
        "WITH late AS (
             SELECT m.* FROM messages m
             WHERE m.dialog_id = $1 AND m.origin = 'operator' AND m.status = 'sending'
               AND m.created_at + make_interval(secs => $3) <= now() + make_interval(secs => $2)
               AND EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state IN ('pending', 'sending'))
               AND NOT EXISTS (SELECT FROM posts r WHERE r.bot_id = m.bot_id AND r.dedup_key = 'receipt:' || m.id)
         ), receipt AS (",
        receipt!("👀", "late"),
        ")",
        make_outboxes_due!("receipt")
    ))
    .bind(dialog_id)
    .bind(wait_seconds)
    .bind(WAITING_RECEIPT_AFTER.as_secs_f64())
}

/// Puts 👌 on answers that a webhook or a poll reports as sent, in case Avito's answer to our own send never comes.
/// Returns the bots to wake.
macro_rules! put_sent_receipts {
    ($account:literal, $avito_message_ids:literal) => {
        concat!(
            "WITH whole AS (
                 SELECT DISTINCT m.* FROM parts p JOIN messages m ON m.id = p.message_id AND m.status = 'sent'
                 WHERE p.avito_account_id = ",
            $account,
            " AND p.avito_message_id = ANY(",
            $avito_message_ids,
            ") AND p.state = 'sent'
             ), receipt AS (",
            $crate::bridge::rows::receipts::receipt!("👌", "whole"),
            ")",
            $crate::bridge::rows::receipts::make_outboxes_due!("receipt"),
            " RETURNING outbox.bot_id"
        )
    };
}
pub(in crate::bridge) use put_sent_receipts;

/// Puts 👍 on the answers that buyers have read: in each chat, all up to the newest own message that Avito shows as
/// read. `newest` has the ids of these newest messages. Returns the bots to wake as `read_bot_id`.
pub(in crate::bridge) fn put_read_receipts(account_id: i64, newest: Vec<String>) -> Statement {
    Statement::new(concat!(
        "WITH up_to AS (
             SELECT p.dialog_id, p.message_id FROM parts p
             WHERE p.avito_account_id = $1 AND p.avito_message_id = ANY($2) AND p.state = 'sent'
             UNION
             SELECT m.dialog_id, m.id FROM messages m
             WHERE m.avito_account_id = $1 AND m.avito_message_id = ANY($2) AND m.direction = 'out'
         ), seen AS (
             UPDATE messages m SET status = 'read' FROM up_to
             WHERE m.dialog_id = up_to.dialog_id AND m.id <= up_to.message_id AND m.direction = 'out' AND m.status = 'sent'
             RETURNING m.*
         ), receipt AS (",
        receipt!("👍", "seen"),
        "), woken AS (",
        make_outboxes_due!("receipt"),
        ")
         SELECT DISTINCT bot_id AS read_bot_id FROM receipt"
    ))
    .bind(account_id)
    .bind(newest)
}

/// Selects the receipts of all the bot's dialogs that may be set now: at most eight, so that a new message waits for
/// one round of calls only.
macro_rules! receipts_due {
    () => {
        "SELECT p.id, p.kind, p.content, p.state = 'sending' AS outcome_unknown, p.attempts, p.telegram_chat_id AS chat_id,
                p.telegram_topic_id AS thread_id
         FROM posts p LEFT JOIN dialogs d ON d.id = p.dialog_id
         WHERE p.bot_id = _bot AND p.state IN ('pending', 'sending') AND p.kind = 'reaction' AND p.due_at <= clock_timestamp()
           AND coalesce(_reactions_after <= now(), true) AND coalesce(d.hold_until <= now(), true)
         ORDER BY p.id LIMIT 8"
    };
}
pub(in crate::bridge) use receipts_due;

/// Marks the reactions of these posts as set. Skips a post whose content a later receipt has changed, or is just
/// changing. `have_topics`: schedules the renames that their topics need.
fn mark_reactions_set<'a>(posts: impl Iterator<Item = &'a Post> + Clone, have_topics: bool) -> Statement {
    routine!(
        "(_posts bigint[], _contents jsonb, _have_topics boolean, _rename_delay_seconds double precision) RETURNS void",
        concat!(
            "BEGIN
                 UPDATE posts SET state = 'sent', sent_at = now(), error = NULL
                 WHERE id = ANY (ARRAY(SELECT p.id FROM posts p
                                       WHERE p.id = ANY(_posts) AND p.kind = 'reaction' AND p.content = _contents -> p.id::text
                                       FOR NO KEY UPDATE SKIP LOCKED));
                 IF _have_topics AND EXISTS (",
            topic_emoji::renames_needed!("_posts"),
            ") THEN
                     ",
            topic_emoji::schedule_renames!("_posts", "_rename_delay_seconds"),
            ";
                 END IF;
             END"
        ),
        [topic_emoji::renames_needed!("_posts")]
    )
    .bind(posts.clone().map(|post| post.id).collect::<Vec<_>>())
    .bind(posts.map(|post| (post.id.to_string(), post.content.clone())).collect::<Value>())
    .bind(have_topics)
    .bind(topic_emoji::RENAME_DELAY)
}

/// Sets the due receipts together. Each is on a message of its own, and setting one twice changes nothing.
pub(in crate::bridge) async fn set_reactions(sender: &TelegramSender<'_>, work: &BotWork) -> TelegramStep {
    let waiting = &work.receipts;
    let (now, mut left) = (work.outbox.now, work.outbox.reactions);
    let affordable = waiting.iter().map_while(|_| left.take(1, now).map(|remaining| left = remaining).ok()).count();
    if affordable == 0 {
        let wait = left.take(1, now).err().unwrap_or_default();
        return TelegramStep::Commit(vec![hold_reactions(sender.bot_id, sender.owner, later(now, wait))]);
    }
    let target = |post: &Post| post.target().unwrap_or_else(|| work.group());
    let calls = waiting[..affordable].iter().map(|post| async move {
        let answer = sender.call(post, target(post), Files::default()).await;
        (post, answer.err())
    });
    let (failed, done): (Vec<_>, Vec<_>) = join_all(calls).await.into_iter().partition(|(_, error)| error.is_some());
    let done = done.iter().map(|(post, _)| *post);
    let mut outcome = vec![mark_reactions_set(done.clone(), work.one_chat().is_none())];
    if work.bot.broken && done.len() > 0 {
        outcome.push(bots::mark_working(sender.bot_id));
    }
    if failed.is_empty() {
        return TelegramStep::CommitSent(outcome, Completed { reactions: Some(left), ..Completed::default() });
    }
    outcome.push(charge_reaction_budget(sender.bot_id, sender.owner, left));
    for (post, error) in failed.into_iter().filter_map(|(post, error)| Some((post, error?))) {
        tracing::warn!(bot_id = sender.bot_id, post_id = post.id, %error, "a receipt was not set");
        outcome.extend(failures::after_receipt_failure(sender, work, post, &error));
    }
    TelegramStep::Commit(outcome)
}

/// Stores the budget of reactions that a batch left, if not all of the batch were set.
fn charge_reaction_budget(bot_id: i64, owner: Uuid, budget: TelegramBudget) -> Statement {
    Statement::new(
        "UPDATE bot_outboxes SET reaction_budget_left = $3, reaction_budget_updated_at = $4 WHERE bot_id = $1 AND lease_owner = $2",
    )
    .bind(bot_id)
    .bind(owner)
    .bind(budget.left)
    .bind(budget.at)
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
