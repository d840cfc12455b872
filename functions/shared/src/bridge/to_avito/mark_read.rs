//! Marks a chat read in Avito.

use std::time::Duration;

use super::{
    sender::{AvitoSender, AvitoStep, NoAnswer},
    work::DialogWork,
};
use crate::{
    avito,
    bridge::{common::avito_rate_limit::CallPriority, error::BridgeError},
    platform::{
        db::Statement,
        endings::{Duty, Outcome, Verdict, spread},
        secrets::Secret,
    },
};

impl AvitoSender<'_> {
    pub(super) async fn mark_read(&self, work: &DialogWork) -> Result<AvitoStep, BridgeError> {
        let (user_id, chat_id) = (work.keys.user_id, &work.avito_chat_id);
        let mark = async |avito: &avito::Client, token: &Secret| avito.mark_read(token, user_id, chat_id).await;
        let error = match self.call_with_priority(CallPriority::Background, work, "chat.read", mark).await {
            Ok(()) => return Ok(AvitoStep::Commit(vec![clear_mark_read(self.dialog_id)])),
            Err(NoAnswer::Failed(error)) => error,
            Err(NoAnswer::Instead(next)) => return Ok(next),
        };
        Ok(self.after_mark_read_failure(work, error.outcome()))
    }

    /// Decides what follows when the chat was not marked read, by Avito's fault or by ours.
    pub(super) fn after_mark_read_failure(&self, work: &DialogWork, outcome: Outcome) -> AvitoStep {
        AvitoStep::Commit(vec![match Duty::MarkRead.after(outcome, work.mark_read_trouble.history(false)) {
            Verdict::Wait { wait, counts, .. } => postpone_mark_read(self.dialog_id, counts, spread(wait)),
            Verdict::Plainer | Verdict::End => {
                metrics::counter!("mark_reads_dropped").increment(1);
                clear_mark_read(self.dialog_id)
            }
        }])
    }
}

/// Postpones the request to mark the chat read. Nothing waits for it.
pub(super) fn postpone_mark_read(dialog_id: i64, is_attempt: bool, wait: Duration) -> Statement {
    Statement::new(
        "UPDATE dialogs SET mark_read_at = now() + make_interval(secs => $3), mark_read_failed_since = coalesce(mark_read_failed_since, now()),
                mark_read_attempts = mark_read_attempts + CASE WHEN $2 THEN 1 ELSE 0 END
         WHERE id = $1 AND mark_read_at IS NOT NULL",
    )
    .bind(dialog_id)
    .bind(is_attempt)
    .bind(wait.as_secs_f64())
}

/// Clears the request to mark the chat read: it is done, or given up.
fn clear_mark_read(dialog_id: i64) -> Statement {
    Statement::new(
        "UPDATE dialogs SET mark_read_at = NULL, mark_read_attempts = 0, mark_read_failed_since = NULL
         WHERE id = $1 AND mark_read_at <= now()",
    )
    .bind(dialog_id)
}
