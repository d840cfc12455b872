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
    tenancy::accounts::TokenError,
};

/// Delay of a dialog whose client is suspended.
pub(super) const SUSPENDED_DELAY: Duration = Duration::from_secs(300);
/// Delay of a dialog whose account Avito refuses. The dialog is made due once Avito accepts the account again.
pub(super) const REFUSED_DELAY: Duration = Duration::from_secs(3600);
/// Delay of a dialog while it is not known if Avito refuses the account: until the next probe, at the most.
const UNDECIDED_DELAY: Duration = Duration::from_secs(60);
/// Delay of a dialog whose account's secret does not open, or whose tokens our database did not give.
const OWN_FAULT_DELAY: Duration = Duration::from_secs(60);

/// The result of one step: the transaction to run next.
pub(super) enum AvitoStep {
    /// Run these statements and claim the next work.
    Commit(Vec<Statement>),
    /// Store that Avito has this part, and claim the next work.
    CommitSent(SentPart),
    /// Run these statements and release the lease for a while.
    ReleaseFor(Vec<Statement>, Duration),
}

/// The reason why a call has no result.
pub(super) enum NoAnswer {
    /// Avito did not do this one thing, or did not say so.
    Failed(avito::Error),
    /// Avito was not asked, or refuses the account: this is the step to take.
    Instead(AvitoStep),
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
    pub(super) async fn ensure_token(&self, work: &DialogWork) -> Result<(), NoAnswer> {
        self.answered(work, self.avito.ensure_token().await)
    }

    /// Makes a call that people wait for. `method` is its name among the calls that may be out.
    pub(super) async fn call<T>(
        &self,
        work: &DialogWork,
        method: &str,
        call: impl AsyncFn(&avito::Client, &Secret) -> Result<avito::Reply<T>, avito::Error>,
    ) -> Result<T, NoAnswer> {
        self.call_with_priority(CallPriority::Reply, work, method, call).await
    }

    /// As [`AvitoSender::call`], with the priority that the account's rate limit is to give it.
    pub(super) async fn call_with_priority<T>(
        &self,
        priority: CallPriority,
        work: &DialogWork,
        method: &str,
        call: impl AsyncFn(&avito::Client, &Secret) -> Result<avito::Reply<T>, avito::Error>,
    ) -> Result<T, NoAnswer> {
        self.await_its_turn(work, method).await?;
        self.noted(work, method, self.avito.call(priority, None, call).await).await
    }

    /// Makes a call whose effect the buyer sees, while the lease taken at `leased_at` lasts: after it, another worker may send
    /// the same part. Puts the waiting receipt if the call takes long.
    pub(super) async fn call_within_lease<T>(
        &self,
        work: &DialogWork,
        method: &str,
        leased_at: Instant,
        call: impl AsyncFn(&avito::Client, &Secret) -> Result<avito::Reply<T>, avito::Error>,
    ) -> Result<T, NoAnswer> {
        self.await_its_turn(work, method).await?;
        let not_after = leased_at + claim::LEASE.saturating_sub(avito::CALL_TIMEOUT);
        let call = self.avito.call(CallPriority::Reply, Some(not_after), call);
        let answer = self.with_waiting_receipt(call).await;
        self.noted(work, method, answer).await
    }

    /// Waits for the dialog's turn while the call is out. The error is the step to take instead.
    async fn await_its_turn(&self, work: &DialogWork, method: &str) -> Result<(), NoAnswer> {
        match self.await_turn(work, method).await {
            Ok(None) => Ok(()),
            Ok(Some(step)) => Err(NoAnswer::Instead(step)),
            Err(error) => {
                tracing::warn!(dialog_id = self.dialog_id, %error, "it is not known whose turn it is");
                Err(NoAnswer::Instead(work.release(Vec::new(), OWN_FAULT_DELAY)))
            }
        }
    }

    /// Notes how a call ended, and returns Avito's answer or the step to take without one.
    async fn noted<T>(&self, work: &DialogWork, method: &str, answer: Result<T, CallError>) -> Result<T, NoAnswer> {
        let answer = self.answered(work, answer);
        let result = match &answer {
            Ok(_) => Ok(()),
            Err(NoAnswer::Failed(error)) => Err(error),
            Err(NoAnswer::Instead(_)) => return answer,
        };
        if let Err(error) = Box::pin(self.note_call(work, method, &result)).await {
            tracing::warn!(dialog_id = self.dialog_id, %error, "it was not noted how a call ended");
        }
        answer
    }

    /// Returns Avito's answer, or the step to take because Avito was not asked, or because it refuses the account.
    fn answered<T>(&self, work: &DialogWork, answer: Result<T, CallError>) -> Result<T, NoAnswer> {
        let error = match answer {
            Ok(value) => return Ok(value),
            Err(CallError::Avito(error)) => return Err(NoAnswer::Failed(error)),
            Err(error) => error,
        };
        tracing::warn!(dialog_id = self.dialog_id, %error, "Avito was not called");
        Err(NoAnswer::Instead(match error {
            CallError::AccountRefused(..) => work.release_while_refused(),
            CallError::Token(TokenError::Unavailable(wait)) => work.release(Vec::new(), wait),
            CallError::TooLate => work.release(Vec::new(), Duration::ZERO),
            CallError::Undecided => work.release(Vec::new(), UNDECIDED_DELAY),
            CallError::Token(_) | CallError::Avito(_) => work.release(Vec::new(), OWN_FAULT_DELAY),
        }))
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
    /// Releases the lease for a while. A part that was committed as `sending` and certainly not sent is requeued first; that is no
    /// attempt.
    pub(super) fn release(&self, mut outcome: Vec<Statement>, wait: Duration) -> AvitoStep {
        if let Some(part) = self.part.as_ref().filter(|part| !part.outcome_unknown) {
            outcome.insert(0, claim::requeue_part(part.id));
        }
        AvitoStep::ReleaseFor(outcome, wait)
    }

    /// Releases the lease until Avito accepts the account again. The topic gets a notice if an answer waits.
    pub(super) fn release_while_refused(&self) -> AvitoStep {
        let refused_since = self.refused_since.unwrap_or(self.now);
        let notice = self.part.as_ref().map(|part| claim::notify_account_refused(part.id, refused_since));
        self.release(notice.into_iter().collect(), REFUSED_DELAY)
    }
}

pub(super) async fn wake_bot(app: &App, bot_id: Option<i64>) {
    if let Some(bot_id) = bot_id {
        app.wake(&TelegramTask::V1 { bot_id }, Duration::ZERO).await;
    }
}
