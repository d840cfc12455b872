//! The steps after a call that Telegram did not carry out: wait as Telegram orders, repair the topic, try a plainer form, mark the
//! bot as broken, or give up at last. `platform/endings.rs` has the waits and the ends. Our own failures do not count as attempts.
//! A post that Telegram certainly does not have is requeued as `pending`: its messages are no possible duplicates.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::{
    general, retry,
    send::{
        call,
        delivery_method::{plainer, use_next_method},
    },
    sender::{TelegramSender, TelegramStep},
    work::{BotWork, Post, Target},
};
use crate::{
    bridge::{
        common::{
            outage::Recovery,
            post_kind::PostKind,
            states::PostState,
            telegram_budget::{later, time_since},
            texts::{self, Language},
        },
        rows::{
            bot_outbox,
            posts::{self, Requeue},
            topics,
        },
    },
    platform::{
        db::Statement,
        endings::{Duty, Outcome, Verdict, spread},
    },
    telegram::Error,
    tenancy::bots,
};

/// The reason for which a bot cannot post at all. None: the error says something else, or concerns another chat than its group.
pub(super) fn broken_reason(error: &Error, target: Target, work: &BotWork) -> Option<String> {
    let is_own_group = work.bot.group_chat_id == Some(target.chat_id);
    match error {
        Error::BadToken => Some(error.to_string()),
        Error::Kicked(_) | Error::ChatNotFound if is_own_group => Some(error.to_string()),
        Error::NoRights(words) if is_own_group && !concerns_one_kind(words) => Some(error.to_string()),
        _ => None,
    }
}

/// True if Telegram's words about a missing right concern one kind of media, not all messages.
fn concerns_one_kind(words: &str) -> bool {
    let words = words.to_lowercase();
    let kinds = [
        "photo",
        "video",
        "audio",
        "voice",
        "document",
        "sticker",
        "animation",
        "media",
        "poll",
        "pin",
        "topic",
        "react",
    ];
    kinds.iter().any(|kind| words.contains(kind)) && !words.contains("text messages")
}

/// The duty that a post stands for.
fn duty_of(post: &Post, has_dialog: bool) -> Duty {
    match post.kind {
        PostKind::Header => Duty::Header,
        PostKind::Notice if post.ends_another() => Duty::EndNotice,
        PostKind::Notice if has_dialog => Duty::DialogNotice,
        PostKind::Notice => Duty::Notice,
        kind if kind.only_decorates() => Duty::Decoration,
        _ => Duty::Words,
    }
}

/// Returns the next step after `error`, with the statements to run; `outcome` has those that come first.
pub(super) async fn after_failure(
    sender: &TelegramSender<'_>,
    work: &BotWork,
    post: &Post,
    target: Target,
    error: Error,
    mut outcome: Vec<Statement>,
) -> TelegramStep {
    let now = work.outbox.current();
    if let Error::TooManyRequests { retry_after } = error {
        return after_rate_limit(sender, post, now, retry_after, outcome);
    }
    if let Some(reason) = broken_reason(&error, target, work).filter(|_| !post.kind.only_decorates()) {
        outcome.extend(posts::requeue_post(post.id, Requeue::AT_ONCE));
        return broken_bot(sender, work, reason, outcome);
    }
    if let Error::NoRights(words) = &error {
        outcome.push(bots::notify_missing_right(sender.bot_id, words.clone()));
    }
    if post.kind.only_decorates() {
        if error.outcome() != Outcome::Refused {
            outcome.extend(note_failed_call(sender, work, call::method_of(post), object_of(work, post), now));
        }
        outcome.extend(after_decoration_failure(post, &error, now));
        return TelegramStep::Commit(outcome);
    }
    match error {
        // Telegram carried it out, but its result cannot be read: a repetition would do it twice.
        Error::Unreadable => outcome.push(posts::mark_post_sent(post.id, Some(Vec::new()))),
        Error::NotAForum if target.thread_id.is_some() => {
            outcome.extend(posts::requeue_post(post.id, Requeue::AT_ONCE));
            outcome.push(bot_outbox::mark_topics_off(sender.bot_id));
        }
        Error::ThreadNotFound if work.dialog.is_some() && target.thread_id.is_some() => {
            outcome.extend(posts::requeue_post(post.id, Requeue::AT_ONCE));
            outcome.extend(target.thread_id.map(|thread| topics::forget_topic(sender.bot_id, target.chat_id, thread)));
            outcome.extend(work.dialog.as_ref().map(|dialog| topics::limit_new_topics(dialog.id)));
        }
        Error::TopicClosed => match &work.dialog {
            // Once for each post: a topic that is closed all the same is none that the post can go to.
            Some(_) if post.content.get(REOPENED).is_none() && call::reopen_topic(sender, target).await => {
                let mut content = post.content.clone();
                content[REOPENED] = json!(true);
                outcome.push(posts::replace_content(post.id, content, Vec::new(), false));
                outcome.extend(posts::requeue_post(post.id, Requeue::AT_ONCE));
            }
            Some(dialog) => {
                outcome.extend(posts::requeue_post(post.id, Requeue::AT_ONCE));
                outcome.extend(general::after_topic_failure(sender, work, dialog, &error, now));
            }
            None => outcome.extend(end_post(post, &error)),
        },
        Error::Migrated { to_chat_id } => {
            outcome.extend(posts::requeue_post(post.id, Requeue::AT_ONCE));
            outcome.push(bots::move_group(sender.bot_id, target.chat_id, to_chat_id));
            outcome.extend(topics::move_topics(sender.bot_id, target.chat_id, to_chat_id));
        }
        error => outcome.extend(after_post_failure(sender, work, post, target, &error)),
    }
    TelegramStep::Commit(outcome)
}

/// Decides by the table of waits and ends what follows the failure of a post that shows or says something.
fn after_post_failure(
    sender: &TelegramSender<'_>,
    work: &BotWork,
    post: &Post,
    target: Target,
    error: &Error,
) -> Vec<Statement> {
    let now = work.outbox.current();
    let duty = duty_of(post, work.dialog.is_some());
    let outcome = error.outcome();
    let mut history = post.history(now);
    history.has_witness = has_witness(work, post);
    let mut statements = Vec::new();
    if duty == Duty::EndNotice && outcome == Outcome::AnswerLost && history.answers_lost > 0 {
        // It was sent twice, and may stand there twice: more copies of it help nobody.
        return vec![posts::mark_post_sent(post.id, Some(Vec::new()))];
    }
    if outcome != Outcome::Refused {
        statements.extend(note_failed_call(sender, work, call::method_of(post), object_of(work, post), now));
    }
    match duty.after(outcome, history) {
        Verdict::Wait { wait, counts, lets_others_pass } => {
            let is_unknown = matches!(outcome, Outcome::AnswerLost | Outcome::Unknown);
            statements.extend(posts::requeue_post(
                post.id,
                Requeue {
                    state: if is_unknown { PostState::Sending } else { PostState::Pending },
                    is_attempt: counts,
                    is_answer_lost: outcome == Outcome::AnswerLost,
                    wait_seconds: spread(wait).as_secs_f64(),
                    is_alone: lets_others_pass || post.kind == PostKind::Notice,
                },
            ));
            if lets_others_pass {
                statements.push(posts::put_end_notice(post.id, end_text(post)));
            }
        }
        Verdict::Plainer => match plainer_form(post, target) {
            Some(again) => statements.extend(again),
            None => statements.extend(end_post(post, error)),
        },
        Verdict::End => statements.extend(end_post(post, error)),
    }
    statements
}

/// True if another message was posted for the group since the post began to fail.
fn has_witness(work: &BotWork, post: &Post) -> bool {
    post.failed_since.zip(work.outbox.last_sent_at).is_some_and(|(failed, sent)| sent > failed)
}

/// Judges a post of which so many answers were lost that it is not sent again: it ends with a witness, and waits for one else.
/// None: it may be sent.
pub(super) fn after_lost_answers(work: &BotWork, post: &Post) -> Option<Vec<Statement>> {
    let duty = duty_of(post, work.dialog.is_some());
    if !duty.awaits_witness(post.answers_lost.unsigned_abs()) {
        return None;
    }
    if has_witness(work, post) {
        return Some(end_post(post, &Error::Unknown(None)));
    }
    let wait = spread(duty.wait_for_witness(time_since(post.failed_since, work.outbox.now)));
    let wait_seconds = wait.as_secs_f64();
    Some(posts::requeue_post(
        post.id,
        Requeue { state: PostState::Sending, wait_seconds, is_alone: true, ..Requeue::AT_ONCE },
    ))
}

/// Returns the statements by which a post is sent in a plainer form. None: there is none.
fn plainer_form(post: &Post, target: Target) -> Option<Vec<Statement>> {
    if post.ends_another() {
        // Its topic does not take it: it is posted in the group itself.
        return target.thread_id.map(|_| vec![posts::send_to_general(post.id, target.chat_id)]);
    }
    use_next_method(post, false).or_else(|| plainer(post))
}

/// Ends a post: words with a notice, all else with a count.
fn end_post(post: &Post, error: &Error) -> Vec<Statement> {
    metrics::counter!("posts_failed").increment(1);
    match post.kind {
        PostKind::Notice => posts::mark_post_failed(post.id, error.to_string(), None),
        PostKind::Header => vec![posts::drop_post(post.id, &error.to_string())],
        _ => {
            let notice = posts::notice(end_text(post), None);
            posts::mark_post_failed(post.id, error.to_string(), Some(notice))
        }
    }
}

fn end_text(post: &Post) -> &'static str {
    if post.answers_lost > 0 {
        texts::posting_not_confirmed(Language::Russian)
    } else {
        texts::could_not_post(Language::Russian)
    }
}

/// Marks the bot as broken, and releases its outbox for a while that grows.
pub(super) fn broken_bot(
    sender: &TelegramSender<'_>,
    work: &BotWork,
    reason: String,
    mut outcome: Vec<Statement>,
) -> TelegramStep {
    let (statements, until) = rest_broken(sender.bot_id, work, reason);
    outcome.extend(statements);
    TelegramStep::ReleaseUntil(outcome, until)
}

/// Returns the statements that mark a bot as broken, and the time before which it is not tried again.
pub(super) fn rest_broken(bot_id: i64, work: &BotWork, reason: String) -> (Vec<Statement>, Timestamp) {
    let now = work.outbox.current();
    metrics::counter!("bots_broken").increment(1);
    let wait = Duty::BotRefused.wait_while_failing(time_since(work.bot.broken_since, now));
    let until = later(now, spread(wait));
    (vec![bots::mark_broken(bot_id, reason), bot_outbox::store_broken_until(bot_id, until)], until)
}

/// The object that failed in a post's call: its dialog, or a post outside of dialogs.
fn object_of(work: &BotWork, post: &Post) -> i64 {
    work.dialog.as_ref().map_or(-post.id, |dialog| dialog.id)
}

/// Notes that a dialog, or a post outside of dialogs, failed in a call.
pub(super) fn note_failed_call(
    sender: &TelegramSender<'_>,
    work: &BotWork,
    method: &str,
    object: i64,
    now: Timestamp,
) -> Option<Statement> {
    let former = work.outage.clone().unwrap_or_default();
    let outage = former.clone().with_failure(method, object, now);
    (outage != former).then(|| bot_outbox::store_outage(sender.bot_id, outage))
}

/// Notes that the receipts of these posts failed. Statement: none, if nothing changed by that.
pub(super) fn note_failed_receipts<'a>(
    sender: &TelegramSender<'_>,
    work: &BotWork,
    failed: impl Iterator<Item = &'a Post>,
) -> Option<Statement> {
    let former = work.outage.clone().unwrap_or_default();
    let now = work.outbox.current();
    let outage = failed.fold(former.clone(), |outage, post| outage.with_failure(SET_REACTION, -post.id, now));
    (outage != former).then(|| bot_outbox::store_outage(sender.bot_id, outage))
}

/// The member of a post's content which says that its topic was opened again for it.
const REOPENED: &str = "reopened";
/// The method that sets a receipt.
pub(super) const SET_REACTION: &str = "setMessageReaction";

/// Notes that a call went through. If it was out, what waited for it is due.
pub(super) fn note_call(sender: &TelegramSender<'_>, work: &BotWork, method: &str) -> Vec<Statement> {
    let recovery = work.outage.clone().and_then(|outage| outage.with_success(method));
    let Some(Recovery { outage, was_out }) = recovery else { return Vec::new() };
    let mut statements = if was_out { bot_outbox::resume_failed(sender.bot_id) } else { Vec::new() };
    statements.push(bot_outbox::store_outage(sender.bot_id, outage));
    statements
}

fn after_rate_limit(
    sender: &TelegramSender<'_>,
    post: &Post,
    now: Timestamp,
    wait: Duration,
    mut outcome: Vec<Statement>,
) -> TelegramStep {
    metrics::counter!("telegram_429").increment(1);
    let until = retry::rate_limited_until(now, wait);
    if post.kind == PostKind::Rename {
        outcome.push(posts::postpone_kind(sender.bot_id, post.kind, wait.as_secs_f64() + 0.5));
        return TelegramStep::Commit(outcome);
    }
    outcome.extend(posts::requeue_post(post.id, Requeue::AT_ONCE));
    outcome.push(bot_outbox::store_rate_limit(sender.bot_id, sender.owner, until));
    TelegramStep::ReleaseUntil(outcome, until)
}

/// Returns the statements that follow a receipt that was not set.
pub(super) fn after_receipt_failure(
    sender: &TelegramSender<'_>,
    work: &BotWork,
    post: &Post,
    error: &Error,
) -> Vec<Statement> {
    if let Error::TooManyRequests { retry_after } = error {
        metrics::counter!("telegram_429").increment(1);
        let until = retry::rate_limited_until(work.outbox.current(), *retry_after);
        return vec![bot_outbox::hold_reactions(sender.bot_id, sender.owner, until)];
    }
    after_decoration_failure(post, error, work.outbox.current())
}

/// Requeues a decoration if that may help, and gives it up otherwise. Nothing waits for it.
fn after_decoration_failure(post: &Post, error: &Error, now: Timestamp) -> Vec<Statement> {
    match Duty::Decoration.after(error.outcome(), post.history(now)) {
        Verdict::Wait { wait, counts, .. } => posts::requeue_post(
            post.id,
            Requeue {
                is_attempt: counts,
                wait_seconds: spread(wait).as_secs_f64(),
                is_alone: true,
                ..Requeue::AT_ONCE
            },
        ),
        Verdict::Plainer | Verdict::End => {
            metrics::counter!("decorations_dropped", "kind" => post.kind.as_str()).increment(1);
            posts::mark_post_failed(post.id, error.to_string(), None)
        }
    }
}
