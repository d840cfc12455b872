//! Records what Avito reports: each message becomes one row, even if both the webhook and the poll report it.
//! An own message is adopted by the part that is being sent. One that belongs to no part was written in Avito's app.

use std::time::Duration;

use serde_json::Value;

use super::{
    incoming::{IncomingBatch, IncomingMessage},
    reorder_window,
};
use crate::{
    App,
    bridge::{
        auto_reply,
        common::{
            queue_tasks::{AutoReplyTask, TelegramTask},
            texts::{self, Language},
        },
        rows::{bot_outbox, receipts},
    },
    platform::db::{DbError, ResultSets, Statement, get},
    routine,
};

/// Finds or creates the dialog.
macro_rules! upsert_dialog {
    () => {
        "INSERT INTO dialogs AS d (client_id, avito_account_id, bot_id, avito_chat_id, buyer, item, confirmed_at)
         VALUES (_client, _account, _bot, _chat, _buyer, _item, CASE WHEN _synced THEN now() END)
         ON CONFLICT (avito_account_id, avito_chat_id) DO UPDATE
         SET bot_id = excluded.bot_id,
             -- a new bot may not write in the topic of the former one
             topic_state = CASE WHEN d.bot_id = excluded.bot_id THEN d.topic_state ELSE 'none' END,
             buyer = coalesce(excluded.buyer, d.buyer),
             item = coalesce(excluded.item, d.item),
             confirmed_at = coalesce(d.confirmed_at, excluded.confirmed_at)
         RETURNING d.id"
    };
}

/// The incoming messages as rows.
macro_rules! incoming {
    ($messages:literal) => {
        concat!(
            "jsonb_to_recordset(",
            $messages,
            ") AS incoming (id text, own boolean, system boolean, kind text, text text, text_key text, attachments jsonb,
                         created timestamptz, position int)"
        )
    };
}

/// Adopts the echo of our own send, which may arrive before the response to the call. A dialog sends one part at a
/// time: the oldest own message that equals it, and that no other part or message has, is its echo. Ten seconds are
/// tolerated, because Avito counts in whole seconds and by its own clock.
macro_rules! adopt_echo {
    () => {
        concat!(
            "WITH echo AS (
                 SELECT DISTINCT ON (p.id) p.id AS part_id, incoming.id AS avito_message_id
                 FROM ",
            incoming!("_incoming"),
            "
                 JOIN parts p ON p.dialog_id = _dialog AND p.state = 'sending' AND p.kind = incoming.kind
                             AND (p.kind = 'image' OR p.text_key = incoming.text_key)
                 WHERE incoming.own AND incoming.created >= p.sending_since - interval '10 seconds'
                   AND NOT EXISTS (SELECT FROM parts o WHERE o.avito_account_id = _account AND o.avito_message_id = incoming.id)
                   AND NOT EXISTS (SELECT FROM messages o WHERE o.avito_account_id = _account AND o.avito_message_id = incoming.id)
                 ORDER BY p.id, incoming.created, incoming.position
             ), adopted AS (
                 UPDATE parts p SET state = 'sent', avito_message_id = echo.avito_message_id
                 FROM echo WHERE p.id = echo.part_id
                 RETURNING p.id, p.message_id
             )
             UPDATE messages m SET status = 'sent', needs_post = m.needs_post OR m.is_auto_reply
             FROM adopted
             WHERE m.id = adopted.message_id AND m.status = 'sending'
               AND NOT EXISTS (SELECT FROM parts o WHERE o.message_id = m.id AND o.id <> adopted.id
                               AND o.state NOT IN ('sent', 'cancelled', 'deleted'))"
        )
    };
}

macro_rules! insert_messages {
    () => {
        concat!(
            "INSERT INTO messages (client_id, dialog_id, avito_account_id, bot_id, direction, origin, kind, text, attachments,
                                   avito_message_id, avito_created, avito_position, confirmed_at, webhook_reported_at, status, needs_post)
             SELECT _client, _dialog, _account, _bot,
                    CASE WHEN incoming.own THEN 'out' ELSE 'in' END,
                    CASE WHEN incoming.own THEN 'avito_app' WHEN incoming.system THEN 'system' ELSE 'buyer' END,
                    incoming.kind, incoming.text, incoming.attachments, incoming.id, incoming.created, incoming.position,
                    CASE WHEN _synced THEN now() END, CASE WHEN NOT _synced THEN now() END,
                    CASE WHEN hidden THEN 'filtered' WHEN incoming.own THEN 'sent' ELSE 'received' END,
                    NOT hidden
             FROM ",
            incoming!("_incoming"),
            "
             CROSS JOIN LATERAL (
                 SELECT NOT incoming.own AND (
                     (incoming.system AND _hide_system)
                     OR EXISTS (SELECT FROM regexp_split_to_table(_filter, '[,\\n]') AS keyword
                                WHERE btrim(keyword) <> '' AND strpos(lower(incoming.text), lower(btrim(keyword))) > 0)
                 ) AS hidden
             ) AS filter
             WHERE NOT EXISTS (SELECT FROM parts o WHERE o.avito_account_id = _account AND o.avito_message_id = incoming.id)
             ORDER BY incoming.created, incoming.position
             ON CONFLICT (avito_account_id, avito_message_id) DO UPDATE
             SET confirmed_at = coalesce(messages.confirmed_at, excluded.confirmed_at),
                 webhook_reported_at = coalesce(messages.webhook_reported_at, excluded.webhook_reported_at),
                 attachments = CASE WHEN messages.confirmed_at IS NULL AND excluded.confirmed_at IS NOT NULL
                                    THEN messages.attachments || excluded.attachments ELSE messages.attachments END,
                 avito_position = CASE WHEN messages.confirmed_at IS NULL AND excluded.confirmed_at IS NOT NULL
                                   THEN excluded.avito_position ELSE messages.avito_position END
             WHERE (messages.confirmed_at IS NULL AND excluded.confirmed_at IS NOT NULL)
                OR (messages.webhook_reported_at IS NULL AND excluded.webhook_reported_at IS NOT NULL)"
        )
    };
}

/// Marks the messages that their writer deleted. If a message has a post already, a notice says that it was deleted. If
/// not, its kind becomes `deleted`, and it is posted as such.
macro_rules! mark_deleted {
    () => {
        concat!(
            "WITH gone AS (
                 UPDATE messages m SET deleted_at = now(), kind = CASE WHEN m.post_id IS NULL THEN 'deleted' ELSE m.kind END
                 FROM ",
            incoming!("_incoming"),
            "
                 WHERE m.dialog_id = _dialog AND m.avito_account_id = _account AND m.avito_message_id = incoming.id
                   AND incoming.kind = 'deleted' AND m.kind <> 'deleted' AND m.deleted_at IS NULL
                 RETURNING m.id, m.client_id, m.bot_id, m.dialog_id, m.post_id
             )
             INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
             SELECT gone.client_id, gone.bot_id, gone.dialog_id, 'notice',
                    jsonb_strip_nulls(jsonb_build_object('text', _deleted_text, 'reply_to', p.telegram_message_ids[1])), 'deleted:' || gone.id
             FROM gone JOIN posts p ON p.id = gone.post_id
             ON CONFLICT (bot_id, dedup_key) DO NOTHING"
        )
    };
}

/// Corrects texts that a webhook reported differently from Avito's list: the list is right. If a post has the other
/// text, a notice brings the right one.
macro_rules! correct_texts {
    ($account:literal, $user:literal, $chat:literal, $messages:literal, $corrected:literal) => {
        concat!(
            "WITH other AS (
                 UPDATE messages m SET text = incoming.text, attachments = m.attachments || incoming.attachments
                 FROM ",
            incoming!($messages),
            "
                 JOIN tenancy_accounts a ON a.avito_account_id = ",
            $account,
            " AND a.user_id = ",
            $user,
            "
                 JOIN dialogs d ON d.avito_account_id = ",
            $account,
            " AND d.avito_chat_id = ",
            $chat,
            "
                 WHERE m.dialog_id = d.id AND m.avito_message_id = incoming.id AND m.confirmed_at IS NULL
                   AND m.kind = 'text' AND incoming.kind = 'text'
                   AND normalize(regexp_replace(btrim(m.text), '\\s+', ' ', 'g')) <> normalize(regexp_replace(btrim(incoming.text), '\\s+', ' ', 'g'))
                 RETURNING m.id, m.client_id, m.bot_id, m.dialog_id, m.post_id, m.text
             )
             INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
             SELECT other.client_id, other.bot_id, other.dialog_id, 'notice',
                    jsonb_strip_nulls(jsonb_build_object('text', ",
            $corrected,
            "::text || ' ' || left(other.text, 3500), 'reply_to', p.telegram_message_ids[1])),
                    'corrected:' || other.id
             FROM other JOIN posts p ON p.id = other.post_id
             ON CONFLICT (bot_id, dedup_key) DO NOTHING"
        )
    };
}

/// Replaces texts that only a webhook reported by those of Avito's list.
pub(in crate::bridge) fn correct_texts(
    account_id: i64,
    user_id: i64,
    chat_id: &str,
    messages: &[IncomingMessage],
) -> Statement {
    Statement::new(correct_texts!("$1", "$2", "$3", "$4", "$5"))
        .bind(account_id)
        .bind(user_id)
        .bind(chat_id.to_owned())
        .bind(serde_json::to_value(messages).unwrap_or_default())
        .bind(texts::corrected(Language::Russian))
}

/// Summarises the batch after it was recorded. Only messages that this transaction inserted are new, by
/// `created_at = now()`: a message that is received again counts neither as a question nor as an answer.
macro_rules! changes {
    () => {
        "SELECT coalesce(bool_or(m.created_at = now()), false) AS has_new,
                coalesce(bool_or(m.post_id IS NULL AND m.kind <> 'image'), false) AS more_than_pictures,
                coalesce(bool_or(m.post_id IS NULL AND m.needs_post), false) AS waits,
                (array_agg(m.direction ORDER BY m.avito_created DESC, m.avito_position DESC)
                 FILTER (WHERE m.post_id IS NULL AND m.origin <> 'system'))[1] AS direction,
                max(m.avito_created) FILTER (WHERE m.post_id IS NULL AND m.origin <> 'system') AS last_at,
                max(m.avito_created) FILTER (WHERE m.created_at = now() AND m.origin = 'avito_app') AS answered_at,
                max(m.avito_created) FILTER (WHERE m.created_at = now() AND m.origin = 'buyer') AS asked_at
         -- one by one: for an array of unknown length the planner would read all messages of a small account
         FROM unnest(_ids) AS ids (avito_id) CROSS JOIN LATERAL (
             SELECT * FROM messages m WHERE m.avito_account_id = _account AND m.avito_message_id = ids.avito_id OFFSET 0) AS m
         WHERE m.status <> 'filtered'"
    };
}

/// True if the dialog has a later message of this origin.
macro_rules! later {
    ($origin:literal, $than:literal) => {
        concat!(
            "SELECT EXISTS (SELECT FROM messages o WHERE o.client_id = _client AND o.dialog_id = _dialog AND o.origin = ",
            $origin,
            " AND o.avito_created > ",
            $than,
            ")"
        )
    };
}

/// True if the message was written before the account was connected: it is posted, but gets no auto-reply.
macro_rules! written_before_connection {
    () => {
        "SELECT EXISTS (SELECT FROM account_polls p
                        WHERE p.avito_account_id = _account AND _asked_at < date_trunc('second', p.started_at))"
    };
}

/// Returns the time of the auto-reply to a buyer's message. No row: the auto-reply is not active, was already sent in
/// this interval, or the buyer is blocked.
macro_rules! auto_reply_due {
    () => {
        "SELECT now() + make_interval(secs => _auto_reply_seconds)
         FROM dialogs d JOIN tenancy_auto_replies s ON s.client_id = d.client_id AND s.enabled
         CROSS JOIN LATERAL auto_reply_interval(s.always, s.start_time, s.end_time, s.zone, now()) AS i
         WHERE d.id = _dialog AND d.state <> 'blocked' AND coalesce(d.auto_reply_last_sent_at < i.begins_at, true)"
    };
}

/// True if the organisation's auto-reply is switched on. Checked first, because the query for its interval takes long
/// to set up.
macro_rules! auto_replies {
    () => {
        "SELECT EXISTS (SELECT FROM tenancy_auto_replies s WHERE s.client_id = _client AND s.enabled)"
    };
}

/// True if a message of the dialog has waited so long for its post that none is delayed for the sake of order any more.
macro_rules! long_waiting {
    () => {
        "SELECT EXISTS (SELECT FROM messages w
                        WHERE w.bot_id = _bot AND w.dialog_id = _dialog AND w.needs_post AND w.post_id IS NULL
                          AND w.created_at < now() - make_interval(secs => _outage_seconds))"
    };
}

/// The parameters and result columns of the stored function of [`record`].
const RECORD_PARAMETERS: &str =
    "(_account bigint, _user bigint, _chat text, _incoming jsonb, _ids text[], _own text[], _gone boolean,
     _synced boolean, _buyer jsonb, _item jsonb, _last_message text, _updated bigint,
     _deleted_text text, _corrected_text text, _auto_reply_seconds double precision,
     _reorder_window_seconds double precision, _reorder_wait_seconds double precision,
     _outage boolean, _since_outage_seconds double precision, _outage_seconds double precision,
     _client bigint DEFAULT NULL, _bot bigint DEFAULT NULL, _hide_system boolean DEFAULT NULL,
     _filter text DEFAULT NULL, _dialog bigint DEFAULT NULL, _answered_at timestamptz DEFAULT NULL,
     _asked_at timestamptz DEFAULT NULL)
     RETURNS TABLE (bot_id bigint, wait_seconds bigint, wakeup_pending boolean, dialog_id bigint, due timestamptz)";
/// The body of that function.
const RECORD: &str = concat!(
    "DECLARE
         changes record;
         former_bot bigint;
         answered boolean := false;
         asked_due timestamptz;
         new_hold_until timestamptz;
     BEGIN
         -- locked before the account is read: a transaction that moves the account to another bot locks its dialogs too
         SELECT d.id, d.bot_id INTO _dialog, former_bot FROM dialogs d
         WHERE d.avito_account_id = _account AND d.avito_chat_id = _chat FOR NO KEY UPDATE;
         SELECT a.client_id, a.bot_id, a.hide_system_messages, a.filter_keywords
         INTO _client, _bot, _hide_system, _filter
         FROM tenancy_accounts a WHERE a.avito_account_id = _account AND a.user_id = _user;
         IF NOT FOUND THEN
             RETURN;
         END IF;
         IF _dialog IS NULL OR former_bot <> _bot OR _synced THEN
             ",
    upsert_dialog!(),
    " INTO _dialog;
         END IF;
         IF cardinality(_own) > 0 THEN
             ",
    adopt_echo!(),
    ";
         END IF;
         IF _gone THEN
             ",
    mark_deleted!(),
    ";
         END IF;
         IF _synced THEN
             ",
    correct_texts!("_account", "_user", "_chat", "_incoming", "_corrected_text"),
    ";
         END IF;
         ",
    insert_messages!(),
    ";
         IF cardinality(_own) > 0 THEN
             RETURN QUERY ",
    receipts::put_sent_receipts!("_account", "_own"),
    ", 0::bigint, false, NULL::bigint, NULL::timestamptz;
         END IF;
         SELECT * INTO changes FROM (",
    changes!(),
    ") AS n;
         _answered_at := changes.answered_at;
         _asked_at := changes.asked_at;
         IF _answered_at IS NOT NULL THEN
             answered := NOT (",
    later!("'buyer'", "_answered_at"),
    ");
         END IF;
         IF _asked_at > now() - interval '10 minutes' AND (",
    auto_replies!(),
    ") AND NOT (",
    written_before_connection!(),
    ") AND NOT (",
    later!("'avito_app'", "_asked_at"),
    ") THEN
             asked_due := (",
    auto_reply_due!(),
    ");
         END IF;
         IF changes.has_new AND _last_message IS NULL AND NOT (",
    long_waiting!(),
    ") THEN
             IF _outage OR pg_postmaster_start_time() > now() - make_interval(secs => _since_outage_seconds) THEN
                 new_hold_until := now() + make_interval(secs => _outage_seconds);
             ELSIF (SELECT d.last_received_at > now() - make_interval(secs => _reorder_window_seconds) FROM dialogs d WHERE d.id = _dialog) THEN
                 new_hold_until := now() + make_interval(secs => _reorder_wait_seconds);
             END IF;
         END IF;
         UPDATE dialogs d
         SET last_message_at = greatest(d.last_message_at, changes.last_at),
             state = CASE WHEN d.state = 'blocked' THEN 'blocked'
                          WHEN changes.direction = 'in' THEN 'waiting'
                          WHEN changes.direction = 'out' AND d.state <> 'closed' THEN 'answered' ELSE d.state END,
             auto_reply_scheduled_at = coalesce(CASE WHEN NOT answered THEN d.auto_reply_scheduled_at END, asked_due),
             hold_until = CASE WHEN d.hold_until > now() AND NOT (d.collecting_album AND changes.more_than_pictures)
                               THEN d.hold_until ELSE new_hold_until END,
             last_received_at = CASE WHEN changes.has_new THEN now() ELSE d.last_received_at END,
             collecting_album = d.collecting_album AND NOT changes.more_than_pictures,
             synced_message_id = coalesce(_last_message, d.synced_message_id),
             synced_updated = greatest(_updated, d.synced_updated)
         WHERE d.id = _dialog
         RETURNING d.hold_until,
                   CASE WHEN d.auto_reply_scheduled_at = now() + make_interval(secs => _auto_reply_seconds)
                        THEN d.auto_reply_scheduled_at END
         INTO new_hold_until, due;
         IF due IS NOT NULL THEN
             dialog_id := _dialog;
             RETURN NEXT;
         END IF;
         IF changes.has_new AND changes.waits AND cardinality(_own) = 0 AND NOT _gone AND NOT _synced THEN
             RETURN QUERY ",
    bot_outbox::make_outbox_due!(bot_outbox::wakeup_pending!(), "SELECT _bot, _client, greatest(new_hold_until, now())"),
    ", NULL::bigint, NULL::timestamptz;
         ELSE
             RETURN QUERY ",
    bot_outbox::messages_due!("_account", "_ids"),
    ", NULL::bigint, NULL::timestamptz;
         END IF;
     END"
);

/// Records a batch within one transaction; [`Wakeups`] reads the results.
///
/// - The dialog waits if the newest message without a post is the buyer's, and is answered if it is ours.
/// - A person's answer cancels the scheduled auto-reply, unless the buyer wrote after it. A buyer's message schedules
///   one if none is scheduled, the auto-reply is active and was not yet sent in this interval, and no answer came
///   later.
/// - A message that closely follows another one waits a moment, because webhooks overtake each other.
/// - So does a message that comes just after Postgres was away: Postgres has just started, or this process has just
///   buffered a webhook in the intake queue.
/// - Once a message has waited long enough, none waits any more: messages of a buyer who writes without a pause are
///   posted all the same.
pub fn record(app: &App, batch: &IncomingBatch) -> Vec<Statement> {
    let IncomingBatch { account_id, user_id, chat_id, messages, polled } = batch;
    let ids: Vec<String> = messages.iter().map(|message| message.id.clone()).collect();
    let own: Vec<String> = messages.iter().filter(|message| message.own).map(|message| message.id.clone()).collect();
    let filled = |value: &Value| (!value.is_null()).then(|| value.clone());
    vec![
        routine!(
            RECORD_PARAMETERS,
            RECORD,
            [
                adopt_echo!(),
                mark_deleted!(),
                correct_texts!("_account", "_user", "_chat", "_incoming", "_corrected_text"),
                insert_messages!(),
                receipts::put_sent_receipts!("_account", "_own"),
                changes!(),
                later!("'buyer'", "_answered_at"),
                auto_replies!(),
                written_before_connection!(),
                later!("'avito_app'", "_asked_at"),
                auto_reply_due!(),
                long_waiting!(),
                bot_outbox::messages_due!("_account", "_ids"),
            ]
        )
        .bind(*account_id)
        .bind(*user_id)
        .bind(chat_id.clone())
        .bind(serde_json::to_value(messages).unwrap_or_default())
        .bind(ids)
        .bind(own)
        .bind(messages.iter().any(|message| message.kind == "deleted"))
        .bind(polled.is_some())
        .bind(polled.as_ref().and_then(|polled| filled(&polled.buyer)))
        .bind(polled.as_ref().and_then(|polled| filled(&polled.item)))
        .bind(polled.as_ref().and_then(|polled| polled.last_message_id.clone()))
        .bind(polled.as_ref().map(|polled| polled.updated))
        .bind(texts::deleted_by_writer(Language::Russian))
        .bind(texts::corrected(Language::Russian))
        .bind(auto_reply::delay(app).as_secs_f64())
        .bind(reorder_window::REORDER_WINDOW.as_secs_f64())
        .bind(reorder_window::REORDER_WAIT.as_secs_f64())
        .bind(reorder_window::LAST_BUFFERED.is_within(reorder_window::OUTAGE_WINDOW))
        .bind(reorder_window::OUTAGE_WINDOW.as_secs_f64())
        .bind(reorder_window::OUTAGE_REORDER_WAIT.as_secs_f64()),
    ]
}

/// The bots and auto-replies that a recorded batch wakes.
#[derive(Debug, Default)]
pub struct Wakeups {
    bots: Vec<(TelegramTask, Duration)>,
    auto_replies: Vec<AutoReplyTask>,
}

impl Wakeups {
    /// Reads the results of [`record`], which must be the last statement of the transaction.
    pub fn read(results: &ResultSets) -> Result<Self, DbError> {
        let mut wakeups = Self::default();
        for row in results.last().into_iter().flatten() {
            if let Some(bot_id) = get(row, "bot_id")? {
                let wait = Duration::from_secs(get::<i64>(row, "wait_seconds")?.unsigned_abs());
                // The worker that runs or is being woken finds work that is due now, but may end before later work is.
                if get(row, "wakeup_pending")? && wait.is_zero() {
                    continue;
                }
                wakeups.bots.push((TelegramTask::V1 { bot_id }, wait));
            }
            if let Some(scheduled_at) = get(row, "due")? {
                wakeups.auto_replies.push(AutoReplyTask::V1 { dialog_id: get(row, "dialog_id")?, scheduled_at });
            }
        }
        Ok(wakeups)
    }

    /// Wakes the bots and the auto-replies when they are due.
    pub async fn wake(&self, app: &App) {
        let bots = Box::pin(async {
            for (task, wait) in &self.bots {
                app.wake(task, *wait).await;
            }
        });
        let auto_replies = Box::pin(async {
            for task in &self.auto_replies {
                app.wake(task, auto_reply::delay(app)).await;
            }
        });
        tokio::join!(bots, auto_replies);
    }
}
