//! The worker that holds the lease of a bot's outbox, with what it needs to send, and the steps that it may take next.

use std::{
    collections::HashSet,
    sync::{Mutex, atomic::AtomicBool},
};

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    retry,
    work::{BotWork, Completed, PreparedPosts, Target},
};
use crate::{
    App,
    bridge::{
        common::telegram_budget::{TelegramBudget, later},
        error::BridgeError,
        rows::bot_outbox,
    },
    platform::db::{ClientId, ResultSets, Scope, Statement},
    telegram,
};

/// The result of one step: the transaction to run next.
pub(super) enum TelegramStep {
    /// Run these statements and claim the next work.
    Commit(Vec<Statement>),
    /// As `Commit`, for statements that lock the dialog before the outbox themselves, and for a call that is completed.
    CommitSent(Vec<Statement>, Completed),
    /// Store the prepared posts if their dialog has not changed, and send the first.
    SendPlanned(SendPlan),
    /// Give the waiting messages of this dialog to the bot that shows it now.
    HandOver(i64),
    /// Run these statements and release the lease until then: nothing can be sent before.
    ReleaseUntil(Vec<Statement>, Timestamp),
    /// Another worker has taken the lease.
    LeaseLost,
}

/// A dialog's waiting messages as prepared posts, with their target and budget.
pub(super) struct SendPlan {
    /// The posts to store.
    pub(super) prepared: PreparedPosts,
    /// The target of all these posts.
    pub(super) target: Target,
    /// The budget that is left after the first post.
    pub(super) left: TelegramBudget,
}

/// The messages whose order was asked for already: once each, whatever the outcome.
pub(super) type AskedPositions = Mutex<HashSet<i64>>;

/// The worker that holds the lease of a bot's outbox, with all it needs to send.
pub(super) struct TelegramSender<'a> {
    pub(super) app: &'a App,
    pub(super) bot_id: i64,
    pub(super) owner: Uuid,
    pub(super) client_id: ClientId,
    pub(super) telegram: telegram::Bot,
    /// True if Telegram has just put a post that was meant for a topic outside of all topics.
    pub(super) topics_gone: AtomicBool,
    /// The messages whose positions Avito was already asked for.
    pub(super) asked_positions: AskedPositions,
}

impl TelegramSender<'_> {
    /// Runs a transaction for `work` that first locks its dialog. A transaction that records a message locks the dialog
    /// and then the outbox; in the other order the two would deadlock.
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

    /// Runs a transaction whose statements lock the dialog themselves, if they touch one.
    pub(super) async fn run(&self, statements: Vec<Statement>) -> Result<ResultSets, BridgeError> {
        Ok(self.app.db().run(Scope::Tenant(self.client_id), statements).await?)
    }

    /// Returns the time before which nothing at all can be sent. None: posts may be sent now.
    pub(super) fn blocked_until(work: &BotWork) -> Option<Timestamp> {
        let waits = [work.outbox.rate_limited_until, work.outbox.broken_until];
        if let Some(until) = waits.into_iter().flatten().filter(|until| *until > work.outbox.now).max() {
            return Some(until);
        }
        (work.bot.suspended || work.bot.group_chat_id.is_none()).then(|| later(work.outbox.now, retry::SUSPENDED_PAUSE))
    }
}
