//! Deletes a part in Avito, after its writer changed or deleted the answer.

use super::{
    edits,
    sender::{AvitoSender, AvitoStep, FIRST_VERIFY_DELAY, SECOND_VERIFY_DELAY},
    work::{DialogWork, PartToDelete},
};
use crate::{avito, bridge::error::BridgeError, tenancy::accounts};

impl AvitoSender<'_> {
    /// Deletes a part in Avito. Avito refuses to delete twice or too late alike, so after a refusal the chat is read.
    pub(super) async fn delete_part(
        &self,
        work: &DialogWork,
        part_to_delete: &PartToDelete,
    ) -> Result<AvitoStep, BridgeError> {
        let token = match self.token(work, None).await {
            Ok(token) => token,
            Err(next) => return Ok(next),
        };
        let (avito, user_id) = (accounts::avito(self.app), work.keys.user_id);
        let (chat_id, message_id) = (&work.avito_chat_id, &part_to_delete.avito_message_id);
        let answer = self.within(work, avito.delete_message(&token, user_id, chat_id, message_id)).await;
        let error = match answer {
            Ok(_) | Err(avito::Error::Refused { status: 404, .. }) => {
                return Ok(AvitoStep::Commit(vec![edits::mark_part_deleted(part_to_delete.part_id)]));
            }
            Err(error) => error,
        };
        tracing::warn!(dialog_id = self.dialog_id, part_id = part_to_delete.part_id, %error, "a part was not deleted");
        match error {
            avito::Error::Unauthorized { .. } => self.renew_token(work, &token).await,
            error if error.retry_in().is_some() => {
                Ok(AvitoStep::ReleaseFor(Vec::new(), error.retry_in().unwrap_or(FIRST_VERIFY_DELAY)))
            }
            error => match self.within(work, avito.messages(&token, user_id, chat_id, avito::MAX_PAGE_SIZE, 0)).await {
                Ok(list) => {
                    let is_gone =
                        |message: &avito::Message| message.id == *message_id && message.kind == avito::Kind::Deleted;
                    Ok(AvitoStep::Commit(if list.value.iter().any(is_gone) {
                        vec![edits::mark_part_deleted(part_to_delete.part_id)]
                    } else {
                        edits::mark_delete_refused(part_to_delete.part_id, error.vendor_message().unwrap_or_default())
                    }))
                }
                Err(error) => Ok(AvitoStep::ReleaseFor(Vec::new(), error.retry_in().unwrap_or(SECOND_VERIFY_DELAY))),
            },
        }
    }
}
