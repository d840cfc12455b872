//! The work of a dialog, as a claim returns it: the keys of its account, the next part, a part to delete, a buyer to
//! block.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    bridge::common::{outage::Outage, states::PartState},
    platform::endings::History,
    tenancy::accounts::Keys,
};

/// The failures of one thing so far, as its row counts them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    /// The attempts that failed.
    pub(super) attempts: u32,
    /// The time of the first failure. None: there was none.
    pub(super) since: Option<Timestamp>,
    /// The time since then.
    pub(super) failing_for: Duration,
}

impl Trouble {
    fn of(attempts: i32, since: Option<Timestamp>, now: Timestamp) -> Self {
        let failing_for = since.map(|since| Duration::try_from(now.duration_since(since)).unwrap_or_default());
        Self { attempts: attempts.unsigned_abs(), since, failing_for: failing_for.unwrap_or_default() }
    }

    /// The history for the table of waits and ends.
    pub(super) fn history(self, has_witness: bool) -> History {
        History { attempts: self.attempts, failing_for: self.failing_for, has_witness, ..History::default() }
    }
}

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
    /// The failed attempts to send it.
    pub(super) trouble: Trouble,
    /// The failed attempts to read the chat for it.
    pub(super) verify_trouble: Trouble,
    /// True if it is an auto-reply: it is sent only while no person has answered.
    pub(super) is_auto_reply: bool,
}

/// A part that is to be deleted in Avito.
pub(super) struct PartToDelete {
    /// The row in `parts`.
    pub(super) part_id: i64,
    /// Avito's id of the message.
    pub(super) avito_message_id: String,
    /// The time when the message was sent.
    pub(super) sent_at: Timestamp,
    /// The failed attempts to delete it.
    pub(super) trouble: Trouble,
}

/// A request to block a buyer.
pub(super) struct BlockRequest {
    /// The time of the request.
    pub(super) requested_at: Timestamp,
    /// Avito's id of the buyer. None: the buyer's account is gone.
    pub(super) buyer_id: Option<i64>,
    /// Avito's id of the item that the chat is about.
    pub(super) item_id: Option<i64>,
    /// The failed attempts to block the buyer.
    pub(super) trouble: Trouble,
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
    /// The failed attempts to mark it read.
    pub(super) mark_read_trouble: Trouble,
    /// The calls of the account that fail for one dialog after the other. None: none does.
    pub(super) outage: Option<Outage>,
    /// The time since which Avito refuses the account. None: it accepts the account.
    pub(super) refused_since: Option<Timestamp>,
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
    block_attempts: i32,
    mark_read: bool,
    mark_read_attempts: i32,
    mark_read_failed_since: Option<Timestamp>,
    outage: Option<Outage>,
    refused_since: Option<Timestamp>,
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
    failed_since: Option<Timestamp>,
    verify_failures: i32,
    verify_failed_since: Option<Timestamp>,
    avito_message_id: Option<String>,
    is_auto_reply: bool,
}

impl From<DialogWorkRow> for DialogWork {
    fn from(row: DialogWorkRow) -> Self {
        let now = row.now;
        let (part_to_delete, part) = match row.part {
            Some(part) if part.state.is_to_delete() => (Some(part.into_part_to_delete(now)), None),
            part => (None, part.map(|part| part.into_part(now))),
        };
        let block_request = row.block_requested_at.map(|requested_at| BlockRequest {
            requested_at,
            buyer_id: row.buyer["id"].as_i64(),
            item_id: row.item["id"].as_i64(),
            trouble: Trouble::of(row.block_attempts, Some(requested_at), now),
        });
        Self {
            keys: row.keys,
            avito_chat_id: row.avito_chat_id,
            mark_read: row.mark_read,
            mark_read_trouble: Trouble::of(row.mark_read_attempts, row.mark_read_failed_since, now),
            outage: row.outage,
            refused_since: row.refused_since,
            is_suspended: row.is_suspended,
            now,
            leased_at: Instant::now(),
            part_to_delete,
            block_request,
            part,
        }
    }
}

impl PartRow {
    fn into_part_to_delete(self, now: Timestamp) -> PartToDelete {
        PartToDelete {
            part_id: self.id,
            avito_message_id: self.avito_message_id.unwrap_or_default(),
            sent_at: self.sending_since.unwrap_or(now),
            trouble: Trouble::of(self.attempts, self.failed_since, now),
        }
    }

    fn into_part(self, now: Timestamp) -> Part {
        Part {
            id: self.id,
            text: self.text,
            text_key: self.text_key,
            picture: self.attachment,
            outcome_unknown: self.state.is_outcome_unknown(),
            sending_since: self.sending_since.unwrap_or(now),
            verify_attempts: self.verify_attempts,
            trouble: Trouble::of(self.attempts, self.failed_since, now),
            verify_trouble: Trouble::of(self.verify_failures, self.verify_failed_since, now),
            is_auto_reply: self.is_auto_reply,
        }
    }
}
