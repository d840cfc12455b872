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
use serde_json::{Value, json};

use super::{
    delivery_method::DeliveryMethod,
    files::Files,
    params::{check_ids, entities, message, narrow},
};
use crate::{
    bridge::{
        common::post_kind::PostKind,
        to_telegram::{
            compose::styled,
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

fn text<'a>(content: &'a Value, field: &str) -> &'a str {
    content.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the method of the Bot API by which a post goes.
pub(in crate::bridge::to_telegram) fn method_of(post: &Post) -> &'static str {
    match (post.kind, DeliveryMethod::of(post)) {
        (PostKind::Header | PostKind::Replay | PostKind::Text | PostKind::Mirror | PostKind::Notice, _)
        | (PostKind::Photo | PostKind::Album | PostKind::Voice | PostKind::Venue, DeliveryMethod::TextLine) => {
            "sendMessage"
        }
        (PostKind::Photo | PostKind::Album | PostKind::Voice | PostKind::Venue, DeliveryMethod::Document) => {
            "sendDocument"
        }
        (PostKind::Album, DeliveryMethod::Url | DeliveryMethod::Upload) => "sendMediaGroup",
        (PostKind::Photo | PostKind::Album, _) => "sendPhoto",
        (PostKind::Voice, _) => "sendVoice",
        (PostKind::Venue, _) => "sendVenue",
        (PostKind::Edit, _) => "editMessageText",
        (PostKind::Rename, _) => "editForumTopic",
        (PostKind::Pin, _) => "pinChatMessage",
        (PostKind::CloseTopic, _) => "closeForumTopic",
        (PostKind::ReopenTopic, _) => "reopenForumTopic",
        (PostKind::Delete, _) => "deleteMessage",
        (PostKind::RemoveTopic, _) => "deleteForumTopic",
        (PostKind::Reaction, _) => "setMessageReaction",
    }
}

impl TelegramSender<'_> {
    /// Makes the call of a post. Returns the ids of the messages that appeared.
    pub(in crate::bridge::to_telegram) async fn call(
        &self,
        post: &Post,
        target: Target,
        files: Files<'_>,
    ) -> Result<Vec<i64>, Error> {
        check_ids(post, target)?;
        let TelegramSender { telegram, .. } = self;
        let chat_id = target.chat_id;
        let thread_id = narrow(target.thread_id.unwrap_or_default());
        let message_id = narrow(number(&post.content, "message_id"));
        match post.kind {
            PostKind::Photo | PostKind::Album | PostKind::Voice | PostKind::Venue => {
                self.send_media(post, target, files).await
            }
            PostKind::Header | PostKind::Replay | PostKind::Text | PostKind::Mirror | PostKind::Notice => {
                self.send_text(post, target).await
            }
            PostKind::Edit => {
                // Only notices are edited, and all of a notice is ours.
                let text = truncate_utf16(text(&post.content, "text"), TEXT_LIMIT);
                let entities = entities(&styled::as_ours(json!({ "text": text })), "entities")?;
                let params = EditMessageTextParams::builder().chat_id(chat_id).message_id(message_id).text(text);
                let params = params.maybe_entities(entities).build();
                let edited: Result<IgnoredAny, Error> = telegram.call("editMessageText", &params).await;
                not_modified_is_done(edited.map(|_| ()))
            }
            PostKind::Rename => {
                let name = text(&post.content, "name");
                let params =
                    EditForumTopicParams::builder().chat_id(chat_id).message_thread_id(thread_id).name(name).build();
                not_modified_is_done(telegram.edit_forum_topic(&params).await.map(|_| ()))
            }
            PostKind::Pin => {
                let pin = PinChatMessageParams::builder().chat_id(chat_id).message_id(message_id);
                telegram.pin_chat_message(&pin.disable_notification(true).build()).await.map(|_| Vec::new())
            }
            PostKind::CloseTopic => {
                let params = CloseForumTopicParams::builder().chat_id(chat_id).message_thread_id(thread_id).build();
                not_modified_is_done(telegram.close_forum_topic(&params).await.map(|_| ()))
            }
            PostKind::ReopenTopic => {
                let params = ReopenForumTopicParams::builder().chat_id(chat_id).message_thread_id(thread_id).build();
                not_modified_is_done(telegram.reopen_forum_topic(&params).await.map(|_| ()))
            }
            PostKind::Delete => {
                let params = DeleteMessageParams::builder().chat_id(chat_id).message_id(message_id).build();
                telegram.delete_message(&params).await.map(|_| Vec::new())
            }
            PostKind::RemoveTopic => {
                let params = DeleteForumTopicParams::builder().chat_id(chat_id).message_thread_id(thread_id).build();
                telegram.delete_forum_topic(&params).await.map(|_| Vec::new())
            }
            PostKind::Reaction => {
                let emoji = text(&post.content, "emoji").to_owned();
                let reaction = vec![ReactionType::Emoji(ReactionTypeEmoji { emoji })];
                let params = SetMessageReactionParams::builder().chat_id(chat_id).message_id(message_id);
                telegram.set_message_reaction(&params.reaction(reaction).build()).await.map(|_| Vec::new())
            }
        }
    }

    /// Sends a text, and notes if it did not appear in its topic: topics were switched off then.
    async fn send_text(&self, post: &Post, target: Target) -> Result<Vec<i64>, Error> {
        let params = match post.kind {
            PostKind::Notice => message(&styled::as_ours(post.content.clone()), target)?,
            _ => message(&post.content, target)?,
        };
        let sent: Sent = self.telegram.call("sendMessage", &params).await?;
        let in_no_topic = target.thread_id.is_some() && sent.message_thread_id.is_none();
        self.topics_gone.fetch_or(in_no_topic, Ordering::Relaxed);
        Ok(vec![sent.message_id])
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
