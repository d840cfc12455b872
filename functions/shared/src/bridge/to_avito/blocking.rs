//! `/block`: a buyer goes on Avito's black list. The request is stored in the dialog once an operator confirmed it. The
//! worker that holds the dialog's lease carries it out.

use serde_json::json;

use super::{
    sender::{AvitoSender, AvitoStep},
    work::{BlockRequest, DialogWork},
};
use crate::{
    avito,
    bridge::{
        common::{
            avito_rate_limit::CallPriority,
            states::DialogState,
            texts::{self, Language},
        },
        error::BridgeError,
    },
    platform::{db::Statement, secrets::Secret},
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
        let error = match self.call_with_own_right(CallPriority::Reply, work, block).await {
            Ok(Ok(())) => return Ok(AvitoStep::Commit(vec![mark_blocked(self.dialog_id, block_request)])),
            Ok(Err(error)) => error,
            Err(next) => return Ok(next),
        };
        Ok(match error.retry_in() {
            Some(wait) => AvitoStep::ReleaseFor(Vec::new(), wait),
            None => AvitoStep::Commit(vec![mark_block_refused(
                self.dialog_id,
                block_request,
                error.vendor_message().unwrap_or_default(),
            )]),
        })
    }
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
