//! What the writer of an answer sees on it: 👀 it waits, 👌 Avito has it, 👍 the buyer has read it, 💔 it did not go.
//! One reaction per message, and the latest counts: a later receipt replaces one that still waits.

use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::budget::Budget;
use crate::{planned, platform::db::Statement, routine};
use jiff::Timestamp;

/// An answer that Avito did not take within this time is marked as waiting.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Puts a receipt on the operators' messages among `$from`, rows of `messages`. Answers `bot_id` and `client_id`, unless
/// something else is to be answered.
macro_rules! receipt {
    ($emoji:literal, $from:literal) => {
        $crate::bridge::receipts::receipt!($emoji, $from, " RETURNING bot_id, client_id")
    };
    ($emoji:literal, $from:literal, $answer:literal) => {
        concat!(
            "INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, telegram_chat_id, once_key)
             SELECT client_id, bot_id, dialog_id, 'reaction',
                    jsonb_build_object('message_id', telegram_message_id, 'emoji', '",
            $emoji,
            "'), telegram_chat_id, 'receipt:' || id
             FROM ",
            $from,
            " WHERE telegram_message_id IS NOT NULL
             ON CONFLICT (bot_id, once_key) DO UPDATE
             SET content = excluded.content, state = 'pending', attempts = 0, due_at = now()
             WHERE posts.content IS DISTINCT FROM excluded.content",
            $answer
        )
    };
}

/// Has the lanes of the rows of `$from` looked at now.
macro_rules! wake_lanes {
    ($from:literal) => {
        concat!(
            " INSERT INTO bot_lanes AS lane (bot_id, client_id, drain_at) SELECT DISTINCT bot_id, client_id, now() FROM ",
            $from,
            " ON CONFLICT (bot_id) DO UPDATE SET drain_at = least(lane.drain_at, excluded.drain_at)"
        )
    };
}
pub(super) use {receipt, wake_lanes};

/// 👀 on the dialog's answers that Avito will not have within two seconds of their writing, because nothing is sent to it
/// for `wait_seconds`.
pub(super) fn waiting(dialog_id: i64, wait_seconds: f64) -> Statement {
    planned!(concat!(
        "WITH late AS (
             SELECT m.* FROM messages m
             WHERE m.dialog_id = $1 AND m.origin = 'operator' AND m.status = 'sending'
               AND m.created_at + make_interval(secs => $3) <= now() + make_interval(secs => $2)
               AND EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state IN ('pending', 'sending'))
               AND NOT EXISTS (SELECT FROM posts r WHERE r.bot_id = m.bot_id AND r.once_key = 'receipt:' || m.id)
         ), receipt AS (",
        receipt!("👀", "late"),
        ")",
        wake_lanes!("receipt")
    ))
    .bind(dialog_id)
    .bind(wait_seconds)
    .bind(PATIENCE.as_secs_f64())
}

/// 👌 on answers that Avito was heard to have, in case the answer to our own send never comes. Answers the bots to wake.
macro_rules! heard {
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
            $crate::bridge::receipts::receipt!("👌", "whole"),
            ")",
            $crate::bridge::receipts::wake_lanes!("receipt"),
            " RETURNING lane.bot_id"
        )
    };
}
pub(super) use heard;

/// 👍 on what the buyers have read: of each chat, all answers up to the newest own message that Avito shows as read.
/// `newest` is a list of such messages' ids. Answers the bots to wake as `read_bot_id`.
pub(super) fn read(account_id: i64, newest: Vec<String>) -> Statement {
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
        wake_lanes!("receipt"),
        ")
         SELECT DISTINCT bot_id AS read_bot_id FROM receipt"
    ))
    .bind(account_id)
    .bind(newest)
}

/// The reaction is set, unless a later receipt came meanwhile; what it took from the reactions' own budget is written down.
pub(super) fn set(bot_id: i64, owner: Uuid, post_id: i64, content: Value, budget: Budget) -> Statement {
    routine!(
        "(_bot bigint, _owner uuid, _post bigint, _content jsonb, _left double precision, _at timestamptz) RETURNS void",
        "BEGIN
             UPDATE posts SET state = 'sent', sent_at = now(), error = NULL
             WHERE id = _post AND kind = 'reaction' AND content = _content;
             UPDATE bot_lanes SET reaction_budget = _left, reaction_budget_at = _at
             WHERE bot_id = _bot AND lease_owner = _owner;
         END",
        []
    )
    .bind(bot_id)
    .bind(owner)
    .bind(post_id)
    .bind(content)
    .bind(budget.left)
    .bind(budget.at)
}

/// Writes down what a reaction took from the reactions' own budget that was not set.
pub(super) fn spend(bot_id: i64, owner: Uuid, budget: Budget) -> Statement {
    Statement::new(
        "UPDATE bot_lanes SET reaction_budget = $3, reaction_budget_at = $4 WHERE bot_id = $1 AND lease_owner = $2",
    )
    .bind(bot_id)
    .bind(owner)
    .bind(budget.left)
    .bind(budget.at)
}

/// No reaction before `until`; everything else goes on.
pub(super) fn pause(bot_id: i64, owner: Uuid, until: Timestamp) -> Statement {
    Statement::new("UPDATE bot_lanes SET reactions_after = $3 WHERE bot_id = $1 AND lease_owner = $2")
        .bind(bot_id)
        .bind(owner)
        .bind(until)
}
