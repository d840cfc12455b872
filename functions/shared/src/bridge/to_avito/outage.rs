//! Calls of an account that are out: one dialog at a time tries, the others wait.

use std::time::Duration;

use super::{
    sender::{AvitoSender, AvitoStep},
    work::DialogWork,
};
use crate::{
    avito,
    bridge::{
        common::{outage::Recovery, wakeups::Wakeups},
        error::BridgeError,
        rows::account_work,
    },
    platform::endings::Outcome,
};

impl AvitoSender<'_> {
    /// Waits for the dialog's turn while a call of the account is out. None: the call may be made. Else the step to take.
    pub(super) async fn await_turn(&self, work: &DialogWork, method: &str) -> Result<Option<AvitoStep>, BridgeError> {
        let Some(outage) = work.outage.as_ref().filter(|outage| outage.is_out(method)) else { return Ok(None) };
        if let Some(until) = outage.held_until(method, work.now) {
            let wait = Duration::try_from(until.duration_since(work.now)).unwrap_or_default();
            return Ok(Some(work.release(Vec::new(), wait.max(Duration::from_secs(1)))));
        }
        let reserved = self.run(vec![account_work::reserve_trial(work.keys.account_id)]).await?;
        let is_ours = reserved.iter().flatten().next().is_some();
        Ok((!is_ours).then(|| work.release(Vec::new(), account_work::TRIAL_RESERVATION)))
    }

    /// Notes how a call ended. After the first success of a call that was out what waited for it is due at once.
    pub(super) async fn note_call(
        &self,
        work: &DialogWork,
        method: &str,
        answer: &Result<(), &avito::Error>,
    ) -> Result<(), BridgeError> {
        let outcome = answer.err().map(avito::Error::outcome);
        let former = work.outage.clone();
        match outcome {
            Some(Outcome::NotSent | Outcome::AnswerLost | Outcome::Unknown) => {
                let outage = former.clone().unwrap_or_default().with_failure(method, self.dialog_id, work.now);
                if former.as_ref() != Some(&outage) {
                    self.run(vec![account_work::store_outage(work.keys.account_id, outage)]).await?;
                }
            }
            // A refusal and a limit are answers: the call itself goes through.
            None | Some(Outcome::Refused | Outcome::Limited(_) | Outcome::OurFault) => {
                if let Some(Recovery { outage, was_out }) = former.and_then(|outage| outage.with_success(method)) {
                    let resumed = was_out.then(|| account_work::resume_failed_dialogs(work.keys.account_id));
                    let stored = account_work::store_outage(work.keys.account_id, outage);
                    let statements = resumed.into_iter().chain([stored]).collect();
                    Wakeups::read(&self.run(statements).await?)?.wake(self.app).await;
                }
            }
        }
        Ok(())
    }
}
