//! `/block`: a buyer goes on Avito's black list. The request is stored in the dialog once an operator confirmed it. The
//! worker that holds the dialog's lease carries it out.

use std::time::Duration;

use serde_json::json;

use super::{
    sender::{AvitoSender, AvitoStep, NoAnswer},
    work::{BlockRequest, DialogWork},
};
use crate::{
    avito,
    bridge::{
        common::{
            states::DialogState,
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

impl AvitoSender<'_> {
    /// Has Avito block the buyer. To block twice changes nothing.
    pub(super) async fn block_buyer(
        &self,
        work: &DialogWork,
        block_request: &BlockRequest,
    ) -> Result<AvitoStep, BridgeError> {
        let Some(buyer_id) = block_request.buyer_id else {
            return Ok(AvitoStep::Commit(vec![mark_block_refused(self.dialog_id, block_request, "")]));
        };
        let (user_id, item_id) = (work.keys.user_id, block_request.item_id);
        let block = async |avito: &avito::Client, token: &Secret| avito.block(token, user_id, buyer_id, item_id).await;
        let error = match self.call(work, "blacklist", block).await {
            Ok(()) => return Ok(AvitoStep::Commit(vec![mark_blocked(self.dialog_id, block_request)])),
            Err(NoAnswer::Failed(error)) => error,
            Err(NoAnswer::Instead(next)) => return Ok(next),
        };
        tracing::warn!(dialog_id = self.dialog_id, %error, "a buyer was not blocked");
        Ok(self.after_block_failure(block_request, error.outcome(), error.vendor_message().unwrap_or_default()))
    }

    /// Decides what follows when the buyer was not blocked, by Avito's fault or by ours. `reason`: Avito's words.
    pub(super) fn after_block_failure(&self, request: &BlockRequest, outcome: Outcome, reason: &str) -> AvitoStep {
        AvitoStep::Commit(vec![match Duty::Blocking.after(outcome, request.trouble.history(false)) {
            Verdict::Wait { wait, counts, .. } => postpone_block(self.dialog_id, counts, spread(wait)),
            Verdict::Plainer | Verdict::End => mark_block_refused(self.dialog_id, request, reason),
        }])
    }
}

/// Postpones the request to block a buyer. Answers go on meanwhile.
pub(super) fn postpone_block(dialog_id: i64, is_attempt: bool, wait: Duration) -> Statement {
    Statement::new(
        "UPDATE dialogs SET block_due_at = now() + make_interval(secs => $3),
                block_attempts = block_attempts + CASE WHEN $2 THEN 1 ELSE 0 END
         WHERE id = $1 AND block_requested_at IS NOT NULL",
    )
    .bind(dialog_id)
    .bind(is_attempt)
    .bind(wait.as_secs_f64())
}

/// Stores that Avito has blocked the buyer, with a notice.
fn mark_blocked(dialog_id: i64, request: &BlockRequest) -> Statement {
    finish_block(dialog_id, request, Some(DialogState::Blocked), texts::blocked(Language::Russian))
}

/// Stores that Avito has not blocked the buyer and will not, with a notice.
fn mark_block_refused(dialog_id: i64, request: &BlockRequest, reason: &str) -> Statement {
    finish_block(dialog_id, request, None, &format!("{} {reason}", texts::not_blocked(Language::Russian)))
}

fn finish_block(dialog_id: i64, request: &BlockRequest, state: Option<DialogState>, notice: &str) -> Statement {
    Statement::call("finish_block")
        .arg("dialog_id", dialog_id)
        .arg("requested_at", request.requested_at)
        .arg("state", state.map(DialogState::as_str))
        .arg("notice", json!({ "text": notice }))
}
