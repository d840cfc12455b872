//! What a bot has to do next: the dialog that has waited longest, with its unfinished posts and unshown messages.
//! Looking is part of every flight of the lane's holder, so a message costs no round trip of its own for it.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::{Row, types::Json};
use uuid::Uuid;

use super::{
    drain::Target,
    lanes::{self, Lane},
    look::{self, Look},
};
use crate::{
    platform::db::{Answers, ClientId, DbError, Statement, get},
    routine,
    tenancy::accounts::Keys,
};

/// The dialog that has waited longest; 0 when that is a post outside dialogs. Messages and topics first, then notices, then
/// what only decorates. `$1`: the bot.
macro_rules! choose {
    () => {
        "SELECT waiting.dialog_id FROM (
             SELECT m.dialog_id, 1 AS claim, min(m.created_at) AS since
             FROM messages m JOIN dialogs d ON d.id = m.dialog_id
             WHERE m.bot_id = _bot AND m.to_show AND m.post_id IS NULL AND coalesce(d.show_after <= now(), true)
             GROUP BY 1
             UNION ALL
             SELECT coalesce(p.dialog_id, 0),
                    CASE WHEN p.kind IN ('header', 'replay', 'text', 'mirror', 'photo', 'album', 'voice', 'venue') THEN 1
                         WHEN p.kind = 'notice' THEN 2 ELSE 3 END,
                    min(p.created_at)
             FROM posts p LEFT JOIN dialogs d ON d.id = p.dialog_id
             WHERE p.bot_id = _bot AND p.state IN ('pending', 'sending') AND p.due_at <= now()
               AND coalesce(d.show_after <= now(), true)
               AND (p.kind <> 'reaction' OR coalesce(_reactions_after <= now(), true))
             GROUP BY 1, 2
         ) AS waiting
         ORDER BY claim, since, dialog_id LIMIT 1"
    };
}

/// A dialog's unfinished posts, in their order.
// Not `now()`: a header that another flight wrote after this one began, and committed before it looks, is seen and goes
// first.
macro_rules! posts {
    () => {
        "SELECT id, kind, content, state = 'sending' AS begun, attempts, telegram_chat_id AS chat_id, telegram_topic_id AS thread_id
         FROM posts
         WHERE bot_id = _bot AND coalesce(dialog_id, 0) = _dialog AND state IN ('pending', 'sending') AND due_at <= clock_timestamp()
           AND (kind <> 'reaction' OR coalesce(_reactions_after <= now(), true))
         ORDER BY CASE WHEN kind = 'header' THEN 0 WHEN kind = 'replay' THEN 1
                       WHEN kind IN ('text', 'mirror', 'photo', 'album', 'voice', 'venue', 'notice') THEN 2 ELSE 3 END, id
         LIMIT 20"
    };
}

/// A dialog's messages that wait to be shown, in their order.
macro_rules! messages {
    () => {
        "SELECT id, origin, kind, text, attachments, author_name AS author, avito_created AS created, created_at AS arrived,
                confirmed_at IS NOT NULL AS confirmed, CASE WHEN attachments ? 'quote' THEN (
                    -- found first: as a condition on q it would be tried on all messages of the organisation
                    SELECT coalesce(q.telegram_message_id, shown.telegram_message_ids[1])
                    FROM (SELECT coalesce(
                        (SELECT k.id FROM messages k WHERE k.avito_account_id = messages.avito_account_id
                         AND k.avito_message_id = messages.attachments #>> '{quote,id}'),
                        (SELECT p.message_id FROM parts p WHERE p.avito_account_id = messages.avito_account_id
                         AND p.avito_message_id = messages.attachments #>> '{quote,id}')) AS id OFFSET 0) AS quoted
                    JOIN messages q ON q.id = quoted.id
                    LEFT JOIN posts shown ON shown.id = q.post_id
                ) END AS reply_to
         -- found before they are sorted: else the whole history is read in its order
         FROM (SELECT * FROM messages WHERE bot_id = _bot AND dialog_id = _dialog AND to_show AND post_id IS NULL OFFSET 0) AS messages
         ORDER BY coalesce(avito_created, created_at), list_place, id
         LIMIT 100"
    };
}

/// All that is needed to work for the chosen dialog.
macro_rules! found {
    () => {
        concat!(
            "SELECT 'work', NULL::double precision, lane.budget, lane.budget_at, lane.reaction_budget, lane.reaction_budget_at,
                    lane.topics_off, lane.flood_until, now(), b.client_id, b.token, b.group_chat_id, b.topic_mode,
                    b.status <> 'active', b.suspended_at IS NOT NULL,
                    d.id, d.bot_id, d.state, d.topic_closed, d.topic_mark, d.avito_chat_id, d.buyer, d.item,
                    d.proven_at IS NOT NULL, d.topic_state, d.topic_requested_at, d.telegram_chat_id, d.telegram_topic_id,
                    a.avito_account_id, a.name, a.user_id, a.api_client_id, a.api_client_secret, a.access_token,
                    a.token_expires_at, a.timezone,
                    coalesce((SELECT m.is_auto_reply FROM messages m WHERE m.client_id = d.client_id AND m.dialog_id = d.id
                              AND m.origin <> 'system' ORDER BY m.id DESC LIMIT 1), false),
                    CASE WHEN waiting.messages IS NOT NULL THEN (
                        SELECT m.avito_created FROM messages m WHERE m.client_id = d.client_id AND m.dialog_id = d.id
                        AND m.post_id IS NOT NULL AND m.avito_created IS NOT NULL ORDER BY m.id DESC LIMIT 1) END,
                    (SELECT p.content ->> 'mark' FROM posts p
                     WHERE p.bot_id = d.bot_id AND p.once_key = 'mark:' || d.id AND p.state IN ('pending', 'sending')),
                    (SELECT json_agg(post) FROM (",
            posts!(),
            ") AS post), waiting.messages
             FROM bot_lanes lane JOIN bot_routes b ON b.bot_id = lane.bot_id
             CROSS JOIN (SELECT json_agg(message) AS messages FROM (",
            messages!(),
            ") AS message) AS waiting
             LEFT JOIN (dialogs d JOIN account_routes a ON a.avito_account_id = d.avito_account_id) ON d.id = _dialog
             WHERE lane.bot_id = _bot"
        )
    };
}

/// When the first thing is due that waits for its time.
macro_rules! first_due {
    () => {
        "SELECT least(
             (SELECT min(greatest(p.due_at, d.show_after, CASE WHEN p.kind = 'reaction' THEN _reactions_after END))
              FROM posts p LEFT JOIN dialogs d ON d.id = p.dialog_id
              WHERE p.bot_id = _bot AND p.state IN ('pending', 'sending')),
             (SELECT min(coalesce(d.show_after, now())) FROM messages m JOIN dialogs d ON d.id = m.dialog_id
              WHERE m.bot_id = _bot AND m.to_show AND m.post_id IS NULL))"
    };
}

/// The bot as a lane's holder needs it.
pub struct Bot {
    /// Its tenant.
    pub client_id: ClientId,
    /// Its token, sealed.
    pub token: Vec<u8>,
    /// The group it works in.
    pub group_chat_id: Option<i64>,
    /// Whether each dialog is to have a topic.
    pub topic_mode: bool,
    /// Whether it was found broken.
    pub broken: bool,
    /// Whether its organisation is suspended.
    pub suspended: bool,
}

/// How far a dialog's topic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// There is none.
    None,
    /// It was asked for, and the answer is not known.
    Creating {
        /// When it was asked for.
        since: Timestamp,
    },
    /// It is there.
    Open {
        /// The group.
        chat_id: i64,
        /// The topic in it.
        thread_id: i64,
    },
}

/// The chosen dialog.
pub struct Dialog {
    /// The row in `dialogs`.
    pub id: i64,
    /// The bot in whose group it is shown: another one, if its account moved.
    pub bot_id: i64,
    /// Avito's id of the chat.
    pub avito_chat_id: String,
    /// The other person: `{id, name}`.
    pub buyer: Option<Value>,
    /// What the chat is about: `{title, price, city, url}`.
    pub item: Option<Value>,
    /// Whether Avito itself confirmed that the chat exists.
    pub proven: bool,
    /// Its topic.
    pub topic: Topic,
    /// Whether we closed the topic.
    pub topic_closed: bool,
    /// The mark that its name bears.
    pub topic_mark: String,
    /// The mark that it is to bear in a while.
    pub mark_asked: Option<String>,
    /// `waiting`, `answered`, `closed` or `blocked`.
    pub state: String,
    /// Whether the last word is the machine's.
    pub answered_by_machine: bool,
    /// The name of the Avito account.
    pub account_name: String,
    /// The keys of the Avito account.
    pub keys: Keys,
    /// The time zone in which people read times, IANA.
    pub timezone: String,
    /// When the newest shown message was written.
    pub last_shown: Option<Timestamp>,
}

/// A post that is not finished.
#[derive(Deserialize)]
pub struct Post {
    /// The row in `posts`.
    pub id: i64,
    /// What it is.
    pub kind: String,
    /// What is asked of Telegram.
    pub content: Value,
    /// Whether it was begun before, with an unknown outcome.
    pub begun: bool,
    /// How often it failed.
    pub attempts: i32,
    /// Where it goes when it belongs to no dialog's topic.
    pub chat_id: Option<i64>,
    /// The topic there.
    pub thread_id: Option<i64>,
}

/// A message that waits to be shown.
#[derive(Deserialize)]
pub struct Waiting {
    /// The row in `messages`.
    pub id: i64,
    /// Who wrote it.
    pub origin: String,
    /// Avito's word for its kind.
    pub kind: String,
    /// Its text.
    pub text: Option<String>,
    /// What else it holds.
    pub attachments: Value,
    /// When it was written.
    pub created: Option<Timestamp>,
    /// When we heard of it.
    pub arrived: Timestamp,
    /// Who wrote it, if it was one of us.
    pub author: Option<String>,
    /// Whether the poll has seen it, and so knows its place among others.
    pub confirmed: bool,
    /// The message in the topic that shows what it answers.
    pub reply_to: Option<i64>,
}

/// What the flight found.
pub struct Work {
    /// The lane.
    pub lane: Lane,
    /// The bot.
    pub bot: Bot,
    /// The chosen dialog; none when only posts outside dialogs wait.
    pub dialog: Option<Dialog>,
    /// Its unfinished posts, in their order.
    pub posts: Vec<Post>,
    /// Its unshown messages, in their order.
    pub messages: Vec<Waiting>,
}

impl Work {
    /// Where all posts go, when there are no topics.
    pub fn one_chat(&self) -> Option<Target> {
        let chat_id = self.bot.group_chat_id?;
        (!self.bot.topic_mode || self.lane.topics_off).then_some(Target { chat_id, thread_id: None })
    }
}

/// The statements by which a holder writes `outcome`, looks for the next work, and lets go when there is none. The lane is
/// read as the outcome leaves it: what was just sent counts before anything else is.
pub fn look(bot_id: i64, owner: Uuid, mut outcome: Vec<Statement>) -> Vec<Statement> {
    outcome.push(
        routine!(
            "(_bot bigint, _owner uuid, _lease_seconds double precision, _dialog bigint DEFAULT NULL,
              _reactions_after timestamptz DEFAULT NULL)
             RETURNS TABLE (ends text, wake_in double precision, budget double precision, budget_at timestamptz,
                            reaction_budget double precision, reaction_budget_at timestamptz, topics_off boolean,
                            flood_until timestamptz, now timestamptz, client_id bigint, token bytea, group_chat_id bigint,
                            topic_mode boolean, broken boolean, suspended boolean,
                            id bigint, bot_id bigint, state text, topic_closed boolean, topic_mark text, avito_chat_id text,
                            buyer jsonb, item jsonb, proven boolean, topic_state text, topic_requested_at timestamptz,
                            telegram_chat_id bigint, telegram_topic_id bigint, avito_account_id bigint, account_name text,
                            user_id bigint, api_client_id text, api_client_secret bytea, access_token bytea,
                            token_expires_at timestamptz, timezone text, answered_by_machine boolean,
                            last_shown timestamptz, mark_asked text, posts json, messages json)",
            concat!(
                "DECLARE
                     booked timestamptz;
                     due timestamptz;
                 BEGIN
                     SELECT lane.wake_at, lane.reactions_after INTO booked, _reactions_after FROM bot_lanes AS lane
                     WHERE lane.bot_id = _bot
                       AND (lane.lease_owner IS NULL OR lane.lease_owner = _owner OR lane.lease_until < now())
                     FOR NO KEY UPDATE;
                     IF NOT FOUND THEN
                         ends := (SELECT 'held' FROM bot_lanes WHERE bot_lanes.bot_id = _bot);
                         RETURN NEXT;
                         RETURN;
                     END IF;
                     _dialog := (",
                choose!(),
                ");
                     IF _dialog IS NOT NULL THEN
                         UPDATE bot_lanes AS lane
                         SET lease_owner = _owner, lease_until = now() + make_interval(secs => _lease_seconds)
                         WHERE lane.bot_id = _bot;
                         RETURN QUERY ",
                found!(),
                ";
                         RETURN;
                     END IF;
                     due := (",
                first_due!(),
                ");
                     -- hundreds of wake-ups while nothing may be sent must not make hundreds of others
                     IF due IS NOT NULL AND coalesce(booked <= clock_timestamp() OR booked > due + interval '1 second', true) THEN
                         booked := due;
                         wake_in := extract(epoch FROM due - now());
                     END IF;
                     UPDATE bot_lanes AS lane SET lease_owner = NULL, lease_until = NULL, drain_at = due, wake_at = booked
                     WHERE lane.bot_id = _bot;
                     ends := 'idle';
                     RETURN NEXT;
                 END"
            ),
            [choose!(), found!(), first_due!()]
        )
        .bind(bot_id)
        .bind(owner)
        .bind(lanes::LEASE.as_secs_f64()),
    );
    outcome
}

/// Reads the answers to [`look`].
pub fn read(answers: &Answers) -> Result<Look<Work>, DbError> {
    Look::read(look::row(answers)?, read_work)
}

fn read_work(row: &Row) -> Result<Work, DbError> {
    Ok(Work {
        lane: Lane::read(row)?,
        bot: Bot {
            client_id: ClientId(get(row, "client_id")?),
            token: get(row, "token")?,
            group_chat_id: get(row, "group_chat_id")?,
            topic_mode: get(row, "topic_mode")?,
            broken: get(row, "broken")?,
            suspended: get(row, "suspended")?,
        },
        dialog: get::<Option<i64>>(row, "id")?.map(|id| read_dialog(id, row)).transpose()?,
        posts: get::<Option<Json<_>>>(row, "posts")?.map(|Json(posts)| posts).unwrap_or_default(),
        messages: get::<Option<Json<_>>>(row, "messages")?.map(|Json(messages)| messages).unwrap_or_default(),
    })
}

fn read_dialog(id: i64, row: &Row) -> Result<Dialog, DbError> {
    let topic = match get::<String>(row, "topic_state")?.as_str() {
        "open" => Topic::Open { chat_id: get(row, "telegram_chat_id")?, thread_id: get(row, "telegram_topic_id")? },
        "creating" => Topic::Creating { since: get(row, "topic_requested_at")? },
        _ => Topic::None,
    };
    Ok(Dialog {
        id,
        bot_id: get(row, "bot_id")?,
        avito_chat_id: get(row, "avito_chat_id")?,
        buyer: get(row, "buyer")?,
        item: get(row, "item")?,
        proven: get(row, "proven")?,
        topic,
        topic_closed: get(row, "topic_closed")?,
        topic_mark: get(row, "topic_mark")?,
        mark_asked: get(row, "mark_asked")?,
        state: get(row, "state")?,
        answered_by_machine: get(row, "answered_by_machine")?,
        account_name: get(row, "account_name")?,
        keys: Keys::read(row)?,
        timezone: get(row, "timezone")?,
        last_shown: get(row, "last_shown")?,
    })
}
