//! Claims a dialog's next part, and commits the part that was just sent. Renews and releases the dialog's lease.
//! As with a bot's outbox, each transaction of the worker locks the dialog's row first, and then reads the next work.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::work::{DialogWork, SentPart};
use crate::{
    bridge::common::{
        claim::Claim,
        states::PartState,
        texts::{self, Language},
        wakeups::WAKEUPS,
    },
    platform::db::{DbError, ResultSets, Statement},
};

/// The length of a lease from each claim or renewal: longer than any one call to Avito takes.
pub(super) const LEASE: Duration = Duration::from_secs(20);

/// Builds the transaction that stores `outcome` or the `sent` part and claims the next work, or releases the lease. It
/// also returns the bot to wake, if the outcome or the claim created a receipt or a notice. A claim does so for an
/// answer that was deleted before it was sent.
pub(super) fn claim_dialog_work(
    dialog_id: i64,
    owner: Uuid,
    outcome: Vec<Statement>,
    sent: Option<SentPart>,
) -> Vec<Statement> {
    let mut statements = outcome;
    let has_outcome = !statements.is_empty() || sent.is_some();
    let (part_id, avito_message_id) = sent.map(|sent| (sent.part_id, sent.avito_message_id)).unzip();
    statements.push(
        Statement::call("claim_dialog_work")
            .arg("dialog_id", dialog_id)
            .arg("lease_owner", owner)
            .arg("lease_seconds", LEASE.as_secs_f64())
            .arg("has_outcome", has_outcome)
            .arg("sent_part_id", part_id)
            .arg("avito_message_id", avito_message_id),
    );
    statements
}

/// Reads the result of [`claim_dialog_work`]: the claim, and the bot to wake. `sent_at` is the time before the claim was sent:
/// the lease runs from then at the earliest, however late the answer came.
pub(super) fn read(results: &ResultSets, sent_at: Instant) -> Result<(Claim<DialogWork>, Option<i64>), DbError> {
    let (mut claim, bot_to_wake) = Claim::<DialogWork>::read(results)?;
    if let Claim::Claimed(work) = &mut claim {
        work.leased_at = sent_at;
    }
    Ok((claim, bot_to_wake))
}

/// Selects the bot to wake for a dialog's receipts and notices. Its row has no bot if the outbox is not due, or if a wake-up
/// is pending.
pub(super) fn select_bot_to_wake(dialog_id: i64) -> Statement {
    Statement::new(
        "SELECT sql.bot_to_wake($1) AS bot_id, NULL::bigint AS dialog_id, NULL::bigint AS wait_seconds,
                NULL::timestamptz AS auto_reply_at",
    )
    .bind(dialog_id)
    .labelled(WAKEUPS)
}

/// Renews the lease. No row: another worker has taken it.
pub(super) fn renew_lease(dialog_id: i64, owner: Uuid) -> Statement {
    Statement::new(
        "UPDATE dialogs SET lease_until = now() + make_interval(secs => $3) WHERE id = $1 AND lease_owner = $2
         RETURNING id",
    )
    .bind(dialog_id)
    .bind(owner)
    .bind(LEASE.as_secs_f64())
}

/// Releases the lease. The dialog is due again after `seconds`.
pub(super) fn release_for(dialog_id: i64, owner: Uuid, seconds: f64) -> Statement {
    Statement::call("release_dialog").arg("dialog_id", dialog_id).arg("lease_owner", owner).arg("seconds", seconds)
}

/// Sets a part back to `pending`: Avito certainly does not have it, and was not asked. That is no attempt.
pub(super) fn requeue_part(part_id: i64) -> Statement {
    Statement::new(
        "UPDATE parts SET state = 'pending', failed_since = coalesce(failed_since, now()) WHERE id = $1 AND state = 'sending'",
    )
    .bind(part_id)
}

/// Puts the notice that Avito refuses the account into the topic of a part that waits, once for each time that it does so.
pub(super) fn notify_account_refused(part_id: i64, refused_since: Timestamp) -> Statement {
    Statement::call("notify_account_refused")
        .arg("part_id", part_id)
        .arg("refused_since", refused_since)
        .arg("notice", json!({ "text": texts::account_refused(Language::Russian) }))
}

/// A failure of a part that is to be tried again.
pub(super) struct Postponement {
    /// The row in `parts`.
    pub(super) part_id: i64,
    /// The state in which it waits. `Sending`: its outcome is unknown.
    pub(super) state: PartState,
    /// True if the failure counts as an attempt of the part.
    pub(super) is_attempt: bool,
    /// True if it was the chat that could not be read.
    pub(super) is_verification: bool,
    /// The wait.
    pub(super) wait: Duration,
    /// True if the part waits alone. False: its dialog waits, and the caller releases it.
    pub(super) is_alone: bool,
}

impl Postponement {
    /// Stores it. After five minutes of failures the topic gets a notice, once.
    pub(super) fn statement(self) -> Statement {
        let state: &'static str = self.state.into();
        Statement::call("postpone_part")
            .arg("part_id", self.part_id)
            .arg("state", state)
            .arg("is_attempt", self.is_attempt)
            .arg("is_verification", self.is_verification)
            .arg("seconds", self.wait.as_secs_f64())
            .arg("is_alone", self.is_alone)
            .arg("notice", json!({ "text": texts::avito_takes_nothing_yet(Language::Russian) }))
    }
}
