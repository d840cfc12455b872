//! To Avito: the worker that holds a dialog's lease sends its parts, one at a time, in order.
//! A part of unknown outcome is verified in the chat before it is sent again, so that none is lost and none goes twice.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{
    blocking, claim,
    sender::{AvitoSender, AvitoStep, FIRST_VERIFY_DELAY, REFUSED_DELAY, SECOND_VERIFY_DELAY, wake_bot},
    work::{self, BlockRequest, DialogWork, PartToDelete},
};
use crate::{
    App, avito,
    bridge::{
        common::{
            avito_rate_limit::{self, CallPriority},
            claim::Claim,
            queue_tasks::AvitoTask,
            tenant_cache,
        },
        error::BridgeError,
        operator::edits,
        rows::{bot_outbox, receipts},
    },
    tenancy::accounts,
};

pub use crate::bridge::common::claim::WorkerOutcome;

/// Works for one dialog until nothing is left, `stop` is reached, or Avito wants a pause. Errors: our Postgres failed,
/// or a secret does not open. The next worker finds unfinished parts again.
pub async fn deliver_to_avito(app: &App, dialog_id: i64, stop: Instant) -> Result<WorkerOutcome, BridgeError> {
    let owner = Uuid::new_v4();
    let first = claim::claim_dialog_work(dialog_id, owner, Vec::new(), None);
    let scope = tenant_cache::scope(&tenant_cache::OF_DIALOGS, dialog_id, work::find_tenant_of_dialog);
    let first = app.db().run(scope, first).await?;
    let (mut claim, bot_to_wake) = claim::read(&first)?;
    wake_bot(app, bot_to_wake).await;
    let outcome_of_worker =
        if matches!(claim, Claim::LeaseTaken) { WorkerOutcome::LeaseTaken } else { WorkerOutcome::Done };
    while let Claim::Claimed(work) = claim {
        let sender = AvitoSender { app, dialog_id, owner, client_id: work.keys.client_id };
        tenant_cache::remember(&tenant_cache::OF_DIALOGS, dialog_id, sender.client_id);
        let next = if work.is_suspended {
            work.release(Vec::new(), REFUSED_DELAY)
        } else if Instant::now() >= stop {
            work.release(Vec::new(), Duration::ZERO)
        } else {
            sender.step(&work).await?
        };
        let bot_to_wake = match next {
            AvitoStep::Commit(mut outcome) => {
                // As every transaction that touches both: first the dialog, then the outbox that becomes due.
                if !outcome.is_empty() {
                    outcome.insert(0, bot_outbox::lock_dialog(Some(dialog_id)));
                }
                let (next, bot_to_wake) =
                    claim::read(&sender.run(claim::claim_dialog_work(dialog_id, owner, outcome, None)).await?)?;
                claim = next;
                bot_to_wake
            }
            AvitoStep::CommitSent(sent) => {
                let statements = claim::claim_dialog_work(dialog_id, owner, Vec::new(), Some(sent));
                let (next, bot_to_wake) = claim::read(&sender.run(statements).await?)?;
                claim = next;
                bot_to_wake
            }
            AvitoStep::ReleaseFor(mut outcome, wait) => {
                outcome.insert(0, bot_outbox::lock_dialog(Some(dialog_id)));
                if !wait.is_zero() {
                    outcome.push(receipts::put_waiting_receipts(dialog_id, wait.as_secs_f64()));
                }
                outcome.push(claim::release_for(dialog_id, owner, wait.as_secs_f64()));
                outcome.push(claim::select_bot_to_wake(dialog_id));
                claim = Claim::Idle { wake_in: Some(wait) };
                claim::read_bot_to_wake(&sender.run(outcome).await?)?
            }
        };
        // Now, not at the end: for one second other transactions rely on this wake-up (`wakeup_pending`).
        wake_bot(app, bot_to_wake).await;
    }
    if let Claim::Idle { wake_in: Some(wait) } = claim {
        app.wake(&AvitoTask::V1 { dialog_id }, wait).await;
    }
    Ok(outcome_of_worker)
}

impl AvitoSender<'_> {
    async fn step(&self, work: &DialogWork) -> Result<AvitoStep, BridgeError> {
        if let Some(part_to_delete) = &work.part_to_delete {
            return self.delete_part(work, part_to_delete).await;
        }
        if let Some(block_request) = &work.block_request {
            return self.block_buyer(work, block_request).await;
        }
        match &work.part {
            Some(part) if part.outcome_unknown => self.verify_sent(work, part).await,
            Some(part) => self.send(work, part).await,
            None if work.mark_read => self.mark_read(work).await,
            None => Ok(AvitoStep::ReleaseFor(Vec::new(), FIRST_VERIFY_DELAY)),
        }
    }

    /// Deletes a part in Avito. Avito refuses to delete twice or too late alike, so after a refusal the chat is read.
    async fn delete_part(&self, work: &DialogWork, part_to_delete: &PartToDelete) -> Result<AvitoStep, BridgeError> {
        let token = match self.token(work, None).await {
            Ok(token) => token,
            Err(next) => return Ok(next),
        };
        let (avito, user_id) = (accounts::avito(self.app), work.keys.user_id);
        let (chat_id, message_id) = (&work.avito_chat_id, &part_to_delete.avito_message_id);
        let answer = self.within(work, avito.delete_message(&token, user_id, chat_id, message_id)).await;
        let error = match answer {
            Ok(_) | Err(avito::Error::Refused { status: 404, .. }) => {
                return Ok(AvitoStep::Commit(vec![edits::mark_part_deleted(part_to_delete.part_id)]));
            }
            Err(error) => error,
        };
        tracing::warn!(dialog_id = self.dialog_id, part_id = part_to_delete.part_id, %error, "a part was not deleted");
        match error {
            avito::Error::Unauthorized { .. } => self.renew_token(work, &token).await,
            error if error.retry_in().is_some() => {
                Ok(AvitoStep::ReleaseFor(Vec::new(), error.retry_in().unwrap_or(FIRST_VERIFY_DELAY)))
            }
            error => match self.within(work, avito.messages(&token, user_id, chat_id, avito::MAX_PAGE_SIZE, 0)).await {
                Ok(list) => {
                    let is_gone =
                        |message: &avito::Message| message.id == *message_id && message.kind == avito::Kind::Deleted;
                    Ok(AvitoStep::Commit(if list.value.iter().any(is_gone) {
                        vec![edits::mark_part_deleted(part_to_delete.part_id)]
                    } else {
                        edits::mark_delete_refused(part_to_delete.part_id, error.vendor_message().unwrap_or_default())
                    }))
                }
                Err(error) => Ok(AvitoStep::ReleaseFor(Vec::new(), error.retry_in().unwrap_or(SECOND_VERIFY_DELAY))),
            },
        }
    }

    /// Has Avito block the buyer. To block twice changes nothing.
    async fn block_buyer(&self, work: &DialogWork, block_request: &BlockRequest) -> Result<AvitoStep, BridgeError> {
        let Some(buyer_id) = block_request.buyer_id else {
            return Ok(AvitoStep::Commit(vec![blocking::mark_block_refused(self.dialog_id, block_request, "")]));
        };
        let token = match self.token(work, None).await {
            Ok(token) => token,
            Err(next) => return Ok(next),
        };
        let avito = accounts::avito(self.app);
        match self.within(work, avito.block(&token, work.keys.user_id, buyer_id, block_request.item_id)).await {
            Ok(_) => Ok(AvitoStep::Commit(vec![blocking::mark_blocked(self.dialog_id, block_request)])),
            Err(avito::Error::Unauthorized { .. }) => self.renew_token(work, &token).await,
            Err(error) => Ok(match error.retry_in() {
                Some(wait) => AvitoStep::ReleaseFor(Vec::new(), wait),
                None => AvitoStep::Commit(vec![blocking::mark_block_refused(
                    self.dialog_id,
                    block_request,
                    error.vendor_message().unwrap_or_default(),
                )]),
            }),
        }
    }

    async fn mark_read(&self, work: &DialogWork) -> Result<AvitoStep, BridgeError> {
        let token = match self.token(work, None).await {
            Ok(token) => token,
            Err(next) => return Ok(next),
        };
        let avito = accounts::avito(self.app);
        let call = avito.mark_read(&token, work.keys.user_id, &work.avito_chat_id);
        let answer = avito_rate_limit::within(self.app, work.keys.account_id, CallPriority::Background, call).await;
        Ok(match answer {
            Err(avito::Error::Unauthorized { .. }) => match self.token(work, Some(&token)).await {
                Ok(_) => AvitoStep::ReleaseFor(Vec::new(), Duration::ZERO),
                Err(next) => next,
            },
            Err(error) if error.retry_in().is_some() => {
                AvitoStep::ReleaseFor(Vec::new(), error.retry_in().unwrap_or(FIRST_VERIFY_DELAY))
            }
            _ => AvitoStep::Commit(vec![work::clear_mark_read(self.dialog_id)]),
        })
    }
}
