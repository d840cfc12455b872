//! The parameters of calls, read from the content of a post.

use frankenstein::{
    methods::SendMessageParams,
    types::{InlineKeyboardMarkup, LinkPreviewOptions, MessageEntity, ReplyMarkup, ReplyParameters},
};
use serde_json::Value;

use crate::{
    bridge::to_telegram::{
        compose::post_text::MAX_PICTURES,
        work::{Post, Target},
    },
    platform::limits,
    telegram::Error,
};

/// Returns an id that [`check_ids`] has checked, as the type that the Bot API's library uses.
pub(super) fn narrow(id: i64) -> i32 {
    i32::try_from(id).unwrap_or_default()
}

/// Refuses a post whose topic or message has an id that the library's type cannot hold: it would be sent as another one.
pub(super) fn check_ids(post: &Post, target: Target) -> Result<(), Error> {
    let message_id = post.content.get("message_id").and_then(Value::as_i64);
    if [target.thread_id, message_id].into_iter().flatten().all(|id| i32::try_from(id).is_ok()) {
        return Ok(());
    }
    limits::count("telegram_id");
    Err(Error::Refused { code: 0, description: "an id is too large for the call".to_owned() })
}

pub(super) fn unreadable() -> Error {
    Error::Refused { code: 0, description: "a stored post cannot be read".to_owned() }
}

/// Returns the entities that stand in this field of a content. None: there are none.
pub(super) fn entities(content: &Value, field: &str) -> Result<Option<Vec<MessageEntity>>, Error> {
    let entities = content.get(field).map(|entities| serde_json::from_value(entities.clone()));
    entities.transpose().map_err(|_| unreadable())
}

pub(super) fn message(content: &Value, target: Target) -> Result<SendMessageParams, Error> {
    let text = content.get("text").and_then(Value::as_str).ok_or_else(unreadable)?;
    let buttons: Option<InlineKeyboardMarkup> = content
        .get("reply_markup")
        .map(|buttons| serde_json::from_value(buttons.clone()))
        .transpose()
        .map_err(|_| unreadable())?;
    let reply = content.get("reply_to").and_then(Value::as_i64).and_then(reply_to);
    Ok(SendMessageParams::builder()
        .chat_id(target.chat_id)
        .maybe_message_thread_id(target.thread_id.map(narrow))
        .text(text)
        .maybe_entities(entities(content, "entities")?)
        .link_preview_options(preview(content.get("preview").and_then(Value::as_str)))
        .maybe_reply_parameters(reply)
        .maybe_reply_markup(buttons.map(ReplyMarkup::InlineKeyboardMarkup))
        .build())
}

/// Returns the preview of this address, above the text. None: no preview, because links in people's texts are not
/// fetched.
fn preview(url: Option<&str>) -> LinkPreviewOptions {
    match url {
        Some(url) => LinkPreviewOptions::builder().url(url).prefer_large_media(true).show_above_text(true).build(),
        None => LinkPreviewOptions::builder().is_disabled(true).build(),
    }
}

pub(super) fn reply_id(post: &Post) -> Option<i64> {
    post.content.get("reply_to").and_then(Value::as_i64)
}

pub(super) fn reply(post: &Post) -> Option<ReplyParameters> {
    reply_to(reply_id(post)?)
}

/// Returns the parameters of a reply. None: the type of the call cannot hold the message's id.
fn reply_to(message_id: i64) -> Option<ReplyParameters> {
    let message_id = i32::try_from(message_id).ok()?;
    Some(ReplyParameters::builder().message_id(message_id).allow_sending_without_reply(true).build())
}

pub(super) fn addresses(post: &Post) -> Vec<&str> {
    let media = post.content.get("media").and_then(Value::as_array);
    media.into_iter().flatten().filter_map(Value::as_str).take(MAX_PICTURES).collect()
}

/// Returns the index of the next picture of an album that is sent one by one.
pub(super) fn next_index(post: &Post) -> usize {
    post.content
        .get("next_index")
        .and_then(Value::as_u64)
        .and_then(|index| usize::try_from(index).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::common::post_kind::PostKind;
    use serde_json::json;

    #[test]
    fn an_id_that_the_call_cannot_hold_is_never_sent_as_another_one() {
        let post = |content: Value| Post {
            id: 1,
            kind: PostKind::Delete,
            content,
            outcome_unknown: false,
            attempts: 0,
            answers_lost: 0,
            failed_since: None,
            chat_id: None,
            thread_id: None,
        };
        let target = |thread_id| Target { chat_id: -1, thread_id };
        assert!(check_ids(&post(json!({ "message_id": 5 })), target(Some(7))).is_ok());
        assert!(check_ids(&post(json!({ "message_id": 3_000_000_000_u64 })), target(None)).is_err());
        assert!(check_ids(&post(json!({})), target(Some(i64::MAX))).is_err());
        assert!(reply_to(3_000_000_000).is_none() && reply_to(5).is_some());
    }
}
