//! The worker that holds a dialog's lease, with what every step needs: transactions, access tokens, and calls to Avito
//! within the account's rate limit. A step ends with the transaction to run next.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{
    claim,
    work::{DialogWork, SentPart},
};
use crate::{
    App, avito,
    bridge::{
        common::{
            avito_call::{AvitoCaller, CallError},
            avito_rate_limit::CallPriority,
            queue_tasks::TelegramTask,
            wakeups::Wakeups,
        },
        error::BridgeError,
        rows::receipts,
    },
    platform::{
        db::{ClientId, ResultSets, Scope, Statement},
        secrets::Secret,
    },
    tenancy::accounts::{self, AccountStatus, TokenError},
};

/// A part of unknown outcome is verified after this time at the earliest: it may still appear in Avito's list.
pub(super) const FIRST_VERIFY_DELAY: Duration = Duration::from_secs(3);
/// Delay between two verifications that do not find the part.
pub(super) const SECOND_VERIFY_DELAY: Duration = Duration::from_secs(5);
/// Delay of a dialog whose account Avito refuses, or whose client is suspended.
pub(super) const REFUSED_DELAY: Duration = Duration::from_secs(300);

/// The result of one step: the transaction to run next.
pub(super) enum AvitoStep {
    /// Run these statements and claim the next work.
    Commit(Vec<Statement>),
    /// Store that Avito has this part, and claim the next work.
    CommitSent(SentPart),
    /// Run these statements and release the lease for a while.
    ReleaseFor(Vec<Statement>, Duration),
}

/// The worker that holds a dialog's lease, with all it needs to send.
pub(super) struct AvitoSender<'a> {
    pub(super) app: &'a App,
    pub(super) dialog_id: i64,
    pub(super) owner: Uuid,
    pub(super) client_id: ClientId,
    pub(super) avito: AvitoCaller<'a>,
}

impl AvitoSender<'_> {
    pub(super) async fn run(&self, statements: Vec<Statement>) -> Result<ResultSets, BridgeError> {
        Ok(self.app.db().run(Scope::Tenant(self.client_id), statements).await?)
    }

    /// Gets an access token. The error is the step to take without one.
    pub(super) async fn ensure_token(&self, work: &DialogWork) -> Result<(), AvitoStep> {
        self.answered(work, self.avito.ensure_token().await).map(|_| ())
    }

    /// Makes a call that people wait for. The outer error is the step to take without an answer: there is no token, or Avito
    /// refuses the account.
    pub(super) async fn call<T>(
        &self,
        work: &DialogWork,
        call: impl AsyncFn(&avito::Client, &Secret) -> Result<avito::Reply<T>, avito::Error>,
    ) -> Result<Result<T, avito::Error>, AvitoStep> {
        match self.answered(work, self.avito.call(CallPriority::Reply, None, call).await)? {
            Err(avito::Error::Unauthorized { message, .. }) => Err(account_refused(work, message)),
            answer => Ok(answer),
        }
    }

    /// As [`AvitoSender::call`], for a call that needs a right of its own: to block, to delete, to mark read. If Avito refuses it
    /// with a new token too, the account is not marked, because it may send all the same.
    pub(super) async fn call_with_own_right<T>(
        &self,
        priority: CallPriority,
        work: &DialogWork,
        call: impl AsyncFn(&avito::Client, &Secret) -> Result<avito::Reply<T>, avito::Error>,
    ) -> Result<Result<T, avito::Error>, AvitoStep> {
        match self.answered(work, self.avito.call(priority, None, call).await)? {
            Err(error @ avito::Error::Unauthorized { .. }) => {
                tracing::warn!(dialog_id = self.dialog_id, %error, "Avito does not allow this to the account");
                Err(work.release(Vec::new(), REFUSED_DELAY))
            }
            answer => Ok(answer),
        }
    }

    /// Makes a call whose effect the buyer sees, while the lease taken at `leased_at` lasts: after it, another worker may send
    /// the same part. Puts the waiting receipt if the call takes long.
    pub(super) async fn call_within_lease<T>(
        &self,
        work: &DialogWork,
        leased_at: Instant,
        call: impl AsyncFn(&avito::Client, &Secret) -> Result<avito::Reply<T>, avito::Error>,
    ) -> Result<Result<T, avito::Error>, AvitoStep> {
        let not_after = leased_at + claim::LEASE.saturating_sub(avito::CALL_TIMEOUT);
        let call = self.avito.call(CallPriority::Reply, Some(not_after), call);
        self.answered(work, self.with_waiting_receipt(call).await)
    }

    /// Returns Avito's answer, or the step to take because Avito was not asked.
    fn answered<T>(
        &self,
        work: &DialogWork,
        answer: Result<T, CallError>,
    ) -> Result<Result<T, avito::Error>, AvitoStep> {
        let error = match answer {
            Ok(value) => return Ok(Ok(value)),
            Err(CallError::Avito(error)) => return Ok(Err(error)),
            Err(error) => error,
        };
        tracing::warn!(dialog_id = self.dialog_id, %error, "Avito was not called");
        Err(match error {
            CallError::Token(TokenError::Refused(reason)) => account_refused(work, reason),
            CallError::TooLate => work.release(Vec::new(), Duration::ZERO),
            _ => work.release(Vec::new(), FIRST_VERIFY_DELAY),
        })
    }

    /// Makes a call. If it takes longer than [`receipts::WAITING_RECEIPT_AFTER`], the waiting answers get 👀 meanwhile.
    pub(super) async fn with_waiting_receipt<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = std::pin::pin!(call);
        match tokio::time::timeout(receipts::WAITING_RECEIPT_AFTER, &mut call).await {
            Ok(answer) => answer,
            Err(_) => tokio::join!(call, Box::pin(self.put_waiting_receipt())).0,
        }
    }

    /// Puts 👀 on the answers that wait for Avito now. A failure is only logged: it costs nothing but the receipt.
    async fn put_waiting_receipt(&self) {
        let results = self
            .run(vec![receipts::put_waiting_receipts(self.dialog_id, 0.0), claim::select_bot_to_wake(self.dialog_id)])
            .await;
        match results.and_then(|results| Ok(Wakeups::read(&results)?)) {
            Ok(wakeups) => wakeups.wake(self.app).await,
            Err(error) => tracing::warn!(dialog_id = self.dialog_id, %error, "no receipt was put on a waiting answer"),
        }
    }
}

impl DialogWork {
    /// Releases the lease for a while. A part that was committed as `sending` and certainly not sent is requeued first.
    pub(super) fn release(&self, mut outcome: Vec<Statement>, wait: Duration) -> AvitoStep {
        if let Some(part) = self.part.as_ref().filter(|part| !part.outcome_unknown) {
            outcome.insert(0, claim::requeue_part(part.id));
        }
        AvitoStep::ReleaseFor(outcome, wait)
    }
}

/// Marks the account as refused by Avito, so that its owner sees why, and releases the dialog. Its parts wait.
fn account_refused(work: &DialogWork, reason: String) -> AvitoStep {
    metrics::counter!("accounts_refused").increment(1);
    work.release(vec![accounts::mark_refused(work.keys.account_id, AccountStatus::Blocked, reason)], REFUSED_DELAY)
}

pub(super) async fn wake_bot(app: &App, bot_id: Option<i64>) {
    if let Some(bot_id) = bot_id {
        app.wake(&TelegramTask::V1 { bot_id }, Duration::ZERO).await;
    }
}
