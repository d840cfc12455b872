//! The rows of a dialog's work for Avito: its lease, its parts one at a time, and the outcome of each.
//! As with a bot's outbox, each transaction of the worker locks the dialog's row first, and then reads the next work.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    bridge::{
        common::claim::Claim,
        operator::edits,
        rows::{
            bot_outbox,
            receipts::{make_due_for_receipts, make_outboxes_due, receipt},
        },
    },
    planned,
    platform::db::{DbError, ResultSets, Statement},
    routine,
    tenancy::accounts::{self, Keys},
};

/// The length of a lease from each claim or renewal: longer than any one call to Avito takes.
pub(super) const LEASE: Duration = Duration::from_secs(20);

/// Finds the tenant of a dialog, for [`crate::platform::db::Scope::TenantOf`].
pub fn find_tenant_of_dialog(dialog_id: i64) -> Statement {
    planned!("SELECT set_config('app.client_id', client_id::text, true) FROM dialogs WHERE id = $1").bind(dialog_id)
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
    pub(super) requested_at: Timestamp,
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
    /// The time when the lease was taken or renewed, by this process's clock.
    pub(super) leased_at: Instant,
    /// The part that is to be deleted in Avito before anything else is done.
    pub(super) part_to_delete: Option<PartToDelete>,
    /// The request to block the buyer.
    pub(super) block_request: Option<BlockRequest>,
    /// The next part, committed as `sending`. None: no part may be sent now.
    pub(super) part: Option<Part>,
}

/// Selects the dialog's next part: first one to delete in Avito, then one in `sending`, then the oldest.
macro_rules! next_part {
    () => {
        "SELECT p.id, p.state FROM parts p
         WHERE p.dialog_id = _dialog AND p.state IN ('pending', 'sending', 'deleting')
         ORDER BY p.state = 'deleting' DESC, p.state DESC, p.message_id, p.position LIMIT 1"
    };
}

/// Selects true if one of the dialog's messages has a requested change, or a `/del` that is not confirmed yet.
macro_rules! changing {
    () => {
        "SELECT EXISTS (SELECT FROM messages
                        WHERE dialog_id = _dialog AND (change_due_at IS NOT NULL OR delete_command_id IS NOT NULL))"
    };
}

/// Selects the time at which the first requested change to a message of the dialog is due.
macro_rules! next_change {
    () => {
        "SELECT min(change_due_at) FROM messages WHERE dialog_id = _dialog AND change_due_at IS NOT NULL"
    };
}

/// Selects the dialog's bot if its outbox is due and no wake-up is pending: it is to be woken for receipts and notices.
macro_rules! bot_to_wake {
    ($dialog:literal) => {
        concat!(
            "SELECT outbox.bot_id FROM dialogs d JOIN bot_outboxes outbox ON outbox.bot_id = d.bot_id
             WHERE d.id = ",
            $dialog,
            " AND outbox.due_at <= now() AND NOT ",
            bot_outbox::wakeup_pending!()
        )
    };
}

/// Selects all that the dialog's next step needs, as the JSON of [`DialogWorkRow`].
macro_rules! claimed {
    () => {
        concat!(
            "SELECT json_build_object(
                 'now', now(), 'block_requested_at', d.block_requested_at, 'buyer', d.buyer, 'item', d.item,
                 'avito_chat_id', d.avito_chat_id, 'mark_read', coalesce(d.mark_read_at <= now(), false), 'keys', ",
            accounts::keys!(),
            ", 'is_suspended', a.suspended_at IS NOT NULL, 'part', CASE WHEN p.id IS NOT NULL THEN json_build_object(
                 'id', p.id, 'state', _state, 'text', coalesce(p.text, ''), 'text_key', coalesce(p.text_key, ''),
                 'attachment', p.attachment, 'sending_since', p.sending_since, 'verify_attempts', p.verify_attempts, 'attempts', p.attempts,
                 'avito_message_id', p.avito_message_id, 'is_auto_reply',
                 (SELECT m.is_auto_reply FROM messages m WHERE m.client_id = p.client_id AND m.id = p.message_id)) END)
             FROM dialogs d JOIN tenancy_accounts a ON a.avito_account_id = d.avito_account_id
             LEFT JOIN parts p ON p.id = _part
             WHERE d.id = _dialog"
        )
    };
}

/// Selects our own send if it was recorded as written in Avito's app: the message with the id `_avito_id`.
macro_rules! mistaken {
    () => {
        "SELECT m.id FROM parts p JOIN messages m
             ON m.avito_account_id = p.avito_account_id AND m.avito_message_id = _avito_id AND m.origin = 'avito_app'
         WHERE p.id = _sent"
    };
}

/// Selects true if no part of the message is left to be sent.
macro_rules! whole {
    () => {
        "SELECT NOT EXISTS (SELECT FROM parts o WHERE o.message_id = _message AND o.state NOT IN ('sent', 'cancelled', 'deleted'))"
    };
}

/// Stores that Avito has the part `_sent` as `_avito_id`. If that id was recorded as written in Avito's app, deletes
/// that message and its post. Once all parts are sent, puts the operator's receipt; an auto-reply needs a post then.
macro_rules! write_sent {
    () => {
        concat!(
            "other := (",
            mistaken!(),
            ");
             IF other IS NOT NULL THEN
                 WITH mistaken AS (
                     DELETE FROM messages m WHERE m.id = other RETURNING m.post_id
                 ), unsent AS (
                     UPDATE posts SET state = 'failed', error = 'our own answer'
                     FROM mistaken WHERE posts.id = mistaken.post_id AND posts.state = 'pending'
                 )
                 INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
                 SELECT p.client_id, p.bot_id, p.dialog_id, 'delete', jsonb_build_object('message_id', message_id), 'mirror:' || p.id
                 FROM mistaken JOIN posts p ON p.id = mistaken.post_id AND p.state IN ('sending', 'sent')
                 CROSS JOIN LATERAL unnest(p.telegram_message_ids) AS message_id
                 ON CONFLICT (bot_id, dedup_key) DO NOTHING;
             END IF;
             UPDATE parts SET state = 'sent', avito_message_id = _avito_id, error = NULL
             WHERE id = _sent AND state IN ('sending', 'sent');
             _message := (SELECT p.message_id FROM parts p WHERE p.id = _sent);
             IF (",
            whole!(),
            ") THEN
                 UPDATE messages m SET status = 'sent', needs_post = m.needs_post OR m.is_auto_reply
                 WHERE m.id = _message AND m.status IN ('sending', 'sent')
                 RETURNING m.is_auto_reply INTO shown;
             END IF;
             IF shown IS NOT NULL THEN
                 ",
            receipt!("👌", "(SELECT * FROM messages m WHERE m.id = _message) AS whole", ""),
            ";
                 IF shown THEN",
            make_outboxes_due!("messages WHERE id = _message"),
            ";
                 ELSIF FOUND THEN",
            make_due_for_receipts!("messages WHERE id = _message"),
            ";
                 END IF;
             END IF"
        )
    };
}

/// The parameters of the stored function of [`claim_dialog_work`], and its result.
const CLAIM_PARAMETERS: &str =
    "(_dialog bigint, _owner uuid, _lease_seconds double precision, _tells boolean, _sent bigint, _avito_id text,
      _part bigint DEFAULT NULL, _state text DEFAULT NULL, _message bigint DEFAULT NULL)
     RETURNS json";
/// Stores `_sent`, takes or renews the lease, applies due changes, and sets the next part to `sending`; with nothing to
/// do it releases the lease. Lock order: the dialog, then the bot's outbox.
const CLAIM: &str = concat!(
    "DECLARE
         due boolean;
         to_read boolean;
         to_block boolean;
         due_at timestamptz;
         other bigint;
         shown boolean;
         bot_to_wake bigint;
     BEGIN
         IF _sent IS NOT NULL THEN
             -- stored even if another worker has the lease by now: Avito has the part
             PERFORM FROM dialogs d WHERE d.id = _dialog FOR NO KEY UPDATE;
             ",
    write_sent!(),
    ";
         END IF;
         SELECT d.send_at <= now(), d.mark_read_at <= now(), d.block_requested_at IS NOT NULL
         INTO due, to_read, to_block FROM dialogs AS d
         WHERE d.id = _dialog AND (d.lease_owner IS NULL OR d.lease_owner = _owner OR d.lease_until < now())
           AND (d.lease_owner = _owner OR d.send_at <= now() OR d.mark_read_at <= now())
         FOR NO KEY UPDATE;
         IF NOT FOUND THEN
             IF _tells THEN
                 bot_to_wake := (",
    bot_to_wake!("_dialog"),
    ");
             END IF;
             RETURN json_build_object('bot_id', bot_to_wake, 'outcome',
                 (SELECT 'lease_taken' FROM dialogs AS d
                  WHERE d.id = _dialog AND d.lease_owner <> _owner AND d.lease_until >= now()
                    AND (d.send_at <= now() OR d.mark_read_at <= now())));
         END IF;
         IF (",
    changing!(),
    ") THEN
             ",
    edits::apply!(),
    ";
             ",
    edits::confirm!(),
    ";
             _tells := true;
         END IF;
         IF _tells THEN
             bot_to_wake := (",
    bot_to_wake!("_dialog"),
    ");
         END IF;
         SELECT next.id, next.state INTO _part, _state FROM (",
    next_part!(),
    ") AS next;
         IF _part IS NULL AND NOT coalesce(to_read, false) AND NOT to_block THEN
             due_at := (",
    next_change!(),
    ");
             UPDATE dialogs AS d SET lease_owner = NULL, lease_until = NULL, send_at = due_at WHERE d.id = _dialog;
             RETURN json_build_object('outcome', 'idle', 'wake_in', extract(epoch FROM due_at - now()), 'bot_id', bot_to_wake);
         END IF;
         UPDATE dialogs AS d SET lease_owner = _owner, lease_until = now() + make_interval(secs => _lease_seconds)
         WHERE d.id = _dialog;
         IF _state <> 'deleting' AND (to_block OR NOT coalesce(due, false)) THEN
             _part := NULL;
         ELSIF _state = 'pending' THEN
             UPDATE parts AS p SET state = 'sending', sending_since = now() WHERE p.id = _part;
         END IF;
         RETURN json_build_object('outcome', 'claimed', 'bot_id', bot_to_wake, 'work', (",
    claimed!(),
    "));
     END"
);

/// A part that Avito has.
pub(super) struct SentPart {
    /// The row in `parts`.
    pub(super) part_id: i64,
    /// Avito's id of its message.
    pub(super) avito_message_id: String,
}

/// Builds the transaction that stores `outcome` or the `sent` part and claims the next work, or releases the lease. It
/// also returns the bot to wake, if the outcome or the claim created a receipt or a notice. A claim does so for an
/// answer that was deleted before it was sent.
pub(super) fn claim_dialog_work(
    dialog_id: i64,
    owner: Uuid,
    outcome: Vec<Statement>,
    sent: Option<SentPart>,
) -> Vec<Statement> {
    let mut statements = outcome;
    let has_outcome = !statements.is_empty() || sent.is_some();
    let (part_id, avito_message_id) = sent.map(|sent| (sent.part_id, sent.avito_message_id)).unzip();
    statements.push(
        routine!(
            CLAIM_PARAMETERS,
            CLAIM,
            [mistaken!(), whole!(), next_part!(), changing!(), next_change!(), bot_to_wake!("_dialog"), claimed!()]
        )
        .bind(dialog_id)
        .bind(owner)
        .bind(LEASE.as_secs_f64())
        .bind(has_outcome)
        .bind(part_id)
        .bind(avito_message_id),
    );
    statements
}

/// Reads the result of [`claim_dialog_work`]: the claim, and the bot to wake.
pub(super) fn read(results: &ResultSets) -> Result<(Claim<DialogWork>, Option<i64>), DbError> {
    Claim::read(results)
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
    state: String,
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
            Some(part) if part.state == "deleting" => (Some(part.into()), None),
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
            outcome_unknown: self.state == "sending",
            sending_since: self.sending_since.unwrap_or(now),
            verify_attempts: self.verify_attempts,
            attempts: self.attempts,
            is_auto_reply: self.is_auto_reply,
        }
    }
}

/// Selects the bot to wake for a dialog's receipts and notices. No row: its outbox is not due, or a wake-up is pending.
pub(super) fn select_bot_to_wake(dialog_id: i64) -> Statement {
    planned!(bot_to_wake!("$1")).bind(dialog_id)
}

/// Marks a part and the unsent rest of its message as failed for good. A notice in the topic reports it; `{id}` in the
/// notice becomes the message's id.
pub(super) fn mark_part_failed(part_id: i64, error: String, notice: &Value) -> Vec<Statement> {
    vec![
        Statement::new(
            "UPDATE parts o SET state = 'failed', error = $2 FROM parts p
             WHERE p.id = $1 AND o.message_id = p.message_id AND o.state IN ('pending', 'sending')",
        )
        .bind(part_id)
        .bind(error.clone()),
        Statement::new(concat!(
            "WITH whole AS (
                 UPDATE messages m SET status = 'failed', error = $2 FROM parts p
                 WHERE p.id = $1 AND m.id = p.message_id RETURNING m.*, p.sending_since
             ), receipt AS (",
            receipt!("💔", "whole"),
            "), notice AS (
                 INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
                 SELECT client_id, bot_id, dialog_id, 'notice',
                        jsonb_strip_nulls(replace($3::text, '{id}', id::text)::jsonb
                                          || jsonb_build_object('reply_to', telegram_message_id)),
                        format('refused:%s:%s', id, extract(epoch FROM sending_since))
                 FROM whole ON CONFLICT (bot_id, dedup_key) DO NOTHING
                 RETURNING bot_id, client_id
             )",
            make_outboxes_due!("notice")
        ))
        .bind(part_id)
        .bind(error)
        .bind(notice.to_string()),
    ]
}

/// Sets a part back to `pending`: Avito certainly does not have it.
pub(super) fn requeue_part(part_id: i64) -> Statement {
    Statement::new("UPDATE parts SET state = 'pending', attempts = attempts + 1 WHERE id = $1 AND state = 'sending'")
        .bind(part_id)
}

/// Counts a verification that did not find the part.
pub(super) fn count_verification(part_id: i64) -> Statement {
    Statement::new("UPDATE parts SET verify_attempts = verify_attempts + 1 WHERE id = $1 AND state = 'sending'")
        .bind(part_id)
}

/// Starts the sending of a part anew: no verification found it, so Avito does not have it. No row: it is not `sending`.
pub(super) fn restart_sending(part_id: i64) -> Statement {
    Statement::new(
        "UPDATE parts SET sending_since = now(), verify_attempts = 0, attempts = attempts + 1 WHERE id = $1 AND state = 'sending'
         RETURNING sending_since",
    )
    .bind(part_id)
}

/// Clears the request to mark the chat read: it is done, or Avito refuses it.
pub(super) fn clear_mark_read(dialog_id: i64) -> Statement {
    Statement::new("UPDATE dialogs SET mark_read_at = NULL WHERE id = $1 AND mark_read_at <= now()").bind(dialog_id)
}

/// Renews the lease. No row: another worker has taken it.
pub(super) fn renew_lease(dialog_id: i64, owner: Uuid) -> Statement {
    Statement::new(
        "UPDATE dialogs SET lease_until = now() + make_interval(secs => $3) WHERE id = $1 AND lease_owner = $2
         RETURNING id",
    )
    .bind(dialog_id)
    .bind(owner)
    .bind(LEASE.as_secs_f64())
}

/// Selects the sealed token of the bot that received a part's message: Telegram gives no other bot its files.
pub(super) fn select_bot_token(part_id: i64) -> Statement {
    Statement::new(
        "SELECT r.token FROM parts p JOIN messages m ON m.id = p.message_id JOIN tenancy_bots r ON r.bot_id = m.bot_id
         WHERE p.id = $1",
    )
    .bind(part_id)
}

/// Releases the lease. The dialog is due again after `seconds`.
pub(super) fn release_for(dialog_id: i64, owner: Uuid, seconds: f64) -> Statement {
    planned!(
        "UPDATE dialogs SET lease_owner = NULL, lease_until = NULL,
                send_at = CASE WHEN send_at IS NOT NULL THEN now() + make_interval(secs => $3) END,
                mark_read_at = CASE WHEN mark_read_at <= now() THEN now() + make_interval(secs => $3) ELSE mark_read_at END
         WHERE id = $1 AND lease_owner = $2",
    )
    .bind(dialog_id)
    .bind(owner)
    .bind(seconds)
}

/// Selects those of these Avito ids that a part or a message of the account already has. Messages that were recorded as
/// written in Avito's app do not count: one of them may be the part.
pub(super) fn select_known_ids(account_id: i64, ids: Vec<String>) -> Statement {
    Statement::new(
        "SELECT avito_message_id FROM parts WHERE avito_account_id = $1 AND avito_message_id = ANY($2)
         UNION SELECT avito_message_id FROM messages
         WHERE avito_account_id = $1 AND avito_message_id = ANY($2) AND origin <> 'avito_app'",
    )
    .bind(account_id)
    .bind(ids)
}
