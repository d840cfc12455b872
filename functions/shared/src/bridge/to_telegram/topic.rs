//! The topic of a dialog. Avito confirms the chat, Telegram is asked for the topic once, and the topic is found again
//! if Telegram's answer was lost. The worker commits `creating` with the name before the call. The topic's id is stored
//! only if the dialog has no other topic by then.

use std::time::Duration;

use frankenstein::methods::CreateForumTopicParams;
use serde::Deserialize;

use super::{
    compose::post_text,
    confirmation::{self, Context},
    failures, general, retry,
    sender::{TelegramSender, TelegramStep},
    work::{BotWork, ClaimedDialog, Target, Topic},
};
use crate::{
    bridge::{
        common::{
            telegram_budget::{TelegramBudget, later},
            texts::{self, Language},
        },
        error::BridgeError,
        rows::{
            bot_outbox,
            topics::{self, hold_dialog},
        },
    },
    platform::{certainty::Certainty, db::Statement},
    telegram::Error,
    tenancy::bots,
};

/// The wait for the bot's own update about a new topic after Telegram's answer was lost.
const LOST_ANSWER_WAIT: Duration = Duration::from_secs(5);
/// The method that creates a topic.
const CREATE_TOPIC: &str = "createForumTopic";
/// From so many failed attempts on a topic gets the safe name: its own may be what Telegram refuses.
const ATTEMPTS_WITH_OWN_NAME: i32 = 2;
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
    // Stored with the topic, or alone if the topic has to wait: Avito is not asked again then.
    let (context, confirmed) = if dialog.confirmed {
        (Context { buyer: dialog.buyer.clone(), item: dialog.item.clone() }, Vec::new())
    } else {
        match confirmation::ask_avito(sender, dialog).await {
            Ok(context) => {
                let confirmed = confirmation::after_confirmation(dialog, &context);
                (context, confirmed)
            }
            Err(not_confirmed) => return Ok(confirmation::after_no_confirmation(dialog, &not_confirmed, now)),
        }
    };
    if let Some(until) = work.held_until(CREATE_TOPIC) {
        let held = general::hold_for_trial(work, dialog, until, now);
        return Ok(TelegramStep::Commit(confirmed.into_iter().chain(held).collect()));
    }
    let budget = match work.outbox.budget.take(1, now) {
        Ok(budget) => budget,
        Err(wait) => return Ok(TelegramStep::ReleaseUntil(confirmed, later(now, wait))),
    };
    let name = topic_name(dialog, &context);
    let mut request =
        vec![bot_outbox::renew_lease(sender.bot_id, sender.owner), mark_topic_creating(sender, dialog, &name, context)];
    request.extend((!dialog.confirmed).then(|| confirmation::release_unconfirmed(dialog.keys.account_id)));
    let results = sender.run_with_dialog_lock(work, request).await?;
    if results.first().is_none_or(Vec::is_empty) {
        return Ok(TelegramStep::LeaseLost);
    }
    if results.get(1).is_none_or(Vec::is_empty) {
        return Ok(TelegramStep::Commit(Vec::new())); // the bot's own update brought the topic meanwhile
    }
    Ok(create_topic(sender, work, dialog, name, budget).await)
}

/// The name of a dialog's topic: of buyer and item; if Telegram refused that, a safe one.
fn topic_name(dialog: &ClaimedDialog, context: &Context) -> String {
    if dialog.topic_attempts < ATTEMPTS_WITH_OWN_NAME {
        return post_text::topic_name(context.buyer.as_ref(), context.item.as_ref());
    }
    format!("{} {:04}", texts::safe_topic_name(Language::Russian), dialog.id % 10_000)
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
    let answer: Result<CreatedTopic, Error> = sender.telegram.call(CREATE_TOPIC, &params).await;
    let now = work.outbox.current();
    let charge = bot_outbox::charge_budget(sender.bot_id, sender.owner, budget);
    let error = match answer {
        Ok(topic) => {
            let thread_id = topic.message_thread_id;
            let mut outcome = vec![charge];
            outcome.extend(topics::store_created_topic(sender.bot_id, dialog.id, chat_id, thread_id));
            outcome.extend(failures::note_call(sender, work, CREATE_TOPIC));
            return TelegramStep::Commit(outcome);
        }
        Err(error) => error,
    };
    tracing::warn!(bot_id = sender.bot_id, dialog_id = dialog.id, %error, "a topic was not created");
    if error.certainty() == Certainty::Done {
        return TelegramStep::Commit(vec![charge, hold_dialog(dialog.id, LOST_ANSWER_WAIT.as_secs_f64())]);
    }
    let target = Target { chat_id, thread_id: None };
    // A refused topic costs the group's budget nothing. Of an unknown one the bot's own update is awaited.
    let mut outcome = match error.certainty() {
        Certainty::MaybeDone => vec![charge],
        _ => vec![topics::reset_topic(dialog.id)],
    };
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
        Error::Kicked(_) | Error::ChatNotFound | Error::BadToken => {
            let reason = failures::broken_reason(&error, target, work).unwrap_or_else(|| error.to_string());
            failures::broken_bot(sender, work, reason, outcome)
        }
        error => {
            outcome.extend(failures::note_failed_call(sender, work, CREATE_TOPIC, dialog.id, now));
            outcome.extend(general::after_topic_failure(sender, work, dialog, &error, now));
            TelegramStep::Commit(outcome)
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
