//! Sends a text to Avito. Before an auto-reply it reads the chat, and checks that no person has answered.

use super::{
    sender::{AvitoSender, AvitoStep, NoAnswer},
    work::{DialogWork, Part, SentPart},
};
use crate::{
    avito,
    bridge::{auto_reply, error::BridgeError},
    platform::{endings::Duty, secrets::Secret},
};

impl AvitoSender<'_> {
    pub(super) async fn send(&self, work: &DialogWork, part: &Part) -> Result<AvitoStep, BridgeError> {
        // Before the file of a picture is fetched: an account that Avito refuses sends nothing.
        match self.ensure_token(work).await {
            Ok(()) => {}
            Err(NoAnswer::Failed(error)) => return self.after_part_failure(work, part, Duty::Part, &error).await,
            Err(NoAnswer::Instead(next)) => return Ok(next),
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
        match self.call_within_lease(work, "messages.send", work.leased_at, send_text).await {
            Ok(sent) => Ok(AvitoStep::CommitSent(SentPart { part_id: part.id, avito_message_id: sent.id })),
            Err(NoAnswer::Failed(error)) => self.after_part_failure(work, part, Duty::Part, &error).await,
            Err(NoAnswer::Instead(next)) => Ok(next),
        }
    }

    /// Checks just before an auto-reply is sent that no person has answered. None: it is sent; else the step to take.
    async fn check_auto_reply(&self, work: &DialogWork, part: &Part) -> Result<Option<AvitoStep>, BridgeError> {
        let newest_first = match self.call(work, "messages.list", newest_messages(work)).await {
            Ok(messages) => messages,
            Err(NoAnswer::Failed(error)) => {
                return self.after_part_failure(work, part, Duty::Upload, &error).await.map(Some);
            }
            Err(NoAnswer::Instead(next)) => return Ok(Some(next)),
        };
        if !auto_reply::buyer_waits(&newest_first, work.keys.user_id) {
            return Ok(Some(AvitoStep::Commit(auto_reply::cancel(part.id))));
        }
        self.end_if_obsolete(part).await
    }

    /// Cancels an auto-reply that an answer made obsolete, or that is too old. None: it may still be sent.
    pub(super) async fn end_if_obsolete(&self, part: &Part) -> Result<Option<AvitoStep>, BridgeError> {
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
