//! Rows that our own code or SQL refuses: they are set aside, counted, and tried again later, while all others go on.

use crate::platform::db::Statement;

/// Sets aside what a dialog has to post, for so many seconds.
pub(in crate::bridge) fn set_aside_dialog(dialog_id: i64, wait_seconds: f64) -> Statement {
    Statement::new(
        "UPDATE dialogs SET set_aside_attempts = set_aside_attempts + 1, hold_until = now() + make_interval(secs => $2) WHERE id = $1",
    )
    .bind(dialog_id)
    .bind(wait_seconds)
}

/// Ends what a dialog has to post: it was set aside too often. `notice` tells the operators.
pub(in crate::bridge) fn end_dialog_work(dialog_id: i64, notice: serde_json::Value) -> Statement {
    Statement::call("end_dialog_work").arg("dialog_id", dialog_id).arg("notice", notice)
}

/// Notes that a dialog that was set aside goes on.
pub(in crate::bridge) fn resume_set_aside(dialog_id: i64) -> Statement {
    Statement::new("UPDATE dialogs SET set_aside_attempts = 0 WHERE id = $1").bind(dialog_id)
}

/// Sets aside a post outside of dialogs, for so many seconds.
pub(in crate::bridge) fn set_aside_post(post_id: i64, wait_seconds: f64) -> Statement {
    Statement::new(
        "UPDATE posts SET attempts = attempts + 1, failed_since = coalesce(failed_since, now()),
                due_at = now() + make_interval(secs => $2)
         WHERE id = $1",
    )
    .bind(post_id)
    .bind(wait_seconds)
}
