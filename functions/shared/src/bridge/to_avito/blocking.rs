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
        common::texts::{self, Language},
        error::BridgeError,
        rows::receipts::make_outboxes_due,
    },
    platform::db::Statement,
    tenancy::accounts,
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
        let token = match self.token(work, None).await {
            Ok(token) => token,
            Err(next) => return Ok(next),
        };
        let avito = accounts::avito(self.app);
        match self.within(work, avito.block(&token, work.keys.user_id, buyer_id, block_request.item_id)).await {
            Ok(_) => Ok(AvitoStep::Commit(vec![mark_blocked(self.dialog_id, block_request)])),
            Err(avito::Error::Unauthorized { .. }) => self.renew_token(work, &token).await,
            Err(error) => Ok(match error.retry_in() {
                Some(wait) => AvitoStep::ReleaseFor(Vec::new(), wait),
                None => AvitoStep::Commit(vec![mark_block_refused(
                    self.dialog_id,
                    block_request,
                    error.vendor_message().unwrap_or_default(),
                )]),
            }),
        }
    }
}

/// Stores that Avito has blocked the buyer, with a notice.
fn mark_blocked(dialog_id: i64, request: &BlockRequest) -> Statement {
    store_block_result(dialog_id, request, Some("blocked"), texts::blocked(Language::Russian))
}

/// Stores that Avito has not blocked the buyer and will not, with a notice.
fn mark_block_refused(dialog_id: i64, request: &BlockRequest, reason: &str) -> Statement {
    store_block_result(dialog_id, request, None, &format!("{} {reason}", texts::not_blocked(Language::Russian)))
}

fn store_block_result(dialog_id: i64, request: &BlockRequest, state: Option<&'static str>, notice: &str) -> Statement {
    Statement::new(concat!(
        "WITH finished AS (
             UPDATE dialogs SET block_requested_at = NULL, state = coalesce($3, state),
                    auto_reply_scheduled_at = CASE WHEN $3 IS NULL THEN auto_reply_scheduled_at END
             WHERE id = $1 AND block_requested_at = $2
             RETURNING id, client_id, bot_id
         ), notice AS (
             INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
             SELECT client_id, bot_id, id, 'notice', $4, format('blocking:%s:%s', id, extract(epoch FROM $2))
             FROM finished ON CONFLICT (bot_id, dedup_key) DO NOTHING
             RETURNING bot_id, client_id
         )",
        make_outboxes_due!("notice")
    ))
    .bind(dialog_id)
    .bind(request.requested_at)
    .bind(state)
    .bind(json!({ "text": notice }))
}
