//! What a bot has to do next: the dialog that has waited longest, with its unfinished posts and unshown messages.
//! Looking is part of every flight of the lane's holder, so a message costs no round trip of its own for it.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio_postgres::{Row, types::Json};
use uuid::Uuid;

use super::{
    budget::Budget,
    drain::Target,
    lanes::{self, Lane},
    look::{self, Look},
    marks,
    posts::{self, Draft},
    receipts,
};
use crate::{
    platform::db::{Answers, ClientId, DbError, Statement, get},
    routine,
    tenancy::accounts::Keys,
};

/// The dialog whose message has waited longest, of those that are not being shown already.
macro_rules! oldest_message {
    () => {
        "SELECT m.dialog_id, m.created_at FROM messages m JOIN dialogs d ON d.id = m.dialog_id
         WHERE m.bot_id = _bot AND m.to_show AND m.post_id IS NULL AND coalesce(d.show_after <= now(), true)
           AND m.dialog_id IS DISTINCT FROM _shown
         ORDER BY m.created_at LIMIT 1"
    };
}

/// The dialog whose post comes next, likewise; 0 when that belongs to no dialog. What shows messages first, then notices,
/// then what only decorates.
macro_rules! first_post {
    () => {
        "SELECT coalesce(p.dialog_id, 0) AS dialog_id,
                CASE WHEN p.kind IN ('header', 'replay', 'text', 'mirror', 'photo', 'album', 'voice', 'venue') THEN 1
                     WHEN p.kind = 'notice' THEN 2 ELSE 3 END AS claim, p.created_at, p.kind = 'reaction' AS is_receipt
         FROM posts p LEFT JOIN dialogs d ON d.id = p.dialog_id
         WHERE p.bot_id = _bot AND p.state IN ('pending', 'sending') AND p.due_at <= now()
           AND coalesce(d.show_after <= now(), true)
           AND (p.kind <> 'reaction' OR coalesce(_reactions_after <= now(), true))
           AND coalesce(p.dialog_id, 0) IS DISTINCT FROM _shown
         ORDER BY claim, p.created_at LIMIT 1"
    };
}

/// A dialog's unfinished posts but for receipts, in their order.
// Not `now()`: a header that another flight wrote after this one began, and committed before it looks, is seen and goes
// first.
macro_rules! posts {
    () => {
        "SELECT id, kind, content, state = 'sending' AS begun, attempts, telegram_chat_id AS chat_id, telegram_topic_id AS thread_id
         FROM posts
         WHERE bot_id = _bot AND coalesce(dialog_id, 0) = _dialog AND state IN ('pending', 'sending') AND due_at <= clock_timestamp()
           AND kind <> 'reaction'
         ORDER BY CASE WHEN kind = 'header' THEN 0 WHEN kind = 'replay' THEN 1
                       WHEN kind IN ('text', 'mirror', 'photo', 'album', 'voice', 'venue', 'notice') THEN 2 ELSE 3 END, id
         LIMIT 20"
    };
}

/// A dialog's messages that wait to be shown, in their order.
macro_rules! messages {
    () => {
        "SELECT id, origin, kind, text, attachments, author_name AS author, avito_created AS created, created_at AS arrived,
                confirmed_at IS NOT NULL AS confirmed
         -- found before they are sorted: else the whole history is read in its order
         FROM (SELECT * FROM messages WHERE bot_id = _bot AND dialog_id = _dialog AND to_show AND post_id IS NULL OFFSET 0) AS messages
         ORDER BY coalesce(avito_created, created_at), list_place, id
         LIMIT 100"
    };
}

/// By those of these messages that answer another: the message in the topic that shows it.
macro_rules! replies {
    () => {
        "SELECT json_object_agg(messages.id, (
                    -- found first: as a condition on q it would be tried on all messages of the organisation
                    SELECT coalesce(q.telegram_message_id, shown.telegram_message_ids[1])
                    FROM (SELECT coalesce(
                        (SELECT k.id FROM messages k WHERE k.avito_account_id = messages.avito_account_id
                         AND k.avito_message_id = messages.attachments #>> '{quote,id}'),
                        (SELECT p.message_id FROM parts p WHERE p.avito_account_id = messages.avito_account_id
                         AND p.avito_message_id = messages.attachments #>> '{quote,id}')) AS id OFFSET 0) AS quoted
                    JOIN messages q ON q.id = quoted.id
                    LEFT JOIN posts shown ON shown.id = q.post_id))
         FROM (SELECT * FROM messages WHERE bot_id = _bot AND dialog_id = _dialog AND to_show AND post_id IS NULL
               AND attachments ? 'quote' OFFSET 0) AS messages"
    };
}

/// What a dialog's next posts are composed of, as it stands now: a row that was changed since has another `xmin`.
macro_rules! version {
    ($dialog:literal) => {
        concat!(
            "SELECT concat_ws(' ', d.xmin,
                 (SELECT string_agg(concat_ws(':', m.id, m.xmin), ',' ORDER BY m.id) FROM messages m
                  WHERE m.bot_id = _bot AND m.dialog_id = d.id AND m.to_show AND m.post_id IS NULL),
                 (SELECT string_agg(concat_ws(':', p.id, p.xmin), ',' ORDER BY p.id) FROM posts p
                  WHERE p.bot_id = _bot AND p.dialog_id = d.id AND p.state IN ('pending', 'sending')))
             FROM dialogs d WHERE d.id = ",
            $dialog
        )
    };
}

/// The chosen dialog with the keys of its account.
macro_rules! dialog {
    () => {
        concat!(
            "SELECT d.id, d.bot_id, d.state, d.topic_closed, d.topic_mark, d.avito_chat_id, d.buyer, d.item,
                    d.proven_at IS NOT NULL, d.topic_state, d.topic_requested_at, d.telegram_chat_id, d.telegram_topic_id,
                    a.avito_account_id, a.name, a.user_id, a.api_client_id, a.api_client_secret, a.access_token,
                    a.token_expires_at, a.timezone, ",
            marks::mark!(),
            " FROM dialogs d JOIN account_routes a ON a.avito_account_id = d.avito_account_id WHERE d.id = _dialog"
        )
    };
}

/// When the newest of a dialog's shown messages was written.
macro_rules! last_shown {
    () => {
        "SELECT m.avito_created FROM messages m
         WHERE m.client_id = _client AND m.dialog_id = _dialog AND m.post_id IS NOT NULL AND m.avito_created IS NOT NULL
         ORDER BY m.id DESC LIMIT 1"
    };
}

/// The mark that was written down to be shown in a while.
macro_rules! mark_asked {
    () => {
        "SELECT p.content ->> 'mark' FROM posts p
         WHERE p.bot_id = _bot AND p.once_key = 'mark:' || _dialog AND p.state IN ('pending', 'sending')"
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
    /// The mark that it ought to bear.
    pub mark: String,
    /// The mark that was written down to be shown in a while.
    pub mark_asked: Option<String>,
    /// `waiting`, `answered`, `closed` or `blocked`.
    pub state: String,
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
    #[serde(default)]
    pub reply_to: Option<i64>,
}

/// What the flight found.
pub struct Work {
    /// The lane.
    pub lane: Lane,
    /// The bot.
    pub bot: Bot,
    /// The chosen dialog; none when only posts outside dialogs or receipts wait.
    pub dialog: Option<Dialog>,
    /// Its unfinished posts, in their order.
    pub posts: Vec<Post>,
    /// Its unshown messages, in their order.
    pub messages: Vec<Waiting>,
    /// Receipts that may be set, of all the bot's dialogs; then there is nothing else.
    pub receipts: Vec<Post>,
    /// By what those messages are known to stand as they were read.
    pub version: String,
    /// The post that was begun before this was found: that of [`Ready`].
    pub begun: Option<i64>,
}

/// What may be written down, if its dialog still stands as it was when this was composed.
pub struct Ready {
    /// The dialog.
    pub dialog_id: i64,
    /// By what it is known to stand so.
    pub version: String,
    /// What is written down, in its order.
    pub drafts: Vec<Draft>,
    /// Whether the first of them is sent at once.
    pub begins: bool,
}

/// What a holder's outcome took from its budgets.
#[derive(Clone, Copy, Default)]
pub struct Spent {
    /// What is left of the messages.
    pub messages: Option<Budget>,
    /// What is left of the reactions.
    pub reactions: Option<Budget>,
}

impl Post {
    /// Where it goes, when it belongs to no dialog's topic.
    pub fn target(&self) -> Option<Target> {
        self.chat_id.map(|chat_id| Target { chat_id, thread_id: self.thread_id })
    }
}

impl Work {
    /// Where all posts go, when there are no topics.
    pub fn one_chat(&self) -> Option<Target> {
        let chat_id = self.bot.group_chat_id?;
        (!self.bot.topic_mode || self.lane.topics_off).then_some(Target { chat_id, thread_id: None })
    }

    /// Where a dialog is shown, if it can be by now.
    pub fn place(&self, dialog: &Dialog) -> Option<Target> {
        match (self.one_chat(), dialog.topic) {
            (Some(chat), _) => dialog.proven.then_some(chat),
            (None, Topic::Open { chat_id, thread_id }) => Some(Target { chat_id, thread_id: Some(thread_id) }),
            (None, Topic::None | Topic::Creating { .. }) => None,
        }
    }

    /// The group, where what belongs to no topic goes.
    pub fn group(&self) -> Target {
        Target { chat_id: self.bot.group_chat_id.unwrap_or_default(), thread_id: None }
    }
}

/// The statements by which a holder writes `outcome`, looks for the next work, and lets go when there is none. The lane is
/// read as the outcome leaves it: what was just sent counts before anything else is. What is `ready` is written down first,
/// as [`Work::begun`] tells, and then the work is that of another dialog, for what may be sent after it. Where the dialog of
/// what is ready has changed, or is just changing, it is looked at as any other.
pub fn look(
    bot_id: i64,
    owner: Uuid,
    mut outcome: Vec<Statement>,
    spent: Spent,
    ready: Option<&Ready>,
) -> Vec<Statement> {
    let drafts = ready.map(|ready| serde_json::to_value(&ready.drafts).unwrap_or_default());
    outcome.push(
        routine!(
            LOOK_TAKES,
            LOOK,
            [
                oldest_message!(),
                first_post!(),
                posts!(),
                messages!(),
                replies!(),
                dialog!(),
                last_shown!(),
                mark_asked!(),
                receipts::receipts_due!(),
                first_due!(),
                version!("_ready"),
                posts::show!(),
            ]
        )
        .bind(bot_id)
        .bind(owner)
        .bind(lanes::LEASE.as_secs_f64())
        .bind(spent.messages.map(|budget| budget.left))
        .bind(spent.messages.map(|budget| budget.at))
        .bind(spent.reactions.map(|budget| budget.left))
        .bind(spent.reactions.map(|budget| budget.at))
        .bind(ready.map(|ready| ready.dialog_id))
        .bind(ready.map(|ready| ready.version.clone()))
        .bind(drafts)
        .bind(ready.is_some_and(|ready| ready.begins)),
    );
    outcome
}

/// What the routine of [`look`] takes and answers.
const LOOK_TAKES: &str =
    "(_bot bigint, _owner uuid, _lease_seconds double precision, _left double precision, _left_at timestamptz,
      _reactions_left double precision, _reactions_left_at timestamptz, _ready bigint, _version text, _drafts jsonb,
      _begins boolean, _client bigint DEFAULT NULL, _dialog bigint DEFAULT NULL, _shown bigint DEFAULT NULL,
      _reactions_after timestamptz DEFAULT NULL, _draft jsonb DEFAULT NULL, _post bigint DEFAULT NULL,
      _begun bigint DEFAULT NULL)
     RETURNS TABLE (ends text, wake_in double precision, budget double precision, budget_at timestamptz,
                    reaction_budget double precision, reaction_budget_at timestamptz, topics_off boolean,
                    flood_until timestamptz, now timestamptz, client_id bigint, token bytea, group_chat_id bigint,
                    topic_mode boolean, broken boolean, suspended boolean,
                    id bigint, bot_id bigint, state text, topic_closed boolean, topic_mark text, avito_chat_id text,
                    buyer jsonb, item jsonb, proven boolean, topic_state text, topic_requested_at timestamptz,
                    telegram_chat_id bigint, telegram_topic_id bigint, avito_account_id bigint, account_name text,
                    user_id bigint, api_client_id text, api_client_secret bytea, access_token bytea,
                    token_expires_at timestamptz, timezone text, mark text, mark_asked text, last_shown timestamptz,
                    posts json, messages json, replies json, receipts json, version text, begun bigint)";
/// What it does.
// Statement by statement: what a part of one statement would not find, it would be set up for all the same.
const LOOK: &str = concat!(
    "DECLARE
         kept boolean;
         _reactions_were_set boolean;
         booked timestamptz;
         due timestamptz;
         since timestamptz;
         next record;
     BEGIN
         IF _ready IS NOT NULL THEN
             -- as all that touch both: before the lane; whoever has it locked is changing it
             PERFORM FROM dialogs d WHERE d.id = _ready FOR NO KEY UPDATE SKIP LOCKED;
             IF NOT FOUND THEN
                 _ready := NULL;
             END IF;
         END IF;
         SELECT lane.lease_owner = _owner, lane.wake_at, lane.reactions_after, lane.topics_off, lane.flood_until,
                lane.budget, lane.budget_at, lane.reaction_budget, lane.reaction_budget_at
         INTO kept, booked, _reactions_after, topics_off, flood_until,
              budget, budget_at, reaction_budget, reaction_budget_at
         FROM bot_lanes AS lane
         WHERE lane.bot_id = _bot
           AND (lane.lease_owner IS NULL OR lane.lease_owner = _owner OR lane.lease_until < now())
         FOR NO KEY UPDATE;
         IF NOT FOUND THEN
             ends := (SELECT 'held' FROM bot_lanes WHERE bot_lanes.bot_id = _bot);
             RETURN NEXT;
             RETURN;
         END IF;
         _reactions_were_set := _reactions_left IS NOT NULL;
         -- what another holder spent meanwhile is not forgotten
         _left := coalesce(CASE WHEN kept THEN _left END, budget);
         _left_at := coalesce(CASE WHEN kept THEN _left_at END, budget_at);
         _reactions_left := coalesce(CASE WHEN kept THEN _reactions_left END, reaction_budget);
         _reactions_left_at := coalesce(CASE WHEN kept THEN _reactions_left_at END, reaction_budget_at);
         IF kept AND _reactions_were_set THEN
             _reactions_after := greatest(_reactions_after, now() + ",
    receipts::pace!(),
    ");
         END IF;
         IF kept AND _ready IS NOT NULL AND (",
    version!("_ready"),
    ") = _version THEN
             ",
    posts::write_down!("_ready"),
    ";
             _shown := CASE WHEN _begun IS NOT NULL THEN _ready END;
         END IF;
         SELECT oldest.dialog_id, oldest.created_at INTO _dialog, since FROM (",
    oldest_message!(),
    ") AS oldest;
         SELECT first.dialog_id, first.claim, first.created_at, first.is_receipt INTO next FROM (",
    first_post!(),
    ") AS first;
         IF next.dialog_id IS NOT NULL AND (_dialog IS NULL OR next.claim = 1 AND next.created_at < since) THEN
             _dialog := next.dialog_id;
         END IF;
         IF _dialog IS NULL AND _begun IS NULL THEN
             due := (",
    first_due!(),
    ");
             -- hundreds of wake-ups while nothing may be sent must not make hundreds of others
             IF due IS NOT NULL AND coalesce(booked <= clock_timestamp() OR booked > due + interval '1 second', true) THEN
                 booked := due;
                 wake_in := extract(epoch FROM due - now());
             END IF;
             UPDATE bot_lanes AS lane
             SET lease_owner = NULL, lease_until = NULL, drain_at = due, wake_at = booked,
                 budget = _left, budget_at = _left_at, reactions_after = _reactions_after,
                 reaction_budget = _reactions_left, reaction_budget_at = _reactions_left_at
             WHERE lane.bot_id = _bot;
             ends := 'idle';
             RETURN NEXT;
             RETURN;
         END IF;
         UPDATE bot_lanes AS lane
         SET lease_owner = _owner, lease_until = now() + make_interval(secs => _lease_seconds),
             budget = _left, budget_at = _left_at, reactions_after = _reactions_after,
             reaction_budget = _reactions_left, reaction_budget_at = _reactions_left_at
         WHERE lane.bot_id = _bot
         RETURNING lane.budget, lane.budget_at, lane.reaction_budget, lane.reaction_budget_at
         INTO budget, budget_at, reaction_budget, reaction_budget_at;
         ends := 'work';
         now := now();
         begun := _begun;
         SELECT b.client_id, b.token, b.group_chat_id, b.topic_mode, b.status <> 'active', b.suspended_at IS NOT NULL
         INTO client_id, token, group_chat_id, topic_mode, broken, suspended
         FROM bot_routes b WHERE b.bot_id = _bot;
         _client := client_id;
         IF since IS NULL AND next.is_receipt THEN
             receipts := (SELECT json_agg(receipt) FROM (",
    receipts::receipts_due!(),
    ") AS receipt);
             RETURN NEXT;
             RETURN;
         END IF;
         IF _dialog > 0 THEN
             SELECT chosen.* INTO id, bot_id, state, topic_closed, topic_mark, avito_chat_id, buyer, item, proven,
                                  topic_state, topic_requested_at, telegram_chat_id, telegram_topic_id,
                                  avito_account_id, account_name, user_id, api_client_id, api_client_secret,
                                  access_token, token_expires_at, timezone, mark
             FROM (",
    dialog!(),
    ") AS chosen;
             IF mark <> topic_mark THEN
                 mark_asked := (",
    mark_asked!(),
    ");
             END IF;
             messages := (SELECT json_agg(message) FROM (",
    messages!(),
    ") AS message);
             IF messages IS NOT NULL THEN
                 last_shown := (",
    last_shown!(),
    ");
                 version := (",
    version!("_dialog"),
    ");
             END IF;
             IF messages::text LIKE '%\"quote\"%' THEN
                 replies := (",
    replies!(),
    ");
             END IF;
         END IF;
         IF _dialog IS NOT NULL THEN
             posts := (SELECT json_agg(post) FROM (",
    posts!(),
    ") AS post);
         END IF;
         RETURN NEXT;
     END"
);

/// Reads the answers to [`look`].
pub fn read(answers: &Answers) -> Result<Look<Work>, DbError> {
    Look::read(look::row(answers)?, read_work)
}

fn read_work(row: &Row) -> Result<Work, DbError> {
    let mut messages: Vec<Waiting> = read_list(row, "messages")?;
    if let Some(Json(replies)) = get::<Option<Json<HashMap<i64, Option<i64>>>>>(row, "replies")? {
        for message in &mut messages {
            message.reply_to = replies.get(&message.id).copied().flatten();
        }
    }
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
        posts: read_list(row, "posts")?,
        messages,
        receipts: read_list(row, "receipts")?,
        version: get::<Option<String>>(row, "version")?.unwrap_or_default(),
        begun: get(row, "begun")?,
    })
}

fn read_list<T: DeserializeOwned>(row: &Row, column: &str) -> Result<Vec<T>, DbError> {
    Ok(get::<Option<Json<Vec<T>>>>(row, column)?.map(|Json(list)| list).unwrap_or_default())
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
        mark: get(row, "mark")?,
        mark_asked: get(row, "mark_asked")?,
        state: get(row, "state")?,
        account_name: get(row, "account_name")?,
        keys: Keys::read(row)?,
        timezone: get(row, "timezone")?,
        last_shown: get(row, "last_shown")?,
    })
}
