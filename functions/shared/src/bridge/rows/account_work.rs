//! The answers of an account that waited: Avito refused the account, or a call of it was out.

use std::time::Duration;

use crate::{
    bridge::common::{outage::Outage, wakeups::WAKEUPS},
    platform::db::Statement,
};

/// The most dialogs of an account that are woken at once; the sweep finds the others.
const WAKE_BATCH: i64 = 1000;

/// Makes those answers of an account due that failed: the call that they waited for goes through again. Returns the dialogs as
/// wake-ups.
pub(in crate::bridge) fn resume_failed_dialogs(account_id: i64) -> Statement {
    Statement::call("resume_failed_dialogs").arg("account_id", account_id).arg("limit", WAKE_BATCH).labelled(WAKEUPS)
}

/// Makes the answers of an account's dialogs due now: Avito accepts the account again. Returns the dialogs as wake-ups. It comes
/// before the statement that changes the account, as dialogs are locked before their account.
pub(in crate::bridge) fn resume_dialogs(account_id: i64) -> Statement {
    Statement::new(
        "UPDATE dialogs SET send_at = now(), send_hold_until = NULL WHERE id IN (
             SELECT id FROM dialogs WHERE avito_account_id = $1 AND send_at > now() ORDER BY id LIMIT $2 FOR NO KEY UPDATE)
         RETURNING NULL::bigint AS bot_id, id AS dialog_id, 0::bigint AS wait_seconds, NULL::timestamptz AS auto_reply_at",
    )
    .bind(account_id)
    .bind(WAKE_BATCH)
    .labelled(WAKEUPS)
}

/// The longest that a trial takes. Meanwhile no other dialog tries.
pub(in crate::bridge) const TRIAL_RESERVATION: Duration = Duration::from_secs(30);

/// Reserves the next trial of an account. No row: another dialog has it.
pub(in crate::bridge) fn reserve_trial(account_id: i64) -> Statement {
    Statement::new(
        "UPDATE account_polls SET trial_at = now() + make_interval(secs => $2)
         WHERE avito_account_id = $1 AND coalesce(trial_at <= now(), true) RETURNING avito_account_id",
    )
    .bind(account_id)
    .bind(TRIAL_RESERVATION.as_secs_f64())
}

/// Stores the calls of the account that fail.
pub(in crate::bridge) fn store_outage(account_id: i64, outage: Outage) -> Statement {
    let (calls, since, trial_at, attempts) = outage.columns();
    Statement::new(
        "UPDATE account_polls SET failing_calls = $2, out_since = $3, trial_at = $4, failed_trials = $5
         WHERE avito_account_id = $1",
    )
    .bind(account_id)
    .bind(calls)
    .bind(since)
    .bind(trial_at)
    .bind(attempts)
}
