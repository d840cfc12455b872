//! The steps after a call that Telegram did not carry out: wait as Telegram orders, repair the topic, mark the bot as
//! broken, or give up at last. Our own failures do not count as attempts. A post that Telegram certainly does not have
//! is requeued as `pending`: its messages are no possible duplicates.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    retry,
    send::call,
    sender::{TelegramSender, TelegramStep},
    work::{BotWork, Post, Target},
};
use crate::{
    bridge::{
        common::{
            post_kind::PostKind,
            telegram_budget::later,
            texts::{self, Language},
        },
        rows::{bot_outbox, posts, topics},
    },
    platform::{certainty::Certainty, db::Statement},
    telegram::Error,
    tenancy::bots,
};

/// The number of unexplained failures after which a post is given up.
const ATTEMPTS: i32 = 10;

/// The reason for which a bot cannot post. None: the error says something else.
pub(super) fn broken_reason(error: &Error) -> Option<String> {
    match error {
        Error::Kicked(_) | Error::NoRights(_) | Error::ChatNotFound | Error::BadToken => Some(error.to_string()),
        _ => None,
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
    if post.kind.only_decorates() {
        outcome.extend(after_decoration_failure(post, &error));
        return TelegramStep::Commit(outcome);
    }
    if let Some(reason) = broken_reason(&error) {
        outcome.extend(posts::requeue_post(post.id, false, 0.0));
        outcome.push(bots::mark_broken(sender.bot_id, reason));
        metrics::counter!("bots_broken").increment(1);
        return TelegramStep::ReleaseUntil(outcome, later(now, retry::BROKEN_PAUSE));
    }
    match error {
        Error::NotSent(_) => outcome.extend(posts::requeue_post(post.id, false, retry::NOT_SENT_PAUSE)),
        // Telegram carried it out, but its result cannot be read: a repetition would do it twice.
        Error::Unreadable => outcome.push(posts::mark_post_sent(post.id, Some(Vec::new()))),
        Error::NotAForum => {
            outcome.extend(posts::requeue_post(post.id, false, 0.0));
            outcome.push(bot_outbox::mark_topics_off(sender.bot_id));
        }
        Error::ThreadNotFound => {
            outcome.extend(posts::requeue_post(post.id, false, 0.0));
            outcome.extend(target.thread_id.map(|thread| topics::forget_topic(sender.bot_id, target.chat_id, thread)));
        }
        Error::TopicClosed => {
            let reopened = call::reopen_topic(sender, target).await;
            outcome.extend(posts::requeue_post(
                post.id,
                !reopened,
                if reopened { 0.0 } else { retry::backoff(post.attempts) },
            ));
        }
        Error::Migrated { to_chat_id } => {
            outcome.extend(posts::requeue_post(post.id, false, 0.0));
            outcome.push(bots::move_group(sender.bot_id, target.chat_id, to_chat_id));
            outcome.extend(topics::move_topics(sender.bot_id, target.chat_id, to_chat_id));
        }
        error if post.attempts + 1 >= ATTEMPTS => {
            metrics::counter!("posts_failed").increment(1);
            let notice = posts::notice(texts::could_not_post(Language::Russian), None);
            outcome.extend(posts::mark_post_failed(
                post.id,
                error.to_string(),
                (post.kind != PostKind::Notice).then_some(notice),
            ));
        }
        // A gateway's 5xx may hide a message that was sent.
        error if error.certainty() == Certainty::MaybeDone => {
            outcome.extend(posts::requeue_uncertain(post.id, retry::backoff(post.attempts)));
        }
        _ => outcome.extend(posts::requeue_post(post.id, true, retry::backoff(post.attempts))),
    }
    TelegramStep::Commit(outcome)
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
    outcome.extend(posts::requeue_post(post.id, false, 0.0));
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
    after_decoration_failure(post, error)
}

/// Requeues a decoration up to three times if that may help; otherwise gives it up.
fn after_decoration_failure(post: &Post, error: &Error) -> Vec<Statement> {
    let may_help = matches!(error, Error::NotSent(_)) || error.certainty() == Certainty::MaybeDone;
    if may_help && post.attempts < 3 {
        let mut again = posts::requeue_post(post.id, true, 0.0);
        again.push(posts::postpone(post.id, retry::backoff(post.attempts)));
        again
    } else {
        posts::mark_post_failed(post.id, error.to_string(), None)
    }
}
