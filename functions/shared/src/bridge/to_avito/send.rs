//! Sends a text to Avito. Before an auto-reply it reads the chat, and checks that no person has answered.

use super::{
    outcomes::after_failure,
    sender::{AvitoSender, AvitoStep, FIRST_VERIFY_DELAY},
    work::{DialogWork, Part, SentPart},
};
use crate::{
    avito,
    bridge::{auto_reply, error::BridgeError},
    platform::{certainty::Certainty, secrets::Secret},
};

impl AvitoSender<'_> {
    pub(super) async fn send(&self, work: &DialogWork, part: &Part) -> Result<AvitoStep, BridgeError> {
        // Before the file of a picture is fetched: an account that Avito refuses sends nothing.
        if let Err(next) = self.ensure_token(work).await {
            return Ok(next);
        }
        if part.is_auto_reply
            && let Some(next) = self.check_auto_reply(work, part).await?
        {
            return Ok(next);
        }
        if let Some(picture) = &part.picture {
            return self.send_picture(work, part, picture).await;
        }
        let (user_id, chat_id, text) = (work.keys.user_id, &work.avito_chat_id, &part.text);
        let send_text =
            async |avito: &avito::Client, token: &Secret| avito.send_text(token, user_id, chat_id, text).await;
        Ok(match self.call_within_lease(work, work.leased_at, send_text).await {
            Ok(Ok(sent)) => AvitoStep::CommitSent(SentPart { part_id: part.id, avito_message_id: sent.id }),
            Ok(Err(error)) => {
                tracing::warn!(dialog_id = self.dialog_id, part_id = part.id, %error, "a part was not sent");
                after_failure(work, part, error)
            }
            Err(next) => next,
        })
    }

    /// Checks just before an auto-reply is sent that no person has answered. None: it is sent; else the step to take.
    async fn check_auto_reply(&self, work: &DialogWork, part: &Part) -> Result<Option<AvitoStep>, BridgeError> {
        let newest_first = match self.call(work, newest_messages(work)).await {
            Ok(Ok(messages)) => messages,
            Ok(Err(error)) => {
                tracing::warn!(dialog_id = self.dialog_id, %error, "a chat could not be read before an auto-reply");
                return Ok(Some(match error.certainty() {
                    Certainty::MaybeDone => work.release(Vec::new(), FIRST_VERIFY_DELAY),
                    _ => after_failure(work, part, error),
                }));
            }
            Err(next) => return Ok(Some(next)),
        };
        if !auto_reply::buyer_waits(&newest_first, work.keys.user_id) {
            return Ok(Some(AvitoStep::Commit(auto_reply::cancel(part.id))));
        }
        let results = self.run(vec![auto_reply::select_obsolete(part.id)]).await?;
        let is_obsolete = results.iter().flatten().next().is_some();
        Ok(is_obsolete.then(|| AvitoStep::Commit(auto_reply::cancel(part.id))))
    }
}

/// Returns the call that reads a chat's newest messages.
pub(super) fn newest_messages(
    work: &DialogWork,
) -> impl AsyncFn(&avito::Client, &Secret) -> Result<avito::Reply<Vec<avito::Message>>, avito::Error> {
    let (user_id, chat_id) = (work.keys.user_id, &work.avito_chat_id);
    async move |avito: &avito::Client, token: &Secret| {
        avito.messages(token, user_id, chat_id, avito::MAX_PAGE_SIZE, 0).await
    }
}
