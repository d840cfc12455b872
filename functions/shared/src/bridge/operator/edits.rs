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
    let parts: Vec<Value> = (0..)
        .zip(text_split::split(&said, text_split::AVITO_LIMIT))
        .map(|(position, part)| json!({ "position": position, "text_key": text_split::key(&part), "text": part }))
        .collect();
    let change = why_not.is_none().then(|| json!({ "text": said, "parts": parts }));
    let forget = Statement::new(
        "UPDATE messages SET requested_change = NULL, change_due_at = NULL
         WHERE bot_id = $1 AND telegram_chat_id = $2 AND telegram_message_id = $3 AND text = $4
           AND change_due_at IS NOT NULL AND delete_command_id IS NULL",
    );
    let request = Statement::new(
        "WITH requested AS (
             UPDATE messages m
             SET requested_change = $5, change_due_at = CASE
                 WHEN EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state NOT IN ('pending', 'failed'))
                 THEN now() + make_interval(secs => $6) ELSE now() END
             WHERE m.bot_id = $1 AND m.telegram_chat_id = $2 AND m.telegram_message_id = $3 AND m.origin = 'operator'
               AND m.kind = 'text' AND m.text <> $4 AND m.delete_command_id IS NULL AND $5 IS NOT NULL
               AND EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state IN ('pending', 'sending', 'sent', 'failed'))
               AND NOT EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state = 'sent'
                               AND p.sending_since < now() - make_interval(secs => $7))
             RETURNING m.dialog_id, m.change_due_at
         )
         UPDATE dialogs d SET send_at = coalesce(d.send_at, requested.change_due_at) FROM requested WHERE d.id = requested.dialog_id
         RETURNING d.id AS dialog_id, d.send_at",
    );
    let refuse = Statement::new(
        "INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
         SELECT m.client_id, m.bot_id, m.dialog_id, 'notice', coalesce($5, $6),
                format('edit_refused:%s:%s', m.id, md5($4::text))
         FROM messages m
         WHERE m.bot_id = $1 AND m.telegram_chat_id = $2 AND m.telegram_message_id = $3 AND m.origin = 'operator'
           AND coalesce(m.text, '') <> $4
           AND EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state <> 'cancelled')
           AND ($5 IS NOT NULL OR EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state = 'sent'
                                          AND p.sending_since < now() - make_interval(secs => $7)))
         ON CONFLICT (bot_id, dedup_key) DO NOTHING",
    );
    let at =
        |statement: Statement| statement.bind(bot_id).bind(message.chat.id).bind(message.message_id).bind(said.clone());
    let notice = |why: &str| posts::notice(why, Some(message.message_id));
    UpdateOutcome {
        statements: vec![
            at(forget),
            at(request).bind(change).bind(EDIT_DELAY).bind(MAX_DELETE_AGE),
            at(refuse)
                .bind(why_not.map(notice))
                .bind(notice(texts::too_late_to_change(Language::Russian)))
                .bind(MAX_DELETE_AGE),
            bot_outbox::make_due_for_posts(bot_id),
        ],
        ..UpdateOutcome::default()
    }
}

/// Handles `/del`, written as a reply to an operator's message.
pub(super) fn handle_delete_command(bot_id: i64, message: &Message) -> UpdateOutcome {
    let request = Statement::new(
        "WITH requested AS (
             UPDATE messages m SET requested_change = '{}', change_due_at = now(), delete_command_id = $4
             WHERE m.bot_id = $1 AND m.telegram_chat_id = $2 AND m.telegram_message_id = $3 AND m.origin = 'operator'
               AND EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state IN ('pending', 'sending', 'sent', 'failed'))
               AND NOT EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state = 'sent'
                               AND p.sending_since < now() - make_interval(secs => $5))
             RETURNING m.dialog_id
         )
         UPDATE dialogs d SET send_at = now() FROM requested WHERE d.id = requested.dialog_id
         RETURNING d.id AS dialog_id, d.send_at",
    );
    let refuse = Statement::new(
        "INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
         SELECT d.client_id, d.bot_id, d.id, 'notice', CASE WHEN m.id IS NULL THEN $6 ELSE $7 END,
                format('delete_not_possible:%s:%s', $2::bigint, $4::bigint)
         FROM dialogs d
         JOIN tenancy_bots r ON r.bot_id = $1 AND $2 IN (r.group_chat_id, r.former_group_chat_id)
         LEFT JOIN messages m ON m.bot_id = $1 AND m.telegram_chat_id = $2 AND m.telegram_message_id = $3
                             AND m.origin = 'operator'
         WHERE d.id = find_dialog($1, $2, $8, $3)
           AND (m.id IS NULL OR EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state = 'sent'
                                        AND p.sending_since < now() - make_interval(secs => $5)))
         ON CONFLICT (bot_id, dedup_key) DO NOTHING",
    );
    let at = |statement: Statement| {
        statement
            .bind(bot_id)
            .bind(message.chat.id)
            .bind(message.answers())
            .bind(message.message_id)
            .bind(MAX_DELETE_AGE)
    };
    let notice = |why: &str| posts::notice(why, Some(message.message_id));
    UpdateOutcome {
        statements: vec![
            at(request),
            at(refuse)
                .bind(notice(texts::delete_what(Language::Russian)))
                .bind(notice(texts::too_late_to_delete(Language::Russian)))
                .bind(message.thread_id),
            bot_outbox::make_due_for_posts(bot_id),
        ],
        ..UpdateOutcome::default()
    }
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
