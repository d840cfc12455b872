//! Sends an operator's pictures to Avito: the worker that holds the dialog's lease fetches the file, checks its first
//! bytes and passes it on.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    claim, outcomes,
    sender::{AvitoSender, AvitoStep, NoAnswer},
    work::{DialogWork, Part, SentPart},
};
use crate::{
    avito,
    bridge::{
        common::texts::{self, Language},
        error::BridgeError,
    },
    platform::{
        db::{Statement, get},
        endings::{Duty, Outcome},
        media::MediaError,
        secrets::Secret,
    },
    telegram::{Error, MAX_DOWNLOAD_BYTES},
    tenancy::bots,
};

/// The longest that a picture waits until no other bot or dialog of this process has files in memory.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(2);
/// The time in which a file is fetched and uploaded. A worker has 30 s, and reads the chat and posts the picture in them as well.
const FILES_TIMEOUT: Duration = Duration::from_secs(12);

/// The call that uploads a picture, by its name among those that may be out.
const UPLOAD: &str = "images.upload";

/// Returns a picture's kind, by its first bytes, as the ending of a file name. None: Avito does not take the file.
fn ending(bytes: &[u8]) -> Option<&'static str> {
    const HEIF: [&[u8]; 8] = [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"];
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Some("jpg"),
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some("png"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("gif"),
        [b'B', b'M', ..] if bytes.len() > 26 => Some("bmp"),
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] if HEIF.iter().any(|known| brand.starts_with(known)) => {
            Some("heic")
        }
        _ => None,
    }
}

/// The reason for which a picture could not be fetched.
enum PictureError {
    /// Another attempt may succeed.
    Transient(Outcome),
    /// No attempt can succeed. The operator gets this text.
    Permanent(&'static str),
}

impl From<Error> for PictureError {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused { ref description, .. } if description.contains("too big") => {
                Self::Permanent(texts::too_large(Language::Russian))
            }
            error if error.retry_in().is_some() => Self::Transient(error.outcome()),
            _ => Self::Permanent(texts::not_handed_out(Language::Russian)),
        }
    }
}

impl From<MediaError> for PictureError {
    fn from(error: MediaError) -> Self {
        match error {
            MediaError::Unavailable => Self::Transient(Outcome::Unknown),
            MediaError::TooLarge => Self::Permanent(texts::too_large(Language::Russian)),
            MediaError::NotAllowed | MediaError::Refused(_) => {
                Self::Permanent(texts::not_handed_out(Language::Russian))
            }
        }
    }
}

/// Selects the sealed token of the bot that received a part's message: Telegram gives no other bot its files.
fn select_bot_token(part_id: i64) -> Statement {
    Statement::new(
        "SELECT r.token FROM parts p JOIN messages m ON m.id = p.message_id JOIN tenancy_bots r ON r.bot_id = m.bot_id
         WHERE p.id = $1",
    )
    .bind(part_id)
}

impl AvitoSender<'_> {
    /// Sends a picture: fetches it from Telegram, uploads it to Avito, posts it in the chat. The buyer sees only the
    /// result of the last call, so only its outcome can be unknown.
    pub(super) async fn send_picture(
        &self,
        work: &DialogWork,
        part: &Part,
        picture: &Value,
    ) -> Result<AvitoStep, BridgeError> {
        let Ok(permit) = tokio::time::timeout(PERMIT_TIMEOUT, self.app.media().permit()).await else {
            // That is no attempt of this part.
            return Ok(work.release(Vec::new(), PERMIT_TIMEOUT));
        };
        let files_until = tokio::time::Instant::now() + FILES_TIMEOUT;
        let fetched = tokio::time::timeout_at(files_until, self.fetch(part, picture)).await;
        let bytes = match fetched.unwrap_or(Ok(Err(PictureError::Transient(Outcome::Unknown))))? {
            Ok(bytes) => bytes,
            Err(PictureError::Transient(outcome)) => {
                return self.after_part_outcome(work, part, Duty::Upload, outcome, None).await;
            }
            Err(PictureError::Permanent(why)) => {
                metrics::counter!("parts_failed").increment(1);
                return Ok(picture_refused(part, "the file cannot be sent", why));
            }
        };
        let Some(ending) = ending(&bytes) else {
            let why = texts::not_taken("document", Language::Russian);
            return Ok(picture_refused(part, "not a picture that Avito takes", why));
        };
        let name = format!("picture.{ending}");
        let user_id = work.keys.user_id;
        let upload = async |avito: &avito::Client, token: &Secret| {
            avito.upload_image(token, user_id, &name, bytes.clone()).await
        };
        let uploaded = tokio::time::timeout_at(files_until, self.call(work, UPLOAD, upload)).await;
        drop(permit);
        let Ok(uploaded) = uploaded else {
            tracing::warn!(dialog_id = self.dialog_id, part_id = part.id, "a picture took too long");
            self.note_call(work, UPLOAD, &Err(&avito::Error::Unknown(None))).await?;
            return self.after_part_outcome(work, part, Duty::Upload, Outcome::Unknown, None).await;
        };
        let image_id = match uploaded {
            Ok(image_id) => image_id,
            // The buyer sees nothing of an upload, so there is nothing to verify.
            Err(NoAnswer::Failed(error)) => return self.after_part_failure(work, part, Duty::Upload, &error).await,
            Err(NoAnswer::Instead(next)) => return Ok(next),
        };
        // The fetch and the upload may have taken longer than the lease.
        let leased_at = Instant::now();
        if self.run(vec![claim::renew_lease(self.dialog_id, self.owner)]).await?.iter().flatten().next().is_none() {
            return Ok(AvitoStep::Commit(Vec::new()));
        }
        let chat_id = &work.avito_chat_id;
        let send_image =
            async |avito: &avito::Client, token: &Secret| avito.send_image(token, user_id, chat_id, &image_id).await;
        match self.call_within_lease(work, "messages.image", leased_at, send_image).await {
            Ok(sent) => Ok(AvitoStep::CommitSent(SentPart { part_id: part.id, avito_message_id: sent.id })),
            Err(NoAnswer::Failed(error)) => self.after_part_failure(work, part, Duty::Part, &error).await,
            Err(NoAnswer::Instead(next)) => Ok(next),
        }
    }

    async fn fetch(&self, part: &Part, picture: &Value) -> Result<Result<Bytes, PictureError>, BridgeError> {
        let results = self.run(vec![select_bot_token(part.id)]).await?;
        let no_file = PictureError::Permanent(texts::not_handed_out(Language::Russian));
        let (Some(row), Some(file_id)) = (results.iter().flatten().next(), picture["file_id"].as_str()) else {
            return Ok(Err(no_file));
        };
        let sealed: Vec<u8> = get(row, "token")?;
        let token = self.app.keyring().open(&sealed, bots::token_context(self.client_id))?;
        let address = match bots::telegram(self.app, token).file_address(file_id).await {
            Ok(address) => address,
            Err(error) => {
                tracing::warn!(dialog_id = self.dialog_id, part_id = part.id, %error, "a file was not found");
                return Ok(Err(error.into()));
            }
        };
        let fetched = self.app.media().fetch(address.expose(), MAX_DOWNLOAD_BYTES).await;
        Ok(fetched.map_err(|error| {
            tracing::warn!(dialog_id = self.dialog_id, part_id = part.id, %error, "a file was not fetched");
            error.into()
        }))
    }
}

/// Gives up a part whose file is no picture that Avito takes, with the reason for the operator.
fn picture_refused(part: &Part, error: &str, why: &str) -> AvitoStep {
    let notice = json!({ "text": why });
    AvitoStep::Commit(vec![outcomes::mark_part_failed(part.id, error.to_owned(), &notice)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pictures_are_recognised_by_their_first_bytes() {
        assert_eq!(ending(b"\xff\xd8\xff\xe0rest"), Some("jpg"));
        assert_eq!(ending(b"\x89PNG\r\n\x1a\nrest"), Some("png"));
        assert_eq!(ending(b"GIF89a"), Some("gif"));
        assert_eq!(ending(b"\0\0\0\x18ftypheic\0\0"), Some("heic"));
        assert_eq!(ending(b"\0\0\0\x18ftypisom\0\0"), None);
        assert_eq!(ending(b"BM"), None);
        assert_eq!(ending(b"%PDF-1.7"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_known_ending_or_none(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(ending(&bytes).is_none_or(|ending| !ending.is_empty()));
        }
    }
}
