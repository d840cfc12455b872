//! Pictures, voices and locations in a topic. Each kind has delivery methods, the best first. A post that Telegram
//! refuses by one method goes by the next, down to a line of text. Rows store Avito's address or id, never bytes: those
//! are fetched just before the post is sent.

use frankenstein::{
    input_media::{InputMediaPhoto, MediaGroupInputMedia},
    methods::{
        SendDocumentParams, SendLocationParams, SendMediaGroupParams, SendPhotoParams, SendVenueParams, SendVoiceParams,
    },
    types::ReplyParameters,
};
use serde_json::{Value, json};
use tokio::sync::SemaphorePermit;

use super::{call::narrow, voice};
use crate::{
    avito,
    bridge::{
        common::{
            avito_rate_limit::{self, CallPriority},
            post_kind,
        },
        rows::posts,
        to_telegram::{
            compose::album,
            retry,
            sender::TelegramSender,
            work::{BotWork, Post, Target},
        },
    },
    platform::{db::Statement, media::MediaError, secrets::Secret},
    telegram::{Attachment, Error, Sent},
    tenancy::accounts,
};

const MEGABYTE: usize = 1024 * 1024;
/// The largest picture that Telegram takes as a photo (Bot API, "Sending files").
const MAX_PHOTO_BYTES: usize = 10 * MEGABYTE;
/// The largest picture that is posted as a file: the most that one post holds in memory, except for an album.
const MAX_FILE_BYTES: usize = 20 * MEGABYTE;
/// The most bytes that an album holds in memory.
const MAX_ALBUM_BYTES: usize = 40 * MEGABYTE;
/// The largest voice: an hour of speech. It is in memory twice.
const MAX_VOICE_BYTES: usize = 16 * MEGABYTE;
/// The number of attempts to fetch a post's files before the post goes by the next delivery method.
const FILE_ATTEMPTS: i32 = 4;

/// The delivery method of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeliveryMethod {
    /// Telegram fetches the pictures itself.
    Url,
    /// We fetch the pictures and upload them.
    Upload,
    /// As `Upload`, but each picture is a message of its own.
    OneByOne,
    /// As a voice note or a location.
    Native,
    /// As a file.
    Document,
    /// As a line of text.
    TextLine,
}

impl DeliveryMethod {
    const ALL: [(&'static str, Self); 6] = [
        ("url", Self::Url),
        ("upload", Self::Upload),
        ("one_by_one", Self::OneByOne),
        ("native", Self::Native),
        ("document", Self::Document),
        ("text_line", Self::TextLine),
    ];

    fn of(post: &Post) -> Self {
        let named = post.content.get("method").and_then(Value::as_str);
        let usual = if post_kind::is_picture(&post.kind) { Self::Url } else { Self::Native };
        Self::ALL.iter().find(|(name, _)| Some(*name) == named).map_or(usual, |(_, method)| *method)
    }

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }

    /// Returns the method to use when Telegram refuses this one. None: this is the last one.
    fn next(self, kind: &str) -> Option<Self> {
        match self {
            Self::Url => Some(Self::Upload),
            Self::Upload if kind == "album" => Some(Self::OneByOne),
            Self::Upload | Self::OneByOne => Some(Self::Document),
            Self::Native if kind == "voice" => Some(Self::Document),
            Self::Native | Self::Document => Some(Self::TextLine),
            Self::TextLine => None,
        }
    }

    /// True if one call sends all pictures.
    fn is_whole(self) -> bool {
        matches!(self, Self::Url | Self::Upload)
    }
}

/// Returns the number of messages that a post costs of the budget. An edit or a rename costs one too.
pub(in crate::bridge) fn cost(post: &Post) -> u32 {
    if matches!(post.kind.as_str(), "edit" | "rename") {
        1
    } else if post_kind::only_decorates(&post.kind) {
        0
    } else if post_kind::is_picture(&post.kind) && DeliveryMethod::of(post).is_whole() {
        u32::try_from(addresses(post).len()).unwrap_or(1).max(1)
    } else {
        1
    }
}

fn addresses(post: &Post) -> Vec<&str> {
    let media = post.content.get("media").and_then(Value::as_array);
    media.into_iter().flatten().filter_map(Value::as_str).take(album::MAX_PICTURES).collect()
}

/// Returns the index of the next picture of an album that is sent one by one.
fn next_index(post: &Post) -> usize {
    post.content
        .get("next_index")
        .and_then(Value::as_u64)
        .and_then(|index| usize::try_from(index).ok())
        .unwrap_or_default()
}

/// The files that a post's call uploads, with the permit to hold them in memory.
#[derive(Default)]
pub(in crate::bridge) struct Files<'a> {
    list: Vec<Attachment>,
    seconds: Option<u32>,
    _permit: Option<SemaphorePermit<'a>>,
}

/// The result of the preparation of a post.
pub(in crate::bridge) enum Preparation<'a> {
    /// The post can be sent now, with these files.
    Ready(Files<'a>),
    /// The post cannot be sent now. The statements postpone it, or choose the next delivery method.
    Not(Vec<Statement>),
}

/// The reason for which the files could not be fetched.
enum FileError {
    /// A later attempt may succeed.
    Transient,
    /// No attempt can succeed.
    Permanent,
}

impl From<MediaError> for FileError {
    fn from(error: MediaError) -> Self {
        if error.may_pass() { Self::Transient } else { Self::Permanent }
    }
}

impl<'a> TelegramSender<'a> {
    /// Fetches the files that the post's call uploads.
    pub(in crate::bridge) async fn prepare(&self, work: &BotWork, post: &Post) -> Preparation<'a> {
        let method = DeliveryMethod::of(post);
        let fetched = match (post.kind.as_str(), method) {
            ("photo" | "album", DeliveryMethod::Upload | DeliveryMethod::OneByOne | DeliveryMethod::Document) => {
                self.fetch_pictures(post, method).await
            }
            ("voice", DeliveryMethod::Native | DeliveryMethod::Document) => self.fetch_voice(work, post, method).await,
            _ => Ok(Files::default()),
        };
        match fetched {
            Ok(files) => Preparation::Ready(files),
            Err(FileError::Transient) if post.attempts < FILE_ATTEMPTS => {
                let wait = retry::backoff(post.attempts);
                Preparation::Not(if post.outcome_unknown {
                    posts::requeue_uncertain(post.id, wait)
                } else {
                    posts::requeue_post(post.id, true, wait)
                })
            }
            Err(_) => Preparation::Not(use_next_method(post, post.outcome_unknown).unwrap_or_default()),
        }
    }

    async fn fetch_pictures(&self, post: &Post, method: DeliveryMethod) -> Result<Files<'a>, FileError> {
        let media = self.app.media();
        let permit = media.permit().await;
        let all = addresses(post);
        let wanted = if method == DeliveryMethod::Upload {
            all.as_slice()
        } else {
            all.get(next_index(post)..=next_index(post)).ok_or(FileError::Permanent)?
        };
        let each = if method == DeliveryMethod::Document { MAX_FILE_BYTES } else { MAX_PHOTO_BYTES };
        let mut left = MAX_ALBUM_BYTES;
        let mut list = Vec::new();
        for (number, address) in wanted.iter().enumerate() {
            let bytes = media.fetch(address, each.min(left)).await?;
            left -= bytes.len();
            list.push(Attachment { name: format!("file{number}"), file_name: format!("{}.jpg", number + 1), bytes });
        }
        Ok(Files { list, seconds: None, _permit: permit })
    }

    /// Fetches a voice. Its address expires after an hour, so Avito is asked for it only now.
    async fn fetch_voice(&self, work: &BotWork, post: &Post, method: DeliveryMethod) -> Result<Files<'a>, FileError> {
        let keys = &work.dialog.as_ref().ok_or(FileError::Permanent)?.keys;
        let voice_id = post.content.get("voice_id").and_then(Value::as_str).ok_or(FileError::Permanent)?;
        let avito = accounts::avito(self.app);
        let token = accounts::access_token(self.app, keys).await.map_err(|_| FileError::Transient)?;
        let fetch_address = async |token: &Secret| {
            let call = avito.voice_file(token, keys.user_id, voice_id);
            avito_rate_limit::within(self.app, keys.account_id, CallPriority::Reply, call).await
        };
        let mut answer = fetch_address(&token).await;
        if matches!(answer, Err(avito::Error::Unauthorized { .. })) {
            let token = accounts::renewed_token(self.app, keys, &token).await.map_err(|_| FileError::Transient)?;
            answer = fetch_address(&token).await;
        }
        let address = match answer {
            Ok(reply) => reply.value.ok_or(FileError::Permanent)?,
            Err(error) => {
                tracing::warn!(bot_id = self.bot_id, post_id = post.id, %error, "a voice could not be fetched");
                return Err(if error.retry_in().is_some() { FileError::Transient } else { FileError::Permanent });
            }
        };
        let media = self.app.media();
        let permit = media.permit().await;
        let mp4 = media.fetch(&address, MAX_VOICE_BYTES).await?;
        let file =
            |file_name: &str, bytes| Attachment { name: "file0".to_owned(), file_name: file_name.to_owned(), bytes };
        if method == DeliveryMethod::Document {
            return Ok(Files { list: vec![file("voice.mp4", mp4)], seconds: None, _permit: permit });
        }
        let note = voice::remux(mp4).map_err(|error| {
            tracing::warn!(bot_id = self.bot_id, post_id = post.id, %error, "a voice is posted as a file");
            FileError::Permanent
        })?;
        Ok(Files { list: vec![file("voice.ogg", note.ogg.into())], seconds: Some(note.seconds), _permit: permit })
    }

    /// Makes the call of a picture, an album, a voice or a location.
    pub(in crate::bridge) async fn send_media(
        &self,
        post: &Post,
        target: Target,
        files: Files<'_>,
    ) -> Result<Vec<i64>, Error> {
        let method = DeliveryMethod::of(post);
        match (post.kind.as_str(), method) {
            (_, DeliveryMethod::TextLine) => self.send_text_line(post, target).await,
            (_, DeliveryMethod::Document) => {
                let params = SendDocumentParams::builder()
                    .chat_id(target.chat_id)
                    .maybe_message_thread_id(target.thread_id.map(narrow))
                    .document("attach://file0".to_owned())
                    .maybe_caption(caption(post))
                    .maybe_reply_parameters(reply(post))
                    .build();
                self.send_one("sendDocument", &params, files.list).await
            }
            ("album", DeliveryMethod::Url | DeliveryMethod::Upload) => self.send_album(post, target, files.list).await,
            ("photo" | "album", _) => {
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
                    .maybe_reply_parameters(reply(post))
                    .build();
                self.send_one("sendPhoto", &params, files.list).await
            }
            ("voice", _) => {
                let params = SendVoiceParams::builder()
                    .chat_id(target.chat_id)
                    .maybe_message_thread_id(target.thread_id.map(narrow))
                    .voice("attach://file0".to_owned())
                    .maybe_duration(files.seconds)
                    .maybe_caption(caption(post))
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
        let addresses = addresses(post).into_iter().enumerate().map(|(number, address)| {
            let media = if files.is_empty() { address.to_owned() } else { format!("attach://file{number}") };
            let caption = caption(post).filter(|_| number == 0);
            MediaGroupInputMedia::Photo(InputMediaPhoto::builder().media(media).maybe_caption(caption).build())
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
        let line = post.content.get("fallback_text").and_then(Value::as_str).map(str::to_owned);
        let text = [caption(post), line].into_iter().flatten().collect::<Vec<_>>().join("\n");
        let params = super::call::message(&posts::notice(&text, reply_id(post)), target)?;
        self.send_one("sendMessage", &params, Vec::new()).await
    }
}

fn unreadable() -> Error {
    Error::Refused { code: 0, description: "a stored post cannot be read".to_owned() }
}

/// Returns the caption of the next message of a post. Of pictures that are sent one by one only the first has it.
fn caption(post: &Post) -> Option<String> {
    post.content.get("caption").and_then(Value::as_str).filter(|_| next_index(post) == 0).map(str::to_owned)
}

fn reply_id(post: &Post) -> Option<i64> {
    post.content.get("reply_to").and_then(Value::as_i64)
}

fn reply(post: &Post) -> Option<ReplyParameters> {
    let message_id = narrow(reply_id(post)?);
    Some(ReplyParameters::builder().message_id(message_id).allow_sending_without_reply(true).build())
}

/// Has the post sent by the next delivery method. `is_uncertain`: some of its messages may be in the topic already.
/// None: no method is left.
pub(in crate::bridge) fn use_next_method(post: &Post, is_uncertain: bool) -> Option<Vec<Statement>> {
    let next = DeliveryMethod::of(post).next(&post.kind).filter(|_| post_kind::is_media(&post.kind))?;
    let mut content = post.content.clone();
    content["method"] = json!(next.as_str());
    metrics::counter!("posts_fallback_used").increment(1);
    Some(vec![posts::replace_content(post.id, content, Vec::new(), is_uncertain)])
}

/// Stores the messages that appeared: the post is done, or its next picture is due.
pub(in crate::bridge) fn after_sending_media(post: &Post, message_ids: Vec<i64>) -> Vec<Statement> {
    let pictures = addresses(post).len();
    if post.kind != "album" {
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

    fn methods(kind: &str) -> Vec<&'static str> {
        let content = json!({"media": ["https://avito.st/1.jpg"], "voice_id": "v"});
        let post = Post {
            id: 1,
            kind: kind.to_owned(),
            content,
            outcome_unknown: false,
            attempts: 0,
            chat_id: None,
            thread_id: None,
        };
        std::iter::successors(Some(DeliveryMethod::of(&post)), |method| method.next(kind))
            .map(DeliveryMethod::as_str)
            .collect()
    }

    #[test]
    fn each_kind_has_its_methods_and_all_end_in_a_text_line() {
        assert_eq!(methods("photo"), ["url", "upload", "document", "text_line"]);
        assert_eq!(methods("album"), ["url", "upload", "one_by_one", "document", "text_line"]);
        assert_eq!(methods("voice"), ["native", "document", "text_line"]);
        assert_eq!(methods("venue"), ["native", "text_line"]);
    }

    #[test]
    fn an_album_costs_one_per_picture_and_one_if_sent_one_by_one() {
        let post = |content| Post {
            id: 1,
            kind: "album".to_owned(),
            content,
            outcome_unknown: false,
            attempts: 0,
            chat_id: None,
            thread_id: None,
        };
        assert_eq!(cost(&post(json!({"media": ["a", "b", "c"]}))), 3);
        assert_eq!(cost(&post(json!({"media": ["a", "b", "c"], "method": "one_by_one"}))), 1);
    }

    #[test]
    fn a_change_of_a_message_or_of_a_name_costs_one_and_other_decorations_nothing() {
        let cost = |kind: &str| {
            let kind = kind.to_owned();
            cost(&Post {
                id: 1,
                kind,
                content: json!({}),
                outcome_unknown: false,
                attempts: 0,
                chat_id: None,
                thread_id: None,
            })
        };
        assert_eq!(["edit", "rename", "pin", "close_topic", "delete"].map(cost), [1, 1, 0, 0, 0]);
    }
}
