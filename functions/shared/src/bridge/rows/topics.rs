//! The topic of a dialog. Avito confirms the chat, Telegram is asked for the topic once, and the topic is found again
//! if Telegram's answer was lost. The worker commits `creating` with the name before the call. The topic's id is stored
//! only if the dialog has no other topic by then.

use std::time::Duration;

use frankenstein::methods::CreateForumTopicParams;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bot_outbox;
use crate::{
    avito,
    bridge::{
        common::{
            avito_rate_limit::{self, CallPriority},
            telegram_budget::{TelegramBudget, later},
        },
        error::BridgeError,
        to_telegram::{
            compose::post_text,
            failures, retry,
            sender::{TelegramSender, TelegramStep},
            work::{BotWork, ClaimedDialog, Topic},
        },
    },
    platform::{db::Statement, secrets::Secret},
    telegram::Error,
    tenancy::{accounts, bots},
};

/// The wait for the bot's own update about a new topic after Telegram's answer was lost.
const LOST_ANSWER_WAIT: Duration = Duration::from_secs(5);
/// The hold of a dialog after Avito could not be asked about it, seconds.
const AVITO_WAIT: f64 = 10.0;
/// A topic without a dialog is removed after this time, seconds.
const STRAY_TOPIC_SECONDS: f64 = 60.0;

/// Brings a dialog one step nearer to its topic.
pub(in crate::bridge) async fn ensure_topic(
    sender: &TelegramSender<'_>,
    work: &BotWork,
    dialog: &ClaimedDialog,
) -> Result<TelegramStep, BridgeError> {
    let now = work.outbox.now;
    if let Topic::Creating { since } = dialog.topic {
        let retry_at = later(since, LOST_ANSWER_WAIT);
        if now < retry_at {
            let wait = Duration::try_from(retry_at.duration_since(now)).unwrap_or_default();
            return Ok(TelegramStep::Commit(vec![hold_dialog(dialog.id, wait.as_secs_f64())]));
        }
    }
    let budget = match work.outbox.budget.take(1, now) {
        Ok(budget) => budget,
        Err(wait) => return Ok(TelegramStep::ReleaseUntil(Vec::new(), later(now, wait))),
    };
    let context = if dialog.confirmed {
        Context { buyer: dialog.buyer.clone(), item: dialog.item.clone() }
    } else {
        match ask_avito(sender, dialog).await {
            Ok(context) => context,
            Err(NotConfirmed::Unknown) => return Ok(TelegramStep::Commit(vec![hide_unknown_chat(dialog.id)])),
            Err(NotConfirmed::Later) => return Ok(TelegramStep::Commit(vec![hold_dialog(dialog.id, AVITO_WAIT)])),
        }
    };
    let name = post_text::topic_name(context.buyer.as_ref(), context.item.as_ref());
    let request =
        vec![bot_outbox::renew_lease(sender.bot_id, sender.owner), mark_topic_creating(sender, dialog, &name, context)];
    let results = sender.run_with_dialog_lock(work, request).await?;
    if results.first().is_none_or(Vec::is_empty) {
        return Ok(TelegramStep::LeaseLost);
    }
    if results.get(1).is_none_or(Vec::is_empty) {
        return Ok(TelegramStep::Commit(Vec::new())); // the bot's own update brought the topic meanwhile
    }
    Ok(create_topic(sender, work, dialog, name, budget).await)
}

/// Asks Avito if the chat exists, and with which buyer, in a group without topics.
pub(in crate::bridge) async fn confirm_chat(sender: &TelegramSender<'_>, dialog: &ClaimedDialog) -> TelegramStep {
    match ask_avito(sender, dialog).await {
        Ok(context) => TelegramStep::Commit(vec![
            Statement::new(
                "UPDATE dialogs SET buyer = coalesce($2, buyer), item = coalesce($3, item), confirmed_at = now() WHERE id = $1",
            )
            .bind(dialog.id)
            .bind(context.buyer)
            .bind(context.item),
        ]),
        Err(NotConfirmed::Unknown) => TelegramStep::Commit(vec![hide_unknown_chat(dialog.id)]),
        Err(NotConfirmed::Later) => TelegramStep::Commit(vec![hold_dialog(dialog.id, AVITO_WAIT)]),
    }
}

/// The part of the answer that is needed; the others may change with the Bot API.
#[derive(Deserialize)]
struct CreatedTopic {
    message_thread_id: i64,
}

async fn create_topic(
    sender: &TelegramSender<'_>,
    work: &BotWork,
    dialog: &ClaimedDialog,
    name: String,
    budget: TelegramBudget,
) -> TelegramStep {
    let chat_id = work.bot.group_chat_id.unwrap_or_default();
    let params = CreateForumTopicParams::builder().chat_id(chat_id).name(name).build();
    let answer: Result<CreatedTopic, Error> = sender.telegram.call("createForumTopic", &params).await;
    let now = work.outbox.current();
    let mut outcome = vec![bot_outbox::charge_budget(sender.bot_id, sender.owner, budget)];
    let error = match answer {
        Ok(topic) => {
            let thread_id = topic.message_thread_id;
            outcome.extend(store_created_topic(sender.bot_id, dialog.id, chat_id, thread_id));
            return TelegramStep::Commit(outcome);
        }
        Err(error) => error,
    };
    tracing::warn!(bot_id = sender.bot_id, dialog_id = dialog.id, %error, "a topic was not created");
    if matches!(error, Error::Unknown(_) | Error::Unavailable { .. } | Error::Unreadable) {
        outcome.push(hold_dialog(dialog.id, LOST_ANSWER_WAIT.as_secs_f64()));
        return TelegramStep::Commit(outcome);
    }
    outcome.push(reset_topic(dialog.id));
    match error {
        Error::TooManyRequests { retry_after } => {
            let until = retry::rate_limited_until(now, retry_after);
            outcome.push(bot_outbox::store_rate_limit(sender.bot_id, sender.owner, until));
            TelegramStep::ReleaseUntil(outcome, until)
        }
        Error::Migrated { to_chat_id } => {
            outcome.push(bots::move_group(sender.bot_id, chat_id, to_chat_id));
            outcome.extend(move_topics(sender.bot_id, chat_id, to_chat_id));
            TelegramStep::Commit(outcome)
        }
        Error::NotAForum => {
            outcome.push(bot_outbox::mark_topics_off(sender.bot_id));
            TelegramStep::Commit(outcome)
        }
        error => {
            let Some(reason) = failures::broken_reason(&error) else {
                outcome.push(hold_dialog(dialog.id, AVITO_WAIT));
                return TelegramStep::Commit(outcome);
            };
            metrics::counter!("bots_broken").increment(1);
            outcome.push(bots::mark_broken(sender.bot_id, reason));
            TelegramStep::ReleaseUntil(outcome, later(now, retry::BROKEN_PAUSE))
        }
    }
}

struct Context {
    buyer: Option<Value>,
    item: Option<Value>,
}

enum NotConfirmed {
    /// Avito knows no such chat: the webhook that reported it was forged.
    Unknown,
    /// Avito could not be asked.
    Later,
}

async fn ask_avito(sender: &TelegramSender<'_>, dialog: &ClaimedDialog) -> Result<Context, NotConfirmed> {
    let app = sender.app;
    let avito = accounts::avito(app);
    let keys = &dialog.keys;
    let later = |error: &dyn std::fmt::Display| {
        tracing::warn!(dialog_id = dialog.id, %error, "Avito could not be asked about a chat");
        NotConfirmed::Later
    };
    let token = accounts::access_token(app, keys).await.map_err(|error| later(&error))?;
    let ask = async |token: &Secret| {
        let call = avito.chat(token, keys.user_id, &dialog.avito_chat_id);
        avito_rate_limit::within(app, keys.account_id, CallPriority::Reply, call).await
    };
    let mut answer = ask(&token).await;
    if matches!(answer, Err(avito::Error::Unauthorized { .. })) {
        let token = accounts::renewed_token(app, keys, &token).await.map_err(|error| later(&error))?;
        answer = ask(&token).await;
    }
    match answer {
        Ok(reply) => {
            let (buyer, item) = snapshot(&reply.value, keys.user_id);
            Ok(Context { buyer, item })
        }
        Err(avito::Error::Refused { status: 404, .. }) => Err(NotConfirmed::Unknown),
        Err(error) => Err(later(&error)),
    }
}

/// Returns the parts of a chat that a dialog stores: `{id, name}` of the other side, and `{id, title, price, city, url,
/// photo}` of the item.
pub fn snapshot(chat: &avito::Chat, own_user_id: i64) -> (Option<Value>, Option<Value>) {
    let buyer = avito::counterpart(chat, own_user_id).map(|user| json!({ "id": user.id, "name": user.name }));
    let item = chat.item().map(|item| {
        json!({ "id": item.id, "title": item.title, "price": item.price_string, "city": item.city(), "url": item.url,
                               "photo": item.image_url() })
    });
    (buyer, item)
}

/// Stores that a topic of this name is requested. An earlier request is replaced only if it is the one that the claim
/// read.
fn mark_topic_creating(sender: &TelegramSender<'_>, dialog: &ClaimedDialog, name: &str, context: Context) -> Statement {
    let previous = match dialog.topic {
        Topic::Creating { since } => Some(since),
        Topic::None | Topic::Open { .. } => None,
    };
    Statement::new(
        "UPDATE dialogs d
         SET topic_state = 'creating', topic_name = $4, topic_requested_at = now(), confirmed_at = coalesce(d.confirmed_at, now()),
             buyer = coalesce($5, d.buyer), item = coalesce($6, d.item), hold_until = NULL
         FROM bot_outboxes outbox
         WHERE d.id = $3 AND outbox.bot_id = $1 AND outbox.lease_owner = $2
           AND (d.topic_state = 'none' OR (d.topic_state = 'creating' AND d.topic_requested_at = $7))
         RETURNING d.id",
    )
    .bind(sender.bot_id)
    .bind(sender.owner)
    .bind(dialog.id)
    .bind(name.to_owned())
    .bind(context.buyer)
    .bind(context.item)
    .bind(previous)
}

/// Resets the state of a topic that was certainly not created.
fn reset_topic(dialog_id: i64) -> Statement {
    Statement::new("UPDATE dialogs SET topic_state = 'none' WHERE id = $1 AND topic_state = 'creating'").bind(dialog_id)
}

/// Holds the dialog for a while; others go on.
fn hold_dialog(dialog_id: i64, seconds: f64) -> Statement {
    Statement::new("UPDATE dialogs SET hold_until = now() + make_interval(secs => $2) WHERE id = $1")
        .bind(dialog_id)
        .bind(seconds)
}

/// Holds the dialog until its pictures are together; any other message ends the hold.
pub(in crate::bridge) fn hold_for_album(dialog_id: i64, until: Timestamp) -> Statement {
    Statement::new("UPDATE dialogs SET hold_until = $2, collecting_album = true WHERE id = $1")
        .bind(dialog_id)
        .bind(until)
}

/// Filters the messages of a chat that Avito does not know: they stay stored, and are not posted.
fn hide_unknown_chat(dialog_id: i64) -> Statement {
    Statement::new(
        "UPDATE messages SET needs_post = false, status = 'filtered', error = 'Avito knows no such chat'
         WHERE dialog_id = $1 AND needs_post AND post_id IS NULL",
    )
    .bind(dialog_id)
}

/// Stores the topic that Telegram's answer reports, with its header, unless another dialog has taken the topic. If the
/// dialog has another topic by now, the new one came too late and is removed after a minute.
fn store_created_topic(bot_id: i64, dialog_id: i64, chat_id: i64, thread_id: i64) -> Vec<Statement> {
    let take = Statement::new(
        "UPDATE dialogs d SET topic_state = 'open', telegram_chat_id = $3, telegram_topic_id = $4, hold_until = NULL,
                topic_emoji = '', topic_closed = false
         WHERE d.id = $2 AND d.topic_state = 'creating'
           AND NOT EXISTS (SELECT FROM dialog_topics t
                           WHERE t.bot_id = $1 AND t.telegram_chat_id = $3 AND t.telegram_topic_id = $4)",
    )
    .bind(bot_id)
    .bind(dialog_id)
    .bind(chat_id)
    .bind(thread_id);
    let mut statements = vec![take];
    statements.extend(register_topic(bot_id, chat_id, thread_id));
    statements
}

/// Stores a new topic that the bot's own update reports, for the dialog that has waited longest for one of this name.
pub fn store_reported_topic(bot_id: i64, chat_id: i64, thread_id: i64, name: String) -> Vec<Statement> {
    let take = Statement::new(
        "UPDATE dialogs d SET topic_state = 'open', telegram_chat_id = $3, telegram_topic_id = $4, hold_until = NULL,
                topic_emoji = '', topic_closed = false
         WHERE d.id = (SELECT id FROM dialogs WHERE bot_id = $1 AND topic_state = 'creating' AND topic_name = $2
                       ORDER BY topic_requested_at LIMIT 1)
           AND d.topic_state = 'creating'
           AND NOT EXISTS (SELECT FROM dialog_topics t
                           WHERE t.bot_id = $1 AND t.telegram_chat_id = $3 AND t.telegram_topic_id = $4)",
    )
    .bind(bot_id)
    .bind(name)
    .bind(chat_id)
    .bind(thread_id);
    let mut statements = vec![take];
    statements.extend(register_topic(bot_id, chat_id, thread_id));
    statements.push(bot_outbox::make_due_for_posts(bot_id));
    statements
}

/// Stores the dialog of a topic and the topic's header, with a replay if messages of the dialog were posted before. A
/// topic without a dialog is removed after a minute.
fn register_topic(bot_id: i64, chat_id: i64, thread_id: i64) -> Vec<Statement> {
    vec![
        Statement::new(
            "INSERT INTO dialog_topics (bot_id, telegram_chat_id, telegram_topic_id, client_id, dialog_id)
             SELECT $1, $2, $3, client_id, id FROM dialogs
             WHERE bot_id = $1 AND topic_state = 'open' AND telegram_chat_id = $2 AND telegram_topic_id = $3
             ON CONFLICT DO NOTHING",
        )
        .bind(bot_id)
        .bind(chat_id)
        .bind(thread_id),
        Statement::new(
            "WITH header AS (
                 INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
                 SELECT client_id, bot_id, dialog_id, 'header', '{}', format('header:%s:%s', $2::bigint, $3::bigint)
                 FROM dialog_topics WHERE bot_id = $1 AND telegram_chat_id = $2 AND telegram_topic_id = $3
                 ON CONFLICT (bot_id, dedup_key) DO NOTHING
                 RETURNING client_id, bot_id, dialog_id
             )
             INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
             SELECT client_id, bot_id, dialog_id, 'replay', '{}', format('replay:%s:%s', $2::bigint, $3::bigint)
             FROM header WHERE EXISTS (
                 SELECT FROM messages m JOIN posts p ON p.id = m.post_id
                 WHERE m.dialog_id = header.dialog_id AND p.state = 'sent')
             ON CONFLICT (bot_id, dedup_key) DO NOTHING",
        )
        .bind(bot_id)
        .bind(chat_id)
        .bind(thread_id),
        Statement::new(
            "INSERT INTO posts (client_id, bot_id, kind, content, telegram_chat_id, telegram_topic_id, due_at, dedup_key)
             SELECT client_id, bot_id, 'remove_topic', '{}', $2, $3, now() + make_interval(secs => $4),
                    format('stray:%s:%s', $2::bigint, $3::bigint)
             FROM tenancy_bots
             WHERE bot_id = $1 AND NOT EXISTS (
                 SELECT FROM dialog_topics WHERE bot_id = $1 AND telegram_chat_id = $2 AND telegram_topic_id = $3)
             ON CONFLICT (bot_id, dedup_key) DO NOTHING",
        )
        .bind(bot_id)
        .bind(chat_id)
        .bind(thread_id)
        .bind(STRAY_TOPIC_SECONDS),
    ]
}

/// Forgets a topic that is gone: its dialog gets another one. Answers that were written in it still find their dialog.
pub(in crate::bridge) fn forget_topic(bot_id: i64, chat_id: i64, thread_id: i64) -> Statement {
    Statement::new(
        "UPDATE dialogs SET topic_state = 'none', telegram_topic_id = NULL
         WHERE bot_id = $1 AND topic_state = 'open' AND telegram_chat_id = $2 AND telegram_topic_id = $3",
    )
    .bind(bot_id)
    .bind(chat_id)
    .bind(thread_id)
}

/// Stores that we closed or reopened the topic.
pub(in crate::bridge) fn set_topic_closed(dialog_id: i64, is_closed: bool) -> Statement {
    Statement::new("UPDATE dialogs SET topic_closed = $2 WHERE id = $1").bind(dialog_id).bind(is_closed)
}

/// Moves the dialogs, topics and unfinished posts of a group to the group's new id.
pub(in crate::bridge) fn move_topics(bot_id: i64, from_chat: i64, to_chat: i64) -> Vec<Statement> {
    vec![
        Statement::new("UPDATE dialogs SET telegram_chat_id = $3 WHERE bot_id = $1 AND telegram_chat_id = $2")
            .bind(bot_id)
            .bind(from_chat)
            .bind(to_chat),
        Statement::new("UPDATE dialog_topics SET telegram_chat_id = $3 WHERE bot_id = $1 AND telegram_chat_id = $2")
            .bind(bot_id)
            .bind(from_chat)
            .bind(to_chat),
        Statement::new(
            "UPDATE posts SET telegram_chat_id = $3
             WHERE bot_id = $1 AND telegram_chat_id = $2 AND state IN ('pending', 'sending')",
        )
        .bind(bot_id)
        .bind(from_chat)
        .bind(to_chat),
    ]
}
