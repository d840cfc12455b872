//! Deletes in Avito what its writer changed or deleted. The requested changes of a dialog become parts in edits.sql, when the
//! worker that holds the dialog's lease claims its work. Each step is a row.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;

use super::{
    claim::Postponement,
    send::newest_messages,
    sender::{AvitoSender, AvitoStep, NoAnswer},
    work::{DialogWork, PartToDelete},
};
use crate::{
    avito,
    bridge::{
        common::{
            states::PartState,
            texts::{self, Language},
        },
        error::BridgeError,
    },
    platform::{
        db::Statement,
        endings::{Duty, Outcome, Verdict, spread},
        secrets::Secret,
    },
};

/// Avito deletes a message within an hour of its sending (Avito Messenger API, `deleteMessage`).
const DELETABLE: SignedDuration = SignedDuration::from_hours(1);

impl AvitoSender<'_> {
    /// Deletes a part in Avito. Avito refuses to delete twice or too late alike, so after a refusal the chat is read.
    pub(super) async fn delete_part(
        &self,
        work: &DialogWork,
        part_to_delete: &PartToDelete,
    ) -> Result<AvitoStep, BridgeError> {
        let PartToDelete { part_id, avito_message_id, sent_at, trouble } = part_to_delete;
        let (user_id, chat_id) = (work.keys.user_id, &work.avito_chat_id);
        let delete = async |avito: &avito::Client, token: &Secret| {
            avito.delete_message(token, user_id, chat_id, avito_message_id).await
        };
        let is_too_late = work.now.duration_since(*sent_at) >= DELETABLE;
        let error = match self.call(work, "messages.delete", delete).await {
            Ok(()) | Err(NoAnswer::Failed(avito::Error::Refused { status: 404, .. })) => {
                return Ok(AvitoStep::Commit(vec![mark_part_deleted(*part_id)]));
            }
            Err(NoAnswer::Failed(error)) => error,
            // Its turn comes too late.
            Err(NoAnswer::Instead(_)) if is_too_late => {
                return Ok(AvitoStep::Commit(vec![mark_delete_refused(*part_id, "")]));
            }
            Err(NoAnswer::Instead(next)) => return Ok(next),
        };
        tracing::warn!(dialog_id = self.dialog_id, part_id, %error, "a part was not deleted");
        if let Verdict::Wait { wait, counts, .. } = Duty::Deletion.after(error.outcome(), trouble.history(false))
            && !is_too_late
        {
            return Ok(AvitoStep::Commit(vec![postpone_deletion(*part_id, counts, spread(wait))]));
        }
        let messages = match self.call(work, "messages.list", newest_messages(work)).await {
            Ok(messages) => messages,
            Err(NoAnswer::Failed(_)) => Vec::new(),
            Err(NoAnswer::Instead(next)) => return Ok(next),
        };
        let is_gone =
            |message: &avito::Message| message.id == *avito_message_id && message.kind == avito::Kind::Deleted;
        Ok(AvitoStep::Commit(vec![if messages.iter().any(is_gone) {
            mark_part_deleted(*part_id)
        } else {
            mark_delete_refused(*part_id, error.vendor_message().unwrap_or_default())
        }]))
    }
}

/// Returns the step that follows when our own code or SQL failed for a deletion.
pub(super) fn set_deletion_aside(part_to_delete: &PartToDelete) -> AvitoStep {
    let PartToDelete { part_id, trouble, .. } = part_to_delete;
    AvitoStep::Commit(vec![match Duty::Deletion.after(Outcome::OurFault, trouble.history(false)) {
        Verdict::Wait { wait, counts, .. } => postpone_deletion(*part_id, counts, spread(wait)),
        Verdict::Plainer | Verdict::End => mark_delete_refused(*part_id, ""),
    }])
}

/// Postpones the deletion of a part. Later answers go on meanwhile.
pub(super) fn postpone_deletion(part_id: i64, is_attempt: bool, wait: Duration) -> Statement {
    Postponement { part_id, state: PartState::Deleting, is_attempt, is_verification: false, wait, is_alone: true }
        .statement()
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
