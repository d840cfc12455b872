//! Sends a text to Avito. Before an auto-reply it reads the chat, and checks that no person has answered.

use std::time::Duration;

use super::{
    claim,
    outcomes::after_failure,
    sender::{AvitoSender, AvitoStep, FIRST_VERIFY_DELAY},
    work::{DialogWork, Part, SentPart},
};
use crate::{
    avito,
    bridge::{auto_reply, common::avito_rate_limit, error::BridgeError},
    platform::secrets::Secret,
    tenancy::accounts,
};

impl AvitoSender<'_> {
    pub(super) async fn send(&self, work: &DialogWork, part: &Part) -> Result<AvitoStep, BridgeError> {
        let token = match self.token(work, None).await {
            Ok(token) => token,
            Err(next) => return Ok(next),
        };
        if part.is_auto_reply
            && let Some(next) = self.check_auto_reply(work, part, &token).await?
        {
            return Ok(next);
        }
        if work.lease_ends_too_soon() {
            return Ok(work.release(Vec::new(), Duration::ZERO));
        }
        if let Some(picture) = &part.picture {
            return self.send_picture(work, part, picture, token).await;
        }
        let (avito, user_id) = (accounts::avito(self.app), work.keys.user_id);
        let call = avito.send_text(&token, user_id, &work.avito_chat_id, &part.text);
        let mut answer = self.with_waiting_receipt(self.within(work, call)).await;
        if matches!(answer, Err(avito::Error::Unauthorized { .. })) {
            let token = match self.token(work, Some(&token)).await {
                Ok(token) => token,
                Err(next) => return Ok(next),
            };
            if work.lease_ends_too_soon() {
                return Ok(work.release(Vec::new(), Duration::ZERO));
            }
            answer = self.within(work, avito.send_text(&token, user_id, &work.avito_chat_id, &part.text)).await;
        }
        Ok(match answer {
            Ok(reply) => AvitoStep::CommitSent(SentPart { part_id: part.id, avito_message_id: reply.value.id }),
            Err(error) => {
                tracing::warn!(dialog_id = self.dialog_id, part_id = part.id, %error, "a part was not sent");
                after_failure(work, part, error)
            }
        })
    }

    /// Checks just before an auto-reply is sent that no person has answered. None: it is sent; else the step to take.
    async fn check_auto_reply(
        &self,
        work: &DialogWork,
        part: &Part,
        token: &Secret,
    ) -> Result<Option<AvitoStep>, BridgeError> {
        let (avito, user_id) = (accounts::avito(self.app), work.keys.user_id);
        let newest_first =
            match self.within(work, avito.messages(token, user_id, &work.avito_chat_id, avito::MAX_PAGE_SIZE, 0)).await
            {
                Ok(reply) => reply.value,
                Err(avito::Error::Unauthorized { .. }) => {
                    let renewed = self.token(work, Some(token)).await;
                    return Ok(Some(renewed.map_or_else(|next| next, |_| work.release(Vec::new(), Duration::ZERO))));
                }
                Err(error) => {
                    tracing::warn!(dialog_id = self.dialog_id, %error, "a chat could not be read before an auto-reply");
                    return Ok(Some(match error {
                        avito::Error::Unknown(_) | avito::Error::Unavailable { .. } => {
                            work.release(Vec::new(), FIRST_VERIFY_DELAY)
                        }
                        error => after_failure(work, part, error),
                    }));
                }
            };
        if !auto_reply::buyer_waits(&newest_first, user_id) {
            return Ok(Some(AvitoStep::Commit(auto_reply::cancel(part.id))));
        }
        let results = self.run(vec![auto_reply::select_obsolete(part.id)]).await?;
        let is_obsolete = results.iter().flatten().next().is_some();
        Ok(is_obsolete.then(|| AvitoStep::Commit(auto_reply::cancel(part.id))))
    }
}

impl DialogWork {
    /// True if another worker could take the lease before Avito answers, because to get a token took long. To send now
    /// might send twice.
    fn lease_ends_too_soon(&self) -> bool {
        self.leased_at.elapsed() + avito_rate_limit::REDIS_TIMEOUT + avito::CALL_TIMEOUT >= claim::LEASE
    }
}
