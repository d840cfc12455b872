//! Decides what follows a call to Avito that failed: wait, verify, report the account, or give the part up.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    claim,
    sender::{AvitoStep, FIRST_VERIFY_DELAY, REFUSED_DELAY},
    work::{DialogWork, Part},
};
use crate::{
    avito,
    bridge::{
        common::buttons,
        common::texts::{self, Language},
    },
    platform::db::Statement,
    tenancy::accounts::{self, AccountStatus},
};

pub(super) fn after_failure(work: &DialogWork, part: &Part, error: avito::Error) -> AvitoStep {
    let growing = Duration::from_secs(1 << part.attempts.clamp(0, 6));
    match error {
        // A gateway's 5xx may hide a message that was sent, so the part is verified as after a lost answer.
        avito::Error::Unknown(_) | avito::Error::Unavailable { .. } => {
            metrics::counter!("avito_outcomes_unknown").increment(1);
            AvitoStep::ReleaseFor(Vec::new(), FIRST_VERIFY_DELAY)
        }
        avito::Error::NotSent(_) => AvitoStep::ReleaseFor(vec![claim::requeue_part(part.id)], growing),
        avito::Error::RateLimited { retry_after } => {
            metrics::counter!("avito_429").increment(1);
            AvitoStep::ReleaseFor(vec![claim::requeue_part(part.id)], retry_after)
        }
        avito::Error::Unauthorized { message, .. } | avito::Error::PaymentRequired { message } => {
            metrics::counter!("accounts_refused").increment(1);
            let refused = accounts::mark_refused(work.keys.account_id, AccountStatus::Blocked, message);
            AvitoStep::ReleaseFor(vec![claim::requeue_part(part.id), refused], REFUSED_DELAY)
        }
        avito::Error::Refused { message, .. } => {
            metrics::counter!("parts_failed").increment(1);
            let notice = json!({
                "text": format!("{} {message}", texts::refused_by_avito(Language::Russian)),
                "reply_markup": buttons::failure_buttons(),
            });
            let error = if message.is_empty() { "refused by Avito".to_owned() } else { message };
            AvitoStep::Commit(vec![mark_part_failed(part.id, error, &notice)])
        }
    }
}

/// Marks a part and the unsent rest of its message as failed for good. A notice in the topic reports it; `{id}` in the
/// notice becomes the message's id.
pub(super) fn mark_part_failed(part_id: i64, error: String, notice: &Value) -> Statement {
    Statement::call("mark_part_failed").arg("part_id", part_id).arg("error", error).arg("notice", notice.to_string())
}
