//! To Telegram: the holder of a bot's outbox posts what waits, the longest-waiting dialog first, in order.
//! What was begun and not finished is sent again exactly as composed, before anything new.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::{
    BridgeError,
    attachments::{self, Files, Preparation},
    bot_outbox,
    budget::{TelegramBudget, later},
    claim::Claim,
    compose, failures, header, marks, order, posts, receipts, relocation, replay,
    show::SendPlan,
    tasks::TelegramTask,
    tenants, topics,
    work::{self, BotWork, ClaimedDialog, Completed, Post, SentPost, Topic},
};
use crate::{
    App, planned,
    platform::db::{ClientId, DbError, ResultSets, Scope, Statement, get},
    telegram,
    tenancy::bots,
};

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerOutcome {
    /// Nothing is left to do now; whatever waits for its time has its wake-up.
    Done,
    /// Somebody else has the outbox.
    LeaseTaken,
}

/// How one holding of an outbox ended.
enum RoundEnd {
    Worker(WorkerOutcome),
    /// What waits is due in this short while, and nobody else was sent for it.
    DueSoon(Duration),
}

/// What one step leads to.
pub(super) enum TelegramStep {
    /// Write this down and look for the next work.
    Commit(Vec<Statement>),
    /// The same, of statements that lock the dialog before the outbox by themselves, and what is done.
    CommitSent(Vec<Statement>, Completed),
    /// Write this down that is ready, if it still is, and send it.
    SendPlanned(SendPlan),
    /// Give what waits of this dialog to the bot that shows it by now.
    HandOver(i64),
    /// Write this down and let go until then: nothing can be sent before.
    ReleaseUntil(Vec<Statement>, Timestamp),
    /// The outbox is somebody else's by now.
    LeaseLost,
}

/// The holder of an outbox.
pub(super) struct TelegramSender<'a> {
    pub(super) app: &'a App,
    pub(super) bot_id: i64,
    pub(super) owner: Uuid,
    pub(super) client_id: ClientId,
    pub(super) telegram: telegram::Bot,
    /// A post for a topic has just come out in no topic.
    pub(super) topics_gone: AtomicBool,
    /// The messages whose order Avito was asked for already.
    pub(super) asked_positions: order::AskedPositions,
}

/// What the holder of an outbox has before it.
enum WorkerState {
    /// This was found.
    Claimed(Box<BotWork>),
    /// A post is begun.
    Sending(Box<SendingPost>),
}

/// A post that is to be sent now.
struct SendingPost {
    /// The work that it is of.
    work: Box<BotWork>,
    post: Post,
    target: Target,
    /// What it leaves of the budget.
    left: TelegramBudget,
    /// What may be composed while it is sent.
    next_work: Box<BotWork>,
}

/// Where a post goes.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) chat_id: i64,
    pub(super) thread_id: Option<i64>,
}

/// Works for one bot until nothing is left, `stop` is reached, or nothing may be sent. An error is our own Postgres or
/// a secret that does not open; whatever was begun is found again.
///
/// For what is due in a moment it waits itself, with the outbox let go: the queue's delays are whole seconds. Whoever needs the
/// outbox meanwhile takes it, and sees to the rest. A process that ends just then leaves that to whoever is sent for next, or the sweep.
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

/// Works until nothing is to be done at the moment.
async fn run_round(app: &App, bot_id: i64, stop: Instant) -> Result<RoundEnd, BridgeError> {
    let owner = Uuid::new_v4();
    let first = work::claim_bot_work(bot_id, owner, Vec::new(), Completed::default(), None);
    let scope = tenants::scope(&tenants::OF_BOTS, bot_id, bots::find_tenant_of_bot);
    let work = match work::read(&app.db().run(scope, first).await?)? {
        Claim::Claimed(work) => work,
        ended => return Ok(end_round(app, bot_id, ended).await),
    };
    let client_id = work.bot.client_id;
    tenants::remember(&tenants::OF_BOTS, bot_id, client_id);
    let token = app.keyring().open(&work.bot.token, bots::token_context(client_id))?;
    let telegram = bots::telegram(app, token);
    let sender = TelegramSender {
        app,
        bot_id,
        owner,
        client_id,
        telegram,
        topics_gone: AtomicBool::new(false),
        asked_positions: order::AskedPositions::default(),
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
                let statements = work::claim_bot_work(bot_id, owner, outcome, Completed::default(), None);
                (sender.run_with_dialog_lock(&work, statements).await?, None)
            }
            TelegramStep::CommitSent(outcome, done) => {
                let prepared = next_work.as_ref().map(|(_, plan)| &plan.prepared);
                (sender.run(work::claim_bot_work(bot_id, owner, outcome, done, prepared)).await?, next_work)
            }
            TelegramStep::SendPlanned(plan) => {
                let statements =
                    work::claim_bot_work(bot_id, owner, Vec::new(), Completed::default(), Some(&plan.prepared));
                (sender.run_with_dialog_lock(&work, statements).await?, Some((work, plan)))
            }
            TelegramStep::HandOver(dialog_id) => {
                let statements = work::claim_bot_work(
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
                let book =
                    results.last().and_then(|rows| rows.first()).is_some_and(|row| get(row, "book").unwrap_or(true));
                if book {
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
    /// What follows from what was found, if this was ready to be written down before.
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

/// The bots that are due and that nobody works for, the longest-waiting first; not those that somebody was just sent for.
pub async fn due_bots(app: &App, most: usize) -> Result<Vec<i64>, DbError> {
    let due = planned!(
        "SELECT bot_id FROM bot_outboxes
         WHERE due_at <= now() - interval '50 milliseconds' AND (lease_until IS NULL OR lease_until < now())
         ORDER BY due_at LIMIT $1",
    );
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    app.db().query(Scope::Service, due.bind(most)).await?.iter().map(|row| get(row, "bot_id")).collect()
}

/// What a look that found nothing to do leads to.
async fn end_round(app: &App, bot_id: i64, claim: Claim<BotWork>) -> RoundEnd {
    match claim {
        Claim::LeaseTaken => return RoundEnd::Worker(WorkerOutcome::LeaseTaken),
        Claim::DueSoon(wait) => return RoundEnd::DueSoon(wait),
        Claim::Idle { wake_in: Some(wait) } => wake_in(app, bot_id, wait).await,
        Claim::Idle { wake_in: None } | Claim::NothingDue | Claim::Claimed(_) => {}
    }
    RoundEnd::Worker(WorkerOutcome::Done)
}

/// One delayed wake-up for what waits; beyond the queue's longest delay the sweep does it.
async fn wake_in(app: &App, bot_id: i64, wait: Duration) {
    if wait <= crate::platform::queue::MAX_DELAY {
        app.wake(&TelegramTask::V1 { bot_id }, wait).await;
    }
}

/// How long a suspended organisation's rows wait before somebody looks again.
const SUSPENDED_PAUSE: Duration = Duration::from_secs(3600);

/// Whether doing it twice is the same as once.
fn is_repeatable(kind: &str) -> bool {
    matches!(kind, "pin" | "edit" | "rename" | "close_topic" | "reopen_topic")
}

/// Whether sending it is one message of Telegram's: nothing is to be written down but that.
fn is_one_message(kind: &str) -> bool {
    matches!(kind, "text" | "mirror" | "notice" | "photo" | "voice" | "venue")
}

/// Whether what a post was written for has passed: the dialog is open again, or its topic is gone.
fn is_obsolete(kind: &str, dialog: &ClaimedDialog, one_chat: bool) -> bool {
    let has_topic = matches!(dialog.topic, Topic::Open { .. }) && !one_chat;
    match kind {
        "close_topic" => !has_topic || dialog.state != "closed",
        "reopen_topic" => !has_topic || dialog.state == "closed",
        "header" | "replay" | "rename" => !has_topic,
        _ => false,
    }
}

/// What is known of a post's content before it is begun.
enum PostContent {
    /// It stands in the row.
    Stored,
    /// It is this, and is written down with the beginning.
    Composed(Value),
    /// Nothing is to be sent any more.
    Obsolete,
}

impl TelegramSender<'_> {
    /// Runs a transaction about `work`. Whoever hears of a message locks its dialog and then the outbox; in the other order the
    /// two would wait for each other.
    pub(super) async fn run_with_dialog_lock(
        &self,
        work: &BotWork,
        mut statements: Vec<Statement>,
    ) -> Result<ResultSets, BridgeError> {
        statements.insert(0, bot_outbox::lock_dialog(work.dialog.as_ref().map(|dialog| dialog.id)));
        let mut results = self.run(statements).await?;
        results.remove(0);
        Ok(results)
    }

    /// Runs a transaction that locks the dialog it is about by itself.
    async fn run(&self, statements: Vec<Statement>) -> Result<ResultSets, BridgeError> {
        Ok(self.app.db().run(Scope::Tenant(self.client_id), statements).await?)
    }

    /// Until when nothing can be sent, whatever waits.
    pub(super) fn blocked_until(work: &BotWork) -> Option<Timestamp> {
        if let Some(until) = work.outbox.rate_limited_until.filter(|until| *until > work.outbox.now) {
            return Some(until);
        }
        (work.bot.suspended || work.bot.group_chat_id.is_none()).then(|| later(work.outbox.now, SUSPENDED_PAUSE))
    }

    async fn step(&self, work: &BotWork) -> Result<TelegramStep, BridgeError> {
        let content = work.posts.first().filter(|post| !failures::only_decorates(&post.kind));
        let decoration = work.posts.first().filter(|post| failures::only_decorates(&post.kind));
        // What is left of a dialog that moved to another bot goes where it was to go, or to the group.
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
                    (None, _) if work.one_chat().is_some() => Ok(topics::confirm_chat(self, dialog).await),
                    (None, _) => topics::ensure_topic(self, work, dialog).await,
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

    /// Begins a post that was written down earlier, and sends it.
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
            return Ok(TelegramStep::Commit(vec![posts::postpone(post.id, marks::BUDGET_DELAY)]));
        }
        let left = match Self::budget_for(work, post) {
            Ok(left) => left,
            Err(next) => return Ok(next),
        };
        let files = match self.prepare(work, post).await {
            Preparation::Ready(files) => files,
            Preparation::Not(outcome) => return Ok(TelegramStep::Commit(outcome)),
        };
        // What changes nothing when done twice is not begun before the call.
        if !is_repeatable(&post.kind) {
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

    /// What a post says that was written down before it could be composed. Posts of a topic that is no more say whose they
    /// are.
    async fn content_of(&self, work: &BotWork, post: &Post) -> Result<PostContent, BridgeError> {
        let Some(dialog) = &work.dialog else { return Ok(PostContent::Stored) };
        let has_text = post.content.get("text").is_some();
        let one_chat = work.one_chat().is_some();
        Ok(match post.kind.as_str() {
            kind if is_obsolete(kind, dialog, one_chat) => PostContent::Obsolete,
            "rename" => marks::rename_content(post, dialog).map_or(PostContent::Obsolete, PostContent::Composed),
            "header" if !has_text => PostContent::Composed(header::header(dialog)),
            "replay" if !has_text => {
                replay::compose(self, work, dialog).await?.map_or(PostContent::Obsolete, PostContent::Composed)
            }
            kind if one_chat
                && !post.outcome_unknown
                && !failures::only_decorates(kind)
                && post.content.get("has_heading").is_none() =>
            {
                PostContent::Composed(compose::with_heading(kind, post.content.clone(), &compose::name_of(dialog)))
            }
            _ => PostContent::Stored,
        })
    }

    /// What a post leaves of the budget, to be written down once it is sent; or what to do while it cannot be.
    fn budget_for(work: &BotWork, post: &Post) -> Result<TelegramBudget, TelegramStep> {
        let now = work.outbox.now;
        work.outbox
            .budget
            .take(attachments::cost(post), now)
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
                        outcome.push(marks::mark_renamed(dialog.id, emoji));
                        outcome.push(posts::mark_post_sent(post.id, Some(message_ids)));
                    }
                    (kind, _) if is_one_message(kind) => sent_post = Some(SentPost { post_id: post.id, message_ids }),
                    _ => outcome.extend(attachments::after_sending_media(post, message_ids)),
                }
                if post.kind != "rename" && work.one_chat().is_none() {
                    outcome.extend(work.dialog.as_ref().and_then(|dialog| marks::schedule_rename(dialog, post.id)));
                }
                let topics_gone = self.topics_gone.swap(false, Ordering::Relaxed);
                if topics_gone {
                    outcome.push(bot_outbox::mark_topics_off(self.bot_id));
                }
                if work.bot.broken {
                    outcome.push(bots::mark_working(self.bot_id));
                }
                // Whatever else is written down locks more than the dialog, and so comes after it.
                if let Some(SentPost { post_id, message_ids }) = sent_post.take_if(|_| !outcome.is_empty()) {
                    outcome.insert(0, posts::mark_post_sent(post_id, Some(message_ids)));
                }
                // What was composed for a topic behind this is not to come out in none.
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
                    && let Some(mut outcome) =
                        attachments::use_next_method(post, false).or_else(|| header::plainer(post))
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
