//! Answers that their writers change or delete. Avito has no editing: a sent part is deleted there, within the hour,
//! and the new text is sent. The requested change is stored in the message. The worker that holds the dialog's lease
//! makes parts of it, and each step is a row.

use serde_json::{Value, json};

use super::outcome::{UpdateOutcome, command};
use crate::{
    bridge::{
        common::{
            text_split,
            texts::{self, Language},
            wakeups::WAKEUPS,
        },
        rows::{bot_outbox, posts},
    },
    platform::db::Statement,
    telegram::update::{Content, Message},
};

/// Avito deletes nothing older than this, seconds (Avito Messenger API, `deleteMessage`).
const MAX_DELETE_AGE: f64 = 3600.0;
/// The delay of a change to a sent answer, seconds: an operator who corrects an answer often does so twice.
const EDIT_DELAY: f64 = 3.0;

/// The reason for which an edited message is not an answer any more. None: it still is one.
fn refusal(content: &Content) -> Option<&'static str> {
    let said = match content {
        Content::Text(said) => said.trim(),
        _ => return Some(texts::only_text_changes(Language::Russian)),
    };
    let is_internal = said.is_empty() || said.starts_with("//");
    is_internal.then(|| texts::changed_into_no_answer(Language::Russian))
}

/// Handles the edit of an operator's message.
pub(super) fn handle_edit(bot_id: i64, message: &Message) -> UpdateOutcome {
    let said = message.text().unwrap_or_default().replace('\0', "");
    let why_not = refusal(&message.content)
        .or_else(|| command(message).map(|_| texts::changed_into_no_answer(Language::Russian)));
    let parts = text_split::parts_of(&said, 0);
    let change = why_not.is_none().then(|| json!({ "text": said, "parts": parts }));
    UpdateOutcome {
        statements: vec![
            cancel_change(bot_id, message, said.clone()),
            request_change(bot_id, message, said.clone(), change),
            refuse_change(bot_id, message, said, why_not),
            bot_outbox::make_due_for_posts(bot_id),
        ],
        ..UpdateOutcome::default()
    }
}

/// Cancels the requested change of an answer that has its former text again.
fn cancel_change(bot_id: i64, message: &Message, said: String) -> Statement {
    Statement::new(
        "UPDATE messages SET requested_change = NULL, change_due_at = NULL
         WHERE bot_id = $1 AND telegram_chat_id = $2 AND telegram_message_id = $3 AND text = $4
           AND change_due_at IS NOT NULL AND delete_command_id IS NULL",
    )
    .bind(bot_id)
    .bind(message.chat.id)
    .bind(message.message_id)
    .bind(said)
}

/// Stores the change of an answer that Avito may still delete. `change` None: the message is no answer any more, and
/// nothing is stored.
fn request_change(bot_id: i64, message: &Message, said: String, change: Option<Value>) -> Statement {
    Statement::call("request_change")
        .arg("bot_id", bot_id)
        .arg("telegram_chat_id", message.chat.id)
        .arg("telegram_message_id", message.message_id)
        .arg("text", said)
        .arg("change", change)
        .arg("edit_delay_seconds", EDIT_DELAY)
        .arg("max_delete_age_seconds", MAX_DELETE_AGE)
        .labelled(WAKEUPS)
}

/// Stores a notice that an answer cannot be changed, once for each text: for the reason `why_not`, or because Avito
/// deletes it no more.
fn refuse_change(bot_id: i64, message: &Message, said: String, why_not: Option<&str>) -> Statement {
    let notice = |why: &str| posts::notice(why, Some(message.message_id));
    Statement::new(
        "SELECT sql.put_notice(m.client_id, m.bot_id, m.dialog_id, coalesce($5, $6),
                               format('edit_refused:%s:%s', m.id, md5($4)))
         FROM messages m
         WHERE m.bot_id = $1 AND m.telegram_chat_id = $2 AND m.telegram_message_id = $3 AND m.origin = 'operator'
           AND coalesce(m.text, '') <> $4
           AND EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state <> 'cancelled')
           AND ($5 IS NOT NULL OR EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state = 'sent'
                                          AND p.sending_since < now() - make_interval(secs => $7)))",
    )
    .bind(bot_id)
    .bind(message.chat.id)
    .bind(message.message_id)
    .bind(said)
    .bind(why_not.map(notice))
    .bind(notice(texts::too_late_to_change(Language::Russian)))
    .bind(MAX_DELETE_AGE)
}

/// Handles `/del`, written as a reply to an operator's message.
pub(super) fn handle_delete_command(bot_id: i64, message: &Message) -> UpdateOutcome {
    UpdateOutcome {
        statements: vec![
            request_deletion(bot_id, message),
            refuse_deletion(bot_id, message),
            bot_outbox::make_due_for_posts(bot_id),
        ],
        ..UpdateOutcome::default()
    }
}

/// Stores that the answer to which `/del` replies is to be deleted.
fn request_deletion(bot_id: i64, message: &Message) -> Statement {
    Statement::call("request_deletion")
        .arg("bot_id", bot_id)
        .arg("telegram_chat_id", message.chat.id)
        .arg("telegram_message_id", message.answers())
        .arg("command_id", message.message_id)
        .arg("max_delete_age_seconds", MAX_DELETE_AGE)
        .labelled(WAKEUPS)
}

/// Stores a notice that `/del` replies to no answer, or to one that Avito deletes no more.
fn refuse_deletion(bot_id: i64, message: &Message) -> Statement {
    let notice = |why: &str| posts::notice(why, Some(message.message_id));
    Statement::new(
        "SELECT sql.put_notice(d.client_id, d.bot_id, d.id, CASE WHEN m.id IS NULL THEN $7 ELSE $8 END,
                               format('delete_not_possible:%s:%s', $2, $5))
         FROM dialogs d
         JOIN tenancy_bots b ON b.bot_id = $1 AND $2 IN (b.group_chat_id, b.former_group_chat_id)
         LEFT JOIN messages m ON m.bot_id = $1 AND m.telegram_chat_id = $2 AND m.telegram_message_id = $4
                             AND m.origin = 'operator'
         WHERE d.id = find_dialog($1, $2, $3, $4)
           AND (m.id IS NULL OR EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state = 'sent'
                                        AND p.sending_since < now() - make_interval(secs => $6)))",
    )
    .bind(bot_id)
    .bind(message.chat.id)
    .bind(message.thread_id)
    .bind(message.answers())
    .bind(message.message_id)
    .bind(MAX_DELETE_AGE)
    .bind(notice(texts::delete_what(Language::Russian)))
    .bind(notice(texts::too_late_to_delete(Language::Russian)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_text_that_speaks_to_the_buyer_replaces_an_answer() {
        assert!(refusal(&Content::Text("Да, <b>".to_owned())).is_none());
        for inside in ["", "  ", "// для своих", " //"] {
            assert!(refusal(&Content::Text(inside.to_owned())).is_some(), "{inside}");
        }
        assert!(refusal(&Content::Unknown).is_some());
    }
}
