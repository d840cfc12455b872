//! The topic emoji, in the topic's name: 🔴 the buyer waits, 🟢 answered, 🤖 answered by the auto-reply. A rename costs as
//! much as a message. So a topic is renamed only for a state that lasts, for the latest alone, and while the budget has
//! room.

use serde_json::{Value, json};

use crate::{
    bridge::to_telegram::{
        compose::post_text,
        work::{ClaimedDialog, Post},
    },
    planned,
    platform::db::Statement,
    telegram::text::truncate_utf16,
};

/// The delay between a change of state and the rename, seconds.
pub(in crate::bridge) const RENAME_DELAY: f64 = 60.0;
/// The delay of a rename while messages need the budget, seconds.
pub(in crate::bridge) const BUDGET_DELAY: f64 = 15.0;

/// The emoji that the topic of a dialog `d` should bear.
macro_rules! wanted_emoji {
    () => {
        "CASE WHEN d.state NOT IN ('waiting', 'answered') THEN ''
              WHEN (SELECT m.is_auto_reply FROM messages m
                    WHERE m.client_id = d.client_id AND m.dialog_id = d.id AND m.origin <> 'system' ORDER BY m.id DESC LIMIT 1)
              THEN '🤖'
              WHEN d.state = 'waiting' THEN '🔴' ELSE '🟢' END"
    };
}

/// Selects the dialogs of the posts `$posts` whose topics need a rename that is not scheduled yet.
macro_rules! renames_needed {
    ($posts:literal) => {
        concat!(
            "SELECT renames_needed.client_id, renames_needed.bot_id, renames_needed.id, renames_needed.emoji
             FROM (SELECT d.client_id, d.bot_id, d.id, d.topic_emoji, ",
            $crate::bridge::rows::topic_emoji::wanted_emoji!(),
            " AS emoji FROM dialogs d
                   WHERE d.id = ANY (ARRAY(SELECT p.dialog_id FROM posts p WHERE p.id = ANY(",
            $posts,
            "))) AND d.topic_state = 'open' OFFSET 0) AS renames_needed
             -- computed for each row: as NOT EXISTS, Postgres joins it with the unfinished posts of every tenant
             WHERE renames_needed.emoji <> renames_needed.topic_emoji AND renames_needed.emoji IS DISTINCT FROM (
                 SELECT CASE WHEN p.state IN ('pending', 'sending') THEN p.content ->> 'emoji' END FROM posts p
                 WHERE p.bot_id = renames_needed.bot_id AND p.dedup_key = 'rename:' || renames_needed.id)"
        )
    };
}

/// Schedules the renames that the topics of the posts `$posts` need. Another emoji starts the delay again.
macro_rules! schedule_renames {
    ($posts:literal, $delay_seconds:literal) => {
        concat!(
            "INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, due_at, dedup_key)
             SELECT client_id, bot_id, id, 'rename', jsonb_build_object('emoji', emoji),
                    now() + make_interval(secs => ",
            $delay_seconds,
            "), 'rename:' || id
             FROM (",
            $crate::bridge::rows::topic_emoji::renames_needed!($posts),
            ") AS renames_needed
             ON CONFLICT (bot_id, dedup_key) DO UPDATE
             SET content = excluded.content, due_at = excluded.due_at, state = 'pending', attempts = 0
             WHERE posts.state NOT IN ('pending', 'sending') OR posts.content ->> 'emoji' <> excluded.content ->> 'emoji'"
        )
    };
}
pub(in crate::bridge) use {renames_needed, schedule_renames, wanted_emoji};

/// Schedules the rename of a post's topic. None: no rename is needed, or it is scheduled already.
pub(in crate::bridge) fn schedule_rename(dialog: &ClaimedDialog, post_id: i64) -> Option<Statement> {
    let is_needed =
        dialog.wanted_emoji != dialog.topic_emoji && dialog.scheduled_emoji.as_ref() != Some(&dialog.wanted_emoji);
    is_needed.then(|| planned!(schedule_renames!("$1", "$2")).bind(vec![post_id]).bind(RENAME_DELAY))
}

/// Returns the content of a rename that is due. None: the state has changed, or the name is right already.
pub(in crate::bridge) fn rename_content(post: &Post, dialog: &ClaimedDialog) -> Option<Value> {
    let emoji = dialog.wanted_emoji.as_str();
    let is_stale = post.content["emoji"].as_str() != Some(emoji) || emoji == dialog.topic_emoji;
    (!is_stale).then(|| {
        let name = post_text::name_of(dialog);
        json!({ "emoji": emoji, "name": truncate_utf16(format!("{emoji} {name}").trim_start(), post_text::NAME_LIMIT) })
    })
}

/// Stores the emoji that the topic bears now.
pub(in crate::bridge) fn mark_renamed(dialog_id: i64, emoji: &str) -> Statement {
    Statement::new("UPDATE dialogs SET topic_emoji = $2 WHERE id = $1").bind(dialog_id).bind(emoji.to_owned())
}
