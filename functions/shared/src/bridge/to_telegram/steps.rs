//! Decides what the claimed work needs next: a topic, a stored post, new posts, or receipts; and what follows a call.

use std::{sync::atomic::Ordering, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    compose::{header, post_text},
    confirmation, failures, receipts, rename, replay,
    send::{
        call,
        files::{Files, Preparation},
        media,
    },
    sender::{TelegramSender, TelegramStep},
    topic,
    work::{BotWork, ClaimedDialog, Completed, Post, SentPost, Target, Topic},
};
use crate::{
    bridge::{
        common::{
            post_kind::PostKind,
            states::PostState,
            telegram_budget::{TelegramBudget, later},
        },
        error::BridgeError,
        rows::{
            bot_outbox,
            posts::{self, Requeue},
            set_aside, topic_emoji, topics,
        },
    },
    platform::{certainty::Certainty, db::Statement},
    tenancy::bots,
};

/// True if the reason for a post is gone: the dialog is open again, or closed again, or its topic is gone.
fn is_obsolete(kind: PostKind, dialog: &ClaimedDialog, one_chat: bool) -> bool {
    let has_topic = matches!(dialog.topic, Topic::Open { .. }) && !one_chat;
    let is_closed = dialog.state.is_closed();
    let is_done = kind == PostKind::CloseTopic && !is_closed || kind == PostKind::ReopenTopic && is_closed;
    kind.needs_topic() && !has_topic || is_done
}

/// The content of a stored post, as it is known before the post is sent.
enum PostContent {
    /// The row has the content.
    Stored,
    /// The content was composed now. It is stored when the post is set to `sending`.
    Composed(Value),
    /// The post needs not be sent any more.
    Obsolete,
}

impl TelegramSender<'_> {
    pub(super) async fn step(&self, work: &BotWork) -> Result<TelegramStep, BridgeError> {
        let content = work.posts.first().filter(|post| !post.kind.only_decorates());
        let decoration = work.posts.first().filter(|post| post.kind.only_decorates());
        // Posts that are left of a dialog which moved to another bot go to their own target, or to the group.
        let (dialog, moved) = match &work.dialog {
            Some(dialog) if dialog.bot_id != self.bot_id => (None, Some(dialog)),
            dialog => (dialog.as_ref(), None),
        };
        if let Some(dialog) = moved.filter(|_| !work.messages.is_empty()) {
            return Ok(TelegramStep::HandOver(dialog.id));
        }
        match (dialog, content, decoration) {
            (Some(dialog), content, _) if content.is_some() || !work.messages.is_empty() => {
                match (work.target_of(dialog), content) {
                    (target, Some(post)) if post.chat_id.is_some() => {
                        self.send_stored_post(work, post, post.target().or(target).unwrap_or_else(|| work.group()))
                            .await
                    }
                    (Some(target), Some(post)) => self.send_stored_post(work, post, target).await,
                    (Some(target), None) => Ok(self.plan_messages(work, dialog, target).await),
                    // A notice alone makes no topic and confirms no chat.
                    (None, Some(post)) if work.messages.is_empty() && post.kind == PostKind::Notice => {
                        self.send_homeless_notice(work, dialog, post).await
                    }
                    (None, _) if work.one_chat().is_some() => Ok(confirmation::confirm_chat(self, work, dialog).await),
                    (None, _) => topic::ensure_topic(self, work, dialog).await,
                }
            }
            (_, Some(post), _) | (_, _, Some(post)) => {
                let topic = dialog.and_then(|dialog| work.target_of(dialog)).unwrap_or_else(|| work.group());
                self.send_stored_post(work, post, post.target().unwrap_or(topic)).await
            }
            (_, None, None) if !work.receipts.is_empty() => Ok(receipts::set_reactions(self, work).await),
            (_, None, None) => Ok(TelegramStep::Commit(Vec::new())),
        }
    }

    /// Sends a notice of a dialog without a topic to the group itself. A chat that Avito has not confirmed gets none.
    async fn send_homeless_notice(
        &self,
        work: &BotWork,
        dialog: &ClaimedDialog,
        post: &Post,
    ) -> Result<TelegramStep, BridgeError> {
        if dialog.confirmed {
            return self.send_stored_post(work, post, work.group()).await;
        }
        metrics::counter!("notices_dropped").increment(1);
        Ok(TelegramStep::Commit(vec![posts::drop_post(post.id, "the chat is not confirmed")]))
    }

    /// Sets a post that was stored earlier to `sending`, and sends it.
    async fn send_stored_post(&self, work: &BotWork, post: &Post, target: Target) -> Result<TelegramStep, BridgeError> {
        let mut composed = match self.content_of(work, post).await? {
            PostContent::Stored => None,
            PostContent::Composed(content) => Some(content),
            PostContent::Obsolete => {
                return Ok(TelegramStep::Commit(vec![posts::drop_post(post.id, "not needed any more")]));
            }
        };
        if let Some(outcome) = failures::after_lost_answers(work, post) {
            return Ok(TelegramStep::Commit(outcome));
        }
        if let Some(until) = work.held_until(call::method_of(post)) {
            return Ok(TelegramStep::Commit(hold_post(work, post, until)));
        }
        let mut attached = Vec::new();
        if let Some((both, message_ids)) = composed.as_ref().and_then(|alone| header::under_pressure(work, post, alone))
        {
            (composed, attached) = (Some(both), message_ids);
        }
        if post.kind == PostKind::Rename && !work.outbox.budget.is_half_free(work.outbox.now) {
            return Ok(TelegramStep::Commit(vec![posts::postpone(post.id, topic_emoji::BUDGET_DELAY)]));
        }
        let left = match Self::budget_for(work, post) {
            Ok(left) => left,
            Err(next) => return Ok(next),
        };
        let files = match self.prepare(work, post).await? {
            Preparation::Ready(files) => files,
            Preparation::Not(outcome) => return Ok(TelegramStep::Commit(outcome)),
        };
        // A repeatable post needs no `sending` before its call: to send it again changes nothing.
        if !post.kind.is_repeatable() {
            let statements = vec![
                bot_outbox::renew_lease(self.bot_id, self.owner),
                posts::mark_post_sending(self.bot_id, self.owner, post.id, post.outcome_unknown, composed.clone()),
                posts::attach_messages(post.id, attached),
            ];
            let results = self.run_with_dialog_lock(work, statements).await?;
            if results.first().is_none_or(Vec::is_empty) {
                return Ok(TelegramStep::LeaseLost);
            }
            if results.get(1).is_none_or(Vec::is_empty) {
                return Ok(TelegramStep::Commit(Vec::new()));
            }
            if post.outcome_unknown {
                metrics::counter!("posts_resent").increment(1);
            }
        }
        let content = composed.unwrap_or_else(|| post.content.clone());
        Ok(self.send(work, &Post { content, ..*post }, target, left, files).await)
    }

    /// Returns a stored post's content, and composes it now if the post was stored without. In a group without topics a
    /// post gets a heading that names its dialog.
    async fn content_of(&self, work: &BotWork, post: &Post) -> Result<PostContent, BridgeError> {
        let Some(dialog) = &work.dialog else { return Ok(PostContent::Stored) };
        let has_text = post.content.get("text").is_some();
        let one_chat = work.one_chat().is_some();
        Ok(match post.kind {
            kind if is_obsolete(kind, dialog, one_chat) => PostContent::Obsolete,
            PostKind::Rename => {
                rename::rename_content(post, dialog).map_or(PostContent::Obsolete, PostContent::Composed)
            }
            PostKind::Header if !has_text => PostContent::Composed(header::header(dialog)),
            PostKind::Replay if !has_text => {
                replay::compose(self, work, dialog).await?.map_or(PostContent::Obsolete, PostContent::Composed)
            }
            kind if work.is_headed(dialog)
                && !post.outcome_unknown
                && !kind.only_decorates()
                && post.content.get("has_heading").is_none() =>
            {
                PostContent::Composed(post_text::with_heading(kind, post.content.clone(), &post_text::name_of(dialog)))
            }
            _ => PostContent::Stored,
        })
    }

    /// Returns the budget that a post leaves, to be stored once it is sent. The error is the step to take while the
    /// budget does not suffice.
    pub(super) fn budget_for(work: &BotWork, post: &Post) -> Result<TelegramBudget, TelegramStep> {
        let now = work.outbox.now;
        work.outbox
            .budget
            .take(media::cost(post), now)
            .map_err(|wait| TelegramStep::ReleaseUntil(Vec::new(), later(now, wait)))
    }

    pub(super) async fn send(
        &self,
        work: &BotWork,
        post: &Post,
        target: Target,
        left: TelegramBudget,
        files: Files<'_>,
    ) -> TelegramStep {
        let charge = || bot_outbox::charge_budget(self.bot_id, self.owner, left.clone());
        let answer = self.call(post, target, files).await;
        match answer {
            Ok(message_ids) => {
                let (mut outcome, mut sent_post) = (Vec::new(), None);
                outcome.extend(failures::note_call(self, work, call::method_of(post)));
                let resumed = work.dialog.as_ref().filter(|dialog| dialog.set_aside_attempts > 0);
                outcome.extend(resumed.map(|dialog| set_aside::resume_set_aside(dialog.id)));
                if post.kind == PostKind::Header
                    && let Some(message_id) = message_ids.first()
                {
                    outcome.push(posts::schedule_pin(post.id, *message_id));
                }
                match (post.kind, &work.dialog) {
                    (PostKind::CloseTopic | PostKind::ReopenTopic, Some(dialog)) => {
                        outcome.push(topics::set_topic_closed(dialog.id, post.kind == PostKind::CloseTopic));
                        outcome.push(posts::mark_post_sent(post.id, Some(message_ids)));
                    }
                    (PostKind::Rename, Some(dialog)) => {
                        let emoji = post.content["emoji"].as_str().unwrap_or_default();
                        outcome.push(topic_emoji::mark_renamed(dialog.id, emoji));
                        outcome.push(posts::mark_post_sent(post.id, Some(message_ids)));
                    }
                    (kind, _) if kind.is_one_message() => sent_post = Some(SentPost { post_id: post.id, message_ids }),
                    _ => outcome.extend(media::after_sending_media(post, message_ids)),
                }
                if post.kind != PostKind::Rename && work.one_chat().is_none() {
                    let is_rename_needed = work.dialog.as_ref().is_some_and(rename::needs_rename);
                    outcome.extend(is_rename_needed.then(|| topic_emoji::schedule_rename(post.id)));
                }
                let topics_gone = self.topics_gone.swap(false, Ordering::Relaxed);
                if topics_gone {
                    outcome.push(bot_outbox::mark_topics_off(self.bot_id));
                }
                if work.bot.broken {
                    outcome.push(bots::mark_working(self.bot_id));
                }
                // The other statements lock more than the dialog, so the one that locks the dialog comes first.
                if let Some(SentPost { post_id, message_ids }) = sent_post.take_if(|_| !outcome.is_empty()) {
                    outcome.insert(0, posts::mark_post_sent(post_id, Some(message_ids)));
                }
                // Once topics are gone, `Commit` drops the posts composed meanwhile: they were meant for a topic.
                if post.kind.is_one_message() && !topics_gone {
                    return TelegramStep::CommitSent(
                        outcome,
                        Completed { messages: Some(left), reactions: None, sent_post },
                    );
                }
                outcome.push(charge());
                if !post.kind.only_decorates() {
                    outcome.push(bot_outbox::store_sent(self.bot_id));
                }
                TelegramStep::Commit(outcome)
            }
            Err(error) => {
                tracing::warn!(bot_id = self.bot_id, post_id = post.id, kind = post.kind.as_str(), %error, "a post was not sent");
                // A refused post costs the group's budget nothing.
                let cost = matches!(error.certainty(), Certainty::MaybeDone | Certainty::Done).then(charge);
                failures::after_failure(self, work, post, target, error, cost.into_iter().collect()).await
            }
        }
    }
}

/// Holds a post whose call is out until the next trial. That is no attempt.
fn hold_post(work: &BotWork, post: &Post, until: Timestamp) -> Vec<Statement> {
    let wait = Duration::try_from(until.duration_since(work.outbox.now)).unwrap_or_default();
    let state = if post.outcome_unknown { PostState::Sending } else { PostState::Pending };
    let is_alone = post.kind == PostKind::Notice || post.kind.only_decorates();
    posts::requeue_post(post.id, Requeue { state, wait_seconds: wait.as_secs_f64(), is_alone, ..Requeue::AT_ONCE })
}
