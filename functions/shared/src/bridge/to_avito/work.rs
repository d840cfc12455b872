//! The work of a dialog, as a claim returns it: the keys of its account, the next part, a part to delete, a buyer to
//! block.

use std::time::Instant;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{bridge::common::states::PartState, tenancy::accounts::Keys};

/// A part that is to be sent, or to be verified.
pub(super) struct Part {
    /// The row in `parts`.
    pub(super) id: i64,
    /// The text. Empty for a picture.
    pub(super) text: String,
    /// The form of the text by which the part is recognised in the chat.
    pub(super) text_key: String,
    /// The picture, `{file_id, name}`. None: the part is a text.
    pub(super) picture: Option<Value>,
    /// True if an earlier claim set it to `sending` and its outcome is unknown.
    pub(super) outcome_unknown: bool,
    /// The time when it was set to `sending`.
    pub(super) sending_since: Timestamp,
    /// The number of verifications that did not find it.
    pub(super) verify_attempts: i32,
    /// The number of attempts that did not send it.
    pub(super) attempts: i32,
    /// True if it is an auto-reply: it is sent only while no person has answered.
    pub(super) is_auto_reply: bool,
}

/// A part that is to be deleted in Avito.
pub(super) struct PartToDelete {
    /// The row in `parts`.
    pub(super) part_id: i64,
    /// Avito's id of the message.
    pub(super) avito_message_id: String,
}

/// A request to block a buyer.
pub(super) struct BlockRequest {
    /// The time of the request.
    pub(super) requested_at: Timestamp,
    /// Avito's id of the buyer. None: the buyer's account is gone.
    pub(super) buyer_id: Option<i64>,
    /// Avito's id of the item that the chat is about.
    pub(super) item_id: Option<i64>,
}

impl BlockRequest {
    /// Builds the request that was made at that time, for a dialog with this buyer about this item.
    fn of(requested_at: Timestamp, buyer: &Value, item: &Value) -> Self {
        Self { requested_at, buyer_id: buyer["id"].as_i64(), item_id: item["id"].as_i64() }
    }
}

/// The claimed work of a dialog.
#[derive(Deserialize)]
#[serde(from = "DialogWorkRow")]
pub(super) struct DialogWork {
    /// The keys of the dialog's account.
    pub(super) keys: Keys,
    /// Avito's id of the chat.
    pub(super) avito_chat_id: String,
    /// True if the chat is to be marked read now.
    pub(super) mark_read: bool,
    /// True if the account's client is suspended: nothing may be sent.
    pub(super) is_suspended: bool,
    /// The database's clock.
    pub(super) now: Timestamp,
    /// A time before the lease was taken or renewed, by this process's clock.
    pub(super) leased_at: Instant,
    /// The part that is to be deleted in Avito before anything else is done.
    pub(super) part_to_delete: Option<PartToDelete>,
    /// The request to block the buyer.
    pub(super) block_request: Option<BlockRequest>,
    /// The next part, committed as `sending`. None: no part may be sent now.
    pub(super) part: Option<Part>,
}

/// A part that Avito has.
pub(super) struct SentPart {
    /// The row in `parts`.
    pub(super) part_id: i64,
    /// Avito's id of its message.
    pub(super) avito_message_id: String,
}

/// The JSON of claimed work.
#[derive(Deserialize)]
struct DialogWorkRow {
    now: Timestamp,
    block_requested_at: Option<Timestamp>,
    #[serde(default)]
    buyer: Value,
    #[serde(default)]
    item: Value,
    avito_chat_id: String,
    mark_read: bool,
    keys: Keys,
    is_suspended: bool,
    part: Option<PartRow>,
}

/// The JSON of the next part.
#[derive(Deserialize)]
struct PartRow {
    id: i64,
    state: PartState,
    text: String,
    text_key: String,
    attachment: Option<Value>,
    sending_since: Option<Timestamp>,
    verify_attempts: i32,
    attempts: i32,
    avito_message_id: Option<String>,
    is_auto_reply: bool,
}

impl From<DialogWorkRow> for DialogWork {
    fn from(row: DialogWorkRow) -> Self {
        let DialogWorkRow { now, block_requested_at, buyer, item, avito_chat_id, mark_read, keys, is_suspended, part } =
            row;
        let (part_to_delete, part) = match part {
            Some(part) if part.state.is_to_delete() => (Some(part.into()), None),
            part => (None, part.map(|part| part.into_part(now))),
        };
        let block_request = block_requested_at.map(|requested_at| BlockRequest::of(requested_at, &buyer, &item));
        Self {
            keys,
            avito_chat_id,
            mark_read,
            is_suspended,
            now,
            leased_at: Instant::now(),
            part_to_delete,
            block_request,
            part,
        }
    }
}

impl From<PartRow> for PartToDelete {
    fn from(part: PartRow) -> Self {
        Self { part_id: part.id, avito_message_id: part.avito_message_id.unwrap_or_default() }
    }
}

impl PartRow {
    fn into_part(self, now: Timestamp) -> Part {
        Part {
            id: self.id,
            text: self.text,
            text_key: self.text_key,
            picture: self.attachment,
            outcome_unknown: self.state.is_outcome_unknown(),
            sending_since: self.sending_since.unwrap_or(now),
            verify_attempts: self.verify_attempts,
            attempts: self.attempts,
            is_auto_reply: self.is_auto_reply,
        }
    }
}
