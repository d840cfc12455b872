//! SQL on topics: which one a dialog has, had, loses or moves to, and how long the dialog waits. A topic's id is stored
//! only if the dialog has no other topic by then.

use jiff::Timestamp;
use serde_json::Value;

use super::bot_outbox;
use crate::platform::db::Statement;

/// A topic without a dialog is removed after this time, seconds.
const STRAY_TOPIC_SECONDS: f64 = 60.0;

/// Resets the state of a topic that was certainly not created.
pub(in crate::bridge) fn reset_topic(dialog_id: i64) -> Statement {
    Statement::new("UPDATE dialogs SET topic_state = 'none' WHERE id = $1 AND topic_state = 'creating'").bind(dialog_id)
}

/// Holds the dialog for a while; others go on.
pub(in crate::bridge) fn hold_dialog(dialog_id: i64, seconds: f64) -> Statement {
    Statement::new("UPDATE dialogs SET hold_until = now() + make_interval(secs => $2) WHERE id = $1")
        .bind(dialog_id)
        .bind(seconds)
}

/// Notes that a topic could not be created, and holds the dialog until the next attempt.
pub(in crate::bridge) fn note_topic_failure(dialog_id: i64, is_attempt: bool, wait_seconds: f64) -> Statement {
    Statement::new(
        "UPDATE dialogs
         SET topic_attempts = topic_attempts + CASE WHEN $2 THEN 1 ELSE 0 END, topic_failed_since = coalesce(topic_failed_since, now()),
             hold_until = now() + make_interval(secs => $3)
         WHERE id = $1",
    )
    .bind(dialog_id)
    .bind(is_attempt)
    .bind(wait_seconds)
}

/// Shows a dialog in General for so long, because it cannot have a topic; then a topic is tried again. A notice there says so.
pub(in crate::bridge) fn show_in_general(dialog_id: i64, chat_id: i64, seconds: f64, notice: Value) -> Vec<Statement> {
    vec![
        Statement::new(
            "UPDATE dialogs SET in_general_until = now() + make_interval(secs => $2), hold_until = NULL,
                    topic_state = CASE WHEN topic_state = 'creating' THEN 'none' ELSE topic_state END
             WHERE id = $1",
        )
        .bind(dialog_id)
        .bind(seconds),
        Statement::new(
            "INSERT INTO posts (client_id, bot_id, kind, content, telegram_chat_id, dedup_key)
             SELECT client_id, bot_id, 'notice', $3, $2, format('no_topic:%s:%s', id, current_date) FROM dialogs WHERE id = $1
             ON CONFLICT (bot_id, dedup_key) DO NOTHING",
        )
        .bind(dialog_id)
        .bind(chat_id)
        .bind(notice),
    ]
}

/// Has topics tried again for the dialogs of a bot that could not have one: its rights or its group changed. `only_in`: nothing happens
/// if the chat is not the bot's own group, for anybody can add a bot to another one.
pub(in crate::bridge) fn try_topics_again(bot_id: i64, only_in: Option<i64>) -> Statement {
    Statement::new(
        "UPDATE dialogs SET topic_attempts = 0, topic_failed_since = NULL, in_general_until = NULL, hold_until = NULL
         WHERE bot_id = $1 AND topic_failed_since IS NOT NULL
           AND ($2::bigint IS NULL OR EXISTS (SELECT FROM tenancy_bots b WHERE b.bot_id = $1 AND b.group_chat_id = $2))",
    )
    .bind(bot_id)
    .bind(only_in)
}

/// Holds the dialog until its pictures are together; any other message ends the hold.
pub(in crate::bridge) fn hold_for_album(dialog_id: i64, until: Timestamp) -> Statement {
    Statement::new("UPDATE dialogs SET hold_until = $2, collecting_album = true WHERE id = $1")
        .bind(dialog_id)
        .bind(until)
}

/// Stores the topic that Telegram's answer reports, with its header, unless another dialog has taken the topic. If the
/// dialog has another topic by now, the new one came too late and is removed after a minute.
pub(in crate::bridge) fn store_created_topic(
    bot_id: i64,
    dialog_id: i64,
    chat_id: i64,
    thread_id: i64,
) -> Vec<Statement> {
    let take = Statement::new(
        "UPDATE dialogs d SET topic_state = 'open', telegram_chat_id = $3, telegram_topic_id = $4, hold_until = NULL,
                topic_emoji = '', topic_closed = false, topic_attempts = 0, topic_failed_since = NULL, in_general_until = NULL
         WHERE d.id = $2 AND d.topic_state = 'creating'
           AND NOT EXISTS (SELECT FROM dialog_topics t
                           WHERE t.bot_id = $1 AND t.telegram_chat_id = $3 AND t.telegram_topic_id = $4)",
    )
    .bind(bot_id)
    .bind(dialog_id)
    .bind(chat_id)
    .bind(thread_id);
    let mut statements = vec![take];
    statements.extend(register_topic(bot_id, chat_id, thread_id, None));
    statements
}

/// Stores a new topic that an update reports, for the dialog that has waited longest for one of this name. A topic that another
/// bot made, or that is not in the bot's own group, is left alone.
pub(in crate::bridge) fn store_reported_topic(
    bot_id: i64,
    made_by: i64,
    chat_id: i64,
    thread_id: i64,
    name: String,
) -> Vec<Statement> {
    let take = Statement::new(
        "UPDATE dialogs d SET topic_state = 'open', telegram_chat_id = $3, telegram_topic_id = $4, hold_until = NULL,
                topic_emoji = '', topic_closed = false, topic_attempts = 0, topic_failed_since = NULL, in_general_until = NULL
         WHERE d.id = (SELECT id FROM dialogs WHERE bot_id = $1 AND topic_state = 'creating' AND topic_name = $2
                       ORDER BY topic_requested_at LIMIT 1)
           AND d.topic_state = 'creating'
           AND EXISTS (SELECT FROM tenancy_bots b
                       WHERE b.bot_id = $1 AND b.telegram_bot_id = $5 AND b.group_chat_id = $3)
           AND NOT EXISTS (SELECT FROM dialog_topics t
                           WHERE t.bot_id = $1 AND t.telegram_chat_id = $3 AND t.telegram_topic_id = $4)",
    )
    .bind(bot_id)
    .bind(name)
    .bind(chat_id)
    .bind(thread_id)
    .bind(made_by);
    let mut statements = vec![take];
    statements.extend(register_topic(bot_id, chat_id, thread_id, Some(made_by)));
    statements.push(bot_outbox::make_due_for_posts(bot_id));
    statements
}

/// Stores the dialog of a topic and the topic's header, with a replay if messages of the dialog were posted before. A
/// topic without a dialog is removed after a minute. `made_by`: the bot that made it, if only an update says so.
fn register_topic(bot_id: i64, chat_id: i64, thread_id: i64, made_by: Option<i64>) -> Vec<Statement> {
    vec![
        Statement::new(
            "INSERT INTO dialog_topics (bot_id, telegram_chat_id, telegram_topic_id, client_id, dialog_id)
             SELECT $1, $2, $3, client_id, id FROM dialogs
             WHERE bot_id = $1 AND topic_state = 'open' AND telegram_chat_id = $2 AND telegram_topic_id = $3
             ON CONFLICT DO NOTHING",
        )
        .bind(bot_id)
        .bind(chat_id)
        .bind(thread_id),
        Statement::new(
            "WITH header AS (
                 INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
                 SELECT client_id, bot_id, dialog_id, 'header', '{}', format('header:%s:%s', $2::bigint, $3::bigint)
                 FROM dialog_topics WHERE bot_id = $1 AND telegram_chat_id = $2 AND telegram_topic_id = $3
                 ON CONFLICT (bot_id, dedup_key) DO NOTHING
                 RETURNING client_id, bot_id, dialog_id
             )
             INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
             SELECT client_id, bot_id, dialog_id, 'replay', '{}', format('replay:%s:%s', $2::bigint, $3::bigint)
             FROM header WHERE EXISTS (
                 SELECT FROM messages m JOIN posts p ON p.id = m.post_id
                 WHERE m.dialog_id = header.dialog_id AND p.state = 'sent')
             ON CONFLICT (bot_id, dedup_key) DO NOTHING",
        )
        .bind(bot_id)
        .bind(chat_id)
        .bind(thread_id),
        Statement::new(
            "INSERT INTO posts (client_id, bot_id, kind, content, telegram_chat_id, telegram_topic_id, due_at, dedup_key)
             SELECT client_id, bot_id, 'remove_topic', '{}', $2, $3, now() + make_interval(secs => $4),
                    format('stray:%s:%s', $2::bigint, $3::bigint)
             FROM tenancy_bots
             WHERE bot_id = $1 AND ($5::bigint IS NULL OR telegram_bot_id = $5 AND group_chat_id = $2) AND NOT EXISTS (
                 SELECT FROM dialog_topics WHERE bot_id = $1 AND telegram_chat_id = $2 AND telegram_topic_id = $3)
             ON CONFLICT (bot_id, dedup_key) DO NOTHING",
        )
        .bind(bot_id)
        .bind(chat_id)
        .bind(thread_id)
        .bind(STRAY_TOPIC_SECONDS)
        .bind(made_by),
    ]
}

/// Forgets a topic that is gone: its dialog gets another one. Answers that were written in it still find their dialog.
pub(in crate::bridge) fn forget_topic(bot_id: i64, chat_id: i64, thread_id: i64) -> Statement {
    Statement::new(
        "UPDATE dialogs SET topic_state = 'none', telegram_topic_id = NULL
         WHERE bot_id = $1 AND topic_state = 'open' AND telegram_chat_id = $2 AND telegram_topic_id = $3",
    )
    .bind(bot_id)
    .bind(chat_id)
    .bind(thread_id)
}

/// Shows a dialog in General for an hour if it had three topics within the last one: somebody deletes them.
pub(in crate::bridge) fn limit_new_topics(dialog_id: i64) -> Statement {
    Statement::new(
        "UPDATE dialogs d
         SET in_general_until = now() + interval '1 hour', topic_failed_since = coalesce(d.topic_failed_since, now())
         WHERE d.id = $1 AND d.topic_state = 'none'
           AND (SELECT count(*) FROM dialog_topics t
                WHERE t.client_id = d.client_id AND t.dialog_id = d.id AND t.created_at > now() - interval '1 hour') >= 3",
    )
    .bind(dialog_id)
}

/// Stores that we closed or reopened the topic.
pub(in crate::bridge) fn set_topic_closed(dialog_id: i64, is_closed: bool) -> Statement {
    Statement::new("UPDATE dialogs SET topic_closed = $2 WHERE id = $1").bind(dialog_id).bind(is_closed)
}

/// Moves the dialogs, topics and unfinished posts of a group to the group's new id.
pub(in crate::bridge) fn move_topics(bot_id: i64, from_chat: i64, to_chat: i64) -> Vec<Statement> {
    vec![
        Statement::new("UPDATE dialogs SET telegram_chat_id = $3 WHERE bot_id = $1 AND telegram_chat_id = $2")
            .bind(bot_id)
            .bind(from_chat)
            .bind(to_chat),
        Statement::new("UPDATE dialog_topics SET telegram_chat_id = $3 WHERE bot_id = $1 AND telegram_chat_id = $2")
            .bind(bot_id)
            .bind(from_chat)
            .bind(to_chat),
        Statement::new(
            "UPDATE posts SET telegram_chat_id = $3
             WHERE bot_id = $1 AND telegram_chat_id = $2 AND state IN ('pending', 'sending')",
        )
        .bind(bot_id)
        .bind(from_chat)
        .bind(to_chat),
    ]
}
