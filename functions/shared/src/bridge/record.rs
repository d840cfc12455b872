//! Recording what Avito says: each message becomes a row once, whoever tells of it first, webhook or poll.
//! An own message is adopted by the part that is being sent; one that no part knows was written in Avito's app.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{
    auto_reply, lanes, order, receipts,
    tasks::{AutoReplyTask, TelegramTask},
    words::{self, Language},
};
use crate::{
    App, planned,
    platform::db::{Answers, DbError, Statement, get},
};

/// A message as Avito told of it.
#[derive(Clone, Debug, Serialize)]
pub struct Heard {
    /// Avito's id of the message.
    pub id: String,
    /// Whether the account itself wrote it, by whatever way.
    pub own: bool,
    /// Whether Avito itself wrote it.
    pub system: bool,
    /// Avito's word for the kind: `text`, `image`, ….
    pub kind: String,
    /// The text, if the kind has one.
    pub text: Option<String>,
    /// The text as it is compared ([`super::text::key`]).
    pub text_key: Option<String>,
    /// What else the message holds, as Avito sent it.
    pub attachments: Value,
    /// When it was written, by Avito's clock, to the second.
    pub created: Timestamp,
    /// Its place in Avito's list, oldest first: the order within one second.
    pub place: i32,
}

/// What the poll knows besides the messages.
#[derive(Clone, Debug)]
pub struct Synced {
    /// The other person: `{id, name}`.
    pub buyer: Value,
    /// What the chat is about: `{title, price, city, url}`; null for chats about nothing.
    pub item: Value,
    /// The newest message that the poll has seen with all before it.
    pub last_message_id: Option<String>,
    /// The chat's `updated` at that time, seconds.
    pub updated: i64,
}

/// The messages of one chat, from one source.
#[derive(Clone, Debug)]
pub struct Hearing {
    /// The row in `avito_accounts`.
    pub account_id: i64,
    /// Avito's id of the account: a payload that names another is not recorded.
    pub user_id: i64,
    /// Avito's id of the chat.
    pub chat_id: String,
    /// What was said, oldest first.
    pub messages: Vec<Heard>,
    /// Set by the poll; a webhook knows nothing of it.
    pub synced: Option<Synced>,
}

const REMEMBER_DIALOG: &str = "
    INSERT INTO dialogs AS d (client_id, avito_account_id, bot_id, avito_chat_id, buyer, item, proven_at)
    SELECT client_id, avito_account_id, bot_id, $3, $4, $5, CASE WHEN $6 THEN now() END
    FROM account_routes WHERE avito_account_id = $1 AND user_id = $2
    ON CONFLICT (avito_account_id, avito_chat_id) DO UPDATE
    SET bot_id = excluded.bot_id,
        -- the topic of another bot is not ours to write in
        topic_state = CASE WHEN d.bot_id = excluded.bot_id THEN d.topic_state ELSE 'none' END,
        buyer = coalesce(excluded.buyer, d.buyer),
        item = coalesce(excluded.item, d.item),
        proven_at = coalesce(d.proven_at, excluded.proven_at)";

/// The columns of a heard message, for `jsonb_to_recordset`.
macro_rules! heard {
    () => {
        "jsonb_to_recordset($3) AS heard (id text, own boolean, system boolean, kind text, text text, text_key text,
                                          attachments jsonb, created timestamptz, place int)"
    };
}

/// An echo of our own send may come before the answer to it. One part of a dialog is under way at a time, so the oldest
/// own message that looks like it and stands nowhere else is it. Avito counts in seconds and by its own clock.
const ADOPT_ECHO: &str = concat!(
    "
    WITH echo AS (
        SELECT DISTINCT ON (p.id) p.id AS part_id, heard.id AS avito_message_id
        FROM ",
    heard!(),
    "
        JOIN account_routes a ON a.avito_account_id = $1 AND a.user_id = $4
        JOIN dialogs d ON d.avito_account_id = $1 AND d.avito_chat_id = $2
        JOIN parts p ON p.dialog_id = d.id AND p.state = 'sending' AND p.kind = heard.kind
                    AND (p.kind = 'image' OR p.text_key = heard.text_key)
        WHERE heard.own AND heard.created >= p.sending_since - interval '10 seconds'
          AND NOT EXISTS (SELECT FROM parts o WHERE o.avito_account_id = $1 AND o.avito_message_id = heard.id)
          AND NOT EXISTS (SELECT FROM messages o WHERE o.avito_account_id = $1 AND o.avito_message_id = heard.id)
        ORDER BY p.id, heard.created, heard.place
    ), adopted AS (
        UPDATE parts p SET state = 'sent', avito_message_id = echo.avito_message_id
        FROM echo WHERE p.id = echo.part_id
        RETURNING p.id, p.message_id
    )
    UPDATE messages m SET status = 'sent', to_show = m.to_show OR m.is_auto_reply
    FROM adopted
    WHERE m.id = adopted.message_id AND m.status = 'sending'
      AND NOT EXISTS (SELECT FROM parts o WHERE o.message_id = m.id AND o.id <> adopted.id
                      AND o.state NOT IN ('sent', 'cancelled', 'deleted'))"
);

const INSERT_MESSAGES: &str = concat!(
    "
    INSERT INTO messages (client_id, dialog_id, avito_account_id, bot_id, direction, origin, kind, text, attachments,
                          avito_message_id, avito_created, list_place, confirmed_at, told_at, status, to_show)
    SELECT d.client_id, d.id, d.avito_account_id, d.bot_id,
           CASE WHEN heard.own THEN 'out' ELSE 'in' END,
           CASE WHEN heard.own THEN 'avito_app' WHEN heard.system THEN 'system' ELSE 'buyer' END,
           heard.kind, heard.text, heard.attachments, heard.id, heard.created, heard.place,
           CASE WHEN $4 THEN now() END, CASE WHEN NOT $4 THEN now() END,
           CASE WHEN hidden THEN 'filtered' WHEN heard.own THEN 'sent' ELSE 'received' END,
           NOT hidden
    FROM ",
    heard!(),
    "
    JOIN dialogs d ON d.avito_account_id = $1 AND d.avito_chat_id = $2
    JOIN account_routes a ON a.avito_account_id = $1 AND a.user_id = $5
    CROSS JOIN LATERAL (
        SELECT NOT heard.own AND (
            (heard.system AND a.hide_system_messages)
            OR EXISTS (SELECT FROM regexp_split_to_table(a.filter_keywords, '[,\\n]') AS keyword
                       WHERE btrim(keyword) <> '' AND strpos(lower(heard.text), lower(btrim(keyword))) > 0)
        ) AS hidden
    ) AS filter
    WHERE NOT EXISTS (SELECT FROM parts o WHERE o.avito_account_id = $1 AND o.avito_message_id = heard.id)
    ORDER BY heard.created, heard.place
    ON CONFLICT (avito_account_id, avito_message_id) DO UPDATE
    SET confirmed_at = coalesce(messages.confirmed_at, excluded.confirmed_at),
        told_at = coalesce(messages.told_at, excluded.told_at),
        attachments = CASE WHEN messages.confirmed_at IS NULL AND excluded.confirmed_at IS NOT NULL
                           THEN messages.attachments || excluded.attachments ELSE messages.attachments END,
        list_place = CASE WHEN messages.confirmed_at IS NULL AND excluded.confirmed_at IS NOT NULL
                          THEN excluded.list_place ELSE messages.list_place END
    WHERE (messages.confirmed_at IS NULL AND excluded.confirmed_at IS NOT NULL)
       OR (messages.told_at IS NULL AND excluded.told_at IS NOT NULL)"
);

/// What its writer took back is marked; where the topic shows it, a line says so, and where not yet, it stands in its place.
const TAKE_BACK: &str = concat!(
    "
    WITH gone AS (
        UPDATE messages m SET deleted_at = now(), kind = CASE WHEN m.post_id IS NULL THEN 'deleted' ELSE m.kind END
        FROM ",
    heard!(),
    "
        JOIN account_routes a ON a.avito_account_id = $1 AND a.user_id = $5
        JOIN dialogs d ON d.avito_account_id = $1 AND d.avito_chat_id = $2
        WHERE m.dialog_id = d.id AND m.avito_message_id = heard.id AND heard.kind = 'deleted'
          AND m.kind <> 'deleted' AND m.deleted_at IS NULL
        RETURNING m.id, m.client_id, m.bot_id, m.dialog_id, m.post_id
    )
    INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, once_key)
    SELECT gone.client_id, gone.bot_id, gone.dialog_id, 'notice',
           jsonb_strip_nulls(jsonb_build_object('text', $4::text, 'reply_to', p.telegram_message_ids[1])), 'deleted:' || gone.id
    FROM gone JOIN posts p ON p.id = gone.post_id
    ON CONFLICT (bot_id, once_key) DO NOTHING"
);

/// A webhook told of another text than Avito's list has: the list is right. Where the topic shows the other one, a line
/// says so.
const CORRECT: &str = concat!(
    "
    WITH other AS (
        UPDATE messages m SET text = heard.text, attachments = m.attachments || heard.attachments
        FROM ",
    heard!(),
    "
        JOIN account_routes a ON a.avito_account_id = $1 AND a.user_id = $5
        JOIN dialogs d ON d.avito_account_id = $1 AND d.avito_chat_id = $2
        WHERE m.dialog_id = d.id AND m.avito_message_id = heard.id AND m.confirmed_at IS NULL
          AND m.kind = 'text' AND heard.kind = 'text'
          AND normalize(regexp_replace(btrim(m.text), '\\s+', ' ', 'g')) <> normalize(regexp_replace(btrim(heard.text), '\\s+', ' ', 'g'))
        RETURNING m.id, m.client_id, m.bot_id, m.dialog_id, m.post_id, m.text
    )
    INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, once_key)
    SELECT other.client_id, other.bot_id, other.dialog_id, 'notice',
           jsonb_strip_nulls(jsonb_build_object('text', $4::text || ' ' || left(other.text, 3500), 'reply_to', p.telegram_message_ids[1])),
           'corrected:' || other.id
    FROM other JOIN posts p ON p.id = other.post_id
    ON CONFLICT (bot_id, once_key) DO NOTHING"
);

/// The statement that puts what Avito's list says in the place of what a webhook said.
pub(super) fn correct(account_id: i64, user_id: i64, chat_id: &str, messages: &[Heard]) -> Statement {
    Statement::new(CORRECT)
        .bind(account_id)
        .bind(chat_id.to_owned())
        .bind(serde_json::to_value(messages).unwrap_or_default())
        .bind(words::corrected(Language::Russian))
        .bind(user_id)
}

/// The dialog waits when the newest thing still to be shown is the buyer's, and is answered when it is ours. A human
/// answer empties the auto-reply's mark, unless the buyer wrote after it; a buyer's message sets an empty one, if the
/// auto-reply is active, was not yet sent in this interval, and nobody answered later. Only what this very flight
/// inserted counts, by `created_at = now()`: a message heard again neither asks nor answers anew. What follows another
/// message closely waits a moment, for webhooks overtake each other; and so does what comes just after Postgres was away:
/// it has just started, or this process has just kept something for the intake queue. Where a message has waited long
/// enough, nothing waits any more: who writes without a pause is shown all the same.
const TOUCH_DIALOG: &str = "
    WITH unseen AS (
        SELECT m.direction, m.origin, m.kind, m.avito_created, m.list_place FROM messages m
        WHERE m.avito_account_id = $1 AND m.avito_message_id = ANY($3) AND m.post_id IS NULL AND m.status <> 'filtered'
    ), newest AS (
        SELECT direction, avito_created FROM unseen WHERE origin <> 'system' ORDER BY avito_created DESC, list_place DESC LIMIT 1
    ), fresh AS (
        SELECT m.origin, m.avito_created FROM messages m
        WHERE m.avito_account_id = $1 AND m.avito_message_id = ANY($3) AND m.created_at = now() AND m.status <> 'filtered'
    ), answered AS (
        SELECT FROM fresh
        WHERE origin = 'avito_app' AND NOT EXISTS (
            SELECT FROM messages b JOIN dialogs d ON d.client_id = b.client_id AND d.id = b.dialog_id
            WHERE d.avito_account_id = $1 AND d.avito_chat_id = $2 AND b.origin = 'buyer'
              AND b.avito_created > fresh.avito_created)
    ), asked AS (
        SELECT now() + make_interval(secs => $6) AS due
        FROM dialogs d
        JOIN auto_reply_settings s ON s.client_id = d.client_id AND s.enabled
        CROSS JOIN LATERAL auto_reply_interval(s.always, s.start_time, s.end_time, s.zone, now()) AS i
        WHERE d.avito_account_id = $1 AND d.avito_chat_id = $2 AND d.state <> 'blocked'
          AND coalesce(d.auto_reply_last_sent_at < i.begins_at, true)
          AND EXISTS (
            SELECT FROM fresh
            WHERE fresh.origin = 'buyer' AND fresh.avito_created > now() - interval '10 minutes'
              -- what was there when the account was connected is shown, and nothing more
              AND NOT EXISTS (SELECT FROM account_polls p WHERE p.avito_account_id = $1
                              AND fresh.avito_created < date_trunc('second', p.started_at))
              AND NOT EXISTS (SELECT FROM messages o WHERE o.client_id = d.client_id AND o.dialog_id = d.id
                              AND o.origin = 'avito_app' AND o.avito_created > fresh.avito_created))
    )
    UPDATE dialogs d
    SET last_message_at = greatest(d.last_message_at, (SELECT avito_created FROM newest)),
        state = CASE WHEN d.state = 'blocked' THEN 'blocked'
                     WHEN (SELECT direction FROM newest) = 'in' THEN 'waiting'
                     WHEN (SELECT direction FROM newest) = 'out' AND d.state <> 'closed' THEN 'answered' ELSE d.state END,
        auto_reply_scheduled_at = coalesce(
            CASE WHEN NOT EXISTS (SELECT FROM answered) THEN d.auto_reply_scheduled_at END, (SELECT due FROM asked)),
        show_after = CASE
            WHEN d.show_after > now() AND NOT (d.gathering AND EXISTS (SELECT FROM unseen WHERE kind <> 'image'))
                THEN d.show_after
            WHEN $4::text IS NULL AND EXISTS (SELECT FROM fresh)
                 AND NOT EXISTS (SELECT FROM messages w
                                 WHERE w.bot_id = d.bot_id AND w.dialog_id = d.id AND w.to_show AND w.post_id IS NULL
                                   AND w.created_at < now() - make_interval(secs => $11))
                THEN CASE WHEN $9 OR pg_postmaster_start_time() > now() - make_interval(secs => $10)
                              THEN now() + make_interval(secs => $11)
                          WHEN d.heard_at > now() - make_interval(secs => $7) THEN now() + make_interval(secs => $8) END
            END,
        heard_at = CASE WHEN EXISTS (SELECT FROM fresh) THEN now() ELSE d.heard_at END,
        gathering = d.gathering AND NOT EXISTS (SELECT FROM unseen WHERE kind <> 'image'),
        synced_message_id = coalesce($4, d.synced_message_id),
        synced_updated = greatest($5, d.synced_updated)
    WHERE d.avito_account_id = $1 AND d.avito_chat_id = $2
    RETURNING d.id AS dialog_id,
              CASE WHEN d.auto_reply_scheduled_at = now() + make_interval(secs => $6) THEN d.auto_reply_scheduled_at END AS due";

/// The statements that record a hearing, within one flight; [`Woken`] reads their answers.
pub fn record(app: &App, hearing: &Hearing) -> Vec<Statement> {
    let Hearing { account_id, user_id, chat_id, messages, synced } = hearing;
    let heard = serde_json::to_value(messages).unwrap_or_default();
    let ids: Vec<String> = messages.iter().map(|message| message.id.clone()).collect();
    let own: Vec<String> = messages.iter().filter(|message| message.own).map(|message| message.id.clone()).collect();
    let filled = |value: &Value| (!value.is_null()).then(|| value.clone());
    let mut flight = vec![
        planned!(REMEMBER_DIALOG)
            .bind(*account_id)
            .bind(*user_id)
            .bind(chat_id.clone())
            .bind(synced.as_ref().and_then(|synced| filled(&synced.buyer)))
            .bind(synced.as_ref().and_then(|synced| filled(&synced.item)))
            .bind(synced.is_some()),
    ];
    // What can match nothing is left out: each statement of a flight has packets of its own, there and back.
    if !own.is_empty() {
        let echo = planned!(ADOPT_ECHO).bind(*account_id).bind(chat_id.clone());
        flight.push(echo.bind(heard.clone()).bind(*user_id));
    }
    if messages.iter().any(|message| message.kind == "deleted") {
        let gone = planned!(TAKE_BACK).bind(*account_id).bind(chat_id.clone()).bind(heard.clone());
        flight.push(gone.bind(words::taken_back(Language::Russian)).bind(*user_id));
    }
    if synced.is_some() {
        flight.push(correct(*account_id, *user_id, chat_id, messages));
    }
    flight.extend([
        planned!(INSERT_MESSAGES)
            .bind(*account_id)
            .bind(chat_id.clone())
            .bind(heard)
            .bind(synced.is_some())
            .bind(*user_id),
        if own.is_empty() { Statement::new("SELECT WHERE false") } else { receipts::heard(*account_id, own) },
        planned!(TOUCH_DIALOG)
            .bind(*account_id)
            .bind(chat_id.clone())
            .bind(ids.clone())
            .bind(synced.as_ref().and_then(|synced| synced.last_message_id.clone()))
            .bind(synced.as_ref().map(|synced| synced.updated))
            .bind(auto_reply::delay(app).as_secs_f64())
            .bind(order::CLOSE.as_secs_f64())
            .bind(order::PATIENCE.as_secs_f64())
            .bind(order::KEPT.is_within(order::AFTER_OUTAGE))
            .bind(order::AFTER_OUTAGE.as_secs_f64())
            .bind(order::AFTER_OUTAGE_PATIENCE.as_secs_f64()),
        lanes::wake_for_messages(*account_id, ids),
    ]);
    flight
}

/// Whom a recorded hearing wakes.
#[derive(Debug, Default)]
pub struct Woken {
    bots: Vec<(TelegramTask, Duration)>,
    auto_replies: Vec<AutoReplyTask>,
}

impl Woken {
    /// Reads the answers to the statements of [`record`], whatever stood before them.
    pub fn read(answers: &Answers) -> Result<Self, DbError> {
        let [.., receipts, dialogs, bots] = answers.as_slice() else { return Ok(Self::default()) };
        let mut woken = Self::default();
        for row in receipts {
            woken.bots.push((TelegramTask::V1 { bot_id: get(row, "bot_id")? }, Duration::ZERO));
        }
        for row in bots {
            let wait = Duration::from_secs(get::<i64>(row, "wait_seconds")?.unsigned_abs());
            woken.bots.push((TelegramTask::V1 { bot_id: get(row, "bot_id")? }, wait));
        }
        for row in dialogs {
            if let Some(scheduled_at) = get(row, "due")? {
                woken.auto_replies.push(AutoReplyTask::V1 { dialog_id: get(row, "dialog_id")?, scheduled_at });
            }
        }
        Ok(woken)
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
