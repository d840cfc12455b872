//! `/block`: a buyer goes on Avito's black list. The request is stored in the dialog once an operator confirmed it. The
//! worker that holds the dialog's lease carries it out.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    bridge::{
        common::texts::{self, Language},
        rows::receipts::make_outboxes_due,
    },
    platform::db::Statement,
};

/// A request to block a buyer.
pub(in crate::bridge) struct BlockRequest {
    requested_at: Timestamp,
    /// Avito's id of the buyer. None: the buyer's account is gone.
    pub(super) buyer_id: Option<i64>,
    /// Avito's id of the item that the chat is about.
    pub(super) item_id: Option<i64>,
}

impl BlockRequest {
    /// Builds the request that was made at that time, for a dialog with this buyer about this item.
    pub(super) fn of(requested_at: Timestamp, buyer: &Value, item: &Value) -> Self {
        Self { requested_at, buyer_id: buyer["id"].as_i64(), item_id: item["id"].as_i64() }
    }
}

/// Stores that Avito has blocked the buyer, with a notice.
pub(super) fn mark_blocked(dialog_id: i64, request: &BlockRequest) -> Statement {
    store_block_result(dialog_id, request, Some("blocked"), texts::blocked(Language::Russian))
}

/// Stores that Avito has not blocked the buyer and will not, with a notice.
pub(super) fn mark_block_refused(dialog_id: i64, request: &BlockRequest, reason: &str) -> Statement {
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
