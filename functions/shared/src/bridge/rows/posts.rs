//! The life of a post: `pending`, `sending`, then `sent` or `failed`. The worker commits `sending` before the call to
//! Telegram, and the outcome after it.

use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    bridge::common::{post_kind::PostKind, states::PostState},
    platform::db::Statement,
};

/// A post that is not stored yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::bridge) struct PostDraft {
    /// The kind of post.
    pub(in crate::bridge) kind: PostKind,
    /// The request to Telegram: `{text, entities?, reply_to?}`, or the keys that `to_telegram/send/` reads.
    pub(in crate::bridge) content: Value,
    /// The messages that are posted with this post.
    pub(in crate::bridge) message_ids: Vec<i64>,
}

/// Marks a stored post as `sending` and returns its id. No row: the lease is lost, or the post is done.
/// Cancels a `remove_topic` post if a dialog owns the topic by now; no row then either.
/// `outcome_unknown`: the post was found `sending`, so its messages may appear twice.
/// `content` None: the stored content stays. Some: the post was stored before it could be composed.
pub(in crate::bridge) fn mark_post_sending(
    bot_id: i64,
    owner: Uuid,
    post_id: i64,
    outcome_unknown: bool,
    content: Option<Value>,
) -> Statement {
    Statement::call("mark_post_sending")
        .arg("bot_id", bot_id)
        .arg("lease_owner", owner)
        .arg("post_id", post_id)
        .arg("outcome_unknown", outcome_unknown)
        .arg("content", content)
}

/// Adds messages to a post that was just marked as `sending`.
pub(in crate::bridge) fn attach_messages(post_id: i64, message_ids: Vec<i64>) -> Statement {
    Statement::call("attach_messages").arg("post_id", post_id).arg("message_ids", message_ids)
}

/// Marks a post that Telegram has as sent. `telegram_message_ids` None: the ids are stored already.
pub(in crate::bridge) fn mark_post_sent(post_id: i64, telegram_message_ids: Option<Vec<i64>>) -> Statement {
    Statement::call("finish_post").arg("post_id", post_id).arg("telegram_message_ids", telegram_message_ids)
}

/// Requeues a post with other content. `message_ids` are its messages that appeared in Telegram so far.
/// `is_uncertain`: others may have appeared too, so its messages are marked as possible duplicates.
pub(in crate::bridge) fn replace_content(
    post_id: i64,
    content: Value,
    message_ids: Vec<i64>,
    is_uncertain: bool,
) -> Statement {
    Statement::new(
        "WITH rewritten AS (
             UPDATE posts SET content = $2, state = 'pending', attempts = 0,
                    telegram_message_ids = telegram_message_ids || $3
             WHERE id = $1
         )
         UPDATE messages SET maybe_duplicate = true WHERE $4 AND post_id = $1",
    )
    .bind(post_id)
    .bind(content)
    .bind(message_ids)
    .bind(is_uncertain)
}

/// Counts an attempt of a post before it begins.
pub(in crate::bridge) fn count_attempt(post_id: i64) -> Statement {
    Statement::new(
        "UPDATE posts SET attempts = attempts + 1, failed_since = coalesce(failed_since, now()) WHERE id = $1",
    )
    .bind(post_id)
}

/// A post that failed and is to be sent again.
#[derive(Clone, Copy, Debug)]
pub(in crate::bridge) struct Requeue {
    /// The state in which it waits: `Pending`, if Telegram certainly does not have it; else `Sending`, and it is sent again as
    /// composed.
    pub(in crate::bridge) state: PostState,
    /// True if the failure counts as an attempt.
    pub(in crate::bridge) is_attempt: bool,
    /// True if the call's answer was lost.
    pub(in crate::bridge) is_answer_lost: bool,
    /// The wait, seconds.
    pub(in crate::bridge) wait_seconds: f64,
    /// True if the post waits alone, and what comes behind it in its dialog goes on.
    pub(in crate::bridge) is_alone: bool,
}

impl Requeue {
    /// A post that goes on at once: something was mended, and no attempt is counted.
    pub(in crate::bridge) const AT_ONCE: Self = Self {
        state: PostState::Pending,
        is_attempt: false,
        is_answer_lost: false,
        wait_seconds: 0.0,
        is_alone: false,
    };
}

/// Requeues a post. Its dialog is on hold meanwhile, unless the post waits alone.
pub(in crate::bridge) fn requeue_post(post_id: i64, requeue: Requeue) -> Vec<Statement> {
    let Requeue { state, is_attempt, is_answer_lost, wait_seconds, is_alone } = requeue;
    let is_failure = wait_seconds > 0.0;
    let row = Statement::new(
        "UPDATE posts SET state = $2, attempts = attempts + CASE WHEN $3 THEN 1 ELSE 0 END,
                answers_lost = answers_lost + CASE WHEN $4 THEN 1 ELSE 0 END,
                failed_since = CASE WHEN $5 THEN coalesce(failed_since, now()) ELSE failed_since END,
                due_at = CASE WHEN dialog_id IS NULL OR $7 THEN now() + make_interval(secs => $6) ELSE due_at END
         WHERE id = $1",
    )
    .bind(post_id)
    .bind(state.as_str())
    .bind(is_attempt)
    .bind(is_answer_lost)
    .bind(is_failure)
    .bind(wait_seconds)
    .bind(is_alone);
    let hold = Statement::new(
        "UPDATE dialogs d SET hold_until = now() + make_interval(secs => $2), collecting_album = false
         FROM posts p WHERE p.id = $1 AND d.id = p.dialog_id",
    )
    .bind(post_id)
    .bind(wait_seconds);
    if is_failure && !is_alone { vec![row, hold] } else { vec![row] }
}

/// Drops a post: it failed for good, its reason is gone, or its dialog is shown elsewhere. The messages that it carries are free for
/// another post.
pub(in crate::bridge) fn drop_post(post_id: i64, reason: &str) -> Statement {
    Statement::call("drop_post").arg("post_id", post_id).arg("reason", reason.to_owned())
}

/// Puts the notice about the end of a post that goes on failing, before that end: once the notice is sent, Telegram takes messages,
/// and the post fails with it (`sql.finish_post`).
pub(in crate::bridge) fn put_end_notice(post_id: i64, text: &str) -> Statement {
    Statement::new(
        "INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
         SELECT client_id, bot_id, dialog_id, 'notice', jsonb_build_object('text', $2::text, 'ends_post', id), 'failed:' || id
         FROM posts WHERE id = $1 AND dialog_id IS NOT NULL
         ON CONFLICT (bot_id, dedup_key) DO NOTHING",
    )
    .bind(post_id)
    .bind(text.to_owned())
}

/// Has a notice posted in the group itself, because its topic does not take it.
pub(in crate::bridge) fn send_to_general(post_id: i64, chat_id: i64) -> Statement {
    Statement::new(
        "UPDATE posts SET telegram_chat_id = $2, telegram_topic_id = NULL, state = 'pending', attempts = 0 WHERE id = $1",
    )
    .bind(post_id)
    .bind(chat_id)
}

/// Marks a post and its incoming messages as failed. Posts `notice` in the dialog's topic, if there is one.
pub(in crate::bridge) fn mark_post_failed(post_id: i64, error: String, notice: Option<Value>) -> Vec<Statement> {
    vec![
        Statement::new("UPDATE posts SET state = 'failed', error = $2 WHERE id = $1").bind(post_id).bind(error.clone()),
        Statement::new("UPDATE messages SET status = 'failed', error = $2 WHERE post_id = $1 AND direction = 'in'")
            .bind(post_id)
            .bind(error),
        Statement::new(
            "INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
             SELECT client_id, bot_id, dialog_id, 'notice', $2::jsonb, 'failed:' || id FROM posts
             WHERE id = $1 AND $2 IS NOT NULL AND dialog_id IS NOT NULL
             ON CONFLICT (bot_id, dedup_key) DO NOTHING",
        )
        .bind(post_id)
        .bind(notice),
    ]
}

/// Postpones all unfinished posts of one kind of a bot, for `seconds`. The kind is one that only decorates.
pub(in crate::bridge) fn postpone_kind(bot_id: i64, kind: PostKind, seconds: f64) -> Statement {
    Statement::new(
        "UPDATE posts SET due_at = now() + make_interval(secs => $3)
         WHERE bot_id = $1 AND kind = $2 AND state IN ('pending', 'sending')",
    )
    .bind(bot_id)
    .bind(kind.as_str())
    .bind(seconds)
}

/// Stores the post that pins a message of ours.
pub(in crate::bridge) fn schedule_pin(post_id: i64, telegram_message_id: i64) -> Statement {
    Statement::new(
        "INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
         SELECT client_id, bot_id, dialog_id, 'pin', jsonb_build_object('message_id', $2::bigint), 'pin:' || id
         FROM posts WHERE id = $1
         ON CONFLICT (bot_id, dedup_key) DO NOTHING",
    )
    .bind(post_id)
    .bind(telegram_message_id)
}

/// Postpones one post alone; its dialog goes on.
pub(in crate::bridge) fn postpone(post_id: i64, seconds: f64) -> Statement {
    Statement::new("UPDATE posts SET due_at = now() + make_interval(secs => $2) WHERE id = $1")
        .bind(post_id)
        .bind(seconds)
}

/// Returns the content of a notice. `reply_to`: the message that it answers.
pub(in crate::bridge) fn notice(text: &str, reply_to: Option<i64>) -> Value {
    match reply_to {
        Some(message_id) => json!({ "text": text, "reply_to": message_id }),
        None => json!({ "text": text }),
    }
}
