//! To Telegram: the worker that holds the lease of a bot's outbox posts what waits, the longest-waiting dialog first.
//! A post whose outcome is unknown is sent again exactly as composed, before anything new.

use std::{
    panic::AssertUnwindSafe,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    claim, failures,
    send::files::Files,
    sender::{AskedPositions, SendPlan, TelegramSender, TelegramStep},
    set_aside::{Fingerprint, Subject},
    work::{self, BotWork, Completed, Post, Target},
};
use crate::{
    App,
    bridge::{
        common::{
            claim::Claim,
            queue_tasks::{AvitoTask, TelegramTask},
            telegram_budget::TelegramBudget,
            tenant_cache,
            texts::{self, Language},
            wakeups::Wakeups,
        },
        error::BridgeError,
        rows::{bot_outbox, handover},
    },
    platform::db::{DbError, ResultSets, Scope, Statement, get},
    tenancy::bots,
};

pub use crate::bridge::common::claim::WorkerOutcome;

/// The time after a post until its chat is marked read, if it stays quiet (`finish_post` in rows/posts.sql).
const MARK_READ_DELAY: Duration = Duration::from_secs(30);

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
    tenant_cache::remember(&tenant_cache::OF_BOTS, bot_id, work.bot.client_id);
    let sender = match sender_of(app, bot_id, owner, &work) {
        Ok(sender) => sender,
        Err(error) if error.sets_aside() => {
            tracing::error!(bot_id, %error, "the token of a bot does not open");
            let reason = texts::token_does_not_open(Language::Russian).to_owned();
            let (mut statements, until) = failures::rest_broken(bot_id, &work, reason);
            statements.push(bot_outbox::release_until(bot_id, owner, until));
            app.db().run(Scope::Tenant(work.bot.client_id), statements).await?;
            return Ok(RoundEnd::Worker(WorkerOutcome::Done));
        }
        Err(error) => return Err(error),
    };
    let mut state = WorkerState::Claimed(work);
    let mut last_idle = None;
    loop {
        let subject = Subject::of(state.work());
        let fingerprint = Fingerprint::of(state.work());
        let turn = AssertUnwindSafe(sender.take_turn(state, stop)).catch_unwind().await;
        let (results, composed, was_idle) = match turn.unwrap_or(Err(BridgeError::Panicked)) {
            Ok(Turn::Ended(end)) => return Ok(end),
            Ok(Turn::Ran { results, composed, was_idle }) => (results, composed, was_idle),
            Err(error) if error.sets_aside() && subject.is_some() => {
                tracing::error!(bot_id, ?subject, %error, "work of a bot is set aside");
                (sender.set_aside(subject).await?, None, false)
            }
            Err(error) => return Err(error),
        };
        // Claimed, nothing done, and claimed again as it was: a circle.
        let results = if was_idle && last_idle.as_ref() == Some(&fingerprint) {
            tracing::error!(bot_id, ?subject, "work of a bot turns in a circle and is set aside");
            sender.set_aside(subject).await?
        } else {
            results
        };
        last_idle = was_idle.then_some(fingerprint);
        state = match work::read(&results)? {
            Claim::Claimed(claimed) => WorkerState::of(claimed, composed),
            ended => return Ok(end_round(app, bot_id, ended).await),
        };
    }
}

/// The end of one turn: a step, and the transaction that follows it.
enum Turn {
    /// The round is over.
    Ended(RoundEnd),
    /// The transaction claimed the next work.
    Ran {
        results: ResultSets,
        composed: Option<Composed>,
        /// True if the step did nothing but claim again.
        was_idle: bool,
    },
}

/// Returns the sender that works for the bot with the lease of `owner`.
fn sender_of<'a>(app: &'a App, bot_id: i64, owner: Uuid, work: &BotWork) -> Result<TelegramSender<'a>, BridgeError> {
    let client_id = work.bot.client_id;
    let token = app.keyring().open(&work.bot.token, bots::token_context(client_id))?;
    Ok(TelegramSender {
        app,
        bot_id,
        owner,
        client_id,
        telegram: bots::telegram(app, token),
        topics_gone: AtomicBool::new(false),
        asked_positions: AskedPositions::default(),
    })
}

/// Posts that are composed, with the work that they belong to.
type Composed = (Box<BotWork>, SendPlan);

impl TelegramSender<'_> {
    /// Takes the next step, and runs the transaction that follows it and claims the next work.
    async fn take_turn(&self, state: WorkerState, stop: Instant) -> Result<Turn, BridgeError> {
        let (bot_id, owner) = (self.bot_id, self.owner);
        let (work, next, next_work) = self.take_step(state, stop).await?;
        let mut was_idle = false;
        let (results, composed) = match next {
            TelegramStep::Commit(outcome) => {
                was_idle = outcome.is_empty();
                let statements = claim::claim_bot_work(bot_id, owner, outcome, Completed::default(), None);
                (self.run_with_dialog_lock(&work, statements).await?, None)
            }
            TelegramStep::CommitSent(outcome, completed) => {
                let shows_message = completed.sent_post.is_some();
                let committed = self.commit_sent(outcome, completed, next_work).await?;
                if let Some(dialog) = work.dialog.as_ref().filter(|dialog| shows_message && dialog.schedules_mark_read)
                {
                    self.app.wake(&AvitoTask::V1 { dialog_id: dialog.id }, MARK_READ_DELAY).await;
                }
                committed
            }
            TelegramStep::SendPlanned(plan) => {
                let statements =
                    claim::claim_bot_work(bot_id, owner, Vec::new(), Completed::default(), Some(&plan.prepared));
                (self.run_with_dialog_lock(&work, statements).await?, Some((work, plan)))
            }
            TelegramStep::HandOver(dialog_id) => {
                let statements = claim::claim_bot_work(
                    bot_id,
                    owner,
                    handover::hand_over_messages(dialog_id),
                    Completed::default(),
                    None,
                );
                let results = self.run_with_dialog_lock(&work, statements).await?;
                Wakeups::read(&results)?.wake(self.app).await;
                (results, None)
            }
            TelegramStep::ReleaseUntil(outcome, until) => {
                self.release_until(&work, outcome, until).await?;
                return Ok(Turn::Ended(RoundEnd::Worker(WorkerOutcome::Done)));
            }
            TelegramStep::LeaseLost => return Ok(Turn::Ended(RoundEnd::Worker(WorkerOutcome::LeaseTaken))),
        };
        Ok(Turn::Ran { results, composed, was_idle })
    }

    /// Commits what was sent, and the posts that were composed meanwhile. If Postgres refuses these, their dialog is set aside, and
    /// what was sent is committed all the same.
    async fn commit_sent(
        &self,
        outcome: Vec<Statement>,
        completed: Completed,
        next_work: Option<Composed>,
    ) -> Result<(ResultSets, Option<Composed>), BridgeError> {
        let (bot_id, owner) = (self.bot_id, self.owner);
        let Some((work, plan)) = next_work else {
            return Ok((self.run(claim::claim_bot_work(bot_id, owner, outcome, completed, None)).await?, None));
        };
        let both = claim::claim_bot_work(bot_id, owner, outcome.clone(), completed.clone(), Some(&plan.prepared));
        match self.run(both).await {
            Ok(results) => Ok((results, Some((work, plan)))),
            Err(error) if error.sets_aside() => {
                let subject = Subject::of(&work);
                tracing::error!(bot_id, ?subject, %error, "work of a bot is set aside");
                let alone = claim::claim_bot_work(bot_id, owner, outcome, completed, None);
                self.run(alone).await?;
                Ok((self.set_aside(subject).await?, None))
            }
            Err(error) => Err(error),
        }
    }

    /// Sets aside what our own code or SQL refused, in a transaction of its own, and claims the next work.
    async fn set_aside(&self, subject: Option<Subject>) -> Result<ResultSets, BridgeError> {
        let dialog_id = match subject {
            Some(Subject::Dialog(id, _)) => Some(id),
            Some(Subject::Post(..)) | None => None,
        };
        let mut outcome = vec![bot_outbox::lock_dialog(dialog_id)];
        outcome.extend(subject.into_iter().flat_map(Subject::set_aside));
        self.run(claim::claim_bot_work(self.bot_id, self.owner, outcome, Completed::default(), None)).await
    }

    /// Takes the next step: decides what the claimed work needs, or makes the call of the post that is `sending` and composes
    /// the next dialog's posts meanwhile.
    async fn take_step(
        &self,
        state: WorkerState,
        stop: Instant,
    ) -> Result<(Box<BotWork>, TelegramStep, Option<Composed>), BridgeError> {
        match state {
            WorkerState::Claimed(work) => {
                let next = match Self::blocked_until(&work) {
                    Some(until) => TelegramStep::ReleaseUntil(Vec::new(), until),
                    None if Instant::now() >= stop => TelegramStep::ReleaseUntil(Vec::new(), work.outbox.now),
                    None => self.step(&work).await?,
                };
                Ok((work, next, None))
            }
            WorkerState::Sending(sending) => {
                let SendingPost { work, post, target, left, next_work } = *sending;
                let sending = self.send(&work, &post, target, left.clone(), Files::default());
                let (next, next_work) = tokio::join!(sending, async { self.compose_next(next_work, &left) });
                Ok((work, next, next_work.filter(|_| Instant::now() < stop)))
            }
        }
    }

    /// Runs `outcome`, releases the lease until a time, and sends the wake-up for it unless one is scheduled.
    async fn release_until(
        &self,
        work: &BotWork,
        mut outcome: Vec<Statement>,
        until: Timestamp,
    ) -> Result<(), BridgeError> {
        outcome.push(bot_outbox::release_until(self.bot_id, self.owner, until));
        let results = self.run_with_dialog_lock(work, outcome).await?;
        let released = results.last().and_then(|rows| rows.first());
        if released.is_some_and(|row| get(row, "needs_wakeup").unwrap_or(true)) {
            let wait = Duration::try_from(until.duration_since(work.outbox.current())).unwrap_or_default();
            wake_in(self.app, self.bot_id, wait).await;
        }
        Ok(())
    }
}

impl WorkerState {
    /// The work that the next step is about.
    fn work(&self) -> &BotWork {
        match self {
            Self::Claimed(work) => work,
            Self::Sending(sending) => &sending.work,
        }
    }

    /// Returns the state after a claim. If the claim stored the `composed` posts and set the first to `sending`, that
    /// post is sent next, and the claimed work may be composed meanwhile.
    fn of(claimed: Box<BotWork>, composed: Option<Composed>) -> Self {
        match (claimed.sending_post_id, composed) {
            (Some(id), Some((mut work, plan))) => {
                work.outbox.clone_from(&claimed.outbox);
                work.outage.clone_from(&claimed.outage);
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
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let due = Statement::call("due_bots").arg("limit", limit);
    app.db().query(Scope::Service, due).await?.iter().map(|row| get(row, "bot_id")).collect()
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
