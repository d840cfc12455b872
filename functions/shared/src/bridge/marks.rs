//! The mark in a topic's name: 🔴 somebody waits, 🟢 answered, 🤖 answered by the machine. Renames cost like messages, so
//! only a state that has stood for a while is shown, the latest alone, and only while there is room.

use serde_json::{Value, json};

use super::{
    compose,
    work::{Dialog, Post},
};
use crate::{planned, platform::db::Statement, telegram::text::truncate_utf16};

/// How long a state stands before it is shown, seconds.
const QUIET: f64 = 60.0;
/// How long a rename waits while messages need the room, seconds.
pub(super) const ROOM_PAUSE: f64 = 15.0;

/// The mark of a state.
pub(super) fn of(state: &str, answered_by_machine: bool) -> &'static str {
    match (state, answered_by_machine) {
        ("waiting" | "answered", true) => "🤖",
        ("waiting", false) => "🔴",
        ("answered", false) => "🟢",
        _ => "",
    }
}

/// The mark that the dialog's topic ought to bear.
fn wanted(dialog: &Dialog) -> &'static str {
    of(&dialog.state, dialog.answered_by_machine)
}

/// Writes down that the name is to change, if it is; a change of mind begins the waiting anew.
pub(super) fn owed(dialog: &Dialog) -> Option<Statement> {
    let mark = wanted(dialog);
    (mark != dialog.topic_mark && dialog.mark_asked.as_deref() != Some(mark)).then(|| {
        planned!(
            "INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, due_at, once_key)
             SELECT client_id, bot_id, id, 'rename', $2, now() + make_interval(secs => $3), 'mark:' || id
             FROM dialogs WHERE id = $1 AND topic_state = 'open'
             ON CONFLICT (bot_id, once_key) DO UPDATE
             SET content = excluded.content, due_at = excluded.due_at, state = 'pending', attempts = 0
             WHERE posts.state NOT IN ('pending', 'sending') OR posts.content ->> 'mark' <> excluded.content ->> 'mark'",
        )
        .bind(dialog.id)
        .bind(json!({ "mark": mark }))
        .bind(QUIET)
    })
}

/// What a rename that is due asks for; none when the state has changed, or the name is right already.
pub(super) fn name(post: &Post, dialog: &Dialog) -> Option<Value> {
    let mark = wanted(dialog);
    let is_stale = post.content["mark"].as_str() != Some(mark) || mark == dialog.topic_mark;
    (!is_stale).then(|| {
        let name = compose::name_of(dialog);
        json!({ "mark": mark, "name": truncate_utf16(format!("{mark} {name}").trim_start(), compose::NAME_LIMIT) })
    })
}

/// The topic bears this mark now.
pub(super) fn shown(dialog_id: i64, mark: &str) -> Statement {
    Statement::new("UPDATE dialogs SET topic_mark = $2 WHERE id = $1").bind(dialog_id).bind(mark.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_mark_and_what_is_over_has_none() {
        assert_eq!((of("waiting", false), of("answered", false), of("waiting", true)), ("🔴", "🟢", "🤖"));
        assert_eq!((of("closed", true), of("blocked", false)), ("", ""));
    }
}
