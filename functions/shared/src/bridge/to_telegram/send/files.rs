//! The files that a post's call uploads. Rows store Avito's address or id, never bytes: those are fetched just before
//! the post is sent.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::SemaphorePermit;

use super::{
    delivery_method::{DeliveryMethod, use_next_method},
    params::{addresses, next_index},
    voice,
};
use crate::{
    avito,
    bridge::{
        common::{
            avito_call::{AvitoCaller, CallError},
            avito_rate_limit::CallPriority,
            post_kind::PostKind,
            states::PostState,
        },
        error::BridgeError,
        rows::posts::{self, Requeue},
        to_telegram::{
            sender::TelegramSender,
            work::{BotWork, Post},
        },
    },
    platform::{
        db::Statement,
        endings::{Duty, Outcome, Verdict, spread},
        media::MediaError,
        secrets::Secret,
    },
    telegram::Attachment,
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

/// The longest that the files of a post are fetched for: with the call behind it, less than a lease.
const FILES_TIMEOUT: Duration = Duration::from_secs(8);
/// The longest wait for the permit to have files in memory.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(4);

/// The files that a post's call uploads, with the permit to hold them in memory.
#[derive(Default)]
pub(in crate::bridge::to_telegram) struct Files<'a> {
    pub(super) list: Vec<Attachment>,
    pub(super) seconds: Option<u32>,
    _permit: Option<SemaphorePermit<'a>>,
}

/// The result of the preparation of a post.
pub(in crate::bridge::to_telegram) enum Preparation<'a> {
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

/// Requeues a post whose files are fetched later. Its dialog is on hold until then.
fn requeue(post: &Post, wait: Duration) -> Vec<Statement> {
    let state = if post.outcome_unknown { PostState::Sending } else { PostState::Pending };
    posts::requeue_post(post.id, Requeue { state, wait_seconds: wait.as_secs_f64(), ..Requeue::AT_ONCE })
}

impl<'a> TelegramSender<'a> {
    /// Fetches the files that the post's call uploads, within eight seconds. The attempt is counted before it begins: a file that
    /// kills the process would be fetched for ever else.
    pub(in crate::bridge::to_telegram) async fn prepare(
        &self,
        work: &BotWork,
        post: &Post,
    ) -> Result<Preparation<'a>, BridgeError> {
        let method = DeliveryMethod::of(post);
        let uploads = match (post.kind, method) {
            (PostKind::Photo | PostKind::Album, DeliveryMethod::Url | DeliveryMethod::TextLine)
            | (PostKind::Voice, DeliveryMethod::TextLine) => false,
            (PostKind::Photo | PostKind::Album | PostKind::Voice, _) => true,
            _ => false,
        };
        if !uploads {
            return Ok(Preparation::Ready(Files::default()));
        }
        let Ok(permit) = tokio::time::timeout(PERMIT_TIMEOUT, self.app.media().permit()).await else {
            // Other bots of this process fetch files. That is no attempt of this post.
            return Ok(Preparation::Not(requeue(post, PERMIT_TIMEOUT)));
        };
        self.run(vec![posts::count_attempt(post.id)]).await?;
        let fetch = async {
            match post.kind {
                PostKind::Voice => self.fetch_voice(work, post, method).await,
                _ => self.fetch_pictures(post, method).await,
            }
        };
        let fetched = tokio::time::timeout(FILES_TIMEOUT, fetch).await.unwrap_or(Err(FileError::Transient));
        Ok(match fetched {
            Ok(files) => Preparation::Ready(Files { _permit: permit, ..files }),
            Err(FileError::Transient)
                if let Verdict::Wait { wait, .. } =
                    Duty::PostFiles.after(Outcome::Unknown, post.history(work.outbox.now)) =>
            {
                Preparation::Not(requeue(post, spread(wait)))
            }
            Err(_) => Preparation::Not(use_next_method(post, post.outcome_unknown).unwrap_or_default()),
        })
    }

    async fn fetch_pictures(&self, post: &Post, method: DeliveryMethod) -> Result<Files<'a>, FileError> {
        let media = self.app.media();
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
        Ok(Files { list, seconds: None, _permit: None })
    }

    /// Fetches a voice. Its address expires after an hour, so Avito is asked for it only now.
    async fn fetch_voice(&self, work: &BotWork, post: &Post, method: DeliveryMethod) -> Result<Files<'a>, FileError> {
        let keys = &work.dialog.as_ref().ok_or(FileError::Permanent)?.keys;
        let voice_id = post.content.get("voice_id").and_then(Value::as_str).ok_or(FileError::Permanent)?;
        let ask = async |avito: &avito::Client, token: &Secret| avito.voice_file(token, keys.user_id, voice_id).await;
        let address = match AvitoCaller::new(self.app, keys).call(CallPriority::Reply, None, ask).await {
            Ok(address) => address.ok_or(FileError::Permanent)?,
            Err(error) => {
                tracing::warn!(bot_id = self.bot_id, post_id = post.id, %error, "a voice could not be fetched");
                return Err(match error {
                    CallError::Avito(error) if error.retry_in().is_none() => FileError::Permanent,
                    _ => FileError::Transient,
                });
            }
        };
        let media = self.app.media();
        let mp4 = media.fetch(&address, MAX_VOICE_BYTES).await?;
        let file =
            |file_name: &str, bytes| Attachment { name: "file0".to_owned(), file_name: file_name.to_owned(), bytes };
        if method == DeliveryMethod::Document {
            return Ok(Files { list: vec![file("voice.mp4", mp4)], seconds: None, _permit: None });
        }
        let note = voice::remux(mp4).map_err(|error| {
            tracing::warn!(bot_id = self.bot_id, post_id = post.id, %error, "a voice is posted as a file");
            FileError::Permanent
        })?;
        Ok(Files { list: vec![file("voice.ogg", note.ogg.into())], seconds: Some(note.seconds), _permit: None })
    }
}
