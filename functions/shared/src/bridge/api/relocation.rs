//! The relocation of dialogs: their account gets another bot, or their bot another group. The dialogs get topics there,
//! with a replay, and their pending messages are posted there. Former topics stay where they are.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    App,
    bridge::{
        common::{
            post_kind::PostKind,
            queue_tasks::PollTask,
            wakeups::{WAKEUPS, Wakeups},
        },
        rows::{account_work, topics},
    },
    platform::db::{DbError, ResultSets, Statement},
    tenancy::accounts::{Meaning, Switch},
};

/// Locks an account's dialogs. They are locked before the account itself, as in every transaction.
fn lock_dialogs_of_account(account_id: i64) -> Statement {
    Statement::new("SELECT FROM dialogs WHERE avito_account_id = $1 ORDER BY id FOR NO KEY UPDATE").bind(account_id)
}

/// Moves an account's dialogs to its current bot. Messages of operators in former topics are no longer answers to the
/// buyer: the former bot may be gone, and could not post what follows.
fn move_dialogs_to_bot(account_id: i64) -> Vec<Statement> {
    let fail_posts = "WITH unfinished AS (
                    UPDATE posts p SET state = 'failed', error = 'shown by another bot'
                    FROM dialogs d JOIN tenancy_accounts a ON a.avito_account_id = d.avito_account_id
                    WHERE d.avito_account_id = $1 AND p.client_id = d.client_id AND p.dialog_id = d.id
                      AND d.bot_id <> a.bot_id AND p.state IN ('pending', 'sending')
                    RETURNING p.id, p.client_id, p.attempts
                )
                UPDATE messages m SET post_id = NULL FROM unfinished u
                WHERE m.client_id = u.client_id AND m.post_id = u.id AND m.needs_post";
    let move_messages = "UPDATE messages m SET bot_id = a.bot_id
                 FROM dialogs d JOIN tenancy_accounts a ON a.avito_account_id = d.avito_account_id
                 WHERE d.avito_account_id = $1 AND m.client_id = d.client_id AND m.dialog_id = d.id
                   AND d.bot_id <> a.bot_id AND m.needs_post AND m.post_id IS NULL";
    let forget_topics = "DELETE FROM dialog_topics t USING dialogs d, tenancy_accounts a
                  WHERE d.avito_account_id = $1 AND a.avito_account_id = $1 AND t.client_id = d.client_id
                    AND t.dialog_id = d.id AND d.bot_id <> a.bot_id";
    let move_dialogs = "UPDATE dialogs d
                  SET bot_id = a.bot_id, topic_state = 'none', telegram_chat_id = NULL, telegram_topic_id = NULL,
                      topic_closed = false, topic_emoji = '', hold_until = NULL, collecting_album = false
                  FROM tenancy_accounts a
                  WHERE d.avito_account_id = $1 AND a.avito_account_id = $1 AND d.bot_id <> a.bot_id";
    let make_due =
        "SELECT outbox.bot_id, NULL::bigint AS dialog_id, outbox.wait_seconds, NULL::timestamptz AS auto_reply_at
                FROM tenancy_accounts a
                CROSS JOIN LATERAL sql.make_outbox_due(a.bot_id, a.client_id, now()) AS outbox
                WHERE a.avito_account_id = $1";
    let bind = |sql| Statement::new(sql).bind(account_id);
    let mut statements: Vec<_> = [fail_posts, move_messages, forget_topics, move_dialogs].map(bind).into();
    statements.push(bind(make_due).labelled(WAKEUPS));
    statements
}

/// Locks a bot's dialogs and then its outbox. They are locked before the bot itself, as in every transaction.
pub fn lock_dialogs_of_bot(bot_id: i64) -> Vec<Statement> {
    let dialogs = "SELECT FROM dialogs WHERE bot_id = $1 ORDER BY id FOR NO KEY UPDATE";
    let outbox = "SELECT FROM bot_outboxes WHERE bot_id = $1 FOR NO KEY UPDATE";
    [dialogs, outbox].into_iter().map(|sql| Statement::new(sql).bind(bot_id)).collect()
}

/// Moves a bot's dialogs to its current group. Answers in topics of the former group still count.
pub fn move_dialogs_to_group(bot_id: i64) -> Vec<Statement> {
    let fail_posts = "UPDATE posts p SET state = 'failed', error = 'shown in another group'
                FROM dialogs d JOIN tenancy_bots r ON r.bot_id = d.bot_id
                WHERE d.bot_id = $1 AND p.client_id = d.client_id AND p.dialog_id = d.id AND p.state = 'pending'
                  AND p.kind = ANY($2)
                  AND d.telegram_chat_id IS DISTINCT FROM r.group_chat_id";
    let move_dialogs = "UPDATE dialogs d
                  SET topic_state = 'none', telegram_chat_id = NULL, telegram_topic_id = NULL, topic_closed = false,
                      topic_emoji = '', hold_until = NULL, collecting_album = false
                  FROM tenancy_bots r
                  WHERE d.bot_id = $1 AND r.bot_id = $1 AND d.topic_state <> 'none'
                    AND d.telegram_chat_id IS DISTINCT FROM r.group_chat_id";
    let make_due = "UPDATE bot_outboxes SET topics_off = false, due_at = now() WHERE bot_id = $1
                RETURNING bot_id, NULL::bigint AS dialog_id, 0::bigint AS wait_seconds, NULL::timestamptz AS auto_reply_at";
    let bind = |sql| Statement::new(sql).bind(bot_id);
    vec![
        bind(fail_posts).bind(PostKind::names(PostKind::ends_with_group)),
        bind(move_dialogs),
        bind(make_due).labelled(WAKEUPS),
    ]
}

/// Makes a bot's outbox due now, so that the bot retries what it could not post.
pub fn make_due_now(bot_id: i64) -> Vec<Statement> {
    let make_due = "UPDATE bot_outboxes SET due_at = now() WHERE bot_id = $1
                RETURNING bot_id, NULL::bigint AS dialog_id, 0::bigint AS wait_seconds, NULL::timestamptz AS auto_reply_at";
    vec![topics::try_topics_again(bot_id), Statement::new(make_due).bind(bot_id).labelled(WAKEUPS)]
}

/// Returns the statements that run before and after the change of an account.
pub fn account_change_statements(account_id: i64, meaning: Meaning) -> (Vec<Statement>, Vec<Statement>) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    if meaning.moves || meaning.resumes {
        before.push(lock_dialogs_of_account(account_id));
    }
    if meaning.moves {
        after.extend(move_dialogs_to_bot(account_id));
    }
    if meaning.monitoring == Some(Switch::Off) {
        before.push(cancel_auto_replies(account_id));
    }
    if meaning.monitoring == Some(Switch::On) {
        after.push(begin_polls_anew(account_id));
    }
    if meaning.resumes {
        after.extend(resume_account(account_id));
    }
    (before, after)
}

/// Cancels the scheduled auto-replies of an account that is no longer followed. Only their dialogs are locked.
fn cancel_auto_replies(account_id: i64) -> Statement {
    Statement::new(
        "UPDATE dialogs SET auto_reply_scheduled_at = NULL
         WHERE id IN (SELECT id FROM dialogs WHERE avito_account_id = $1 AND auto_reply_scheduled_at IS NOT NULL ORDER BY id
                      FOR NO KEY UPDATE)",
    )
    .bind(account_id)
}

/// Begins the polls of an account that is followed again: as after its connection, of what was written before only the
/// unread messages are shown.
fn begin_polls_anew(account_id: i64) -> Statement {
    Statement::new(
        "UPDATE account_polls SET started_at = now(), unread_list_at = now(), page_digest = NULL, unread_digest = NULL,
                attempts = 0, failed_since = NULL, error = NULL
         WHERE avito_account_id = $1",
    )
    .bind(account_id)
}

/// Makes an account's poll and its dialogs' answers due now: Avito accepts the account again. Returns the dialogs.
fn resume_account(account_id: i64) -> Vec<Statement> {
    let poll = Statement::new("UPDATE account_polls SET next_poll_at = now() WHERE avito_account_id = $1");
    vec![account_work::resume_dialogs(account_id), poll.bind(account_id)]
}

/// Wakes the bots and dialogs that a relocation made due, after its commit.
pub async fn wake(app: &App, results: &ResultSets) -> Result<(), DbError> {
    Wakeups::read(results)?.wake(app).await;
    Ok(())
}

/// Sends the task that polls an account now.
pub async fn poll(app: &App, account_id: i64) {
    app.wake(&PollTask::V1 { account_ids: vec![account_id], due: Timestamp::now() }, Duration::ZERO).await;
}
