//! Sets the receipts that are due, at most eight at a time, within a budget of their own.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;

use super::{
    failures,
    send::files::Files,
    sender::{TelegramSender, TelegramStep},
    work::{BotWork, Completed, Post},
};
use crate::{
    bridge::{
        common::telegram_budget::later,
        rows::{bot_outbox, topic_emoji},
    },
    platform::{db::Statement, endings::Outcome},
    tenancy::bots,
};

/// The wait of reactions that are left, or arrive, while a batch is being set, so that up to eight go together. Other
/// work ends the wait. Eight in 250 ms are as many as Telegram takes from a bot (about 30 calls a second,
/// core.telegram.org/bots/faq).
pub(super) const BATCH_DELAY: Duration = Duration::from_millis(250);

/// Marks the reactions of these posts as set. Skips a post whose content a later receipt has changed, or is just
/// changing. `has_topics`: schedules the renames that their topics need.
fn mark_reactions_set<'a>(posts: impl Iterator<Item = &'a Post> + Clone, has_topics: bool) -> Statement {
    let contents: Value = posts.clone().map(|post| (post.id.to_string(), post.content.clone())).collect();
    Statement::call("mark_reactions_set")
        .arg("post_ids", posts.map(|post| post.id).collect::<Vec<_>>())
        .arg("contents", contents)
        .arg("has_topics", has_topics)
        .arg("rename_delay_seconds", topic_emoji::RENAME_DELAY)
}

/// Sets the due receipts together. Each is on a message of its own, and setting one twice changes nothing.
pub(super) async fn set_reactions(sender: &TelegramSender<'_>, work: &BotWork) -> TelegramStep {
    if let Some(until) = work.held_until(failures::SET_REACTION) {
        return TelegramStep::Commit(vec![bot_outbox::hold_reactions(sender.bot_id, sender.owner, until)]);
    }
    let waiting = &work.receipts;
    let (now, mut left) = (work.outbox.now, work.outbox.reactions.clone());
    let affordable = waiting.iter().map_while(|_| left.take(1, now).map(|remaining| left = remaining).ok()).count();
    if affordable == 0 {
        let wait = left.take(1, now).err().unwrap_or_default();
        return TelegramStep::Commit(vec![bot_outbox::hold_reactions(sender.bot_id, sender.owner, later(now, wait))]);
    }
    let target = |post: &Post| post.target().unwrap_or_else(|| work.group());
    let calls = waiting[..affordable].iter().map(|post| async move {
        let answer = sender.call(post, target(post), Files::default()).await;
        (post, answer.err())
    });
    let (failed, done): (Vec<_>, Vec<_>) = join_all(calls).await.into_iter().partition(|(_, error)| error.is_some());
    let done = done.iter().map(|(post, _)| *post);
    let mut outcome = vec![mark_reactions_set(done.clone(), work.one_chat().is_none())];
    if work.bot.broken && done.len() > 0 {
        outcome.push(bots::mark_working(sender.bot_id));
    }
    if done.len() > 0 {
        outcome.extend(failures::note_call(sender, work, failures::SET_REACTION));
    }
    if failed.is_empty() {
        return TelegramStep::CommitSent(outcome, Completed { reactions: Some(left), ..Completed::default() });
    }
    outcome.push(bot_outbox::charge_reaction_budget(sender.bot_id, sender.owner, left));
    let lost =
        failed.iter().filter(|(_, error)| error.as_ref().is_some_and(|error| error.outcome() != Outcome::Refused));
    outcome.extend(failures::note_failed_receipts(sender, work, lost.map(|(post, _)| *post)));
    for (post, error) in failed.into_iter().filter_map(|(post, error)| Some((post, error?))) {
        tracing::warn!(bot_id = sender.bot_id, post_id = post.id, %error, "a receipt was not set");
        outcome.extend(failures::after_receipt_failure(sender, work, post, &error));
    }
    TelegramStep::Commit(outcome)
}
