//! Claims a dialog's next part, and commits the part that was just sent. Renews and releases the dialog's lease.
//! As with a bot's outbox, each transaction of the worker locks the dialog's row first, and then reads the next work.

use std::time::Duration;

use uuid::Uuid;

use super::{
    edits,
    work::{DialogWork, SentPart},
};
use crate::{
    bridge::{
        common::claim::Claim,
        error::BridgeError,
        rows::{
            bot_outbox,
            receipts::{make_due_for_receipts, make_outboxes_due, receipt},
        },
    },
    planned,
    platform::db::{DbError, ResultSets, Statement, get},
    routine,
    tenancy::accounts,
};

/// The length of a lease from each claim or renewal: longer than any one call to Avito takes.
pub(super) const LEASE: Duration = Duration::from_secs(20);

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

/// Selects all that the dialog's next step needs, as the JSON of [`DialogWork`].
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

/// Selects the bot to wake for a dialog's receipts and notices. No row: its outbox is not due, or a wake-up is pending.
pub(super) fn select_bot_to_wake(dialog_id: i64) -> Statement {
    planned!(bot_to_wake!("$1")).bind(dialog_id)
}

pub(super) fn read_bot_to_wake(results: &[Vec<tokio_postgres::Row>]) -> Result<Option<i64>, BridgeError> {
    let is_bot = |row: &&tokio_postgres::Row| row.columns().iter().any(|column| column.name() == "bot_id");
    Ok(results.iter().flatten().find(is_bot).map(|row| get(row, "bot_id")).transpose()?)
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

/// Sets a part back to `pending`: Avito certainly does not have it.
pub(super) fn requeue_part(part_id: i64) -> Statement {
    Statement::new("UPDATE parts SET state = 'pending', attempts = attempts + 1 WHERE id = $1 AND state = 'sending'")
        .bind(part_id)
}
