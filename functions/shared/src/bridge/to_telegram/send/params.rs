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
    telegram::Error,
};

/// Returns an id as the type that the Bot API's library uses.
pub(super) fn narrow(id: i64) -> i32 {
    i32::try_from(id).unwrap_or_default()
}

pub(super) fn unreadable() -> Error {
    Error::Refused { code: 0, description: "a stored post cannot be read".to_owned() }
}

pub(super) fn message(content: &Value, target: Target) -> Result<SendMessageParams, Error> {
    let text = content.get("text").and_then(Value::as_str).ok_or_else(unreadable)?;
    let entities: Option<Vec<MessageEntity>> = content
        .get("entities")
        .map(|entities| serde_json::from_value(entities.clone()))
        .transpose()
        .map_err(|_| unreadable())?;
    let buttons: Option<InlineKeyboardMarkup> = content
        .get("reply_markup")
        .map(|buttons| serde_json::from_value(buttons.clone()))
        .transpose()
        .map_err(|_| unreadable())?;
    let reply = content.get("reply_to").and_then(Value::as_i64).map(|message_id| {
        ReplyParameters::builder().message_id(narrow(message_id)).allow_sending_without_reply(true).build()
    });
    Ok(SendMessageParams::builder()
        .chat_id(target.chat_id)
        .maybe_message_thread_id(target.thread_id.map(narrow))
        .text(text)
        .maybe_entities(entities)
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
    let message_id = narrow(reply_id(post)?);
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
