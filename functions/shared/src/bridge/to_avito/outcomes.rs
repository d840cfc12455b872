//! Decides what follows a call to Avito that failed for a part: wait, verify, or give the part up. `platform/endings.rs` has the
//! waits and the ends.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    claim::Postponement,
    edits,
    sender::{AvitoSender, AvitoStep},
    work::{DialogWork, Part, Trouble},
};
use crate::{
    avito,
    bridge::{
        auto_reply,
        common::{
            buttons,
            states::PartState,
            texts::{self, Language},
        },
        error::BridgeError,
    },
    platform::{
        db::Statement,
        endings::{Duty, Outcome, Verdict, spread},
    },
};

/// An answer that waited this long is never sent by itself: what it says may have become wrong.
const MAX_ANSWER_AGE: Duration = Duration::from_secs(24 * 3600);

impl AvitoSender<'_> {
    /// Decides what follows a failed call for a part: `Part` its sending, `Upload` the way of its picture to Avito, `Verification`
    /// the reading of its chat. An auto-reply has waits of its own, and ends without a notice.
    pub(super) async fn after_part_failure(
        &self,
        work: &DialogWork,
        part: &Part,
        duty: Duty,
        error: &avito::Error,
    ) -> Result<AvitoStep, BridgeError> {
        tracing::warn!(dialog_id = self.dialog_id, part_id = part.id, %error, "a call for a part failed");
        count(error);
        self.after_part_outcome(work, part, duty, error.outcome(), error.vendor_message()).await
    }

    /// As [`AvitoSender::after_part_failure`], for a failure that is not Avito's. `vendor_message`: the words of the refusal.
    pub(super) async fn after_part_outcome(
        &self,
        work: &DialogWork,
        part: &Part,
        duty: Duty,
        outcome: Outcome,
        vendor_message: Option<&str>,
    ) -> Result<AvitoStep, BridgeError> {
        let is_verification = duty == Duty::Verification;
        let trouble = if is_verification { part.verify_trouble } else { part.trouble };
        let verdict = if part.is_auto_reply {
            Duty::AutoReply.after(outcome, trouble.history(false))
        } else {
            self.judge(work, duty, outcome, trouble).await?
        };
        let Verdict::Wait { wait, counts, lets_others_pass } = verdict else {
            return Ok(end_part(part, outcome, is_verification, vendor_message));
        };
        // A part of unknown outcome is verified first. It counts its attempts when it is sent again.
        let may_be_sent = duty == Duty::Part && matches!(outcome, Outcome::AnswerLost | Outcome::Unknown);
        let stays_sending = is_verification || may_be_sent;
        let (wait, is_alone) = (spread(wait), part.is_auto_reply || lets_others_pass);
        let postpone = Postponement {
            part_id: part.id,
            state: if stays_sending { PartState::Sending } else { PartState::Pending },
            is_attempt: counts && !stays_sending,
            is_verification,
            wait,
            is_alone,
        };
        Ok(if is_alone {
            AvitoStep::Commit(vec![postpone.statement()])
        } else {
            AvitoStep::ReleaseFor(vec![postpone.statement()], wait)
        })
    }

    /// Returns the step that follows when our own code or SQL failed for the work of the dialog: what was tried waits, or ends. Of a
    /// part it is not known if Avito has it, unless a secret did not open. None: there was nothing to do.
    pub(super) fn set_aside(&self, work: &DialogWork, error: &BridgeError) -> Option<AvitoStep> {
        if let Some(part_to_delete) = &work.part_to_delete {
            return Some(edits::set_deletion_aside(part_to_delete));
        }
        if let Some(request) = &work.block_request {
            return Some(self.after_block_failure(request, Outcome::OurFault, ""));
        }
        match &work.part {
            Some(part) => Some(set_part_aside(part, !part.outcome_unknown && matches!(error, BridgeError::Secrets(_)))),
            None => work.mark_read.then(|| self.after_mark_read_failure(work, Outcome::OurFault)),
        }
    }

    /// Judges a failure. The witness is looked for only where it decides.
    async fn judge(
        &self,
        work: &DialogWork,
        duty: Duty,
        outcome: Outcome,
        trouble: Trouble,
    ) -> Result<Verdict, BridgeError> {
        let verdict = duty.after(outcome, trouble.history(false));
        if let (Verdict::Wait { lets_others_pass: true, .. }, Some(since)) = (verdict, trouble.since) {
            let results = self.run(vec![select_witness(work.keys.account_id, since)]).await?;
            if results.iter().flatten().next().is_some() {
                return Ok(duty.after(outcome, trouble.history(true)));
            }
        }
        Ok(verdict)
    }
}

/// Gives up a part that is not to be tried again.
fn end_part(part: &Part, outcome: Outcome, was_read: bool, vendor_message: Option<&str>) -> AvitoStep {
    if part.is_auto_reply {
        return AvitoStep::Commit(auto_reply::cancel(part.id));
    }
    if was_read || outcome != Outcome::Refused && part.picture.is_none() {
        return give_up_unknown(part);
    }
    if outcome != Outcome::Refused {
        return give_up_unsent(part);
    }
    metrics::counter!("parts_failed").increment(1);
    let reason = vendor_message.unwrap_or_default();
    let text = format!("{} {reason}", texts::refused_by_avito(Language::Russian));
    let error = vendor_message.unwrap_or("refused by Avito").to_owned();
    AvitoStep::Commit(vec![mark_part_failed(part.id, error, &failure_notice(text.trim_end()))])
}

/// Ends an answer that waited for too long. None: it may still be sent.
pub(super) fn end_of_old_part(work: &DialogWork, part: &Part) -> Option<AvitoStep> {
    let age = |since: Timestamp| Duration::try_from(work.now.duration_since(since)).unwrap_or_default();
    if part.outcome_unknown {
        // Each new sending begins anew; what counts is the time since the first that failed.
        (age(part.sending_since).max(part.trouble.failing_for) >= MAX_ANSWER_AGE).then(|| give_up_unknown(part))
    } else {
        (part.trouble.failing_for >= MAX_ANSWER_AGE).then(|| give_up_unsent(part))
    }
}

fn set_part_aside(part: &Part, is_unsent: bool) -> AvitoStep {
    match Duty::SetAside.after(Outcome::OurFault, part.trouble.history(false)) {
        Verdict::Wait { wait, .. } => {
            let wait = spread(wait);
            let postpone = Postponement {
                part_id: part.id,
                state: if is_unsent { PartState::Pending } else { PartState::Sending },
                is_attempt: true,
                is_verification: false,
                wait,
                is_alone: false,
            };
            AvitoStep::ReleaseFor(vec![postpone.statement()], wait)
        }
        Verdict::Plainer | Verdict::End if is_unsent => give_up_unsent(part),
        Verdict::Plainer | Verdict::End => give_up_unknown(part),
    }
}

/// Gives up a part that Avito may have. It is never sent again by itself.
fn give_up_unknown(part: &Part) -> AvitoStep {
    metrics::counter!("parts_failed").increment(1);
    let notice = failure_notice(texts::outcome_unknown(Language::Russian));
    AvitoStep::Commit(vec![mark_part_failed(part.id, "the outcome is unknown".to_owned(), &notice)])
}

/// Gives up a part that Avito does not have.
fn give_up_unsent(part: &Part) -> AvitoStep {
    metrics::counter!("parts_failed").increment(1);
    let notice = failure_notice(texts::avito_took_nothing(Language::Russian));
    AvitoStep::Commit(vec![mark_part_failed(part.id, "Avito did not take it".to_owned(), &notice)])
}

fn failure_notice(text: &str) -> Value {
    json!({ "text": text, "reply_markup": buttons::failure_buttons() })
}

fn count(error: &avito::Error) {
    match error {
        avito::Error::Unknown(_) | avito::Error::Unavailable { .. } => {
            metrics::counter!("avito_outcomes_unknown").increment(1);
        }
        avito::Error::RateLimited { .. } => metrics::counter!("avito_429").increment(1),
        _ => {}
    }
}

/// Marks a part and the unsent rest of its message as failed for good. A notice in the topic reports it; `{id}` in the
/// notice becomes the message's id.
pub(super) fn mark_part_failed(part_id: i64, error: String, notice: &Value) -> Statement {
    Statement::call("mark_part_failed").arg("part_id", part_id).arg("error", error).arg("notice", notice.to_string())
}

/// Returns a row if another part of the account was sent since then.
fn select_witness(account_id: i64, since: Timestamp) -> Statement {
    Statement::call("sent_since").arg("account_id", account_id).arg("since", since)
}
