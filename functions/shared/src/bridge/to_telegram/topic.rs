//! The topic of a dialog. Avito confirms the chat, Telegram is asked for the topic once, and the topic is found again
//! if Telegram's answer was lost. The worker commits `creating` with the name before the call. The topic's id is stored
//! only if the dialog has no other topic by then.

use std::time::Duration;

use frankenstein::methods::CreateForumTopicParams;
use serde::Deserialize;
use serde_json::Value;

use super::{
    compose::post_text,
    failures, retry,
    sender::{TelegramSender, TelegramStep},
    work::{BotWork, ClaimedDialog, Topic},
};
use crate::{
    avito,
    bridge::{
        common::{
            avito_call::{AvitoCaller, CallError},
            avito_rate_limit::CallPriority,
            chat_snapshot,
            telegram_budget::{TelegramBudget, later},
        },
        error::BridgeError,
        rows::{
            bot_outbox,
            topics::{self, hold_dialog},
        },
    },
    platform::{certainty::Certainty, db::Statement, secrets::Secret},
    telegram::Error,
    tenancy::bots,
};

/// The wait for the bot's own update about a new topic after Telegram's answer was lost.
const LOST_ANSWER_WAIT: Duration = Duration::from_secs(5);
/// The hold of a dialog after Avito could not be asked about it, seconds.
const AVITO_WAIT: f64 = 10.0;

/// Brings a dialog one step nearer to its topic.
pub(super) async fn ensure_topic(
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
pub(super) async fn confirm_chat(sender: &TelegramSender<'_>, dialog: &ClaimedDialog) -> TelegramStep {
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
            outcome.extend(topics::store_created_topic(sender.bot_id, dialog.id, chat_id, thread_id));
            return TelegramStep::Commit(outcome);
        }
        Err(error) => error,
    };
    tracing::warn!(bot_id = sender.bot_id, dialog_id = dialog.id, %error, "a topic was not created");
    if matches!(error.certainty(), Certainty::MaybeDone | Certainty::Done) {
        outcome.push(hold_dialog(dialog.id, LOST_ANSWER_WAIT.as_secs_f64()));
        return TelegramStep::Commit(outcome);
    }
    outcome.push(topics::reset_topic(dialog.id));
    match error {
        Error::TooManyRequests { retry_after } => {
            let until = retry::rate_limited_until(now, retry_after);
            outcome.push(bot_outbox::store_rate_limit(sender.bot_id, sender.owner, until));
            TelegramStep::ReleaseUntil(outcome, until)
        }
        Error::Migrated { to_chat_id } => {
            outcome.push(bots::move_group(sender.bot_id, chat_id, to_chat_id));
            outcome.extend(topics::move_topics(sender.bot_id, chat_id, to_chat_id));
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
    let (keys, chat_id) = (&dialog.keys, &dialog.avito_chat_id);
    let ask = async |avito: &avito::Client, token: &Secret| avito.chat(token, keys.user_id, chat_id).await;
    match AvitoCaller::new(sender.app, keys).call(CallPriority::Reply, None, ask).await {
        Ok(chat) => {
            let (buyer, item) = chat_snapshot::snapshot(&chat, keys.user_id);
            Ok(Context { buyer, item })
        }
        Err(CallError::Avito(avito::Error::Refused { status: 404, .. })) => Err(NotConfirmed::Unknown),
        Err(error) => {
            tracing::warn!(dialog_id = dialog.id, %error, "Avito could not be asked about a chat");
            Err(NotConfirmed::Later)
        }
    }
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

/// Filters the messages of a chat that Avito does not know: they stay stored, and are not posted.
fn hide_unknown_chat(dialog_id: i64) -> Statement {
    Statement::new(
        "UPDATE messages SET needs_post = false, status = 'filtered', error = 'Avito knows no such chat'
         WHERE dialog_id = $1 AND needs_post AND post_id IS NULL",
    )
    .bind(dialog_id)
}
