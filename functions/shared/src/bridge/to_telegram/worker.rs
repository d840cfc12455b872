//! To Telegram: the worker that holds the lease of a bot's outbox posts what waits, the longest-waiting dialog first.
//! A post whose outcome is unknown is sent again exactly as composed, before anything new.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;
use uuid::Uuid;

use super::{
    claim,
    compose::{header, post_text},
    failures, receipts, rename, replay,
    send::{
        delivery_method::{plainer, use_next_method},
        files::{Files, Preparation},
        media,
    },
    sender::{AskedPositions, SendPlan, TelegramSender, TelegramStep},
    topic,
    work::{self, BotWork, ClaimedDialog, Completed, Post, SentPost, Target, Topic},
};
use crate::{
    App,
    bridge::{
        api::relocation,
        common::{
            claim::Claim,
            post_kind::{self, is_one_message},
            queue_tasks::TelegramTask,
            telegram_budget::{TelegramBudget, later},
            tenant_cache,
        },
        error::BridgeError,
        rows::{bot_outbox, posts, topic_emoji, topics},
    },
    planned,
    platform::db::{DbError, Scope, get},
    telegram,
    tenancy::bots,
};

/// The end of a worker's run for one bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerOutcome {
    /// Nothing is left to do now. Work that is due later has its wake-up.
    Done,
    /// Another worker holds the lease.
    LeaseTaken,
}

/// The end of one round, from taking the lease to its release.
enum RoundEnd {
    Worker(WorkerOutcome),
    /// More work is due after this short time, and no wake-up was sent for it.
    DueSoon(Duration),
}

/// The state of a worker between two transactions.
enum WorkerState {
    /// Work is claimed, and its next step is not decided yet.
    Claimed(Box<BotWork>),
    /// A post is stored as `sending`, and its call comes next.
    Sending(Box<SendingPost>),
}

/// A post that is to be sent now.
struct SendingPost {
    /// The work that the post belongs to.
    work: Box<BotWork>,
    post: Post,
    target: Target,
    /// The budget that is left after the post.
    left: TelegramBudget,
    /// The next claimed work, which may be composed during the call.
    next_work: Box<BotWork>,
}

/// Works for one bot until nothing is left, `stop` is reached, or nothing may be sent. Errors: our Postgres failed, or
/// a secret does not open. The next worker finds unfinished posts again.
///
/// Work that is due within 250 ms is waited for here, with the lease released, because SQS delays are whole seconds.
/// Another worker may take the lease meanwhile, and then does the remaining work. If this process ends during the wait,
/// the next wake-up or the sweep finds the work.
pub async fn deliver_to_telegram(app: &App, bot_id: i64, stop: Instant) -> Result<WorkerOutcome, BridgeError> {
    let mut has_waited = false;
    loop {
        match run_round(app, bot_id, stop).await? {
            RoundEnd::Worker(WorkerOutcome::LeaseTaken) if has_waited => return Ok(WorkerOutcome::Done),
            RoundEnd::Worker(outcome) => return Ok(outcome),
            RoundEnd::DueSoon(wait) if Instant::now() + wait < stop => {
                tokio::time::sleep(wait).await;
                has_waited = true;
            }
            RoundEnd::DueSoon(wait) => {
                wake_in(app, bot_id, wait).await;
                return Ok(WorkerOutcome::Done);
            }
        }
    }
}

/// Takes the lease and works until nothing is due at the moment.
async fn run_round(app: &App, bot_id: i64, stop: Instant) -> Result<RoundEnd, BridgeError> {
    let owner = Uuid::new_v4();
    let first = claim::claim_bot_work(bot_id, owner, Vec::new(), Completed::default(), None);
    let scope = tenant_cache::scope(&tenant_cache::OF_BOTS, bot_id, bots::find_tenant_of_bot);
    let work = match work::read(&app.db().run(scope, first).await?)? {
        Claim::Claimed(work) => work,
        ended => return Ok(end_round(app, bot_id, ended).await),
    };
    let client_id = work.bot.client_id;
    tenant_cache::remember(&tenant_cache::OF_BOTS, bot_id, client_id);
    let token = app.keyring().open(&work.bot.token, bots::token_context(client_id))?;
    let telegram = bots::telegram(app, token);
    let sender = TelegramSender {
        app,
        bot_id,
        owner,
        client_id,
        telegram,
        topics_gone: AtomicBool::new(false),
        asked_positions: AskedPositions::default(),
    };
    let mut state = WorkerState::Claimed(work);
    loop {
        let (work, next, next_work) = match state {
            WorkerState::Claimed(work) => {
                let next = match TelegramSender::blocked_until(&work) {
                    Some(until) => TelegramStep::ReleaseUntil(Vec::new(), until),
                    None if Instant::now() >= stop => TelegramStep::ReleaseUntil(Vec::new(), work.outbox.now),
                    None => sender.step(&work).await?,
                };
                (work, next, None)
            }
            WorkerState::Sending(sending) => {
                let SendingPost { work, post, target, left, next_work } = *sending;
                let sending = sender.send(&work, &post, target, left, Files::default());
                let (next, next_work) = tokio::join!(sending, async { sender.compose_next(next_work, left) });
                (work, next, next_work.filter(|_| Instant::now() < stop))
            }
        };
        let (results, composed) = match next {
            TelegramStep::Commit(outcome) => {
                let statements = claim::claim_bot_work(bot_id, owner, outcome, Completed::default(), None);
                (sender.run_with_dialog_lock(&work, statements).await?, None)
            }
            TelegramStep::CommitSent(outcome, completed) => {
                let prepared = next_work.as_ref().map(|(_, plan)| &plan.prepared);
                (sender.run(claim::claim_bot_work(bot_id, owner, outcome, completed, prepared)).await?, next_work)
            }
            TelegramStep::SendPlanned(plan) => {
                let statements =
                    claim::claim_bot_work(bot_id, owner, Vec::new(), Completed::default(), Some(&plan.prepared));
                (sender.run_with_dialog_lock(&work, statements).await?, Some((work, plan)))
            }
            TelegramStep::HandOver(dialog_id) => {
                let statements = claim::claim_bot_work(
                    bot_id,
                    owner,
                    relocation::hand_over_messages(dialog_id),
                    Completed::default(),
                    None,
                );
                let results = sender.run_with_dialog_lock(&work, statements).await?;
                relocation::wake(app, &results).await?;
                (results, None)
            }
            TelegramStep::ReleaseUntil(mut outcome, until) => {
                outcome.push(bot_outbox::release_until(bot_id, owner, until));
                let results = sender.run_with_dialog_lock(&work, outcome).await?;
                let needs_wakeup =
                    results.last().and_then(|rows| rows.first()).is_some_and(|row| get(row, "book").unwrap_or(true));
                if needs_wakeup {
                    let wait = Duration::try_from(until.duration_since(work.outbox.current())).unwrap_or_default();
                    wake_in(app, bot_id, wait).await;
                }
                return Ok(RoundEnd::Worker(WorkerOutcome::Done));
            }
            TelegramStep::LeaseLost => return Ok(RoundEnd::Worker(WorkerOutcome::LeaseTaken)),
        };
        state = match work::read(&results)? {
            Claim::Claimed(claimed) => WorkerState::of(claimed, composed),
            ended => return Ok(end_round(app, bot_id, ended).await),
        };
    }
}

impl WorkerState {
    /// Returns the state after a claim. If the claim stored the `composed` posts and set the first to `sending`, that
    /// post is sent next, and the claimed work may be composed meanwhile.
    fn of(claimed: Box<BotWork>, composed: Option<(Box<BotWork>, SendPlan)>) -> Self {
        match (claimed.sending_post_id, composed) {
            (Some(id), Some((mut work, plan))) => {
                work.outbox = claimed.outbox;
                let post = plan.prepared.first_post(id);
                let left = TelegramSender::budget_for(&work, &post).unwrap_or(plan.left);
                Self::Sending(Box::new(SendingPost { work, post, target: plan.target, left, next_work: claimed }))
            }
            _ => Self::Claimed(claimed),
        }
    }
}

/// Returns at most `limit` bots that are due and for which no worker holds a lease, the longest-waiting first. Bots
/// that became due within the last 50 ms are left out: their wake-up was just sent.
pub async fn due_bots(app: &App, limit: usize) -> Result<Vec<i64>, DbError> {
    let due = planned!(
        "SELECT bot_id FROM bot_outboxes
         WHERE due_at <= now() - interval '50 milliseconds' AND (lease_until IS NULL OR lease_until < now())
         ORDER BY due_at LIMIT $1",
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    app.db().query(Scope::Service, due.bind(limit)).await?.iter().map(|row| get(row, "bot_id")).collect()
}

/// Ends the round after a claim that found nothing to do, and sends the wake-up that it asks for.
async fn end_round(app: &App, bot_id: i64, claim: Claim<BotWork>) -> RoundEnd {
    match claim {
        Claim::LeaseTaken => return RoundEnd::Worker(WorkerOutcome::LeaseTaken),
        Claim::DueSoon(wait) => return RoundEnd::DueSoon(wait),
        Claim::Idle { wake_in: Some(wait) } => wake_in(app, bot_id, wait).await,
        Claim::Idle { wake_in: None } | Claim::NothingDue | Claim::Claimed(_) => {}
    }
    RoundEnd::Worker(WorkerOutcome::Done)
}

/// Sends one delayed wake-up for work that is due later. Beyond the longest delay of SQS the sweep finds the bot.
async fn wake_in(app: &App, bot_id: i64, wait: Duration) {
    if wait <= crate::platform::queue::MAX_DELAY {
        app.wake(&TelegramTask::V1 { bot_id }, wait).await;
    }
}

/// True if the reason for a post is gone: the dialog is open again, or closed again, or its topic is gone.
fn is_obsolete(kind: &str, dialog: &ClaimedDialog, one_chat: bool) -> bool {
    let has_topic = matches!(dialog.topic, Topic::Open { .. }) && !one_chat;
    match kind {
        "close_topic" => !has_topic || dialog.state != "closed",
        "reopen_topic" => !has_topic || dialog.state == "closed",
        "header" | "replay" | "rename" => !has_topic,
        _ => false,
    }
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
    async fn step(&self, work: &BotWork) -> Result<TelegramStep, BridgeError> {
        let content = work.posts.first().filter(|post| !post_kind::only_decorates(&post.kind));
        let decoration = work.posts.first().filter(|post| post_kind::only_decorates(&post.kind));
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
                    (Some(target), Some(post)) => self.send_stored_post(work, post, target).await,
                    (Some(target), None) => Ok(self.plan_messages(work, dialog, target).await),
                    (None, _) if work.one_chat().is_some() => Ok(topic::confirm_chat(self, dialog).await),
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

    /// Sets a post that was stored earlier to `sending`, and sends it.
    async fn send_stored_post(&self, work: &BotWork, post: &Post, target: Target) -> Result<TelegramStep, BridgeError> {
        let mut composed = match self.content_of(work, post).await? {
            PostContent::Stored => None,
            PostContent::Composed(content) => Some(content),
            PostContent::Obsolete => {
                return Ok(TelegramStep::Commit(vec![posts::mark_post_sent(post.id, Some(Vec::new()))]));
            }
        };
        let mut attached = Vec::new();
        if let Some((both, message_ids)) = composed.as_ref().and_then(|alone| header::under_pressure(work, post, alone))
        {
            (composed, attached) = (Some(both), message_ids);
        }
        if post.kind == "rename" && !work.outbox.budget.is_half_free(work.outbox.now) {
            return Ok(TelegramStep::Commit(vec![posts::postpone(post.id, topic_emoji::BUDGET_DELAY)]));
        }
        let left = match Self::budget_for(work, post) {
            Ok(left) => left,
            Err(next) => return Ok(next),
        };
        let files = match self.prepare(work, post).await {
            Preparation::Ready(files) => files,
            Preparation::Not(outcome) => return Ok(TelegramStep::Commit(outcome)),
        };
        // A repeatable post needs no `sending` before its call: to send it again changes nothing.
        if !post_kind::is_repeatable(&post.kind) {
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
        Ok(self.send(work, &Post { content, kind: post.kind.clone(), ..*post }, target, left, files).await)
    }

    /// Returns a stored post's content, and composes it now if the post was stored without. In a group without topics a
    /// post gets a heading that names its dialog.
    async fn content_of(&self, work: &BotWork, post: &Post) -> Result<PostContent, BridgeError> {
        let Some(dialog) = &work.dialog else { return Ok(PostContent::Stored) };
        let has_text = post.content.get("text").is_some();
        let one_chat = work.one_chat().is_some();
        Ok(match post.kind.as_str() {
            kind if is_obsolete(kind, dialog, one_chat) => PostContent::Obsolete,
            "rename" => rename::rename_content(post, dialog).map_or(PostContent::Obsolete, PostContent::Composed),
            "header" if !has_text => PostContent::Composed(header::header(dialog)),
            "replay" if !has_text => {
                replay::compose(self, work, dialog).await?.map_or(PostContent::Obsolete, PostContent::Composed)
            }
            kind if one_chat
                && !post.outcome_unknown
                && !post_kind::only_decorates(kind)
                && post.content.get("has_heading").is_none() =>
            {
                PostContent::Composed(post_text::with_heading(kind, post.content.clone(), &post_text::name_of(dialog)))
            }
            _ => PostContent::Stored,
        })
    }

    /// Returns the budget that a post leaves, to be stored once it is sent. The error is the step to take while the
    /// budget does not suffice.
    fn budget_for(work: &BotWork, post: &Post) -> Result<TelegramBudget, TelegramStep> {
        let now = work.outbox.now;
        work.outbox
            .budget
            .take(media::cost(post), now)
            .map_err(|wait| TelegramStep::ReleaseUntil(Vec::new(), later(now, wait)))
    }

    async fn send(
        &self,
        work: &BotWork,
        post: &Post,
        target: Target,
        left: TelegramBudget,
        files: Files<'_>,
    ) -> TelegramStep {
        let charge = || bot_outbox::charge_budget(self.bot_id, self.owner, left);
        let answer = self.call(post, target, files).await;
        match answer {
            Ok(message_ids) => {
                let (mut outcome, mut sent_post) = (Vec::new(), None);
                if post.kind == "header"
                    && let Some(message_id) = message_ids.first()
                {
                    outcome.push(posts::schedule_pin(post.id, *message_id));
                }
                match (post.kind.as_str(), &work.dialog) {
                    ("close_topic" | "reopen_topic", Some(dialog)) => {
                        outcome.push(topics::set_topic_closed(dialog.id, post.kind == "close_topic"));
                        outcome.push(posts::mark_post_sent(post.id, Some(message_ids)));
                    }
                    ("rename", Some(dialog)) => {
                        let emoji = post.content["emoji"].as_str().unwrap_or_default();
                        outcome.push(topic_emoji::mark_renamed(dialog.id, emoji));
                        outcome.push(posts::mark_post_sent(post.id, Some(message_ids)));
                    }
                    (kind, _) if is_one_message(kind) => sent_post = Some(SentPost { post_id: post.id, message_ids }),
                    _ => outcome.extend(media::after_sending_media(post, message_ids)),
                }
                if post.kind != "rename" && work.one_chat().is_none() {
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
                if is_one_message(&post.kind) && !topics_gone {
                    return TelegramStep::CommitSent(
                        outcome,
                        Completed { messages: Some(left), reactions: None, sent_post },
                    );
                }
                outcome.push(charge());
                TelegramStep::Commit(outcome)
            }
            Err(error) => {
                tracing::warn!(bot_id = self.bot_id, post_id = post.id, kind = post.kind, %error, "a post was not sent");
                if let telegram::Error::Refused { .. } = error
                    && let Some(mut outcome) = use_next_method(post, false).or_else(|| plainer(post))
                {
                    outcome.push(charge());
                    return TelegramStep::Commit(outcome);
                }
                let cost = (!matches!(error, telegram::Error::NotSent(_))).then(charge);
                failures::after_failure(self, work, post, target, error, cost.into_iter().collect()).await
            }
        }
    }
}
