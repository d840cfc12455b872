//! Answers that their writers change or delete. Avito has no editing: a sent part is deleted there, within the hour,
//! and the new text is sent. The requested change is stored in the message. The worker that holds the dialog's lease
//! makes parts of it, and each step is a row.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    insert::insert_edited,
    outcome::{UpdateOutcome, command},
    pictures::{self, Sendable},
};
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

/// The age up to which an edited note or refused message may become an answer, seconds. The rows of an answer stay for longer.
const MAX_NEW_AGE: i64 = 48 * 3600;

/// The new content of an edited message.
struct Edited {
    /// The text, or the caption.
    said: String,
    /// Its parts, as an answer to the buyer. An error is the reason for which it is none.
    parts: Result<Value, &'static str>,
    /// The picture, by the id that stays the same. None: it has none.
    picture: Option<String>,
}

impl Edited {
    fn of(message: &Message) -> Self {
        let said = message.text().unwrap_or_default().to_owned();
        if message.media_group_id.is_some() && !said.is_empty() {
            return Self::of_captioned(message);
        }
        let is_inside = said.trim_start().starts_with("//") || command(message).is_some();
        let (parts, picture) = match &message.content {
            _ if is_inside => (Err(texts::changed_into_no_answer(Language::Russian)), None),
            Content::Text(text) if text.trim().is_empty() => {
                (Err(texts::changed_into_no_answer(Language::Russian)), None)
            }
            Content::Text(_) => (Ok(json!(text_split::parts_of(&said, 0))), None),
            Content::Media { file, .. } => match pictures::sendable(message, Language::Russian) {
                Sendable::Parts(parts) => (Ok(parts), file.as_ref().and_then(|file| file.unique_id.clone())),
                Sendable::Refused(_) => (Err(texts::only_text_and_pictures_change(Language::Russian)), None),
            },
            Content::Service(_) | Content::Unknown => {
                (Err(texts::only_text_and_pictures_change(Language::Russian)), None)
            }
        };
        Self { said, parts, picture }
    }
}

impl Edited {
    /// The new content of a picture that bears its album's caption. The caption is a message of its own and does not change.
    fn of_captioned(message: &Message) -> Self {
        let mut bare = message.clone();
        if let Content::Media { caption, .. } = &mut bare.content {
            *caption = None;
        }
        Self { said: String::new(), ..Self::of(&bare) }
    }
}

/// Handles the edit of an operator's message. What was no answer before, a note or a refused message, is sent as a new one.
pub(super) fn handle_edit(bot_id: i64, message: &Message) -> UpdateOutcome {
    if message.thread_id.or(message.answers()).is_none() {
        return UpdateOutcome::default(); // General, or talk in a group without topics
    }
    let edited = Edited::of(message);
    let mut statements = Vec::new();
    // Of an older one the rows may be forgotten: it would go to the buyer once more.
    let may_be_new = message.date.is_none_or(|date| Timestamp::now().as_second() - date < MAX_NEW_AGE);
    if let (Ok(parts), true) = (&edited.parts, may_be_new) {
        let kind = if matches!(message.content, Content::Text(_)) { "text" } else { "image" };
        statements.extend(insert_edited(bot_id, message, kind, parts.clone()).statements);
    }
    if let (Some(album), Some(caption)) = (&message.media_group_id, message.text()) {
        statements.push(refuse_caption_change(bot_id, message, album, caption));
    }
    statements.extend([
        cancel_change(bot_id, message, &edited),
        request_change(bot_id, message, &edited),
        refuse_change(bot_id, message, &edited),
        bot_outbox::make_due_for_posts(bot_id),
    ]);
    UpdateOutcome { statements, ..UpdateOutcome::default() }
}

/// Cancels the requested change of an answer that has its former text and picture again.
fn cancel_change(bot_id: i64, message: &Message, edited: &Edited) -> Statement {
    Statement::new(
        "UPDATE messages m SET requested_change = NULL, change_due_at = NULL
         WHERE m.bot_id = $1 AND m.telegram_chat_id = $2 AND m.telegram_message_id = $3 AND coalesce(m.text, '') = $4
           AND m.change_due_at IS NOT NULL AND m.delete_command_id IS NULL AND NOT sql.has_other_picture(m.id, $5)",
    )
    .bind(bot_id)
    .bind(message.chat.id)
    .bind(message.message_id)
    .bind(edited.said.clone())
    .bind(edited.picture.clone())
}

/// Stores the change of an answer that Avito may still delete. Nothing is stored if the message is no answer any more.
fn request_change(bot_id: i64, message: &Message, edited: &Edited) -> Statement {
    let change = edited.parts.as_ref().ok().map(|parts| json!({ "text": edited.said, "parts": parts }));
    Statement::call("request_change")
        .arg("bot_id", bot_id)
        .arg("telegram_chat_id", message.chat.id)
        .arg("telegram_message_id", message.message_id)
        .arg("text", edited.said.clone())
        .arg("picture", edited.picture.clone())
        .arg("change", change)
        .arg("edit_delay_seconds", EDIT_DELAY)
        .arg("max_delete_age_seconds", MAX_DELETE_AGE)
        .labelled(WAKEUPS)
}

/// Stores a notice that an answer cannot be changed, once for each text and picture: because it is no answer any more, because
/// it was cancelled or deleted, or because Avito deletes it no more.
fn refuse_change(bot_id: i64, message: &Message, edited: &Edited) -> Statement {
    let notice = |why: &str| posts::notice(why, Some(message.message_id));
    Statement::new(
        "SELECT sql.put_notice(m.client_id, m.bot_id, m.dialog_id,
                               coalesce($6::jsonb, CASE WHEN part.is_wanted THEN $7::jsonb ELSE $8 END),
                               format('edit_refused:%s:%s', m.id, md5(concat($4, $5))))
         FROM messages m CROSS JOIN LATERAL (
             SELECT bool_or(p.state NOT IN ('cancelled', 'deleted', 'deleting')) AS is_wanted,
                    bool_or(p.state = 'sent' AND p.sending_since < now() - make_interval(secs => $9)) AS is_old
             FROM parts p WHERE p.message_id = m.id
         ) AS part
         WHERE m.bot_id = $1 AND m.telegram_chat_id = $2 AND m.telegram_message_id = $3 AND m.origin = 'operator'
           AND (coalesce(m.text, '') <> $4 OR sql.has_other_picture(m.id, $5)) AND m.change_due_at IS NULL
           AND CASE WHEN $6 IS NULL THEN part.is_old OR NOT part.is_wanted ELSE part.is_wanted END",
    )
    .bind(bot_id)
    .bind(message.chat.id)
    .bind(message.message_id)
    .bind(edited.said.clone())
    .bind(edited.picture.clone())
    .bind(edited.parts.as_ref().err().map(|why| notice(why)))
    .bind(notice(texts::too_late_to_change(Language::Russian)))
    .bind(notice(texts::cancelled_before(Language::Russian)))
    .bind(MAX_DELETE_AGE)
}

/// Stores a notice that the caption of an album stays as it is, once for each text.
fn refuse_caption_change(bot_id: i64, message: &Message, album: &str, caption: &str) -> Statement {
    Statement::new(
        "SELECT sql.put_notice(m.client_id, m.bot_id, m.dialog_id, $6, format('edit_refused:%s:%s', m.id, md5($5)))
         FROM messages m
         WHERE m.bot_id = $1 AND m.telegram_chat_id = $2 AND m.telegram_message_id = $3 AND NOT EXISTS (
             SELECT FROM messages o WHERE o.bot_id = $1 AND o.telegram_chat_id = $2 AND o.media_group_id = $4 AND o.text = $5)",
    )
    .bind(bot_id)
    .bind(message.chat.id)
    .bind(message.message_id)
    .bind(album.to_owned())
    .bind(caption.to_owned())
    .bind(posts::notice(texts::caption_of_album_stays(Language::Russian), Some(message.message_id)))
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

/// Stores a notice that `/del` replies to no answer, to one that Avito deletes no more, or to one of which nothing is left.
fn refuse_deletion(bot_id: i64, message: &Message) -> Statement {
    let notice = |why: &str| posts::notice(why, Some(message.message_id));
    Statement::new(
        "SELECT sql.put_notice(d.client_id, d.bot_id, d.id,
                               CASE WHEN m.id IS NULL THEN $7::jsonb WHEN part.is_old OR part.is_forgotten THEN $8 ELSE $9 END,
                               format('delete_not_possible:%s:%s', $2, $5))
         FROM dialogs d
         JOIN tenancy_bots b ON b.bot_id = $1 AND $2 IN (b.group_chat_id, b.former_group_chat_id)
         LEFT JOIN messages m ON m.bot_id = $1 AND m.telegram_chat_id = $2 AND m.telegram_message_id = $4
                             AND m.origin = 'operator'
         CROSS JOIN LATERAL (
             SELECT coalesce(bool_or(p.state = 'sent' AND p.sending_since < now() - make_interval(secs => $6)), false) AS is_old,
                    -- The parts of an answer that was sent long ago are forgotten.
                    count(*) = 0 AND m.status IN ('sent', 'read') AS is_forgotten,
                    coalesce(bool_and(p.state IN ('cancelled', 'deleted')), true) AS is_gone
             FROM parts p WHERE p.message_id = m.id
         ) AS part
         WHERE d.id = find_dialog($1, $2, $3, $4)
           AND (m.id IS NULL OR part.is_old OR part.is_gone AND NOT EXISTS (
               -- This very command, or one before it, has deleted it.
               SELECT FROM posts o WHERE o.bot_id = $1 AND o.dedup_key = 'receipt:deleted:' || m.id))",
    )
    .bind(bot_id)
    .bind(message.chat.id)
    .bind(message.thread_id)
    .bind(message.answers())
    .bind(message.message_id)
    .bind(MAX_DELETE_AGE)
    .bind(notice(texts::delete_what(Language::Russian)))
    .bind(notice(texts::too_late_to_delete(Language::Russian)))
    .bind(notice(texts::nothing_to_delete(Language::Russian)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telegram::update::Update;

    fn edited(content: &Value) -> Edited {
        let mut message = json!({ "message_id": 5, "chat": { "id": -5 } });
        for (field, value) in content.as_object().into_iter().flatten() {
            message[field] = value.clone();
        }
        let update = Update::from_value(&json!({ "update_id": 1, "edited_message": message }));
        Edited::of(update.message().unwrap_or_else(|| panic!("a message")))
    }

    #[test]
    fn only_words_and_pictures_for_the_buyer_replace_an_answer() {
        assert!(edited(&json!({ "text": "Да, <b>" })).parts.is_ok());
        let photo = json!([{ "file_id": "a", "file_unique_id": "u", "width": 9, "height": 9 }]);
        let picture = edited(&json!({ "photo": photo, "caption": "Вот" }));
        assert_eq!(
            (picture.picture.as_deref(), picture.said.as_str(), picture.parts.is_ok()),
            (Some("u"), "Вот", true)
        );
        for inside in ["", "  ", "// для своих", " //", "/close", "/close@some_bot"] {
            assert!(edited(&json!({ "text": inside })).parts.is_err(), "{inside}");
            assert!(inside.trim().is_empty() || edited(&json!({ "photo": photo, "caption": inside })).parts.is_err());
        }
        assert!(edited(&json!({ "video": {} })).parts.is_err() && edited(&json!({})).parts.is_err());
    }
}
