//! The way of a dialog to Avito as rows: its lease, its parts one at a time, what becomes of each.
//! As with a bot's lane, every flight of the holder takes the dialog's row first and looks then.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    blocking::Blocking,
    edits::{self, Removal},
    receipts::{receipt, wake_lanes},
    work::Released,
};
use crate::{
    planned,
    platform::db::{Answers, DbError, Statement, get},
    tenancy::accounts::Keys,
};

/// How long a lease lasts unless its holder writes; longer than any one call to Avito takes.
pub const LEASE: Duration = Duration::from_secs(20);

/// Finds the tenant of a dialog, for [`crate::platform::db::Scope::TenantOf`].
pub fn tenant_of(dialog_id: i64) -> Statement {
    planned!("SELECT set_config('app.client_id', client_id::text, true) FROM dialogs WHERE id = $1").bind(dialog_id)
}

/// A part that is to be sent, or to be looked for.
pub struct Part {
    /// The row in `parts`.
    pub id: i64,
    /// What is sent.
    pub text: String,
    /// What it is recognised by.
    pub text_key: String,
    /// The picture that it is instead of a text: `{file_id, name}`.
    pub picture: Option<Value>,
    /// Whether it was begun by an earlier flight, with an unknown outcome.
    pub begun: bool,
    /// When it was begun.
    pub since: Timestamp,
    /// How often it was looked for in vain.
    pub lookups: i32,
    /// How often Avito put it off.
    pub attempts: i32,
    /// Whether nobody wrote it: it is only sent while nobody else answers.
    pub auto_reply: bool,
}

/// What the flight found.
pub struct Outbox {
    /// The keys of the dialog's account.
    pub keys: Keys,
    /// Avito's id of the chat.
    pub avito_chat_id: String,
    /// The chat is to be marked read by now.
    pub mark_read: bool,
    /// Whether the account or its organisation may not send now.
    pub stopped: bool,
    /// The database's clock.
    pub now: Timestamp,
    /// When the lease was taken or renewed, by this process's clock.
    pub leased: Instant,
    /// What is to disappear from Avito before anything else is sent.
    pub removal: Option<Removal>,
    /// The buyer who is to be blocked.
    pub blocking: Option<Blocking>,
    /// The next part, committed as `sending`.
    pub part: Option<Part>,
    /// Whether the dialog was let go, because nothing is left now.
    pub released: Released,
}

/// The statements by which a holder writes `outcome`, begins the next part, and lets go when there is none. They answer the
/// bot to wake too: what a look alone settles, an answer taken back before it went, is told as well.
pub fn look(dialog_id: i64, owner: Uuid, outcome: Vec<Statement>) -> Vec<Statement> {
    let mut flight = vec![
        planned!(
            "UPDATE dialogs SET lease_owner = $2, lease_until = now() + make_interval(secs => $3)
             WHERE id = $1 AND (lease_owner IS NULL OR lease_owner = $2 OR lease_until < now())
               AND (lease_owner = $2 OR send_at <= now() OR mark_read_at <= now())
             RETURNING now() AS now",
        )
        .bind(dialog_id)
        .bind(owner)
        .bind(LEASE.as_secs_f64()),
    ];
    flight.extend(outcome);
    flight.extend(edits::apply(dialog_id, owner));
    flight.push(bot_to_wake(dialog_id));
    flight.extend([
        planned!(
            "SELECT d.block_requested_at, d.buyer, d.item, removal.id AS removal_id, removal.avito_message_id AS removal_avito_id,
                    d.avito_chat_id, d.mark_read_at <= now() AS mark_read, d.send_at, a.client_id, a.avito_account_id,
                    a.user_id, a.api_client_id, a.api_client_secret, a.access_token, a.token_expires_at,
                    a.suspended_at IS NOT NULL AS stopped, now() AS now
             FROM dialogs d JOIN account_routes a ON a.avito_account_id = d.avito_account_id
             LEFT JOIN LATERAL (SELECT p.id, p.avito_message_id FROM parts p WHERE p.dialog_id = d.id AND p.state = 'deleting'
                                ORDER BY p.message_id, p.place LIMIT 1) AS removal ON true
             WHERE d.id = $1 AND d.lease_owner = $2",
        )
        .bind(dialog_id)
        .bind(owner),
        planned!(
            "UPDATE parts p
             SET state = 'sending', sending_since = CASE WHEN next.state = 'pending' THEN now() ELSE p.sending_since END
             FROM (SELECT p.id, p.state FROM parts p JOIN dialogs d ON d.id = p.dialog_id
                   WHERE p.dialog_id = $1 AND d.lease_owner = $2 AND d.send_at <= now()
                     AND p.state IN ('pending', 'sending') AND d.block_requested_at IS NULL
                     AND NOT EXISTS (SELECT FROM parts r WHERE r.dialog_id = $1 AND r.state = 'deleting')
                   ORDER BY p.state DESC, p.message_id, p.place LIMIT 1) AS next
             WHERE p.id = next.id
             RETURNING p.id, coalesce(p.text, '') AS text, coalesce(p.text_key, '') AS text_key, p.attachment,
                       next.state = 'sending' AS begun, p.sending_since, p.lookups, p.attempts,
                       (SELECT m.is_auto_reply FROM messages m WHERE m.client_id = p.client_id AND m.id = p.message_id)
                           AS auto_reply",
        )
        .bind(dialog_id)
        .bind(owner),
        planned!(
            "UPDATE dialogs SET lease_owner = NULL, lease_until = NULL,
                    send_at = (SELECT min(change_due_at) FROM messages WHERE dialog_id = $1 AND change_due_at IS NOT NULL)
             WHERE id = $1 AND lease_owner = $2 AND coalesce(mark_read_at > now(), true) AND block_requested_at IS NULL
               AND NOT EXISTS (SELECT FROM parts WHERE dialog_id = $1 AND state IN ('pending', 'sending', 'deleting'))
             RETURNING send_at",
        )
        .bind(dialog_id)
        .bind(owner),
    ]);
    flight
}

/// Whether somebody else works for a dialog that is due.
pub fn is_held(dialog_id: i64, owner: Uuid) -> Statement {
    planned!(
        "SELECT true AS held FROM dialogs
         WHERE id = $1 AND lease_owner <> $2 AND lease_until >= now() AND (send_at <= now() OR mark_read_at <= now())",
    )
    .bind(dialog_id)
    .bind(owner)
}

/// Reads the answers to [`look`]; none: somebody else has the dialog, or nothing of it is due.
pub fn read(mut answers: Answers) -> Result<Option<Outbox>, DbError> {
    let mut next = || answers.pop().unwrap_or_default();
    let (released, parts, dialogs) = (next(), next(), next());
    let Some(dialog) = dialogs.first() else { return Ok(None) };
    Ok(Some(Outbox {
        keys: Keys::read(dialog)?,
        avito_chat_id: get(dialog, "avito_chat_id")?,
        mark_read: get::<Option<bool>>(dialog, "mark_read")?.unwrap_or_default(),
        stopped: get(dialog, "stopped")?,
        now: get(dialog, "now")?,
        leased: Instant::now(),
        removal: read_removal(dialog)?,
        blocking: Blocking::read(dialog)?,
        part: parts.first().map(read_part).transpose()?,
        released: match released.first() {
            Some(row) => Released::Yes { wake_at: get(row, "send_at")? },
            None => Released::No,
        },
    }))
}

fn read_removal(row: &Row) -> Result<Option<Removal>, DbError> {
    let (part_id, avito_id): (Option<i64>, Option<String>) = (get(row, "removal_id")?, get(row, "removal_avito_id")?);
    Ok(part_id.map(|part_id| Removal { part_id, avito_message_id: avito_id.unwrap_or_default() }))
}

fn read_part(row: &Row) -> Result<Part, DbError> {
    Ok(Part {
        id: get(row, "id")?,
        text: get(row, "text")?,
        text_key: get(row, "text_key")?,
        picture: get(row, "attachment")?,
        begun: get(row, "begun")?,
        since: get(row, "sending_since")?,
        lookups: get(row, "lookups")?,
        attempts: get(row, "attempts")?,
        auto_reply: get(row, "auto_reply")?,
    })
}

/// Avito has the part, under this id. An own message of that id that was taken for one from the app is ours after all:
/// its row goes, and so does what the topic shows of it. The operator's message gets its receipt, an auto-reply is shown.
pub fn sent(part_id: i64, avito_message_id: String) -> Vec<Statement> {
    vec![
        planned!(
            "WITH mistaken AS (
                 DELETE FROM messages m USING parts p
                 WHERE p.id = $1 AND m.avito_account_id = p.avito_account_id AND m.avito_message_id = $2
                   AND m.origin = 'avito_app'
                 RETURNING m.post_id
             ), unsent AS (
                 UPDATE posts SET state = 'failed', error = 'our own answer'
                 FROM mistaken WHERE posts.id = mistaken.post_id AND posts.state = 'pending'
             )
             INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, once_key)
             SELECT p.client_id, p.bot_id, p.dialog_id, 'delete', jsonb_build_object('message_id', message_id), 'mirror:' || p.id
             FROM mistaken JOIN posts p ON p.id = mistaken.post_id AND p.state IN ('sending', 'sent')
             CROSS JOIN LATERAL unnest(p.telegram_message_ids) AS message_id
             ON CONFLICT (bot_id, once_key) DO NOTHING",
        )
        .bind(part_id)
        .bind(avito_message_id.clone()),
        planned!(
            "UPDATE parts SET state = 'sent', avito_message_id = $2, error = NULL
             WHERE id = $1 AND state IN ('sending', 'sent')",
        )
        .bind(part_id)
        .bind(avito_message_id),
        planned!(concat!(
            "WITH whole AS (
                 SELECT m.* FROM messages m JOIN parts p ON p.message_id = m.id
                 WHERE p.id = $1 AND m.status IN ('sending', 'sent')
                   AND NOT EXISTS (SELECT FROM parts o WHERE o.message_id = m.id
                                   AND o.state NOT IN ('sent', 'cancelled', 'deleted'))
             ), status AS (
                 UPDATE messages m SET status = 'sent', to_show = m.to_show OR m.is_auto_reply
                 FROM whole WHERE m.id = whole.id
             ), receipt AS (",
            receipt!("👌", "whole"),
            ")",
            wake_lanes!(
                "(SELECT bot_id, client_id FROM receipt UNION SELECT bot_id, client_id FROM whole WHERE is_auto_reply) AS shown"
            )
        ))
        .bind(part_id),
    ]
}

/// The bot to wake for a dialog's receipts and notices, if its lane is due.
pub fn bot_to_wake(dialog_id: i64) -> Statement {
    planned!(
        "SELECT lane.bot_id FROM dialogs d JOIN bot_lanes lane ON lane.bot_id = d.bot_id
         WHERE d.id = $1 AND lane.drain_at <= now()",
    )
    .bind(dialog_id)
}

/// What cannot heal: the part and with it the rest of its message, told in the topic by a notice that may hold `{id}` for
/// the message's id.
pub fn failed(part_id: i64, error: String, notice: &Value) -> Vec<Statement> {
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
            "), told AS (
                 INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, once_key)
                 SELECT client_id, bot_id, dialog_id, 'notice',
                        jsonb_strip_nulls(replace($3::text, '{id}', id::text)::jsonb
                                          || jsonb_build_object('reply_to', telegram_message_id)),
                        format('refused:%s:%s', id, extract(epoch FROM sending_since))
                 FROM whole ON CONFLICT (bot_id, once_key) DO NOTHING
                 RETURNING bot_id, client_id
             )",
            wake_lanes!("told")
        ))
        .bind(part_id)
        .bind(error)
        .bind(notice.to_string()),
    ]
}

/// Avito certainly does not have the part: it waits its turn again.
pub fn put_back(part_id: i64) -> Statement {
    Statement::new("UPDATE parts SET state = 'pending', attempts = attempts + 1 WHERE id = $1 AND state = 'sending'")
        .bind(part_id)
}

/// The part was looked for and not found.
pub fn not_found(part_id: i64) -> Statement {
    Statement::new("UPDATE parts SET lookups = lookups + 1 WHERE id = $1 AND state = 'sending'").bind(part_id)
}

/// Twice not found: Avito does not have it. It is begun anew.
pub fn begin_anew(part_id: i64) -> Statement {
    Statement::new(
        "UPDATE parts SET sending_since = now(), lookups = 0, attempts = attempts + 1 WHERE id = $1 AND state = 'sending'
         RETURNING sending_since",
    )
    .bind(part_id)
}

/// The chat was marked read, or cannot be.
pub fn marked_read(dialog_id: i64) -> Statement {
    Statement::new("UPDATE dialogs SET mark_read_at = NULL WHERE id = $1 AND mark_read_at <= now()").bind(dialog_id)
}

/// Keeps the lease for another while. No row: somebody else has the dialog by now.
pub fn keep(dialog_id: i64, owner: Uuid) -> Statement {
    Statement::new(
        "UPDATE dialogs SET lease_until = now() + make_interval(secs => $3) WHERE id = $1 AND lease_owner = $2
         RETURNING id",
    )
    .bind(dialog_id)
    .bind(owner)
    .bind(LEASE.as_secs_f64())
}

/// The sealed token of the bot that heard of a part's message: no other bot is given its files.
pub fn bot_of(part_id: i64) -> Statement {
    Statement::new(
        "SELECT r.token FROM parts p JOIN messages m ON m.id = p.message_id JOIN bot_routes r ON r.bot_id = m.bot_id
         WHERE p.id = $1",
    )
    .bind(part_id)
}

/// Lets go; the dialog is due again after `seconds`.
pub fn release_for(dialog_id: i64, owner: Uuid, seconds: f64) -> Statement {
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

/// Which of these ids of Avito's already stand on a part or a message of the account.
pub fn known_ids(account_id: i64, ids: Vec<String>) -> Statement {
    Statement::new(
        "SELECT avito_message_id FROM parts WHERE avito_account_id = $1 AND avito_message_id = ANY($2)
         UNION SELECT avito_message_id FROM messages
         WHERE avito_account_id = $1 AND avito_message_id = ANY($2) AND origin <> 'avito_app'",
    )
    .bind(account_id)
    .bind(ids)
}
