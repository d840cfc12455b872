//! The topic emoji, in the topic's name: 🔴 the buyer waits, 🟢 answered, 🤖 answered by the auto-reply. A rename costs as
//! much as a message. So a topic is renamed only for a state that lasts, for the latest alone, and while the budget has
//! room.

use crate::platform::db::Statement;

/// The delay between a change of state and the rename, seconds.
pub(in crate::bridge) const RENAME_DELAY: f64 = 60.0;
/// The delay of a rename while messages need the budget, seconds.
pub(in crate::bridge) const BUDGET_DELAY: f64 = 15.0;

/// Schedules the rename of a post's topic, if one is needed.
pub(in crate::bridge) fn schedule_rename(post_id: i64) -> Statement {
    Statement::call("schedule_renames").arg("post_ids", vec![post_id]).arg("delay_seconds", RENAME_DELAY)
}

/// Stores the emoji that the topic bears now.
pub(in crate::bridge) fn mark_renamed(dialog_id: i64, emoji: &str) -> Statement {
    Statement::new("UPDATE dialogs SET topic_emoji = $2 WHERE id = $1").bind(dialog_id).bind(emoji.to_owned())
}
