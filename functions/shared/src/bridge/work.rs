//! What a bot has to do next: the dialog that has waited longest, with its unfinished posts and unshown messages.
//! Looking is part of every flight of the lane's holder, so a message costs no round trip of its own for it.

use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    drain::Target,
    lanes::{self, Lane},
};
use crate::{
    planned,
    platform::db::{Answers, ClientId, DbError, Statement, get},
    tenancy::accounts::Keys,
};

/// Messages and topics first, then notices, then what only decorates.
const CHOOSE: &str = "
    SELECT set_config('bridge.dialog_id', chosen.dialog_id::text, true)
    FROM (
        SELECT waiting.dialog_id FROM (
            SELECT m.dialog_id, 1 AS claim, min(m.created_at) AS since
            FROM messages m JOIN dialogs d ON d.id = m.dialog_id
            WHERE m.bot_id = $1 AND m.to_show AND m.post_id IS NULL AND coalesce(d.show_after <= now(), true)
            GROUP BY 1
            UNION ALL
            SELECT coalesce(p.dialog_id, 0),
                   CASE WHEN p.kind IN ('header', 'replay', 'text', 'mirror', 'photo', 'album', 'voice', 'venue') THEN 1
                        WHEN p.kind = 'notice' THEN 2 ELSE 3 END,
                   min(p.created_at)
            FROM posts p LEFT JOIN dialogs d ON d.id = p.dialog_id
            WHERE p.bot_id = $1 AND p.state IN ('pending', 'sending') AND p.due_at <= now()
              AND coalesce(d.show_after <= now(), true)
              AND (p.kind <> 'reaction'
                   OR coalesce((SELECT reactions_after FROM bot_lanes WHERE bot_id = $1) <= now(), true))
            GROUP BY 1, 2
        ) AS waiting
        JOIN bot_lanes lane ON lane.bot_id = $1 AND lane.lease_owner = $2
        ORDER BY claim, since, dialog_id LIMIT 1
    ) AS chosen";

/// The dialog that the flight chose.
macro_rules! chosen {
    () => {
        "nullif(current_setting('bridge.dialog_id', true), '')::bigint"
    };
}

const BOT: &str = "
    SELECT client_id, telegram_bot_id, token, group_chat_id, topic_mode, status, suspended_at IS NOT NULL AS suspended
    FROM bot_routes WHERE bot_id = $1";

const DIALOG: &str = concat!(
    "
    SELECT d.state, d.topic_closed, d.topic_mark, d.id, d.bot_id,
           coalesce((SELECT m.is_auto_reply FROM messages m WHERE m.client_id = d.client_id AND m.dialog_id = d.id
                     AND m.origin <> 'system' ORDER BY m.id DESC LIMIT 1), false) AS answered_by_machine,
           d.avito_chat_id, d.buyer, d.item, d.proven_at, d.topic_state, d.topic_requested_at,
           d.telegram_chat_id, d.telegram_topic_id, a.avito_account_id, a.client_id, a.name AS account_name, a.user_id,
           a.api_client_id, a.api_client_secret, a.access_token, a.token_expires_at, a.timezone,
           (SELECT m.avito_created FROM messages m WHERE m.client_id = d.client_id AND m.dialog_id = d.id
            AND m.post_id IS NOT NULL AND m.avito_created IS NOT NULL ORDER BY m.id DESC LIMIT 1) AS last_shown
    FROM dialogs d JOIN account_routes a ON a.avito_account_id = d.avito_account_id
    WHERE d.id = ",
    chosen!()
);

// Not `now()`: a header that another flight wrote after this one began, and committed before it looks, is seen and goes
// first.
const POSTS: &str = concat!(
    "
    SELECT id, kind, content, state, attempts, telegram_chat_id, telegram_topic_id
    FROM posts
    WHERE bot_id = $1 AND coalesce(dialog_id, 0) = ",
    chosen!(),
    " AND state IN ('pending', 'sending') AND due_at <= statement_timestamp()
      AND (kind <> 'reaction' OR coalesce((SELECT reactions_after FROM bot_lanes WHERE bot_id = $1) <= now(), true))
    ORDER BY CASE WHEN kind = 'header' THEN 0 WHEN kind = 'replay' THEN 1
                  WHEN kind IN ('text', 'mirror', 'photo', 'album', 'voice', 'venue', 'notice') THEN 2 ELSE 3 END, id
    LIMIT 20"
);

const MESSAGES: &str = concat!(
    "
    SELECT id, origin, kind, text, attachments, author_name, avito_created, created_at,
           confirmed_at IS NOT NULL AS confirmed, (
               -- found first: as a condition on q it would be tried on all messages of the organisation
               SELECT coalesce(q.telegram_message_id, shown.telegram_message_ids[1])
               FROM (SELECT coalesce(
                   (SELECT k.id FROM messages k WHERE k.avito_account_id = messages.avito_account_id
                    AND k.avito_message_id = messages.attachments #>> '{quote,id}'),
                   (SELECT p.message_id FROM parts p WHERE p.avito_account_id = messages.avito_account_id
                    AND p.avito_message_id = messages.attachments #>> '{quote,id}')) AS id OFFSET 0) AS quoted
               JOIN messages q ON q.id = quoted.id
               LEFT JOIN posts shown ON shown.id = q.post_id
           ) AS reply_to
    -- found before they are sorted: else the whole history is read in its order
    FROM (SELECT * FROM messages WHERE bot_id = $1 AND dialog_id = ",
    chosen!(),
    " AND to_show AND post_id IS NULL OFFSET 0) AS messages
    ORDER BY coalesce(avito_created, created_at), list_place, id
    LIMIT 100"
);

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

/// Whether a flight that found nothing to do let the lane go.
pub enum Released {
    /// There is more to do.
    No,
    /// Nothing is to be done now.
    Yes {
        /// When the first thing that waits for its time is due, if a wake-up is to be sent for it.
        wake_at: Option<Timestamp>,
    },
}

/// What the flight found.
pub struct Work {
    /// The lane.
    pub lane: Lane,
    /// The bot.
    pub bot: Bot,
    /// The chosen dialog; none when only posts outside dialogs wait, or nothing.
    pub dialog: Option<Dialog>,
    /// Its unfinished posts, in their order.
    pub posts: Vec<Post>,
    /// Its unshown messages, in their order.
    pub messages: Vec<Waiting>,
    /// Whether the lane was let go.
    pub released: Released,
}

impl Work {
    /// Where all posts go, when there are no topics.
    pub fn one_chat(&self) -> Option<Target> {
        let chat_id = self.bot.group_chat_id?;
        (!self.bot.topic_mode || self.lane.topics_off).then_some(Target { chat_id, thread_id: None })
    }
}

/// The statements by which a holder writes `outcome`, looks for the next work, and lets go when there is none.
pub fn look(bot_id: i64, owner: Uuid, outcome: Vec<Statement>) -> Vec<Statement> {
    // The lane is read as the outcome leaves it: what was just sent counts before anything else is.
    let mut flight = outcome;
    flight.extend([
        lanes::claim(bot_id, owner),
        planned!(BOT).bind(bot_id),
        planned!(CHOOSE).bind(bot_id).bind(owner),
        planned!(DIALOG),
        planned!(POSTS).bind(bot_id),
        planned!(MESSAGES).bind(bot_id),
        lanes::release_if_idle(bot_id, owner),
    ]);
    flight
}

/// Reads the answers to [`look`]; none: somebody else has the lane, or there is no such bot.
pub fn read(mut answers: Answers) -> Result<Option<Work>, DbError> {
    let mut next = || answers.pop().unwrap_or_default();
    let (released, messages, posts, dialogs, _chosen, bots) = (next(), next(), next(), next(), next(), next());
    let (Some(lane), Some(bot)) = (answers.into_iter().find(|rows| is_claim(rows)), bots.first()) else {
        return Ok(None);
    };
    Ok(Some(Work {
        lane: Lane::read(&lane[0])?,
        bot: Bot {
            client_id: ClientId(get(bot, "client_id")?),
            token: get(bot, "token")?,
            group_chat_id: get(bot, "group_chat_id")?,
            topic_mode: get(bot, "topic_mode")?,
            broken: get::<String>(bot, "status")? != "active",
            suspended: get(bot, "suspended")?,
        },
        dialog: dialogs.first().map(read_dialog).transpose()?,
        posts: posts.iter().map(read_post).collect::<Result<_, _>>()?,
        messages: messages.iter().map(read_waiting).collect::<Result<_, _>>()?,
        released: match released.first() {
            Some(row) => {
                let due: Option<Timestamp> = get(row, "drain_at")?;
                Released::Yes { wake_at: due.filter(|_| get(row, "book").unwrap_or(true)) }
            }
            None => Released::No,
        },
    }))
}

fn is_claim(rows: &[Row]) -> bool {
    rows.first().is_some_and(|row| row.columns().iter().any(|column| column.name() == "flood_until"))
}

fn read_dialog(row: &Row) -> Result<Dialog, DbError> {
    let topic = match get::<String>(row, "topic_state")?.as_str() {
        "open" => Topic::Open { chat_id: get(row, "telegram_chat_id")?, thread_id: get(row, "telegram_topic_id")? },
        "creating" => Topic::Creating { since: get(row, "topic_requested_at")? },
        _ => Topic::None,
    };
    Ok(Dialog {
        id: get(row, "id")?,
        bot_id: get(row, "bot_id")?,
        avito_chat_id: get(row, "avito_chat_id")?,
        buyer: get(row, "buyer")?,
        item: get(row, "item")?,
        proven: get::<Option<Timestamp>>(row, "proven_at")?.is_some(),
        topic,
        topic_closed: get(row, "topic_closed")?,
        topic_mark: get(row, "topic_mark")?,
        state: get(row, "state")?,
        answered_by_machine: get(row, "answered_by_machine")?,
        account_name: get(row, "account_name")?,
        keys: Keys::read(row)?,
        timezone: get(row, "timezone")?,
        last_shown: get(row, "last_shown")?,
    })
}

fn read_post(row: &Row) -> Result<Post, DbError> {
    Ok(Post {
        id: get(row, "id")?,
        kind: get(row, "kind")?,
        content: get(row, "content")?,
        begun: get::<String>(row, "state")? == "sending",
        attempts: get(row, "attempts")?,
        chat_id: get(row, "telegram_chat_id")?,
        thread_id: get(row, "telegram_topic_id")?,
    })
}

/// Reads a message as [`MESSAGES`] has it.
pub(super) fn read_waiting(row: &Row) -> Result<Waiting, DbError> {
    Ok(Waiting {
        id: get(row, "id")?,
        origin: get(row, "origin")?,
        kind: get(row, "kind")?,
        text: get(row, "text")?,
        attachments: get(row, "attachments")?,
        created: get(row, "avito_created")?,
        arrived: get(row, "created_at")?,
        author: get(row, "author_name")?,
        confirmed: get(row, "confirmed")?,
        reply_to: get(row, "reply_to")?,
    })
}
