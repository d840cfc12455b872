//! Calls of the Bot API: a post's kind decides the method, its content the parameters.

use std::sync::atomic::Ordering;

use frankenstein::{
    AsyncTelegramApi,
    methods::{
        CloseForumTopicParams, DeleteForumTopicParams, DeleteMessageParams, EditForumTopicParams,
        EditMessageTextParams, PinChatMessageParams, ReopenForumTopicParams, SetMessageReactionParams,
    },
    types::{ReactionType, ReactionTypeEmoji},
};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{
    files::Files,
    params::{message, narrow},
};
use crate::{
    bridge::{
        common::post_kind,
        to_telegram::{
            sender::TelegramSender,
            work::{Post, Target},
        },
    },
    telegram::{
        Error, Sent,
        text::{TEXT_LIMIT, truncate_utf16},
    },
};

fn number(content: &Value, field: &str) -> i64 {
    content.get(field).and_then(Value::as_i64).unwrap_or_default()
}

impl TelegramSender<'_> {
    /// Makes the call of a post. Returns the ids of the messages that appeared.
    pub(in crate::bridge::to_telegram) async fn call(
        &self,
        post: &Post,
        target: Target,
        files: Files<'_>,
    ) -> Result<Vec<i64>, Error> {
        match post.kind.as_str() {
            kind if post_kind::is_media(kind) => self.send_media(post, target, files).await,
            "pin" => {
                let params = PinChatMessageParams::builder()
                    .chat_id(target.chat_id)
                    .message_id(narrow(number(&post.content, "message_id")))
                    .disable_notification(true)
                    .build();
                self.telegram.pin_chat_message(&params).await.map(|_| Vec::new())
            }
            "reaction" => {
                let emoji = post.content.get("emoji").and_then(Value::as_str).unwrap_or_default().to_owned();
                let params = SetMessageReactionParams::builder()
                    .chat_id(target.chat_id)
                    .message_id(narrow(number(&post.content, "message_id")))
                    .reaction(vec![ReactionType::Emoji(ReactionTypeEmoji { emoji })])
                    .build();
                self.telegram.set_message_reaction(&params).await.map(|_| Vec::new())
            }
            "delete" => {
                let params = DeleteMessageParams::builder()
                    .chat_id(target.chat_id)
                    .message_id(narrow(number(&post.content, "message_id")))
                    .build();
                self.telegram.delete_message(&params).await.map(|_| Vec::new())
            }
            "edit" => {
                let text = post.content.get("text").and_then(Value::as_str).unwrap_or_default();
                let params = EditMessageTextParams::builder()
                    .chat_id(target.chat_id)
                    .message_id(narrow(number(&post.content, "message_id")))
                    .text(truncate_utf16(text, TEXT_LIMIT))
                    .build();
                let edited: Result<IgnoredAny, Error> = self.telegram.call("editMessageText", &params).await;
                not_modified_is_done(edited.map(|_| ()))
            }
            "rename" => {
                let params = EditForumTopicParams::builder()
                    .chat_id(target.chat_id)
                    .message_thread_id(narrow(target.thread_id.unwrap_or_default()))
                    .name(post.content.get("name").and_then(Value::as_str).unwrap_or_default())
                    .build();
                not_modified_is_done(self.telegram.edit_forum_topic(&params).await.map(|_| ()))
            }
            "close_topic" => {
                let params = CloseForumTopicParams::builder()
                    .chat_id(target.chat_id)
                    .message_thread_id(narrow(target.thread_id.unwrap_or_default()))
                    .build();
                not_modified_is_done(self.telegram.close_forum_topic(&params).await.map(|_| ()))
            }
            "reopen_topic" => {
                let params = ReopenForumTopicParams::builder()
                    .chat_id(target.chat_id)
                    .message_thread_id(narrow(target.thread_id.unwrap_or_default()))
                    .build();
                not_modified_is_done(self.telegram.reopen_forum_topic(&params).await.map(|_| ()))
            }
            "remove_topic" => {
                let params = DeleteForumTopicParams::builder()
                    .chat_id(target.chat_id)
                    .message_thread_id(narrow(target.thread_id.unwrap_or_default()))
                    .build();
                self.telegram.delete_forum_topic(&params).await.map(|_| Vec::new())
            }
            _ => {
                let params = message(&post.content, target)?;
                let sent: Result<Sent, Error> = self.telegram.call("sendMessage", &params).await;
                sent.map(|sent| {
                    let in_no_topic = target.thread_id.is_some() && sent.message_thread_id.is_none();
                    self.topics_gone.fetch_or(in_no_topic, Ordering::Relaxed);
                    vec![sent.message_id]
                })
            }
        }
    }
}

/// Turns "not modified" into success: the message or topic is already as the call wants it.
fn not_modified_is_done(outcome: Result<(), Error>) -> Result<Vec<i64>, Error> {
    match outcome {
        Ok(()) | Err(Error::TopicNotModified | Error::MessageNotModified) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Reopens a closed topic. True: it is open now.
pub(in crate::bridge::to_telegram) async fn reopen_topic(sender: &TelegramSender<'_>, target: Target) -> bool {
    let Some(thread_id) = target.thread_id else { return false };
    let params = ReopenForumTopicParams::builder().chat_id(target.chat_id).message_thread_id(narrow(thread_id)).build();
    matches!(sender.telegram.reopen_forum_topic(&params).await, Ok(_) | Err(Error::TopicNotModified))
}
