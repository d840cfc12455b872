//! To Avito: the worker that holds a dialog's lease sends its parts, one at a time, in order.
//! A part of unknown outcome is verified in the chat before it is sent again, so that none is lost and none goes twice.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use uuid::Uuid;

use super::{
    blocking::postpone_block,
    claim,
    edits::postpone_deletion,
    mark_read::postpone_mark_read,
    outcomes,
    sender::{AvitoSender, AvitoStep, SUSPENDED_DELAY, wake_bot},
    work::DialogWork,
};
use crate::{
    App,
    bridge::{
        common::{avito_call::AvitoCaller, claim::Claim, queue_tasks::AvitoTask, tenant_cache, wakeups::Wakeups},
        error::BridgeError,
        rows::{bot_outbox, receipts},
    },
};

pub use crate::bridge::common::claim::WorkerOutcome;

/// Delay of a dialog that was claimed with nothing to do: another transaction has done it meanwhile.
const IDLE_DELAY: Duration = Duration::from_secs(3);

/// Works for one dialog until nothing is left, `stop` is reached, or Avito wants a pause. Errors: our Postgres failed,
/// or a secret does not open. The next worker finds unfinished parts again.
pub async fn deliver_to_avito(app: &App, dialog_id: i64, stop: Instant) -> Result<WorkerOutcome, BridgeError> {
    let owner = Uuid::new_v4();
    let first = claim::claim_dialog_work(dialog_id, owner, Vec::new(), None);
    let scope = tenant_cache::scope(&tenant_cache::OF_DIALOGS, dialog_id, tenant_cache::find_tenant_of_dialog);
    let sent_at = Instant::now();
    let first = app.db().run(scope, first).await?;
    let (mut claim, bot_to_wake) = claim::read(&first, sent_at)?;
    wake_bot(app, bot_to_wake).await;
    let outcome_of_worker =
        if matches!(claim, Claim::LeaseTaken) { WorkerOutcome::LeaseTaken } else { WorkerOutcome::Done };
    while let Claim::Claimed(work) = claim {
        let sender = AvitoSender {
            app,
            dialog_id,
            owner,
            client_id: work.keys.client_id,
            avito: AvitoCaller::new(app, &work.keys),
        };
        tenant_cache::remember(&tenant_cache::OF_DIALOGS, dialog_id, sender.client_id);
        let ended = match sender.next_step(&work, stop).await {
            Ok(taken) => sender.finish(taken).await,
            Err(error) => Err(error),
        };
        claim = match ended {
            Err(error) if error.sets_aside() => {
                let Some(set_aside) = sender.set_aside(&work, &error) else { return Err(error) };
                tracing::error!(dialog_id, %error, "the work of a dialog is set aside");
                metrics::counter!("rows_set_aside").increment(1);
                sender.finish(set_aside).await?
            }
            ended => ended?,
        };
    }
    if let Claim::Idle { wake_in: Some(wait) } = claim {
        app.wake(&AvitoTask::V1 { dialog_id }, wait).await;
    }
    Ok(outcome_of_worker)
}

impl AvitoSender<'_> {
    /// Takes the next step. A panic of our own code is an error like any other.
    async fn next_step(&self, work: &DialogWork, stop: Instant) -> Result<AvitoStep, BridgeError> {
        if work.is_suspended {
            return Ok(self.postponed_alone(work, work.release(Vec::new(), SUSPENDED_DELAY)));
        }
        if Instant::now() >= stop {
            return Ok(work.release(Vec::new(), Duration::ZERO));
        }
        let taken = AssertUnwindSafe(Box::pin(self.step(work))).catch_unwind().await;
        Ok(self.postponed_alone(work, taken.unwrap_or(Err(BridgeError::Panicked))?))
    }

    /// Postpones a deletion, a blocking or a mark-read alone where the step would have the whole dialog wait: no answer waits for
    /// one of them.
    fn postponed_alone(&self, work: &DialogWork, step: AvitoStep) -> AvitoStep {
        let AvitoStep::ReleaseFor(mut outcome, wait) = step else { return step };
        let alone = match (&work.part_to_delete, &work.block_request, &work.part) {
            _ if wait.is_zero() => None,
            (Some(deletion), ..) => Some(postpone_deletion(deletion.part_id, false, wait)),
            (None, Some(_), _) => Some(postpone_block(self.dialog_id, false, wait)),
            (None, None, None) => work.mark_read.then(|| postpone_mark_read(self.dialog_id, false, wait)),
            (None, None, Some(_)) => None,
        };
        let Some(alone) = alone else { return AvitoStep::ReleaseFor(outcome, wait) };
        outcome.push(alone);
        AvitoStep::Commit(outcome)
    }

    /// Runs the transaction that ends a step, and returns what it claimed. Wakes the bot at once: for a second other transactions
    /// rely on this wake-up (`is_wakeup_pending`).
    async fn finish(&self, step: AvitoStep) -> Result<Claim<DialogWork>, BridgeError> {
        let (dialog_id, owner, sent_at) = (self.dialog_id, self.owner, Instant::now());
        let statements = match step {
            AvitoStep::Commit(mut outcome) => {
                // As every transaction that touches both: first the dialog, then the outbox that becomes due.
                if !outcome.is_empty() {
                    outcome.insert(0, bot_outbox::lock_dialog(Some(dialog_id)));
                }
                claim::claim_dialog_work(dialog_id, owner, outcome, None)
            }
            AvitoStep::CommitSent(sent) => claim::claim_dialog_work(dialog_id, owner, Vec::new(), Some(sent)),
            AvitoStep::ReleaseFor(mut outcome, wait) => {
                outcome.insert(0, bot_outbox::lock_dialog(Some(dialog_id)));
                if !wait.is_zero() {
                    outcome.push(receipts::put_waiting_receipts(dialog_id, wait.as_secs_f64()));
                }
                outcome.push(claim::release_for(dialog_id, owner, wait.as_secs_f64()));
                outcome.push(claim::select_bot_to_wake(dialog_id));
                Wakeups::read(&self.run(outcome).await?)?.wake(self.app).await;
                return Ok(Claim::Idle { wake_in: Some(wait) });
            }
        };
        let (next, bot_to_wake) = claim::read(&self.run(statements).await?, sent_at)?;
        wake_bot(self.app, bot_to_wake).await;
        Ok(next)
    }

    async fn step(&self, work: &DialogWork) -> Result<AvitoStep, BridgeError> {
        let end = work.part.as_ref().and_then(|part| outcomes::end_of_old_part(work, part));
        if work.refused_since.is_some() {
            return Ok(end.unwrap_or_else(|| work.release_while_refused()));
        }
        if let Some(part_to_delete) = &work.part_to_delete {
            return self.delete_part(work, part_to_delete).await;
        }
        if let Some(block_request) = &work.block_request {
            return self.block_buyer(work, block_request).await;
        }
        if let Some(part) = &work.part {
            if part.is_auto_reply
                && !part.outcome_unknown
                && let Some(end) = self.end_if_obsolete(part).await?
            {
                return Ok(end);
            }
            if let Some(end) = end {
                return Ok(end);
            }
        }
        match &work.part {
            Some(part) if part.outcome_unknown => Box::pin(self.verify_sent(work, part)).await,
            Some(part) => Box::pin(self.send(work, part)).await,
            None if work.mark_read => self.mark_read(work).await,
            None => Ok(AvitoStep::ReleaseFor(Vec::new(), IDLE_DELAY)),
        }
    }
}
