//! Stores an operator's message with its parts, in one stored function.

use serde_json::{Value, json};

use super::{
    outcome::{NOT_YET, UpdateOutcome},
    pictures,
};
use crate::{
    bridge::{
        common::{
            texts::{self, Language},
            wakeups::WAKEUPS,
        },
        rows::posts,
    },
    platform::{
        db::Statement,
        names::{cut, tidy},
    },
    telegram::update::{Message, Person},
};

/// The greatest age, in seconds, of an answer to an unknown post that Telegram is to repeat
/// ([`super::webhook::UpdateResult::NotYet`]). It is short, because Telegram delivers no other update of the bot until
/// then.
const MAX_NOT_YET_SECONDS: i64 = 15;

/// Inserts an operator's message once. A repeated update finds its row and changes nothing, but wakes the dialog again:
/// the first wake-up may be lost.
///
/// A message in a topic of the bot's group that no dialog owns gets a notice, once for each topic. In a group without
/// topics an operator may answer a post before its message id is stored. Telegram is to repeat the update then: a post
/// of the bot is `sending`, and the answer is new.
pub(super) fn insert(
    bot_id: i64,
    message: &Message,
    kind: &'static str,
    parts: Value,
    refusal: Option<Value>,
) -> UpdateOutcome {
    store(bot_id, message, kind, parts, refusal, false)
}

/// Inserts an edited message that was no answer before. If it was one, and any part of it was ever to be sent, nothing happens.
pub(super) fn insert_edited(bot_id: i64, message: &Message, kind: &'static str, parts: Value) -> UpdateOutcome {
    store(bot_id, message, kind, parts, None, true)
}

fn store(
    bot_id: i64,
    message: &Message,
    kind: &'static str,
    parts: Value,
    refusal: Option<Value>,
    is_edit: bool,
) -> UpdateOutcome {
    let author = message.from.as_ref();
    let (own_parts, caption_parts) = divide(message, parts);
    let is_new = message
        .date
        .is_some_and(|date| jiff::Timestamp::now().as_second().abs_diff(date) <= MAX_NOT_YET_SECONDS.unsigned_abs());
    let row = Statement::call("store_operator_message")
        .arg("bot_id", bot_id)
        .arg("telegram_chat_id", message.chat.id)
        .arg("thread_id", message.thread_id)
        .arg("telegram_message_id", message.message_id)
        .arg("kind", kind)
        .arg("text", message.text().filter(|_| message.media_group_id.is_none()).map(str::to_owned))
        .arg("author_name", author.and_then(name))
        .arg("telegram_user_id", author.map(|author| author.id))
        .arg("parts", json!(own_parts))
        .arg("refusal", refusal)
        .arg("caption", message.text().map(str::to_owned))
        .arg("caption_parts", json!(caption_parts))
        .arg("media_group_id", message.media_group_id.clone())
        .arg("album_wait_seconds", message.media_group_id.as_ref().map_or(0.0, |_| pictures::ALBUM_WAIT.as_secs_f64()))
        .arg("reply_to_message_id", message.answers())
        .arg("is_forum", message.chat.is_forum)
        .arg("unowned_notice", posts::notice(texts::unowned_topic(Language::Russian), None))
        .arg("left_group_notice", posts::notice(texts::left_group(Language::Russian), None))
        .arg("is_new", is_new && !is_edit)
        .arg("is_edit", is_edit)
        .labelled(WAKEUPS)
        .labelled(NOT_YET);
    UpdateOutcome { statements: vec![row], stores_topic_mode: true, ..UpdateOutcome::default() }
}

/// Divides the parts of a message into its own and those of an album's caption, which becomes a message of its own.
fn divide(message: &Message, parts: Value) -> (Vec<Value>, Vec<Value>) {
    let parts = if let Value::Array(parts) = parts { parts } else { Vec::new() };
    parts.into_iter().partition(|part| message.media_group_id.is_none() || part["kind"] == "image")
}

/// The most UTF-16 units of an operator's name; Telegram allows 64 for each of the two.
const NAME_LIMIT: usize = 129;

/// Returns a person's name. None: they have none that shows anything.
fn name(person: &Person) -> Option<String> {
    let both = [Some(person.first_name.as_str()), person.last_name.as_deref()];
    let name = tidy(&both.into_iter().flatten().collect::<Vec<_>>().join(" "));
    (!name.is_empty()).then(|| cut(&name, NAME_LIMIT).to_owned())
}
