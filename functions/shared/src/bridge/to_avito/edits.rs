//! Deletes in Avito what its writer changed or deleted. The requested changes of a dialog become parts in edits.sql, when the
//! worker that holds the dialog's lease claims its work. Each step is a row.

use serde_json::json;

use super::{
    send::newest_messages,
    sender::{AvitoSender, AvitoStep, SECOND_VERIFY_DELAY},
    work::{DialogWork, PartToDelete},
};
use crate::{
    avito,
    bridge::{
        common::{
            avito_rate_limit::CallPriority,
            texts::{self, Language},
        },
        error::BridgeError,
    },
    platform::{db::Statement, secrets::Secret},
};

impl AvitoSender<'_> {
    /// Deletes a part in Avito. Avito refuses to delete twice or too late alike, so after a refusal the chat is read.
    pub(super) async fn delete_part(
        &self,
        work: &DialogWork,
        part_to_delete: &PartToDelete,
    ) -> Result<AvitoStep, BridgeError> {
        let PartToDelete { part_id, avito_message_id } = part_to_delete;
        let (user_id, chat_id) = (work.keys.user_id, &work.avito_chat_id);
        let delete = async |avito: &avito::Client, token: &Secret| {
            avito.delete_message(token, user_id, chat_id, avito_message_id).await
        };
        let error = match self.call_with_own_right(CallPriority::Reply, work, delete).await {
            Ok(Ok(()) | Err(avito::Error::Refused { status: 404, .. })) => {
                return Ok(AvitoStep::Commit(vec![mark_part_deleted(*part_id)]));
            }
            Ok(Err(error)) => error,
            Err(next) => return Ok(next),
        };
        tracing::warn!(dialog_id = self.dialog_id, part_id, %error, "a part was not deleted");
        if let Some(wait) = error.retry_in() {
            return Ok(AvitoStep::ReleaseFor(Vec::new(), wait));
        }
        Ok(match self.call(work, newest_messages(work)).await {
            Ok(Ok(messages)) => {
                let is_gone =
                    |message: &avito::Message| message.id == *avito_message_id && message.kind == avito::Kind::Deleted;
                AvitoStep::Commit(vec![if messages.iter().any(is_gone) {
                    mark_part_deleted(*part_id)
                } else {
                    mark_delete_refused(*part_id, error.vendor_message().unwrap_or_default())
                }])
            }
            Ok(Err(error)) => AvitoStep::ReleaseFor(Vec::new(), error.retry_in().unwrap_or(SECOND_VERIFY_DELAY)),
            Err(next) => next,
        })
    }
}

/// Marks a part as deleted: Avito does not show it any more.
fn mark_part_deleted(part_id: i64) -> Statement {
    Statement::new("UPDATE parts SET state = 'deleted' WHERE id = $1 AND state = 'deleting'").bind(part_id)
}

/// Marks a part as sent again: Avito refused to delete it. The message gets its former text back, the parts of the new
/// text are cancelled, and a notice informs the writer.
fn mark_delete_refused(part_id: i64, reason: &str) -> Statement {
    let text = format!("{} {reason}", texts::avito_did_not_delete(Language::Russian));
    Statement::call("mark_delete_refused").arg("part_id", part_id).arg("notice", json!({ "text": text }))
}
