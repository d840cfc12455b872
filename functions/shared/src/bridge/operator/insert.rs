//! Stores an operator's message with its parts, in one stored function.

use serde_json::Value;

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
    platform::db::Statement,
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
    let author = message.from.as_ref();
    let is_new = message
        .date
        .is_some_and(|date| jiff::Timestamp::now().as_second().abs_diff(date) <= MAX_NOT_YET_SECONDS.unsigned_abs());
    let row = Statement::call("store_operator_message")
        .arg("bot_id", bot_id)
        .arg("telegram_chat_id", message.chat.id)
        .arg("thread_id", message.thread_id)
        .arg("telegram_message_id", message.message_id)
        .arg("kind", kind)
        .arg("text", message.text().map(|text| text.replace('\0', "")))
        .arg("author_name", author.map(name))
        .arg("telegram_user_id", author.map(|author| author.id))
        .arg("parts", parts)
        .arg("refusal", refusal)
        .arg("media_group_id", message.media_group_id.clone())
        .arg("album_wait_seconds", message.media_group_id.as_ref().map_or(0.0, |_| pictures::ALBUM_WAIT.as_secs_f64()))
        .arg("reply_to_message_id", message.answers())
        .arg("is_forum", message.chat.is_forum)
        .arg("unowned_notice", posts::notice(texts::unowned_topic(Language::Russian), None))
        .arg("is_new", is_new)
        .labelled(WAKEUPS)
        .labelled(NOT_YET);
    UpdateOutcome { statements: vec![row], stores_topic_mode: true, ..UpdateOutcome::default() }
}

fn name(person: &Person) -> String {
    [Some(person.first_name.as_str()), person.last_name.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ")
}
