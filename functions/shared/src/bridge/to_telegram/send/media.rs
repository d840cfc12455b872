//! Pictures, voices and locations in a topic. Each kind has delivery methods, the best first. A post that Telegram
//! refuses by one method goes by the next, down to a line of text.

use frankenstein::{
    input_media::{InputMediaPhoto, MediaGroupInputMedia},
    methods::{
        SendDocumentParams, SendLocationParams, SendMediaGroupParams, SendPhotoParams, SendVenueParams, SendVoiceParams,
    },
    types::MessageEntity,
};
use serde_json::{Value, json};

use super::{
    delivery_method::{DeliveryMethod, use_next_method},
    files::Files,
    params::{addresses, entities, message, narrow, next_index, reply, unreadable},
};
use crate::{
    bridge::{
        common::post_kind::PostKind,
        rows::posts,
        to_telegram::{
            compose::styled,
            sender::TelegramSender,
            work::{Post, Target},
        },
    },
    platform::db::Statement,
    telegram::{Attachment, Error, Sent},
};

/// Returns the number of messages that a post costs of the budget. An edit or a rename costs one too.
pub(in crate::bridge::to_telegram) fn cost(post: &Post) -> u32 {
    let pictures = if DeliveryMethod::of(post).is_whole() { addresses(post).len() } else { 1 };
    post.kind.cost(u32::try_from(pictures).unwrap_or(1))
}

impl TelegramSender<'_> {
    /// Makes the call of a picture, an album, a voice or a location.
    pub(super) async fn send_media(&self, post: &Post, target: Target, files: Files<'_>) -> Result<Vec<i64>, Error> {
        let method = DeliveryMethod::of(post);
        match (post.kind, method) {
            (_, DeliveryMethod::TextLine) => self.send_text_line(post, target).await,
            (_, DeliveryMethod::Document) => {
                let params = SendDocumentParams::builder()
                    .chat_id(target.chat_id)
                    .maybe_message_thread_id(target.thread_id.map(narrow))
                    .document("attach://file0".to_owned())
                    .maybe_caption(caption(post))
                    .maybe_caption_entities(caption_entities(post)?)
                    .maybe_reply_parameters(reply(post))
                    .build();
                self.send_one("sendDocument", &params, files.list).await
            }
            (PostKind::Album, DeliveryMethod::Url | DeliveryMethod::Upload) => {
                self.send_album(post, target, files.list).await
            }
            (PostKind::Photo | PostKind::Album, _) => {
                let address = if method == DeliveryMethod::Url {
                    addresses(post).first().copied().ok_or_else(unreadable)?.to_owned()
                } else {
                    "attach://file0".to_owned()
                };
                let params = SendPhotoParams::builder()
                    .chat_id(target.chat_id)
                    .maybe_message_thread_id(target.thread_id.map(narrow))
                    .photo(address)
                    .maybe_caption(caption(post))
                    .maybe_caption_entities(caption_entities(post)?)
                    .maybe_reply_parameters(reply(post))
                    .build();
                self.send_one("sendPhoto", &params, files.list).await
            }
            (PostKind::Voice, _) => {
                let params = SendVoiceParams::builder()
                    .chat_id(target.chat_id)
                    .maybe_message_thread_id(target.thread_id.map(narrow))
                    .voice("attach://file0".to_owned())
                    .maybe_duration(files.seconds)
                    .maybe_caption(caption(post))
                    .maybe_caption_entities(caption_entities(post)?)
                    .maybe_reply_parameters(reply(post))
                    .build();
                self.send_one("sendVoice", &params, files.list).await
            }
            _ => self.send_venue(post, target).await,
        }
    }

    async fn send_one<P>(&self, method: &str, params: &P, files: Vec<Attachment>) -> Result<Vec<i64>, Error>
    where
        P: serde::Serialize + Sync,
    {
        let sent: Sent = if files.is_empty() {
            self.telegram.call(method, params).await?
        } else {
            self.telegram.upload(method, params, files).await?
        };
        Ok(vec![sent.message_id])
    }

    async fn send_album(&self, post: &Post, target: Target, files: Vec<Attachment>) -> Result<Vec<i64>, Error> {
        let entities = caption_entities(post)?;
        let addresses = addresses(post).into_iter().enumerate().map(|(number, address)| {
            let media = if files.is_empty() { address.to_owned() } else { format!("attach://file{number}") };
            let caption = caption(post).filter(|_| number == 0);
            let entities = entities.clone().filter(|_| caption.is_some());
            let photo = InputMediaPhoto::builder().media(media).maybe_caption(caption).maybe_caption_entities(entities);
            MediaGroupInputMedia::Photo(photo.build())
        });
        let params = SendMediaGroupParams::builder()
            .chat_id(target.chat_id)
            .maybe_message_thread_id(target.thread_id.map(narrow))
            .media(addresses.collect::<Vec<_>>())
            .maybe_reply_parameters(reply(post))
            .build();
        let sent: Vec<Sent> = if files.is_empty() {
            self.telegram.call("sendMediaGroup", &params).await?
        } else {
            self.telegram.upload("sendMediaGroup", &params, files).await?
        };
        Ok(sent.into_iter().map(|sent| sent.message_id).collect())
    }

    async fn send_venue(&self, post: &Post, target: Target) -> Result<Vec<i64>, Error> {
        let number = |field: &str| post.content.get(field).and_then(Value::as_f64).ok_or_else(unreadable);
        let text = |field: &str| post.content.get(field).and_then(Value::as_str).unwrap_or_default();
        let (latitude, longitude) = (number("latitude")?, number("longitude")?);
        if text("title").is_empty() {
            let params = SendLocationParams::builder()
                .chat_id(target.chat_id)
                .maybe_message_thread_id(target.thread_id.map(narrow))
                .latitude(latitude)
                .longitude(longitude)
                .maybe_reply_parameters(reply(post))
                .build();
            return self.send_one("sendLocation", &params, Vec::new()).await;
        }
        let params = SendVenueParams::builder()
            .chat_id(target.chat_id)
            .maybe_message_thread_id(target.thread_id.map(narrow))
            .latitude(latitude)
            .longitude(longitude)
            .title(text("title"))
            .address(text("address"))
            .maybe_reply_parameters(reply(post))
            .build();
        self.send_one("sendVenue", &params, Vec::new()).await
    }

    async fn send_text_line(&self, post: &Post, target: Target) -> Result<Vec<i64>, Error> {
        let params = message(&styled::fallback(&post.content, caption(post).is_some()), target)?;
        self.send_one("sendMessage", &params, Vec::new()).await
    }
}

/// Returns the caption of the next message of a post. Of pictures that are sent one by one only the first has it.
fn caption(post: &Post) -> Option<String> {
    post.content.get("caption").and_then(Value::as_str).filter(|_| next_index(post) == 0).map(str::to_owned)
}

fn caption_entities(post: &Post) -> Result<Option<Vec<MessageEntity>>, Error> {
    entities(&post.content, "caption_entities").map(|entities| entities.filter(|_| caption(post).is_some()))
}

/// Stores the messages that appeared: the post is done, or its next picture is due.
pub(in crate::bridge::to_telegram) fn after_sending_media(post: &Post, message_ids: Vec<i64>) -> Vec<Statement> {
    let pictures = addresses(post).len();
    if post.kind != PostKind::Album {
        return vec![posts::mark_post_sent(post.id, Some(message_ids))];
    }
    if DeliveryMethod::of(post).is_whole() {
        // Telegram posts an album whole or not at all. Should it post less, the pictures go again by the next method.
        return match use_next_method(post, true) {
            Some(again) if message_ids.len() < pictures => again,
            _ => vec![posts::mark_post_sent(post.id, Some(message_ids))],
        };
    }
    let mut content = post.content.clone();
    content["next_index"] = json!(next_index(post) + 1);
    content["method"] = json!(DeliveryMethod::OneByOne.as_str());
    let mut outcome = vec![posts::replace_content(post.id, content, message_ids, false)];
    if next_index(post) + 1 >= pictures {
        outcome.push(posts::mark_post_sent(post.id, None));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_album_costs_one_per_picture_and_one_if_sent_one_by_one() {
        let post = |content| Post {
            id: 1,
            kind: PostKind::Album,
            content,
            outcome_unknown: false,
            attempts: 0,
            answers_lost: 0,
            failed_since: None,
            chat_id: None,
            thread_id: None,
        };
        assert_eq!(cost(&post(json!({"media": ["a", "b", "c"]}))), 3);
        assert_eq!(cost(&post(json!({"media": ["a", "b", "c"], "method": "one_by_one"}))), 1);
    }

    #[test]
    fn a_change_of_a_message_or_of_a_name_costs_one_and_other_decorations_nothing() {
        let cost = |kind: PostKind| {
            cost(&Post {
                id: 1,
                kind,
                content: json!({}),
                outcome_unknown: false,
                attempts: 0,
                answers_lost: 0,
                failed_since: None,
                chat_id: None,
                thread_id: None,
            })
        };
        assert_eq!(
            [PostKind::Edit, PostKind::Rename, PostKind::Pin, PostKind::CloseTopic, PostKind::Delete].map(cost),
            [1, 1, 0, 0, 0]
        );
    }
}
